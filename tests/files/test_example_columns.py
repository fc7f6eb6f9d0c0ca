"""Examples as columns: what was written comes back, the two readers agree, and damage is found."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.example_columns import MalformedError, features_of, scalars
from pipelines.example_writer import example_of, examples_of, sequence_example_of
from pipelines.wire import read_record

SCHEMA = pa.schema(
    {
        "one": pa.int64(),
        "text": pa.large_binary(),
        "floats": pa.large_list(pa.float32()),
        "ints": pa.large_list(pa.int64()),
        "texts": pa.large_list(pa.large_binary()),
    }
)
int64s = st.integers(-(2**63), 2**63 - 1)
row = st.fixed_dictionaries(
    {
        "one": st.none() | int64s,
        "text": st.none() | st.binary(max_size=200),
        "floats": st.none() | st.lists(st.floats(width=32, allow_nan=False), max_size=5),
        "ints": st.none() | st.lists(int64s, max_size=5),
        "texts": st.none() | st.lists(st.binary(max_size=5), max_size=5),
    }
)


def records_of(rows: list[dict[str, Any]]) -> pa.LargeBinaryArray:
    return pa.concat_arrays([pa.array([], pa.large_binary()), *examples_of(pa.Table.from_pylist(rows, SCHEMA)).chunks])


@given(st.lists(row, max_size=12), st.integers(0, 3))
def test_rows_come_back(rows: list[dict[str, Any]], skipped: int) -> None:
    found = features_of(records_of(rows).slice(skipped))
    for name in SCHEMA.names:
        expected = [value[name] for value in rows[skipped:]]
        if name not in found:
            assert expected == [None] * len(expected)
        elif pa.types.is_large_list(SCHEMA.field(name).type):
            assert found[name].lists.to_pylist() == expected
        else:
            assert scalars(found[name].lists).to_pylist() == expected


@given(st.lists(row, max_size=8))
def test_both_readers_agree(rows: list[dict[str, Any]]) -> None:
    records = records_of(rows)
    found = features_of(records)
    for index, record in enumerate(records.to_pylist()):
        read = read_record(record).context
        assert {name for name, feature in found.items() if feature.there[index]} == read.keys()
        for name, values in read.items():
            assert found[name].lists[index].as_py() == list(values.values)


def field(number: int, body: bytes) -> bytes:
    return bytes([number << 3 | 2, len(body)]) + body


def example(feature: bytes, name: bytes = b"a") -> bytes:
    return field(1, field(1, field(1, name) + field(2, feature)))


def test_lists_that_are_not_packed_are_read() -> None:
    ints = example(field(3, b"\x08\x05\x08\xac\x02"))
    floats = example(field(2, b"\x0d\x00\x00\x80\x3f\x0d\x00\x00\x00\x40"))
    assert features_of(pa.array([ints], pa.large_binary()))["a"].lists.to_pylist() == [[5, 300]]
    assert features_of(pa.array([floats], pa.large_binary()))["a"].lists.to_pylist() == [[1.0, 2.0]]


def test_an_entry_without_a_key_has_the_empty_name() -> None:
    nameless = field(1, field(1, field(2, field(3, field(1, b"\x07")))))
    found = features_of(pa.array([GOOD, nameless, GOOD], pa.large_binary()))
    assert {name: feature.lists.to_pylist() for name, feature in found.items()} == {
        "": [None, [7], None],
        "a": [[1], None, [1]],
    }


def test_a_feature_of_no_kind_is_missing() -> None:
    records = pa.array([example(b""), example(field(3, field(1, b"\x07")))], pa.large_binary())
    assert features_of(records)["a"].lists.to_pylist() == [None, [7]]


GOOD = example_of({"a": 1})


@pytest.mark.parametrize(
    ("record", "why"),
    [
        (b"not an example", "protocol buffer"),
        (GOOD[:-1], "protocol buffer"),
        (sequence_example_of({"a": 1}, {"b": [[1.0], [2.0]]}), "SequenceExample"),
        (example_of({"a": 1.5}), "changes its kind"),
        (field(1, 2 * GOOD[2:]), "twice"),
        (example(field(3, field(1, b"\x05\x80"))), "ends within"),
        (example(field(2, field(1, b"\0\0\x80\x3f\0"))), "ends within|changes its kind"),
    ],
)
def test_what_is_no_example_is_named(record: bytes, why: str) -> None:
    with pytest.raises(MalformedError, match=why) as caught:
        features_of(pa.array([GOOD, GOOD, record, GOOD], pa.large_binary()))
    assert caught.value.record == 2


@given(st.binary(max_size=40))
def test_no_bytes_bring_anything_but_columns_or_a_named_error(record: bytes) -> None:
    assert bad_record(GOOD, record) in (None, 1)


@given(st.integers(0, 60), st.integers(0, 255))
def test_no_damage_brings_anything_but_columns_or_a_named_error(place: int, value: int) -> None:
    whole = bytearray(example_of({"a": [1, 300, -1], "b": [b"xy", b""], "c": [1.5, 2.5]}))
    whole[place % len(whole)] = value
    assert bad_record(GOOD, bytes(whole)) in (None, 1)


def bad_record(*records: bytes) -> int | None:
    try:
        features_of(pa.array(records, pa.large_binary()))
    except MalformedError as error:
        return error.record
    return None
