"""What row groups take in memory: told from their footers, near what they really take, and of what is read only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines import parquet
from pipelines.inputs import BATCH_BYTES, Segment
from pipelines.layout import Request
from pipelines.open_input import open_input
from pipelines.reader import CHUNK_BYTES, Reader, ReadPlan
from pipelines.shards import Sharding, Unit, blocks_of
from pipelines.sources import Files, open_source

ROWS = 20_000
RANDOM = np.random.default_rng(0)
SHAPES: dict[str, Any] = {
    "constant": np.zeros(ROWS, np.int64),
    "numbers": RANDOM.random(ROWS),
    "bools": np.zeros(ROWS, bool),
    "text": [f"row {number}" for number in range(ROWS)],
    "one_text": ["a text that is always the same"] * ROWS,
    "categories": pa.array(["Zürich", "Bern", "Genève"] * (ROWS // 3) + ["Bern"] * (ROWS % 3)).dictionary_encode(),
    "lists": [[1, 2, 3]] * ROWS,
    "lists_of_text": [["one", "two"], []] * (ROWS // 2),
    "vectors": pa.FixedSizeListArray.from_arrays(pa.array(RANDOM.random(ROWS * 4)), 4),
    "structs": [{"a": 1, "b": "x"}] * ROWS,
    "nulls": pa.nulls(ROWS, pa.string()),
    "dates": pa.array([0] * ROWS, pa.date32()),
}


def write(path: Path, columns: dict[str, Any], **options: Any) -> Path:
    pq.write_table(pa.table(columns), path, **options)
    return path


def units_of(path: Path, *columns: str, **more: Any) -> tuple[Unit, ...]:
    return open_source(Files((str(path),)), Request(columns or None, **more)).units


@pytest.mark.parametrize("name", SHAPES)
def test_the_estimate_is_near_what_is_decoded(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / "x.parquet", {name: SHAPES[name]}, row_group_size=ROWS // 2)
    table = open_source(Files((str(path),)), Request()).source.read(units_of(path)[0])
    plain = [column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column for column in table]
    real = sum(column.nbytes for column in plain)
    for unit in units_of(path):
        assert 0.8 * real <= unit.size <= 3 * real + 8 * ROWS


def test_only_what_is_read_counts(tmp_path: Path) -> None:
    columns = {f"x{number}": RANDOM.random(100) for number in range(10)} | {"s": ["long" * 50] * 100}
    path = write(tmp_path / "x.parquet", columns)
    assert [unit.size for unit in units_of(path, "x3")] == [800]
    assert [unit.size for unit in units_of(path, "x3", "x4")] == [1600]
    assert [unit.size for unit in units_of(path, "x3", filters=(("x4", ">=", 0),))] == [1600]
    assert next(unit.size for unit in units_of(path, "s")) == pytest.approx(100 * 204, rel=0.1)


def test_a_cast_to_a_wider_type_counts(tmp_path: Path) -> None:
    path = write(tmp_path / "x.parquet", {"x": np.arange(100, dtype=np.int8)})
    assert [unit.size for unit in units_of(path)] == [100]
    assert [unit.size for unit in units_of(path, casts={"x": "float64"})] == [800]


def test_a_row_group_with_longer_values_counts_for_more(tmp_path: Path) -> None:
    for number, length in enumerate((10, 10, 10, 5_000)):
        values = [RANDOM.bytes(length) for _ in range(100)]
        write(tmp_path / f"{number}.parquet", {"x": values}, use_dictionary=False, compression="none")
    sizes = [unit.size for unit in units_of(tmp_path)]
    assert sizes[:3] == pytest.approx([1_400] * 3, rel=0.2)
    assert sizes[3] == pytest.approx(500_000, rel=0.5)


def test_files_of_several_schemas(tmp_path: Path) -> None:
    write(tmp_path / "1.parquet", {"s": ["x" * 10] * 100})
    write(tmp_path / "2.parquet", {"s": ["x" * 1000] * 100, "more": RANDOM.random(100)})
    write(tmp_path / "3.parquet", {"s": pa.array([], pa.string())})
    sizes = [unit.size for unit in units_of(tmp_path, "s")]
    assert sizes[:2] == pytest.approx([1_400, 100_400], rel=0.2)
    assert sizes[2] == 0


def test_few_footers_are_looked_at_column_by_column(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(30):
        write(tmp_path / f"{number:02}.parquet", {"s": ["x" * number] * 10, "n": range(10)})
    looked = list[str]()
    original = parquet.ParquetSource._open

    def counted(source: parquet.ParquetSource, path: str) -> Any:
        looked.append(path)
        return original(source, path)

    monkeypatch.setattr(parquet.ParquetSource, "_open", counted)
    assert len(units_of(tmp_path, "n")) == 30
    assert looked == []
    assert len(units_of(tmp_path)) == 30
    assert len(looked) == 1


def test_chunks_and_blocks_of_constant_columns_are_bounded(tmp_path: Path) -> None:
    """A hundred columns of zeros take next to nothing in the file, and 800 bytes a row in memory."""
    rows = 200_000
    path = tmp_path / "x.parquet"
    zeros = pa.array(np.zeros(rows, np.int64))
    pq.write_table(pa.table({f"x{number}": zeros for number in range(100)}), path, row_group_size=rows // 4)
    reader = Reader(ReadPlan(Files((str(path),)), sharding=Sharding(1, 1024), shuffle=True))
    assert reader.chunk_rows == CHUNK_BYTES // 800
    assert [len(block) for block in blocks_of(reader.units, shuffle=True)] == [2, 2]  # of 80 MB: 64 MiB are enough


def test_positions_tell_how_rows_are_mixed(tmp_path: Path) -> None:
    rows = 200_000
    columns = {"a": np.zeros(rows, np.int64), "v": pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(64 * rows)), 64)}
    path = write(tmp_path / "x.parquet", columns, row_group_size=rows // 8)

    def mixing(*names: str, shuffle: bool = True) -> dict[str, str]:
        return Reader(ReadPlan(Files((str(path),)), Request(names or None), Sharding(1, 8), shuffle=shuffle)).mixing()

    assert mixing("a") == mixing("a")
    assert mixing("a") != mixing("a", "v")
    assert mixing(shuffle=False) == {}


def test_batches_of_a_conversion_are_bounded(tmp_path: Path) -> None:
    columns = {f"x{number}": np.zeros(100_000, np.int64) for number in range(100)}
    path = write(tmp_path / "x.parquet", columns)
    batches = [*open_input(str(path)).read(Segment(str(path), 0, 100_000))]
    assert sum(batch.num_rows for batch in batches) == 100_000
    assert max(batch.nbytes for batch in batches) <= 1.05 * BATCH_BYTES  # and a bit a value for nulls
