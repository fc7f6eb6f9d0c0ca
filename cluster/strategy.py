"""The `tf.distribute` strategy of a task, its variable partitioner, and the precision and log level of the spec."""

from __future__ import annotations

import logging
from typing import Any, Literal

from cluster.errors import SpecError
from cluster.spec_parts import PartitionSpec, StrategyName


def make_strategy(name: StrategyName, partition: PartitionSpec | None) -> Any:
    """The strategy called `name`; the cluster strategies read TF_CONFIG and wait for the other tasks.

    Args:
        name: the spec's strategy. `parameter_server` is made on the coordinator only.
        partition: how `parameter_server` splits variables, None for whole ones.

    Returns:
        A `tf.distribute.Strategy`; for `none` TensorFlow's default one.

    Raises:
        SpecError: `custom` has no strategy of ours.
    """
    import tensorflow as tf

    if name == "custom":
        raise SpecError("the job builds its own strategy", "strategy: custom", "build it from TF_CONFIG in your code")
    if name == "none":
        return tf.distribute.get_strategy()
    if name == "mirrored":
        return tf.distribute.MirroredStrategy()
    if name == "multi_worker_mirrored":
        return tf.distribute.MultiWorkerMirroredStrategy()
    resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver()
    return tf.distribute.ParameterServerStrategy(resolver, variable_partitioner=partition and partitioner(partition))


def partitioner(partition: PartitionSpec) -> Any:
    """What `ParameterServerStrategy` takes as `variable_partitioner`.

    `min_size` makes at most one shard a parameter server, of those that TF_CONFIG names.
    """
    import tensorflow as tf

    partitioners = tf.distribute.experimental.partitioners
    if partition.shards is not None:
        return partitioners.FixedShardsPartitioner(partition.shards)
    if partition.max_size is not None:
        return partitioners.MaxSizePartitioner(partition.max_size)
    servers = tf.distribute.cluster_resolver.TFConfigClusterResolver().cluster_spec().num_tasks("ps")
    return partitioners.MinSizePartitioner(partition.min_size, max_shards=servers)


def apply_precision(precision: str, keras_major: str) -> None:
    """Set Keras's global dtype policy; `float32` leaves it as it is.

    Args:
        precision: a policy's name, like `mixed_bfloat16`.
        keras_major: `"2"` for tf-keras, `"3"` for Keras 3.
    """
    if precision == "float32":
        return
    if keras_major == "2":
        import tf_keras

        tf_keras.mixed_precision.set_global_policy(precision)
    else:
        import keras

        keras.config.set_dtype_policy(precision)


def apply_log_level(level: Literal["debug", "info", "warning", "error"]) -> None:
    """Set the level of TensorFlow's Python logger; that of its C++ side is read from the environment at import."""
    import tensorflow as tf

    tf.get_logger().setLevel(getattr(logging, level.upper()))
