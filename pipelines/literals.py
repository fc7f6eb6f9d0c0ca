"""What a filter compares a column with: its value in the column's own type, to the last digit.

Values of most types are whole numbers of some unit: of cents, days, microseconds. A comparison with a value between two
of them, or beyond what the type can hold, becomes one with a whole number that the same rows meet; nothing is rounded.
"""

from __future__ import annotations

import datetime as dt
import math
import uuid
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pyarrow as pa

from pipelines.alike import plain

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.timezone.utc)
_A_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
#: What is true of every value that there is, and of none.
_ALL, _NONE = "not in", "in"
Comparison = tuple[str, Any]


def compared_as(arrow: pa.DataType) -> pa.DataType:
    """The type in which a column is compared, for Arrow does not compare all of them."""
    if pa.types.is_float16(arrow):
        return pa.float32()
    found = plain(arrow)
    return pa.binary() if pa.types.is_fixed_size_binary(found) else found


def comparison(op: str, value: Any, arrow: pa.DataType) -> Comparison:
    """A condition as one with a value of the column's type.

    Args:
        op: how it is compared.
        value: as the user gave it, or for `in` and `not in` a list of such.
        arrow: the column's type.

    Returns:
        The operator, which may be another, and a scalar of `compared_as(arrow)`; or an array, which may be empty.

    Raises:
        ValueError: there is no such value; what to do about it.
        TypeError: likewise.
    """
    kind = compared_as(arrow)
    if value is None or (isinstance(value, list | tuple) and None in value):
        raise ValueError("a null meets no condition; write another value")
    if op in (_ALL, _NONE):
        if not isinstance(value, list | tuple | set | frozenset):
            raise ValueError(f"{op} takes a list of values")
        return op, pa.array([one for each in value for one in _members(each, arrow)], kind)
    if not _is_counted(kind):
        return op, pa.scalar(_value(value, arrow), kind)
    found = in_units(op, _units(value, kind), *_range(kind))
    return (_ALL if found else _NONE, pa.array([], kind)) if isinstance(found, bool) else _counted(*found, kind)


def in_units(op: str, units: Fraction, low: int, high: int) -> tuple[str, int] | bool:
    """The comparison of whole numbers from `low` to `high` with `units` as one with such a number.

    Returns:
        Operator and number; or whether all of them meet it, where all or none do.
    """
    if units.denominator == 1 and low <= units <= high:
        return op, int(units)
    if op in ("==", "!="):
        return op == "!="
    if op in (">", ">="):
        below = math.floor(units)
        return below < low if not low <= below < high else (">", below)
    above = math.ceil(units)
    return above > high if not low < above <= high else ("<", above)


def _members(value: Any, arrow: pa.DataType) -> list[Any]:
    """A value of a list as one of the column's type; none, where no value of the column can be equal to it."""
    kind = compared_as(arrow)
    if not _is_counted(kind):
        return [_value(value, arrow)]
    found = in_units("==", _units(value, kind), *_range(kind))
    return [] if isinstance(found, bool) else [_of_units(found[1], kind)]


def _counted(op: str, units: int, kind: pa.DataType) -> Comparison:
    return op, pa.scalar(_of_units(units, kind), kind)


def _of_units(units: int, kind: pa.DataType) -> Any:
    if not pa.types.is_decimal(kind):
        return units
    return Decimal((units < 0, tuple(map(int, str(abs(units)))), -kind.scale))


def _is_counted(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_decimal(kind) or pa.types.is_temporal(kind))


def _range(kind: pa.DataType) -> tuple[int, int]:
    """The least and the greatest number of units."""
    if pa.types.is_decimal(kind):
        return 1 - 10**kind.precision, 10**kind.precision - 1
    bits = kind.bit_width
    return (0, 2**bits - 1) if pa.types.is_unsigned_integer(kind) else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def _units(value: Any, kind: pa.DataType) -> Fraction:
    """How many units of the type a value is."""
    if pa.types.is_temporal(kind):
        return _time_units(value, kind)
    if not isinstance(value, int | float | str | Decimal):
        raise TypeError("write a number")
    digits = pa.types.is_decimal(kind)  # 0.1 is to be a tenth
    try:
        found = Fraction(str(value) if digits and isinstance(value, float) else value)
    except (ValueError, OverflowError):
        raise ValueError("write a number") from None
    return found * 10**kind.scale if digits else found


