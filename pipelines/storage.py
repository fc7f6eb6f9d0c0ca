"""How a column of Arrow is kept in CSV and in TFRecord, which have few types; nothing is lost without a word.

CSV keeps one value a field. TFRecord keeps bytes, float32 and int64, one or a list of them.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.apart import apart, flattened
from pipelines.errors import DataError

_COUNTED = (
    pa.types.is_date,
    pa.types.is_time,
    pa.types.is_timestamp,
    pa.types.is_duration,
)


def is_bytes(kind: pa.DataType) -> bool:
    """Whether its values are strings or binary."""
    types = pa.types
    if types.is_decimal(kind):  # which counts as binary of a fixed size
        return False
    tests = (types.is_string, types.is_large_string, types.is_binary, types.is_large_binary, types.is_fixed_size_binary)
    return any(test(kind) for test in tests)


def csv_type(kind: pa.DataType) -> pa.DataType:
    """The type in which pyarrow reads and writes CSV what is to be `kind`."""
    if pa.types.is_dictionary(kind):
        return csv_type(kind.value_type)
    if pa.types.is_float16(kind):
        return pa.float32()
    if pa.types.is_decimal(kind) and not pa.types.is_decimal128(kind):
        return pa.string()
    if isinstance(kind, pa.BaseExtensionType):
        return csv_type(kind.storage_type)
    text = pa.types.is_null(kind) or is_bytes(kind) or str(kind).endswith("_view")
    return pa.string() if text and not pa.types.is_large_string(kind) else kind


def csv_schema(schema: pa.Schema, seen: str) -> pa.Schema:
    """The schema of rows before they are written as CSV.

    Raises:
        DataError: a column holds more than one value a row.
    """
    for field in schema:
        if pa.types.is_nested(csv_type(field.type)):
            todo = "convert to Parquet, or leave it out with --columns"
            raise DataError(f"column {field.name} does not fit into CSV", f"{seen}, {field.type}", todo)
    return pa.schema([pa.field(field.name, csv_type(field.type)) for field in schema])


def tfrecord_schema(schema: pa.Schema, seen: str) -> pa.Schema:
    """The schema of rows before they are written as `tf.train.Example`s; structs and maps are taken apart.

    Raises:
        DataError: a column has a type for which an Example has no room.
    """
    return pa.schema([pa.field(leaf.name, _example_type(leaf, seen)) for leaf in apart_schema(schema)])


def apart_schema(schema: pa.Schema) -> pa.Schema:
    """`schema` with structs and maps taken apart, and without the flags that TFRecord cannot keep."""
    return pa.schema([pa.field(leaf.name, leaf.type) for leaf in flattened(schema)])


def _example_type(field: pa.Field, seen: str) -> pa.DataType:
    kind = _plain(field.type)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        item = _example_value(_plain(kind.value_type))
        if item is not None:
            return pa.large_list(item)
    value = _example_value(kind)
    if value is None:
        todo = "convert to Parquet, or leave it out with --columns"
        raise DataError(f"column {field.name} does not fit into TFRecord", f"{seen}, {field.type}", todo)
    return value


def _plain(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_dictionary(kind):
        return _plain(kind.value_type)
    return _plain(kind.storage_type) if isinstance(kind, pa.BaseExtensionType) else kind


def _example_value(kind: pa.DataType) -> pa.DataType | None:
    if pa.types.is_boolean(kind) or pa.types.is_integer(kind) or any(test(kind) for test in _COUNTED):
        return pa.int64()
    if pa.types.is_floating(kind):
        return pa.float32()
    if is_bytes(kind) or pa.types.is_decimal(kind) or pa.types.is_null(kind) or str(kind).endswith("_view"):
        return pa.large_binary()
    return None


def to_csv(batch: pa.RecordBatch, schema: pa.Schema, seen: str) -> pa.RecordBatch:
    """`batch` in the types of `csv_schema`.

    Raises:
        DataError: a binary column holds something that is no text.
    """
    columns = []
    for column, field in zip(batch.columns, schema, strict=True):
        column = _storage(column)
        if pa.types.is_fixed_size_binary(column.type) and not pa.types.is_decimal(column.type):
            column = column.cast(pa.binary())
        try:
            columns.append(column.cast(field.type))
        except pa.ArrowInvalid as error:
            todo = f"{error}; convert to Parquet, or leave it out with --columns"
            raise DataError(f"column {field.name} does not fit into CSV", seen, todo) from None
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def to_examples(batch: pa.RecordBatch, schema: pa.Schema, seen: str, *, rounding: bool) -> pa.RecordBatch:
    """`batch` in the types of `tfrecord_schema`.

    Args:
        batch: rows as they were read.
        schema: from `tfrecord_schema`.
        seen: where the rows come from, for the error.
        rounding: whether float64 may lose digits.

    Raises:
        DataError: a number does not fit into float32 or int64, or a list holds a null.
    """
    columns = []
    for field, column in zip(schema, apart(pa.Table.from_batches([batch])), strict=True):
        array = column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
        array = pa.concat_arrays(array.chunks) if isinstance(array, pa.ChunkedArray) else array
        columns.append(_example_column(array, field, seen, rounding))
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _storage(array: pa.Array) -> pa.Array:
    if isinstance(array, pa.ExtensionArray):
        return _storage(array.storage)
    return array.dictionary_decode() if pa.types.is_dictionary(array.type) else array


def _example_column(array: pa.Array, field: pa.Field, seen: str, rounding: bool) -> pa.Array:
    array = _storage(array)
    if not pa.types.is_large_list(field.type):
        return _example_values(array, field.type, field.name, seen, rounding)
    if pa.types.is_fixed_size_list(array.type):
        array = array.cast(pa.large_list(array.type.value_type))
    values = _example_values(_storage(array.flatten()), field.type.value_type, field.name, seen, rounding)
    if values.null_count:
        todo = "fill or drop them before, or convert to Parquet"
        raise DataError(f"a list of column {field.name} holds a null, which TFRecord cannot", seen, todo)
    lengths = pc.list_value_length(array).cast(pa.int64())
    ends = pc.cumulative_sum(lengths.fill_null(0))
    offsets = pa.concat_arrays([pa.array([0], pa.int64()), ends])
    if array.null_count:
        offsets = pc.if_else(
            pa.concat_arrays([array.is_valid(), pa.array([True])]), offsets, pa.scalar(None, pa.int64())
        )
    return pa.LargeListArray.from_arrays(offsets, values)


def _example_values(array: pa.Array, kind: pa.DataType, name: str, seen: str, rounding: bool) -> pa.Array:
    source = array.type
    if any(test(source) for test in _COUNTED):
        array = array.view(pa.int32() if source.bit_width == 32 else pa.int64())
    if pa.types.is_decimal(source):
        array = array.cast(pa.string())
    try:
        made = array.cast(kind, safe=kind != pa.float32())
    except pa.ArrowInvalid as error:
        todo = "convert to Parquet, or leave it out with --columns"
        raise DataError(f"column {name} does not fit into the int64 of TFRecord", seen, f"{error}; {todo}") from None
    if pa.types.is_float64(source) and not rounding and not _same_numbers(array, made):
        todo = "add --float32 to round it, or convert to Parquet"
        raise DataError(f"column {name} has more digits than the float32 of TFRecord", f"{seen}, double", todo)
    return made


def _same_numbers(wide: pa.Array, narrow: pa.Array) -> bool:
    back = narrow.cast(pa.float64())
    same: Any = pc.all(pc.or_kleene(pc.equal(wide, back), pc.is_nan(wide))).as_py()
    return same is not False


def from_examples(array: pa.Array, kind: pa.DataType) -> pa.Array:
    """A column as an Example keeps it, in the type that it had before."""
    if isinstance(kind, pa.BaseExtensionType):
        return pa.ExtensionArray.from_storage(kind, from_examples(array, kind.storage_type))
    if pa.types.is_dictionary(kind):
        return from_examples(array, kind.value_type).dictionary_encode().cast(kind)
    if pa.types.is_large_list(array.type):
        values = from_examples(array.flatten(), kind.value_type)
        return _relisted(array, values, kind)
    if any(test(kind) for test in _COUNTED):
        return array.cast(pa.int32() if kind.bit_width == 32 else pa.int64()).view(kind)
    if pa.types.is_decimal(kind):
        return array.cast(pa.string()).cast(kind)
    if pa.types.is_null(kind):
        return pa.nulls(len(array))
    return array.cast(kind)


def _relisted(array: pa.Array, values: pa.Array, kind: pa.DataType) -> pa.Array:
    lengths = pc.list_value_length(array)
    ends = pc.cumulative_sum(lengths.fill_null(0).cast(pa.int64()))
    offsets = pa.concat_arrays([pa.array([0], pa.int64()), ends])
    if array.null_count:
        valid = pa.concat_arrays([array.is_valid(), pa.array([True])])
        offsets = pc.if_else(valid, offsets, pa.scalar(None, pa.int64()))
    if not pa.types.is_fixed_size_list(kind):
        return pa.LargeListArray.from_arrays(offsets, values).cast(kind)
    # A null of a fixed size has values below it, too.
    padded = pa.LargeListArray.from_arrays(offsets, values).cast(pa.list_(kind.value_type))
    return pa.array(padded.to_pylist(), kind) if array.null_count else padded.cast(kind)
