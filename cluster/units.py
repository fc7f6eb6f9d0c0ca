"""Sizes and durations as people write them: `4GiB`, `500MB`, `10m`, `1h30m`."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Annotated

from pydantic import BeforeValidator, WithJsonSchema

_SIZE_UNITS = {
    "": 1, "b": 1,
    "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12,
    "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40,
    "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40,
    "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40,
}  # fmt: skip
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}

_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", re.IGNORECASE)
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?\s*(?:ms|s|m|h|d)\s*)+")
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)")
#: The same in the words of JSON Schema, whose patterns have no flags.
_SIZE_PATTERN = r"^\s*(\d+\s*[bB]?|\d+(\.\d+)?\s*[kKmMgGtT][iI]?[bB]?)\s*$"
_DURATION_PATTERN = r"^\s*(\d+(\.\d+)?\s*([mM][sS]|[sSmMhHdD])\s*)+$"


def parse_size(value: object) -> int:
    """Bytes of `value`: a whole number of bytes, or a number with a unit.

    `kB`, `MB`, `GB`, `TB` are powers of 1000 (SI); `KiB`, `MiB`, `GiB`, `TiB` and the short
    `K`, `M`, `G`, `T`, `Ki` … (Kubernetes) are powers of 1024 (IEC 80000-13).

    Raises:
        ValueError: not a size, or negative.
    """
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    unit = None if match is None else _SIZE_UNITS.get(match[2].lower())
    if match is None or unit is None or (unit == 1 and "." in match[1]):
        raise ValueError(f"{value!r} is not a size; write it like 512MB or 4GiB")
    return int(Fraction(match[1]) * unit)


def parse_duration(value: object) -> float:
    """Seconds of `value`: a number of seconds, or numbers with units (`90s`, `1h30m`, `250ms`).

    Raises:
        ValueError: not a duration, or negative.
    """
    if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0:
        return float(value)
    text = value.strip().lower() if isinstance(value, str) else ""
    if not _DURATION.fullmatch(text):
        raise ValueError(f"{value!r} is not a duration; write it like 30s, 10m or 1h30m")
    return sum(float(number) * _SECONDS[unit] for number, unit in _DURATION_PART.findall(text))


def format_duration(seconds: float) -> str:
    """`seconds` as a person reads it: `850ms`, `4.2s`, `3m05s`, `2h07m`."""
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f}ms"
    if seconds < 59.95:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}m{rest:02d}s" if minutes < 60 else f"{minutes // 60}h{minutes % 60:02d}m"


def format_size(count: float) -> str:
    """`count` bytes in IEC units: `512 B`, `1.5 GiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if round(count, 1) < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


Size = Annotated[
    int,
    BeforeValidator(parse_size),
    WithJsonSchema(
        {
            "anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": _SIZE_PATTERN}],
            "description": "bytes, or a number with a unit: 512MB, 4GiB",
        }
    ),
]
Duration = Annotated[
    float,
    BeforeValidator(parse_duration),
    WithJsonSchema(
        {
            "anyOf": [{"type": "number", "minimum": 0}, {"type": "string", "pattern": _DURATION_PATTERN}],
            "description": "seconds, or numbers with units: 30s, 10m, 1h30m",
        }
    ),
]
