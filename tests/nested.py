"""Random columns of lists, structs and maps in each other, with nulls in every place that can hold one."""

from __future__ import annotations

import random
from typing import Any

import pyarrow as pa

_PLAIN = (pa.int32(), pa.int64(), pa.float64(), pa.bool_(), pa.string(), pa.large_string(), pa.binary())


def random_type(random: random.Random, depth: int, *, sized: bool = True) -> pa.DataType:
    """A type at most so many levels deep; `sized` allows lists of a fixed size."""
    inner = lambda: random_type(random, depth - 1, sized=sized)  # noqa: E731
    kinds = ["struct", "list", "large_list", "list_view", "map", *(["fixed"] if sized else [])]
    kind = random.choice(kinds) if depth and random.random() < 0.8 else "plain"
    if kind == "struct":
        return pa.struct({name: inner() for name in "abc"[: random.randint(1, 3)]})
    if kind == "map":
        return pa.map_(random.choice([pa.string(), pa.int32()]), inner())
    if kind == "fixed":
        return pa.list_(inner(), random.randint(1, 3))
    if kind == "plain":
        return random.choice(_PLAIN)
    return {"list": pa.list_, "large_list": pa.large_list, "list_view": pa.list_view}[kind](inner())


def random_value(random: random.Random, kind: pa.DataType) -> Any:
    """A value of the type, or None where no list of a fixed size is within it: not every Arrow reads these."""
    if not _has_fixed(kind) and random.random() < 0.2:
        return None
    return _present(random, kind)


def _present(random: random.Random, kind: pa.DataType) -> Any:
    types = pa.types
    count = random.choice([0, 0, 1, 2, 5])
    if types.is_struct(kind):
        return {field.name: random_value(random, field.type) for field in kind}
    if types.is_map(kind):
        return [(_present(random, kind.key_type), random_value(random, kind.item_type)) for _ in range(count)]
    if types.is_fixed_size_list(kind):
        return [random_value(random, kind.value_type) for _ in range(kind.list_size)]
    if types.is_list(kind) or types.is_large_list(kind) or types.is_list_view(kind):
        return [random_value(random, kind.value_type) for _ in range(count)]
    if types.is_boolean(kind):
        return random.random() < 0.5
    if types.is_floating(kind):
        return random.uniform(-1, 1)
    if types.is_integer(kind):
        return random.randint(-(2**31), 2**31 - 1)
    text = random.choice(["", "a", "Zürich", "x" * 40])
    return text.encode() if types.is_binary(kind) else text


def _has_fixed(kind: pa.DataType) -> bool:
    types = pa.types
    if types.is_fixed_size_list(kind):
        return True
    if types.is_struct(kind):
        return any(_has_fixed(field.type) for field in kind)
    if types.is_map(kind):
        return _has_fixed(kind.item_type)
    return bool(types.is_nested(kind)) and _has_fixed(kind.value_type)


def random_table(seed: int, rows: int, *, columns: int = 3, depth: int = 4) -> pa.Table:
    """Columns `x0`, `x1`, … of random types, and `id`, which numbers the rows."""
    chance = random.Random(seed)
    found: dict[str, Any] = {"id": pa.array(range(rows), pa.int64())}
    for number in range(columns):
        kind = random_type(chance, depth)
        found[f"x{number}"] = pa.array([random_value(chance, kind) for _ in range(rows)], kind)
    return pa.table(found)
