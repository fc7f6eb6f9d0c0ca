"""Structs and maps, also within lists, are taken apart into columns of one kind of value each: types and arrays.

A field of a struct is a column with a dotted name. A list of structs becomes a list for each of their fields, all of
the same lengths; a map is a list of structs with the fields `key` and `value`. Python touches no row: the lists keep
the offsets and the bitmap that they had.
"""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

_VIEWS = (pa.types.is_list_view, pa.types.is_large_list_view)
_WIDE = (pa.types.is_large_list, pa.types.is_large_list_view)
_LISTS = (pa.types.is_list, pa.types.is_fixed_size_list, pa.types.is_map, *_VIEWS, *_WIDE)


def leaves(field: pa.Field) -> Iterator[pa.Field]:
    """The columns that a field is taken apart into, in the order of a Parquet file; views of lists become lists."""
    if _is_whole(field.type):
        yield field
    elif pa.types.is_struct(field.type):
        for child in field.type:
            yield from leaves(child.with_name(f"{field.name}.{child.name}"))
    else:
        for leaf in leaves(pa.field(field.name, _items(field.type))):
            yield leaf.with_type(_list_of(field.type, leaf.type))


def flattened(schema: pa.Schema) -> pa.Schema:
    """The schema with all fields taken apart."""
    return pa.schema([leaf for field in schema for leaf in leaves(field)])


def is_apart(schema: pa.Schema) -> bool:
    """Whether no field is to be taken apart."""
    return all(_is_whole(field.type) for field in schema)


def stored(schema: pa.Schema) -> dict[str, range]:
    """Which columns of a Parquet file of this schema each of its leaves is stored in."""
    found, start = {}, 0
    for leaf in flattened(schema):
        found[leaf.name] = range(start, start + _width(leaf.type))
        start = found[leaf.name].stop
    return found


def apart(table: pa.Table) -> list[pa.ChunkedArray]:
    """The columns of a table taken apart: one for each field of `flattened(table.schema)`."""
    found: list[pa.ChunkedArray] = []
    for column in table.columns:
        if _is_whole(column.type):
            found.append(column)
        else:
            chunks = column.chunks or [pa.nulls(0, column.type)]
            found += map(pa.chunked_array, zip(*map(_arrays, chunks), strict=True))
    return found


def _arrays(array: pa.Array) -> Iterator[pa.Array]:
    """What `leaves` tells of types, of an array."""
    if _is_whole(array.type):
        yield array
    elif pa.types.is_struct(array.type):
        for child in array.flatten():  # a null struct makes its fields null
            yield from _arrays(child)
    else:
        listed = without_view(array)
        buffers = listed.buffers()[: 1 if pa.types.is_fixed_size_list(listed.type) else 2]
        for items in _arrays(listed.values):
            kind = _list_of(listed.type, items.type)
            yield pa.Array.from_buffers(kind, len(listed), buffers, listed.null_count, listed.offset, [items])


def without_view(array: pa.Array) -> pa.Array:
    """A view of lists as lists, any other array as it is; Arrow's own cast reads beyond the offsets of a view."""
    if not any(test(array.type) for test in _VIEWS):
        return array
    ends = pc.cumulative_sum(pc.fill_null(pc.list_value_length(array), 0).cast(pa.int64()))
    offsets = pa.concat_arrays([pa.array([0], pa.int64()), ends])
    mask = array.is_null() if array.null_count else None
    if pa.types.is_large_list_view(array.type):
        return pa.LargeListArray.from_arrays(offsets, array.flatten(), mask=mask)
    return pa.ListArray.from_arrays(offsets.cast(pa.int32()), array.flatten(), mask=mask)


def _is_whole(kind: pa.DataType) -> bool:
    """Whether there is nothing to take apart."""
    if not kind.num_fields and not pa.types.is_struct(kind):
        return True
    if pa.types.is_struct(kind) or pa.types.is_map(kind) or any(test(kind) for test in _VIEWS):
        return False
    return not _is_list(kind) or _is_whole(kind.value_type)


def _is_list(kind: pa.DataType) -> bool:
    return any(test(kind) for test in _LISTS)


def _items(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_map(kind):
        return pa.struct([("key", kind.key_type), ("value", kind.item_type)])
    return kind.value_type


def _list_of(kind: pa.DataType, items: pa.DataType) -> pa.DataType:
    """A list such as `kind`, of other items; of a view or a map, the list that it amounts to."""
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(items, kind.list_size)
    return (pa.large_list if any(test(kind) for test in _WIDE) else pa.list_)(items)


def _width(kind: pa.DataType) -> int:
    """How many columns of a Parquet file a type takes."""
    if isinstance(kind, pa.BaseExtensionType):
        return _width(kind.storage_type)
    if not kind.num_fields and not pa.types.is_struct(kind):
        return 1
    if pa.types.is_struct(kind):
        return sum(_width(child.type) for child in kind)
    return _width(_items(kind)) if _is_list(kind) else 1
