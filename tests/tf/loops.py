"""What tests of MultiWorkerMirroredStrategy run in a task: loops of their own, losses of peers, small questions."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any


def reduce_all_ways(post: Any) -> dict[str, Any]:
    """What `strategy.reduce` makes of values that differ by worker, before and after the repair."""
    import numpy as np
    import tensorflow as tf

    from cluster import repairs
    from cluster import strategy as strategies

    strategy = strategies.make_strategy("multi_worker_mirrored", None)
    worker = strategy.cluster_resolver.task_id

    @tf.function
    def step(rows: Any) -> Any:
        values = tf.cast(tf.range(rows), tf.float32) + 10.0 * worker
        return values, tf.reduce_sum(values)

    def measure() -> dict[str, Any]:
        vector, scalar = strategy.run(step, args=(tf.constant(3),))
        uneven, _ = strategy.run(step, args=(tf.constant(2 + worker),))
        return {
            "sum": np.asarray(strategy.reduce("SUM", scalar, axis=None)),
            "mean": np.asarray(strategy.reduce(tf.distribute.ReduceOp.MEAN, scalar, axis=None)),
            "elementwise": np.asarray(strategy.reduce("SUM", vector, axis=None)),
            "over rows": np.asarray(strategy.reduce("SUM", uneven, axis=0)),
            "mean over rows": np.asarray(strategy.reduce("MEAN", uneven, axis=0)),
            "gathered": np.sort(np.asarray(strategy.gather(uneven, axis=0))),
        }

    before = measure()
    repairs.repair()
    return {"before": before, "after": measure()}


def fit_under(post: Any, module: str, name: str, times: int = 1) -> tuple[float, int]:
    """The loss of a short fit, as a script would get it that builds the strategy `module.name` itself."""
    import tensorflow as tf

    from cluster import repairs

    for _ in range(times):
        repairs.repair()
    found: Any = import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    strategy = found()
    tf.keras.utils.set_random_seed(1)
    with strategy.scope():
        model = tf.keras.Sequential([tf.keras.layers.Input((2,)), tf.keras.layers.Dense(1)])
        model.compile("sgd", "mse")
    x = tf.reshape(tf.range(16, dtype=tf.float32), (8, 2)) / 16
    loss = model.fit(tf.data.Dataset.from_tensor_slices((x, x[:, :1])).batch(4), verbose=0).history["loss"][0]
    return float(loss), strategy.num_replicas_in_sync


def unknown_shapes(post: Any) -> float:
    """The loss of a fit on data whose shapes are known only from a batch."""
    import tensorflow as tf

    from cluster import repairs
    from cluster import strategy as strategies

    repairs.repair()
    strategy = strategies.make_strategy("multi_worker_mirrored", None)
    tf.keras.utils.set_random_seed(1)
    with strategy.scope():
        model = tf.keras.Sequential([tf.keras.layers.Dense(1)])
        model.compile("sgd", "mse")

    def hide(x: Any, y: Any) -> Any:
        return tf.numpy_function(lambda v: v, [x], tf.float32), tf.numpy_function(lambda v: v, [y], tf.float32)

    def show(x: Any, y: Any) -> Any:
        return tf.ensure_shape(x, [None, None]), tf.ensure_shape(y, [None, None])

    x = tf.reshape(tf.range(16, dtype=tf.float32), (8, 2)) / 16
    data = tf.data.Dataset.from_tensor_slices((x, x[:, :1])).batch(4).map(hide).map(show)
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    model.fit(data.with_options(options), verbose=0)
    return float(model.count_params())


def stateful(post: Any) -> list[int]:
    """The sizes of the weights of a model that knows how many rows a replica's batch has, once it is fitted."""
    import tensorflow as tf

    from cluster import repairs
    from cluster import strategy as strategies

    repairs.repair()
    strategy = strategies.make_strategy("multi_worker_mirrored", None)
    with strategy.scope():
        layers = tf.keras.layers
        model = tf.keras.Sequential(
            [layers.Input(batch_shape=(2, 5, 2)), layers.SimpleRNN(3, stateful=True), layers.Dense(1)]
        )
        model.compile("sgd", "mse")
    x = tf.ones((8, 5, 2))
    model.fit(tf.data.Dataset.from_tensor_slices((x, x[:, 0, :1])).batch(4), verbose=0)
    return [int(tf.size(weight)) for weight in model.weights]


