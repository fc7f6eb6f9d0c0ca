"""Train functions that are traced: they go on until their test has seen enough, and then end at the same step."""

import tempfile
import time
from pathlib import Path

import numpy as np


def last_step(folder):
    """The step after which to end, once the test has written it."""
    path = Path(folder, "last")
    return int(path.read_text()) if path.exists() else None


def fit(ctx, folder):
    """Keras' fit over epochs of 20 steps."""
    import importlib

    print(f"scratch below {tempfile.gettempdir()}")
    print(f"tensorboard_dir: {ctx.tensorboard_dir}")  # in the task's scratch folder, but for the leader
    module = importlib.import_module("keras" if ctx.keras == "3" else "tf_keras")

    class UntilTold(module.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            last = last_step(folder)
            if last is not None and epoch * 20 >= last:
                self.model.stop_training = True

    with ctx.strategy.scope():
        model = module.Sequential([module.Input((8,)), module.layers.Dense(64, "relu"), module.layers.Dense(1)])
        model.compile("sgd", "mse")
    x, y = np.ones((640, 8), "float32"), np.ones((640, 1), "float32")
    data = ctx.share((x, y), batch=32)
    model.fit(data, epochs=100_000, verbose=0, callbacks=[*ctx.callbacks(), UntilTold()])
    return {"steps": int(model.optimizer.iterations.numpy())}


def loop(ctx, folder):
    """A loop of one's own on parameter servers; steps 3 and 4 are in a block of their own."""
    import tensorflow as tf

    with ctx.strategy.scope():
        total = tf.Variable(tf.zeros([64, 64]))

    @tf.function
    def step():
        total.assign_add(tf.matmul(tf.ones([64, 64]), tf.ones([64, 64])))

    number, last = 0, None
    while last is None or number < last:
        number += 1
        if number == 3 and ctx.attempt == 1:
            with ctx.profile():
                for _ in range(20):
                    ctx.coordinator.schedule(step)
                ctx.coordinator.join()
        ctx.coordinator.schedule(step)
        if number % 10 == 0:
            ctx.coordinator.join()
            ctx.report(number)
            last = last_step(folder)
            time.sleep(0.01)
    return {"steps": number}
