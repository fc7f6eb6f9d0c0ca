"""A table as the files have it becomes one of the request's columns: casts made, nulls filled."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.casts import cast
from pipelines.errors import DataError
from pipelines.files import first_line
from pipelines.joining import joined, widened
from pipelines.layout import PRESENT, Layout

#: Asked of each column of each table: Arrow's functions for it take as long as all else that is done with a column.
_LISTS = (pa.lib.Type_LIST, pa.lib.Type_LARGE_LIST, pa.lib.Type_FIXED_SIZE_LIST)


def prepare(table: pa.Table, layout: Layout, where: str) -> pa.RecordBatch:
    """The layout's columns and masks without nulls.

    Args:
        table: what a source has read of a unit, taken apart.
        layout: what to make of it.
        where: the unit, as errors name it.

    Raises:
        DataError: a value that a cast cannot keep, a null that nothing is to stand for, or more values than Arrow can
            hold in one piece; with unit and column.
    """
    found = columns_of(table, where)
    columns: dict[str, pa.Array] = {}
    for name, arrow in layout.columns.items():
        column = found[name]
        if name in layout.masks:
            columns[name + PRESENT] = column.is_valid()
        columns[name] = _filled(_cast(column, arrow, name, where), name, layout, where)
    return pa.RecordBatch.from_arrays([*columns.values()], [*columns])


def columns_of(table: pa.Table | pa.RecordBatch, where: str = "") -> dict[str, pa.Array]:
    """Each column in one piece, by name; the type of one that is too large for its own is `joining.widened`.

    Raises:
        DataError: it cannot be had in one piece; with `where` and the column.
    """
    if isinstance(table, pa.RecordBatch):
        columns = table.columns
    else:
        batches = table.to_batches()
        if len(batches) == 1:
            columns = batches[0].columns
        else:
            columns = [
                _one_chunk(column, name, where) for name, column in zip(table.schema.names, table.columns, strict=True)
            ]
    return dict(zip(table.schema.names, columns, strict=True))


def _cast(column: pa.Array, arrow: pa.DataType, name: str, where: str) -> pa.Array:
    if column.type.equals(arrow) or column.type.equals(widened(arrow)):
        return column
    try:
        return cast(column, arrow)
    except (pa.ArrowException, ValueError) as error:
        seen = f"{where}, column {name}"
        raise DataError(f"a value does not fit {arrow}", seen, f"{first_line(error)}; cast to a wider type") from None


def _filled(column: pa.Array, name: str, layout: Layout, where: str) -> pa.Array:
    missing = _nulls(column)
    if not missing:
        return column
    if name in layout.fill:
        return _with_fill(column, name, layout.fill[name], where)
    if name in layout.masks:
        return _with_fill(column, name, _neutral(column.type), where)
    raise DataError(
        f"column {name} holds {missing} nulls, which a tensor cannot hold",
        f"{where}, column {name}",
        "say what stands for them with fill, mark them with masks, or leave the column out with columns",
    )


def _nulls(column: pa.Array) -> int:
    """Nulls in a column, and among the items of its lists."""
    found = int(column.null_count)
    return found + _nulls(column.flatten()) if _is_list(column.type) else found


def _with_fill(column: pa.Array, name: str, value: object, where: str) -> pa.Array:
    try:
        return _fill(column, value)
    except (pa.ArrowException, ValueError, TypeError) as error:
        seen = f"{where}, {value!r} for {column.type}"
        raise DataError(f"fill of column {name} is not of its type", seen, first_line(error)) from None


def _fill(column: pa.Array, value: object) -> pa.Array:
    if pa.types.is_dictionary(column.type):
        return _fill(column.dictionary_decode(), value).dictionary_encode().cast(column.type)
    if pa.types.is_fixed_size_list(column.type):
        size = column.type.list_size
        items = column.values.slice(column.offset * size, len(column) * size)
        if column.null_count:
            valid = np.repeat(column.is_valid().to_numpy(zero_copy_only=False), size)
            items = pc.if_else(pa.array(valid), items, pa.scalar(None, items.type))
        return pa.FixedSizeListArray.from_arrays(_fill(items, value), type=column.type)
    if _is_list(column.type):
        lengths = pc.fill_null(pc.list_value_length(column), 0).cast(pa.int64())
        offsets = pa.concat_arrays([pa.array([0], pa.int64()), pc.cumulative_sum(lengths)])
        wide = pa.types.is_large_list(column.type)
        build = pa.LargeListArray if wide else pa.ListArray
        return build.from_arrays(offsets if wide else offsets.cast(pa.int32()), _fill(column.flatten(), value))
    if isinstance(column.type, pa.BaseExtensionType):
        return column.type.wrap_array(_fill(column.storage, value))
    return column.fill_null(_scalar(value, column.type))


def _scalar(value: object, arrow: pa.DataType) -> pa.Scalar:
    """A number may stand for a date or a time: as many of their units since 1970 or midnight."""
    try:
        return pa.scalar(value).cast(arrow)
    except (pa.ArrowException, ValueError, TypeError):
        if not isinstance(value, int):
            raise
        return pa.scalar(value, arrow)


def _neutral(arrow: pa.DataType) -> object:
    """What stands for a null that is marked: zero, the empty string."""
    if pa.types.is_dictionary(arrow) or _is_list(arrow):
        return _neutral(arrow.value_type)
    if isinstance(arrow, pa.BaseExtensionType):
        return _neutral(arrow.storage_type)
    if any(test(arrow) for test in (pa.types.is_string, pa.types.is_large_string)):
        return ""
    if pa.types.is_fixed_size_binary(arrow):
        return bytes(arrow.byte_width)
    if any(test(arrow) for test in (pa.types.is_binary, pa.types.is_large_binary)):
        return b""
    return False if pa.types.is_boolean(arrow) else 0


def _is_list(arrow: pa.DataType) -> bool:
    return arrow.id in _LISTS


def _one_chunk(column: pa.ChunkedArray, name: str, where: str) -> pa.Array:
    if column.num_chunks == 1:
        return column.chunk(0)  # which joining would copy
    if not column.num_chunks:
        return pa.array([], column.type)
    try:
        return joined(column.chunks)
    except pa.ArrowException as error:
        todo = f"{first_line(error)}; write smaller row groups"
        raise DataError("a row group has too many values in one column", f"{where}, column {name}", todo) from None
