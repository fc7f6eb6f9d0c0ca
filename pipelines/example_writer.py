"""Rows as serialised `tf.train.Example` and `tf.train.SequenceExample`, without TensorFlow and without protobuf.

`wire` shows the format. Rows of Arrow tables are serialised column by column, with no Python per row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.errors import DataError
from pipelines.tfrecord_writer import spans

#: Field numbers of `Feature`, by dtype on the wire.
_NUMBERS = {"string": 1, "float32": 2, "int64": 3}
_EMPTY = pa.scalar(b"", pa.large_binary())


def example_of(row: Mapping[str, Any]) -> bytes:
    """One row as a serialised Example.

    Values are numbers, bool, str or bytes, lists or numpy arrays of them (of any shape, which is not kept), or None for
    a feature that the row does not have. Integers and bool become int64, other numbers float32, str its UTF-8.

    Raises:
        DataError: a value that no Example can hold, with its name.
    """
    return _field(1, _features(row))


def sequence_example_of(context: Mapping[str, Any], sequence: Mapping[str, Sequence[Any]]) -> bytes:
    """A serialised SequenceExample: `context` as for `example_of`, and for each name of `sequence` a value a step.

    Raises:
        DataError: a value that no Example can hold, with its name.
    """
    lists = b"".join(
        _entry(name, b"".join(_field(1, _feature(name, step)) for step in steps)) for name, steps in sequence.items()
    )
    return _field(1, _features(context)) + _field(2, lists)


def examples_of(rows: pa.Table | pa.RecordBatch) -> pa.ChunkedArray:
    """Each row as a serialised Example: `[rows]` of large_binary.

    Integers and bool become int64, dates and times the int64 that Arrow stores (days, or the unit of the column),
    floats and decimals float32, strings and binary bytes; lists of these (nested ones only if all sizes are fixed) a
    feature of several values. A null is a feature that the row does not have; a null in a list cannot be written.

    Raises:
        DataError: a column of another type, or a value that does not fit; with the column.
    """
    batches = [rows] if isinstance(rows, pa.RecordBatch) else rows.to_batches()
    return pa.chunked_array([_examples(batch) for batch in batches], pa.large_binary())


def _examples(batch: pa.RecordBatch) -> pa.LargeBinaryArray:
    entries = [_column_entries(name, batch.column(number)) for number, name in enumerate(batch.schema.names)]
    parts = [part for column in entries for part in column]
    if not parts:
        return pa.array([_field(1, b"")] * len(batch), pa.large_binary())
    features = pc.binary_join_element_wise(*parts, _EMPTY)
    return pc.binary_join_element_wise(_tag(1), _varints(_lengths(features)), features, _EMPTY)


def _column_entries(name: str, column: pa.Array) -> list[Any]:
    """The parts, to be joined row by row, of the map entry that each row has for one column."""
    if pa.types.is_null(column.type):
        return []
    try:
        kind, content = _contents(name, *_flattened(name, column))
    except pa.ArrowException as error:
        seen = f"column {name}: {str(error).splitlines()[0]}"
        raise DataError("a value does not fit into an Example", seen, "cast the column before") from None
    # Each message is wrapped in the next one with a tag and its length, which is known from the inside out.
    wrapped, sizes = [content], _lengths(content)
    for number in [_NUMBERS[kind], 2] if kind == "string" else [1, _NUMBERS[kind], 2]:
        varints = _varints(sizes)
        wrapped = [_tag(number), varints, *wrapped]
        sizes = sizes + 1 + _lengths(varints)
    key = _field(1, name.encode())
    parts = [_tag(1), _varints(sizes + len(key)), pa.scalar(key, pa.large_binary()), *wrapped]
    if not column.null_count:
        return parts
    return [pc.if_else(column.is_valid(), pc.binary_join_element_wise(*parts, _EMPTY), _EMPTY)]


def _flattened(name: str, column: pa.Array) -> tuple[pa.Array, npt.NDArray[np.int64]]:
    """The values of all rows one after the other, and which of them are of which row: `[rows + 1]`; none of a null."""
    if pa.types.is_string_view(column.type) or pa.types.is_binary_view(column.type):
        column = column.cast(pa.large_binary())
    if pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
        sizes = column.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
        column = column.flatten()
    else:
        sizes = column.is_valid().to_numpy(zero_copy_only=False)
        column = column.drop_null()
    width = 1
    while pa.types.is_fixed_size_list(column.type) and not column.null_count:
        width *= column.type.list_size
        column = column.flatten()
    if column.null_count:
        seen = f"column {name}, {column.null_count} in this part of it"
        raise DataError("a list holds nulls, which an Example cannot hold", seen, "fill or drop them")
    return column, np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)]) * width


def _contents(name: str, values: pa.Array, offsets: npt.NDArray[np.int64]) -> tuple[str, pa.LargeBinaryArray]:
    """The dtype that `values` have on the wire, and for each row the bytes of its values."""
    if isinstance(values, pa.ExtensionArray):
        values = values.storage
    if isinstance(values, pa.DictionaryArray):
        values = values.dictionary_decode()
    types = pa.types
    if _is_text(values.type):
        texts = values.cast(pa.large_binary())
        ends, data = spans(pc.binary_join_element_wise(_tag(1), _varints(_lengths(texts)), texts, _EMPTY))
        return "string", _binary(ends[offsets], data)
    if types.is_floating(values.type) or types.is_decimal(values.type):
        floats = values.cast(pa.float64()) if types.is_decimal(values.type) else values
        data = floats.cast(pa.float32()).to_numpy(zero_copy_only=False).astype("<f4", copy=False)
        return "float32", _binary(offsets * 4, data)
    if types.is_integer(values.type) or types.is_boolean(values.type) or types.is_temporal(values.type):
        narrow = types.is_date32(values.type) or types.is_time32(values.type)
        numbers = values.cast(pa.int32()) if narrow else values
        ends, encoded = _varint_bytes(numbers.cast(pa.int64()).to_numpy(zero_copy_only=False))
        return "int64", _binary(ends[offsets], encoded)
    todo = "leave it out, flatten structs, or make it a list of numbers or strings"
    raise DataError("an Example has no such type", f"column {name}, {values.type}", todo)


def _is_text(kind: pa.DataType) -> bool:
    types = pa.types
    return any(
        is_kind(kind)
        for is_kind in (
            types.is_string,
            types.is_large_string,
            types.is_binary,
            types.is_large_binary,
            types.is_fixed_size_binary,
            types.is_string_view,
            types.is_binary_view,
        )
    )


def _varints(numbers: npt.NDArray[np.int64]) -> pa.LargeBinaryArray:
    """Each number, none negative, as protobuf writes it."""
    return _binary(*_varint_bytes(numbers))


def _varint_bytes(numbers: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint8]]:
    """Where the bytes of each number lie, `[numbers + 1]`, and the bytes: seven bits each, lowest first."""
    rest = numbers.astype(np.int64).view(np.uint64)
    sizes = np.ones(len(rest), np.int64)
    for place in range(1, 10):
        more = rest >= np.uint64(1 << 7 * place)
        if not more.any():
            break
        sizes += more
    ends = np.concatenate([[0], np.cumsum(sizes)])
    data = np.empty(int(ends[-1]), np.uint8)
    for place in range(int(sizes.max(initial=0))):
        there = sizes > place
        bits = (rest[there] >> np.uint64(7 * place)).astype(np.uint8) & np.uint8(0x7F)
        data[ends[:-1][there] + place] = bits | np.where(sizes[there] > place + 1, np.uint8(0x80), np.uint8(0))
    return ends, data


def _binary(offsets: npt.NDArray[np.int64], data: Any) -> pa.LargeBinaryArray:
    buffers = [None, pa.py_buffer(np.ascontiguousarray(offsets)), pa.py_buffer(data)]
    return pa.LargeBinaryArray.from_buffers(pa.large_binary(), len(offsets) - 1, buffers)


def _lengths(values: pa.LargeBinaryArray) -> npt.NDArray[np.int64]:
    return np.diff(spans(values)[0])


def _tag(number: int) -> pa.Scalar:
    """The byte that begins a field of bytes."""
    return pa.scalar(bytes([number << 3 | 2]), pa.large_binary())


def _features(row: Mapping[str, Any]) -> bytes:
    return b"".join(_entry(name, _feature(name, value)) for name, value in row.items() if value is not None)


def _entry(name: str, value: bytes) -> bytes:
    return _field(1, _field(1, name.encode()) + _field(2, value))


def _feature(name: str, value: Any) -> bytes:
    """A Feature. An empty list says nothing, not even of what dtype it is; an empty numpy array does."""
    try:
        if isinstance(value, (str, bytes, bytearray, memoryview)):
            return _texts([value])
        if isinstance(value, float):
            return _field(2, _field(1, np.float32(value).tobytes()))
        if isinstance(value, int):
            return _field(3, _field(1, _varint(value)))
        if isinstance(value, (Mapping, Set)):
            raise TypeError(f"{type(value).__name__} is no list")
        return _numbers(value) if isinstance(value, (np.ndarray, np.generic)) or len(value) else b""
    except (TypeError, ValueError) as error:
        todo = "an Example holds numbers, text and bytes, and lists of one of them"
        raise DataError("a value cannot be written into an Example", f"feature {name}: {error}", todo) from None


def _numbers(value: Any) -> bytes:
    """A Feature of an array or a list, of numbers if it has some."""
    array = np.asarray(value)
    if array.dtype.kind in "iub":
        if array.dtype.kind == "u" and array.size and int(array.max()) > np.iinfo(np.int64).max:
            raise ValueError(f"{array.max()} is above the largest int64")
        return _field(3, _field(1, _varint_bytes(array.reshape(-1).astype(np.int64))[1].tobytes()))
    if array.dtype.kind == "f":
        return _field(2, _field(1, array.astype("<f4").tobytes()))
    return _texts(value.reshape(-1).tolist() if isinstance(value, np.ndarray) else list(value))


def _texts(values: Sequence[Any]) -> bytes:
    """A Feature of str or bytes."""
    encoded = [value.encode() if isinstance(value, str) else bytes(memoryview(value)) for value in values]
    return _field(1, b"".join(_field(1, value) for value in encoded))


def _field(number: int, content: bytes) -> bytes:
    """A field of bytes."""
    return bytes([number << 3 | 2]) + _varint(len(content)) + content


def _varint(number: int) -> bytes:
    """An int64 as protobuf writes it."""
    if not -(1 << 63) <= number < 1 << 63:
        raise ValueError(f"{number} has more than 64 bits")
    rest, made = number & 0xFFFF_FFFF_FFFF_FFFF, bytearray()
    while rest > 0x7F:
        made.append(rest & 0x7F | 0x80)
        rest >>= 7
    made.append(rest)
    return bytes(made)
