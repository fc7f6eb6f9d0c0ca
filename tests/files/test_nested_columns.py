"""Lists of structs and maps as columns of their own, exactly as pyarrow reads them; only what is asked for is read."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.apart import apart, flattened, stored
from pipelines.errors import DataError
from pipelines.layout import Request
from pipelines.reader import Reader, ReadPlan
from pipelines.schema import Fixed, Kind, Number, Ragged, Text
from pipelines.shards import Sharding
from pipelines.sources import Files, open_source
from pipelines.summary import summarize
from tests.every_type import rows_apart
from tests.files.parquet_rows import reader_of, rebuilt, refusal, values, write
from tests.nested import random_table

pytestmark = pytest.mark.timeout(60)

ITEM = pa.struct({"price": pa.float64(), "name": pa.string(), "tags": pa.list_(pa.int32())})
ITEMS: list[Any] = [
    [{"price": 1.5, "name": "a", "tags": [1, 2]}, None, {"price": None, "name": "b", "tags": None}],
    None,
    [],
    [{"price": 2.5, "name": None, "tags": [None]}],
]
PAIRS: list[Any] = [[("a", 1), ("b", None)], None, [], [("c", 3)]]
COLUMNS = {
    "id": pa.array(range(4)),
    "items": pa.array(ITEMS, pa.list_(ITEM)),
    "m": pa.array(PAIRS, pa.map_(pa.string(), pa.int64())),
}


def rows_of(table: pa.Table) -> dict[str, list[Any]]:
    """What pyarrow's `to_pylist` says of a table, taken apart value by value."""
    found: dict[str, list[Any]] = {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        found.update(rows_apart(name, column.type, column.to_pylist()))
    return found


def filled(value: Any, kind: Kind) -> Any:
    """A row with nulls filled, text as bytes."""
    if isinstance(kind, Ragged | Fixed):
        return [] if value is None else [filled(item, kind.item) for item in value]
    if value is None:
        value = fill_of(kind)
    if isinstance(value, Decimal):
        value = float(value)
    return value.encode() if isinstance(value, str) else value


def fill_of(kind: Kind) -> Any:
    if isinstance(kind, Ragged | Fixed):
        return fill_of(kind.item)
    return "?" if isinstance(kind, Text) else {"bool": True, "float64": 2.5}.get(kind.dtype, 7)


@pytest.mark.parametrize("seed", range(60))
def test_random_columns_equal_what_pyarrow_reads(tmp_path: Path, seed: int) -> None:
    size = int(np.random.default_rng(seed).integers(1, 60))
    check_file(write(tmp_path / "x.parquet", random_table(seed, 50), row_group_size=size), seed)


@pytest.mark.parametrize("writer", ["duckdb", "polars"])
def test_files_by_other_writers(writer: str) -> None:
    path = Path(__file__).parent.parent / "data" / "nested" / f"{writer}.parquet"
    assert pq.read_metadata(path).created_by.lower().startswith(writer)
    check_file(path, 1)


def check_file(path: Path, seed: int) -> None:
    """All columns, filled and masked, in order and shuffled, in batches of any size."""
    random = np.random.default_rng(seed)
    wanted = rows_of(pq.read_table(path))
    features = {feature.name: feature.kind for feature in reader_of(path, masks=tuple(wanted)).layout.features}
    kinds = {name: features[name] for name in wanted}
    fill = {name: fill_of(kind) for name, kind in kinds.items()}
    expected: dict[str, list[Any]] = {
        **{name: [filled(row, kinds[name]) for row in rows] for name, rows in wanted.items()},
        **{f"{name}_present": [row is not None for row in rows] for name, rows in wanted.items()},
    }
    batch = int(random.integers(1, 20))
    assert values(path, batch, fill=fill, masks=tuple(wanted)) == expected
    request = Request(fill=fill, masks=tuple(wanted))
    reader = Reader(ReadPlan(Files((str(path),)), request, Sharding(2, batch), seed % 2, shuffle=True, seed=seed))
    found: dict[str, list[Any]] = {feature.name: [] for feature in reader.layout.features}
    for chunk in reader.begin():
        parts = iter(reader.read(chunk))
        for feature in reader.layout.features:
            found[feature.name] += rebuilt(parts, feature.kind, int(chunk[2] - chunk[1]))
    assert len(found["id"]) == len(wanted["id"]) // 2
    assert found == {name: [rows[row] for row in found["id"]] for name, rows in expected.items()}


@pytest.mark.parametrize("seed", range(60))
def test_slices_are_taken_apart(seed: int) -> None:
    table = random_table(seed, 40)
    for part in (table.slice(7, 21), table.slice(40), pa.concat_tables([table.slice(3, 9), table.slice(20, 0), table])):
        columns = apart(part)
        names = flattened(table.schema).names
        for column, kind in zip(columns, flattened(table.schema).types, strict=True):
            column.validate(full=True)
            assert column.type == kind
        assert {name: column.to_pylist() for name, column in zip(names, columns, strict=True)} == rows_of(part)


def test_lists_over_more_than_their_values() -> None:
    """As Arrow allows, and Parquet never gives: a null list over values, values before and behind all lists."""
    values_ = pa.StructArray.from_arrays([pa.array(range(8)), pa.array([*"abcdefgh"])], ["x", "y"]).slice(1)
    lists = pa.ListArray.from_arrays(pa.array([1, 3, 5, 5], pa.int32()), values_, mask=pa.array([False, True, False]))
    views = pa.ListViewArray.from_arrays([4, 0, 1], [2, 0, 3], values_, mask=pa.array([False, True, False]))
    found = apart(pa.table({"l": lists, "v": views}))
    assert [column.to_pylist() for column in found] == [
        [[2, 3], None, []],
        [["c", "d"], None, []],
        [[5, 6], None, [2, 3, 4]],
        [["f", "g"], None, ["c", "d", "e"]],
    ]


def test_a_list_of_structs_is_a_list_for_each_field(tmp_path: Path) -> None:
    path = write(tmp_path / "x.parquet", COLUMNS, row_group_size=2)
    kinds = {feature.name: feature.kind for feature in open_source(Files((str(path),)), Request()).layout.features}
    assert kinds == {
        "id": Number("int64"),
        "items.price": Ragged(Number("float64")),
        "items.name": Ragged(Text()),
        "items.tags": Ragged(Ragged(Number("int32"))),
        "m.key": Ragged(Text()),
        "m.value": Ragged(Number("int64")),
    }
    fill = {"items.price": 0, "items.name": "?", "items.tags": -1, "m": -1, "m.key": "?"}
    whole = {
        "id": [0, 1, 2, 3],
        "items.price": [[1.5, 0, 0], [], [], [2.5]],
        "items.name": [[b"a", b"?", b"b"], [], [], [b"?"]],
        "items.tags": [[[1, 2], [], []], [], [], [[-1]]],
        "m.key": [[b"a", b"b"], [], [], [b"c"]],
        "m.value": [[1, -1], [], [], [3]],
    }
    assert values(path, batch=3, fill={**fill, "m.value": -1}) == whole
    some = {"items.name": whole["items.name"], "m.value": whole["m.value"]}
    assert values(path, columns=("items.name", "m.value"), fill={"items.name": "?", "m.value": -1}) == some
    parents = values(path, columns=("m", "items"), fill={**fill, "m.value": -1}, label="id")
    assert list(parents) == ["m.key", "m.value", "items.price", "items.name", "items.tags", "id"]
    assert values(path, columns=("id",), label="items.price", fill={"items": 0})["items.price"] == whole["items.price"]


def test_masks_and_casts_of_lists_of_structs(tmp_path: Path) -> None:
    path = write(tmp_path / "x.parquet", COLUMNS)
    there = [True, False, True, True]
    marked = values(path, columns=("items",), masks=("items",), casts={"items.price": "float32", "items.tags": "int8"})
    assert marked["items.price"] == [[1.5, 0.0, 0.0], [], [], [2.5]]
    assert marked["items.tags"] == [[[1, 2], [], []], [], [], [[0]]]
    assert {name: marked[f"items.{name}_present"] for name in ("price", "name", "tags")} == dict.fromkeys(
        ("price", "name", "tags"), there
    )
    layout = reader_of(path, columns=("items.price",), casts={"items": "float32"}).layout
    assert layout.features[0].kind == Ragged(Number("float32"))


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({}, "column items.price holds 3 nulls, which a tensor cannot hold · {path}, row group 0, column items.price"),
        ({"columns": ("m.value",)}, "column m.value holds 2 nulls"),
        ({"columns": ("m.k",)}, "there is no column m.k · {path} · did you mean m.key?"),
        ({"columns": ("items.prize",)}, "there is no column items.prize · {path} · did you mean items.price?"),
        ({"label": "items"}, "the label items has several fields · {path}: items.price, items.name, items.tags"),
        ({"fill": {"items": "?"}}, "fill of column items.price is not of its type"),
        (
            {"columns": ("items.name",), "casts": {"items.name": "int8"}, "fill": {"items": 0}},
            "a value does not fit list<item: int8> · {path}, row group 0, column items.name",
        ),
        (
            {"pack": {"p": ("items.price", "id")}, "columns": ()},
            "pack p needs columns of numbers of one dtype · {path}: items.price is ragged float64, id is int64",
        ),
        ({"pack": {"p": ("m",)}, "columns": ()}, "pack p needs columns of numbers of one dtype · {path}: m.key is"),
        ({"columns": ("id",), "masks": ("m",)}, "masks names column m.key, which is not read"),
        (
            {"filters": (("items.price", ">", 1),)},
            "a filter names column items.price, which holds lists · {path}: list<item: double> · filter by a column",
        ),
        ({"filters": (("m.key", "==", "a"),)}, "a filter names column m.key, which holds lists"),
        (
            {"filters": (("items", "==", 1),)},
            "a filter names column items, which has several fields · {path}: items.price, items.name, items.tags",
        ),
    ],
    ids=str,
)  # fmt: skip
def test_requests_that_cannot_be_met(tmp_path: Path, request_: dict[str, Any], message: str) -> None:
    path = write(tmp_path / "x.parquet", COLUMNS)
    assert message.format(path=path) in refusal(path, **request_)


