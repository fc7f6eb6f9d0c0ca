"""What a task reads of the spec's datasets, where it stands in them, and where it goes on after a restart."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from cluster.errors import SpecError
from cluster.spec_parts import DataSpec
from pipelines import shards
from pipelines.errors import DataError
from pipelines.layout import Request
from pipelines.leases import Desk
from pipelines.listing import digest
from pipelines.reader import Reader, ReadPlan
from pipelines.shards import Line, Sharding, Span
from pipelines.sources import Files


def read_plan(data: DataSpec, sharding: Sharding, shard: int = 0, desk: Desk | None = None) -> ReadPlan:
    """What one shard reads of a dataset of the spec, or what a worker reads that leases its rows at `desk`."""
    return ReadPlan(files_of(data), request_of(data), sharding, shard, data.shuffle, data.seed, desk=desk)


def check_unchanged(name: str, then: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuse a position of other rows than those at hand.

    Args:
        name: of the dataset.
        then: `rows`, their number, `order`, what their order is of, and `listing`, the digest of their files, which
            positions of earlier versions do not have.
        now: the same of the rows at hand.

    Raises:
        DataError: they differ.
    """
    counted, same_files = (then["rows"], then["order"]), then.get("listing") in (None, now["listing"])
    if counted == (now["rows"], now["order"]) and same_files:
        return
    seen = f"{then['rows']} rows, {then['order']}; now {now['rows']} rows, {now['order']}"
    if not same_files:
        seen += ", in files of other names or with other row groups"
    todo = "put the files and the order back, or start a new run"
    raise DataError(f"data.{name} is not what it was when the checkpoint was written", seen, todo)


def files_of(data: DataSpec) -> Files:
    """The files of a dataset of the spec."""
    return Files(data.patterns, data.format, data.features, data.on_error, data.engine)


def request_of(data: DataSpec) -> Request:
    """The columns that a dataset of the spec asks for."""
    return Request(
        columns=data.columns,
        label=data.label,
        casts=data.casts,
        fill=data.fill,
        masks=data.masks,
        pack=data.pack,
        nested=data.structs == "nested",
        filters=data.filters,
    )


