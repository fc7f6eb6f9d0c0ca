"""Who reads which rows of an epoch, in what order, and in batches of what size: pure arithmetic over row counts.

An epoch has one order of rows, which depends on the seed and the epoch only, never on the number of shards: row groups
in the order of the files, or, when shuffled, row groups in a random order whose rows are mixed in blocks of several
row groups. A shard is an interval of that order. So row groups are split where balance needs it, a shard reads at most
two blocks that another shard reads too, and what is left of an epoch can be shared out again over other shards.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pipelines.errors import DataError

#: Rows that are mixed together at least, when shuffled and there are as many.
MIX_ROWS = 65_536


class Unit(NamedTuple):
    """The smallest thing that can be read: a row group of a file, and its number of rows."""

    file: str
    row_group: int
    rows: int


#: Row groups whose rows are mixed together; one row group when not shuffled.
Block = tuple[Unit, ...]


class Piece(NamedTuple):
    """Rows `start` to `stop` (exclusive) of a block, counted in the order that the block has in its epoch."""

    block: int
    start: int
    stop: int


@dataclass(frozen=True)
class Share:
    """What one shard reads in one epoch: pieces one after the other, and the rows of each of its batches."""

    pieces: tuple[Piece, ...]
    batch_sizes: tuple[int, ...]


def assign(blocks: Sequence[Block], *, shard_count: int, shard_index: int, batch: int, skip_batches: int = 0) -> Share:
    """The share of one shard in an epoch of `blocks`, without its first `skip_batches` batches.

    Every row belongs to exactly one shard. All shards have the same number of batches, and row counts that differ by at
    most one. Batches have `batch` rows; what is left over makes the last ones smaller (only a batch of 1 row, which
    cannot be smaller, may grow to 2), so that no shard runs out before another.

    Args:
        blocks: from `blocks_of`, the same on every shard.
        shard_count: number of shards, at least 1.
        shard_index: this shard, from 0.
        batch: rows of one batch of one shard.
        skip_batches: batches of this epoch that have been read before.

    Raises:
        DataError: fewer rows than shards.
    """
    total = sum(map(rows_of, blocks))
    start, stop = interval(total, shard_count, shard_index)
    sizes = batch_sizes(stop - start, batch_count(total, shard_count, batch), batch)
    start += sum(sizes[:skip_batches])
    return Share(tuple(cut(map(rows_of, blocks), start, stop)), tuple(sizes[skip_batches:]))


def batch_count(rows: int, shard_count: int, batch: int) -> int:
    """Batches of every shard in an epoch of `rows` rows.

    Raises:
        DataError: fewer rows than shards.
    """
    if rows < shard_count:
        raise DataError("there are fewer rows than shards", f"{rows} rows, {shard_count} shards", "use fewer workers")
    return min(-(-rows // (shard_count * batch)), rows // shard_count)


def interval(rows: int, shard_count: int, shard_index: int) -> tuple[int, int]:
    """Start and stop of a shard in an epoch of `rows` rows."""
    return rows * shard_index // shard_count, rows * (shard_index + 1) // shard_count


def batch_sizes(rows: int, batches: int, batch: int) -> list[int]:
    """Sizes of `batches` batches over `rows` rows: `batch` while a row stays for each of those that follow."""
    sizes = []
    for later in range(batches - 1, 0, -1):
        sizes.append(min(batch, rows - later))
        rows -= sizes[-1]
    return [*sizes, rows]


def blocks_of(units: Sequence[Unit], *, shuffle: bool, seed: int = 0, epoch: int = 0) -> tuple[Block, ...]:
    """The blocks of an epoch in their order; row groups without rows are left out."""
    filled = [unit for unit in units if unit.rows]
    if not shuffle:
        return tuple((unit,) for unit in filled)
    order = _random(seed, epoch).permutation(len(filled))
    return tuple(_grouped((filled[i] for i in order), MIX_ROWS))


def row_order(rows: int, *, seed: int, epoch: int, block: int) -> npt.NDArray[np.int64]:
    """The mixed order of the `rows` rows of a block: `[rows]`, each index once."""
    return _random(seed, epoch, block).permutation(rows)


def rows_of(block: Block) -> int:
    """Number of rows of `block`."""
    return sum(unit.rows for unit in block)


def cut(lengths: Iterable[int], start: int, stop: int) -> Iterator[Piece]:
    """The interval `start` to `stop` of blocks of these `lengths`, laid end to end, as one piece a block."""
    ends = list(itertools.accumulate(lengths))
    for index, (low, high) in enumerate(zip([0, *ends], ends, strict=False)):
        if low < stop and start < high:
            yield Piece(index, max(start, low) - low, min(stop, high) - low)


def _grouped(units: Iterable[Unit], rows: int) -> Iterator[Block]:
    """Consecutive `units` in groups of at least `rows` rows, but for the last."""
    group: list[Unit] = []
    held = 0
    for unit in units:
        group.append(unit)
        held += unit.rows
        if held >= rows:
            yield tuple(group)
            group, held = [], 0
    if group:
        yield tuple(group)


def _random(seed: int, *more: int) -> np.random.Generator:
    return np.random.default_rng([seed % 2**64, *more])
