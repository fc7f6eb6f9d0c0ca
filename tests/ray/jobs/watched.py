"""Train functions whose tensors, graph and weights somebody looks at."""

import numpy as np


def data(nan_at):
    """64 rows of 4 features; one of them NaN, if so wanted."""
    x = np.random.default_rng(7).random((64, 4), dtype=np.float32)
    if nan_at is not None:
        x[nan_at, 0] = np.nan
    return x, x.sum(axis=1, keepdims=True)


def fit(ctx, epochs=2, nan_at=None, gate=None):
    """Keras fit; a moving mean of the model is each worker's own. It ends when somebody writes to the pipe `gate`."""
    from cluster.callbacks import keras_module

    keras = keras_module(ctx.keras)
    layers = keras.layers
    with ctx.strategy.scope():
        keras.utils.set_random_seed(1)
        hidden = layers.Dense(8, activation="relu", name="hidden")
        model = keras.Sequential([layers.Input((4,)), hidden, layers.BatchNormalization(name="norm"), layers.Dense(1)])
        model.compile("sgd", "mse")
    dataset = ctx.share(data(nan_at), batch=16)
    model.fit(dataset, epochs=epochs, callbacks=ctx.callbacks(histograms=1), verbose=0)
    if gate is not None and ctx.is_leader:
        with open(gate) as pipe:
            pipe.readline()
    return {"epochs": epochs}


def goes_wrong(ctx):
    """Makes a NaN, and fails."""
    import tensorflow as tf

    tf.math.log(tf.constant([-1.0, 1.0]))
    raise ValueError("that was a NaN")
