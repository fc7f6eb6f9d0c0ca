"""Workloads of which it is known what holds them back, and how their tasks are traced."""

from __future__ import annotations

import contextlib
import os
import queue
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

#: Steps before a task counts as running steadily.
WARM = 8
#: Seconds that a task is traced.
SECONDS = 1.5
#: A batch of the workload that reads.
ROWS = 1 << 17
#: What holds a workload back: layers, their width, rows of a batch.
SIZES = {"input": (1, 64, 64), "compute": (3, 512, 2048), "straggler": (1, 64, 64), "python": (1, 8, 8)}


def fit(post: Any, folder: str, task: str, kind: str) -> None:
    """Keras' fit under MultiWorkerMirroredStrategy, without end, with the Keras that `tf.keras` is."""
    import tensorflow as tf

    from cluster import markers, repairs
    from cluster import strategy as strategies

    repairs.repair()
    if os.environ["TF_USE_LEGACY_KERAS"] != "1":
        markers.mark_steps()
    strategy = strategies.make_strategy("multi_worker_mirrored", None)
    layers, width, rows = SIZES[kind]
    keras = tf.keras
    with strategy.scope():
        hidden = [keras.layers.Dense(width, "relu") for _ in range(layers)]
        model = keras.Sequential([keras.layers.Input((width,)), *hidden, keras.layers.Dense(1)])
        model.compile("sgd", "mse")
    clock = Clock(post, folder, task)

    class Steps(tf.keras.callbacks.Callback):  # type: ignore[misc]
        def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
            if kind == "straggler" and task == "worker-1":
                time.sleep(0.05)

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            clock.tick()

    data = rows_of(tf, rows, width, slow=kind == "input")
    model.fit(data, epochs=1, steps_per_epoch=10**6, verbose=0, callbacks=[Steps()])


def rows_of(tf: Any, rows: int, width: int, *, slow: bool) -> Any:
    """Batches without end; a slow one takes Python 50 ms for each of two workers."""

    def make(number: Any) -> Any:
        x = tf.random.stateless_normal([rows, width], [number, number])
        if slow:
            x = tf.numpy_function(_slowly, [x], tf.float32)
            x.set_shape([rows, width])
        return x, tf.zeros([rows, 1])

    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    return tf.data.Dataset.range(10**9).map(make).prefetch(1).with_options(options)


def _slowly(x: Any) -> Any:
    time.sleep(0.1)
    return x


def alone(post: Any, folder: str, task: str, kind: str) -> None:
    """A loop in one process that runs its operations one by one, or reads Parquet with the reader of `ctx.dataset`."""
    import tensorflow as tf

    clock = Clock(post, folder, task)
    if kind == "python":
        x = tf.ones([8, 8])
        for number in range(10**9):
            with tf.profiler.experimental.Trace("train", step_num=number, _r=1):
                for _ in range(20):
                    x = tf.tanh(x @ x)
                time.sleep(0.002)
            clock.tick()
    from pipelines.dataset import read_dataset

    @tf.function
    def step(batch: Any) -> Any:
        return tf.add_n([tf.size(column) for column in batch.values()])

    for number, batch in enumerate(read_dataset(f"{folder}/rows", batch=ROWS).repeat()):
        with tf.profiler.experimental.Trace("train", step_num=number, _r=1):
            int(step(batch))
        clock.tick()


def coordinate(post: Any, folder: str, task: str) -> None:
    """Products of matrices on workers of parameter servers, in a loop of one's own."""
    import tensorflow as tf

    from cluster import strategy as strategies

    strategy = strategies.make_strategy("parameter_server", None)
    coordinator = tf.distribute.coordinator.ClusterCoordinator(strategy)
    with strategy.scope():
        weights = [tf.Variable(tf.random.normal([512, 512], stddev=0.01)) for _ in range(3)]

    @tf.function
    def step(iterator: Any) -> Any:
        def replica(x: Any) -> Any:
            with tf.GradientTape() as tape:
                for weight in weights:
                    x = tf.nn.relu(x @ weight)
                loss = tf.reduce_mean(x * x)
            for weight, gradient in zip(weights, tape.gradient(loss, weights), strict=True):
                weight.assign_sub(0.001 * gradient)
            return loss

        return strategy.reduce("mean", strategy.run(replica, (next(iterator),)), axis=None)

    data = coordinator.create_per_worker_dataset(lambda: tf.data.Dataset.from_tensors(tf.ones([2048, 512])).repeat())
    iterator = iter(data)
    clock = Clock(post, folder, task)
    while True:
        for _ in range(4):
            coordinator.schedule(step, args=(iterator,))
        coordinator.join()
        clock.tick()


