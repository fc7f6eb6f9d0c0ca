"""The `tf.distribute` strategy of a task, and the repairs that let Keras 3 train under it."""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Callable
from typing import Any, Literal

from cluster.errors import SpecError
from cluster.spec import PartitionSpec, StrategyName


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
        patient_heartbeat()
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


def patient_heartbeat(seconds: float = 60) -> None:
    """Have MultiWorkerMirroredStrategy give a silent worker `seconds` before it declares it lost; idempotent.

    TensorFlow's 10 s are too few for a worker on a busy machine, and a worker that ended is seen by its supervisor at
    once. Strategies that are made later follow, whoever makes them; a timeout that the user sets is kept.
    """
    from tensorflow.python.eager.context import Context

    original = Context.configure_coordination_service
    if hasattr(original, "patient"):
        return

    @functools.wraps(original)
    def configure(self: Any, *args: Any, **kwargs: Any) -> None:
        if not kwargs.get("heartbeat_timeout_in_ms"):
            kwargs["heartbeat_timeout_in_ms"] = int(seconds * 1000)
        original(self, *args, **kwargs)

    configure.patient = True  # type: ignore[attr-defined]
    Context.configure_coordination_service = configure


def repair_multi_worker_reduce() -> None:
    """Make Keras 3 `fit`, `evaluate` and `predict` work under every MultiWorkerMirroredStrategy; idempotent.

    Keras averages each step's logs by `strategy.reduce("MEAN", scalar, axis=0)`, where a scalar has no axis 0; it reads
    a batch and averages that by `strategy.reduce("MEAN", batch)`, only to learn shapes; with `steps_per_execution` it
    meets an error of TensorFlow's. Each is repaired where it is: so it does not matter who makes the strategy or how it
    is imported, and `strategy.reduce` stays TensorFlow's own. Does nothing under tf-keras, which needs no repair, or
    when Keras computes on another backend.
    """
    if os.environ.get("TF_USE_LEGACY_KERAS") in ("1", "true", "True"):
        return
    import keras

    if keras.config.backend() != "tensorflow":
        return
    from keras.src.backend.tensorflow import trainer

    if hasattr(trainer.reduce_per_replica, "repaired"):
        return
    trainer.reduce_per_replica = _mean_over_replicas(trainer.reduce_per_replica)
    build = trainer.TensorFlowTrainer._maybe_symbolic_build
    trainer.TensorFlowTrainer._maybe_symbolic_build = _build_from_shapes(build)
    _let_collectives_nest()


def _build_from_shapes(original: Callable[..., None]) -> Callable[..., None]:
    """Keras's `_maybe_symbolic_build`, given the data's shapes and types instead of a batch read for them.

    Where those leave out what a layer may need, it gets one replica's part of a batch, rather than the mean of all.
    """
    from keras import tree

    def _maybe_symbolic_build(model: Any, iterator: Any = None, data_batch: Any = None) -> None:
        strategy = model._distribute_strategy
        if strategy is None or iterator is None:
            return original(model, iterator=iterator, data_batch=data_batch)
        specs = tree.map_structure(_of_one_replica, iterator._distributed_dataset.element_spec)
        if all(map(_says_enough, tree.flatten(specs))):
            return original(model, data_batch=specs)
        for *_, batches in iterator:
            batch = next(batches)
            part = tree.map_structure(lambda value: strategy.experimental_local_results(value)[0], batch)
            return original(model, data_batch=part)
        return original(model)

    return _maybe_symbolic_build


def _of_one_replica(spec: Any) -> Any:
    """The type of one replica's part of a distributed value; they are all alike."""
    parts = getattr(spec, "_value_specs", None)
    return parts[0] if parts else spec


def _says_enough(spec: Any) -> bool:
    """Whether the type of a dataset's component tells all its dimensions but the batch's."""
    shape = getattr(spec, "shape", None)
    return shape is not None and shape.rank is not None and shape[1:].is_fully_defined()


def _mean_over_replicas(original: Callable[..., Any]) -> Callable[..., Any]:
    """Keras's `reduce_per_replica`, with numbers averaged over all replicas, in one collective a step for all logs."""
    import tensorflow as tf

    def reduce_per_replica(values: Any, strategy: Any, reduction: str) -> Any:
        if reduction not in ("auto", "mean") or not _spans_workers(strategy):
            return original(values, strategy, reduction)
        leaves = tf.nest.flatten(values)
        replicas = [strategy.experimental_local_results(leaf) for leaf in leaves]
        numbers = [i for i, parts in enumerate(replicas) if all(map(_has_same_shape_everywhere, parts))]
        means = dict(zip(numbers, _means(strategy, [replicas[i] for i in numbers]), strict=True))
        reduced = [means[i] if i in means else original(leaf, strategy, reduction) for i, leaf in enumerate(leaves)]
        return tf.nest.pack_sequence_as(values, reduced)

    reduce_per_replica.repaired = True  # type: ignore[attr-defined]
    return reduce_per_replica


def _spans_workers(strategy: Any) -> bool:
    import tensorflow as tf

    collective = isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)
    return collective and bool(strategy.extended._in_multi_worker_mode())


def _has_same_shape_everywhere(value: Any) -> bool:
    """Whether `value` is a number, or a tensor of numbers whose shape does not depend on the batch."""
    import tensorflow as tf

    if not isinstance(value, tf.Tensor | tf.Variable):
        return isinstance(value, int | float)
    return bool(value.shape.is_fully_defined() and (value.dtype.is_floating or value.dtype.is_integer))


def _means(strategy: Any, replicas: list[Any]) -> list[Any]:
    """Each value's mean over the replicas of all workers, elementwise, as float32.

    Args:
        strategy: its workers have the same number of replicas each.
        replicas: for each value, what this worker's replicas have of it.
    """
    import tensorflow as tf

    if not replicas:
        return []
    local = [tf.reduce_mean(tf.stack([tf.cast(part, tf.float32) for part in parts]), axis=0) for parts in replicas]
    packed = tf.concat([tf.reshape(value, [-1]) for value in local], axis=0)
    mean = strategy.reduce(tf.distribute.ReduceOp.MEAN, packed, axis=None)
    sizes = [value.shape.num_elements() for value in local]
    return [tf.reshape(part, value.shape) for part, value in zip(tf.split(mean, sizes), local, strict=True)]


def _let_collectives_nest() -> None:
    """Have a collective work in a `tf.function` that is called in a `tf.cond`, as Keras's `steps_per_execution` does.

    A collective's key is captured at call time, which control flow cannot do: TensorFlow puts the capture in the
    function around it (`CollectiveReplicaLauncher._next_instance_key`), but where functions nest it forgets to.
    """
    from tensorflow.python.ops.control_flow_v2_func_graphs import ControlFlowFuncGraph

    def capture_call_time_value(graph: Any, *args: Any, **kwargs: Any) -> Any:
        return graph.outer_graph.capture_call_time_value(*args, **kwargs)

    ControlFlowFuncGraph.capture_call_time_value = capture_call_time_value
