"""A shuffled epoch of sorted data: labels, neighbours and the old order in its batches, as the docs state."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.layout import Request
from pipelines.reader import Reader, ReadPlan
from pipelines.shards import Sharding
from pipelines.sources import Files

ROWS, BATCH, LABELS = 2**19, 1024, 10
Order = npt.NDArray[np.int64]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Row numbers, once in row groups of 1,024, once of 8,192."""
    folder = tmp_path_factory.mktemp("sorted")
    for size in (1024, 8192):
        pq.write_table(pa.table({"id": np.arange(ROWS)}), folder / f"{size}.parquet", row_group_size=size)
    return folder


def order(path: Path, epoch: int = 0, *, shuffle: bool = True) -> Order:
    """The rows of an epoch in the order in which they are read."""
    plan = ReadPlan(Files((str(path),)), Request(), Sharding(1, BATCH), shuffle=shuffle, seed=3, epoch=epoch)
    reader = Reader(plan)
    return np.concatenate([reader.read(chunk)[0] for chunk in reader.begin()])


def imbalance(found: Order) -> float:
    """Mean over batches: half the sum of the differences between the labels' shares in the batch and in all rows."""
    labels = found.reshape(-1, BATCH) * LABELS // ROWS
    return float(np.mean([np.abs(np.bincount(batch, minlength=LABELS) / BATCH - 0.1).sum() / 2 for batch in labels]))


def together(found: Order) -> float:
    """Share of neighbours in the file that are in one batch."""
    batch = np.argsort(found) // BATCH
    return float((batch[1:] == batch[:-1]).mean())


def kept(found: Order) -> float:
    return float(abs(np.corrcoef(found, np.arange(ROWS))[0, 1]))


def test_what_is_measured() -> None:
    whole = np.random.default_rng(0).permutation(ROWS)
    assert imbalance(whole) < 0.05
    assert together(whole) < 0.003
    assert kept(whole) < 0.01
    unmixed = np.arange(ROWS)
    assert imbalance(unmixed) > 0.85
    assert together(unmixed) > 0.99
    assert kept(unmixed) > 0.99


@pytest.mark.parametrize(("size", "most"), [(1024, 0.2), (8192, 0.5)])
def test_a_sorted_file_is_mixed_as_well_as_stated(folder: Path, size: int, most: float) -> None:
    found = [order(folder / f"{size}.parquet", epoch) for epoch in range(3)]
    for one in found:
        assert np.array_equal(np.sort(one), np.arange(ROWS))
        assert imbalance(one) < most
        assert together(one) < 0.02
    assert np.mean([kept(one) for one in found]) < 0.4


def test_without_shuffling_it_would_not_be(folder: Path) -> None:
    assert np.array_equal(order(folder / "1024.parquet", shuffle=False), np.arange(ROWS))


def test_epochs_are_as_different_as_two_shuffles(folder: Path) -> None:
    first, second = (np.argsort(order(folder / "1024.parquet", epoch)) for epoch in (0, 1))
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.4
    assert (first // BATCH == second // BATCH).mean() < 0.02
