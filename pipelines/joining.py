"""Arrays and tables one after the other as one: strings and lists too large for 32-bit offsets get 64-bit ones."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

import pyarrow as pa

_WIDE = {pa.string(): pa.large_string(), pa.binary(): pa.large_binary()}


def joined(arrays: Sequence[pa.Array]) -> pa.Array:
    """The values of all of them, which are of one type, or of that and its `widened`.

    Raises:
        pa.ArrowException: they cannot be had in one array.
    """
    try:
        return pa.concat_arrays(arrays)
    except pa.ArrowInvalid:
        wide = widened(arrays[0].type)
        return pa.concat_arrays([_plain(array).cast(wide) for array in arrays])


def stacked(tables: Sequence[pa.RecordBatch | pa.Table]) -> pa.RecordBatch | pa.Table:
    """The rows of all of them, whose columns are alike as those of `joined`: one batch as it is, several in one piece.

    Raises:
        pa.ArrowException: they cannot be had in one piece.
    """
    if len(tables) == 1:
        return tables[0]
    parts = [batch for table in tables for batch in (table.to_batches() if isinstance(table, pa.Table) else [table])]
    with suppress(pa.ArrowInvalid):
        table = pa.Table.from_batches(parts).combine_chunks()
        if all(column.num_chunks <= 1 for column in table.columns):
            return table
    columns = [joined([part.column(place) for part in parts]) for place in range(parts[0].num_columns)]
    return pa.RecordBatch.from_arrays(columns, parts[0].schema.names)


def widened(arrow: pa.DataType) -> pa.DataType:
    """The type with 64-bit offsets that holds the same values, without dictionary; itself where it needs none."""
    if pa.types.is_dictionary(arrow):
        return widened(arrow.value_type)
    if isinstance(arrow, pa.BaseExtensionType):
        return widened(arrow.storage_type)
    if pa.types.is_list(arrow) or pa.types.is_large_list(arrow):
        return pa.large_list(_widened_item(arrow))
    if pa.types.is_fixed_size_list(arrow):
        return pa.list_(_widened_item(arrow), arrow.list_size)
    return _WIDE.get(arrow, arrow)


def _widened_item(arrow: pa.DataType) -> pa.Field:
    return arrow.value_field.with_type(widened(arrow.value_type))


def _plain(array: pa.Array) -> pa.Array:
    if isinstance(array.type, pa.BaseExtensionType):
        return array.storage
    return array.dictionary_decode() if pa.types.is_dictionary(array.type) else array
