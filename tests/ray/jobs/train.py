"""Train functions of the tests: small, and each ends as soon as its test has seen what it wants to see."""

import os
import signal
import sys
import threading
from pathlib import Path

import numpy as np

#: Far more epochs than any test waits for: an attempt that is to be broken trains until it is.
FOREVER = 100_000


def report(ctx, steps=3):
    """Three steps without TensorFlow."""
    print(f"hello from {ctx.role}-{ctx.index}")
    ctx.total_steps = steps
    for step in range(1, steps + 1):
        ctx.report(step, loss=1.0 / step)
    return {"steps": steps, "role": ctx.role, "shard": ctx.shard, "workers": ctx.worker_count}


def environment(ctx, wait=None):
    """The variables that a task sees; it waits until there is a byte in a pipe."""
    if wait:
        os.read(os.open(wait, os.O_RDONLY), 1)
    names = ("TF_CONFIG", "CUDA_VISIBLE_DEVICES", "TF_USE_LEGACY_KERAS", "TF_GRPC_REUSE_PORT", "COLOUR", "PWD")
    seen = {name: os.environ.get(name) for name in names}
    return seen | {"cwd": os.getcwd(), "own": {k: v for k, v in os.environ.items() if k.startswith("TFCLUSTER_")}}


def raises(ctx):
    """A mistake of the user's, on every task."""
    raise ValueError("the moon is in the wrong phase")


def raises_on_worker_1(ctx):
    """A mistake on one task, while the other waits for it."""
    if ctx.index == 1:
        raise KeyError("only here")
    threading.Event().wait()


def exits(ctx):
    """`sys.exit` with a code."""
    sys.exit(3)


def dies(ctx):
    """The process ends itself in the first attempt, as by a segmentation fault or the kernel's OOM killer."""
    if ctx.attempt == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return {"attempt": ctx.attempt}


def writes(ctx, lines):
    """Output, and nothing else."""
    for number in range(lines):
        print(f"line {number}")


def prepares():
    print("the data are made", flush=True)


def waits(ctx):
    """Reports one step, then nothing any more."""
    ctx.report(1)
    ctx.flush()
    threading.Event().wait()


def leaves_children(ctx):
    """Starts a process that would outlive it."""
    import subprocess

    child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
    ctx.report(child.pid)
    ctx.flush()
    return {"pid": child.pid}


def data(rows=256, seed=7):
    """`rows` x 4 float32 features, and a float32 target that is linear in them."""
    x = np.random.default_rng(seed).random((rows, 4), dtype=np.float32)
    return x, (x @ np.arange(1, 5, dtype=np.float32))[:, None]


def fit(ctx, epochs=3):
    """Keras fit under the strategy; trains for ever in the first attempt if `epochs` is 0."""
    from cluster.callbacks import keras_module

    keras = keras_module(ctx.keras)
    import tensorflow as tf

    with ctx.strategy.scope():
        keras.utils.set_random_seed(1)
        model = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(1, kernel_initializer="ones")])
        model.compile(keras.optimizers.SGD(0.05), "mse", metrics=["mae"])
    dataset = tf.data.Dataset.from_tensor_slices(data()).batch(64)
    wanted = epochs or (FOREVER if ctx.attempt == 1 else 5)
    history = model.fit(dataset, epochs=wanted, callbacks=ctx.callbacks(), verbose=0)
    ctx.export(model)
    return {
        "epochs": history.epoch,
        "loss": float(model.evaluate(dataset, verbose=0, return_dict=True)["loss"]),
        "kernel": [round(float(v), 5) for v in model.get_weights()[0][:, 0]],
        "iterations": int(model.optimizer.iterations.numpy()),
    }


def evaluated(ctx, epochs=2):
    """Trains on the worker, evaluates every checkpoint on the evaluator."""
    import keras
    import tensorflow as tf

    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    dataset = tf.data.Dataset.from_tensor_slices(data()).batch(64)
    if ctx.role == "evaluator":
        seen = []
        for path in ctx.checkpoints():
            tf.train.Checkpoint(model=model).restore(path).expect_partial()
            seen.append(path)
            ctx.report(int(path.rsplit("-", 1)[1]), val_loss=model.evaluate(dataset, verbose=0))
        return {"seen": seen}
    model.fit(dataset, epochs=epochs, callbacks=ctx.callbacks(), verbose=0)
    return {}


