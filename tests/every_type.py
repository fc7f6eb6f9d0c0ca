"""Columns of every Arrow type that TensorFlow has a counterpart for, and what pyarrow itself says they hold."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from decimal import Decimal
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

#: Rows of each column: enough for several batches over several row groups.
ROWS = 60


def _numbers(dtype: str) -> pa.Array:
    info = np.iinfo(dtype)
    values = np.linspace(info.min, info.max, ROWS, dtype=np.float64)
    values = np.clip(values, info.min / 2, info.max / 2).astype(dtype)
    values[:2] = info.min, info.max
    return pa.array(values)


def _floats(dtype: str) -> pa.Array:
    values = (np.arange(ROWS) / 7).astype(dtype)
    values[:4] = np.inf, -np.inf, np.nan, np.finfo(dtype).max
    return pa.array(values)


def _lengths() -> list[int]:
    return [(row * 7) % 5 for row in range(ROWS)]


def _texts() -> list[str]:
    return ["" if row % 9 == 0 else f"Zürich {row} " * (row % 4 + 1) for row in range(ROWS)]


def _lists(items: list[Any]) -> list[list[Any]]:
    """Lists of 0 to 4 of the items, the first of all empty."""
    return [[items[(row + item) % len(items)] for item in range(length)] for row, length in enumerate(_lengths())]


def _decimals(arrow: pa.DataType) -> pa.Array:
    return pa.array([Decimal(row - 30) / 100 for row in range(ROWS)], arrow)


def _counted(arrow: pa.DataType, integers: pa.DataType, step: int = 1, low: int = 0) -> pa.Array:
    return pa.array([low + step * row for row in range(ROWS)], integers).cast(arrow)


def _uuids() -> pa.Array:
    values = [uuid.UUID(int=row * 2**100 + row).bytes for row in range(ROWS)]
    return pa.ExtensionArray.from_storage(pa.uuid(), pa.array(values, pa.binary(16)))


_TEXT, _LIST = _texts(), _lists(list(range(50)))

#: By name, what makes the column; some of the types are not in every pyarrow.
EVERY_TYPE: dict[str, Callable[[], pa.Array]] = {
    **{name: partial(_numbers, name) for name in ("int8", "int16", "int32", "int64")},
    **{name: partial(_numbers, name) for name in ("uint8", "uint16", "uint32", "uint64")},
    **{name: partial(_floats, name) for name in ("float16", "float32", "float64")},
    "bool": lambda: pa.array([row % 3 == 0 for row in range(ROWS)]),
    "decimal32": lambda: _decimals(pa.decimal32(7, 2)),
    "decimal64": lambda: _decimals(pa.decimal64(15, 2)),
    "decimal128": lambda: _decimals(pa.decimal128(30, 4)),
    "decimal256": lambda: _decimals(pa.decimal256(60, 4)),
    "date32": lambda: _counted(pa.date32(), pa.int32(), 400, -10_000),
    "date64": lambda: _counted(pa.date64(), pa.int64(), 86_400_000 * 400, -86_400_000 * 10_000),
    **{
        f"timestamp_{unit}": partial(_counted, pa.timestamp(unit), pa.int64(), 10**9 + 1, -(10**9))
        for unit in ("s", "ms", "us", "ns")
    },
    "timestamp_tz": lambda: _counted(pa.timestamp("us", "Europe/Zurich"), pa.int64(), 10**12 + 1),
    "time32_s": lambda: _counted(pa.time32("s"), pa.int32(), 1000),
    "time32_ms": lambda: _counted(pa.time32("ms"), pa.int32(), 10**6),
    "time64_us": lambda: _counted(pa.time64("us"), pa.int64(), 10**9 + 1),
    "time64_ns": lambda: _counted(pa.time64("ns"), pa.int64(), 10**12 + 1),
    **{
        f"duration_{unit}": partial(_counted, pa.duration(unit), pa.int64(), 12_345, -99)
        for unit in ("s", "ms", "us", "ns")
    },
    "string": lambda: pa.array(_TEXT),
    "large_string": lambda: pa.array(_TEXT, pa.large_string()),
    "string_view": lambda: pa.array(_TEXT, pa.string_view()),
    "binary": lambda: pa.array([bytes([row, 0, 255])[: row % 4] for row in range(ROWS)]),
    "large_binary": lambda: pa.array([bytes([row, 0, 255])[: row % 4] for row in range(ROWS)], pa.large_binary()),
    "binary_view": lambda: pa.array([bytes([row]) * row for row in range(ROWS)], pa.binary_view()),
    "fixed_size_binary": lambda: pa.array([bytes([row, 0, 255]) for row in range(ROWS)], pa.binary(3)),
    "uuid": _uuids,
    "json": lambda: pa.ExtensionArray.from_storage(pa.json_(), pa.array([f'{{"row": {row}}}' for row in range(ROWS)])),
    "bool8": lambda: pa.ExtensionArray.from_storage(pa.bool8(), pa.array(np.arange(ROWS, dtype=np.int8) % 2)),
    "dictionary": lambda: pa.array(_TEXT).dictionary_encode(),
    "dictionary_of_int": lambda: pa.array([row % 3 for row in range(ROWS)]).dictionary_encode(),
    "list": lambda: pa.array(_LIST),
    "list_of_half": lambda: pa.array(_LIST, pa.list_(pa.float32())).cast(pa.list_(pa.float16())),
    "list_of_bool": lambda: pa.array(_lists([True, False, False])),
    "list_of_timestamp": lambda: pa.array(_LIST, pa.list_(pa.timestamp("us"))),
    "list_of_decimal": lambda: pa.array(_lists([Decimal("1.25"), Decimal("-3.50")]), pa.list_(pa.decimal128(9, 2))),
    "large_list": lambda: pa.array(_LIST, pa.large_list(pa.int32())),
    "list_view": lambda: pa.array(_LIST, pa.list_view(pa.int32())),
    "list_of_list": lambda: pa.array(_lists([[1, 2], [], [3]])),
    "list_of_list_of_list": lambda: pa.array(_lists([[[1], [2, 3]], [], [[], [4]]])),
    "list_of_string": lambda: pa.array(_lists(_TEXT)),
    "list_of_dictionary": lambda: pa.array(_lists(["a", "b", ""]), pa.list_(pa.dictionary(pa.int32(), pa.string()))),
    "list_of_list_of_string": lambda: pa.array(_lists([["a", ""], [], ["bc"]])),
    "list_of_fixed": lambda: pa.array(_lists([[1, 2], [3, 4]]), pa.list_(pa.list_(pa.int16(), 2))),
    "fixed": lambda: pa.array([[row, -row, 0.5] for row in range(ROWS)], pa.list_(pa.float32(), 3)),
    "fixed_of_string": lambda: pa.array([[text, "x"] for text in _TEXT], pa.list_(pa.string(), 2)),
    "fixed_of_fixed": lambda: pa.array(
        [[[row, 1], [2, 3], [4, 5]] for row in range(ROWS)], pa.list_(pa.list_(pa.int16(), 2), 3)
    ),
    "fixed_of_list": lambda: pa.array(
        [[items, [row]] for row, items in enumerate(_LIST)], pa.list_(pa.list_(pa.int64()), 2)
    ),
    "struct": lambda: pa.array([{"a": row, "b": text} for row, text in enumerate(_TEXT)]),
    "struct_nested": lambda: pa.array(
        [{"a": {"b": {"c": row}, "d": _TEXT[row]}, "e": _LIST[row]} for row in range(ROWS)]
    ),
}


def types_here() -> list[str]:
    """The types that this pyarrow knows."""
    found = []
    for name, make in EVERY_TYPE.items():
        try:
            make()
        except (AttributeError, pa.ArrowNotImplementedError):
            continue
        found.append(name)
    return found


def every_type() -> pa.Table:
    """One column of each, and `id`, which numbers the rows."""
    return pa.table({"id": np.arange(ROWS), **{name: EVERY_TYPE[name]() for name in types_here()}})


def expected(table: pa.Table) -> dict[str, list[Any]]:
    """What Arrow's own casts make of a table that pyarrow has read, by column; fields of structs under dotted names.

    Times as integers of their unit, decimals as floats, strings as bytes.
    """
    while any(pa.types.is_struct(kind) for kind in table.schema.types):
        table = table.flatten()
    return {name: list(_column(table[name])) for name in table.column_names}


def _column(column: pa.ChunkedArray) -> Iterator[Any]:
    for chunk in column.chunks:
        yield from map(_bytes, chunk.cast(_plain(chunk.type)).to_pylist())


def _plain(kind: pa.DataType) -> pa.DataType:
    types = pa.types
    if isinstance(kind, pa.BaseExtensionType):
        return _plain(kind.storage_type)
    if types.is_dictionary(kind):
        return _plain(kind.value_type)
    if types.is_fixed_size_list(kind):
        return pa.list_(_plain(kind.value_type), kind.list_size)
    if any(test(kind) for test in (types.is_list, types.is_large_list, types.is_list_view)):
        return pa.list_(_plain(kind.value_type))
    if types.is_decimal(kind):
        return pa.float64()
    if types.is_temporal(kind):
        return pa.int32() if kind.bit_width == 32 else pa.int64()
    return kind


def _bytes(value: Any) -> Any:
    if isinstance(value, list):
        return [_bytes(item) for item in value]
    return value.encode() if isinstance(value, str) else value


def same(found: Any, wanted: Any) -> bool:
    """Equality that takes NaN for equal to NaN, and nothing else for equal that is not."""
    if isinstance(wanted, list):
        return isinstance(found, list) and len(found) == len(wanted) and all(map(same, found, wanted))
    if isinstance(wanted, float) and wanted != wanted:
        return bool(found != found)
    return bool(found == wanted) and isinstance(found, bool) == isinstance(wanted, bool)
