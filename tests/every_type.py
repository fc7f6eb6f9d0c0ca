"""Columns of every Arrow type that TensorFlow has a counterpart for, and what pyarrow itself says they hold."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from datetime import date, datetime
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
#: A struct and some of its values.
_PLACE = pa.struct({"a": pa.int32(), "b": pa.string(), "c": pa.bool_()})
_PLACES = [{"a": number, "b": _TEXT[number], "c": number % 3 == 0} for number in range(20)]
#: A struct of what numpy or Python have otherwise than Arrow.
_OTHERS = pa.struct(
    {
        "t": pa.timestamp("us"),
        "d": pa.date32(),
        "m": pa.decimal128(9, 2),
        "h": pa.float16(),
        "x": pa.binary(2),
        "s": pa.large_string(),
        "k": pa.dictionary(pa.int32(), pa.string()),
        "f": pa.list_(pa.float32(), 2),
    }
)


def _others() -> list[dict[str, Any]]:
    dated = {"t": datetime(2024, 2, 29, 12), "d": date(2024, 2, 29), "m": Decimal("1.25"), "h": np.float16(1.5)}
    return [{**dated, "x": b"ab", "s": text, "k": text[:1], "f": [0.5, -1]} for text in _TEXT[:7]]


def _pairs(values: list[Any]) -> list[list[tuple[str, Any]]]:
    """Rows of a map."""
    return [[(f"{row} {key}", value) for key, value in enumerate(items)] for row, items in enumerate(_lists(values))]


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
    "list_of_struct": lambda: pa.array(_lists(_PLACES), pa.list_(_PLACE)),
    "large_list_of_struct": lambda: pa.array(_lists(_PLACES), pa.large_list(_PLACE)),
    "list_view_of_struct": lambda: pa.array(_lists(_PLACES), pa.list_view(_PLACE)),
    "fixed_of_struct": lambda: pa.array([_PLACES[row % 9 : row % 9 + 2] for row in range(ROWS)], pa.list_(_PLACE, 2)),
    "list_of_others": lambda: pa.array(_lists(_others()), pa.list_(_OTHERS)),
    "list_of_list_of_struct": lambda: pa.array(_lists([_PLACES[:2], [], _PLACES[2:3]]), pa.list_(pa.list_(_PLACE))),
    "list_of_struct_of_list": lambda: pa.array(
        _lists([{"n": number, "l": items, "s": {"t": _TEXT[:number]}} for number, items in enumerate(_LIST[:9])])
    ),
    "struct_of_list_of_struct": lambda: pa.array([{"l": row, "n": len(row)} for row in _lists(_PLACES)]),
    "struct_of_fixed_of_list_of_struct": lambda: pa.array(
        [{"f": [row, row[1:]]} for row in _lists(_PLACES)], pa.struct({"f": pa.list_(pa.list_(_PLACE), 2)})
    ),
    "map": lambda: pa.array(_pairs(_LIST[1]), pa.map_(pa.string(), pa.int64())),
    "map_of_struct": lambda: pa.array(_pairs(_PLACES), pa.map_(pa.string(), _PLACE)),
    "map_of_list_of_struct": lambda: pa.array(_pairs(_lists(_PLACES)), pa.map_(pa.string(), pa.list_(_PLACE))),
    "map_of_map": lambda: pa.array(_pairs(_pairs([1, 2, 3])), pa.map_(pa.string(), pa.map_(pa.string(), pa.int8()))),
    "list_of_map": lambda: pa.array(_lists(_pairs([1, 2, 3])), pa.list_(pa.map_(pa.string(), pa.int8()))),
    "list_of_struct_of_map": lambda: pa.array(
        _lists([{"m": pairs, "n": len(pairs)} for pairs in _pairs([1, 2, 3])]),
        pa.list_(pa.struct({"m": pa.map_(pa.string(), pa.int8()), "n": pa.int64()})),
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


def every_type(half: int | None = None) -> pa.Table:
    """One column of each, or of every second one, and `id`, which numbers the rows."""
    names = types_here() if half is None else types_here()[half::2]
    return pa.table({"id": np.arange(ROWS), **{name: EVERY_TYPE[name]() for name in names}})


def expected(table: pa.Table) -> dict[str, list[Any]]:
    """What `to_pylist` makes of a table that pyarrow has read, by column; what has fields is taken apart.

    Times as integers of their unit, decimals as floats, strings as bytes.
    """
    found: dict[str, list[Any]] = {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        rows = [row for chunk in column.chunks for row in chunk.cast(_plain(chunk.type)).to_pylist()]
        found.update((leaf, [*map(_bytes, values)]) for leaf, values in rows_apart(name, column.type, rows))
    return found


def rows_apart(name: str, kind: pa.DataType, rows: list[Any]) -> Iterator[tuple[str, list[Any]]]:
    """Rows of `to_pylist` taken apart, value by value: the names of the columns, and their rows."""
    types = pa.types
    if types.is_struct(kind):
        for field in kind:
            values = [None if row is None else row[field.name] for row in rows]
            yield from rows_apart(f"{name}.{field.name}", field.type, values)
    elif types.is_map(kind):
        for place, part in enumerate((pa.field("key", kind.key_type), pa.field("value", kind.item_type))):
            lists = [None if row is None else [pair[place] for pair in row] for row in rows]
            yield from _lists_apart(f"{name}.{part.name}", part.type, lists)
    elif any(test(kind) for test in (types.is_list, types.is_large_list, types.is_fixed_size_list, types.is_list_view)):
        yield from _lists_apart(name, kind.value_type, rows)
    else:
        yield name, rows


def _lists_apart(name: str, item: pa.DataType, lists: list[Any]) -> Iterator[tuple[str, list[Any]]]:
    together = [value for items in lists if items is not None for value in items]
    for leaf, values in rows_apart(name, item, together):
        rest = iter(values)
        yield leaf, [None if items is None else [next(rest) for _ in items] for items in lists]


def _plain(kind: pa.DataType) -> pa.DataType:
    types = pa.types
    if types.is_struct(kind):
        return pa.struct({field.name: _plain(field.type) for field in kind})
    if types.is_map(kind):
        return pa.map_(_plain(kind.key_type), _plain(kind.item_type))
    if types.is_list_view(kind):  # whose casts to other lists read beyond its offsets
        return kind
    if isinstance(kind, pa.BaseExtensionType):
        return _plain(kind.storage_type)
    if types.is_dictionary(kind):
        return _plain(kind.value_type)
    if types.is_fixed_size_list(kind):
        return pa.list_(_plain(kind.value_type), kind.list_size)
    if types.is_list(kind) or types.is_large_list(kind):
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