def _time_units(value: Any, kind: pa.DataType) -> Fraction:
    if isinstance(value, int) and not isinstance(value, bool):
        return Fraction(value)
    if pa.types.is_duration(kind):
        if not isinstance(value, dt.timedelta):
            raise TypeError(f"write how many {kind.unit} it is")
        return _seconds(value) * _A_SECOND[kind.unit]
    if pa.types.is_time(kind):
        return _time_of_day(value) * _A_SECOND[kind.unit]
    seconds = _since_epoch(value, kind)
    if pa.types.is_date32(kind):
        return seconds / 86_400
    return seconds * (10**3 if pa.types.is_date64(kind) else _A_SECOND[kind.unit])


def _time_of_day(value: Any) -> Fraction:
    todo = "write a time of day as a text, such as '02:30:00'"
    try:
        found = dt.time.fromisoformat(value) if isinstance(value, str) else value
    except ValueError:
        raise ValueError(todo) from None
    if not isinstance(found, dt.time) or found.tzinfo is not None:
        raise ValueError(todo)
    return Fraction((found.hour * 60 + found.minute) * 60 + found.second) + Fraction(found.microsecond, 10**6)


def _since_epoch(value: Any, kind: pa.DataType) -> Fraction:
    """Seconds; a time without a zone is one of UTC, if the column has a zone."""
    zoned = getattr(kind, "tz", None) is not None
    if isinstance(value, str):
        return _parsed(value, zoned=zoned)
    if isinstance(value, dt.date) and not isinstance(value, dt.datetime):
        value = dt.datetime(value.year, value.month, value.day)
    if not isinstance(value, dt.datetime):
        raise TypeError("write a date or a time, such as 2013-01-31 or '2013-01-31 12:00:00'")
    if value.tzinfo is not None and not zoned:
        raise ValueError("the column has no time zone; write the time without one")
    return _seconds((value if value.tzinfo else value.replace(tzinfo=dt.timezone.utc)) - _EPOCH)


def _parsed(text: str, *, zoned: bool) -> Fraction:
    zones = (None, "UTC") if zoned else (None,)
    for unit in ("us", "ns"):  # of nanoseconds there are too few for years before 1678
        for zone in zones:
            try:
                found = pa.scalar(text).cast(pa.timestamp(unit, zone)).cast(pa.int64()).as_py()
                return Fraction(found, _A_SECOND[unit])
            except pa.ArrowInvalid:
                continue
    raise ValueError("write a date or a time" + (", with a zone or of UTC" if zoned else " without a zone"))


def _seconds(span: dt.timedelta) -> Fraction:
    return Fraction(span // dt.timedelta(microseconds=1), 10**6)


def _value(value: Any, arrow: pa.DataType) -> Any:
    """A value of a type that is not counted: a float, a truth value, a text or bytes."""
    kind = compared_as(arrow)
    if pa.types.is_floating(kind):
        if not isinstance(value, int | float | str | Decimal):
            raise TypeError("write a number")
        found = float(value)
        return float(np.float16(found)) if pa.types.is_float16(arrow) else found
    if pa.types.is_boolean(kind):
        known = {True: True, False: False, "true": True, "false": False}
        if value not in known:
            raise ValueError("write true or false")
        return known[value]
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        if not isinstance(value, str | dt.date):
            raise TypeError("write a text, in quotes")
        return str(value)
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return _bytes(value, arrow)
    raise TypeError("such a column cannot be compared")


def _uuid(value: Any) -> uuid.UUID:
    try:
        return value if isinstance(value, uuid.UUID) else uuid.UUID(value)
    except (ValueError, TypeError, AttributeError):
        raise ValueError("write a UUID, such as '12345678-1234-5678-1234-567812345678'") from None


def _bytes(value: Any, arrow: pa.DataType) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(arrow, pa.UuidType):
        return _uuid(value).bytes
    if not isinstance(value, str):
        raise TypeError("write a text, in quotes")
    return value.encode()