def pruned(ctx):
    """Deletes a checkpoint while it is evaluated, and only then is it read."""
    import tensorflow as tf

    from cluster import Position

    step = tf.Variable(0, dtype=tf.int64)
    checkpoints = Path(ctx.run_dir, "checkpoints")
    if ctx.role != "evaluator":
        saver = ctx.checkpointer(step=step)
        step.assign(1)
        saver.save(Position(1))
        until((checkpoints / ".evaluated").exists)
        step.assign(2)
        saver.save(Position(2))
        return
    for path in ctx.checkpoints():
        number = int(path.rsplit("-", 1)[1])
        until(lambda: number == 2 or not (checkpoints / "ckpt-1.index").exists())  # noqa: B023
        tf.train.Checkpoint(step=step).restore(path).assert_consumed()
        ctx.report(number, read=int(step))


def until(true):
    """Wait for what another process does to files."""
    while not true():
        threading.Event().wait(0.01)


def coordinate(ctx, steps=20):
    """A custom loop over parameter servers; for ever in the first attempt if `steps` is 0."""
    import keras
    import tensorflow as tf

    with ctx.strategy.scope():
        model = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(1, kernel_initializer="ones")])
        optimizer = keras.optimizers.SGD(0.05)
        optimizer.build(model.trainable_variables)
        done = tf.Variable(0, dtype=tf.int64)  # Keras' own count of iterations is not atomic over several workers
    checkpointer = ctx.checkpointer(model=model, optimizer=optimizer, done=done)
    position = checkpointer.restore(ctx.expected_checkpoint)
    start = position.step if position else 0

    @tf.function
    def step(iterator):
        def replica(batch):
            x, y = batch
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean((model(x, training=True) - y) ** 2)
            optimizer.apply_gradients(zip(tape.gradient(loss, model.trainable_variables), model.trainable_variables))
            done.assign_add(1)
            return loss

        return ctx.strategy.run(replica, args=(next(iterator),))

    def dataset_fn():
        return tf.data.Dataset.from_tensor_slices(data()).repeat().batch(32)

    iterator = iter(ctx.coordinator.create_per_worker_dataset(dataset_fn))
    wanted = steps or (FOREVER * 100 if ctx.attempt == 1 else start + 20)
    ctx.total_steps = wanted
    from cluster.checkpoints import Position

    for number in range(start + 1, wanted + 1):
        loss = ctx.coordinator.schedule(step, args=(iterator,))
        if number % 10 == 0:
            ctx.coordinator.join()
            ctx.report(number, loss=float(loss.fetch()))
            checkpointer.save(Position(number))
    return {"start": start, "done": int(done.numpy())}


def late_evaluator(ctx):
    """An evaluator that looks at nothing."""
    if ctx.role == "evaluator":
        threading.Event().wait()
    return {}


def rows_seen(ctx):
    """Ids that this task's share of the dataset holds, batch by batch."""
    batches = [[int(i) for i in batch["id"]] for batch in ctx.dataset("train")]
    return {"shard": ctx.shard, "batches": batches}


def rows_of_own_home(ctx, homes):
    """`rows_seen`, where each task sees another folder under the same name."""
    os.environ["HOME"] = f"{homes}/{ctx.shard}"
    return rows_seen(ctx)


def rows_shared(ctx):
    """Ids that this task's share of arrays, and of a dataset of rows, holds."""
    import numpy as np
    import tensorflow as tf

    ids = np.arange(1001)
    arrays = ctx.share({"id": ids, "x": ids / 2}, batch=96, shuffle=True)
    rows = ctx.share(tf.data.Dataset.range(1001), batch=96)
    found = [(int(i), float(x)) for batch in arrays for i, x in zip(batch["id"], batch["x"])]
    return {"arrays": found, "rows": [int(i) for batch in rows for i in batch], "steps": int(arrays.cardinality())}


def fit_on_servers(ctx, epochs=2):
    """tf-keras fit on parameter servers, from the spec's dataset; Keras 3 cannot."""
    from cluster.callbacks import keras_module

    keras = keras_module(ctx.keras)
    with ctx.strategy.scope():
        inputs = {"x": keras.Input((), name="x")}
        dense = keras.layers.Dense(64)(keras.layers.Reshape((1,))(inputs["x"]))
        model = keras.Model(inputs, keras.layers.Dense(1)(dense))
        model.compile("sgd", "mse")
    data = ctx.dataset_creator("train") if ctx.keras == "2" else ctx.dataset("train", shard=False)
    model.fit(data, epochs=epochs, steps_per_epoch=8, callbacks=ctx.callbacks(), verbose=0)
    return {"iterations": int(model.optimizer.iterations.numpy()), "kernel": type(model.layers[-1].kernel).__name__}
