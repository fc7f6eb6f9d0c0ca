"""Who reads which rows of an epoch, in what order, and in batches of what size: pure arithmetic over row counts.

An epoch has one order of rows, which depends on the seed and the epoch only, never on the number of shards: row groups
in the order of the files, or, when shuffled, row groups in a random order whose rows are mixed in blocks of several
row groups. The rows that an iteration has before it are a line: spans of that order, laid end to end. At first it is
the whole epoch, and each shard takes one interval of it. So row groups are split where balance needs it, a shard
shares at most two blocks with others, and what is left of an epoch, wherever it stopped, is a line again, which any
number of shards can take up.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from pipelines.errors import DataError

#: Row groups and rows that are mixed together at least, when shuffled and there are as many: but fewer row groups are
#: enough where they have so many rows or bytes, and whatever has `MIX_BYTES` is enough.
MIX_UNITS = 16
MIX_ROWS = 65_536
MIX_UNITS_ROWS = 2**22
MIX_UNITS_BYTES = 64 * 2**20
MIX_BYTES = 256 * 2**20
#: What becomes of the rows that do not fill a batch on every shard: smaller batches at the end, or left out.
Remainder = Literal["keep", "drop"]


class Unit(NamedTuple):
    """The smallest thing that can be read: a row group of a file, its number of rows, and its bytes when decoded.

    `size` is that of the columns that are read, about; 0 where it is not known. The order of a shuffled epoch depends
    on it.
    """

    file: str
    row_group: int
    rows: int
    size: int = 0


#: Row groups whose rows are mixed together; one row group when not shuffled.
Block = tuple[Unit, ...]


class Span(NamedTuple):
    """Rows `start` to `stop` (exclusive) in the order of an epoch."""

    epoch: int
    start: int
    stop: int


#: Spans laid end to end; a position in a line counts rows from its first span's start.
Line = tuple[Span, ...]


class Piece(NamedTuple):
    """Rows `start` to `stop` (exclusive) of a block, counted in the order that the block has in its epoch."""

    epoch: int
    block: int
    start: int
    stop: int

    @property
    def rows(self) -> int:
        """Number of rows."""
        return self.stop - self.start


class Chunk(NamedTuple):
    """Batches of `batch` rows each, which together are positions `start` to `stop` (exclusive) of a shard's line."""

    start: int
    stop: int
    batch: int


@dataclass(frozen=True)
class Sharding:
    """How an iteration's rows are shared out.

    Attributes:
        shards: number of shards, at least 1.
        batch: rows of one batch of one shard.
        remainder: `keep` gives every row to a shard: all shards have the same number of batches and row counts that
            differ by at most one; batches have `batch` rows, and what is left over makes the last ones smaller (only a
            batch of 1 row, which cannot be smaller, may grow to 2). `drop` leaves out what does not fill a batch on
            every shard.
    """

    shards: int
    batch: int
    remainder: Remainder = "keep"


def whole(epoch: int, rows: int) -> Line:
    """The line of a whole epoch."""
    return (Span(epoch, 0, rows),)


def nth_pass(line: Line, nth: int, rows: int) -> Line:
    """What is read after `nth` passes of a reading without end, whose first is `line`: then whole epochs of `rows`."""
    return line if nth == 0 else whole((line[-1].epoch if line else -1) + nth, rows)


def rows_in(line: Line) -> int:
    """Number of rows of a line."""
    return sum(span.stop - span.start for span in line)


def part(line: Line, start: int, stop: int) -> Line:
    """Positions `start` to `stop` (exclusive) of a line, as a line."""
    found, before = [], 0
    for epoch, low, high in line:
        first, last = max(low, low + start - before), min(high, low + stop - before)
        if first < last:
            found.append(Span(epoch, first, last))
        before += high - low
    return tuple(found)


def share(line: Line, sharding: Sharding, shard: int) -> Line:
    """The line of one shard, counted from 0: with `drop`, only the rows of its batches."""
    start, stop = interval(rows_in(line), sharding.shards, shard)
    if sharding.remainder == "drop":
        stop = start + batch_count(rows_in(line), sharding) * sharding.batch
    return part(line, start, stop)


def left(line: Line, sharding: Sharding, done: int) -> Line:
    """What remains of `line` when every shard has done its first `done` batches, in the order of the shards."""
    rest: list[Span] = []
    for shard in range(sharding.shards):
        mine = share(line, sharding, shard)
        sizes = batch_sizes(rows_in(mine), batch_count(rows_in(line), sharding), sharding.batch)
        rest.extend(part(mine, sum(sizes[:done]), rows_in(mine)))
    return joined(rest)


