"""Train functions that write down which rows each step trains on, and stop to have one of their nodes drained."""

import json
from pathlib import Path

import numpy as np

EPOCHS = 3
#: Steps after which the first attempt's worker 0 waits for its test: within the second epoch.
STOP = 65


class Diary:
    """Row ids in a file of this attempt and task, one line a step."""

    def __init__(self, ctx, folder):
        self.ctx = ctx
        self.folder = Path(folder)
        self.path = self.folder / f"{ctx.attempt}-{ctx.shard}.jsonl"
        self.write("start", ctx.expected_checkpoint or 0, [])

    def write(self, what, step, ids):
        """A line; it may be that the test is waited for."""
        with self.path.open("a") as file:
            file.write(json.dumps([what, self.ctx.epoch, int(step), np.asarray(ids).tolist()]) + "\n")
        if (self.ctx.attempt, self.ctx.index, what, int(step)) == (1, 0, "train", STOP):
            self.ctx.note("stopped")
            (self.folder / "go").read_text()

    def trained(self, step, ids):
        """Rows that a step trains on; `step` is the number of steps before it."""
        self.write("train", step, ids)


def fit(ctx, folder):
    """Keras fit, of whichever Keras, on the spec's dataset `train`."""
    import tensorflow as tf

    from cluster.callbacks import keras_module

    keras = keras_module(ctx.keras)
    diary = Diary(ctx, folder)

    class Recording(keras.Model):
        """Writes down the rows of each step."""

        def train_step(self, data):
            features, label = data
            tf.numpy_function(diary.trained, [tf.convert_to_tensor(self.optimizer.iterations), features["id"]], [])
            return super().train_step(({"x": features["x"]}, label))

    with ctx.strategy.scope():
        inputs = {"x": keras.Input((), name="x")}
        model = Recording(inputs, keras.layers.Dense(1)(keras.layers.Reshape((1,))(inputs["x"])))
        model.compile("sgd", "mse", jit_compile=False)
    model.fit(ctx.dataset("train"), epochs=EPOCHS, callbacks=ctx.callbacks(), verbose=0)
    return {"iterations": int(model.optimizer.iterations.numpy())}


def loop(ctx, folder):
    """A loop of one's own, as the documentation shows it."""
    import tensorflow as tf

    from cluster.checkpoints import Position

    diary = Diary(ctx, folder)
    with ctx.strategy.scope():
        weight = tf.Variable(0.0)
    checkpointer = ctx.checkpointer(weight=weight)
    position = checkpointer.restore(ctx.expected_checkpoint)
    dataset = ctx.dataset("train", start=position)

    @tf.function
    def train_step(batch):
        def replica(features):
            weight.assign_add(tf.reduce_mean(features["x"]), read_value=False)

        ctx.strategy.run(replica, args=(batch,))

    step = position.step if position else 0
    for epoch in range(position.epoch if position else 0, EPOCHS):
        for batch, rows in enumerate(ctx.strategy.experimental_distribute_dataset(dataset)):
            (ids,) = ctx.strategy.experimental_local_results(rows[0]["id"])
            diary.write("train", step, ids)
            train_step(rows[0])
            step += 1
            if step % 1000 == 0 or checkpointer.wanted():
                checkpointer.save(Position(step, epoch, batch + 1))
    return {"iterations": step}


def waits(ctx):
    """One step, and then nothing any more in the first attempt: it comes to no stop at which it could save."""
    import threading

    ctx.report(1)
    ctx.flush()
    if ctx.attempt == 1:
        threading.Event().wait()
