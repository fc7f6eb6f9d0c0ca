"""Data that cannot be read: an error that says where, or left out, counted and told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.errors import DataError
from pipelines.layout import Request
from pipelines.reader import Reader, ReadPlan
from pipelines.shards import Sharding
from pipelines.sources import Files, open_source
from pipelines.tfrecord_writer import write_records

pytestmark = pytest.mark.timeout(60)

ROWS, GROUP = 1000, 100


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four files of 1,000 rows in row groups of 100; the third has a damaged row group, the fourth no footer."""
    for number in range(4):
        ids = np.arange(number * ROWS, (number + 1) * ROWS)
        table = pa.table({"id": ids, "x": np.random.default_rng(number).random(ROWS)})
        pq.write_table(table, tmp_path / f"{number}.parquet", row_group_size=GROUP, write_page_checksum=True)
    damage(tmp_path / "2.parquet", row_group=5)
    (tmp_path / "3.parquet").write_bytes(b"PAR1 this is no file")
    return tmp_path


def damage(path: Path, row_group: int) -> None:
    """Overwrite the data of column x of a row group."""
    column = pq.read_metadata(path).row_group(row_group).column(1)
    content = bytearray(path.read_bytes())
    start = column.dictionary_page_offset or column.data_page_offset
    content[start + 30 : start + 30 + column.total_compressed_size // 2] = b"\xff" * (column.total_compressed_size // 2)
    path.write_bytes(bytes(content))


def ids_read(files: Files) -> list[int]:
    """The ids of one epoch, by two shards that must agree on what is left out."""
    found: list[int] = []
    for shard in range(2):
        reader = Reader(ReadPlan(files, Request(columns=("id", "x")), Sharding(2, 64), shard))
        for chunk in reader.begin():
            found += reader.read(chunk)[0].tolist()
    return sorted(found)


def test_an_error_names_the_file_before_anything_is_read(folder: Path) -> None:
    with pytest.raises(DataError, match=r"footer of a Parquet file · .*3\.parquet"):
        open_source(Files((str(folder),)), Request())


def test_row_groups_are_left_out(folder: Path) -> None:
    files = Files((str(folder),), on_error="skip_row_groups")
    lost = set(range(2 * ROWS + 5 * GROUP, 2 * ROWS + 6 * GROUP)) | set(range(3 * ROWS, 4 * ROWS))
    assert ids_read(files) == [number for number in range(4 * ROWS) if number not in lost]
    said = str(open_source(files, Request()).skipped)
    assert said.startswith("1 file and 1 row group of 100 rows left out: ")
    assert "3.parquet" in said
    assert "2.parquet, row group 5, column x" in said


def test_files_are_left_out(folder: Path) -> None:
    files = Files((str(folder),), on_error="skip_files")
    assert ids_read(files) == list(range(2 * ROWS))
    assert str(open_source(files, Request()).skipped).startswith("2 files left out: ")


def test_files_with_other_columns_are_left_out(tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": [1, 2], "x": [0.5, 1.5]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"id": [3, 4], "x": ["one", "two"]}), tmp_path / "b.parquet")
    pq.write_table(pa.table({"id": [5, 6]}), tmp_path / "c.parquet")
    files = Files((str(tmp_path),), on_error="skip_files")
    assert ids_read(files) == [1, 2]
    assert set(open_source(files, Request()).skipped.files) == {
        str(tmp_path / "b.parquet"),
        str(tmp_path / "c.parquet"),
    }


def test_the_first_file_may_be_the_odd_one(tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": [1], "x": ["one"]}), tmp_path / "a.parquet")
    for name, ids in (("b", [2, 3]), ("c", [4, 5])):
        pq.write_table(pa.table({"id": ids, "x": [0.5, 1.5]}), tmp_path / f"{name}.parquet")
    files = Files((str(tmp_path),), on_error="skip_files")
    assert ids_read(files) == [2, 3, 4, 5]
    assert set(open_source(files, Request()).skipped.files) == {str(tmp_path / "a.parquet")}
    with pytest.raises(DataError, match=r"column x is not of one type · .*b\.parquet has float64"):
        open_source(Files((str(tmp_path),)), Request())


def test_nothing_left_is_an_error(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.parquet").write_bytes(b"nothing")
    for on_error in ("skip_files", "skip_row_groups"):
        with pytest.raises(DataError, match=r"no file has a readable footer|none of the data can be read"):
            open_source(Files((str(tmp_path),), on_error=on_error), Request())


def test_damaged_records_are_left_out(tmp_path: Path) -> None:
    from pipelines.example_writer import example_of

    for number in range(2):
        write_records(str(tmp_path / f"{number}.tfrecord"), [example_of({"id": number * 10 + i}) for i in range(10)])
    content = bytearray((tmp_path / "1.tfrecord").read_bytes())
    content[20] ^= 0xFF
    (tmp_path / "1.tfrecord").write_bytes(bytes(content))
    with pytest.raises(DataError, match=r"1\.tfrecord, record 0"):  # it is looked at to infer the features
        open_source(Files((str(tmp_path),)), Request())
    opened = open_source(Files((str(tmp_path),), on_error="skip_row_groups"), Request())
    assert sum(unit.rows for unit in opened.units) == 10
    assert "1.tfrecord" in str(opened.skipped)


def test_files_of_two_formats_are_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": [1]}), tmp_path / "a.parquet")
    write_records(str(tmp_path / "b.tfrecord"), [b"x"])
    with pytest.raises(DataError, match="several formats"):
        open_source(Files((str(tmp_path),)), Request())
