"""Train functions that write down which rows each step trains on, and are killed in the middle of an epoch."""

import json
import os
import signal
from pathlib import Path

import numpy as np

EPOCHS = 3
#: Attempts that end by SIGKILL, of a run that began afresh: on which task, after how many steps of the job.
KILLS = {1: (1, 21), 2: (0, 37)}


class Diary:
    """Row ids, by what was done with them, in a file of this attempt and task: one line a step, at once on the disk."""

    def __init__(self, ctx, folder):
        self.ctx = ctx
        afresh = ctx.attempt > 1 or ctx.expected_checkpoint is None
        self.end = KILLS.get(ctx.attempt) if afresh else None
        self.path = Path(folder, f"{ctx.attempt}-{ctx.shard}.jsonl")
        self.write("start", ctx.expected_checkpoint or 0, [])

    def write(self, what, step, ids):
        """A line; the task kills itself instead where it is its turn."""
        if what == "train" and self.end == (self.ctx.index, int(step)):
            os.kill(os.getpid(), signal.SIGKILL)
        with self.path.open("a") as file:
            file.write(json.dumps([what, self.ctx.epoch, int(step), np.asarray(ids).tolist()]) + "\n")

    def trained(self, step, ids):
        """Rows that a step trains on; `step` is the number of steps before it."""
        self.write("train", step, ids)

    def tested(self, step, ids):
        """Rows of a step of the evaluation after an epoch."""
        self.write("test", step, ids)


def fit(ctx, folder, epochs=EPOCHS, steps=None):
    """Keras fit with validation, of whichever Keras, on the spec's datasets `train` and `valid`."""
    import tensorflow as tf

    from cluster.callbacks import keras_module

    keras = keras_module(ctx.keras)
    diary = Diary(ctx, folder)

    class Recording(keras.Model):
        """Writes down the rows of each step."""

        def note(self, write, data):
            features, label = data
            tf.numpy_function(write, [tf.convert_to_tensor(self.optimizer.iterations), features["id"]], [])
            return {"x": features["x"]}, label

        def train_step(self, data):
            return super().train_step(self.note(diary.trained, data))

        def test_step(self, data):
            return super().test_step(self.note(diary.tested, data))

    with ctx.strategy.scope():
        inputs = {"x": keras.Input((), name="x")}
        model = Recording(inputs, keras.layers.Dense(1)(keras.layers.Reshape((1,))(inputs["x"])))
        model.compile("sgd", "mse", jit_compile=False)
    history = model.fit(
        ctx.dataset("train"),
        validation_data=ctx.dataset("valid"),
        epochs=epochs,
        steps_per_epoch=steps,
        callbacks=ctx.callbacks(),
        verbose=0,
    )
    return {"epochs": history.epoch, "iterations": int(model.optimizer.iterations.numpy())}


def loop(ctx, folder, every):
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
            if step % every == 0:
                checkpointer.save(Position(step, epoch, batch + 1))
    return {"iterations": step}
