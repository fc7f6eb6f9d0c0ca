"""What tests of parameter servers run on the coordinator, the workers and the servers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cluster.errors import TfClusterError
from cluster.spec_parts import PartitionSpec


def serve(post: Any) -> None:
    """What ps and workers run."""
    from cluster import parameter_server

    parameter_server.serve(on_ready=lambda: post("ready"))


def regression(tf: Any) -> Any:
    """Rows of (6 numbers, their sum), the same on every worker."""
    x = tf.random.stateless_uniform((32, 6), (1, 2))
    return tf.data.Dataset.from_tensor_slices((x, tf.reduce_sum(x, 1, keepdims=True)))


def model_of(keras: Any) -> Any:
    """A small model whose first kernel is (6, 4) float32."""
    return keras.Sequential([keras.layers.Input((6,)), keras.layers.Dense(4), keras.layers.Dense(1)])


def fit(post: Any, clustered: bool = True, partition: dict[str, Any] | None = None) -> dict[str, Any]:
    """Fit, evaluate and predict with tf-keras; the dataset is shorter than an epoch's steps."""
    import numpy as np
    import tensorflow as tf
    import tf_keras as keras

    from cluster import parameter_server
    from cluster import strategy as strategies

    strategy = strategies.make_strategy(
        "parameter_server" if clustered else "none", PartitionSpec(**partition) if partition else None
    )
    keras.utils.set_random_seed(7)
    with strategy.scope():
        model = model_of(keras)
        model.compile(keras.optimizers.Adam(0.01), "mse", metrics=["mae"])
    options = tf.distribute.InputOptions(experimental_fetch_to_device=False)
    train = parameter_server.dataset_creator(lambda context: regression(tf).batch(8), options)
    valid = parameter_server.dataset_creator(lambda: regression(tf).batch(8))
    if not clustered:
        train = valid = regression(tf).batch(8).repeat()
    history = model.fit(
        train, epochs=2, steps_per_epoch=6, validation_data=valid, validation_steps=4, verbose=0
    ).history
    return {
        "history": {name: np.asarray(values) for name, values in history.items()},
        "evaluated": np.asarray(model.evaluate(valid, steps=4, verbose=0)),
        "weights": [np.asarray(weight) for weight in model.get_weights()],
        "shards": shards(model),
    }


def shards(model: Any) -> list[tuple[int, tuple[int, ...]]]:
    """The ps and the shape of each trainable variable, or of each of its shards; ps -1 without servers."""
    found = []
    for variable in model.trainable_variables:
        ps = variable.device.partition("/job:ps/")[2].partition("task:")[2].partition("/")[0]
        found.append((int(ps or -1), tuple(variable.shape)))
    return found


def loop(post: Any, steps: int = 60, fails_on_worker: bool = False) -> dict[str, Any]:
    """A training loop of one's own with a ClusterCoordinator, as either Keras can."""
    import tensorflow as tf

    from cluster import strategy as strategies
    from cluster.parameter_server import is_peer_error

    keras = tf.keras
    strategy = strategies.make_strategy("parameter_server", None)
    coordinator = tf.distribute.coordinator.ClusterCoordinator(strategy)
    keras.utils.set_random_seed(7)
    with strategy.scope():
        model = model_of(keras)
        optimizer = keras.optimizers.Adam(0.03)
        optimizer.build(model.trainable_variables)
    limit = tf.constant(-1.0 if fails_on_worker else 1e9)

    @tf.function
    def step(iterator: Any) -> Any:
        def replica(x: Any, y: Any) -> Any:
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean((model(x, training=True) - y) ** 2)
            variables = model.trainable_variables
            optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
            tf.debugging.assert_less(loss, limit)
            return loss

        return strategy.run(replica, args=next(iterator))

    data = iter(coordinator.create_per_worker_dataset(lambda: regression(tf).batch(8).repeat()))
    losses: list[float] = []
    try:
        while len(losses) < steps:
            result = coordinator.schedule(step, args=(data,))
            coordinator.join()
            losses.append(float(result.fetch()))
            post(len(losses))
    except Exception as error:
        post((type(error).__name__, is_peer_error(error)))
        raise
    return {"losses": losses, "iterations": int(optimizer.iterations.numpy())}


def checked(post: Any) -> None:
    """A step that makes a NaN on a worker, with numbers checked."""
    import tensorflow as tf

    from cluster import strategy as strategies
    from cluster.parameter_server import is_peer_error

    tf.debugging.enable_check_numerics()
    coordinator = tf.distribute.coordinator.ClusterCoordinator(strategies.make_strategy("parameter_server", None))

    @tf.function
    def step() -> Any:
        return tf.reduce_sum(tf.math.log(tf.random.uniform([4]) - 2.0))

    try:
        coordinator.schedule(step)
        coordinator.join()
    except Exception as error:
        post((type(error).__name__, is_peer_error(error), str(error)))


def mistakes(post: Any) -> dict[str, str]:
    """What tf-keras users get to read who use dataset creators wrongly."""
    import tensorflow as tf
    import tf_keras as keras

    from cluster.parameter_server import dataset_creator

    strategy = _strategy()
    with strategy.scope():
        model = model_of(keras)
        model.compile("sgd", "mse")
    outside = regression(tf).batch(8)
    return {
        "no function": _sentence(lambda: dataset_creator(outside)),
        "built outside": _sentence(lambda: model.fit(dataset_creator(lambda: outside), steps_per_epoch=2, verbose=0)),
        "visited once": _sentence(
            lambda: model.fit(dataset_creator(lambda: outside, repeat=False), steps_per_epoch=2, verbose=0)
        ),
        "no steps": _sentence(lambda: model.fit(dataset_creator(lambda: regression(tf).batch(8)), verbose=0)),
    }


def keras_3_fit(post: Any) -> dict[str, str]:
    """What Keras 3 says in fit, evaluate and predict of a model on parameter servers, and of one that is not."""
    import keras
    import tensorflow as tf

    from cluster.parameter_server import explain_keras3_fit

    explain_keras3_fit()
    explain_keras3_fit()
    with _strategy().scope():
        served = model_of(keras)
        served.compile("sgd", "mse")
    data = regression(tf).batch(8)
    local = model_of(keras)
    local.compile("sgd", "mse")
    return {
        "fit": _sentence(lambda: served.fit(data, verbose=0)),
        "evaluate": _sentence(lambda: served.evaluate(data, verbose=0)),
        "predict": _sentence(lambda: served.predict(data, verbose=0)),
        "local": _sentence(lambda: local.fit(data, verbose=0)),
    }


def _strategy() -> Any:
    from cluster import strategy as strategies

    return strategies.make_strategy("parameter_server", None)


def _sentence(function: Callable[[], Any]) -> str:
    """What `function` raises, as the user reads it; '' if it works."""
    try:
        function()
    except TfClusterError as error:
        return f"{type(error).__name__}: {error}"
    except Exception as error:
        return f"{type(error).__module__}.{type(error).__name__}: {error}"
    return ""


def split(post: Any, partition: dict[str, Any]) -> list[list[int]]:
    """How a partitioner divides a (1000, 8), a (10, 8) and a (3,) float32 variable."""
    import tensorflow as tf

    from cluster import strategy as strategies

    partitioner = strategies.partitioner(PartitionSpec(**partition))
    return [[*partitioner(tf.TensorShape(shape), tf.float32)] for shape in ((1000, 8), (10, 8), (3,))]
