"""Save and restore what a job trains: TensorFlow checkpoints with the position in the training beside them."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from cluster.errors import StorageError
from cluster.stops import Stops
from cluster.storage import Stamps, delete_others, download_folder, upload_folder

PREFIX = "ckpt"
#: What the operating system says, and TensorFlow after it, where files cannot be written.
_UNWRITABLE = ("No space left on device", "Disk quota exceeded", "Read-only file system", "Permission denied")


@dataclass(frozen=True)
class Position:
    """How far a job is.

    Attributes:
        step: optimizer steps done.
        epoch: whole epochs done.
        batch: batches done by each worker since it began, or resumed, the epoch that follows; in a fit with
            `steps_per_epoch`, steps done of that epoch by all attempts.
        data: by dataset, the rows that were before all workers then (see `cluster.datasets`); filled in by `save`.
    """

    step: int
    epoch: int = 0
    batch: int = 0
    data: Mapping[str, Any] = field(default_factory=dict)


class Checkpointer:
    """Saves on the leader, restores on every task; every task of a collective strategy must call both.

    Args:
        objects: what `tf.train.Checkpoint` takes, such as `model=` and `optimizer=`.
        directory: a folder that TensorFlow can write: the run's own on the leader, a scratch one elsewhere.
        source: the folder to restore from; the run's own on all tasks.
        remote: the run's checkpoint folder on a remote storage that is copied to and from, or None.
        leader: whether this task's checkpoint is the one that counts.
        keep: checkpoints kept, the newest first.
        saved: is told each position that is safely stored.
        io_device: TensorFlow device that touches the files, or None for each variable's own.
        settle: waits until no step is in flight.
        stops: where all tasks save together before one of their nodes is lost, or None.
        data: where the datasets stand, for positions after so many batches of an epoch.
    """

    def __init__(
        self,
        objects: dict[str, Any],
        *,
        directory: Path,
        source: Path,
        remote: str | None,
        leader: bool,
        keep: int,
        saved: Callable[[Position], None],
        io_device: str | None = None,
        settle: Callable[[], None] = lambda: None,
        stops: Stops | None = None,
        data: Callable[[int], Mapping[str, Any]] = lambda batch: {},
    ) -> None:
        import tensorflow as tf

        self._source, self._remote, self._leader, self._saved = source, remote, leader, saved
        self._checkpoint = tf.train.Checkpoint(**objects)
        self._manager = tf.train.CheckpointManager(self._checkpoint, str(directory), keep, checkpoint_name=PREFIX)
        self._options = tf.train.CheckpointOptions(experimental_io_device=io_device)
        self._directory, self._data = directory, data
        self.settle = settle
        self._stops = stops
        self._step: int | None = None  # of the checkpoint that was restored or saved last
        self._uploaded: Stamps = {}

    def restore(self, expected: int | None = None) -> Position | None:
        """Load the newest checkpoint; None where there is none.

        Args:
            expected: a step that is known to be saved; not finding it, or a newer one, is an error, for a task
                that starts afresh beside tasks that resume would silently train another model.

        Raises:
            StorageError: `expected` cannot be seen from here.
        """
        if self._remote is not None:
            fetch_newest(self._remote, self._source)
        found = positions(self._source)
        if expected is not None and (not found or found[-1].step < expected):
            raise StorageError(
                f"checkpoint {expected} was saved, but this task cannot see it",
                self._remote or self._source,
                "put storage where every node can read it: a shared file system, s3:// or gs://",
            )
        if not found:
            return None
        status = self._checkpoint.restore(os.path.join(self._source, f"{PREFIX}-{found[-1].step}"), self._options)
        status.expect_partial()
        self._step = found[-1].step
        return found[-1]

    def wanted(self) -> bool:
        """Whether to save now, because one of the job's nodes is about to be lost.

        Ask it in a loop of your own after each step, on every task; all of them then hear it after the same step. Of
        the `save` that follows nobody comes back: the job goes on from there on other nodes.
        """
        return self._stops is not None and self._stops.come()

    def none_wanted(self) -> None:
        """Say that `wanted` is not asked any more, or not for a while."""
        if self._stops is not None:
            self._stops.none_follow()

    def save(self, position: Position) -> None:
        """Save under `position.step`, when no step is in flight; on the leader it is safely stored when this returns.

        Raises:
            StorageError: there is no space, or no right to write.
        """
        self.settle()
        moving = self._stops is not None and self._stops.saving
        if not moving or position.step != self._step:
            self._store(position)
        elif self._leader:  # no step has been made since
            self._saved(position)
        self._step = position.step
        if self._stops is not None:
            self._stops.stay()

    def _store(self, position: Position) -> None:
        with storing(f"checkpoint {position.step}", self._directory):
            self._manager.save(checkpoint_number=position.step, options=self._options)
            if not self._leader:
                return
            if not position.data:
                position = replace(position, data=self._data(position.batch))
            write_position(self._directory, position)
        forget_deleted(self._directory)
        if self._remote is not None:
            upload_folder(self._directory, self._remote, self._uploaded)
            delete_others(self._remote, {path.name for path in self._directory.iterdir()})
        self._saved(position)


@contextlib.contextmanager
def storing(what: str, folder: Path) -> Iterator[None]:
    """Have a disk that takes no more tell so in a sentence, where TensorFlow writes `what` to `folder`.

    Raises:
        StorageError: in the place of TensorFlow's error.
    """
    try:
        yield
    except Exception as error:
        sign = next((sign for sign in _UNWRITABLE if sign in str(error)), None)
        if sign is None:
            raise
        raise StorageError(f"{what} could not be saved", f"{folder}: {sign}", "free some space there") from None


def fetch_newest(remote: str, folder: Path, step: int | None = None) -> None:
    """Copy the newest checkpoint of a remote run, or the one of `step`, into `folder`."""
    download_folder(remote, folder, lambda name: name.endswith(".json"))
    steps = [int(path.stem.rsplit("-", 1)[1]) for path in folder.glob(f"{PREFIX}-*.json")]
    if steps:
        wanted = f"{PREFIX}-{max(steps) if step is None else step}."
        download_folder(remote, folder, lambda name: name.startswith(wanted))


def write_position(folder: Path, position: Position) -> None:
    """Put `position` beside its checkpoint; the checkpoint counts from now on."""
    temporary = folder / f".{PREFIX}-{position.step}.json"
    temporary.write_text(json.dumps(asdict(position)))
    os.replace(temporary, folder / f"{PREFIX}-{position.step}.json")


def positions(folder: Path) -> list[Position]:
    """The positions of the complete checkpoints in `folder`, oldest first."""
    found = []
    for path in folder.glob(f"{PREFIX}-*.json"):
        if path.with_suffix(".index").exists():
            found.append(Position(**json.loads(path.read_text())))
    return sorted(found, key=lambda position: position.step)


def forget_deleted(folder: Path) -> None:
    """Remove positions whose checkpoint is gone."""
    for path in folder.glob(f"{PREFIX}-*.json"):
        if not path.with_suffix(".index").exists():
            path.unlink(missing_ok=True)