def test_only_the_leaves_that_are_needed_are_read(tmp_path: Path) -> None:
    path = write(tmp_path / "x.parquet", COLUMNS)
    footer = pq.read_metadata(path)
    places = stored(footer.schema.to_arrow_schema())
    damaged = [places["items.name"].start, places["m.value"].start]
    data = bytearray(path.read_bytes())
    for index in damaged:
        chunk = footer.row_group(0).column(index)
        start = chunk.dictionary_page_offset or chunk.data_page_offset
        data[start : start + chunk.total_compressed_size] = bytes(chunk.total_compressed_size)
    path.write_bytes(data)
    good = ("id", "items.price", "items.tags", "m.key")
    reader = reader_of(path, columns=good, fill={"items": 0})
    assert reader.source.read(reader.units[0]).column_names == [*good]
    assert values(path, columns=good, fill={"items": 0, "m": "?"})["m.key"] == [[b"a", b"b"], [], [], [b"c"]]
    for name in ("items.name", "m.value"):
        assert f"cannot read a row group · {path}, row group 0, column {name}" in refusal(path, columns=("id", name))


def test_how_the_file_names_what_is_within_lists_does_not_matter(tmp_path: Path) -> None:
    path = write(tmp_path / "x.parquet", COLUMNS, store_schema=False)
    data = path.read_bytes()
    for usual, older in (
        ("key_value", "some_pair"),
        ("key", "one"),
        ("value", "other"),
        ("list", "bagg"),
        ("element", "array_e"),
    ):
        assert bytes([len(usual)]) + usual.encode() in data
        data = data.replace(bytes([len(usual)]) + usual.encode(), bytes([len(older)]) + older.encode())
    path.write_bytes(data)
    assert pq.read_metadata(path).schema.column(4).path == "m.some_pair.one"
    check_file(path, 1)
    assert values(path, columns=("m.key",), fill={"m": "?"}) == {"m.key": [[b"a", b"b"], [], [], [b"c"]]}
    assert values(path, columns=("m.value",), fill={"m": -1}) == {"m.value": [[1, -1], [], [], [3]]}
    assert values(path, columns=("items.price",), fill={"items": 0})["items.price"] == [[1.5, 0, 0], [], [], [2.5]]


