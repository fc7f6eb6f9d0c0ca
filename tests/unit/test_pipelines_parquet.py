"""Finding Parquet files, their footers and columns, and what is said when something is wrong with them."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.errors import DataError, data_error_in
from pipelines.parquet import BYTES, expand, open_source, read, to_numpy
from pipelines.reader import Reader, ReadPlan
from pipelines.shards import Unit

pytestmark = pytest.mark.timeout(60)


def write(path: Path, columns: dict[str, Any], **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path, **options)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """`a/1.parquet`, `a/b/2.parquet`, `c/3.parquet`, hidden ones and another kind."""
    for name in ("a/1.parquet", "a/b/2.parquet", "c/3.parquet", "a/_temporary/x.parquet", "a/.hidden.parquet"):
        write(tmp_path / name, {"x": [1, 2]})
    (tmp_path / "a" / "_SUCCESS").touch()
    (tmp_path / "a" / "notes.txt").write_text("notes")
    return tmp_path


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("", ["a/1", "a/b/2", "c/3"]),
        ("a", ["a/1", "a/b/2"]),
        ("a/", ["a/1", "a/b/2"]),
        ("a/1.parquet", ["a/1"]),
        ("*/[0-9].parquet", ["a/1", "c/3"]),
        ("a/*.parquet", ["a/.hidden", "a/1"]),
        ("**/[123].parquet", ["a/1", "a/b/2", "c/3"]),
        ("a/**/[0-9x].parquet", ["a/1", "a/_temporary/x", "a/b/2"]),
    ],
)
@pytest.mark.parametrize("scheme", ["", "file://"])
def test_paths_directories_and_globs(folder: Path, scheme: str, pattern: str, names: list[str]) -> None:
    _, paths = expand(f"{scheme}{folder}/{pattern}")
    assert [str(Path(path).relative_to(folder)).removesuffix(".parquet") for path in paths] == names


def test_a_list_keeps_its_order_and_each_file_once(folder: Path) -> None:
    _, paths = expand([f"{folder}/c/3.parquet", f"{folder}/a/1.parquet", f"{folder}/*/3.parquet"])
    assert [Path(path).name for path in paths] == ["3.parquet", "1.parquet"]


def test_relative_paths(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    assert [Path(path) for path in expand("a")[1]] == [Path("a/1.parquet"), Path("a/b/2.parquet")]
    assert [Path(path) for path in expand("./*/3.parquet")[1]] == [Path("c/3.parquet")]
    assert len(expand(".")[1]) == 3
    assert [Path(path) for path in expand("?/3.parquet")[1]] == [Path("c/3.parquet")]


def test_a_file_whose_name_looks_like_a_glob(tmp_path: Path) -> None:
    path = write(tmp_path / "day[1].parquet", {"x": [1]})
    assert expand(str(path))[1] == [str(path)]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], "no data files are given"),
        ("{tmp}/absent", "no data file is there · {tmp}/absent"),
        ("{tmp}/*.parquet", "no data file is there"),
        ("nosuch://bucket/x", "cannot open the file system of the data · nosuch://bucket/x"),
    ],
)
def test_nothing_to_read(tmp_path: Path, files: str | list[str], message: str) -> None:
    where = files.format(tmp=tmp_path) if isinstance(files, str) else files
    with pytest.raises(DataError) as caught:
        expand(where)
    assert message.format(tmp=tmp_path) in str(caught.value)


def test_units_are_row_groups_in_file_order(tmp_path: Path) -> None:
    first = write(tmp_path / "1.parquet", {"x": range(25)}, row_group_size=10)
    second = write(tmp_path / "2.parquet", {"x": range(3)})
    source = open_source(str(tmp_path))
    assert source.units == (
        Unit(str(first), 0, 10),
        Unit(str(first), 1, 10),
        Unit(str(first), 2, 5),
        Unit(str(second), 0, 3),
    )


COLUMNS: dict[str, pa.Array] = {
    **{f"int{bits}": pa.array([-1, 0, 2 ** (bits - 1) - 1], f"int{bits}") for bits in (8, 16, 32, 64)},
    **{f"uint{bits}": pa.array([0, 1, 2**bits - 1], f"uint{bits}") for bits in (8, 16, 32, 64)},
    "float16": pa.array(np.array([0.5, -1, 2], np.float16)),
    "float32": pa.array([0.1, float("nan"), 3], "float32"),
    "float64": pa.array([0.1, float("inf"), 3]),
    "bool": pa.array([True, False, True]),
    "string": pa.array(["", "a", "Zürich"]),
    "large_string": pa.array(["", "a", "Zürich"], pa.large_string()),
    "binary": pa.array([b"", b"\x00\xff", b"b"]),
    "dictionary": pa.array(["x", "y", "x"]).dictionary_encode(),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_columns_equal_what_was_written(tmp_path: Path, name: str) -> None:
    column = COLUMNS[name]
    path = write(tmp_path / "x.parquet", {name: column})
    source = open_source(str(path))
    table = read(source, source.units[0])
    values = to_numpy(table[name], source.columns[name])
    assert values.dtype == (BYTES if column.type not in map(pa.type_for_alias, NUMERIC) else np.dtype(name))
    expected = column.to_pylist()
    if values.dtype == BYTES:
        expected = [value.encode() if isinstance(value, str) else value for value in expected]
        assert values.tolist() == expected
    else:
        np.testing.assert_array_equal(values, np.array(expected, values.dtype))


NUMERIC = [name for name in COLUMNS if name[:3] in ("int", "uin", "flo", "boo")]


@pytest.mark.parametrize(
    ("kind", "columns", "message"),
    [
        (pa.timestamp("us"), None, "column when has a type that cannot be read yet · {path}, timestamp[us]"),
        (pa.list_(pa.int32()), None, "column when has a type that cannot be read yet"),
        (pa.int32(), ["wen"], "there is no column wen · {path} · did you mean when?"),
    ],
)
def test_columns_that_cannot_be_had(tmp_path: Path, kind: pa.DataType, columns: list[str] | None, message: str) -> None:
    path = write(tmp_path / "x.parquet", {"when": pa.array([], kind), "x": pa.array([], "int8")})
    with pytest.raises(DataError) as caught:
        open_source(str(path), columns)
    assert message.format(path=path) in str(caught.value)
    assert list(open_source(str(path), ["x"]).columns) == ["x"]


def test_a_label_is_read_beside_the_columns(tmp_path: Path) -> None:
    path = write(tmp_path / "x.parquet", {"x": [0], "y": [1], "z": [2]})
    assert list(open_source(str(path), ["x"], "z").columns) == ["x", "z"]
    with pytest.raises(DataError, match="there is no column w"):
        open_source(str(path), None, "w")


def test_files_that_differ(tmp_path: Path) -> None:
    write(tmp_path / "1.parquet", {"x": [1], "y": [2.0]})
    write(tmp_path / "2.parquet", {"x": ["one"], "y": [2.0], "z": [0]})
    with pytest.raises(DataError) as caught:
        open_source(str(tmp_path))
    assert str(caught.value) == (
        f"column x is not of one type · {tmp_path}/2.parquet has string, {tmp_path}/1.parquet has int64"
        " · write both files with one schema"
    )
    assert list(open_source(str(tmp_path), ["y"]).columns) == ["y"]
    with pytest.raises(DataError, match=r"there is no column z · .*1\.parquet"):
        open_source(str(tmp_path), ["z"])


def test_nulls_name_file_row_group_and_column(tmp_path: Path) -> None:
    path = write(tmp_path / "x.parquet", {"x": [1, 2, 3, None], "y": [1, 2, 3, 4]}, row_group_size=2)
    source = open_source(str(path))
    assert read(source, source.units[0]).num_rows == 2
    with pytest.raises(DataError) as caught:
        read(source, source.units[1])
    assert f"column x holds 1 nulls, which a tensor cannot hold · {path}, row group 1, column x" in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"PAR1", b"not a parquet file at all", b"PAR1" + b"\0" * 100 + b"PAR1"])
def test_a_file_that_is_not_parquet(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.parquet"
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"cannot read the footer of a Parquet file · {path}"):
        open_source(str(tmp_path))


def test_a_corrupt_row_group_names_its_column(tmp_path: Path) -> None:
    values = np.random.default_rng(0).random(1000)
    path = write(tmp_path / "x.parquet", {"good": values, "bad": values + 1}, compression="zstd", use_dictionary=False)
    column = pq.read_metadata(path).row_group(0).column(1)
    content = bytearray(path.read_bytes())
    content[column.data_page_offset : column.data_page_offset + column.total_compressed_size] = bytes(
        column.total_compressed_size
    )
    path.write_bytes(content)
    source = open_source(str(path))
    with pytest.raises(DataError, match=f"cannot read a row group · {path}, row group 0, column bad"):
        read(source, source.units[0])


def test_a_file_that_vanishes(tmp_path: Path) -> None:
    path = write(tmp_path / "x.parquet", {"x": [1], "y": [2]})
    source = open_source(str(path))
    path.unlink()
    with pytest.raises(DataError, match=f"cannot read a row group · {path}, row group 0 · "):
        read(source, source.units[0])


def test_errors_survive_pickling_and_tensorflow() -> None:
    error = DataError("column x holds nulls", "a.parquet", "drop them")
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    wrapped = RuntimeError(f"2 root error(s)\n  (0) UNKNOWN: DataError: {error}\nTraceback (most recent call last):")
    found = data_error_in(wrapped)
    assert found is not None
    assert (found.happened, found.seen, found.todo) == (error.happened, error.seen, error.todo)
    assert data_error_in(RuntimeError("another")) is None


def plan_for(path: Path, **changes: Any) -> ReadPlan:
    values: dict[str, Any] = {
        "files": (str(path),), "columns": None, "label": None, "batch": 4, "shuffle": False, "seed": 0,
        "shard_count": 1, "shard_index": 0, "epoch": 0, "skip_batches": 0,
    }  # fmt: skip
    return ReadPlan(**{**values, **changes})


def test_a_plan_survives_json() -> None:
    plan = plan_for(Path("x"), columns=("a", "b"), shard_index=None)
    assert ReadPlan.from_json(plan.to_json()) == plan


def test_a_reader_packs_columns_by_dtype(tmp_path: Path) -> None:
    path = write(tmp_path / "x.parquet", {"a": [1, 2], "s": ["x", "y"], "b": [3, 4], "t": ["z", ""]})
    reader = Reader(plan_for(path))
    numbers, strings = reader.read(reader.begin()[0][0])
    assert numbers.tolist() == [[1, 3], [2, 4]]
    assert strings.tolist() == [[b"x", b"z"], [b"y", b""]]


def test_skipped_batches_are_not_read(tmp_path: Path) -> None:
    path = write(tmp_path / "x.parquet", {"a": range(20)}, row_group_size=5)
    pieces, sizes = Reader(plan_for(path, skip_batches=3)).begin()
    assert pieces.tolist() == [[0, 2, 2, 5], [0, 3, 0, 5]]
    assert sizes.tolist() == [4, 4]
