"""One shard's reading: which chunks an iteration has, and the rows of a chunk as a few numpy arrays."""

from __future__ import annotations

import collections
import datetime as dt
import hashlib
import json
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipelines import busy, shards
from pipelines.columns import Array, packed, part_dtypes, parts_of
from pipelines.errors import DataError
from pipelines.joining import stacked
from pipelines.layout import Feature, Layout, Request
from pipelines.leases import Desk
from pipelines.prepare import columns_of, prepare
from pipelines.shards import Block, Chunk, Line, Piece, Sharding, Span, Unit
from pipelines.source import where
from pipelines.sources import Files, Opened, open_source

#: What is handed to TensorFlow at once, about: so many rows that Python costs nothing a row, but no more than so many
#: bytes.
CHUNK_ROWS = 65_536
CHUNK_BYTES = 32 * 2**20
#: Of records a part of these, for their numbers take up to eight times as much once they are parsed.
_OF_RECORDS = 4
#: Pieces (row groups, or blocks of them when shuffled) that are read or ready beyond those in use: so many, or, where
#: they are small, so many that they have as many rows as two chunks. With the pieces in use and what TensorFlow has
#: taken of them, that is all that a reader holds in memory.
AHEAD = 2
#: Batches that wait to be taken, at most; and fewer where they are as large as this many chunks.
READY_BATCHES, READY_CHUNKS = 8, 2
_THREADS = min(16, 2 * (os.cpu_count() or 1))
#: The epoch of the iteration that begins now, and the rows that it has before it, over all shards: None for all rows,
#: an empty line for none.
StartNow = Callable[[], tuple[int, Line | None]]
#: Iterations that hold what they have read ahead: the next one may begin while the last chunks of this one are read.
#: And all that are remembered: `next(iter(dataset))` begins one that nobody ends, and Keras some that it never reads.
_AWAKE, _REMEMBERED = 3, 16
#: Epochs whose order is kept.
_ORDERS = 3
#: Chunks of records of which it is remembered what they were, in case TensorFlow refuses one of the records: it may
#: have been given a few more meanwhile.
_LATELY = 64
#: The only names in objects of JSON that stand for bytes, and for a span of time in microseconds.
_BYTES, _SPAN = "\0bytes", "\0timedelta"
#: The readers of records in this process, for the same case.
readers_of_records: weakref.WeakSet[Reader] = weakref.WeakSet()


@dataclass(frozen=True)
class ReadPlan:
    """What one shard reads, in plain values, so that another process can read the same.

    Attributes:
        files: which files, and how they are read.
        request: which columns, and in what form.
        sharding: how rows are shared out.
        shard: this shard, from 0.
        shuffle: another order in each epoch.
        seed: of that order.
        epoch: the first epoch.
        line: the rows of the first epoch that are yet to be read; None for all of them.
        desk: where the rows to read are leased, in the place of shard, epoch and line; None without leases.
    """

    files: Files
    request: Request = field(default_factory=Request)
    sharding: Sharding = field(default_factory=lambda: Sharding(1, 1024))
    shard: int = 0
    shuffle: bool = False
    seed: int = 0
    epoch: int = 0
    line: Line | None = None
    desk: Desk | None = None

    def to_json(self) -> str:
        """The plan as text."""
        values = {**asdict(self), "line": self.line, "request": self.request.to_dict()}
        return json.dumps(values, default=_to_json)

    @classmethod
    def from_json(cls, text: str) -> ReadPlan:
        """The plan of `to_json`."""
        values = json.loads(text, object_hook=_from_json)
        line, desk = values.pop("line"), values.pop("desk")
        return cls(
            files=Files.from_dict(values.pop("files")),
            request=Request.from_dict(values.pop("request")),
            sharding=Sharding(**values.pop("sharding")),
            line=None if line is None else tuple(Span(*span) for span in line),
            desk=None if desk is None else Desk(**desk),
            **values,
        )


