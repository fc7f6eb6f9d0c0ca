"""`Feed`: the data of one task, its part of the spec's datasets and of arrays, and where it stands in them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from cluster.checkpoints import Position
from cluster.coordinator import Leases
from cluster.datasets import Standing, Standings, Starts, read_plan
from cluster.errors import SpecError
from cluster.same_data import told
from cluster.spec import JobSpec
from cluster.spec_parts import DataSpec
from pipelines.leases import Desk
from pipelines.reader import Reader
from pipelines.shards import Line, Sharding
from pipelines.sources import Opened, open_source

#: Strategies under which a dataset yields one replica's batch (custom is taken for one of them).
SYNCHRONOUS = ("multi_worker_mirrored", "custom")


@dataclass
class Feed:
    """What one task reads; its methods are those of `cluster.context.TaskContext`, which describes them.

    Attributes:
        spec: the job's.
        strategy: the task's `tf.distribute` strategy, or None where the user's code makes one.
        workers: number of tasks that each read a share.
        shard: which share is this task's, from 0.
        alone: whether it reads all rows, as an evaluator does.
        resumes: whether the attempt goes on from a checkpoint.
        leases: on a coordinator, what its workers lease.
        note: shows the user a sentence.
        listed: tells the launcher what this task sees of data that it shares with others.
        epoch_now: the epoch that Keras' fit is in, while that is known.
        testing_now: whether Keras evaluates.
        steps_now: steps done by a fit that was told how many its epochs have, else None.
        standings: where the task stands in each dataset, if it is not on a coordinator.
        batch: rows of one step over all tasks: of the dataset that was trained on first, None before.
        made: how many shared datasets of each name there were.
        opened: the files of each dataset; they are looked at once, and with filters or `on_error` read once.
    """

    spec: JobSpec
    strategy: Any
    workers: int
    shard: int
    alone: bool
    resumes: bool
    leases: Leases | None
    note: Callable[[str], None]
    listed: Callable[..., None]
    epoch_now: Callable[[], int | None]
    testing_now: Callable[[], bool]
    steps_now: Callable[[], int | None]
    standings: Standings = field(default_factory=Standings)
    batch: int | None = None
    made: Counter[str] = field(default_factory=Counter)
    opened: dict[str, Opened] = field(default_factory=dict)

    @property
    def rows(self) -> Standings | Leases:
        """What knows which rows have been trained on."""
        return self.standings if self.leases is None else self.leases

    def settings(self, name: str) -> DataSpec:
        """The settings of one dataset of the spec.

        Raises:
            SpecError: the spec has no such dataset.
        """
        if name not in self.spec.data:
            known = ", ".join(self.spec.data) or "none"
            raise SpecError(f"the spec has no dataset {name!r}", f"known: {known}", f"add data.{name}")
        return self.spec.data[name]

    def dataset(self, name: str, *, shard: bool, start: Position | None) -> Any:
        """A dataset of the spec, as this task reads it."""
        data = self.settings(name)
        if not shard or self.alone:
            return self._whole(name, data)
        if self.leases is not None:
            return self._leased(self.leases, name, data, start)
        return self._shared(name, data, start)

    def share(self, data: Any, *, batch: int, shuffle: bool, seed: int, start: Position | None) -> Any:
        """This task's share of arrays, or of a dataset of rows."""
        import tensorflow as tf

        from pipelines.rows import array_dataset, array_reader, shared_rows

        if self.leases is not None:
            raise SpecError(
                "parameter-server workers cannot read the coordinator's memory",
                "ctx.share under parameter_server",
                "put the rows in files and use ctx.dataset",
            )
        sharding = Sharding(self.workers, self._per_replica(batch, "share(batch)"))
        if isinstance(data, tf.data.Dataset):
            if shuffle:
                todo = "shuffle it before, with the same seed on every task: rows.shuffle(n, seed=…)"
                raise SpecError("ctx.share does not shuffle a dataset of rows", "share(shuffle=True)", todo)
            return shared_rows(data, sharding, self.shard, per_step=self._batches_a_step())
        reader = array_reader(data, sharding, self.shard, shuffle=shuffle, seed=seed)
        self._list("ctx.share", reader)
        self._start(f"shared {len(self.standings.by_name)}", reader, start, batch)
        return array_dataset(data, reader, resumes=self.resumes, per_step=self._batches_a_step())

    def steps_per_epoch(self, name: str) -> int:
        """Steps in which all tasks together read every row once."""
        data = self.settings(name)
        return -(-self._reader(name, data, self._sharding(name, data), 0).batches // self._batches_a_step())

    def _whole(self, name: str, data: DataSpec) -> Any:
        """All rows, here, each iteration in the next epoch's order."""
        from pipelines.dataset import file_dataset

        reader = self._reader(name, data, Sharding(1, data.batch, data.remainder), 0)
        return file_dataset(reader, deterministic=data.deterministic)

    def _leased(self, leases: Leases, name: str, data: DataSpec, start: Position | None) -> Any:
        """Rows for whichever parameter-server worker iterates it, without end."""

        def reader(desk: Desk) -> Reader:
            return self._reader(name, data, self._sharding(name, data), 0, desk)

        self.batch = self.batch or data.batch
        return leases.dataset(name, reader, None if start is None else start.data.get(name))

    def _shared(self, name: str, data: DataSpec, start: Position | None) -> Any:
        """This task's share of the rows; an iteration may go on within an epoch."""
        from pipelines.dataset import file_dataset

        reader = self._reader(name, data, self._sharding(name, data), self.shard)
        self._list(f"data.{name}", reader)
        self._start(name, reader, start, data.batch, ordered=data.deterministic)
        steps = self._batches_a_step()
        return file_dataset(reader, deterministic=data.deterministic, resumes=self.resumes, per_step=steps)

    def _reader(self, name: str, data: DataSpec, sharding: Sharding, shard: int, desk: Desk | None = None) -> Reader:
        plan = read_plan(data, sharding, shard, desk)
        if name not in self.opened:
            self.opened[name] = open_source(plan.files, plan.request)
            if skipped := self.opened[name].skipped:
                self.note(f"data.{name}: {skipped}")
        return Reader(plan, self.opened[name])

    def _list(self, shown: str, reader: Reader) -> None:
        """Have the launcher compare what this task sees with what the others do, see `cluster.same_data`."""
        if self.workers > 1:
            self.listed(**told(shown, self.made[shown], reader))
        self.made[shown] += 1

    def _start(self, name: str, reader: Reader, position: Position | None, batch: int, *, ordered: bool = True) -> None:
        """Have the reader's iterations start where training stands; the first one at `position`, where there is one."""
        standing = self.standings.of(name, reader, self._batches_a_step(), ordered=ordered)
        first = 0 if position is None else _resumed(standing, position, name)
        shown = f"data.{name}" if name in self.spec.data else "ctx.share"
        starts = Starts(standing, self.epoch_now, self.testing_now, first, self.steps_now)

        def start_now(*, endless: bool = False) -> tuple[int, Line | None]:
            if not self.testing_now():
                self.batch = self.batch or batch
            known = standing.counted
            found = starts(endless=endless)
            if known and not standing.counted:
                self.note(
                    f"{shown}: its next epoch is begun before the steps of one are made, so that a restart begins an "
                    "epoch of the data anew; call repeat() on it before map(), cache() and the like"
                )
            return found

        reader.start_now, reader.start_endless = start_now, partial(start_now, endless=True)

    def _sharding(self, name: str, data: DataSpec) -> Sharding:
        """How the rows are shared out; where they are leased, not at all."""
        if self.leases is not None:
            return Sharding(1, data.batch, data.remainder)
        return Sharding(self.workers, self._per_replica(data.batch, f"data.{name}.batch"), data.remainder)

    def _per_replica(self, batch: int, seen: str) -> int:
        """Rows of one replica in one step, for a global batch."""
        if self.spec.strategy not in SYNCHRONOUS:
            return batch
        replicas = self.strategy.num_replicas_in_sync if self.strategy is not None else self.workers
        if batch % replicas:
            raise SpecError(
                "a global batch cannot be divided over the replicas",
                f"{seen} {batch} over {replicas} replicas",
                f"make it a multiple of {replicas}",
            )
        return int(batch // replicas)

    def _batches_a_step(self) -> int:
        """Batches of a shard that one step takes: one for each replica of this task."""
        if self.spec.strategy not in SYNCHRONOUS or self.strategy is None:
            return 1
        return int(self.strategy.num_replicas_in_sync // self.workers)


def _resumed(standing: Standing, position: Position, name: str) -> int:
    """The epoch of the position, which is that of the first iteration, also where nothing is left of it."""
    if name in position.data:
        standing.resume(position.epoch, position.batch, position.data[name], name)
    return position.epoch
