"""`TaskContext`: the only thing a train function sees, and how a task reports."""

from __future__ import annotations

import os
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cluster import strategy as strategies
from cluster.channel import Channel
from cluster.checkpoints import PREFIX, Checkpointer, Position, fetch_newest, storing
from cluster.datasets import Standing, Standings, Starts, read_plan
from cluster.errors import SpecError
from cluster.launch import Launch
from cluster.locations import join
from cluster.per_worker import respect_per_worker_batches
from cluster.repairs import repair
from cluster.spec import DataSpec, JobSpec
from cluster.storage import RunDirectory, upload_folder
from pipelines.reader import Reader
from pipelines.shards import Sharding

#: `report` sends at most one step in this many seconds; the last is never lost.
REPORT_SECONDS = 0.1
#: Strategies under which a dataset of `ctx.dataset` yields one replica's batch (custom is taken for one of them).
SYNCHRONOUS = ("multi_worker_mirrored", "custom")


@dataclass
class TaskContext:
    """One task of a running job.

    Attributes:
        strategy: the `tf.distribute` strategy of the spec; with `custom`, None: the function makes its own.
        coordinator: a `tf.distribute.coordinator.ClusterCoordinator` under parameter_server, else None.
        epoch: the epoch that `fit` is in, from 0, while the callbacks know one.
        testing: whether `fit` or `evaluate` is evaluating, while the callbacks know.
    """

    _launch: Launch
    _channel: Channel
    _scratch: Path
    _storage: RunDirectory
    strategy: Any
    coordinator: Any = None
    epoch: int | None = None
    testing: bool = False
    _standings: Standings = field(default_factory=Standings)
    _unsent: dict[str, Any] | None = None
    _sent_at: float = field(default=0.0)

    @property
    def spec(self) -> JobSpec:
        """The job's spec."""
        return self._launch.spec

    @property
    def role(self) -> str:
        """`chief`, `worker` or `evaluator`."""
        return self._launch.task.role

    @property
    def index(self) -> int:
        """Index among the tasks of the same role."""
        return self._launch.task.index

    @property
    def attempt(self) -> int:
        """1 at first; one more after every restart of the whole job."""
        return self._launch.attempt

    @property
    def is_leader(self) -> bool:
        """Whether this task writes what a job writes once: it is the chief, or worker 0 where there is none."""
        return self._launch.leader

    @property
    def is_chief(self) -> bool:
        """The same as `is_leader`, by the name that TensorFlow users know."""
        return self.is_leader

    @property
    def worker_count(self) -> int:
        """Number of tasks that each read a shard of the data."""
        return self._launch.workers

    @property
    def shard(self) -> int:
        """This task's shard of the data, below `worker_count`: the chief, where it trains, then the workers."""
        chief = self.spec.replicas("chief") if self.spec.strategy != "parameter_server" else 0
        return 0 if self.role in ("chief", "evaluator") else self.index + chief

    @property
    def keras(self) -> str:
        """`"2"` (tf-keras) or `"3"`."""
        return self._launch.keras

    @property
    def run_dir(self) -> str:
        """The run directory, a path or URI."""
        return self._launch.run_dir

    @property
    def expected_checkpoint(self) -> int | None:
        """Step of the checkpoint that this attempt starts from, or None for a fresh start."""
        return self._launch.checkpoint

    @property
    def checkpoint_dir(self) -> str:
        """A local folder for checkpoints: the run's own on the leader, a scratch folder on other tasks."""
        return str(self._folder("checkpoints"))

    @property
    def tensorboard_dir(self) -> str:
        """A local folder for TensorBoard's event files, brought to the run directory."""
        return str(self._folder("tensorboard"))

    @property
    def export_dir(self) -> str:
        """A local folder for exported models, brought to the run directory by `export`."""
        return str(self._folder("export"))

    def _folder(self, name: str) -> Path:
        writes = self.is_leader or (self.role == "evaluator" and name == "tensorboard")
        base = self._storage.local if writes and self._storage.is_local else self._scratch
        folder = base / name / self.role if self.role == "evaluator" else base / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _remote(self, name: str) -> str | None:
        return None if self._storage.is_local else join(self.run_dir, name)

    # Data

    def data(self, name: str) -> DataSpec:
        """The settings of one dataset of the spec.

        Raises:
            SpecError: the spec has no such dataset.
        """
        if name not in self.spec.data:
            known = ", ".join(self.spec.data) or "none"
            raise SpecError(f"the spec has no dataset {name!r}", f"known: {known}", f"add data.{name}")
        return self.spec.data[name]

    def dataset(self, name: str, *, shard: bool = True, start: Position | None = None) -> Any:
        """A dataset of the spec as a `tf.data.Dataset` of batches: `{column: [rows]}`, or with a label a pair.

        With `shard`, this task's share of the rows, each row on exactly one task and the same number of batches on
        each, one batch a replica and step: `batch / replicas` rows. Under parameter_server the share of whichever
        worker iterates it, without end, `batch` rows a step: for `coordinator.create_per_worker_dataset`.

        Args:
            name: of the dataset in the spec's `data`.
            shard: False reads all rows here, `batch` at a time.
            start: in a loop of your own, the position that `checkpointer(…).restore()` returned: the first iteration
                then has the rows of its epoch that no task had trained on. With `callbacks()` that goes by itself.

        Raises:
            SpecError: no such dataset, or its batch cannot be divided over the replicas.
            DataError: the files cannot be read as one table.
        """
        data = self.data(name)
        if not shard or self.role == "evaluator":
            return self._whole_dataset(name, data)
        if self.coordinator is not None:
            return self._served_dataset(name, data)
        return self._shared_dataset(name, data, start)

    def _whole_dataset(self, name: str, data: DataSpec) -> Any:
        """All rows, here, each iteration in the next epoch's order."""
        from pipelines.dataset import file_dataset

        reader = Reader(read_plan(data, Sharding(1, data.batch, data.remainder), 0))
        self._tell_skipped(name, reader)
        return file_dataset(reader, deterministic=data.deterministic)

    def _served_dataset(self, name: str, data: DataSpec) -> Any:
        """The share of whichever parameter-server worker iterates it, without end."""
        from pipelines.dataset import file_dataset

        reader = Reader(read_plan(data, Sharding(self.spec.replicas("worker"), data.batch, data.remainder), None))
        self._tell_skipped(name, reader)
        return file_dataset(reader, repeat=True, deterministic=data.deterministic)

    def _shared_dataset(self, name: str, data: DataSpec, start: Position | None) -> Any:
        """This task's share of the rows; an iteration may go on within an epoch."""
        from pipelines.dataset import file_dataset

        batch = self._per_replica(data.batch, f"data.{name}.batch")
        reader = Reader(read_plan(data, Sharding(self.worker_count, batch, data.remainder), self.shard))
        self._tell_skipped(name, reader)
        standing = self._standings.of(name, reader, self._batches_a_step())
        first = 0 if start is None else self._resume_one(standing, start, name)
        reader.start_now = Starts(standing, lambda: self.epoch, lambda: self.testing, first)
        resumes = self.expected_checkpoint is not None
        steps = self._batches_a_step()
        return file_dataset(reader, deterministic=data.deterministic, resumes=resumes, per_step=steps)

    def _batches_a_step(self) -> int:
        """Batches of a shard that one step takes: one for each replica of this task."""
        if self.spec.strategy not in SYNCHRONOUS or self.strategy is None:
            return 1
        return int(self.strategy.num_replicas_in_sync // self.worker_count)

    def _tell_skipped(self, name: str, reader: Reader) -> None:
        if reader.skipped:
            self.note(f"data.{name}: {reader.skipped}")

    def share(self, data: Any, *, batch: int, shuffle: bool = False, seed: int = 0) -> Any:
        """This task's share of data that the program has already, as a `tf.data.Dataset` of batches.

        As with `dataset`, each row is on exactly one task, and all tasks have the same number of batches.

        Args:
            data: a structure of arrays or tensors `[rows, …]`, such as `(x, y)`; or a `tf.data.Dataset` whose elements
                are rows, in the same order on every task and of known cardinality.
            batch: global batch, as in the spec's `data`.
            shuffle: another order of rows in each epoch; a dataset shuffles itself.
            seed: of that order.

        Raises:
            SpecError: under parameter_server, whose workers cannot see this task's memory.
            DataError: the data cannot be shared out.
        """
        import tensorflow as tf

        from pipelines.rows import array_dataset, array_reader, shared_rows

        if self.coordinator is not None:
            raise SpecError(
                "parameter-server workers cannot read the coordinator's memory",
                "ctx.share under parameter_server",
                "put the rows in files and use ctx.dataset",
            )
        sharding = Sharding(self.worker_count, self._per_replica(batch, "share(batch)"))
        if isinstance(data, tf.data.Dataset):
            return shared_rows(data, sharding, self.shard)
        reader = array_reader(data, sharding, self.shard, shuffle=shuffle, seed=seed)
        steps = self._batches_a_step()
        standing = self._standings.of(f"shared {len(self._standings.by_name)}", reader, steps)
        reader.start_now = Starts(standing, lambda: self.epoch, lambda: self.testing, 0)
        return array_dataset(data, reader, resumes=self.expected_checkpoint is not None, per_step=steps)

    def _resume_one(self, standing: Standing, position: Position, name: str) -> int:
        """The epoch of the position, which is that of the first iteration, also where nothing is left of it."""
        if name in position.data:
            standing.resume(position.epoch, position.batch, position.data[name], name)
        return position.epoch

    def resume(self, position: Position) -> int:
        """Have the datasets that were made so far go on at `position`; the epoch that training goes on in."""
        self.epoch = self._standings.resume(position.epoch, position.batch, position.data)
        return self.epoch

    def batches_done(self, epoch: int) -> int:
        """By how many batches a resumed `epoch` is shorter than a whole one."""
        return self._standings.batches_done(epoch)

    def batches_left(self, epoch: int) -> int:
        """How many batches of `epoch` this task has before it."""
        return self._standings.batches_left(epoch)

    def _per_replica(self, batch: int, seen: str) -> int:
        """Rows of one replica in one step, for a global batch."""
        if self.spec.strategy not in SYNCHRONOUS:
            return batch
        replicas = self.strategy.num_replicas_in_sync if self.strategy is not None else self.worker_count
        if batch % replicas:
            raise SpecError(
                "a global batch cannot be divided over the replicas",
                f"{seen} {batch} over {replicas} replicas",
                f"make it a multiple of {replicas}",
            )
        return int(batch // replicas)

    def dataset_creator(self, name: str) -> Any:
        """A dataset of the spec for tf-keras' `fit` on parameter servers; `fit` needs `steps_per_epoch` with it.

        Raises:
            SpecError: no such dataset.
        """
        from cluster.parameter_server import dataset_creator

        return dataset_creator(lambda: self.dataset(name), repeat=False)

    # Reports

    def report(self, step: int, **metrics: float) -> None:
        """Report progress and metrics; call it as often as you like, at most ten a second are sent.

        On the evaluator the metrics belong to the checkpoint at hand, and are sent when it is done with.
        """
        self._unsent = {"step": int(step), "metrics": {name: float(value) for name, value in metrics.items()}}
        if self.role != "evaluator" and time.monotonic() - self._sent_at >= REPORT_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Send the last report, if it was held back."""
        if self._unsent is not None:
            self._channel.send("step", **self._unsent)
            self._unsent, self._sent_at = None, time.monotonic()

    def send_step(self, step: int, metrics: dict[str, float], **more: Any) -> None:
        """Send one `step` event now."""
        self._channel.send("step", step=step, metrics=metrics, **more)

    def note(self, text: str) -> None:
        """Show the user a sentence."""
        if self.is_leader:
            self._channel.send("notice", text=text)

    # Checkpoints and models

    def callbacks(self) -> list[Any]:
        """Keras callbacks for `fit`: restore and checkpoint, progress, TensorBoard (on the leader)."""
        from cluster.callbacks import make_callbacks

        return make_callbacks(self)

    def checkpointer(self, **objects: Any) -> Checkpointer:
        """Save and restore `objects` in a loop of your own; `callbacks()` does it for Keras' fit."""
        source = self._storage.local / "checkpoints" if self._storage.is_local else self._scratch / "restored"
        return Checkpointer(
            objects,
            directory=self._folder("checkpoints"),
            source=source,
            remote=self._remote("checkpoints"),
            leader=self.is_leader,
            keep=self.spec.checkpoint.keep,
            saved=self._saved,
            io_device="/job:chief/task:0/device:CPU:0" if self.coordinator is not None else None,
            data=lambda batch: self._standings.to_dict(batch, self.epoch),
        )

    def _saved(self, position: Position) -> None:
        self._channel.send(
            "checkpoint", step=position.step, epoch=position.epoch, path=join(self.run_dir, "checkpoints")
        )

    def checkpoints(self) -> Iterator[str]:
        """On the evaluator: the path of each new checkpoint as it is saved, ending after the last one.

        Where several were saved meanwhile, only the newest comes. `tf.train.Checkpoint.read` or `restore`
        takes the path. A path counts as evaluated when the next one is asked for.
        """
        step = self._channel.next_checkpoint()
        while step is not None:
            folder = self._storage.local / "checkpoints"
            if not self._storage.is_local:
                folder = self._scratch / "restored"
                fetch_newest(join(self.run_dir, "checkpoints"), folder, step)
            yield os.fspath(folder / f"{PREFIX}-{step}")
            self._channel.send("evaluated", step=step, metrics=self._evaluated_metrics())
            step = self._channel.next_checkpoint()

    def _evaluated_metrics(self) -> dict[str, float]:
        metrics = dict(self._unsent["metrics"]) if self._unsent else {}
        self._unsent = None
        return metrics

    def export(self, model: Any, name: str = "model") -> str:
        """Save `model` for serving below the run directory's `export/`; every training task must call it.

        Keras 3 models are exported by `model.export` (a SavedModel with a `serve` endpoint), tf-keras models by
        `model.save`. On tasks other than the leader it goes to a scratch folder: variables that are read
        together must be saved together.

        Returns:
            The path or URI of the exported model.
        """
        target = self._folder("export") / name
        with storing(f"the model {name}", target.parent):
            if self.keras == "2":
                model.save(os.fspath(target))
            else:
                model.export(os.fspath(target), verbose=False)
        remote = self._remote("export")
        if remote is not None and self.is_leader:
            upload_folder(target, join(remote, name))
        return join(self.run_dir, "export", name)

    def close(self) -> None:
        """Send what was held back; bring TensorBoard's files to a remote run directory."""
        if self.role != "evaluator":
            self.flush()
        remote = self._remote("tensorboard")
        if remote is not None and self.is_leader:
            upload_folder(self._folder("tensorboard"), remote)
        elif remote is not None and self.role == "evaluator":
            upload_folder(self._folder("tensorboard"), join(remote, self.role))


def _seed_alike(launch: Launch) -> None:
    """Give every task the same random state.

    Keras shuffles arrays on each worker before it takes the worker's share: other orders would skip some rows and
    repeat others.
    """
    from cluster.callbacks import keras_module

    seed = zlib.crc32(f"{launch.run_dir} {launch.attempt}".encode())
    keras_module(launch.keras).utils.set_random_seed(seed)


def open_context(launch: Launch, channel: Channel, scratch: str) -> TaskContext:
    """Settle precision and strategy, which waits for the other tasks, and make the context."""
    spec = launch.spec
    strategies.apply_log_level(spec.log_level)
    strategies.apply_precision(spec.precision, launch.keras)
    repair()
    respect_per_worker_batches()
    if spec.strategy == "multi_worker_mirrored":
        _seed_alike(launch)
    evaluates = launch.task.role == "evaluator"
    name = "none" if evaluates else spec.strategy
    strategy = None if name == "custom" else strategies.make_strategy(name, spec.partition)
    coordinator = None
    if name == "parameter_server":
        import tensorflow as tf

        from cluster.parameter_server import explain_keras3_fit

        coordinator = tf.distribute.coordinator.ClusterCoordinator(strategy)
        if launch.keras == "3":
            explain_keras3_fit()
    storage = RunDirectory(launch.run_dir, Path(scratch, "run"))
    return TaskContext(launch, channel, Path(scratch), storage, strategy, coordinator)
