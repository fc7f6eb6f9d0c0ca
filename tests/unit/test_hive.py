"""Columns in the names of folders: their types, nulls and quoting, and what is refused."""

from __future__ import annotations

import pickle
from typing import Any

import pyarrow as pa
import pytest

from pipelines.errors import DataError
from pipelines.files import File
from pipelines.hive import folder_columns

NULL = "__HIVE_DEFAULT_PARTITION__"


def columns(*below: str, stored: tuple[str, ...] = ()) -> tuple[pa.Schema, list[dict[str, Any]]]:
    schema, values = folder_columns([File(f"/data/{name}", 1, 1, name) for name in below], stored)
    assert pickle.loads(pickle.dumps(values)) == values
    for of in values:
        assert {name: value.type for name, value in of.items()} == {field.name: field.type for field in schema}
    return schema, [{name: value.as_py() for name, value in of.items()} for of in values]


@pytest.mark.parametrize(
    ("values", "kind", "found"),
    [
        (["1", "-20", "007"], pa.int64(), [1, -20, 7]),
        (["1", NULL], pa.int64(), [1, None]),
        (["1", "x"], pa.string(), ["1", "x"]),
        (["1", "1.5"], pa.string(), ["1", "1.5"]),
        (["-", "1"], pa.string(), ["-", "1"]),
        (["٣", "1"], pa.string(), ["٣", "1"]),
        (["1" * 18, "1"], pa.int64(), [int("1" * 18), 1]),
        (["9" * 19, "1"], pa.string(), ["9" * 19, "1"]),
        ([NULL, NULL], pa.string(), [None, None]),
        (["New%20York", "a%3Db", "a=b"], pa.string(), ["New York", "a=b", "a=b"]),
        (["", "1"], pa.string(), ["", "1"]),
    ],
)
def test_the_type_of_a_column(values: list[str], kind: pa.DataType, found: list[Any]) -> None:
    schema, of = columns(*(f"k={value}/part.parquet" for value in values))
    assert schema == pa.schema({"k": kind})
    assert of == [{"k": value} for value in found]


def test_several_columns_and_other_folders() -> None:
    schema, of = columns("raw/year=2013/month=1/a/x=1.parquet", "raw/year=2014/month=NA/x=2.parquet")
    assert schema == pa.schema({"year": pa.int64(), "month": pa.string()})
    assert of == [{"year": 2013, "month": "1"}, {"year": 2014, "month": "NA"}]


def test_what_the_files_store_goes_before() -> None:
    schema, of = columns("year=2013/month=1/x", "year=2013/month=2/x", stored=("year", "z"))
    assert schema == pa.schema({"month": pa.int64()})
    assert of == [{"month": 1}, {"month": 2}]


def test_no_columns() -> None:
    assert columns("x", "a/y=1", "a/b/z") == (pa.schema([]), [{}, {}, {}])


def test_folders_that_name_different_columns() -> None:
    with pytest.raises(DataError) as caught:
        columns("year=1/x", "year=2/x", "month=1/x")
    assert str(caught.value) == (
        "files lie in folders that name different columns · /data/month=1/x has month, /data/year=1/x has year · "
        "give folders of one kind, such as …/year=2013/month=1"
    )
    with pytest.raises(DataError, match="/data/x has none, /data/year=1/x has year"):
        columns("year=1/x", "x")
