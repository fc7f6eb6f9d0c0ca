"""Models and data that the tests train, in one process and in several, with whichever Keras `tf.keras` is.

A case returns a function that makes the compiled model, to be called in the strategy's scope, and global batches.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from cluster.spec_parts import StrategyName

Case = Callable[[Any, Any, Any], tuple[Callable[[], Any], Any]]  # (tf, keras, numpy random state)


def train(
    post: Any, cases: list[str], strategy: StrategyName = "multi_worker_mirrored", devices: int = 1
) -> dict[str, dict[str, Any]]:
    """Fit, evaluate and predict `cases`, one after the other; what a person would compare with another run of them."""
    import numpy as np
    import tensorflow as tf

    from cluster import repairs
    from cluster import strategy as strategies

    repairs.repair()
    if devices > 1:
        split_the_cpu(tf, devices)
    chosen = strategies.make_strategy(strategy, None)
    results = {}
    for case in cases:
        tf.keras.utils.set_random_seed(7)
        make_model, data = CASES[case](tf, tf.keras, np.random.RandomState(0))
        with chosen.scope():
            model = make_model()
        results[case] = _measure(np, model, data)
        post((case, chosen.num_replicas_in_sync))
    return results


def _measure(np: Any, model: Any, data: Any) -> dict[str, Any]:
    before = model.evaluate(data, verbose=0, return_dict=True)
    history = model.fit(data, epochs=2, verbose=0).history
    after = model.evaluate(data, verbose=0, return_dict=True)
    return {
        "before": {name: np.asarray(value) for name, value in before.items()},
        "history": {name: np.asarray(values) for name, values in history.items()},
        "after": {name: np.asarray(value) for name, value in after.items()},
        "predicted": np.asarray(model.predict(data.map(lambda *row: row[0]), verbose=0)),
        "weights": [np.asarray(w) for w in model.get_weights() if np.asarray(w).dtype.kind == "f"],
        "steps": int(model.optimizer.iterations.numpy()),
    }


def split_the_cpu(tf: Any, devices: int) -> None:
    """Give every worker several logical CPUs as replicas, as it would have several GPUs.

    MultiWorkerMirroredStrategy takes all GPUs, but one CPU; only the method that counts devices is replaced.
    """
    from tensorflow.python.distribute.collective_all_reduce_strategy import CollectiveAllReduceExtended

    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * devices)

    def local_devices(self: Any, resolver: Any, worker_device: str) -> tuple[tuple[str, ...], str]:
        return tuple(f"{worker_device}/device:CPU:{i}" for i in range(devices)), "CPU"

    CollectiveAllReduceExtended._initialize_local_devices = local_devices


def _rows(tf: Any, features: Any, labels: Any, batch: int = 8) -> Any:
    return tf.data.Dataset.from_tensor_slices((features, labels)).batch(batch)


def dense(tf: Any, keras: Any, random: Any) -> Any:
    """A regression with Adam, whose slots must agree as well; the last batch is half as large as the others."""
    x = random.rand(20, 6).astype("float32")

    def make_model() -> Any:
        layers = keras.layers
        model = keras.Sequential([layers.Input((6,)), layers.Dense(5, activation="tanh"), layers.Dense(1)])
        model.compile(keras.optimizers.Adam(0.01), "mse", metrics=["mae"])
        return model

    return make_model, _rows(tf, x, x.sum(1, keepdims=True))


def classify(tf: Any, keras: Any, random: Any) -> Any:
    """Metrics with state of their own, and weights of rows."""
    x = random.rand(48, 4).astype("float32")
    y = (x.sum(1, keepdims=True) > 2).astype("float32")
    weight = random.rand(48).astype("float32")

    def make_model() -> Any:
        layers = keras.layers
        model = keras.Sequential([layers.Input((4,)), layers.Dense(1, activation="sigmoid")])
        metrics = [keras.metrics.AUC(name="auc"), keras.metrics.BinaryAccuracy(name="accuracy")]
        precision = keras.metrics.Precision(name="precision")
        model.compile(keras.optimizers.SGD(0.5), "binary_crossentropy", metrics=metrics, weighted_metrics=[precision])
        return model

    return make_model, tf.data.Dataset.from_tensor_slices((x, y, weight)).batch(8)


WORDS = ["red", "green", "blue", "green and blue"]


def columns(tf: Any, keras: Any, random: Any) -> Any:
    """A dict of inputs, two of them strings, looked up, hashed and split into tokens within the model."""
    words = random.choice(WORDS, 32)
    features = {"size": random.rand(32, 2).astype("float32"), "colour": words[:, None], "text": words[:, None]}

    def make_model() -> Any:
        layers = keras.layers
        size = layers.Input((2,), name="size")
        colour = layers.Input((1,), name="colour", dtype="string")
        text = layers.Input((1,), name="text", dtype="string")
        known = layers.StringLookup(vocabulary=WORDS)(colour)
        hashed = layers.Hashing(7)(colour)
        tokens = layers.TextVectorization(vocabulary=["red", "green", "blue"], output_sequence_length=3)(text)
        flat = layers.Flatten()
        parts = [flat(layers.Embedding(n, 2)(ids)) for n, ids in ((6, known), (7, hashed), (6, tokens))]
        output = layers.Dense(1)(layers.Concatenate()([size, *parts]))
        model = keras.Model({"size": size, "colour": colour, "text": text}, output)
        model.compile(keras.optimizers.Adam(0.01), "mse")
        return model

    return make_model, _rows(tf, features, features["size"].sum(1, keepdims=True))


def ragged(tf: Any, keras: Any, random: Any) -> Any:
    """Lists of unequal length."""
    lists = tf.ragged.constant([[float(i), float(i % 3)][: 1 + i % 2] for i in range(32)], dtype=tf.float32)

    class Mean(keras.layers.Layer):  # type: ignore[misc]
        def call(self, values: Any) -> Any:
            return tf.reduce_mean(values, axis=1, keepdims=True)

        def compute_output_shape(self, shape: Any) -> Any:
            return (shape[0], 1)

    def make_model() -> Any:
        values = keras.layers.Input((None,), ragged=True)
        model = keras.Model(values, keras.layers.Dense(1)(Mean()(values)))
        model.compile(keras.optimizers.SGD(0.001), "mse")
        return model

    return make_model, _rows(tf, lists, tf.range(32, dtype=tf.float32)[:, None])


def sparse(tf: Any, keras: Any, random: Any) -> Any:
    """Sparse rows."""
    x = tf.sparse.from_dense((random.rand(32, 10) > 0.8).astype("float32"))

    def make_model() -> Any:
        values = keras.layers.Input((10,), sparse=True)
        model = keras.Model(values, keras.layers.Dense(1)(values))
        model.compile(keras.optimizers.SGD(0.1), "mse")
        return model

    return make_model, _rows(tf, x, tf.sparse.reduce_sum(x, 1, keepdims=True))


def custom_step(tf: Any, keras: Any, random: Any) -> Any:
    """A model without a known input, and a `train_step` with logs of its own: a float, an integer and a vector."""
    x = random.rand(32, 6).astype("float32")

    class Model(keras.Model):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.dense = keras.layers.Dense(1)

        def call(self, values: Any) -> Any:
            return self.dense(values)

        def train_step(self, data: Any) -> dict[str, Any]:
            values, labels = data
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean((self(values, training=True) - labels) ** 2)
                scaled = loss / tf.distribute.get_strategy().num_replicas_in_sync
            variables = self.trainable_variables
            self.optimizer.apply_gradients(zip(tape.gradient(scaled, variables), variables, strict=True))
            return {"mine": loss, "rows": tf.shape(values)[0] * 0 + 3, "spread": tf.reduce_mean(values, axis=0)}

    def make_model() -> Any:
        model = Model()
        model.compile(keras.optimizers.SGD(0.05), loss="mse")
        return model

    return make_model, _rows(tf, x, x.sum(1, keepdims=True))


def several_steps(tf: Any, keras: Any, random: Any) -> Any:
    """Several steps in one call of the train function, not a whole number of calls an epoch."""
    x = random.rand(40, 6).astype("float32")

    def make_model() -> Any:
        model = keras.Sequential([keras.layers.Input((6,)), keras.layers.Dense(1)])
        model.compile(keras.optimizers.SGD(0.05), "mse", metrics=["mae"], steps_per_execution=3)
        return model

    return make_model, _rows(tf, x, x.sum(1, keepdims=True))


def normalised(tf: Any, keras: Any, random: Any) -> Any:
    """Statistics of whole batches."""
    x = random.rand(32, 6).astype("float32")

    def make_model() -> Any:
        layers = keras.layers
        middle = [layers.Dense(5), layers.BatchNormalization(momentum=0.5, synchronized=True)]
        model = keras.Sequential([layers.Input((6,)), *middle, layers.Dense(1)])
        model.compile(keras.optimizers.SGD(0.01), "mse")
        return model

    return make_model, _rows(tf, x, x.sum(1, keepdims=True))


def uneven(tf: Any, keras: Any, random: Any) -> Any:
    """A last batch that leaves the workers with unequal rows, and one of four replicas with none."""
    make_model, _ = classify(tf, keras, random)
    x = random.rand(13, 4).astype("float32")
    return make_model, _rows(tf, x, (x.sum(1, keepdims=True) > 2).astype("float32"))


def with_callbacks(post: Any, directory: str) -> dict[str, Any]:
    """Train with validation and the callbacks that people use; each worker writes to a folder of its own."""
    import numpy as np
    import tensorflow as tf

    from cluster import repairs
    from cluster import strategy as strategies

    repairs.repair()
    resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver()
    clustered = bool(resolver.cluster_spec().as_dict())
    strategy = strategies.make_strategy("multi_worker_mirrored" if clustered else "none", None)
    keras = tf.keras
    keras.utils.set_random_seed(7)
    x = np.random.RandomState(0).rand(32, 6).astype("float32")
    y = x.sum(1, keepdims=True)
    with strategy.scope():
        model = keras.Sequential([keras.layers.Input((6,)), keras.layers.Dense(1)])
        model.compile(keras.optimizers.SGD(0.3), "mse", metrics=["mae"])
    mine = f"{directory}/{resolver.task_id}"
    rates: list[float] = []
    history = model.fit(
        _rows(tf, x, y),
        epochs=12,
        validation_data=_rows(tf, x[:12] + 0.5, y[:12]),
        verbose=0,
        callbacks=[
            keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate if epoch < 2 else rate * 0.9),
            keras.callbacks.ReduceLROnPlateau(monitor="val_loss", patience=1, factor=0.5),
            keras.callbacks.EarlyStopping(monitor="val_loss", patience=3, restore_best_weights=True),
            keras.callbacks.ModelCheckpoint(f"{mine}/{{epoch:02d}}.weights.h5", "val_loss", 0, True, True),
            keras.callbacks.TensorBoard(f"{mine}/tensorboard", write_graph=False),
            keras.callbacks.LambdaCallback(
                on_epoch_end=lambda *_: rates.append(float(model.optimizer.learning_rate.numpy()))
            ),
        ],
    )
    return {
        "history": {name: np.asarray(v) for name, v in history.history.items() if name not in ("lr", "learning_rate")},
        "rates": np.asarray(rates),
        "weights": [np.asarray(w) for w in model.get_weights()],
        "saved": sorted(path.name for path in Path(mine).glob("*.h5")),
        "events": len(list(Path(mine, "tensorboard").rglob("events.*"))),
    }


CASES: dict[str, Case] = {
    case.__name__: case
    for case in (dense, classify, columns, ragged, sparse, custom_step, several_steps, normalised, uneven)
}
