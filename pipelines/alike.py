"""Whether columns of several files are one column: the type that holds the values of all of them, nothing lost.

Types that reach TensorFlow as one dtype need not mean the same: a timestamp and a number, a decimal and a double.
"""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa

from pipelines.apart import flattened

_UNITS = ("s", "ms", "us", "ns")
_LARGE = (pa.types.is_large_string, pa.types.is_large_binary, pa.types.is_large_list)
_UTF8 = (pa.types.is_string, pa.types.is_large_string)
_BYTES = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary)


def unified(first: pa.Schema, others: Iterable[tuple[str, pa.Schema]]) -> tuple[pa.Schema, dict[str, str]]:
    """The schema `first` with types that hold the values of others, too, as far as there are such.

    Args:
        first: whose columns count.
        others: further schemas, each with a file that has it.

    Returns:
        The schema, and the file that a type is from, by leaf, where it is not that of `first`.
    """
    found, origins = first, {}
    for path, other in others:
        known = {field.name: field.type for field in other}
        wider = pa.schema([field.with_type(_merged(field.type, known.get(field.name, field.type))) for field in found])
        if not wider.equals(found):
            before = {leaf.name: leaf.type for leaf in flattened(found)}
            changed = (leaf.name for leaf in flattened(wider) if leaf.type != before.get(leaf.name))
            origins.update(dict.fromkeys(changed, path))
            found = wider
    return found, origins


def _merged(one: pa.DataType, other: pa.DataType) -> pa.DataType:
    """`one`, or what holds the values of both; of structs and lists, inside."""
    if one.equals(other) or pa.types.is_null(other):
        return one
    if pa.types.is_struct(one) and pa.types.is_struct(other):
        known = {field.name: field.type for field in other}
        return pa.struct([field.with_type(_merged(field.type, known.get(field.name, field.type))) for field in one])
    if pa.types.is_list(one) and pa.types.is_list(other):
        return pa.list_(_merged(one.value_type, other.value_type))
    found = common(one, other)
    return one if found is None else found


def common(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    """The type that holds the values of two columns and means what both of them mean; None where there is none."""
    if one.equals(other) or pa.types.is_null(other):
        return one
    if pa.types.is_null(one):
        return other
    one, other = plain(one), plain(other)
    if one.equals(other):
        return one
    if _is_list(one) and _is_list(other):
        return _list_of_both(one, other)
    if pa.types.is_decimal(one) and pa.types.is_decimal(other):
        return _decimal_of_both(one, other)
    if all(any(test(arrow) for test in (*_UTF8, *_BYTES)) for arrow in (one, other)):
        return _text_of_both(one, other)
    if one.id == other.id and hasattr(one, "unit") and _zoned(one) == _zoned(other):
        return max(one, other, key=lambda arrow: _UNITS.index(arrow.unit))
    return None


def plain(arrow: pa.DataType) -> pa.DataType:
    """What a dictionary, an extension type or a view is stored or seen as."""
    if pa.types.is_dictionary(arrow):
        return plain(arrow.value_type)
    if isinstance(arrow, pa.BaseExtensionType):
        return plain(arrow.storage_type)
    if pa.types.is_string_view(arrow):
        return pa.string()
    return pa.binary() if pa.types.is_binary_view(arrow) else arrow


def castable(arrow: pa.DataType, wanted: pa.DataType) -> bool:
    """Whether Arrow has a cast from one type to another, whatever it makes of the values."""
    try:
        pa.nulls(0, arrow).cast(wanted)
    except (pa.ArrowException, ValueError, TypeError):
        return False
    return True


def same_sense(one: pa.DataType, other: pa.DataType, wanted: pa.DataType | None = None) -> bool:
    """Whether one cast, to `wanted`, makes comparable values of both.

    A time and a number do not mean the same, nor do numbers that are made of times of different units.
    """
    senses = {_sense(arrow) for arrow in (one, other)} - {None}
    if senses <= {"number"}:
        return True
    return len(senses) == 1 and (wanted is None or _sense(wanted) in {None, *senses})


def is_number(arrow: pa.DataType) -> bool:
    """Whether its values are numbers, however they are stored."""
    return bool(pa.types.is_integer(arrow) or pa.types.is_floating(arrow) or pa.types.is_decimal(arrow))


def is_void(arrow: pa.DataType) -> bool:
    """Whether it can hold nothing but nulls and empty lists: what is written of a column without any value."""
    return pa.types.is_null(arrow) or (_is_list(arrow) and is_void(arrow.value_type))


def _sense(arrow: pa.DataType) -> str | None:
    """What values are, of those that casts would mix up: points or spans of time, times of day, numbers."""
    arrow = plain(arrow)
    if _is_list(arrow):
        return _sense(arrow.value_type)
    if pa.types.is_date(arrow) or pa.types.is_timestamp(arrow):
        return "point"
    if pa.types.is_duration(arrow):
        return "span"
    return "time of day" if pa.types.is_time(arrow) else "number" if is_number(arrow) else None


def _is_list(arrow: pa.DataType) -> bool:
    return bool(pa.types.is_list(arrow) or pa.types.is_large_list(arrow) or pa.types.is_fixed_size_list(arrow))


def _zoned(arrow: pa.DataType) -> bool:
    return getattr(arrow, "tz", None) is not None


def _is_large(*types: pa.DataType) -> bool:
    return any(test(arrow) for test in _LARGE for arrow in types)


def _list_of_both(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    sizes = {arrow.list_size if pa.types.is_fixed_size_list(arrow) else None for arrow in (one, other)}
    items = common(one.value_type, other.value_type)
    if len(sizes) > 1 or items is None:
        return None
    (size,) = sizes
    if size is not None:
        return pa.list_(items, size)
    return pa.large_list(items) if _is_large(one, other) else pa.list_(items)


def _text_of_both(one: pa.DataType, other: pa.DataType) -> pa.DataType:
    if all(any(test(arrow) for test in _UTF8) for arrow in (one, other)):
        return pa.large_string()
    return pa.large_binary() if _is_large(one, other) else pa.binary()


def _decimal_of_both(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    scale = max(one.scale, other.scale)
    precision = max(one.precision - one.scale, other.precision - other.scale) + scale
    if precision > 76:
        return None
    return pa.decimal128(precision, scale) if precision <= 38 else pa.decimal256(precision, scale)