@dataclass
class Standing:
    """Where the tasks of a job stand in one dataset: the same on all of them, for all do the same batches.

    Attributes:
        rows: of the whole dataset.
        sharding: how this attempt shares them out.
        order: what the order of rows depends on besides the epoch; a position is worth nothing under another.
        listing: digest of the files that hold them, see `pipelines.listing`.
        ordered: whether batches come in that order; where they do not, the number of those that were trained on does
            not tell which, so only positions between epochs are known.
        line: the rows that were before all tasks when the latest iteration of training began.
        resumed: the epoch that was resumed, and what is left of it.
        per_step: batches that a task takes in one step: one for each of its replicas.
        ahead: whether that is a later epoch than the one that the latest iteration is of, and which is over therefore.
        epoch: of the latest iteration of training.
        since: steps that a fit which counts its own had done when that iteration began; None in other loops.
        counted: whether every batch of these iterations is a step of theirs, one iteration after the other.
        endless: whether that iteration goes on with the next epoch, and the next, without another one that begins.
    """

    rows: int
    sharding: Sharding
    order: Mapping[str, Any]
    listing: str = ""
    ordered: bool = True
    line: Line = ()
    resumed: tuple[int, Line] | None = None
    per_step: int = 1
    ahead: bool = False
    epoch: int = -1
    since: int | None = None
    counted: bool = True
    endless: bool = False

    @property
    def batches(self) -> int:
        """Batches of a whole epoch on each task."""
        return shards.batch_count(self.rows, self.sharding)

    def begin(self, epoch: int, *, resumes: bool, steps: int | None = None) -> tuple[int, Line | None]:
        """Start an iteration of `epoch`; of an epoch before the one that is resumed nothing is left.

        Args:
            epoch: that training is in.
            resumes: whether it may go on within it, as training does.
            steps: done so far by a fit that was told how many steps its epochs have, which are not those of the data.
        """
        if not resumes:
            return epoch, None
        if self.endless:  # which is over, wherever it was
            self.endless, self.since = False, None
        if steps is not None:
            epoch = self._count(epoch, steps)
        self.epoch = epoch
        at, rest = self.resumed or (-1, ())
        self.ahead = epoch < at
        self.line = rest if epoch <= at else shards.whole(epoch, self.rows)
        return epoch, () if self.ahead else self.line if epoch == at else None

    def _count(self, epoch: int, steps: int) -> int:
        """Count the steps of the iteration that begins now; the epoch of the data that it is.

        Where the one before it is over, or in its last step, for Keras makes the next one then, it is the next epoch.
        Where that is not over it was begun ahead, as `repeat` does, and nobody can tell when its first batch is used.
        """
        if self.since is not None:
            end = self.since + self.steps_in(self.line)
            if steps >= end - 1:
                epoch, steps = max(epoch, self.epoch + 1), max(steps, end)
            else:
                self.counted = False
        self.since = steps
        return epoch

    def begin_endless(self, epoch: int, *, resumes: bool, steps: int | None = None) -> tuple[int, Line | None]:
        """Start an iteration that goes on without end, with `epoch` or what is left of a resumed one; see `begin`."""
        if not resumes:
            return epoch, None
        at, rest = self.resumed or (-1, ())
        self.line = rest if epoch <= at else shards.whole(epoch, self.rows)
        self.epoch, self.since, self.endless, self.counted, self.ahead = max(at, epoch), steps, True, True, False
        return self.epoch, self.line

    def steps_in(self, line: Line) -> int:
        """Steps that a line has."""
        rows = shards.rows_in(line)
        return -(-shards.batch_count(rows, self.sharding) // self.per_step) if rows else 0

    def at(self, steps: int) -> tuple[Line, int] | None:
        """What is read after `steps` of the fit, and how many batches of it are done; None where that is not known."""
        if self.since is None or not self.counted:
            return None
        done = steps - self.since
        if self.endless:
            return self.after(done)
        return (self.line, done * self.per_step) if 0 < done < self.steps_in(self.line) else None

    def after(self, steps: int) -> tuple[Line, int]:
        """What is read after `steps` of an iteration without end, and how many batches of it are done.

        A step of several replicas may take the last batch of one epoch and the first of the next.
        """
        done, rows = steps * self.per_step, shards.rows_in(self.line)
        here = shards.batch_count(rows, self.sharding) if rows else 0
        if done < here:
            return self.line, done
        passes, done = divmod(done - here, self.batches)
        return shards.nth_pass(self.line, 1 + passes, self.rows), done

    def is_stale(self, epoch: int, steps: int | None) -> bool:
        """Whether `epoch` is trained on without an iteration of its own: on what a cache has of the resumed one.

        `steps` are those of `begin`; a step more than there is may be counted where data run out.
        """
        at, rest = self.resumed or (self.epoch - 1, ())
        if self.ahead or self.endless or not 0 <= self.epoch <= at or rest == shards.whole(at, self.rows):
            return False
        if steps is None or self.since is None:
            return epoch > at
        return steps > self.since + self.steps_in(rest) + 1

    def to_dict(self, at: tuple[Line, int] | None = None) -> dict[str, Any]:
        """Plain values for a position; `at`, where it is known, is what the method of that name tells."""
        sharding = {"shards": self.sharding.shards, "batch": self.sharding.batch, "remainder": self.sharding.remainder}
        line, more = (self.line, {"per_step": self.per_step}) if at is None else (at[0], {"per_step": 1, "done": at[1]})
        return {**self._rows(), "sharding": sharding, "line": line, **more}

    def _rows(self) -> dict[str, Any]:
        """What a position must be of to be worth something."""
        return {"rows": self.rows, "order": dict(self.order), "listing": self.listing}

    def resume(self, epoch: int, batch: int, saved: Mapping[str, Any], name: str) -> int:
        """Go on where a position of an earlier attempt, maybe with other tasks, left the dataset.

        Rows that are too few for a batch on every task are joined to the next epoch.

        Args:
            epoch: that the position is in.
            batch: steps done by each of its tasks, where `saved` does not count them.
            saved: what `to_dict` made then.
            name: of the dataset, for the error.

        Returns:
            The epoch that the training goes on in.

        Raises:
            DataError: the files, or how they are shuffled, are no longer what they were.
        """
        check_unchanged(name, saved, self._rows())
        line = tuple(Span(*span) for span in saved["line"])
        rest = shards.left(line, Sharding(**saved["sharding"]), saved.get("done", batch) * saved["per_step"])
        if shards.rows_in(rest) < self.sharding.shards * self._least():
            kept = rest if self.sharding.remainder == "keep" else ()
            following = max(line[-1].epoch + 1, epoch) if "done" in saved else epoch + 1
            rest = *kept, *shards.whole(following, self.rows)
            epoch = epoch if "done" in saved else following
        self.resumed = epoch, rest
        return epoch

    def _least(self) -> int:
        """Rows that each task needs for a batch."""
        return 1 if self.sharding.remainder == "keep" else self.sharding.batch

    def steps_left(self, epoch: int) -> int:
        """Steps of `epoch` that each task has before it."""
        return -(-self.left_in(epoch) // self.per_step)

    def steps_done(self, epoch: int) -> int:
        """By how many steps `epoch` is shorter than others."""
        return -(-self.batches // self.per_step) - self.steps_left(epoch)

    def left_in(self, epoch: int) -> int:
        """Batches of `epoch` that each task has before it."""
        if self.resumed is None or self.resumed[0] < epoch:
            return self.batches
        if self.resumed[0] > epoch:
            return 0
        return shards.batch_count(shards.rows_in(self.resumed[1]), self.sharding)


@dataclass
class Standings:
    """Where a task stands in each dataset that it trains on."""

    by_name: dict[str, Standing] = field(default_factory=dict)

    def of(self, name: str, reader: Reader, per_step: int = 1, *, ordered: bool = True) -> Standing:
        """The standing of the dataset that `reader` reads, of which a step takes `per_step` batches."""
        plan = reader.plan
        if name not in self.by_name:
            order: dict[str, Any] = {"shuffle": plan.shuffle, "seed": plan.seed, **reader.mixing()}
            listing = digest(reader.units)
            self.by_name[name] = Standing(reader.rows, plan.sharding, order, listing, ordered, per_step=per_step)
        return self.by_name[name]

    def to_dict(self, batch: int, epoch: int | None = None, steps: int | None = None) -> dict[str, Any]:
        """Plain values for a position after `batch` batches of `epoch`, where that is known, which is trained on.

        Of an iteration without end `epoch` is the one in which it began, and `batch` counts from there.
        `steps` are those of a fit that was told how many steps its epochs have: then an iteration of the data goes on
        over several of them.
        """
        if steps is not None:
            places = {name: standing.at(steps) for name, standing in self.by_name.items() if standing.ordered}
            return {name: self.by_name[name].to_dict(place) for name, place in places.items() if place is not None}
        return {
            name: standing.to_dict()
            for name, standing in self.by_name.items()
            if standing.ordered
            and not standing.endless
            and standing.line
            and epoch in (None, standing.line[-1].epoch)
            and (batch or standing.ahead)
        } | {
            name: standing.to_dict(standing.after(batch))
            for name, standing in self.by_name.items()
            if standing.ordered and standing.endless and epoch in (None, standing.epoch) and batch
        }

    def resume(self, epoch: int, batch: int, data: Mapping[str, Any]) -> int:
        """Go on in every dataset that a position tells of; the epoch that the training goes on in."""
        known = [name for name in self.by_name if name in data]
        return max([self.by_name[name].resume(epoch, batch, data[name], name) for name in known], default=epoch)

    def check_fresh(self, epoch: int, steps: int | None) -> None:
        """Refuse to train an epoch on the rest of another one, which is all that a cache holds after a restart.

        Raises:
            SpecError: what was resumed has not been read for `epoch`, in which steps are made.
        """
        read = {name: standing for name, standing in self.by_name.items() if standing.resumed and standing.epoch >= 0}
        if read and all(standing.is_stale(epoch, steps) for standing in read.values()):
            raise SpecError(
                "an epoch is trained on a cache that holds only what was left of an earlier one after a restart",
                f"epoch {epoch + 1}, {', '.join(read)}",
                "leave out cache() of what is trained on, or share arrays with ctx.share",
            )

    def batches_done(self, epoch: int) -> int:
        """By how many steps `epoch` is shorter than others, because it was resumed; longer, where less than 0."""
        resumed = [standing for standing in self.by_name.values() if standing.resumed is not None]
        return max((standing.steps_done(epoch) for standing in resumed), default=0)

    def batches_left(self, epoch: int) -> int:
        """Steps of `epoch` that each task has before it, in a dataset that was resumed."""
        return min((s.steps_left(epoch) for s in self.by_name.values() if s.resumed is not None), default=0)


class Starts:
    """Where each iteration of a dataset starts: in the epoch that Keras' callbacks know, else each in the next one.

    Args:
        standing: of the dataset.
        epoch_now: the epoch that training is in, or None where nothing tells.
        testing: whether the model is being evaluated, which is on all rows.
        first: the epoch of the first iteration where nothing tells.
        steps_now: steps done by a fit whose epochs have a number of steps of their own, else None.
    """

    def __init__(
        self,
        standing: Standing,
        epoch_now: Callable[[], int | None],
        testing: Callable[[], bool],
        first: int,
        steps_now: Callable[[], int | None] = lambda: None,
    ) -> None:
        self._standing, self._epoch_now, self._testing, self._steps_now = standing, epoch_now, testing, steps_now
        self._next = first

    def __call__(self, *, endless: bool = False) -> tuple[int, Line | None]:
        """The epoch, from 0, and the rows that are left of it; `endless` for an iteration that then goes on."""
        known = self._epoch_now()
        epoch = self._next if known is None else known
        self._next = epoch + 1
        begin = self._standing.begin_endless if endless else self._standing.begin
        return begin(epoch, resumes=not self._testing(), steps=self._steps_now())
