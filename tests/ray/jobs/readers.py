"""Train functions that read with TensorFlow's own readers, or read records that do not match."""


def own_readers(ctx, path):
    """Records that TensorFlow's own readers find at a path, of whatever file system."""
    import tensorflow as tf

    with tf.io.gfile.GFile(path + ".copy", "wb") as copy, tf.io.gfile.GFile(path, "rb") as file:
        copy.write(file.read())
    return [record.numpy().decode() for record in tf.data.TFRecordDataset(path + ".copy")]


def fit(ctx):
    """Keras fit on the spec's dataset."""
    from cluster.callbacks import keras_module

    keras = keras_module(ctx.keras)
    with ctx.strategy.scope():
        inputs = {"x": keras.Input((1,), name="x")}
        model = keras.Model(inputs, keras.layers.Dense(1)(inputs["x"]))
        model.compile("sgd", "mse")
    model.fit(ctx.dataset("train"), epochs=2, callbacks=ctx.callbacks(), verbose=0)


def loop_on_servers(ctx):
    """A loop of its own on parameter servers."""
    import tensorflow as tf

    @tf.function
    def step(iterator):
        features, label = next(iterator)
        return tf.reduce_sum(features["x"]) + tf.reduce_sum(label)

    iterator = iter(ctx.coordinator.create_per_worker_dataset(lambda: ctx.dataset("train")))
    for _ in range(200):
        ctx.coordinator.schedule(step, args=(iterator,))
    ctx.coordinator.join()
