"""Sharding: every row once, equal batch counts, balance, reproducible orders, resumption at a batch."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.errors import DataError
from pipelines.shards import (
    MIX_ROWS,
    Piece,
    Share,
    Unit,
    assign,
    batch_count,
    blocks_of,
    row_order,
    rows_of,
)

pytestmark = pytest.mark.timeout(120)

unit_rows = st.lists(st.integers(0, 200), min_size=1, max_size=30)


def units_of(rows: list[int]) -> list[Unit]:
    return [Unit(f"part-{index // 3}", index % 3, count) for index, count in enumerate(rows)]


def rows_in(share: Share) -> list[tuple[int, int]]:
    return [(piece.block, row) for piece in share.pieces for row in range(piece.start, piece.stop)]


@given(unit_rows, st.integers(1, 12), st.integers(1, 64), st.booleans(), st.integers(0, 3))
def test_every_row_once_in_equal_batches(
    rows: list[int], shard_count: int, batch: int, shuffle: bool, epoch: int
) -> None:
    blocks = blocks_of(units_of(rows), shuffle=shuffle, seed=7, epoch=epoch)
    if sum(rows) < shard_count:
        with pytest.raises(DataError, match=f"fewer rows than shards · {sum(rows)} rows, {shard_count} shards"):
            assign(blocks, shard_count=shard_count, shard_index=0, batch=batch)
        return
    shares = [assign(blocks, shard_count=shard_count, shard_index=i, batch=batch) for i in range(shard_count)]

    seen = [row for share in shares for row in rows_in(share)]
    assert seen == [(index, row) for index, block in enumerate(blocks) for row in range(rows_of(block))]
    assert {len(share.batch_sizes) for share in shares} == {batch_count(sum(rows), shard_count, batch)}
    counts = [len(rows_in(share)) for share in shares]
    assert max(counts) - min(counts) <= 1
    for share, count in zip(shares, counts, strict=True):
        assert sum(share.batch_sizes) == count
        assert min(share.batch_sizes) >= 1
        assert max(share.batch_sizes) <= max(batch, 2 if batch == 1 else 0)
        assert all(size == batch for size in share.batch_sizes[:-2])
    for step in zip(*(share.batch_sizes for share in shares), strict=True):
        assert max(step) - min(step) <= 1


@given(unit_rows, st.integers(1, 5), st.integers(1, 20), st.integers(0, 40))
def test_skipping_leaves_exactly_the_batches_that_follow(
    rows: list[int], shard_count: int, batch: int, skip: int
) -> None:
    blocks = blocks_of(units_of([*rows, shard_count]), shuffle=True, seed=1)
    for index in range(shard_count):
        whole = assign(blocks, shard_count=shard_count, shard_index=index, batch=batch)
        rest = assign(blocks, shard_count=shard_count, shard_index=index, batch=batch, skip_batches=skip)
        assert rest.batch_sizes == whole.batch_sizes[skip:]
        assert rows_in(rest) == rows_in(whole)[sum(whole.batch_sizes[:skip]) :]


def test_one_file_feeds_eight_workers() -> None:
    blocks = blocks_of([Unit("one", 0, 1003)], shuffle=False)
    shares = [assign(blocks, shard_count=8, shard_index=i, batch=25) for i in range(8)]
    assert shares[0].pieces == (Piece(0, 0, 125),)
    assert shares[7].pieces == (Piece(0, 877, 1003),)
    # 125 rows would be 5 full batches, but shards of 126 rows need a sixth: the last full batch is split.
    assert shares[0].batch_sizes == (25, 25, 25, 25, 24, 1)
    assert shares[7].batch_sizes == (25, 25, 25, 25, 25, 1)


def test_ten_thousand_files_feed_three_workers() -> None:
    blocks = blocks_of([Unit(f"part-{i}", 0, 1000 + i % 7) for i in range(10_000)], shuffle=False)
    shares = [assign(blocks, shard_count=3, shard_index=i, batch=512) for i in range(3)]
    assert max(len(share.pieces) for share in shares) <= 3336
    assert len({len(share.batch_sizes) for share in shares}) == 1


@given(st.lists(st.integers(0, 40_000), min_size=1, max_size=20), st.integers(-5, 2**70))
def test_a_shuffled_epoch_has_every_row_group_once_in_blocks_of_bounded_size(rows: list[int], seed: int) -> None:
    units = units_of(rows)
    blocks = blocks_of(units, shuffle=True, seed=seed, epoch=2)
    assert sorted(unit for block in blocks for unit in block) == sorted(unit for unit in units if unit.rows)
    assert all(rows_of(block) >= MIX_ROWS for block in blocks[:-1])
    assert all(rows_of(block) < MIX_ROWS + max(rows) for block in blocks)


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
    blocks = blocks_of([Unit("file", group, 997) for group in range(9)], shuffle=True)
    for count in (1, 2, 5):
        shares = [assign(blocks, shard_count=count, shard_index=i, batch=10) for i in range(count)]
        assert [row for share in shares for row in rows_in(share)] == rows_in(
            assign(blocks, shard_count=1, shard_index=0, batch=10)
        )