def test_files_that_order_fields_otherwise_reach_tensorflow_alike(tmp_path: Path) -> None:
    one = pa.list_(pa.struct({"a": pa.int32(), "b": pa.string()}))
    other = pa.large_list(pa.struct({"b": pa.large_string(), "c": pa.int8(), "a": pa.int32()}))
    write(tmp_path / "1.parquet", {"l": pa.array([[{"a": 1, "b": "x"}], []], one), "x": [1, 2]})
    write(tmp_path / "2.parquet", {"x": [3], "l": pa.array([[{"a": 2, "b": "y", "c": 0}]], other)})
    assert values(tmp_path) == {"l.a": [[1], [], [2]], "l.b": [[b"x"], [], [b"y"]], "x": [1, 2, 3]}
    write(tmp_path / "3.parquet", {"x": [3], "l": pa.array([[{"b": "y"}]], pa.list_(pa.struct({"b": pa.string()})))})
    assert refusal(tmp_path).startswith(f"there is no column l.a · {tmp_path / '3.parquet'} · {tmp_path}/1.parquet has")
    assert values(tmp_path, columns=("l.b",))["l.b"] == [[b"x"], [], [b"y"], [b"y"]]
    write(tmp_path / "3.parquet", {"x": [3], "l": pa.array([[{"a": 1.5, "b": "y"}]])})
    assert f"column l.a is not of one type · {tmp_path}/3.parquet has ragged float64" in refusal(tmp_path)