def untuned(post: Any) -> list[bool]:
    """Whether the datasets through which the replicas read are tuned, for each that a fit makes."""
    import tensorflow as tf
    from tensorflow.python.data.ops import multi_device_iterator_ops

    from cluster import repairs
    from cluster import strategy as strategies

    repairs.repair()
    repaired = multi_device_iterator_ops._create_device_dataset
    tuned = []

    def seen(*args: Any, **kwargs: Any) -> Any:
        dataset = repaired(*args, **kwargs)
        tuned.append(dataset.options().autotune.enabled)
        return dataset

    multi_device_iterator_ops._create_device_dataset = seen
    with strategies.make_strategy("multi_worker_mirrored", None).scope():
        model = tf.keras.Sequential([tf.keras.layers.Dense(1)])
        model.compile("sgd", "mse")
    x = tf.ones((8, 2))
    model.fit(tf.data.Dataset.from_tensor_slices((x, x[:, :1])).batch(4), epochs=2, verbose=0)
    return tuned


def reads(post: Any) -> int:
    """How often Keras 3 begins to read a dataset in a fit of two epochs."""
    import tensorflow as tf

    from cluster import repairs
    from cluster import strategy as strategies

    repairs.repair()
    strategy = strategies.make_strategy("multi_worker_mirrored", None)
    begun: list[int] = []

    def rows() -> Any:
        begun.append(1)
        for i in range(8):
            yield [float(i)], [float(i)]

    types = (tf.TensorSpec([1], tf.float32), tf.TensorSpec([1], tf.float32))
    data = tf.data.Dataset.from_generator(rows, output_signature=types).batch(4)
    with strategy.scope():
        model = tf.keras.Sequential([tf.keras.layers.Dense(1)])
        model.compile("sgd", "mse")
    model.fit(data, epochs=2, verbose=0)
    return len(begun)


def repair_without_keras_3(post: Any) -> bool:
    """Whether the repair leaves Keras 3 alone where tf-keras is in use."""
    from cluster import repairs

    repairs.repair()
    return "keras.src.backend.tensorflow.trainer" not in sys.modules


def heartbeat(post: Any, asked: int = 0) -> int:
    """The milliseconds of silence after which this process's coordination service gives a peer up."""
    from tensorflow.python.eager import context

    from cluster import repairs
    from cluster import strategy as strategies

    repairs.patient_heartbeat()
    repairs.patient_heartbeat()
    if asked:
        context.context().configure_coordination_service("standalone", heartbeat_timeout_in_ms=asked)
    else:
        strategies.make_strategy("multi_worker_mirrored", None)
    return int(context.context().coordination_service.heartbeat_timeout_in_ms)


def precision(post: Any, name: str, keras: str) -> tuple[str, str]:
    """The policy of a layer made after `apply_precision`, and the type it computes with."""
    import tensorflow as tf

    from cluster import strategy as strategies

    strategies.apply_precision(name, keras)
    layer = tf.keras.layers.Dense(1)
    policy = layer.dtype_policy if keras == "3" else layer._dtype_policy
    return str(policy.name), str(layer.compute_dtype)


def log_level(post: Any, level: Any) -> int:
    """The level of TensorFlow's logger."""
    import tensorflow as tf

    from cluster import strategy as strategies

    strategies.apply_log_level(level)
    return int(tf.get_logger().level)


def step_for_ever(post: Any) -> None:
    """All-reduce until a peer is lost; says whether the error is known as a peer's."""
    import tensorflow as tf

    from cluster import repairs
    from cluster import strategy as strategies
    from cluster.parameter_server import is_peer_error

    repairs.patient_heartbeat(2)
    strategy = strategies.make_strategy("multi_worker_mirrored", None)

    @tf.function
    def step() -> Any:
        return strategy.reduce("SUM", tf.constant(1.0), axis=None)

    step()
    post("stepping")
    try:
        while True:
            step()
    except tf.errors.OpError as error:
        post(is_peer_error(error))
        try:
            raise RuntimeError("could not go on")
        except RuntimeError as later:
            post(("raised while handling it", is_peer_error(later)))
        raise


def own_errors(post: Any) -> dict[str, bool]:
    """Whether errors of a task's own code are taken for a peer's."""
    import tensorflow as tf

    from cluster.parameter_server import is_peer_error

    def error_of(function: Any) -> BaseException:
        try:
            function()
        except Exception as error:
            return error
        raise AssertionError("nothing was raised")

    bad_rows = tf.data.Dataset.range(3).map(lambda i: tf.gather([1.0], i))
    errors: dict[str, BaseException] = {
        "python": ValueError("Socket closed"),
        "op": error_of(lambda: tf.matmul(tf.ones([2, 3]), tf.ones([2, 3]))),
        "data": error_of(lambda: list(bad_rows)),
        "file": error_of(lambda: tf.io.read_file("/does/not/exist")),
        "remote storage": tf.errors.UnavailableError(None, None, "error executing an HTTP request: libcurl code 6"),
        "cancelled": tf.errors.CancelledError(None, None, "the user cancelled it"),
    }
    return {name: is_peer_error(error) for name, error in errors.items()}
