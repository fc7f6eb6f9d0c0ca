"""Parquet as the request's columns: every type and codec as pyarrow reads it, nulls, casts, filters, folders."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines import parquet
from pipelines.errors import DataError
from pipelines.layout import Request
from pipelines.leases import Desk
from pipelines.reader import Reader, ReadPlan
from pipelines.schema import Fixed, Kind, Number, Ragged, Text
from pipelines.shards import Sharding, Unit, left, whole
from pipelines.sources import Files, open_source
from tests.every_type import EVERY_TYPE, every_type, expected, same, types_here
from tests.files.parquet_rows import reader_of, rebuilt, refusal, values, write

pytestmark = pytest.mark.timeout(60)

HERE = Path(__file__).parent
TYPES = types_here()


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_units_are_row_groups_in_file_order(tmp_path: Path) -> None:
    first = write(tmp_path / "1.parquet", {"x": range(25)}, row_group_size=10)
    second = write(tmp_path / "2.parquet", {"x": range(3)})
    source = open_source(Files((str(tmp_path),)), Request()).source
    assert [unit[:3] for unit in source.units] == [
        (str(first), 0, 10),
        (str(first), 1, 10),
        (str(first), 2, 5),
        (str(second), 0, 3),
    ]
    assert [unit.size for unit in source.units] == [80, 80, 40, 24]


@pytest.mark.parametrize("name", TYPES)
def test_columns_equal_what_pyarrow_reads(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / "x.parquet", {name: EVERY_TYPE[name]()}, row_group_size=17)
    wanted = expected(pq.read_table(path))
    found = values(path)
    assert list(found) == list(wanted)
    assert all(same(found[column], wanted[column]) for column in wanted)


def test_types_that_every_pyarrow_has_are_tested() -> None:
    newer = {"decimal32", "decimal64", "uuid", "json", "bool8", "list_view", "list_view_of_struct"}
    newer |= {"string_view", "binary_view"}
    assert set(EVERY_TYPE) - set(TYPES) <= newer


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *((name, Number(name)) for name in TYPES if name.strip("u")[:3] in ("int", "flo") or name == "bool"),
        *((name, Number("float64")) for name in TYPES if name.startswith("decimal")),
        *((name, Number("int64")) for name in TYPES if name[:4] in ("time", "dura") and "32" not in name),
        ("date32", Number("int32")),
        ("time32_ms", Number("int32")),
        ("dictionary", Text()),
        ("fixed_size_binary", Text()),
        ("list_of_list", Ragged(Ragged(Number("int64")))),
        ("fixed_of_fixed", Fixed(Fixed(Number("int16"), 2), 3)),
        ("fixed_of_list", Fixed(Ragged(Number("int64")), 2)),
        ("list_of_fixed", Ragged(Fixed(Number("int16"), 2))),
    ],
)
def test_kinds(tmp_path: Path, name: str, kind: Kind) -> None:
    path = write(tmp_path / "x.parquet", {name: EVERY_TYPE[name]()})
    assert [feature.kind for feature in reader_of(path).layout.features] == [kind]


@pytest.mark.parametrize(
    "options",
    [
        *({"compression": codec} for codec in ("none", "snappy", "gzip", "brotli", "zstd", "lz4")),
        {"data_page_version": "2.0"},
        {"data_page_version": "2.0", "compression": "zstd", "use_dictionary": False},
        {"use_dictionary": False},
        {"use_dictionary": ["string"], "data_page_size": 200},
        {"version": "1.0"},
        {"version": "2.4"},
        {"store_schema": False},
        {"write_statistics": False},
        {"write_page_index": True, "write_page_checksum": True},
        {"use_compliant_nested_type": False},
        {"dictionary_pagesize_limit": 64},
        {"row_group_size": 1},
    ],
    ids=str,
)
def test_every_codec_page_and_encoding(tmp_path: Path, options: dict[str, Any]) -> None:
    table = every_type()
    if "version" in options:  # these have no unsigned 32 bits or no nanoseconds
        table = table.drop_columns(["uint32", "timestamp_ns", "time64_ns"])
    path = write(tmp_path / "x.parquet", table, **{"row_group_size": 23, **options})
    wanted, found = expected(pq.read_table(path)), values(path)
    assert list(found) == list(wanted)
    assert [column for column in wanted if not same(found[column], wanted[column])] == []


@pytest.mark.parametrize(
    ("column", "encoding"),
    [
        ("int32", "DELTA_BINARY_PACKED"),
        ("int64", "DELTA_BINARY_PACKED"),
        ("string", "DELTA_LENGTH_BYTE_ARRAY"),
        ("string", "DELTA_BYTE_ARRAY"),
        ("fixed_size_binary", "DELTA_BYTE_ARRAY"),
        ("float32", "BYTE_STREAM_SPLIT"),
        ("float16", "BYTE_STREAM_SPLIT"),
        ("bool", "RLE"),
        ("int64", "PLAIN"),
    ],
)
def test_encodings(tmp_path: Path, column: str, encoding: str) -> None:
    table = {column: EVERY_TYPE[column]()}
    path = write(tmp_path / "x.parquet", table, use_dictionary=False, column_encoding=encoding, data_page_version="2.0")
    assert encoding in pq.read_metadata(path).row_group(0).column(0).encodings
    assert same(values(path)[column], expected(pq.read_table(path))[column])


OTHERS = sorted((HERE.parent / "data").glob("*.parquet"))


@pytest.mark.parametrize("path", OTHERS, ids=lambda path: path.stem)
def test_files_by_other_writers(path: Path) -> None:
    wanted = expected(pq.read_table(path))
    found = values(path, fill={name: 0 for name in wanted if name.endswith("_or_null")})
    for name, column in wanted.items():
        filled = [_zero(column) if value is None else value for value in column]
        assert same(found[name], filled if name.endswith("_or_null") else column), name
    assert len(next(iter(wanted.values()))) > 5


def _zero(column: list[Any]) -> Any:
    return b"0" if any(isinstance(value, bytes) for value in column) else 0


def test_there_are_files_by_other_writers() -> None:
    writers = {pq.read_metadata(path).created_by.split()[0] for path in OTHERS}
    assert len(writers) >= 2
    assert sum(path.stat().st_size for path in OTHERS) < 100_000


@pytest.mark.parametrize(
    ("kind", "columns", "message"),
    [
        (pa.map_("string", pa.null()), None, "column when.value holds no value in any file, and so has no type"),
        (pa.list_(pa.struct({"a": pa.null()})), None, "column when.a holds no value in any file, and so has no type"),
        (pa.null(), None, "column when holds no value in any file, and so has no type · {path}, null"),
        (pa.int32(), ("wen",), "there is no column wen · {path} · did you mean when?"),
    ],
)  # fmt: skip
def test_columns_that_cannot_be_had(
    tmp_path: Path, kind: pa.DataType, columns: tuple[str, ...] | None, message: str
) -> None:
    path = write(tmp_path / "x.parquet", {"when": pa.array([], kind), "x": pa.array([], "int8")})
    with pytest.raises(DataError) as caught:
        open_source(Files((str(path),)), Request(columns))
    assert message.format(path=path) in str(caught.value)
    assert list(open_source(Files((str(path),)), Request(("x",))).layout.columns) == ["x"]


def test_a_label_is_read_beside_the_columns(tmp_path: Path) -> None:
    path = write(tmp_path / "x.parquet", {"x": [0], "y": [1], "z": [2]})
    assert list(values(path, columns=("x",), label="z")) == ["x", "z"]
    assert list(values(path, label="x")) == ["y", "z", "x"]
    assert "there is no column w" in refusal(path, label="w")


def test_only_the_columns_that_are_asked_for_are_read(tmp_path: Path) -> None:
    path = write(tmp_path / "x.parquet", {"x": [0], "y": [1], "z": [2]})
    reader = reader_of(path, columns=("z",))
    assert reader.source.read(reader.units[0]).column_names == ["z"]


NESTED = [{"a": 1, "b": {"c": "x", "d": [1, 2]}}, {"a": 2, "b": {"c": "", "d": []}}]


def test_structs_are_columns_with_dotted_names(tmp_path: Path) -> None:
    path = write(tmp_path / "x.parquet", {"s": NESTED, "y": [0.5, 1]})
    whole = {"s.a": [1, 2], "s.b.c": [b"x", b""], "s.b.d": [[1, 2], []], "y": [0.5, 1.0]}
    assert values(path) == whole
    assert values(path, columns=("s.b",)) == {name: whole[name] for name in ("s.b.c", "s.b.d")}
    assert values(path, columns=("s.b.d", "y"), label="s.a") == {name: whole[name] for name in ("s.b.d", "y", "s.a")}
    assert refusal(path, label="s").startswith("the label s has several fields")
    assert refusal(path, columns=("s.b.e",)).startswith(f"there is no column s.b.e · {path} · did you mean s.b.")


NULLS: dict[str, tuple[pa.Array, Any, list[Any], list[Any], list[bool]]] = {
    # column, fill, filled, masked, mask
    "int": (pa.array([1, None]), 7, [1, 7], [1, 0], [True, False]),
    "float": (pa.array([None, 1.5]), -1.5, [-1.5, 1.5], [0.0, 1.5], [False, True]),
    "float_int": (pa.array([None, 1.5], "float32"), 2, [2.0, 1.5], [0.0, 1.5], [False, True]),
    "half": (pa.array([1.5, None], "float16"), 2.5, [1.5, 2.5], [1.5, 0.0], [True, False]),
    "bool": (pa.array([None, True]), True, [True, True], [False, True], [False, True]),
    "string": (pa.array(["a", None]), "?", [b"a", b"?"], [b"a", b""], [True, False]),
    "large_string": (pa.array([None, "a"], pa.large_string()), "?", [b"?", b"a"], [b"", b"a"], [False, True]),
    "string_view": (pa.array([None, "a"], pa.string_view()), "?", [b"?", b"a"], [b"", b"a"], [False, True]),
    "binary": (pa.array([b"a", None]), "?", [b"a", b"?"], [b"a", b""], [True, False]),
    "fixed_size_binary": (pa.array([b"ab", None], pa.binary(2)), "??", [b"ab", b"??"], [b"ab", b"\0\0"], [True, False]),
    "dictionary": (pa.array(["a", None]).dictionary_encode(), "?", [b"a", b"?"], [b"a", b""], [True, False]),
    "decimal": (pa.array([Decimal("1.5"), None], pa.decimal128(5, 2)), 2.25, [1.5, 2.25], [1.5, 0.0], [True, False]),
    "decimal_int": (pa.array([Decimal("1.5"), None], pa.decimal128(5, 2)), 2, [1.5, 2.0], [1.5, 0.0], [True, False]),
    "date": (pa.array([date(1970, 1, 3), None]), "1970-01-02", [2, 1], [2, 0], [True, False]),
    "date_int": (pa.array([date(1970, 1, 3), None]), -5, [2, -5], [2, 0], [True, False]),
    "timestamp": (pa.array([9, None], pa.timestamp("us")), 5, [9, 5], [9, 0], [True, False]),
    "timestamp_tz": (pa.array([9, None], pa.timestamp("us", "UTC")), 5, [9, 5], [9, 0], [True, False]),
    "time": (pa.array([9, None], pa.time64("us")), 5, [9, 5], [9, 0], [True, False]),
    "duration": (pa.array([9, None], pa.duration("us")), 5, [9, 5], [9, 0], [True, False]),
    "list": (pa.array([[1], None]), 7, [[1], []], [[1], []], [True, False]),
    "items": (pa.array([[1, None], []]), 7, [[1, 7], []], [[1, 0], []], [True, True]),
    "both": (pa.array([None, [1, None]], pa.large_list(pa.int8())), 7, [[], [1, 7]], [[], [1, 0]], [False, True]),
    "string_items": (pa.array([["a", None], None]), "?", [[b"a", b"?"], []], [[b"a", b""], []], [True, False]),
    "list_of_list": (pa.array([[None, [1, None]], None]), 7, [[[], [1, 7]], []], [[[], [1, 0]], []], [True, False]),
    "fixed_items": (pa.array([[1, None]] * 2, pa.list_(pa.int8(), 2)), 7, [[1, 7]] * 2, [[1, 0]] * 2, [True, True]),
}  # fmt: skip


@pytest.mark.parametrize("name", NULLS)
def test_nulls_are_filled_or_marked(tmp_path: Path, name: str) -> None:
    column, fill, filled, masked, mask = NULLS[name]
    path = write(tmp_path / "x.parquet", {"x": column})
    assert values(path, fill={"x": fill}) == {"x": filled}
    assert values(path, masks=("x",)) == {"x": masked, "x_present": mask}
    assert values(path, masks=("x",), fill={"x": fill}) == {"x": filled, "x_present": mask}
    assert "column x holds 1 null" in refusal(path) or "nulls, which a tensor cannot hold" in refusal(path)


def test_nulls_of_structs_are_those_of_their_fields(tmp_path: Path) -> None:
    rows = [{"a": 1, "b": "x"}, None, {"a": None, "b": None}]
    path = write(tmp_path / "x.parquet", {"s": rows})
    assert values(path, fill={"s.a": 7, "s.b": "?"}) == {"s.a": [1, 7, 7], "s.b": [b"x", b"?", b"?"]}
    masks = {"s.a_present": [True, False, False], "s.b_present": [True, False, False]}
    marked = {"s.a": [1, 0, 0], "s.b": [b"x", b"", b""], **masks}
    assert values(path, masks=("s.a", "s.b")) == marked
    assert values(path, masks=("s",)) == marked
    assert values(path, columns=("s.a",), fill={"s": 3}) == {"s.a": [1, 3, 3]}


def test_nulls_name_file_row_group_and_column(tmp_path: Path) -> None:
    path = write(tmp_path / "x.parquet", {"x": [1, 2, 3, None], "y": [1, 2, 3, 4]}, row_group_size=2)
    reader = reader_of(path, batch=2)
    first, second = reader.begin()
    assert reader.read(first)[0].tolist() == [1, 2]
    with pytest.raises(DataError, match=f"{path}, row group 1, column x"):
        reader.read(second)
    assert f"column x holds 1 nulls, which a tensor cannot hold · {path}, row group 1, column x" in refusal(path)


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"fill": {"x": "many"}}, "fill of column x is not of its type · {path}, row group 0, 'many' for int64"),
        ({"fill": {"x": 1.5}}, "fill of column x is not of its type"),
        ({"fill": {"w": 0}}, "there is no column w · {path}"),
        ({"masks": ("w",)}, "there is no column w · {path}"),
        ({"casts": {"w": "int8"}}, "there is no column w · {path}"),
        ({"columns": ("y",), "masks": ("x",)}, "masks names column x, which is not read · {path}"),
        ({"masks": ("x",)}, "there is more than one feature x_present"),
        ({"casts": {"y": "floaty"}}, "column y cannot be cast to an unknown type · {path}: floaty"),
        ({"casts": {"y": "int8"}, "fill": {"x": 0}}, "a value does not fit int8 · {path}, row group 0, column y"),
        ({"pack": {"m": ("y", "t")}}, "pack m needs columns of numbers of one dtype · {path}: y is float64, t is str"),
        ({"pack": {"x": ("y",)}}, "there is more than one feature x"),
        ({"pack": {"m": ("y", "w")}}, "there is no column w"),
    ],
    ids=str,
)  # fmt: skip
def test_requests_that_cannot_be_met(tmp_path: Path, request_: dict[str, Any], message: str) -> None:
    columns = {"x": [1, None], "y": [1.5, 2.5], "t": ["", "t"], "x_present": [0, 1]}
    path = write(tmp_path / "x.parquet", columns)
    assert message.format(path=path) in refusal(path, **request_)


@pytest.mark.parametrize(
    ("column", "cast", "found"),
    [
        (pa.array([1, 2]), "float32", [1.0, 2.0]),
        (pa.array([1.0, 2.0]), "int8", [1, 2]),
        (pa.array(["1", "2"]), "int64", [1, 2]),
        (pa.array([1, 0]), "bool", [True, False]),
        (pa.array([1, 2]), "string", [b"1", b"2"]),
        (pa.array([1, 2], pa.timestamp("s")), "timestamp[us]", [10**6, 2 * 10**6]),
        (pa.array([Decimal("1.5")], pa.decimal128(5, 2)), "float32", [1.5]),
        (pa.array([[1], [2, 3]]), "float32", [[1.0], [2.0, 3.0]]),
        (pa.array([[1, 2], [3, 4]], pa.list_(pa.float64(), 2)), "float32", [[1.0, 2.0], [3.0, 4.0]]),
        (pa.array(["a"]).dictionary_encode(), "string", [b"a"]),
        (pa.nulls(1), "string", [b""]),
    ],
    ids=str,
)
def test_casts(tmp_path: Path, column: pa.Array, cast: str, found: list[Any]) -> None:
    path = write(tmp_path / "x.parquet", {"x": column})
    assert values(path, casts={"x": cast}, masks=("x",))["x"] == found


def test_columns_are_packed_into_matrices(tmp_path: Path) -> None:
    columns = {"a": [1, 2], "s": ["x", "y"], "b": [3, 4], "c": [0.5, 1.5], "n": [{"d": 5, "e": 6}, {"d": 7, "e": 8}]}
    path = write(tmp_path / "x.parquet", columns)
    found = values(path, pack={"m": ("b", "a")}, columns=("s",), label="c")
    assert found == {"s": [b"x", b"y"], "m": [[3, 1], [4, 2]], "c": [0.5, 1.5]}
    assert values(path, pack={"m": ("a", "n")}, columns=("s",))["m"] == [[1, 5, 6], [2, 7, 8]]
    assert values(path, pack={"m": ("a", "c")}, casts={"a": "float64"}, columns=())["m"] == [[1.0, 0.5], [2.0, 1.5]]


def test_a_plan_survives_json() -> None:
    request = Request(
        ("a", "b"), "c", {"a": "int8"}, {"a": 1, "b": "?"}, ("a",), {"m": ("a", "b")}, True, (("a", "in", [1, 2]),)
    )
    sharding = Sharding(3, 10, "drop")
    plan = ReadPlan(Files(("x", "y")), request, sharding, 2, True, 2**65, 7, whole(7, 100), Desk("::1", 80, "train"))
    assert ReadPlan.from_json(plan.to_json()) == plan
    assert ReadPlan.from_json(ReadPlan(Files(("x",))).to_json()) == ReadPlan(Files(("x",)))


def test_a_plan_keeps_through_json_what_only_python_has() -> None:
    filters = (("a", "==", b"\xff'"), ("b", "in", [b"1"]), ("c", "<", timedelta(days=-1, microseconds=3)))
    request = Request(filters=filters, pack={"m": "float32", "n": ("a", "b")})
    plan = ReadPlan(Files(("x",), features={"s": {"dtype": "string", "default": b"\xff"}}), request)
    assert ReadPlan.from_json(plan.to_json()) == plan
    asked = Request(filters=(("a", "in", {1, 2}), ("b", "==", date(2013, 1, 31)), ("c", "==", Decimal("1.10"))))
    found = ReadPlan.from_json(ReadPlan(Files(("x",)), asked).to_json()).request.filters
    assert found == (("a", "in", [1, 2]), ("b", "==", "2013-01-31"), ("c", "==", "1.10"))


def counting(reader: Reader) -> list[Unit]:
    """The units that the reader reads from now on."""
    read: list[Unit] = []
    original: Callable[[Unit], pa.Table] = reader.source.read

    def counted(unit: Unit) -> pa.Table:
        read.append(unit)
        return original(unit)

    reader.source.read = counted  # type: ignore[method-assign]
    return read


def test_batches_that_are_done_are_not_read(tmp_path: Path) -> None:
    path = write(tmp_path / "x.parquet", {"a": range(20)}, row_group_size=5)
    line = left(whole(0, 20), Sharding(1, 4), 3)
    reader = Reader(ReadPlan(Files((str(path),)), Request(), Sharding(1, 4), line=line))
    read = counting(reader)
    chunks = reader.begin()
    assert chunks[0, 1] == 0
    assert {size for *_, size in chunks.tolist()} == {4}
    assert [row for chunk in chunks for row in reader.read(chunk)[0].tolist()] == [*range(12, 20)]
    assert sorted(unit.row_group for unit in read) == [2, 3]


def test_filters_choose_rows(tmp_path: Path) -> None:
    columns = {"x": range(100), "t": [f"t{x % 4}" for x in range(100)], "n": [None if x % 5 else x for x in range(100)]}
    path = write(tmp_path / "x.parquet", columns, row_group_size=10)
    assert values(path, columns=("x",), filters=(("x", ">=", 95),))["x"] == [95, 96, 97, 98, 99]
    both = values(path, columns=("x",), filters=(("x", "<", 9), ("t", "in", ["t0", "t3"])))
    assert both["x"] == [0, 3, 4, 7, 8]
    assert values(path, columns=("x",), filters=(("t", "not in", ["t0", "t1", "t2"]), ("x", ">", 90)))["x"] == [
        91,
        95,
        99,
    ]
    # A null meets no condition, and what is filtered away need not be filled.
    assert values(path, filters=(("n", "<=", 20),))["n"] == [0, 5, 10, 15, 20]
    assert values(path, columns=("x",), filters=(("n", "==", 35),))["x"] == [35]
    assert values(path, columns=("x",), filters=(("x", "!=", 35),))["x"] == [x for x in range(100) if x != 35]


@pytest.mark.parametrize(
    ("column", "condition", "rows"),
    [
        (pa.array([date(2013, 1, 1), date(2014, 1, 1)]), (">=", date(2013, 6, 1)), [1]),
        (pa.array([1, 2], pa.timestamp("us")), ("==", "1970-01-01T00:00:00.000002"), [1]),
        (pa.array([date(2013, 1, 1), date(2014, 1, 1)]), (">=", "2013-06-01"), [1]),
        (pa.array([True, False]), ("==", False), [1]),
        (pa.array([0.5, 1.5]), (">", 1), [1]),
        (pa.array(["a", "b"]).dictionary_encode(), ("==", "b"), [1]),
        (pa.array(["a", "b"]).dictionary_encode(), ("in", ["b"]), [1]),
        (pa.array([1, 2**63 + 5], pa.uint64()), (">", 7), [1]),
        (pa.array([1, 2**63 + 5], pa.uint64()), ("==", 2**63 + 5), [1]),
        (pa.array([1, 2**63 + 5], pa.uint64()), (">", 1.5), [1]),
        (pa.array([1, 2**63 + 5], pa.uint64()), (">", -1), [0, 1]),
        (pa.array([2**60, 2**60 + 1]), (">", 2**60 + 0.0), [1]),
        (pa.array([1, 2], pa.int8()), ("<", 2**70), [0, 1]),
        (pa.array([1, 2], pa.int8()), ("not in", [300, 1, 1.5]), [1]),
        (pa.array([1, 2]), ("==", "2"), [1]),
        (pa.array([Decimal("1.50"), Decimal("2.50")], pa.decimal128(38, 2)), (">", 2), [1]),
        (pa.array([Decimal("1.50"), Decimal("2.50")], pa.decimal128(5, 2)), (">=", 1.501), [1]),
        (pa.array([Decimal("0.10"), Decimal("2.50")], pa.decimal128(5, 2)), ("==", 0.1), [0]),
        (pa.array([Decimal("-1.50"), Decimal("2.50")], pa.decimal256(60, 2)), ("in", ["-1.5", 7]), [0]),
        (pa.array([0, 1], pa.timestamp("us", "Europe/Zurich")), (">", datetime(1970, 1, 1)), [1]),
        (pa.array([0, 1], pa.timestamp("us", "UTC")), (">=", "1970-01-01T01:00:00.000001+01:00"), [1]),
        (pa.array([0, 1], pa.timestamp("s", "UTC")), (">", "1970-01-01 00:00:00.5"), [1]),
        (pa.array([0, 1], pa.timestamp("ns")), ("==", "1970-01-01T00:00:00.000000001"), [1]),
        (pa.array([0, 86_400], pa.timestamp("s")), (">=", date(1970, 1, 2)), [1]),
        (pa.array([date(2013, 1, 1), date(2014, 1, 1)]), ("in", [date(2013, 1, 1), "2015-01-01"]), [0]),
        (pa.array([date(2013, 1, 1), date(2014, 1, 1)]), (">", datetime(2013, 1, 1, 12)), [1]),
        (pa.array([0, 10**12], pa.date64()), (">=", "2001-01-01"), [1]),
        (pa.array([0, 7_200_000], pa.time32("ms")), (">=", "02:00:00"), [1]),
        (pa.array([0, 7_200_000_000], pa.time64("us")), ("<", time(1, 30)), [0]),
        (pa.array([1, 2], pa.duration("s")), (">", timedelta(seconds=1)), [1]),
        (pa.array(["a", "b"], pa.string_view()), ("==", "b"), [1]),
        (pa.array([b"a", b"b"], pa.binary_view()), ("in", ["b"]), [1]),
        (pa.array([b"a", b"b"], pa.binary(1)), (">", "a"), [1]),
        (pa.array(np.array([1, 2], np.float16)), (">", 1.5), [1]),
        (pa.array(np.array([0.1, 2], np.float16)), ("==", 0.1), [0]),
        (pa.array([0.1, 2.0], pa.float32()), ("in", [0.1]), [0]),
        (pa.array([b"0" * 16, b"1" * 16], pa.uuid()), ("==", "31313131-3131-3131-3131-313131313131"), [1]),
        (pa.array(["2013-01-01", "2014-01-01"]), (">=", date(2013, 6, 1)), [1]),
    ],
    ids=str,
)
def test_filters_by_other_types(tmp_path: Path, column: pa.Array, condition: tuple[str, Any], rows: list[int]) -> None:
    path = write(tmp_path / "x.parquet", {"id": [0, 1], "x": column}, row_group_size=1)
    assert values(path, columns=("id",), filters=(("x", *condition),))["id"] == rows
    beside = {"id": [0, 1], "x": column, "view": pa.array(["", "long enough to be a view"], pa.string_view())}
    path = write(tmp_path / "x.parquet", beside, write_statistics=False)
    assert values(path, columns=("id", "view"), filters=(("x", *condition),))["id"] == rows


def test_row_groups_that_cannot_match_are_never_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "x.parquet", {"x": range(100), "y": range(100)}, row_group_size=10)
    read: list[tuple[int, tuple[str, ...]]] = []
    original = parquet.ParquetSource._read_columns

    def counted(self: Any, unit: Unit, names: list[str]) -> pa.Table:
        read.append((unit.row_group, tuple(names)))
        return original(self, unit, names)

    monkeypatch.setattr(parquet.ParquetSource, "_read_columns", counted)
    assert values(path, columns=("y",), filters=(("x", ">", 74), ("x", "<", 91)))["y"] == [*range(75, 91)]
    assert {group for group, _ in read} == {7, 8, 9}
    # Counted by the filters' column alone, then read once.
    assert sorted(read) == sorted((group, names) for group in (7, 8, 9) for names in (("x",), ("y", "x")))


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        (("z", "==", 1), "a filter names no column: z · {path} · its columns are x"),
        (
            ("x", "==", "many"),
            "column x is int64, with which 'many' cannot be compared · {path}: x == 'many' · write a",
        ),
        (("x", "like", 1), "a filter has an unknown operator: like · {path}: x like 1 · use one of ==, "),
        (("x", "in", 1), "with which 1 cannot be compared · {path}: x in 1 · in takes a list of values"),
        (("x", "in", "2"), "with which '2' cannot be compared · {path}: x in '2' · in takes a list of values"),
        (("x", "==", None), "a null meets no condition"),
        (("x", "in", [None, 1]), "a null meets no condition"),
        (
            ("s", ">", 1),
            "column s is string, with which 1 cannot be compared · {path}: s > 1 · write a text, in quotes",
        ),
        (("b", "==", "yes"), "column b is bool, with which 'yes' cannot be compared · {path}: b == 'yes' · write true"),
        (("t", ">=", "2 o'clock"), "write a time of day as a text, such as '02:30:00'"),
        (("ts", ">=", "soon"), "write a date or a time without a zone"),
        (("ts", ">=", datetime(2020, 1, 1, tzinfo=timezone.utc)), "the column has no time zone"),
        (("d", ">=", 1.5), "write a date or a time, such as 2013-01-31"),
        (("u", "==", "1" * 16), "write a UUID, such as"),
    ],
    ids=str,
)
def test_filters_that_cannot_be_used(tmp_path: Path, condition: tuple[str, str, Any], message: str) -> None:
    columns = {
        "x": [1, 2],
        "s": ["a", "b"],
        "b": [True, False],
        "t": pa.array([1, 2], pa.time64("us")),
        "ts": pa.array([1, 2], pa.timestamp("us")),
        "d": pa.array([1, 2], pa.date32()),
        "u": pa.array([b"0" * 16] * 2, pa.uuid()),
    }
    path = write(tmp_path / "x.parquet", columns)
    assert message.format(path=path) in refusal(path, filters=(condition,))


def test_no_row_meets_the_filters(tmp_path: Path) -> None:
    for name in ("1", "2"):
        write(tmp_path / f"{name}.parquet", {"x": [1, 2]})
    said = f"no row meets the filters · x > 2: none of 4 rows in {tmp_path}/1.parquet and 1 more · check their columns"
    assert refusal(tmp_path, filters=(("x", ">", 2),)).startswith(said)


@pytest.mark.parametrize("row_group_size", [1, 3, 6])
@pytest.mark.parametrize(
    ("condition", "rows"),
    [
        (("!=", 1), [1, 3, 5]),
        (("not in", [1]), [1, 3, 5]),
        (("not in", []), [0, 1, 2, 3, 5]),
        (("<=", 1), [0, 2]),
        (("in", [1, 3.0]), [0, 2, 5]),
    ],
    ids=str,
)
def test_nan_and_nulls_do_not_depend_on_row_groups(
    tmp_path: Path, condition: tuple[str, Any], rows: list[int], row_group_size: int
) -> None:
    """A row group of ones and NaN has the statistics of one of ones; a null meets no condition."""
    column = pa.array([1.0, float("nan"), 1.0, float("nan"), None, 3.0])
    path = write(tmp_path / "x.parquet", {"id": range(6), "x": column}, row_group_size=row_group_size)
    assert values(path, columns=("id",), filters=(("x", *condition),))["id"] == rows


def test_folders_are_columns(tmp_path: Path) -> None:
    for year, town in ((2013, "Bern"), (2014, "Genf"), (2014, "Bern")):
        write(tmp_path / f"year={year}" / f"town={town}" / "part.parquet", {"x": [year, year]})
    whole: dict[str, list[Any]] = {
        "x": [2013, 2013, 2014, 2014, 2014, 2014],
        "year": [2013, 2013, 2014, 2014, 2014, 2014],
        "town": [b"Bern"] * 4 + [b"Genf"] * 2,
    }
    assert values(tmp_path) == whole
    assert values(tmp_path, columns=("year",), label="x") == {"year": whole["year"], "x": whole["x"]}
    assert values(tmp_path, columns=("town",)) == {"town": whole["town"]}
    assert values(tmp_path, filters=(("town", "==", "Genf"),)) == {name: column[4:] for name, column in whole.items()}
    assert values(tmp_path, columns=("x",), filters=(("year", "<", 2014),))["x"] == [2013, 2013]
    assert values(tmp_path, casts={"year": "float32"}, columns=("year",))["year"][0] == 2013.0


def test_folders_that_a_filter_rules_out_are_never_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for year in (2013, 2014):
        write(tmp_path / f"year={year}" / "part.parquet", {"x": [1, 2]})
    reader = reader_of(tmp_path, filters=(("year", "==", 2014),))
    assert [os.path.basename(os.path.dirname(unit.file)) for unit in reader.units] == ["year=2014"]


def test_a_folder_that_names_a_null(tmp_path: Path) -> None:
    write(tmp_path / "year=2013" / "part.parquet", {"x": [1]})
    write(tmp_path / "year=__HIVE_DEFAULT_PARTITION__" / "part.parquet", {"x": [2]})
    assert values(tmp_path, fill={"year": 0})["year"] == [2013, 0]
    assert values(tmp_path, masks=("year",))["year_present"] == [True, False]
    assert "column year holds 1 nulls" in refusal(tmp_path)
    assert values(tmp_path, filters=(("year", ">", 0),))["x"] == [1]


def test_folders_of_two_kinds(tmp_path: Path) -> None:
    write(tmp_path / "year=2013" / "part.parquet", {"x": [1]})
    write(tmp_path / "other" / "part.parquet", {"x": [2]})
    assert refusal(tmp_path).startswith("files lie in folders that name different columns · ")


def test_what_pyarrow_partitions_is_read_back(tmp_path: Path) -> None:
    table = pa.table({"id": range(30), "k": [x % 3 for x in range(30)], "s": [f"s {x % 2}/ü" for x in range(30)]})
    pq.write_to_dataset(table, tmp_path / "d", partition_cols=["k", "s"])
    found = values(tmp_path / "d")
    rows = sorted(zip(found["id"], found["k"], found["s"], strict=True))
    assert rows == [(x, x % 3, f"s {x % 2}/ü".encode()) for x in range(30)]


def test_shuffled_row_groups_with_different_dictionaries(tmp_path: Path) -> None:
    for number in range(3):
        texts = pa.array([f"{number} {x}" for x in range(10)]).dictionary_encode()
        write(
            tmp_path / f"{number}.parquet", {"id": range(number * 10, number * 10 + 10), "t": texts}, row_group_size=4
        )
    reader = Reader(ReadPlan(Files((str(tmp_path),)), Request(), Sharding(1, 30), shuffle=True))
    (chunk,) = reader.begin()
    parts = iter(reader.read(chunk))
    ids, texts = (rebuilt(parts, feature.kind, 30) for feature in reader.layout.features)
    assert sorted(ids) == [*range(30)]
    assert ids != sorted(ids)
    assert texts == [f"{x // 10} {x % 10}".encode() for x in ids]


ALIKE: dict[str, tuple[pa.Array, pa.Array, list[Any]]] = {
    "finer units": (pa.array([1], pa.timestamp("ms")), pa.array([1001], pa.timestamp("us")), [1000, 1001]),
    "spans": (pa.array([1], pa.duration("s")), pa.array([1001], pa.duration("ms")), [1000, 1001]),
    "zones": (pa.array([1], pa.timestamp("us", "UTC")), pa.array([2], pa.timestamp("us", "Europe/Zurich")), [1, 2]),
    "decimals": (
        pa.array([Decimal("1.5")], pa.decimal128(5, 1)),
        pa.array([Decimal("123.25")], pa.decimal128(5, 2)),
        [1.5, 123.25],
    ),
    "bytes": (pa.array(["a"]), pa.array([b"\xff"]), [b"a", b"\xff"]),
    "large": (pa.array(["a"]), pa.array(["b"], pa.large_string()), [b"a", b"b"]),
    "views": (pa.array(["a"]), pa.array(["b"], pa.string_view()), [b"a", b"b"]),
    "dictionaries": (pa.array(["a"]), pa.array(["b"]).dictionary_encode(), [b"a", b"b"]),
    "widths": (pa.array([b"a"], pa.binary(1)), pa.array([b"bb"], pa.binary(2)), [b"a", b"bb"]),
    "UUIDs": (pa.array([b"0" * 16], pa.uuid()), pa.array([b"1" * 16], pa.binary(16)), [b"0" * 16, b"1" * 16]),
    "lists": (pa.array([["a"]]), pa.array([[b"\xff"]], pa.large_list(pa.binary())), [[b"a"], [b"\xff"]]),
    "empty lists": (pa.array([[]], pa.list_(pa.null())), pa.array([[1]]), [[], [1]]),
}


@pytest.mark.parametrize("order", [1, -1], ids=["", "the other first"])
@pytest.mark.parametrize("case", ALIKE)
def test_files_whose_types_differ_but_mean_the_same(tmp_path: Path, case: str, order: int) -> None:
    *columns, rows = ALIKE[case]
    for number, column in enumerate(columns[::order]):
        write(tmp_path / f"{number}.parquet", {"x": column})
    assert values(tmp_path) == {"x": rows[::order]}


@pytest.mark.parametrize(
    ("columns", "cast", "rows"),
    [
        ((pa.array([1], pa.int32()), pa.array([2])), "int64", [1, 2]),
        ((pa.array([1], pa.int32()), pa.array([2.5])), "float32", [1.0, 2.5]),
        ((pa.array([Decimal("1.5")]), pa.array([1.25])), "float64", [1.5, 1.25]),
        ((pa.array([1]), pa.array(["2"])), "string", [b"1", b"2"]),
        ((pa.array([1], pa.timestamp("ms")), pa.array([1001], pa.timestamp("us"))), "int64", [1000, 1001]),
        ((pa.array([1], pa.date32()), pa.array([1], pa.timestamp("s"))), "timestamp[s]", [86_400, 1]),
        ((pa.array([None], pa.null()), pa.array([1], pa.int32())), "int64", [0, 1]),
    ],
    ids=str,
)
def test_files_whose_types_differ_are_read_as_what_they_are_cast_to(
    tmp_path: Path, columns: tuple[pa.Array, pa.Array], cast: str, rows: list[Any]
) -> None:
    for order in (1, -1):
        for number, column in enumerate(columns[::order]):
            write(tmp_path / f"{number}.parquet", {"x": column})
        assert values(tmp_path, casts={"x": cast}, masks=("x",))["x"] == rows[::order]


@pytest.mark.parametrize(
    ("columns", "cast"),
    [
        ((pa.array([1]), pa.array([1], pa.timestamp("us"))), "int64"),
        ((pa.array([1], pa.date32()), pa.array([1], pa.timestamp("s"))), "int32"),
        ((pa.array([1], pa.duration("s")), pa.array([1], pa.timestamp("s"))), "int64"),
    ],
    ids=str,
)
def test_times_and_numbers_do_not_become_one_by_a_cast(
    tmp_path: Path, columns: tuple[pa.Array, pa.Array], cast: str
) -> None:
    for number, column in enumerate(columns):
        write(tmp_path / f"{number}.parquet", {"x": column})
    assert refusal(tmp_path, casts={"x": cast}).startswith("column x ")


EMPTY: dict[str, tuple[pa.Array, Any, dict[str, list[Any]]]] = {
    "texts": (pa.array(["a", "b"]), "?", {"x": [b"a", b"b", b"?", b"?"]}),
    "numbers": (pa.array([1, 2], pa.int8()), 7, {"x": [1, 2, 7, 7]}),
    "dictionaries": (pa.array(["a", "b"]).dictionary_encode(), "?", {"x": [b"a", b"b", b"?", b"?"]}),
    "lists": (pa.array([[1], [2, 3]]), 0, {"x": [[1], [2, 3], [], []]}),
    "structs": (pa.array([{"a": 1, "b": {"c": "u"}}] * 2), 0, {"x.a": [1, 1, 0, 0], "x.b.c": [b"u", b"u", b"0", b"0"]}),
    "lists of structs": (pa.array([[{"a": 1}], []]), 0, {"x.a": [[1], [], [], []]}),
    "days": (pa.array([date(1970, 1, 2)] * 2), 0, {"x": [1, 1, 0, 0]}),
    "UUIDs": (pa.array([b"0" * 16] * 2, pa.uuid()), "1" * 16, {"x": [b"0" * 16] * 2 + [b"1" * 16] * 2}),
}


@pytest.mark.parametrize("first", [True, False], ids=["values first", "nulls first"])
@pytest.mark.parametrize("case", EMPTY)
def test_a_column_without_any_value_is_one_of_nulls(tmp_path: Path, case: str, first: bool) -> None:
    column, fill, rows = EMPTY[case]
    write(tmp_path / f"{0 if first else 2}.parquet", {"x": column, "id": [1, 2]})
    write(tmp_path / "1.parquet", {"x": pa.nulls(2), "id": [3, 4]})
    order = [0, 1, 2, 3] if first else [2, 3, 0, 1]
    expected = {name: [found[at] for at in order] for name, found in rows.items()}
    if case == "structs":
        assert values(tmp_path, columns=("x",), masks=("x",), fill={"x.b": "0", "x.a": 0})["x.b.c"] == expected["x.b.c"]
        fill, expected = 0, {"x.a": expected["x.a"]}
    chosen = tuple(expected)
    assert values(tmp_path, columns=chosen, fill=dict.fromkeys(chosen, fill)) == expected
    present = values(tmp_path, columns=chosen, masks=chosen)[f"{chosen[0]}_present"]
    assert present == [at < 2 for at in order]
    if "list" not in case:
        nothing: list[Any] = []
        assert values(tmp_path, columns=("id",), filters=((chosen[0], "not in", nothing),))["id"] == [1, 2]


def test_a_column_without_any_value_in_all_files(tmp_path: Path) -> None:
    write(tmp_path / "1.parquet", {"x": pa.nulls(2)})
    said = refusal(tmp_path)
    assert said.startswith("column x holds no value in any file, and so has no type · ")
    assert "casts: {x: string}, fill: {x: …}" in said
    assert values(tmp_path, casts={"x": "string"}, fill={"x": "?"})["x"] == [b"?", b"?"]


def test_files_whose_types_differ_are_filtered_each_by_its_own(tmp_path: Path) -> None:
    write(tmp_path / "1.parquet", {"t": pa.array([1, 2], pa.timestamp("ms")), "n": pa.array([1, 2], pa.int32())})
    write(tmp_path / "2.parquet", {"t": pa.array([1500, 2500], pa.timestamp("us")), "n": [3, 4]})
    assert values(tmp_path, columns=("t",), filters=(("t", ">", "1970-01-01 00:00:00.0015"),))["t"] == [2000, 2500]
    assert values(tmp_path, columns=("t",), filters=(("n", "in", [2, 3]),))["t"] == [2000, 1500]
    assert values(tmp_path, casts={"n": "int64"}, filters=(("n", ">", 1.5),))["n"] == [2, 3, 4]


def test_lists_of_the_fixed_size_0(tmp_path: Path) -> None:
    path = write(tmp_path / "x.parquet", {"x": pa.array([[], []], pa.list_(pa.int32(), 0)), "y": [1, 2]})
    assert refusal(path).startswith("column x has lists of the fixed size 0, which hold nothing · ")
    assert values(path, columns=("y",)) == {"y": [1, 2]}


@pytest.mark.parametrize(
    ("request_", "found"),
    [
        ({"pack": {"m": "float64"}}, {"i": [1, 2], "s": [b"u", b"v"], "y": [1.0, 0.0], "m": [[0.5, 7.0], [1.5, 8.0]]}),
        ({"pack": {"m": "float64"}, "label": "y"}, {"i": [1, 2], "s": [b"u", b"v"], "m": [[0.5, 7.0], [1.5, 8.0]]}),
        ({"pack": {"m": "float64", "k": ("a",)}, "columns": ("y", "d")}, {"m": [[1.0, 7.0], [0.0, 8.0]]}),
        ({"pack": {"m": "float32"}, "casts": {"i": "float32"}, "columns": ("i", "s")}, {"m": [[1.0], [2.0]]}),
    ],
    ids=str,
)
def test_columns_are_packed_by_dtype(tmp_path: Path, request_: dict[str, Any], found: dict[str, list[Any]]) -> None:
    decimals = pa.array([Decimal("7.0"), Decimal("8.0")])
    columns = {"a": [0.5, 1.5], "i": [1, 2], "s": ["u", "v"], "y": [1.0, 0.0], "d": decimals}
    path = write(tmp_path / "x.parquet", columns)
    if request_.get("label") is None and "columns" not in request_:
        found = {**found, "m": [[0.5, 1.0, 7.0], [1.5, 0.0, 8.0]]}
        found.pop("y")
    got = values(path, **request_)
    assert {name: got[name] for name in found} == found
    assert "a" not in got


@pytest.mark.parametrize(
    ("pack", "message"),
    [
        ({"m": ()}, "pack m has no columns · {path}: dtypes of columns that may be packed: int64"),
        (
            {"m": "float32"},
            "pack m has no columns: none is float32 · {path}: dtypes of columns that may be packed: int64",
        ),
        ({"m": "int64", "n": "int64"}, "pack n has no columns: none is int64"),
        ({"m": "x"}, "pack m has no columns: none is x"),
    ],
    ids=str,
)
def test_packs_without_columns(tmp_path: Path, pack: dict[str, Any], message: str) -> None:
    path = write(tmp_path / "x.parquet", {"x": [1, 2], "s": ["a", "b"]})
    assert message.format(path=path) in refusal(path, pack=pack)


@pytest.mark.parametrize("cast", ["date32", "duration[s]"])
def test_casts_that_arrow_does_not_have(tmp_path: Path, cast: str) -> None:
    path = write(tmp_path / "x.parquet", {"x": [1.5, 2.5]})
    said = f"column x cannot be cast to {cast} · {path}: it is double · "
    with pytest.raises(DataError, match=re.escape(said)):
        open_source(Files((str(path),)), Request(casts={"x": cast}))