def serve(post: Any, folder: str, task: str) -> None:
    """A parameter server, or one of their workers."""
    from cluster import parameter_server

    threading.Thread(target=trace, args=(post, folder, task), daemon=True).start()
    parameter_server.serve(on_ready=lambda: post("ready"))


class Clock:
    """Counts steps; at the `WARM`th tells that the task runs steadily, and has it traced when it is told to."""

    def __init__(self, post: Any, folder: str, task: str) -> None:
        self._post, self._times = post, list[int]()
        arguments = (post, folder, task, self._times)
        threading.Thread(target=trace, args=arguments, daemon=True).start()

    def tick(self) -> None:
        """A step is done."""
        self._times.append(time.time_ns())
        if len(self._times) == WARM:
            self._post("steady")


def trace(post: Any, folder: str, task: str, times: list[int] | None = None) -> None:
    """Wait for the test to open the task's pipe, trace, and tell where the trace is and how long a step took."""
    from cluster import profiler

    Path(folder, task).read_bytes()
    scratch = Path(folder, f"{task}-trace")
    scratch.mkdir()
    profiler.begin(scratch)
    began = time.time_ns()
    time.sleep(SECONDS)
    ended = time.time_ns()
    seen = [at for at in times or () if began <= at <= ended]
    path = profiler.end(scratch).path
    step = (seen[-1] - seen[0]) / (len(seen) - 1) / 1e9 if len(seen) > 1 else 0.0
    post(("trace", str(path), step))


@contextlib.contextmanager
def pipes(folder: Path, tasks: list[str]) -> Iterator[Any]:
    """A function that has all `tasks` begin their traces, through a pipe for each."""
    for task in tasks:
        os.mkfifo(folder / task)

    def begin() -> None:
        for task in tasks:
            folder.joinpath(task).write_bytes(b"now")

    yield begin


class Heard:
    """The channel of a task whose launcher is a test."""

    def __init__(self) -> None:
        self.handlers: dict[str, Any] = {}
        self.answers: queue.Queue[dict[str, Any]] = queue.Queue()

    def on(self, kind: str, handler: Any) -> None:
        """As the task's."""
        self.handlers[kind] = handler

    def send(self, kind: str, **data: Any) -> None:
        """As the task's."""
        self.answers.put(data)

    def ask(self, kind: str, **data: Any) -> None:
        """Send the task a command."""
        self.handlers[kind]({"kind": kind, "id": "c", **data})

    def ends(self) -> dict[str, Any]:
        """The answer with which a capture ends."""
        while (answer := self.answers.get(timeout=60))["status"] == "tracing":
            pass
        return answer


def traced_in_turn(post: Any, folder: str) -> None:
    """Captures that are told to end, cut, as long as asked for, and refused; what each said, and what it left."""
    import tensorflow as tf

    from cluster import tracing

    vars(tracing)["LONGEST"] = 0.2
    channel, scratch = Heard(), Path(folder)
    tracing.Tracer(channel, scratch)  # type: ignore[arg-type]

    def left() -> int:
        return len([*scratch.glob("trace-*")])

    for name, seconds in (("cut", None), ("asked", 0.1)):
        channel.ask("trace", at=0.0, seconds=seconds)
        answer = channel.ends()
        before = left()
        channel.ask("trace_taken")
        post((name, answer["status"], answer.get("notes"), before, left()))
    with tf.profiler.experimental.Profile(f"{folder}/own"):
        channel.ask("trace", at=0.0, seconds=0.1)
        answer = channel.ends()
        post(("refused", answer["status"], None, 0, left()))
