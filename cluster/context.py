"""`TaskContext`: the only thing a train function sees, and how a task reports."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.channel import Channel
from cluster.checkpoints import Checkpointer, Position, storing
from cluster.coordinator import Leases
from cluster.feed import Feed
from cluster.held import fetched, held
from cluster.launch import Launch
from cluster.locations import join
from cluster.reports import Reports, metrics_of, step_of, total_of
from cluster.spec import JobSpec
from cluster.spec_parts import DataSpec
from cluster.stops import Stops
from cluster.storage import RunDirectory, upload_folder
from cluster.uploads import Uploads
from cluster.window import Window


@dataclass
class TaskContext:
    """One task of a running job.

    Attributes:
        strategy: the `tf.distribute` strategy of the spec; with `custom`, None: the function makes its own.
        coordinator: a `tf.distribute.coordinator.ClusterCoordinator` under parameter_server, else None. Its `join` also
            settles which rows have been trained on.
        epoch: the epoch that `fit` is in, from 0, while the callbacks know one.
        testing: whether `fit` or `evaluate` is evaluating, while the callbacks know.
        steps: steps done by a `fit` with `steps_per_epoch`, while the callbacks count them; else None.
    """

    _launch: Launch
    _channel: Channel
    _scratch: Path
    _storage: RunDirectory
    strategy: Any
    coordinator: Any = None
    epoch: int | None = None
    testing: bool = False
    steps: int | None = None
    _leases: Leases | None = None

    def __post_init__(self) -> None:
        profile = self.spec.profile
        self._window = Window(self._channel, profile.steps if profile is not None and self.is_leader else None)
        self._stops = Stops(self._channel)
        self._uploads = self._tensorboard_uploads()
        self._feed = Feed(
            spec=self.spec,
            strategy=self.strategy,
            workers=self.worker_count,
            shard=self.shard,
            alone=self.role == "evaluator",
            resumes=self.expected_checkpoint is not None,
            leases=self._leases,
            note=self.note,
            listed=lambda **data: self._channel.send("data_listed", **data),
            epoch_now=lambda: self.epoch,
            testing_now=lambda: self.testing,
            steps_now=lambda: self.steps,
        )
        self._reports = Reports(
            self._channel, leader=self.is_leader, tasks=self.worker_count, batch=lambda: self._feed.batch
        )

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

    def _tensorboard_uploads(self) -> Uploads | None:
        """Brings TensorBoard's files to a remote run directory, where this task writes some."""
        remote = self._remote("tensorboard")
        if remote is None or not (self.is_leader or self.role == "evaluator"):
            return None
        return Uploads(self._folder("tensorboard"), join(remote, self.role) if self.role == "evaluator" else remote)

    def _remote(self, name: str) -> str | None:
        return None if self._storage.is_local else join(self.run_dir, name)

    # Data

    def data(self, name: str) -> DataSpec:
        """The settings of one dataset of the spec.

        Raises:
            SpecError: the spec has no such dataset.
        """
        return self._feed.settings(name)

    def dataset(self, name: str, *, shard: bool = True, start: Position | None = None) -> Any:
        """A dataset of the spec as a `tf.data.Dataset` of batches: `{column: [rows]}`, or with a label a pair.

        With `shard`, this task's share of the rows, each row on exactly one task and the same number of batches on
        each, one batch a replica and step: `batch / replicas` rows. Under parameter_server, for a function given to
        `coordinator.create_per_worker_dataset`: `batch` rows a step, without end, whichever worker is free taking the
        next ones, so that each row is on one worker in every epoch of the data.

        Args:
            name: of the dataset in the spec's `data`.
            shard: False reads all rows here, `batch` at a time.
            start: in a loop of your own, the position that `checkpointer(…).restore()` returned: the first iteration
                then has the rows of its epoch that no task had trained on. With `callbacks()` that goes by itself.
                Under parameter_server the first dataset of that name heeds it.

        Raises:
            SpecError: no such dataset, or its batch cannot be divided over the replicas.
            DataError: the files cannot be read as one table.
        """
        return self._feed.dataset(name, shard=shard, start=start)

    def share(
        self, data: Any, *, batch: int, shuffle: bool = False, seed: int = 0, start: Position | None = None
    ) -> Any:
        """This task's share of data that the program has already, as a `tf.data.Dataset` of batches.

        As with `dataset`, each row is on exactly one task, and all tasks have the same number of batches.

        Args:
            data: a structure of arrays or tensors `[rows, …]`, such as `(x, y)`; or a `tf.data.Dataset` whose elements
                are rows, in the same order on every task and of known cardinality.
            batch: global batch, as in the spec's `data`.
            shuffle: another order of rows in each epoch, for arrays; a dataset shuffles itself.
            seed: of that order.
            start: for arrays, as with `dataset`; a `tf.data.Dataset` of rows begins its epoch anew.

        Raises:
            SpecError: under parameter_server, whose workers cannot see this task's memory; or `shuffle` of a dataset.
            DataError: the data cannot be shared out.
        """
        return self._feed.share(data, batch=batch, shuffle=shuffle, seed=seed, start=start)

    def resume(self, position: Position) -> int:
        """Have the datasets that were made so far go on at `position`; the epoch that training goes on in."""
        self.epoch = self._feed.rows.resume(position.epoch, position.batch, position.data)
        return self.epoch

    def batches_done(self, epoch: int) -> int:
        """By how many batches a resumed `epoch` is shorter than a whole one."""
        return self._feed.rows.batches_done(epoch)

    def batches_left(self, epoch: int) -> int:
        """How many batches of `epoch` this task has before it."""
        return self._feed.rows.batches_left(epoch)

    def check_fresh(self, epoch: int) -> None:
        """Refuse an epoch, within which steps are made, whose data are the rest of another one.

        Raises:
            SpecError: a cache holds them.
        """
        self._feed.standings.check_fresh(epoch, self.steps)

    def steps_per_epoch(self, name: str) -> int:
        """Steps in which all tasks together read every row of a dataset of the spec once.

        Raises:
            SpecError, DataError: as `dataset`.
        """
        return self._feed.steps_per_epoch(name)

    def dataset_creator(self, name: str) -> Any:
        """A dataset of the spec for tf-keras' `fit` on parameter servers; `fit` needs `steps_per_epoch` with it.

        Raises:
            SpecError: no such dataset.
        """
        from cluster.parameter_server import dataset_creator

        return dataset_creator(lambda: self.dataset(name), repeat=False)

    # Reports

    @property
    def total_steps(self) -> int | None:
        """Steps of the whole training, those before a restart too, as the train function has said it; None: it has not.

        For a progress bar and the time left in a loop of your own; Keras' `fit` tells its own where nothing is set.
        What counts is the leader's; on other tasks and on the evaluator setting it does nothing.

        Raises:
            SpecError: when set to what is no whole number above 0.
        """
        return self._reports.total

    @total_steps.setter
    def total_steps(self, steps: int) -> None:
        self._reports.total = total_of(steps)

    def report(self, step: int, **metrics: float) -> None:
        """Report progress and metrics; call it as often as you like, at most ten a second are sent.

        On the evaluator the metrics belong to the checkpoint at hand, and are sent when it is done with.

        Raises:
            SpecError: `step` is no whole number, 0 or more, or a metric is no number; NaN and infinities are.
        """
        step, found = step_of(step), metrics_of(metrics)
        self._window.before(step + 1)
        self._reports.keep(step, found)
        if self.role != "evaluator":
            self._reports.flush(if_due=True)

    def profile(self, tasks: Sequence[str] | None = None) -> AbstractContextManager[None]:
        """Trace the tasks of the job while a block of the leader runs: `with ctx.profile(): …`.

        Training waits until every task records. On other tasks it does nothing. Where a capture goes on already, the
        block runs without one, and the user is told.

        Args:
            tasks: names or roles, such as `worker-0` or `ps`; default: some of each role but the evaluator,
                16 in all.
        """
        return self._window.block(None if tasks is None else tuple(tasks)) if self.is_leader else nullcontext()

    def flush(self) -> None:
        """Send the last report, if it was held back."""
        self._reports.flush()

    def send_step(self, step: int, metrics: dict[str, float], **more: Any) -> None:
        """Send one `step` event now."""
        self._reports.send(step, metrics, **more)

    def report_seconds(self, least: float) -> float:
        """Shortest time between two reports of this task: `least`, or more, if there are many tasks."""
        return self._reports.every(least)

    def note(self, text: str) -> None:
        """Show the user a sentence."""
        if self.is_leader:
            self._channel.send("notice", text=text)

    # Checkpoints and models

    def callbacks(self, *, graph: bool = True, histograms: int = 0) -> list[Any]:
        """Keras callbacks for `fit`: restore and checkpoint, progress, TensorBoard (on the leader).

        Args:
            graph: write the model's graph for TensorBoard, after the first epoch.
            histograms: write histograms of the weights every so many epochs; 0 writes none.
        """
        from cluster.callbacks import make_callbacks

        return make_callbacks(self, graph=graph, histograms=histograms)

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
            settle=self.coordinator.join if self.coordinator is not None else lambda: None,
            stops=self._stops,
            data=lambda batch: self._feed.rows.to_dict(batch, self.epoch, self.steps),
        )

    def _saved(self, position: Position) -> None:
        self._channel.send(
            "checkpoint", step=position.step, epoch=position.epoch, path=join(self.run_dir, "checkpoints")
        )

    def checkpoints(self) -> Iterator[str]:
        """On the evaluator: the path of each new checkpoint as it is saved, ending after the last one.

        Where several were saved meanwhile, only the newest comes. `tf.train.Checkpoint.read` or `restore`
        takes the path, which is there until the next one is asked for; then it counts as evaluated.
        """
        while (step := self._channel.next_checkpoint()) is not None:
            with self._held(step) as path:
                if path is None:  # pruned meanwhile, so there is a newer one
                    continue
                yield path
                self._channel.send("evaluated", step=step, metrics=self._reports.taken())

    def _held(self, step: int) -> AbstractContextManager[str | None]:
        if self._storage.is_local:
            return held(self._storage.local / "checkpoints", step, self._scratch)
        return fetched(join(self.run_dir, "checkpoints"), step, self._scratch)

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
        self._window.close()
        if self._leases is not None:
            self._leases.close()
        if self.role != "evaluator":
            self.flush()
        if self._uploads is not None:
            self._uploads.close()
