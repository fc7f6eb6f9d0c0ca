"""A table as the files have it becomes one of the request's columns: structs apart, casts made, nulls filled."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.errors import DataError
from pipelines.files import first_line
from pipelines.layout import PRESENT, Layout, Request


def prepare(table: pa.Table, layout: Layout, request: Request, where: str) -> pa.Table:
    """The layout's columns, and the masks that are asked for, in one chunk each and without nulls.

    Args:
        table: what a source has read of a unit.
        layout: of the same request.
        request: what is asked for.
        where: the unit, as errors name it.

    Raises:
        DataError: a value that a cast cannot keep, or a null that nothing is to stand for; with unit and column.
    """
    table = apart(table)
    columns: dict[str, pa.ChunkedArray] = {}
    for name, arrow in layout.columns.items():
        column = table[name]
        if name in request.masks:
            columns[name + PRESENT] = column.is_valid()
        columns[name] = _filled(_cast(column, arrow, name, where), name, request, where)
    return pa.table({name: _one_chunk(column) for name, column in columns.items()})


def apart(table: pa.Table) -> pa.Table:
    """The table with all structs taken apart into columns with dotted names."""
    while any(pa.types.is_struct(field.type) for field in table.schema):
        table = table.flatten()
    return table


def _cast(column: pa.ChunkedArray, arrow: pa.DataType, name: str, where: str) -> pa.ChunkedArray:
    if column.type.equals(arrow):
        return column
    try:
        return column.cast(arrow)
    except (pa.ArrowException, ValueError) as error:
        seen = f"{where}, column {name}"
        raise DataError(f"a value does not fit {arrow}", seen, f"{first_line(error)}; cast to a wider type") from None


def _filled(column: pa.ChunkedArray, name: str, request: Request, where: str) -> pa.ChunkedArray:
    missing = _nulls(column)
    if not missing:
        return column
    if name in request.fill:
        return _with_fill(column, name, request.fill[name], where)
    if name in request.masks:
        return _with_fill(column, name, _neutral(column.type), where)
    raise DataError(
        f"column {name} holds {missing} nulls, which a tensor cannot hold",
        f"{where}, column {name}",
        "say what stands for them with fill, mark them with masks, or leave the column out with columns",
    )


def _nulls(column: pa.ChunkedArray | pa.Array) -> int:
    """Nulls in a column, and among the items of its lists."""
    found = int(column.null_count)
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    for chunk in chunks:
        if _is_list(chunk.type):
            found += _nulls(chunk.flatten())
    return found


def _with_fill(column: pa.ChunkedArray, name: str, value: object, where: str) -> pa.ChunkedArray:
    try:
        return pa.chunked_array([_fill(chunk, value) for chunk in column.chunks], column.type)
    except (pa.ArrowException, ValueError, TypeError) as error:
        seen = f"{where}, {value!r} for {column.type}"
        raise DataError(f"fill of column {name} is not of its type", seen, first_line(error)) from None


def _fill(column: pa.Array, value: object) -> pa.Array:
    if pa.types.is_dictionary(column.type):
        return _fill(column.dictionary_decode(), value).dictionary_encode().cast(column.type)
    if pa.types.is_fixed_size_list(column.type):
        size = column.type.list_size
        row = pa.scalar([value] * size, column.type)
        filled = column.fill_null(row) if column.null_count else column
        return pa.FixedSizeListArray.from_arrays(_fill(filled.flatten(), value), type=column.type)
    if _is_list(column.type):
        lengths = pc.fill_null(pc.list_value_length(column), 0).cast(pa.int64())
        offsets = pa.concat_arrays([pa.array([0], pa.int64()), pc.cumulative_sum(lengths)])
        wide = pa.types.is_large_list(column.type)
        build = pa.LargeListArray if wide else pa.ListArray
        return build.from_arrays(offsets if wide else offsets.cast(pa.int32()), _fill(column.flatten(), value))
    scalar = pa.scalar(value)
    return column.fill_null(scalar if scalar.type.equals(column.type) else scalar.cast(column.type))


def _neutral(arrow: pa.DataType) -> object:
    """What stands for a null that is marked: zero, the empty string."""
    if pa.types.is_dictionary(arrow) or _is_list(arrow):
        return _neutral(arrow.value_type)
    if any(test(arrow) for test in (pa.types.is_string, pa.types.is_large_string)):
        return ""
    if pa.types.is_fixed_size_binary(arrow):
        return bytes(arrow.byte_width)
    if any(test(arrow) for test in (pa.types.is_binary, pa.types.is_large_binary)):
        return b""
    return False if pa.types.is_boolean(arrow) else 0


def _is_list(arrow: pa.DataType) -> bool:
    return bool(pa.types.is_list(arrow) or pa.types.is_large_list(arrow) or pa.types.is_fixed_size_list(arrow))


def _one_chunk(column: pa.ChunkedArray) -> pa.Array:
    combined = column.combine_chunks()
    return combined if isinstance(combined, pa.Array) else pa.concat_arrays(combined.chunks)
