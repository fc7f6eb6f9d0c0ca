"""Sharding: every row once, equal batch counts, balance, reproducible orders, what remains after any batch."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.errors import DataError
from pipelines.shards import (
    MIX_BYTES,
    MIX_ROWS,
    MIX_UNITS,
    MIX_UNITS_BYTES,
    MIX_UNITS_ROWS,
    Block,
    Chunk,
    Line,
    Piece,
    Remainder,
    Sharding,
    Span,
    Unit,
    batch_count,
    batch_sizes,
    blocks_of,
    chunks,
    ends_of,
    joined,
    left,
    part,
    pieces,
    row_order,
    rows_in,
    rows_of,
    share,
    whole,
)

pytestmark = pytest.mark.timeout(120)

Row = tuple[int, int]

unit_rows = st.lists(st.integers(0, 200), min_size=1, max_size=30)
lines = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 300), st.integers(1, 90)), min_size=1, max_size=6).map(
    lambda spans: tuple(Span(epoch, start, start + rows) for epoch, start, rows in spans)
)


def units_of(rows: list[int]) -> list[Unit]:
    return [Unit(f"part-{index // 3}", index % 3, count) for index, count in enumerate(rows)]


def pieces_of(line: Line, blocks: tuple[Block, ...]) -> list[Piece]:
    return [piece for span in line for piece in pieces(span, ends_of(blocks))]


def block_rows(line: Line, blocks: tuple[Block, ...]) -> list[Row]:
    """Block and row in it, of all rows of a line of one epoch."""
    return [(piece.block, row) for piece in pieces_of(line, blocks) for row in range(piece.start, piece.stop)]


def epoch_rows(line: Line) -> list[Row]:
    """Epoch and row in its order, of all rows of a line."""
    return [(span.epoch, row) for span in line for row in range(span.start, span.stop)]


def sizes_of(line: Line, sharding: Sharding, shard: int) -> list[int]:
    """The batches of a shard, as a reader cuts them."""
    mine = share(line, sharding, shard)
    return batch_sizes(rows_in(mine), batch_count(rows_in(line), sharding), sharding.batch)


@given(unit_rows, st.integers(1, 12), st.integers(1, 64), st.booleans(), st.integers(0, 3))
def test_every_row_once_in_equal_batches(rows: list[int], shards: int, batch: int, shuffle: bool, epoch: int) -> None:
    blocks = blocks_of(units_of(rows), shuffle=shuffle, seed=7, epoch=epoch)
    line, sharding = whole(epoch, sum(rows)), Sharding(shards, batch)
    if sum(rows) < shards:
        with pytest.raises(DataError, match=f"fewer rows than shards · {sum(rows)} rows, {shards} shards"):
            batch_count(sum(rows), sharding)
        return
    lines = [share(line, sharding, shard) for shard in range(shards)]

    seen = [row for mine in lines for row in block_rows(mine, blocks)]
    assert seen == [(index, row) for index, block in enumerate(blocks) for row in range(rows_of(block))]
    batches = [sizes_of(line, sharding, shard) for shard in range(shards)]
    assert {len(sizes) for sizes in batches} == {batch_count(sum(rows), sharding)}
    counts = [rows_in(mine) for mine in lines]
    assert max(counts) - min(counts) <= 1
    for sizes, count in zip(batches, counts, strict=True):
        assert sum(sizes) == count
        assert min(sizes) >= 1
        assert max(sizes) <= max(batch, 2 if batch == 1 else 0)
        assert all(size == batch for size in sizes[:-2])
    for step in zip(*batches, strict=True):
        assert max(step) - min(step) <= 1


@given(lines, st.integers(1, 12), st.integers(1, 64))
def test_drop_leaves_out_only_what_does_not_fill_a_batch_on_every_shard(line: Line, shards: int, batch: int) -> None:
    sharding = Sharding(shards, batch, "drop")
    rows = rows_in(line)
    if rows < shards * batch:
        with pytest.raises(DataError, match=r"fewer rows than shards|too few rows for a full batch on every shard"):
            batch_count(rows, sharding)
        return
    lines = [share(line, sharding, shard) for shard in range(shards)]
    batches = [sizes_of(line, sharding, shard) for shard in range(shards)]
    assert {tuple(sizes) for sizes in batches} == {(batch,) * (rows // shards // batch)}
    kept = Counter(row for mine in lines for row in epoch_rows(mine))
    assert not kept - Counter(epoch_rows(line))
    assert rows - kept.total() < shards * (batch + 1)


def test_drop_says_what_is_too_few() -> None:
    with pytest.raises(DataError) as caught:
        batch_count(99, Sharding(4, 25, "drop"))
    assert str(caught.value) == (
        "there are too few rows for a full batch on every shard · 99 rows, 4 shards, batches of 25"
        " · use smaller batches"
    )
    assert batch_count(100, Sharding(4, 25, "drop")) == 1


@given(lines, st.integers(1, 5), st.integers(1, 20), st.integers(0, 40), st.sampled_from(["keep", "drop"]))
def test_what_is_left_is_exactly_the_batches_that_follow(
    line: Line, shards: int, batch: int, done: int, remainder: Remainder
) -> None:
    sharding = Sharding(shards, batch, remainder)
    if rows_in(line) < shards * (batch if remainder == "drop" else 1):
        return
    expected: list[Row] = []
    for shard in range(shards):
        rows = epoch_rows(share(line, sharding, shard))
        expected += rows[sum(sizes_of(line, sharding, shard)[:done]) :]
    assert epoch_rows(left(line, sharding, done)) == expected


@given(
    st.integers(1, 2000), st.booleans(), st.lists(st.tuples(st.integers(1, 9), st.integers(1, 40), st.integers(0, 9)))
)
def test_every_row_once_over_any_sequence_of_kills_and_resizes(
    rows: int, join: bool, moves: list[tuple[int, int, int]]
) -> None:
    """Stop after any batch, go on with another number of shards and another batch, for several epochs."""
    line, epoch, seen = whole(0, rows), 0, Counter[Row]()
    for shards, batch, done in moves:
        if rows_in(line) < shards or join:
            epoch += 1
            line = (*line, *whole(epoch, rows))
        sharding = Sharding(shards, batch)
        if rows_in(line) < shards:
            continue
        for shard in range(shards):
            mine = share(line, sharding, shard)
            seen.update(epoch_rows(part(mine, 0, sum(sizes_of(line, sharding, shard)[:done]))))
        line = left(line, sharding, done)
    seen.update(epoch_rows(line))
    assert seen == {(number, row): 1 for number in range(epoch + 1) for row in range(rows)}


@given(st.integers(1, 10**9), st.lists(st.tuples(st.integers(1, 64), st.integers(0, 10**5)), max_size=8))
def test_a_line_stays_short_however_often_it_is_resumed(rows: int, moves: list[tuple[int, int]]) -> None:
    line: Line = whole(0, rows)
    allowed = 1
    for shards, done in moves:
        if rows_in(line) < shards:
            break
        line = left(line, Sharding(shards, 4096), done)
        allowed += shards - 1
        assert len(line) <= allowed
        assert len(share(line, Sharding(3, 4096), 1)) <= len(line) if rows_in(line) >= 3 else True


def test_one_file_feeds_eight_workers() -> None:
    blocks = blocks_of([Unit("one", 0, 1003)], shuffle=False)
    line, sharding = whole(0, 1003), Sharding(8, 25)
    lines = [share(line, sharding, shard) for shard in range(8)]
    assert pieces_of(lines[0], blocks) == [Piece(0, 0, 0, 125)]
    assert pieces_of(lines[7], blocks) == [Piece(0, 0, 877, 1003)]
    # 125 rows would be 5 full batches, but shards of 126 rows need a sixth: the last full batch is split.
    assert sizes_of(line, sharding, 0) == [25, 25, 25, 25, 24, 1]
    assert sizes_of(line, sharding, 7) == [25, 25, 25, 25, 25, 1]
    counts = [rows_in(mine) for mine in lines]
    assert max(counts) - min(counts) <= 1


def test_ten_thousand_files_feed_three_workers() -> None:
    units = [Unit(f"part-{i}", 0, 1000 + i % 7) for i in range(10_000)]
    blocks = blocks_of(units, shuffle=False)
    rows = sum(unit.rows for unit in units)
    line, sharding = whole(0, rows), Sharding(3, 512)
    lines = [share(line, sharding, shard) for shard in range(3)]
    assert max(len(pieces_of(mine, blocks)) for mine in lines) <= 3336
    assert sum(rows_in(mine) for mine in lines) == rows
    assert max(map(rows_in, lines)) - min(map(rows_in, lines)) <= 1
    assert len({len(sizes_of(line, sharding, shard)) for shard in range(3)}) == 1


@given(st.lists(st.integers(1, 50), min_size=1, max_size=12), st.integers(1, 130))
def test_chunks_cover_the_batches_exactly(sizes: list[int], rows: int) -> None:
    found = list(chunks(sizes, rows))
    again = [size for chunk in found for size in [chunk.batch] * ((chunk.stop - chunk.start) // chunk.batch)]
    assert again == sizes
    assert [chunk.start for chunk in found] == [0, *(chunk.stop for chunk in found[:-1])]
    assert found[-1].stop == sum(sizes)
    assert all((chunk.stop - chunk.start) % chunk.batch == 0 for chunk in found)
    assert all(chunk.stop - chunk.start <= max(rows, chunk.batch) for chunk in found)
    counts = [(chunk.stop - chunk.start) // chunk.batch for chunk in found]
    assert counts[0] == 1
    assert all(count <= 2**number for number, count in enumerate(counts))


def test_chunks_are_as_large_as_they_may_be() -> None:
    assert list(chunks([30, 30, 30, 29, 1], 60)) == [
        Chunk(0, 30, 30),
        Chunk(30, 90, 30),
        Chunk(90, 119, 29),
        Chunk(119, 120, 1),
    ]
    assert list(chunks([], 60)) == []


@given(lines, st.integers(0, 700), st.integers(0, 700))
def test_a_part_of_a_line_is_that_slice_of_its_rows(line: Line, start: int, stop: int) -> None:
    assert epoch_rows(part(line, start, stop)) == epoch_rows(line)[start:stop]


@given(lines)
def test_joining_spans_keeps_rows_and_order(line: Line) -> None:
    found = joined(line)
    assert epoch_rows(found) == epoch_rows(line)
    assert not any((a.epoch, a.stop) == (b.epoch, b.start) for a, b in itertools.pairwise(found))


@given(st.lists(st.integers(0, 40_000), min_size=1, max_size=40), st.integers(-5, 2**70))
def test_a_shuffled_epoch_has_every_row_group_once_in_blocks_no_larger_than_is_enough(
    rows: list[int], seed: int
) -> None:
    units = units_of(rows)
    blocks = blocks_of(units, shuffle=True, seed=seed, epoch=2)
    assert sorted(unit for block in blocks for unit in block) == sorted(unit for unit in units if unit.rows)
    assert all(rows_of(block) >= MIX_ROWS and len(block) >= MIX_UNITS for block in blocks[:-1])
    assert all(rows_of(block[:-1]) < MIX_ROWS or len(block) <= MIX_UNITS for block in blocks)


@pytest.mark.parametrize(
    ("rows", "size", "found"),
    [
        (100, MIX_BYTES // 3, [4, 4, 2]),  # few rows, but many bytes
        (MIX_ROWS, MIX_UNITS_BYTES // 3, [4, 4, 2]),  # large row groups: some of them
        (MIX_UNITS_ROWS // 3, 0, [4, 4, 2]),
        (MIX_ROWS, MIX_UNITS_BYTES, [1] * 10),  # and larger ones: each in itself
        (MIX_UNITS_ROWS, 0, [1] * 10),
        (MIX_ROWS, 0, [10]),
    ],
)
def test_blocks_are_bounded_in_rows_and_bytes(rows: int, size: int, found: list[int]) -> None:
    units = [Unit("file", group, rows, size) for group in range(10)]
    assert [len(block) for block in blocks_of(units, shuffle=True)] == found


def test_orders_are_reproducible_and_differ_between_epochs_and_seeds() -> None:
    units = [Unit("file", group, 1000) for group in range(50)]

    def order(seed: int, epoch: int) -> list[Unit]:
        return [unit for block in blocks_of(units, shuffle=True, seed=seed, epoch=epoch) for unit in block]

    assert order(0, 0) == order(0, 0)
    assert order(0, 0) != order(0, 1)
    assert order(0, 0) != order(1, 0)
    assert order(0, 0) != units
    rows = row_order(500, seed=0, epoch=0, block=0)
    assert sorted(rows.tolist()) == list(range(500))
    assert np.array_equal(rows, row_order(500, seed=0, epoch=0, block=0))
    assert not np.array_equal(rows, row_order(500, seed=0, epoch=0, block=1))
    assert not np.array_equal(rows, row_order(500, seed=0, epoch=1, block=0))


def test_the_order_of_an_epoch_does_not_depend_on_the_number_of_shards() -> None:
    units = [Unit("file", group, 997) for group in range(90)]
    blocks = blocks_of(units, shuffle=True)
    assert len(blocks) > 1
    line = whole(0, 90 * 997)
    one = block_rows(share(line, Sharding(1, 10), 0), blocks)
    for count in (2, 5):
        parts = [share(line, Sharding(count, 10), shard) for shard in range(count)]
        assert [row for mine in parts for row in block_rows(mine, blocks)] == one


@given(unit_rows, st.integers(0, 6000), st.integers(0, 6000), st.booleans())
def test_the_pieces_of_a_span_are_its_rows(rows: list[int], start: int, stop: int, shuffle: bool) -> None:
    blocks = blocks_of(units_of(rows), shuffle=shuffle)
    start, stop = min(start, sum(rows)), min(stop, sum(rows))
    order = [(index, row) for index, block in enumerate(blocks) for row in range(rows_of(block))]
    assert block_rows((Span(0, start, stop),) if start < stop else (), blocks) == order[start:stop]
