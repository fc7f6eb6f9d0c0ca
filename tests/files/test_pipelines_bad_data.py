"""Data that is broken, missing, changing or of unusual size: errors that name the file, the row group, the column."""

from __future__ import annotations

import itertools
import pickle
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines import parquet
from pipelines.damage import OnError
from pipelines.errors import DataError, data_error_in
from pipelines.layout import Request
from pipelines.reader import Reader, ReadPlan
from pipelines.shards import Sharding, Unit
from pipelines.sources import Files, Opened, open_source

pytestmark = pytest.mark.timeout(60)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


def write(path: Path, columns: dict[str, Any], **options: Any) -> Path:
    pq.write_table(pa.table(columns), path, **options)
    return path


def opened(path: Path, *columns: str) -> Opened:
    return open_source(Files((str(path),)), Request(columns or None))


def read(path: Path, *columns: str) -> list[Any]:
    found = opened(path, *columns)
    return [found.source.read(unit) for unit in found.units]


def damage(path: Path, row_group: int, column: int) -> None:
    """Zeros in the place of a column's pages."""
    chunk = pq.read_metadata(path).row_group(row_group).column(column)
    start = chunk.dictionary_page_offset or chunk.data_page_offset
    content = bytearray(path.read_bytes())
    content[start : start + chunk.total_compressed_size] = bytes(chunk.total_compressed_size)
    path.write_bytes(content)


@pytest.mark.parametrize("content", [b"", b"PAR1", b"not a parquet file at all", b"PAR1" + b"\0" * 100 + b"PAR1"])
def test_a_file_that_is_not_parquet(folder: Path, content: bytes) -> None:
    path = folder / "x.parquet"
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"cannot read the footer of a Parquet file · {path}"):
        opened(folder)


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9, 0.999])
def test_a_truncated_file(folder: Path, kept: float) -> None:
    write(folder / "1.parquet", {"x": range(1000)})
    path = write(folder / "2.parquet", {"x": range(1000)})
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(DataError, match=f"cannot read the footer of a Parquet file · {path} · ."):
        opened(folder)


def test_an_encrypted_or_foreign_magic(folder: Path) -> None:
    path = write(folder / "x.parquet", {"x": range(10)})
    path.write_bytes(path.read_bytes()[:-4] + b"ORC1")
    with pytest.raises(DataError, match=f"cannot read the footer of a Parquet file · {path} · .*magic"):
        opened(folder)


@pytest.mark.parametrize("compression", ["none", "snappy", "gzip", "brotli", "zstd", "lz4"])
@pytest.mark.parametrize("columns", [("good", "bad"), ("bad",)])
def test_a_corrupt_row_group_names_its_column(folder: Path, columns: tuple[str, ...], compression: str) -> None:
    values = np.random.default_rng(0).random(1000)
    path = write(
        folder / "x.parquet",
        {"good": values, "bad": values + 1},
        compression=compression,
        use_dictionary=False,
        row_group_size=500,
    )
    damage(path, 1, 1)
    found = opened(path, *columns)
    assert found.source.read(found.units[0]).num_rows == 500
    with pytest.raises(
        DataError, match=f"cannot read a row group · {path}, row group 1, column bad · .*write the file"
    ):
        found.source.read(found.units[1])
    assert len(read(path, "good")) == 2


def test_a_corrupt_field_of_a_struct_is_named(folder: Path) -> None:
    rows = [{"a": x, "b": str(x)} for x in range(1000)]
    path = write(folder / "x.parquet", {"s": rows}, use_dictionary=False, compression="zstd")
    damage(path, 0, 1)
    with pytest.raises(DataError, match=f"cannot read a row group · {path}, row group 0, column s.b"):
        read(path)


