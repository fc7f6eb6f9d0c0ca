"""Casts of Arrow's that refuse what they would change: also where Arrow itself says nothing."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.schema import with_items

_NESTED = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
_TEXT = (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary)


def cast(column: pa.Array, arrow: pa.DataType) -> pa.Array:
    """The column as another type; a list's items.

    A float may lose digits, but not become infinite. An integer, a truth value, a date or a time must come out as what
    it was.

    Raises:
        ArrowException: there is no such cast, or a value does not fit.
    """
    made = column.cast(arrow)
    before, after = _values(column), _values(made)
    changed = _changed(before, after)
    if changed is not None and pc.any(changed).as_py():
        first = changed.index(True).as_py()
        raise pa.ArrowInvalid(f"{_shown(before[first])} would become {_shown(after[first])}")
    return made


def _values(column: pa.Array) -> pa.Array:
    """The innermost items of lists, or the column itself, as plain values."""
    while any(test(column.type) for test in _NESTED):
        column = column.flatten()
    if isinstance(column.type, pa.BaseExtensionType):
        column = column.storage
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    plain = with_items(column.type)
    return column if plain.equals(column.type) else column.cast(plain)


def _changed(before: pa.Array, after: pa.Array) -> pa.Array | None:
    """Which values a cast that Arrow has made has changed; None where it cannot have."""
    if pa.types.is_floating(after.type):
        return _changed_to_float(before, after)
    number = pa.types.is_integer(before.type) or pa.types.is_floating(before.type)
    if pa.types.is_boolean(after.type) and number:
        return pc.not_equal(after.cast(before.type), before)
    if pa.types.is_timestamp(before.type) and (pa.types.is_date(after.type) or pa.types.is_time(after.type)):
        local = before if before.type.tz is None else pc.local_timestamp(before)
        if pa.types.is_date(after.type):
            return pc.not_equal(after.cast(local.type), local)
        return pc.not_equal(local.cast(pa.date32()).cast(pa.int32()), 0)
    return None


def _changed_to_float(before: pa.Array, after: pa.Array) -> pa.Array | None:
    wide = after.cast(pa.float32()) if pa.types.is_float16(after.type) else after
    if not pc.all(pc.is_finite(wide)).as_py():  # None where there are only nulls, or nothing
        infinite = pc.is_inf(wide)
        if pa.types.is_floating(before.type):
            known = before.cast(pa.float32()) if pa.types.is_float16(before.type) else before
            return pc.and_not(infinite, pc.is_inf(known))
        if any(test(before.type) for test in _TEXT):
            return pc.and_not(infinite, pc.match_substring(before, "inf", ignore_case=True))
        return infinite
    if pa.types.is_integer(before.type) and pa.types.is_float16(after.type):  # the others Arrow looks at
        return pc.not_equal(wide.cast(before.type, safe=False), before)
    return None


def _shown(value: pa.Scalar) -> str:
    return str(value.cast(pa.string()).as_py() if pa.types.is_temporal(value.type) else value.as_py())
