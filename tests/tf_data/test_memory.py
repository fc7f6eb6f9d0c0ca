"""Memory does not grow with the dataset: the peak of a process stays below what docs/reading-data.md states."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.example_writer import examples_of
from pipelines.reader import AHEAD, CHUNK_ROWS
from pipelines.shards import MIX_UNITS
from pipelines.tfrecord_index import UNIT_BYTES, UNIT_RECORDS
from pipelines.tfrecord_writer import write_records
from tests.tf_data.peak_memory import WIDTH

#: What the docs state: so many decoded row groups, blocks or chunks, and so many bytes for allocators and threads. Here
#: row groups, or when shuffled blocks, are the largest of these.
MOST_GROUPS, MOST_BESIDE = 8, 192 * 2**20
GROUP_ROWS, COLUMNS, GROUPS = 2 * CHUNK_ROWS, 32, 48
UNITS = 64


@pytest.fixture(scope="module")
def parquet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Few rows, many rows in large row groups, and many rows in row groups of which a block has several."""
    folder = tmp_path_factory.mktemp("parquet")
    numbers = np.arange(GROUP_ROWS)
    names = ["x", *(f"x{number}" for number in range(1, COLUMNS))]
    table = pa.table({name: (numbers * (3 + at) % 251).astype(np.float32) for at, name in enumerate(names)})
    pq.write_table(table.slice(0, 4096), folder / "small.parquet", row_group_size=512)
    for name, rows in (("plain", GROUP_ROWS), ("shuffled", GROUP_ROWS // MIX_UNITS)):
        with pq.ParquetWriter(folder / f"{name}.parquet", table.schema, compression="zstd") as writer:
            for _ in range(GROUPS):
                writer.write_table(table, row_group_size=rows)
    return folder


@pytest.fixture(scope="module")
def tfrecord(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Few records, many in one file, and many in files of one unit each, of which a block has several."""
    folder = tmp_path_factory.mktemp("tfrecord")
    numbers = np.arange(UNIT_RECORDS * WIDTH, dtype=np.float32)
    records = examples_of(pa.table({"x": pa.FixedSizeListArray.from_arrays(numbers, WIDTH)}))
    write_records(str(folder / "small.tfrecord"), records.slice(0, 4096))
    write_records(str(folder / "unit.tfrecord"), records)
    write_records(str(folder / "part.tfrecord"), records.slice(0, UNIT_RECORDS // MIX_UNITS))
    unit, part = ((folder / f"{name}.tfrecord").read_bytes() for name in ("unit", "part"))
    assert 0.9 * UNIT_BYTES < len(unit) < UNIT_BYTES
    with open(folder / "plain.tfrecord", "wb") as file:
        for _ in range(UNITS):
            file.write(unit)
    (folder / "shuffled.tfrecord").mkdir()
    for number in range(UNITS * MIX_UNITS):
        (folder / "shuffled.tfrecord" / f"{number:03}.tfrecord").write_bytes(part)
    return folder


def growth(folder: Path, order: str, rows: int, ahead: int = AHEAD) -> int:
    """Bytes by which the peak of a process grows that reads the many rows."""
    files = [str(next(folder.glob(f"{name}.*"))) for name in ("small", order)]
    command = [sys.executable, "-m", "tests.tf_data.peak_memory", *files, order, str(ahead)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=170)
    assert done.returncode == 0, done.stderr
    taken, grown = map(int, done.stdout.split())
    assert taken == rows
    print(f"{grown:,} bytes")
    return grown


def most(group: int) -> int:
    return MOST_GROUPS * group + MOST_BESIDE


@pytest.mark.parametrize("order", ["plain", "shuffled"])
def test_parquet_takes_no_more_memory_than_stated(parquet: Path, order: str) -> None:
    group = GROUP_ROWS * COLUMNS * 4
    assert 2 * most(group) <= GROUPS * group
    assert growth(parquet, order, GROUPS * GROUP_ROWS) < most(group)


@pytest.mark.parametrize("order", ["plain", "shuffled"])
def test_tfrecord_takes_no_more_memory_than_stated(tfrecord: Path, order: str) -> None:
    assert 2 * most(UNIT_BYTES) <= UNITS * UNIT_BYTES
    assert growth(tfrecord, order, UNITS * UNIT_RECORDS) < most(UNIT_BYTES)


def test_reading_further_ahead_would_be_seen(parquet: Path) -> None:
    assert growth(parquet, "shuffled", GROUPS * GROUP_ROWS, ahead=10 * AHEAD) > most(GROUP_ROWS * COLUMNS * 4)