def test_a_flipped_bit_is_found_where_pages_have_checksums(folder: Path) -> None:
    path = write(
        folder / "x.parquet", {"x": np.arange(1000)}, compression="none", use_dictionary=False, write_page_checksum=True
    )
    column = pq.read_metadata(path).row_group(0).column(0)
    content = bytearray(path.read_bytes())
    content[column.data_page_offset + column.total_compressed_size // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"cannot read a row group · {path}, row group 0, column x · .*CRC"):
        read(path)


def test_a_file_that_vanishes(folder: Path) -> None:
    path = write(folder / "x.parquet", {"x": [1], "y": [2]})
    found = opened(path)
    path.unlink()
    with pytest.raises(DataError, match=f"cannot read a row group · {path}, row group 0 · ") as caught:
        found.source.read(found.units[0])
    assert "No such file" in caught.value.todo
    with pytest.raises(DataError, match="no data file is there"):
        opened(path)


@pytest.mark.parametrize(("rows", "filters"), [(5, ()), (50, ()), (50, (("x", ">=", 3),))])
def test_a_file_that_changes_while_it_is_in_use(folder: Path, rows: int, filters: tuple[Any, ...]) -> None:
    path = write(folder / "x.parquet", {"x": range(20)})
    found = open_source(Files((str(path),)), Request(filters=filters))
    write(path, {"x": range(rows)})
    with pytest.raises(DataError) as caught:
        found.source.read(found.units[0])
    kept = [sum(x >= 3 for x in range(count)) if filters else count for count in (rows, 20)]
    if filters:  # the filters' rows were counted with the footer as it was
        assert caught.value.seen.startswith(f"{path}, row group 0")
    else:
        assert caught.value.seen == f"{path}, row group 0: {kept[0]} rows, before {kept[1]}"
        assert caught.value.happened == "a data file has changed while it was in use"


def test_files_that_differ(folder: Path) -> None:
    write(folder / "1.parquet", {"x": [1], "y": [2.0]})
    write(folder / "2.parquet", {"x": ["one"], "y": [2.0], "z": [0]})
    with pytest.raises(DataError) as caught:
        opened(folder)
    assert str(caught.value) == (
        f"column x is not of one type · {folder}/2.parquet has string, {folder}/1.parquet has int64"
        " · write both files with one schema, or say what type it is to have: casts: {x: …}"
    )
    assert list(opened(folder, "y").layout.columns) == ["y"]
    with pytest.raises(DataError, match=r"there is no column z · .*1\.parquet"):
        opened(folder, "z")


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"y": [1]}, "there is no column x · {folder}/2.parquet · {folder}/1.parquet has it"),
        ({"x": [1.5]}, "column x is not of one type · {folder}/2.parquet has float64, {folder}/1.parquet has int64"),
        ({"x": [[1]]}, "column x is not of one type · {folder}/2.parquet has ragged int64"),
        ({"x": pa.array([[1, 2]], pa.list_(pa.int64(), 2))}, "{folder}/2.parquet has int64[2]"),
        ({"x": [{"a": 1}]}, "there is no column x · {folder}/2.parquet"),
    ],
    ids=str,
)
def test_a_column_that_is_missing_or_of_another_type_in_one_file(
    folder: Path, other: dict[str, Any], message: str
) -> None:
    write(folder / "1.parquet", {"x": [1], "y": [1]})
    write(folder / "2.parquet", other)
    write(folder / "3.parquet", {"x": [1], "y": [1]})
    with pytest.raises(DataError) as caught:
        opened(folder, "x")
    assert message.format(folder=folder) in str(caught.value)


def a_list(items: pa.DataType) -> pa.DataType:
    """As Parquet names it."""
    return pa.list_(pa.field("element", items))


UTC = "UTC"
MIXED = {
    "timestamps and numbers": (pa.array([10**15], pa.timestamp("us")), pa.array([10**9])),
    "timestamps with and without a zone": (pa.array([1], pa.timestamp("us")), pa.array([1], pa.timestamp("us", UTC))),
    "timestamps and spans": (pa.array([1], pa.timestamp("us")), pa.array([1], pa.duration("us"))),
    "decimals and doubles": (pa.array([Decimal("1.50")], pa.decimal128(5, 2)), pa.array([1.23456])),
    "days and numbers": (pa.array([1], pa.int32()), pa.array([1], pa.date32())),
    "times and numbers": (pa.array([1], pa.int64()), pa.array([1], pa.time64("us"))),
    "in lists": (pa.array([[1]], a_list(pa.timestamp("us"))), pa.array([[1]], a_list(pa.int64()))),
}


@pytest.mark.parametrize("order", [1, -1], ids=["", "the other first"])
@pytest.mark.parametrize("case", MIXED)
def test_types_that_reach_tensorflow_alike_but_mean_another_thing(folder: Path, case: str, order: int) -> None:
    columns = MIXED[case][::order]
    for number, column in enumerate((columns[0], columns[1], columns[0])):
        write(folder / f"{number}.parquet", {"x": column})
    with pytest.raises(DataError) as caught:
        opened(folder)
    assert caught.value.happened == "column x is not of one type"
    assert caught.value.seen == f"{folder}/1.parquet has {columns[1].type}, {folder}/0.parquet has {columns[0].type}"
    found = open_source(Files((str(folder),), on_error="skip_files"), Request())
    assert [Path(unit.file).name for unit in found.units] == ["0.parquet", "2.parquet"]
    assert list(found.skipped.files) == [f"{folder}/1.parquet"]


