"""Train functions on parameter servers that count there how often each row was trained on, and stop to lose a task."""

from pathlib import Path

ROWS = 1001


def loop(ctx, folder):
    """A loop of one's own, as the documentation shows it: 70 steps, with stops after 25 and 45 in the first attempt."""
    import tensorflow as tf

    from cluster.checkpoints import Position

    with ctx.strategy.scope():
        seen = tf.Variable(tf.zeros([ROWS], tf.int32))
    checkpointer = ctx.checkpointer(seen=seen)
    position = checkpointer.restore(ctx.expected_checkpoint)

    @tf.function
    def step(iterator):
        ids = next(iterator)
        seen.scatter_add(tf.IndexedSlices(tf.ones_like(ids, tf.int32), ids))

    def rows():
        # What reads ahead of the training: it must not count as trained on.
        ids = ctx.dataset("train", start=position).map(lambda row: row["id"], num_parallel_calls=2)
        return ids.prefetch(4)

    iterator = iter(ctx.coordinator.create_per_worker_dataset(rows))
    for number in range(position.step + 1 if position else 1, 71):
        ctx.coordinator.schedule(step, args=(iterator,))
        if number % 10 == 0:
            checkpointer.save(Position(number))
        if ctx.attempt == 1 and number in (25, 45):
            ctx.coordinator.join()
            stop(ctx, folder)
    return {"seen": seen.numpy().tolist(), "steps": number}


def fit(ctx, folder, steps=20):
    """tf-keras fit: 3 epochs of so many steps, with a stop in the second one of the first attempt."""
    import tensorflow as tf
    import tf_keras

    class Counting(tf_keras.Model):
        """Counts rows in the place of training."""

        def train_step(self, data):
            features, _ = data
            ids = features["id"]
            self.seen.scatter_add(tf.IndexedSlices(tf.ones_like(ids, tf.int32), ids))
            self.optimizer.iterations.assign_add(1)
            return {"loss": tf.constant(0.0)}

    class Stop(tf_keras.callbacks.Callback):
        """Stops after 17 steps of an epoch."""

        def __init__(self):
            super().__init__()
            self._supports_tf_logs = True  # else tf_keras allows no hooks of batches on parameter servers

        def on_train_batch_end(self, batch, logs=None):
            if ctx.attempt == 1 and ctx.epoch == 1 and batch == 16:
                stop(ctx, folder)

    with ctx.strategy.scope():
        inputs = {"x": tf_keras.Input((1,), name="x")}
        model = Counting(inputs, tf_keras.layers.Dense(1)(inputs["x"]))
        model.seen = tf.Variable(tf.zeros([ROWS], tf.int32), trainable=False)
        model.compile("sgd", "mse")
    data = ctx.dataset_creator("train")
    assert ctx.steps_per_epoch("train") == 32
    model.fit(data, epochs=3, steps_per_epoch=steps, callbacks=[*ctx.callbacks(), Stop()], verbose=0)
    return {
        "seen": model.seen.numpy().tolist(),
        "steps": int(model.optimizer.iterations.numpy()),
        "error": evaluated_on_own_rows(ctx),
    }


def evaluated_on_own_rows(ctx):
    """tf-keras' exact evaluation on data that are not the spec's: eight rows, each of which the model misses by 1."""
    import tensorflow as tf
    import tf_keras

    from cluster.parameter_server import dataset_creator

    def rows(repeat):
        data = {"x": tf.ones([8, 1])}, tf.zeros([8, 1])
        return dataset_creator(lambda: tf.data.Dataset.from_tensor_slices(data).batch(2), repeat=repeat)

    with ctx.strategy.scope():
        inputs = {"x": tf_keras.Input((1,), name="x")}
        model = tf_keras.Model(inputs, tf_keras.layers.Dense(1, kernel_initializer="ones")(inputs["x"]))
        model.compile(tf_keras.optimizers.SGD(0.0), "mse", metrics=["mae"], pss_evaluation_shards=3)
    model.fit(rows(True), steps_per_epoch=2, verbose=0)
    return model.evaluate(rows(False), verbose=0)[1]


def stop(ctx, folder):
    """Say so, and wait until somebody opens the pipe."""
    ctx.note("stopped")
    Path(folder, "go").read_text()
