"""Jobs of the tests on a cluster: linear regression by two workers, and one that waits for a task to be lost."""

import sys
import threading

import numpy as np
import part  # a second file, which must come along

#: Rows, and steps of an epoch: each worker sees half of the rows of a step.
ROWS, STEPS = 256, 4
#: Steps of an epoch that no test waits for the end of.
FOREVER = 10_000_000


def fit(ctx, epochs=3, lost_after=0, moves=False):
    """Keras fit under the strategy.

    Args:
        ctx: the task's context.
        epochs: how many.
        lost_after: what begins afresh waits for ever after this epoch, for a task that is lost; 0 does not wait.
        moves: what begins afresh trains for ever in its first epoch, of which what goes on has some steps more to do.
    """
    import keras
    import tensorflow as tf

    fresh = ctx.expected_checkpoint is None

    class Loss(keras.callbacks.Callback):
        """Says that the moment has come, and stays in it."""

        def on_epoch_begin(self, epoch, logs=None):
            if lost_after == epoch > 0 and fresh:
                print("ready to be lost", flush=True)
                threading.Event().wait()

    x = np.random.default_rng(7).random((ROWS, 4), dtype=np.float32)
    y = (x @ np.arange(1, 5, dtype=np.float32))[:, None]
    with ctx.strategy.scope():
        keras.utils.set_random_seed(part.SEED)
        model = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(1)])
        model.compile(keras.optimizers.SGD(0.05), "mse")
    dataset = tf.data.Dataset.from_tensor_slices((x, y)).batch(ROWS // STEPS)
    steps = FOREVER if fresh else ctx.expected_checkpoint + STEPS
    dataset = dataset.repeat() if moves else dataset
    history = model.fit(
        dataset,
        epochs=epochs,
        steps_per_epoch=steps if moves else None,
        callbacks=[*ctx.callbacks(), Loss()],
        verbose=0,
    )
    ctx.export(model)
    return {
        "epochs": history.epoch,
        "iterations": int(model.optimizer.iterations.numpy()),
        "loss": round(float(history.history["loss"][-1]), 4),
        "workers": ctx.worker_count,
        "attempt": ctx.attempt,
        "python": ".".join(map(str, sys.version_info[:2])),
    }