def test_columns_in_another_order_and_more_of_them(folder: Path) -> None:
    write(folder / "1.parquet", {"x": [1], "y": [2]})
    write(folder / "2.parquet", {"z": [9], "y": [4], "x": [3]})
    reader = Reader(ReadPlan(Files((str(folder),)), Request(), Sharding(1, 2)))
    parts = [reader.read(chunk) for chunk in reader.begin()]
    assert [np.concatenate(column).tolist() for column in zip(*parts, strict=True)] == [[1, 3], [2, 4]]


def test_two_columns_of_one_name(folder: Path) -> None:
    path = folder / "x.parquet"
    pq.write_table(pa.table([[1], [2]], ["x", "x"]), path)
    with pytest.raises(DataError, match=f"there is more than one column x · {path}"):
        opened(path)


def test_files_without_rows_among_others(folder: Path) -> None:
    write(folder / "1.parquet", {"x": pa.array([], "int64")})
    write(folder / "2.parquet", {"x": [1, 2]})
    reader = Reader(ReadPlan(Files((str(folder),)), Request(), Sharding(1, 2)))
    assert [reader.read(chunk)[0].tolist() for chunk in reader.begin()] == [[1, 2]]


def test_only_files_without_rows(folder: Path) -> None:
    write(folder / "1.parquet", {"x": pa.array([], "int64")})
    with pytest.raises(DataError, match="there are fewer rows than shards · 0 rows, 2 shards"):
        Reader(ReadPlan(Files((str(folder),)), Request(), Sharding(2, 2)))


def test_an_empty_folder(folder: Path) -> None:
    with pytest.raises(DataError, match=f"no data file is there · {folder}"):
        opened(folder)


def test_a_file_that_may_not_be_read(folder: Path) -> None:
    path = write(folder / "x.parquet", {"x": [1]})
    (folder / "y.parquet").symlink_to("/proc/self/mem")
    with pytest.raises(DataError, match=r"y\.parquet"):
        opened(folder)
    assert len(read(path)) == 1


def test_ten_thousand_columns(folder: Path) -> None:
    columns = {f"c{number}": np.full(20, number, np.float32) for number in range(10_000)}
    path = write(folder / "x.parquet", columns, row_group_size=10)
    names = tuple(columns)
    request = Request(columns=("c7",), pack={"m": names})
    reader = Reader(ReadPlan(Files((str(path),)), request, Sharding(1, 20)))
    found = [reader.read(chunk) for chunk in reader.begin()]
    matrix = np.concatenate([parts[-1] for parts in found]).reshape(20, 10_000)
    assert (matrix == np.arange(10_000, dtype=np.float32)).all()
    damage(path, 1, 9_999)
    with pytest.raises(DataError, match=f"{path}, row group 1, column c9999"):
        read(path, "c1", "c9999")


def test_a_cell_of_100_megabytes(folder: Path) -> None:
    large = b"\xff" * 100_000_000
    path = write(folder / "x.parquet", {"id": [0, 1, 2], "x": [b"a", large, b"b"]}, compression="zstd")
    reader = Reader(ReadPlan(Files((str(path),)), Request(), Sharding(1, 1)))
    found = []
    for chunk in reader.begin():
        _, data, offsets = reader.read(chunk)
        found += [data.item()[a:b] for a, b in itertools.pairwise(offsets)]
    assert found == [b"a", large, b"b"]


def test_nulls_where_none_were_declared(folder: Path) -> None:
    """A file whose columns may not be null, and one whose may be, and are."""
    schema = pa.schema([pa.field("x", pa.int64(), nullable=False), pa.field("y", pa.string(), nullable=False)])
    pq.write_table(pa.table([[1, 2], ["a", "b"]], schema), folder / "1.parquet")
    path = write(folder / "2.parquet", {"x": [3, 4], "y": ["c", None]})
    reader = Reader(ReadPlan(Files((str(folder),)), Request(), Sharding(1, 1)))
    with pytest.raises(
        DataError, match=f"column y holds 1 nulls, which a tensor cannot hold · {path}, row group 0, col"
    ):
        [reader.read(chunk) for chunk in reader.begin()]


def test_nulls_in_lists_where_none_were_declared(folder: Path) -> None:
    path = write(folder / "x.parquet", {"x": [[1], [2, None], None]})
    reader = Reader(ReadPlan(Files((str(folder),)), Request(), Sharding(1, 3)))
    with pytest.raises(DataError, match=f"column x holds 2 nulls.*{path}, row group 0, column x"):
        reader.read(reader.begin()[0])


def test_errors_survive_pickling_and_tensorflow() -> None:
    error = DataError("column x holds nulls", "a.parquet", "drop them")
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    wrapped = RuntimeError(f"2 root error(s)\n  (0) UNKNOWN: DataError: {error}\nTraceback (most recent call last):")
    found = data_error_in(wrapped)
    assert found is not None
    assert (found.happened, found.seen, found.todo) == (error.happened, error.seen, error.todo)
    assert data_error_in(RuntimeError("another")) is None


