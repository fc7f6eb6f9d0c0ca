"""Serialised `tf.train.Example`s as Arrow columns, without TensorFlow and without a Python object a row.

All messages of one level are walked in step: each round reads one field of every message that has another. So the cost
is that of as many rounds as the largest message has fields.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Array = npt.NDArray[Any]

#: Field of `Feature` by the kind of its list.
KINDS: dict[int, pa.DataType] = {1: pa.large_binary(), 2: pa.float32(), 3: pa.int64()}
_VARINT, _EIGHT, _LENGTH, _FOUR = 0, 1, 2, 5


class MalformedError(Exception):
    """A record is no Example; `record` is its index among those given."""

    def __init__(self, record: int, why: str) -> None:
        super().__init__(record, why)
        self.record, self.why = record, why


@dataclass(frozen=True)
class Feature:
    """One name's values in all records.

    Attributes:
        there: whether each record has a list of that name, `[records]`.
        lists: of int64, float32 or large_binary, `[records]`; null where there is none.
    """

    there: Array
    lists: pa.LargeListArray


class _Fields(NamedTuple):
    """Fields of messages, in the order of their bytes: index of the message, number of the field, start and stop."""

    owner: Array
    number: Array
    start: Array
    stop: Array

    def only(self, chosen: Array) -> _Fields:
        return _Fields(*(column[chosen] for column in self))


def features_of(records: pa.LargeBinaryArray) -> dict[str, Feature]:
    """The features by name, in the order of the names.

    Args:
        records: one Example each, without nulls.

    Raises:
        MalformedError: a record is no Example, or has one name with lists of two kinds.
    """
    offsets = np.frombuffer(records.buffers()[1], np.int64, len(records) + 1, records.offset * 8)
    buffer = records.buffers()[2] or pa.py_buffer(b"")
    data = np.frombuffer(buffer, np.uint8)
    owner = np.arange(len(records))
    features = _fields(data, owner, offsets[:-1], offsets[1:])
    _expect(features, features.number == 1, "it has a field that no Example has; is it a SequenceExample?")
    entries = _fields(data, np.arange(len(features.owner)), features.start, features.stop)
    entries = entries._replace(owner=features.owner[entries.owner])
    _expect(entries, entries.number == 1, "its features are no map")
    return _by_name(data, buffer, entries, len(records))


def _by_name(data: Array, buffer: pa.Buffer, entries: _Fields, records: int) -> dict[str, Feature]:
    halves = _fields(data, np.arange(len(entries.owner)), entries.start, entries.stop, entries.owner)
    count = len(entries.owner)
    # An entry without a key has the empty name.
    keys, values = np.stack([entries.start] * 2), np.stack([entries.start] * 2)
    for number, span in ((1, keys), (2, values)):
        some = halves.only(halves.number == number)
        span[0][some.owner], span[1][some.owner] = some.start, some.stop
    names = _slices(buffer, keys[0], keys[1]).dictionary_encode()
    codes = names.indices.to_numpy(zero_copy_only=False)
    kinds = _fields(data, np.arange(count), values[0], values[1], entries.owner)
    found: dict[str, Feature] = {}
    for code, name in sorted(enumerate(names.dictionary.to_pylist()), key=lambda item: item[1]):
        mine = kinds.only(codes[kinds.owner] == code)
        mine = mine._replace(owner=entries.owner[mine.owner])
        if not len(mine.owner):
            continue
        _expect(mine, mine.number == mine.number[0], f"feature {name.decode(errors='replace')} changes its kind")
        _expect(mine, np.diff(mine.owner, prepend=-1) > 0, f"it has feature {name.decode(errors='replace')} twice")
        found[name.decode(errors="replace")] = _feature(data, buffer, mine, records)
    return found


def _feature(data: Array, buffer: pa.Buffer, lists: _Fields, records: int) -> Feature:
    """The lists of one name; `lists` has one for each record that has that name."""
    kind = KINDS.get(int(lists.number[0]))
    _expect(lists, np.full(len(lists.owner), kind is not None), "it has a list of an unknown kind")
    items = _fields(data, np.arange(len(lists.owner)), lists.start, lists.stop, lists.owner)
    _expect(items._replace(owner=lists.owner[items.owner]), items.number == 1, "a list has a field that no list has")
    spans = _slices(buffer, items.start, items.stop)
    if pa.types.is_large_binary(kind):
        values, sizes = spans, np.bincount(items.owner, minlength=len(lists.owner))
    else:
        bytes_of = np.frombuffer(spans.buffers()[2] or b"", np.uint8)
        ends = np.concatenate([[0], np.cumsum(np.bincount(items.owner, items.stop - items.start, len(lists.owner)))])
        ends = ends.astype(np.int64)
        _expect(
            lists, _whole(bytes_of, ends, 4 if pa.types.is_float32(kind) else 1), "a list of numbers ends within one"
        )
        values, sizes = (_floats if pa.types.is_float32(kind) else _int64s)(bytes_of, ends)
    there = np.zeros(records, bool)
    there[lists.owner] = True
    per_record = np.zeros(records, np.int64)
    per_record[lists.owner] = sizes
    offsets = pa.array(np.concatenate([[0], np.cumsum(per_record)]), pa.int64(), mask=np.append(~there, False))
    return Feature(there, pa.LargeListArray.from_arrays(offsets, values))


def _whole(data: Array, ends: Array, width: int) -> Array:
    """Whether each list between two of `ends` holds whole numbers: of 4 bytes, or varints."""
    sizes = np.diff(ends)
    if width > 1:
        good: Array = sizes % width == 0
        return good
    last = data[np.maximum(ends[1:] - 1, 0)] if len(data) else np.zeros(len(sizes), np.uint8)
    ended: Array = (sizes == 0) | (last < 0x80)
    return ended


def _floats(data: Array, ends: Array) -> tuple[pa.Array, Array]:
    return pa.array(data.view("<f4")), np.diff(ends) // 4


def _int64s(data: Array, ends: Array) -> tuple[pa.Array, Array]:
    last = np.flatnonzero(data < 0x80)
    starts = np.concatenate([[0], last[:-1] + 1]) if len(last) else last
    numbers = np.zeros(len(last), np.uint64)
    lengths = last - starts + 1
    for index in range(int(lengths.max(initial=0))):
        here = lengths > index
        part = (data[starts[here] + index] & 0x7F).astype(np.uint64)
        numbers[here] |= part << np.uint64(min(7 * index, 63))
    sizes = np.diff(np.searchsorted(last, ends))
    return pa.array(numbers.view(np.int64)), sizes


def _fields(data: Array, owner: Array, starts: Array, stops: Array, record: Array | None = None) -> _Fields:
    """All fields of the messages at `starts` to `stops`; `record` says in which record each message is."""
    found: list[Array] = []
    position, stop, owner = starts.astype(np.int64), stops.astype(np.int64), owner
    while True:
        more = position < stop
        position, stop, owner = position[more], stop[more], owner[more]
        if not len(position):
            break
        tag, body = _varints(data, position)
        wire = (tag & np.uint64(7)).astype(np.int64)
        length, after = _varints(data, body)
        begin = np.where(wire == _LENGTH, after, body)
        size = np.choose(
            np.searchsorted([_VARINT, _EIGHT, _LENGTH, _FOUR], wire),
            [after - body, np.full(len(wire), 8), np.minimum(length, np.uint64(1 << 62)).astype(np.int64), 4],
            mode="clip",
        )
        end = begin + size
        bad = (end > stop) | ~np.isin(wire, (_VARINT, _EIGHT, _LENGTH, _FOUR))
        if bad.any():
            index = int(owner[bad][0])
            raise MalformedError(
                int(record[index]) if record is not None else index, "its bytes are no protocol buffer"
            )
        found.append(np.stack([owner, (tag >> np.uint64(3)).astype(np.int64), begin, end]))
        position = end
    if not found:
        return _Fields(*np.empty((4, 0), np.int64))
    columns = np.concatenate(found, axis=1)
    return _Fields(*columns[:, np.argsort(columns[2], kind="stable")])


def _varints(data: Array, position: Array) -> tuple[Array, Array]:
    """The varint at each position, and the position after it."""
    last = len(data) - 1
    byte = data[np.minimum(position, last)]
    value = (byte & 0x7F).astype(np.uint64)
    after = position + 1
    going = np.flatnonzero(byte >= 0x80)
    for index in range(1, 10):
        if not len(going):
            break
        byte = data[np.minimum(after[going], last)]
        value[going] |= (byte & 0x7F).astype(np.uint64) << np.uint64(7 * index)
        after[going] += 1
        going = going[byte >= 0x80]
    return value, after


def _expect(fields: _Fields, good: Array, why: str) -> None:
    if not good.all():
        raise MalformedError(int(fields.owner[~good][0]), why)


def _slices(buffer: pa.Buffer, starts: Array, stops: Array) -> pa.LargeBinaryArray:
    """Slices of `buffer` that follow each other, copied by Arrow: of all stretches between two offsets every second."""
    if not len(starts):
        return pa.array([], pa.large_binary())
    offsets = np.ascontiguousarray(np.stack([starts, stops], 1).reshape(-1), np.int64)
    stretches = pa.LargeBinaryArray.from_buffers(
        pa.large_binary(), len(offsets) - 1, [None, pa.py_buffer(offsets), buffer]
    )
    return stretches.take(pa.array(np.arange(0, len(offsets) - 1, 2)))


def scalars(lists: pa.LargeListArray) -> pa.Array | None:
    """The values of lists that hold one each, null where the list is; None where a list holds more or none."""
    lengths = pc.list_value_length(lists)
    if not pc.all(pc.equal(lengths, 1)).as_py() and lists.null_count < len(lists):
        return None
    values = lists.flatten()
    if not lists.null_count:
        return values
    places = pc.cumulative_sum(lengths.fill_null(0))
    return values.take(pc.if_else(lists.is_valid(), pc.subtract(places, 1), pa.scalar(None, pa.int64())))
