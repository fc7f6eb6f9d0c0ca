"""Keras' fit with epochs of another length than the data's, killed and started again; and with a cache."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from cluster.callbacks import epoch_saving, step_saving
from cluster.channel import Channel
from cluster.checkpoints import positions
from cluster.context import TaskContext
from cluster.errors import SpecError
from cluster.launch import Launch
from cluster.repairs import repair_keras
from cluster.spec import parse
from cluster.storage import RunDirectory
from cluster.tasks import Task

pytestmark = pytest.mark.timeout(240)

ROWS, BATCHES = 1003, 11


class Unheard(Channel):
    """To a launcher that only listens."""

    def __init__(self) -> None:
        """There is no connection."""

    def on(self, kind: str, handler: Any) -> None:
        """Nothing is ever said."""

    def send(self, kind: str, **data: Any) -> None:
        """Nobody answers."""


class KilledError(Exception):
    """The end of an attempt."""


@dataclass
class Job:
    """A job that is killed after some steps, and started again from its newest checkpoint."""

    folder: Path
    files: Path
    data: dict[str, Any] = field(default_factory=dict)
    cached: bool = False
    repeated: bool = False
    behind: bool = False  # another step, and fetched ahead
    seen: list[list[int]] = field(default_factory=list)

    def attempt(self, epochs: int, steps: int | None, kill_at: int | None) -> None:
        """Train, until the step `kill_at` is made."""
        newest = positions(self.folder / "checkpoints")[-1:]
        del self.seen[newest[0].step if newest else 0 :]
        context = self.context(newest[0].step if newest else None)
        saving = step_saving(epoch_saving(tf.keras.callbacks.Callback))(context)
        dataset = context.dataset("train")
        if self.repeated:
            dataset = dataset.prefetch(1).repeat().prefetch(4) if self.behind else dataset.repeat()
        model = self.model(kill_at)
        model.fit(
            dataset.cache().unbatch().batch(100) if self.cached else dataset,
            epochs=epochs,
            steps_per_epoch=steps,
            verbose=0,
            callbacks=[saving],
        )

    def context(self, checkpoint: int | None) -> TaskContext:
        document = {
            "entrypoint": "train.py:train",
            "data": {"train": {"files": str(self.files), "columns": ["id"], "batch": 100, **self.data}},
            "checkpoint": {"every": 2},
        }
        (self.folder / "checkpoints").mkdir(parents=True, exist_ok=True)
        launch = Launch(
            task=Task("worker", 0),
            attempt=1,
            spec=parse(document),
            code=None,
            directory=".",
            run_dir=str(self.folder),
            keras="3",
            workers=1,
            leader=True,
            secret=b"",
            checkpoint=checkpoint,
        )
        storage = RunDirectory(str(self.folder))
        return TaskContext(launch, Unheard(), self.folder / "scratch", storage, tf.distribute.get_strategy())

    def model(self, kill_at: int | None) -> Any:
        seen = self.seen

        def see(ids: Any) -> Any:
            seen.append(ids.tolist())
            return np.int64(len(seen))

        class Seeing(tf.keras.Model):  # type: ignore[misc]
            def __init__(self) -> None:
                super().__init__()
                self.total = self.add_weight(shape=(), initializer="zeros", name="total")
                self.built = True

            def train_step(self, data: Any) -> dict[str, Any]:
                made = tf.numpy_function(see, [data["id"]], tf.int64)
                with tf.control_dependencies([made]):
                    self.optimizer.apply_gradients([(tf.ones(()), self.total)])
                return {"made": tf.cast(made, tf.float32)}

        class Kill(tf.keras.callbacks.Callback):  # type: ignore[misc]
            def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
                if len(seen) == kill_at:
                    raise KilledError

        model = Seeing()
        model.compile("sgd")
        fit = model.fit
        model.fit = lambda *args, callbacks, **more: fit(*args, callbacks=[*callbacks, Kill()], **more)
        return model


@pytest.fixture(scope="module", autouse=True)
def _repaired() -> None:
    repair_keras()


def ids(batches: list[list[int]]) -> list[int]:
    return sorted(row for batch in batches for row in batch)


@pytest.mark.filterwarnings("ignore:Your input ran out of data")
@pytest.mark.parametrize("kills", [[3], [5, 8], [6, 7, 10, 12, 17], [4, 11, 13, 20], [9]])
def test_epochs_shorter_than_the_data_lose_no_row(tmp_path: Path, files: Path, kills: list[int]) -> None:
    """Three epochs of 4, 4 and 3 steps are one of the data; two of these, as if nobody had been killed."""
    whole = Job(tmp_path / "whole", files, {"shuffle": True})
    whole.attempt(6, 4, None)
    assert [len(whole.seen), ids(whole.seen[:BATCHES]), ids(whole.seen[BATCHES:])] == [22, *[[*range(ROWS)]] * 2]
    assert whole.seen[:BATCHES] != whole.seen[BATCHES:]
    job = Job(tmp_path / "job", files, {"shuffle": True})
    for kill in kills:
        with pytest.raises(KilledError):
            job.attempt(6, 4, kill)
    job.attempt(6, 4, None)
    assert job.seen == whole.seen
    (position,) = positions(tmp_path / "job" / "checkpoints")[-1:]
    assert (position.step, position.epoch, position.batch) == (22, 6, 0)


@pytest.mark.parametrize("kills", [[3], [5, 8], [6, 7, 10, 12, 17], [4, 11, 13, 20], [9, 12, 21], [14, 15, 16]])
@pytest.mark.parametrize("steps", [4, 25])
def test_repeated_data_lose_no_row(tmp_path: Path, files: Path, kills: list[int], steps: int) -> None:
    """As with other data, also where epochs of fit have more steps than the data; in the order of no kill at all."""
    whole = Job(tmp_path / "whole", files, {"shuffle": True}, repeated=True)
    epochs = -(-25 // steps)
    whole.attempt(epochs, steps, None)
    assert len(whole.seen) == epochs * steps
    assert [ids(whole.seen[at : at + BATCHES]) for at in (0, BATCHES)] == [[*range(ROWS)]] * 2
    assert whole.seen[:BATCHES] != whole.seen[BATCHES : 2 * BATCHES]
    job = Job(tmp_path / "job", files, {"shuffle": True}, repeated=True)
    for kill in kills:
        with pytest.raises(KilledError):
            job.attempt(epochs, steps, kill)
    job.attempt(epochs, steps, None)
    assert job.seen == whole.seen


def test_it_is_said_where_rows_cannot_be_followed(tmp_path: Path, files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(TaskContext, "note", lambda _, text: said.append(text))
    job = Job(tmp_path, files, repeated=True, behind=True)
    job.attempt(2, BATCHES, None)
    assert [text.split(":")[0] for text in said] == ["data.train"]
    assert "call repeat() on it before map()" in said[0]


def test_as_many_steps_as_the_data_have(tmp_path: Path, files: Path) -> None:
    job = Job(tmp_path, files, {"shuffle": True})
    for kill in (5, 13, 17):
        with pytest.raises(KilledError):
            job.attempt(3, BATCHES, kill)
    job.attempt(3, BATCHES, None)
    assert [ids(job.seen[at : at + BATCHES]) for at in range(0, 33, BATCHES)] == [[*range(ROWS)]] * 3
    assert len({tuple(job.seen[at]) for at in range(0, 33, BATCHES)}) == 3, "each in an order of its own"


def test_a_cache_after_a_restart_within_an_epoch_is_refused(tmp_path: Path, files: Path) -> None:
    job = Job(tmp_path, files, cached=True)
    with pytest.raises(KilledError):
        job.attempt(3, None, 5)
    with pytest.raises(SpecError, match="a cache that holds only what was left"):
        job.attempt(3, None, None)
    assert ids(job.seen[:BATCHES]) == [*range(ROWS)]
    assert len(job.seen) <= BATCHES + 1


def test_a_cache_without_a_restart_is_fine(tmp_path: Path, files: Path) -> None:
    job = Job(tmp_path, files, cached=True)
    job.attempt(3, None, None)
    assert ids(job.seen) == sorted([*range(ROWS)] * 3)


def test_batches_in_no_known_order_are_repeated_after_a_restart(tmp_path: Path, files: Path) -> None:
    job = Job(tmp_path, files, {"deterministic": False})
    with pytest.raises(KilledError):
        job.attempt(1, None, 5)
    job.attempt(1, None, None)
    assert len(job.seen) == 4 + BATCHES
    assert ids(job.seen[4:]) == [*range(ROWS)]


@pytest.mark.filterwarnings("ignore:Your input ran out of data")
def test_a_second_fit_counts_on_or_is_refused(tmp_path: Path, files: Path) -> None:
    job = Job(tmp_path, files)
    context = job.context(None)
    saving = epoch_saving(tf.keras.callbacks.Callback)
    model = job.model(None)
    model.fit(context.dataset("train"), epochs=2, verbose=0, callbacks=[saving(context)])
    with pytest.raises(SpecError, match=r"a second fit .* would train nothing") as caught:
        model.fit(context.dataset("train"), epochs=1, verbose=0, callbacks=[saving(context)])
    assert caught.value.todo.startswith("count on, fit(initial_epoch=2, epochs=3), or")
    model.fit(context.dataset("train"), initial_epoch=2, epochs=3, verbose=0, callbacks=[saving(context)])
    assert len(job.seen) == 3 * BATCHES
    resumed = job.context(3 * BATCHES)
    model.fit(resumed.dataset("train"), epochs=2, verbose=0, callbacks=[saving(resumed)])  # was done before the restart
    assert len(job.seen) == 3 * BATCHES


def test_a_shared_dataset_counts_its_steps_and_shuffles_itself(tmp_path: Path, files: Path) -> None:
    context = Job(tmp_path, files).context(None)
    with pytest.raises(SpecError, match="does not shuffle a dataset of rows") as caught:
        context.share(tf.data.Dataset.range(100), batch=10, shuffle=True)
    assert caught.value.todo == "shuffle it before, with the same seed on every task: rows.shuffle(n, seed=…)"
    assert int(context.share(tf.data.Dataset.range(100), batch=10).cardinality()) == 10