def joined(spans: Iterable[Span]) -> Line:
    """The same rows in as few spans as their order allows."""
    found: list[Span] = []
    for span in spans:
        if found and (found[-1].epoch, found[-1].stop) == (span.epoch, span.start):
            found[-1] = found[-1]._replace(stop=span.stop)
        else:
            found.append(span)
    return tuple(found)


def batch_count(rows: int, sharding: Sharding) -> int:
    """Batches of every shard of a line of `rows` rows.

    Raises:
        DataError: a shard would get none.
    """
    shards, batch = sharding.shards, sharding.batch
    if rows < shards:
        raise DataError("there are fewer rows than shards", f"{rows} rows, {shards} shards", "use fewer workers")
    if sharding.remainder == "keep":
        return min(-(-rows // (shards * batch)), rows // shards)
    if rows // shards < batch:
        seen = f"{rows} rows, {shards} shards, batches of {batch}"
        raise DataError("there are too few rows for a full batch on every shard", seen, "use smaller batches")
    return rows // shards // batch


def interval(rows: int, shards: int, shard: int) -> tuple[int, int]:
    """Start and stop of a shard in a line of `rows` rows."""
    return rows * shard // shards, rows * (shard + 1) // shards


def batch_sizes(rows: int, batches: int, batch: int) -> list[int]:
    """Sizes of `batches` batches over `rows` rows: `batch` while a row stays for each of those that follow."""
    full = max(0, min(batches - 1, (rows - batches) // (batch - 1) if batch > 1 else batches - 1))
    sizes, rows = [batch] * full, rows - full * batch
    for later in range(batches - full - 1, 0, -1):
        sizes.append(min(batch, rows - later))
        rows -= sizes[-1]
    return [*sizes, rows]


def chunks(sizes: Sequence[int], rows: int) -> Iterator[Chunk]:
    """Batches of these `sizes` in runs of equal ones, each of `rows` rows at most, but of one batch at least.

    The first has one batch and each has at most twice as many as the one before, so that nobody waits long for it.
    """
    start, step = 0, 1
    for size, run in itertools.groupby(sizes):
        count = sum(1 for _ in run)
        while count:
            batches = min(step, count, max(1, rows // size))
            yield Chunk(start, start + batches * size, size)
            start, step, count = start + batches * size, 2 * step, count - batches


def blocks_of(units: Sequence[Unit], *, shuffle: bool, seed: int = 0, epoch: int = 0) -> tuple[Block, ...]:
    """The blocks of an epoch in their order; row groups without rows are left out."""
    filled = [unit for unit in units if unit.rows]
    if not shuffle:
        return tuple(zip(filled, strict=True))
    order = _random(seed, epoch).permutation(len(filled))
    return tuple(_grouped(filled[i] for i in order))


def row_order(rows: int, *, seed: int, epoch: int, block: int) -> npt.NDArray[np.int64]:
    """The mixed order of the `rows` rows of a block: `[rows]`, each index once."""
    return _random(seed, epoch, block).permutation(rows)


def rows_of(block: Block) -> int:
    """Number of rows of `block`."""
    return sum(unit.rows for unit in block)


def ends_of(blocks: Sequence[Block]) -> npt.NDArray[np.int64]:
    """`[blocks]`, the position in the order of their epoch at which each of them ends."""
    rows: npt.NDArray[np.int64] = np.cumsum([unit.rows for block in blocks for unit in block], dtype=np.int64)
    return rows.take(np.cumsum([*map(len, blocks)], dtype=np.int64) - 1)


def pieces(span: Span, ends: npt.NDArray[np.int64]) -> Iterator[Piece]:
    """A span as one piece a block.

    Args:
        span: of an epoch.
        ends: `[blocks]`, the position in the epoch's order at which each of its blocks ends.
    """
    epoch, start, stop = span
    first = int(np.searchsorted(ends, start, side="right"))
    last = int(np.searchsorted(ends, stop, side="left"))
    low = int(ends[first - 1]) if first else 0
    for index, high in enumerate(ends[first : last + 1].tolist() if start < stop else (), first):
        yield Piece(epoch, index, max(start, low) - low, min(stop, high) - low)
        low = high


def _grouped(units: Iterable[Unit]) -> Iterator[Block]:
    """Consecutive `units` in groups as large as is enough, but for the last."""
    group: list[Unit] = []
    rows = size = 0
    for unit in units:
        group.append(unit)
        rows, size = rows + unit.rows, size + unit.size
        several = len(group) >= MIX_UNITS or rows >= MIX_UNITS_ROWS or size >= MIX_UNITS_BYTES
        if (rows >= MIX_ROWS and several) or size >= MIX_BYTES:
            yield tuple(group)
            group, rows, size = [], 0, 0
    if group:
        yield tuple(group)


def _random(seed: int, *more: int) -> np.random.Generator:
    return np.random.default_rng([seed % 2**64, *more])
