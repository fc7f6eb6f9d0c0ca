"""How a column of an Arrow table reaches TensorFlow: which types have a counterpart, and what it is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from pipelines.errors import DataError


@dataclass(frozen=True)
class Number:
    """A number or a truth value a row: `[rows]` of a numpy dtype, such as `float32`."""

    dtype: str


@dataclass(frozen=True)
class Text:
    """A string or bytes a row: `[rows]` of tf.string."""


@dataclass(frozen=True)
class Fixed:
    """Equally many items in every row: a dense `[rows, size, …]`."""

    item: Kind
    size: int


@dataclass(frozen=True)
class Ragged:
    """Any number of items a row: a `tf.RaggedTensor` of `[rows, None, …]`."""

    item: Kind


Kind = Number | Text | Fixed | Ragged

_TEXT = (
    pa.types.is_string,
    pa.types.is_large_string,
    pa.types.is_binary,
    pa.types.is_large_binary,
    pa.types.is_fixed_size_binary,
    pa.types.is_string_view,
    pa.types.is_binary_view,
)
_LISTS = (pa.types.is_list, pa.types.is_large_list, pa.types.is_list_view, pa.types.is_large_list_view)
#: Types that count something from an epoch or midnight: the integer is kept, in the unit of the type.
_COUNTED = (pa.types.is_date, pa.types.is_timestamp, pa.types.is_time, pa.types.is_duration)


def kind_of(arrow: pa.DataType, column: str, seen: str) -> Kind:
    """What TensorFlow gets of a column.

    Integers, floats, half floats and booleans keep their dtype, decimals become float64, dates int32 days (date64:
    int64 milliseconds), times, timestamps and durations the integer that is stored, in their unit; strings and binaries
    become tf.string, dictionaries their values, lists ragged and lists of a fixed size dense dimensions. Structs and
    maps are taken apart before: see `pipelines.apart`.

    Args:
        arrow: the column's type.
        column: its name, for the error.
        seen: where it was seen, for the error.

    Raises:
        DataError: the type has no counterpart in TensorFlow.
    """
    if pa.types.is_dictionary(arrow):
        return kind_of(arrow.value_type, column, seen)
    if pa.types.is_fixed_size_list(arrow):
        if not arrow.list_size:
            todo = "leave it out with columns, or write it as list"
            raise DataError(f"column {column} has lists of the fixed size 0, which hold nothing", seen, todo)
        return Fixed(kind_of(arrow.value_type, column, seen), arrow.list_size)
    if any(test(arrow) for test in _LISTS):
        return Ragged(kind_of(arrow.value_type, column, seen))
    if isinstance(arrow, pa.BaseExtensionType):
        return kind_of(arrow.storage_type, column, seen)
    if any(test(arrow) for test in _TEXT):
        return Text()
    if pa.types.is_decimal(arrow):
        return Number("float64")
    if any(test(arrow) for test in _COUNTED):
        return Number(f"int{arrow.bit_width}")
    if pa.types.is_boolean(arrow) or pa.types.is_integer(arrow) or pa.types.is_floating(arrow):
        return Number(np.dtype(arrow.to_pandas_dtype()).name)
    if pa.types.is_null(arrow):
        todo = f"leave it out with columns, or say what it is: casts: {{{column}: string}}, fill: {{{column}: …}}"
        raise DataError(f"column {column} holds no value in any file, and so has no type", f"{seen}, {arrow}", todo)
    todo = "leave it out with columns, cast it with casts, or write it as int, float, bool, string or a list of these"
    raise DataError(f"column {column} has a type that TensorFlow has no counterpart for", f"{seen}, {arrow}", todo)


def with_items(arrow: pa.DataType, items: pa.DataType | None = None) -> pa.DataType:
    """A type without views, which reach TensorFlow as what they are views of; a list with other innermost items."""
    if pa.types.is_fixed_size_list(arrow):
        return pa.list_(with_items(arrow.value_type, items), arrow.list_size)
    if any(test(arrow) for test in _LISTS):
        wide = pa.types.is_large_list(arrow) or pa.types.is_large_list_view(arrow)
        return (pa.large_list if wide else pa.list_)(with_items(arrow.value_type, items))
    if items is not None:
        return items
    if pa.types.is_string_view(arrow):
        return pa.string()
    return pa.binary() if pa.types.is_binary_view(arrow) else arrow


def describe(kind: Kind) -> str:
    """A kind in words that errors use, such as `ragged float32`."""
    if isinstance(kind, Number):
        return kind.dtype
    if isinstance(kind, Text):
        return "string"
    if isinstance(kind, Fixed):
        return f"{describe(kind.item)}[{kind.size}]"
    return f"ragged {describe(kind.item)}"