def _to_json(value: Any) -> Any:
    """What JSON has no form for, of filters and defaults; as a text what means the same as one, such as a date."""
    if isinstance(value, bytes):
        return {_BYTES: value.hex()}
    if isinstance(value, dt.timedelta):
        return {_SPAN: value // dt.timedelta(microseconds=1)}
    return list(value) if isinstance(value, set | frozenset) else str(value)


def _from_json(values: dict[str, Any]) -> Any:
    if values.keys() == {_BYTES}:
        return bytes.fromhex(values[_BYTES])
    return dt.timedelta(microseconds=values[_SPAN]) if values.keys() == {_SPAN} else values


class Reader:
    """Reads the chunks of a plan; safe to use from several threads.

    Args:
        plan: what to read.
        opened: its files, or what is read in their place.

    Attributes:
        layout: what `read` gives.
        records: what to make of it, where the files hold records; else None.
        skipped: what of the files is left out, because it cannot be read.
        rows: of the whole dataset.
        batches: of a whole epoch on each shard.
        chunk_rows: rows that are handed to TensorFlow at once, about.
        ready_batches: batches that may wait to be taken.
        lately: of records, what was handed to it in the last chunks, chunk by chunk.
        read_at: when the last of them was, on the clock of `time.monotonic`.
        start_now: asked where it starts whenever an iteration begins, for a loop that may begin one and not finish it,
            as Keras does. By default each iteration is the next epoch.
        start_endless: likewise, of an iteration that goes on epoch after epoch without end.

    Raises:
        DataError: the files cannot be read as one table, or hold too few rows.
    """

    def __init__(self, plan: ReadPlan, opened: Opened | None = None) -> None:
        self.plan = plan
        opened = opened or open_source(plan.files, plan.request)
        self.source, self.layout, self.records = opened.source, opened.layout, opened.records
        self.units, self.skipped = opened.units, opened.skipped
        self.rows = sum(unit.rows for unit in self.units)
        self.batches = shards.batch_count(self.rows, plan.sharding)
        self.start_now: StartNow = self._next_epoch
        self.start_endless: StartNow = self._next_epoch
        self._parts = [_parts_of(feature, self.layout) for feature in self.layout.features]
        size = sum(unit.size for unit in self.units)
        part = 1 if self.records is None else _OF_RECORDS
        in_chunk = max(1, self.rows * CHUNK_BYTES // part // max(size, 1))
        self.chunk_rows = min(CHUNK_ROWS // part, in_chunk)
        self.ready_batches = min(READY_BATCHES, max(2, READY_CHUNKS * in_chunk // plan.sharding.batch))
        self._begun = 0
        self._lock = threading.Lock()
        self._orders: dict[int, _Order] = {}
        self._iterations: collections.OrderedDict[int, _Iteration] = collections.OrderedDict()
        self.lately: collections.deque[list[Piece]] = collections.deque(maxlen=_LATELY)
        self.read_at = 0.0
        if self.records is not None:
            readers_of_records.add(self)

    def part_dtypes(self) -> list[np.dtype[Any]]:
        """The dtypes of what `read` returns."""
        return [dtype for feature in self.layout.features for dtype in part_dtypes(feature.kind)]

    def mixing(self) -> dict[str, str]:
        """What besides `seed` and rows the order of shuffled epochs depends on: which row groups are mixed together.

        That depends on their sizes in memory, and so on the columns that are read.
        """
        if not self.plan.shuffle:
            return {}
        with self._lock:
            ends = self._order(0).ends
        return {"blocks": f"{len(ends)}, {hashlib.sha256(ends.tobytes()).hexdigest()[:12]}"}

    def _next_epoch(self) -> tuple[int, Line | None]:
        """Where the iteration that begins now starts: each is the next epoch."""
        number, plan = self._begun, self.plan
        return plan.epoch + number, plan.line if number == 0 else None

    def begin(self) -> Array:
        """The chunks of the iteration that begins now: `[chunks, 4]` of int64, each row what `read` takes.

        Raises:
            DataError: too few rows are left for a batch on every shard.
        """
        with self._lock:
            epoch, line = self.start_now()
            return self._chunks_of(shards.whole(epoch, self.rows) if line is None else line)

    def start(self) -> Array:
        """Where an iteration without end starts that begins now: `[spans, 3]` of int64, the rows of its first pass."""
        with self._lock:
            epoch, line = self.start_endless()
            return np.array(shards.whole(epoch, self.rows) if line is None else line, np.int64).reshape(-1, 3)

    def begin_pass(self, start: Array, nth: Array) -> Array:
        """The chunks of pass `nth`, from 0, of an iteration that `start` tells of; otherwise as `begin`."""
        line = tuple(Span(*map(int, span)) for span in start)
        with self._lock:
            return self._chunks_of(shards.nth_pass(line, int(nth), self.rows))

    def _chunks_of(self, line: Line) -> Array:
        """Make `line` the next iteration, and cut it into chunks; the lock is held."""
        number, self._begun = self._begun, self._begun + 1
        if not line:
            return np.zeros((0, 4), np.int64)
        sharding = self.plan.sharding
        mine = shards.share(line, sharding, self.plan.shard)
        sizes = shards.batch_sizes(
            shards.rows_in(mine), shards.batch_count(shards.rows_in(line), sharding), sharding.batch
        )
        found = [(number, *chunk) for chunk in shards.chunks(sizes, self.chunk_rows)]
        self._forget()
        self._iterate(number, mine)
        self._put_to_rest()
        return np.array(found, np.int64).reshape(-1, 4)

    def read(self, chunk: Array) -> list[Array]:
        """The rows of a chunk (iteration, start, stop, batch): the parts of each feature, see `pipelines.columns`.

        Raises:
            DataError: a unit cannot be read or holds nulls that nothing is to stand for, or the iteration is forgotten.
        """
        number, *rest = (int(value) for value in chunk)
        start, stop, _ = Chunk(*rest)
        with self._lock:
            iteration = self._iterations.get(number)
            if iteration is None:
                raise self._forgotten()
            self._iterations.move_to_end(number)
            if iteration.rests:
                iteration.rests = False
                self._put_to_rest()
        with busy.reads:
            table = iteration.rows(start, stop)
            if self.records is not None:
                self.lately.append(iteration.parts(start, stop))
                self.read_at = time.monotonic()
            columns = columns_of(table)
            return [part for of_feature in self._parts for part in of_feature(columns)]

    def origins(self, piece: Piece) -> Iterator[tuple[Unit, Array]]:
        """Where the rows of a piece are from: units, and the numbers of the rows in them, `[rows]` of int64."""
        with self._lock:
            block = self._order(piece.epoch).blocks[piece.block]
        rows = np.arange(shards.rows_of(block))
        if self.plan.shuffle:
            rows = shards.row_order(len(rows), seed=self.plan.seed, epoch=piece.epoch, block=piece.block)
        rows, first = rows[piece.start : piece.stop], 0
        for unit in block:
            inside = rows[(rows >= first) & (rows < first + unit.rows)] - first
            if len(inside):
                yield unit, inside
            first += unit.rows

    def _forgotten(self) -> Exception:
        """What is raised for an iteration that is read on although it is forgotten."""
        happened = "an iteration of a dataset was given up for later ones"
        todo = "keep an iterator and use it again, or make a dataset for each"
        return DataError(happened, f"{_REMEMBERED} others were begun or read since", todo)

    def _forget(self) -> None:
        """Make room for another iteration: without those that are over, or the one that is most likely left alone.

        That is the one not read for longest, but for the half that has come furthest: a loop may take long over what it
        has, while `next(iter(dataset))` reads a little and often.
        """
        for number in [number for number, iteration in self._iterations.items() if iteration.over]:
            del self._iterations[number]
        if len(self._iterations) >= _REMEMBERED:
            furthest = sorted(self._iterations, key=lambda number: (-self._iterations[number].done, number))
            left_alone = next(number for number in self._iterations if number in furthest[_REMEMBERED // 2 :])
            self._iterations.pop(left_alone).end()

    def _put_to_rest(self) -> None:
        """All iterations but those that were begun or read last."""
        for iteration in [*self._iterations.values()][:-_AWAKE]:
            iteration.rest()

    def _iterate(self, number: int, line: Line) -> None:
        """Be ready to read `line` as iteration `number`; the lock is held."""
        pieces = [piece for span in line for piece in shards.pieces(span, self._order(span.epoch).ends)]
        self._iterations[number] = _Iteration(self._load, pieces)

    def _order(self, epoch: int) -> _Order:
        """The blocks of an epoch; those of the last few are kept."""
        if epoch not in self._orders:
            plan = self.plan
            blocks = shards.blocks_of(self.units, shuffle=plan.shuffle, seed=plan.seed, epoch=epoch)
            while len(self._orders) >= _ORDERS:
                del self._orders[next(iter(self._orders))]
            self._orders[epoch] = _Order(blocks, shards.ends_of(blocks))
        return self._orders[epoch]

    def _load(self, piece: Piece) -> pa.RecordBatch | pa.Table:
        """The rows of a piece in their order, without nulls."""
        with self._lock:
            block = self._order(piece.epoch).blocks[piece.block]
        with busy.reads:
            table = self._decoded(block)
            if not self.plan.shuffle:
                return table.slice(piece.start, piece.rows)
            rows = shards.row_order(shards.rows_of(block), seed=self.plan.seed, epoch=piece.epoch, block=piece.block)
            return table.take(pa.array(rows[piece.start : piece.stop]))

    def _decoded(self, block: Block) -> pa.RecordBatch | pa.Table:
        """The rows of a block in the order of its row groups, without nulls."""
        return stacked([prepare(self.source.read(unit), self.layout, where(unit)) for unit in block])


@dataclass(frozen=True)
class _Order:
    """The blocks of an epoch, and where in its order each of them ends: `[blocks]`."""

    blocks: tuple[Block, ...]
    ends: npt.NDArray[np.int64]


class _Iteration:
    """The pieces of one iteration, loaded a few ahead of the chunks that are asked for, and let go behind them.

    Its threads end with it: as long as a thread lives, the allocator keeps for it what its tables took. While it rests
    it has none, and holds nothing; whatever is asked of it then is loaded again.

    Attributes:
        done: rows that were taken.
        rests: whether it was put to rest, and nothing was asked of it since.
    """

    def __init__(self, load: Callable[[Piece], pa.RecordBatch | pa.Table], pieces: list[Piece]) -> None:
        self._load, self._pieces = load, pieces
        self._pool: ThreadPoolExecutor | None = None
        self._ends = np.cumsum([piece.rows for piece in pieces], dtype=np.int64)
        self._lock = threading.Lock()
        self._tables: dict[int, Future[pa.RecordBatch | pa.Table]] = {}
        self._taken = [0] * len(pieces)
        self._left = len(pieces)
        self.done = 0
        self._given_up = self.rests = False

    @property
    def over(self) -> bool:
        """Whether every row has been taken."""
        return not self._left

    def rows(self, start: int, stop: int) -> pa.RecordBatch | pa.Table:
        """Positions `start` to `stop` of the shard's line.

        Raises:
            StopIteration: the iteration was given up meanwhile.
        """
        first = int(np.searchsorted(self._ends, start, side="right"))
        last = int(np.searchsorted(self._ends, stop, side="left"))
        with self._lock:
            for index in range(first, self._ahead_of(last, 2 * (stop - start))):
                if self._taken[index] < self._pieces[index].rows:
                    self._loading(index)
        found = []
        for index in range(first, last + 1):
            before = int(self._ends[index]) - self._pieces[index].rows
            low, high = max(start - before, 0), min(stop - before, self._pieces[index].rows)
            found.append(self._table(index).slice(low, high - low))
            self._let_go(index, high - low)
        return stacked(found)

    def _table(self, index: int) -> pa.RecordBatch | pa.Table:
        """A piece, loaded once more where it was put to rest meanwhile."""
        while True:
            with self._lock:
                loading = self._loading(index)
            with suppress(CancelledError):
                return loading.result()

    def _loading(self, index: int) -> Future[pa.RecordBatch | pa.Table]:
        """A piece that is loaded or being loaded; the lock is held."""
        if self._given_up:
            raise StopIteration
        if index not in self._tables:
            self._pool = self._pool or ThreadPoolExecutor(_THREADS, thread_name_prefix="read")
            self._tables[index] = self._pool.submit(self._load, self._pieces[index])
        return self._tables[index]

    def parts(self, start: int, stop: int) -> list[Piece]:
        """Positions `start` to `stop` of the shard's line as pieces."""
        first = int(np.searchsorted(self._ends, start, side="right"))
        last = int(np.searchsorted(self._ends, stop, side="left"))
        found = []
        for piece, end in zip(self._pieces[first : last + 1], self._ends[first : last + 1].tolist(), strict=True):
            line = piece.start - (end - piece.rows)  # from a position of the line to one of the block
            low, high = max(start + line, piece.start), min(stop + line, piece.stop)
            found.append(piece._replace(start=low, stop=high))
        return found

    def _ahead_of(self, last: int, rows: int) -> int:
        """Where reading ahead stops when piece `last` is in use: `rows` rows on, few at first, which is then quick."""
        enough = int(np.searchsorted(self._ends, self._ends[last] + rows, side="left"))
        return min(max(last + 1 + AHEAD, enough), len(self._pieces))

    def _let_go(self, index: int, rows: int) -> None:
        """Forget a piece of which every row has been taken."""
        with self._lock:
            self._taken[index] += rows
            self.done += rows
            if self._taken[index] >= self._pieces[index].rows:
                self._tables.pop(index, None)
                self._left -= 1
            if self.over and self._pool is not None:
                self._pool.shutdown(wait=False)

    def rest(self) -> None:
        """Let go what is loaded and what waits to be, until something is asked for again."""
        with self._lock:
            self.rests = True
            if self._pool is not None:
                self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None
            self._tables.clear()

    def end(self) -> None:
        """Rest for ever."""
        self._given_up = True
        self.rest()


def _parts_of(feature: Feature, layout: Layout) -> Callable[[dict[str, pa.Array]], list[Array]]:
    """What makes the parts of a feature of the columns that it is made of."""
    if feature.packs:
        return lambda columns: [packed([columns[name] for name in feature.columns], feature.kind).reshape(-1)]
    (name,) = feature.columns
    make = parts_of(layout.columns.get(name, pa.bool_()), feature.kind)  # a mask is not among them
    return lambda columns: make(columns[name])