def test_damaged_files_are_left_out_and_told(folder: Path) -> None:
    for number in range(4):
        write(folder / f"{number}.parquet", {"x": np.arange(10) + number * 10}, row_group_size=5, use_dictionary=False)
    (folder / "1.parquet").write_bytes(b"PAR1")
    damage(folder / "2.parquet", 1, 0)
    write(folder / "3.parquet", {"y": [1]})

    def rows(on_error: Any) -> tuple[list[int], str]:
        reader = Reader(ReadPlan(Files((str(folder),), on_error=on_error), Request(("x",)), Sharding(1, 4)))
        found = [row for chunk in reader.begin() for row in reader.read(chunk)[0].tolist()]
        return found, str(reader.skipped)

    found, told = rows("skip_row_groups")
    assert found == [*range(10), *range(20, 25)]
    assert told.startswith("2 files and 1 row group of 5 rows left out: ")
    assert all(f"{folder}/{name}" in told for name in ("1.parquet", "2.parquet, row group 1", "3.parquet"))
    found, told = rows("skip_files")
    assert found == [*range(10)]
    assert told.startswith("3 files left out: ")
    with pytest.raises(DataError, match=r"1\.parquet"):
        rows("raise")


@pytest.mark.parametrize("column", ["x", "k"])
def test_damage_is_left_out_where_filters_have_to_read_it(folder: Path, column: str) -> None:
    for number in range(3):
        values = np.arange(10) + number * 10
        write(folder / f"{number}.parquet", {"x": values, "k": values}, row_group_size=5, use_dictionary=False)
    damage(folder / "1.parquet", 1, ("x", "k").index(column))
    cases: list[tuple[OnError, list[int]]] = [
        ("skip_files", [*range(3, 10), *range(20, 30)]),
        ("skip_row_groups", [*range(3, 15), *range(20, 30)]),
    ]
    for on_error, kept in cases:
        files = Files((str(folder),), on_error=on_error)
        reader = Reader(ReadPlan(files, Request(("x",), filters=(("k", ">=", 3),)), Sharding(1, 99)))
        found = [row for chunk in reader.begin() for row in reader.read(chunk)[0].tolist()]
        assert found == kept
        assert "1.parquet, row group 1" in str(reader.skipped)
    with pytest.raises(DataError, match=rf"cannot read a row group · {folder}/1.parquet, row group 1, column {column}"):
        rows_of(open_source(Files((str(folder),)), Request(("x",), filters=(("k", ">=", 3),))))


def rows_of(found: Opened) -> int:
    return sum(found.source.read(unit).num_rows for unit in found.units)


@pytest.mark.parametrize("on_error", ["raise", "skip_files", "skip_row_groups"])
def test_a_file_that_vanishes_before_its_rows_are_filtered(
    folder: Path, on_error: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(2):
        write(folder / f"{number}.parquet", {"x": range(3)})
    original = parquet.ParquetSource._possible

    def vanishing(self: Any, units: list[Unit]) -> list[Unit]:
        (folder / "1.parquet").unlink(missing_ok=True)
        return original(self, units)

    monkeypatch.setattr(parquet.ParquetSource, "_possible", vanishing)
    files, request = Files((str(folder),), on_error=on_error), Request(filters=(("x", ">", 0),))
    if on_error == "raise":
        with pytest.raises(DataError, match=r"cannot read a row group · .*1\.parquet.*No such file"):
            open_source(files, request)
        return
    found = open_source(files, request)
    assert rows_of(found) == 2
    assert "1.parquet" in str(found.skipped)


def test_nothing_is_left_out_where_nothing_is_damaged(folder: Path) -> None:
    write(folder / "x.parquet", {"x": [1]})
    found = open_source(Files((str(folder),), on_error="skip_row_groups"), Request())
    assert not found.skipped
    assert len(found.units) == 1


@pytest.mark.parametrize("on_error", ["skip_files", "skip_row_groups"])
def test_all_data_damaged(folder: Path, on_error: Any) -> None:
    path = write(folder / "x.parquet", {"x": np.arange(10)}, use_dictionary=False)
    damage(path, 0, 0)
    with pytest.raises(DataError, match=r"none of the data can be read · 1 .* left out: .*row group 0"):
        open_source(Files((str(folder),), on_error=on_error), Request())
    path.write_bytes(b"PAR1")
    with pytest.raises(DataError, match="no file has a readable footer"):
        open_source(Files((str(folder),), on_error=on_error), Request())
