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
from pipelines.tfrecord_index import UNIT_BYTES, UNIT_RECORDS
from pipelines.tfrecord_writer import write_records
from tests.tf_data.peak_memory import WIDTH

#: What the docs state: so many decoded row groups, blocks or chunks, and so many bytes for allocators and threads.
MOST_GROUPS, MOST_BESIDE = 8, 192 * 2**20
GROUP_ROWS, COLUMNS, GROUPS = 2 * CHUNK_ROWS, 32, 48
UNITS = 64


@pytest.fixture(scope="module")
def parquet(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A file of one row group, and one of many: `[rows, 32]` float32."""
    folder = tmp_path_factory.mktemp("parquet")
    numbers = np.arange(GROUP_ROWS)
    names = ["x", *(f"x{number}" for number in range(1, COLUMNS))]
    table = pa.table({name: (numbers * (3 + at) % 251).astype(np.float32) for at, name in enumerate(names)})
    pq.write_table(table.slice(0, 4096), folder / "small.parquet", row_group_size=512)
    with pq.ParquetWriter(folder / "large.parquet", table.schema, compression="zstd") as writer:
        for _ in range(GROUPS):
            writer.write_table(table)
    return folder / "small.parquet", folder / "large.parquet"


@pytest.fixture(scope="module")
def tfrecord(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A file of few records, and one of many units."""
    folder = tmp_path_factory.mktemp("tfrecord")
    numbers = np.arange(UNIT_RECORDS * WIDTH, dtype=np.float32)
    records = examples_of(pa.table({"x": pa.FixedSizeListArray.from_arrays(numbers, WIDTH)}))
    write_records(str(folder / "small.tfrecord"), records.slice(0, 4096))
    write_records(str(folder / "unit.tfrecord"), records)
    unit = (folder / "unit.tfrecord").read_bytes()
    assert 0.9 * UNIT_BYTES < len(unit) < UNIT_BYTES
    with open(folder / "large.tfrecord", "wb") as file:
        for _ in range(UNITS):
            file.write(unit)
    return folder / "small.tfrecord", folder / "large.tfrecord"


def growth(files: tuple[Path, Path], order: str, rows: int, ahead: int = AHEAD) -> int:
    """Bytes by which the peak of a process grows that reads the large file."""
    command = [sys.executable, "-m", "tests.tf_data.peak_memory", *map(str, files), order, str(ahead)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=170)
    assert done.returncode == 0, done.stderr
    taken, grown = map(int, done.stdout.split())
    assert taken == rows
    print(f"{grown:,} bytes")
    return grown


def most(group: int) -> int:
    return MOST_GROUPS * group + MOST_BESIDE


@pytest.mark.parametrize("order", ["plain", "shuffled"])
def test_parquet_takes_no_more_memory_than_stated(parquet: tuple[Path, Path], order: str) -> None:
    group = GROUP_ROWS * COLUMNS * 4
    assert 2 * most(group) <= GROUPS * group
    assert growth(parquet, order, GROUPS * GROUP_ROWS) < most(group)


@pytest.mark.parametrize("order", ["plain", "shuffled"])
def test_tfrecord_takes_no_more_memory_than_stated(tfrecord: tuple[Path, Path], order: str) -> None:
    assert 2 * most(UNIT_BYTES) <= UNITS * UNIT_BYTES
    assert growth(tfrecord, order, UNITS * UNIT_RECORDS) < most(UNIT_BYTES)


def test_reading_further_ahead_would_be_seen(parquet: tuple[Path, Path]) -> None:
    assert growth(parquet, "shuffled", GROUPS * GROUP_ROWS, ahead=10 * AHEAD) > most(GROUP_ROWS * COLUMNS * 4)
