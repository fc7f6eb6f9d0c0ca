"""Columns of more than 2 GiB in one row group: read as others are, or told with the place."""

from __future__ import annotations

import decimal
import itertools
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from pipelines.errors import DataError
from pipelines.joining import joined, stacked, widened
from pipelines.layout import Layout, Request, layout_of
from pipelines.prepare import columns_of, prepare
from pipelines.reader import Reader, ReadPlan
from pipelines.shards import Sharding, Unit
from pipelines.sources import Files, Opened

HALF = (1 << 30) + 8  # two of them are more than 32-bit offsets can tell


def half() -> pa.Array:
    """A value of `HALF` zeros, of which the machine holds none, and a small one after it."""
    ends = np.array([0, HALF, HALF + 1], np.int32)
    return pa.Array.from_buffers(pa.binary(), 2, [None, pa.py_buffer(ends), pa.py_buffer(np.zeros(HALF + 1, np.uint8))])


def test_a_column_of_more_than_two_gibibytes() -> None:
    table = pa.table({"x": pa.chunked_array([half()] * 2)})
    found = prepare(table, layout_of(table.schema, Request(), "x"), "x.parquet, row group 0")
    assert pc.binary_length(found["x"]).to_pylist() == [HALF, 1, HALF, 1]


class Mixed:
    """A source whose second unit was too large for 32-bit offsets."""

    schema = pa.schema({"id": pa.int64(), "x": pa.string(), "tags": pa.list_(pa.string())})
    units = (Unit("x.parquet", 0, 3), Unit("x.parquet", 1, 3))

    def read(self, unit: Unit) -> pa.Table:
        ids = range(3 * unit.row_group, 3 * unit.row_group + 3)
        table = pa.table([ids, map(str, ids), [[str(number)] * number for number in ids]], schema=self.schema)
        if not unit.row_group:
            return table
        return table.cast(pa.schema([(field.name, widened(field.type)) for field in self.schema]))


@pytest.mark.parametrize("shuffle", [False, True])
def test_row_groups_of_both_kinds_are_read_together(shuffle: bool) -> None:
    source = Mixed()
    plan = ReadPlan(Files(("",)), sharding=Sharding(1, 4), shuffle=shuffle)
    reader = Reader(plan, Opened(source, layout_of(source.schema, Request(), "x"), source.units))
    found = []
    for chunk in reader.begin():
        ids, text, text_ends, tags_ends, *_ = reader.read(chunk)
        words = [text.item()[a:b].decode() for a, b in itertools.pairwise(text_ends)]
        found += [*zip(ids.tolist(), words, np.diff(tags_ends).tolist(), strict=True)]
    assert sorted(found) == [(number, str(number), number) for number in range(6)]


def test_tables_of_too_many_items() -> None:
    items = 2**30 + 1
    lists = pa.ListArray.from_arrays(pa.array([0, items], pa.int32()), pa.nulls(items))
    found = stacked([pa.table({"x": lists}), pa.record_batch({"x": lists})])
    assert found["x"].offsets.to_pylist() == [0, items, 2 * items]


def test_what_cannot_be_in_one_piece_is_told_with_its_place() -> None:
    views = pa.ListViewArray.from_arrays(pa.array([0], pa.int32()), pa.array([2**31 - 1], pa.int32()), pa.nulls(2**31))
    table = pa.table({"good": [1, 2], "bad": pa.chunked_array([views] * 2)})
    with pytest.raises(DataError, match=r"too many values in one column · x\.parquet, row group 7, column bad · "):
        prepare(table, Layout({"good": pa.int64()}, ()), "x.parquet, row group 7")


def test_lists_of_too_many_items() -> None:
    lists = pa.ListArray.from_arrays(pa.array([0, 2**30 + 1], pa.int32()), pa.nulls(2**30 + 1))
    found = columns_of(pa.table({"x": pa.chunked_array([lists] * 2)}))["x"]
    assert found.offsets.to_pylist() == [0, 2**30 + 1, 2**31 + 2]
    assert found.type == widened(lists.type) == pa.large_list(pa.null())


@pytest.mark.parametrize(
    "values",
    [
        pa.array(["a", None]),
        pa.array([b"a", b""]),
        pa.array([["a"], None, []]),
        pa.array([[["a"], []], [["b"]]]),
        pa.array([["a", "b"], ["c", None]], pa.list_(pa.string(), 2)),
        pa.array(["a", "b", "a"]).dictionary_encode(),
        pa.array([["a", "b"]], pa.list_(pa.dictionary(pa.int8(), pa.string()))),
        pa.array([1, None]),
        pa.array([decimal.Decimal("1.5")]),
        pa.array([[1.5], [2.5]]),
    ],
)
def test_the_wide_type_holds_the_same_values(values: Any) -> None:
    found = joined([values, values.slice(1), joined([values, values]).cast(widened(values.type))])
    assert found.type == widened(values.type) == widened(found.type)
    assert found.to_pylist() == [*values.to_pylist(), *values.to_pylist()[1:], *values.to_pylist() * 2]
    assert joined([values, values]).type == values.type
