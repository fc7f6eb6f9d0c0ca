"""What `benchmarks.observe` runs in its tasks: fit, observed by turns, and a supervisor that samples by turns."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.observe_cores import keep_to
from cluster.events import Event
from cluster.instruments import Instruments
from cluster.supervisor import Worker
from cluster.usage import Sampler

#: Names the file that is there while the run is observed.
SWITCH = "TFCLUSTER_BENCHMARK_SWITCH"
#: Steps that are not counted after each turn of the switch.
SETTLING = 5


class Switched(Worker):
    """A supervisor that takes no samples while the run is not observed."""

    async def _sample(self, sampler: Sampler) -> bool:
        return not os.path.exists(os.environ[SWITCH]) or await super()._sample(sampler)


class SwitchedInstruments(Instruments):
    """A launcher's instruments that measure nothing while the run is not observed."""

    def due(self, attempt: int) -> list[Event]:
        """A `usage` event, if it is time for one and the run is observed."""
        return super().due(attempt) if os.path.exists(os.environ[SWITCH]) else []


def counted(ctx: Any, folder: str, units: int, steps: int, pairs: int) -> None:
    """Train in turns of so many steps, one `fit` each; the leader writes what each turn took of the processors."""
    import keras

    from benchmarks.observe_processes import processes_of

    with ctx.strategy.scope():
        model = dense_layers(keras, units)
    data, hooks = rows(ctx), Hooks(ctx.callbacks(graph=False)[1:])  # the first saves checkpoints
    known, switch, turns = processes_of(ctx.run_dir), Path(os.environ[SWITCH]), []

    def spent() -> dict[str, float]:
        return {**known.seconds(), "task": time.process_time(), "hooks": hooks.seconds, "wall": time.monotonic()}

    for turn in range(-1, 2 * pairs):
        on = turn % 4 in (0, 3)  # on, off, off, on: a machine that drifts does not matter
        if ctx.is_leader:
            switch.touch() if on else switch.unlink(missing_ok=True)
        before = spent()
        model.fit(data, steps_per_epoch=steps, callbacks=hooks.callbacks if on else [], verbose=0)
        turns.append({"on": on, "steps": steps, **{name: at - before[name] for name, at in spent().items()}})
    if ctx.is_leader:
        Path(folder, "counted.json").write_text(json.dumps(turns[1:]))  # the first one made the step


class Hooks:
    """Callbacks, and the processor time of the threads in which they were called."""

    def __init__(self, callbacks: list[Any]) -> None:
        self.callbacks, self.seconds = callbacks, 0.0
        for callback in callbacks:
            for name in ("on_train_begin", "on_train_batch_end", "on_epoch_begin", "on_epoch_end"):
                setattr(callback, name, self._timed(getattr(callback, name)))

    def _timed(self, hook: Any) -> Any:
        def timed(*arguments: Any, **named: Any) -> None:
            before = time.thread_time()
            hook(*arguments, **named)
            self.seconds += time.thread_time() - before

        return timed


def train(ctx: Any, folder: str, seconds: float, pairs: int, units: int, core: int | None) -> None:
    """Train in turns of `seconds`, observed and not, `pairs` times; the leader writes each turn's mean step.

    TensorFlow's threads, which do not live yet, run on `core` only, unless that is None.
    """
    import contextlib

    import keras

    keep_to(core)
    with ctx.strategy.scope() if ctx.strategy is not None else contextlib.nullcontext():
        model = dense_layers(keras, units)
    turns = switching(keras.callbacks.Callback, ctx, seconds, 2 * pairs, Path(folder, "stop"))
    model.fit(rows(ctx), steps_per_epoch=100, epochs=1_000_000, callbacks=[turns], verbose=0)
    Path(folder, f"turns-{ctx.index}.json").write_text(json.dumps(turns.done[: 2 * pairs]))