def test_filters_by_fields_of_structs(tmp_path: Path) -> None:
    rows = [{"a": {"b": x}, "t": f"t{x % 3}"} if x % 5 else None for x in range(100)]
    path = write(tmp_path / "x.parquet", {"x": range(100), "s": rows, "s.u": range(100)}, row_group_size=10)
    reader = reader_of(path, columns=("x",), filters=(("s.a.b", ">", 74), ("s.t", "in", ["t0", "t1"])))
    assert {unit.row_group for unit in reader.units} == {7, 8, 9}
    found = values(path, columns=("x",), filters=(("s.a.b", ">", 74), ("s.t", "in", ["t0", "t1"])))
    assert found["x"] == [x for x in range(75, 100) if x % 5 and x % 3 < 2]
    assert values(path, columns=("x",), filters=(("s.u", "==", 7),))["x"] == [7]
    assert "a filter names column s, which has several fields" in refusal(path, filters=(("s", "==", 1),))


def test_a_filter_that_a_file_has_no_column_for(tmp_path: Path) -> None:
    write(tmp_path / "1.parquet", {"x": [1, 2], "y": [1, 2]})
    write(tmp_path / "2.parquet", {"x": [1, 2]})
    assert "there is no column y · " in refusal(tmp_path, columns=("x",), filters=(("y", ">", 1),))


def test_a_name_that_is_a_tensor_and_a_dictionary(tmp_path: Path) -> None:
    path = write(tmp_path / "x.parquet", {"a": [1], "a.b": [2], "c": [3]})
    assert values(path) == {"a": [1], "a.b": [2], "c": [3]}
    assert refusal(path, nested=True).startswith(f"feature a cannot have features within it · {path}: a.… · ")
    assert values(path, nested=True, label="a") == {"a.b": [2], "c": [3], "a": [1]}


def test_columns_of_one_path_cannot_be_told_apart(tmp_path: Path) -> None:
    path = write(tmp_path / "x.parquet", {"l.list.element": [1], "l": [[1, 2]]})
    assert values(path) == {"l.list.element": [1], "l": [[1, 2]]}
    with pytest.raises(DataError, match="the file has two columns of one path"):
        values(path, columns=("l",))


@pytest.mark.parametrize("seed", range(20))
def test_analysis_counts_what_to_pylist_holds(seed: int) -> None:
    table = random_table(seed, 40).slice(5, 30)
    found = {path: (summary.count, summary.missing) for path, summary in summarize(table).items()}
    wanted = {
        path: (sum(value is not None for value in values_), sum(value is None for value in values_))
        for name, column in zip(table.column_names, table.columns, strict=True)
        for path, values_ in every_value(name, column.type, column.to_pylist())
    }
    assert found == wanted


def every_value(name: str, kind: pa.DataType, rows: list[Any]) -> Iterator[tuple[str, list[Any]]]:
    """The paths of an analysis, and all values below each."""
    yield name, rows
    if pa.types.is_struct(kind):
        for field in kind:
            below = [None if row is None else row[field.name] for row in rows]
            yield from every_value(f"{name}.{field.name}", field.type, below)
    elif pa.types.is_nested(kind):
        items: list[Any] = [value for row in rows for value in row or []]
        if pa.types.is_map(kind):
            items = [{"key": key, "value": value} for key, value in items]
            kind = pa.list_(pa.struct([("key", kind.key_type), ("value", kind.item_type)]))
        yield from every_value(f"{name}[]", kind.value_type, items)
