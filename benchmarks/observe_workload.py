"""What `benchmarks.observe` runs in its tasks: fit, observed by turns, and a supervisor that samples by turns."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np

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


def train(ctx: Any, folder: str, seconds: float, pairs: int, units: int) -> None:
    """Train in turns of `seconds`, observed and not, `pairs` times; the leader writes each turn's mean step."""
    import keras

    with ctx.strategy.scope():
        layers = [keras.layers.Dense(units, activation="relu") for _ in range(3)]
        model = keras.Sequential([keras.layers.Input((64,)), *layers, keras.layers.Dense(1)])
        model.compile("sgd", "mse")
    rows = np.random.default_rng(7).random((64 * 256, 64), dtype=np.float32)
    data = ctx.share((rows, rows[:, :1]), batch=256).repeat()
    turns = switching(keras.callbacks.Callback, ctx, seconds, 2 * pairs, Path(folder, "stop"))
    model.fit(data, steps_per_epoch=100, epochs=1_000_000, callbacks=[turns], verbose=0)
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