def switching(base: Any, ctx: Any, seconds: float, turns: int, stop: Path) -> Any:
    """A callback that turns the observation on and off by the leader's clock, and ends the training after `turns`."""
    switch = Path(os.environ[SWITCH])
    progress = next(callback for callback in ctx.callbacks() if type(callback).__name__ == "Progress")

    class Switching(base):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.async_safe = True  # as those of ours are: else each step would wait for its logs
            self.done: list[tuple[bool, float]] = []
            self._began, self._steps = time.monotonic(), -SETTLING

        def on_train_begin(self, logs: Any = None) -> None:
            progress.set_model(self.model)
            progress.on_train_begin()
            progress.on_epoch_begin(0)

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            on = switch.exists()
            if on:
                progress.on_train_batch_end(batch, logs)
            if ctx.is_leader:
                self._count(on)

        def _count(self, on: bool) -> None:
            self._steps += 1
            if self._steps == 0:
                self._began = time.monotonic()
            elif self._steps > 0 and time.monotonic() - self._began > seconds:
                self.done.append((on, (time.monotonic() - self._began) / self._steps))
                self._steps = -SETTLING
                switch.unlink() if on else switch.touch()

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            if len(self.done) >= turns and not stop.exists():  # both workers have to leave after the same step
                stop.with_suffix(".new").write_text(str(epoch + 2))
                stop.with_suffix(".new").rename(stop)
            self.model.stop_training = stop.exists() and epoch >= int(stop.read_text())

    if ctx.is_leader:
        switch.touch()
    return Switching()


def stamped(ctx: Any, folder: str, units: int, core: int | None) -> None:
    """Train until the file `enough` is there; the leader writes when each of its steps ended. `core` as in `train`."""
    import contextlib

    import keras

    keep_to(core)
    enough, stop = Path(folder, "enough"), Path(folder, "stop")
    stamps: list[float] = []

    class Stamping(keras.callbacks.Callback):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.async_safe = True

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            stamps.append(time.time())

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            if ctx.is_leader and enough.exists() and not stop.exists():
                stop.with_suffix(".new").write_text(str(epoch + 2))
                stop.with_suffix(".new").rename(stop)
            self.model.stop_training = stop.exists() and epoch >= int(stop.read_text())

    with ctx.strategy.scope() if ctx.strategy is not None else contextlib.nullcontext():
        model = dense_layers(keras, units)
    progress = next(callback for callback in ctx.callbacks() if type(callback).__name__ == "Progress")
    model.fit(rows(ctx), steps_per_epoch=100, epochs=1_000_000, callbacks=[progress, Stamping()], verbose=0)
    if ctx.is_leader:
        Path(folder, "stamps.json").write_text(json.dumps(stamps))


def paced(ctx: Any, folder: str) -> None:
    """Small steps with pauses until the file `enough` is there."""
    import tensorflow as tf

    @tf.function
    def work(matrix: Any) -> Any:
        return tf.linalg.matmul(tf.nn.relu(matrix), matrix)

    enough, matrix, step, stamps = Path(folder, "enough"), tf.random.normal((256, 256)), 0, []
    while not enough.exists():
        step += 1
        with tf.profiler.experimental.Trace("train", step_num=step, _r=1):
            work(matrix).numpy()
        stamps.append(time.time())
        ctx.report(step)
        time.sleep(0.05)
    if ctx.is_leader:
        Path(folder, "stamps.json").write_text(json.dumps(stamps))


def dense_layers(keras: Any, units: int) -> Any:
    """Three layers of so many units."""
    layers = [keras.layers.Dense(units, activation="relu") for _ in range(3)]
    model = keras.Sequential([keras.layers.Input((64,)), *layers, keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    return model


def rows(ctx: Any) -> Any:
    """Batches of 256 rows of 64 numbers, over all tasks, without end."""
    values = np.random.default_rng(7).random((64 * 256, 64), dtype=np.float32)
    return ctx.share((values, values[:, :1]), batch=256).repeat()
