"""Filters of a request as expressions of Arrow's: of rows that are read, and of what statistics tell of a row group."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.apart import flattened
from pipelines.errors import DataError
from pipelines.files import first_line
from pipelines.literals import compared_as, comparison
from pipelines.schema import with_items

Filter = tuple[str, str, Any]

_OPERATORS: Mapping[str, Callable[[pc.Expression, Any], pc.Expression]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "in": pc.Expression.isin,
    "not in": lambda column, values: column.is_valid() & ~column.isin(values),  # a null meets no condition
}


class Condition(NamedTuple):
    """What is true of every row that is wanted.

    Attributes:
        of_rows: of a table that is taken apart, see `met`.
        of_files: of a file's own columns, for its statistics.
    """

    of_rows: pc.Expression
    of_files: pc.Expression

    def met(self, table: pa.Table) -> pa.Table:
        """The rows of a table that meet it."""
        return _without_views(table).filter(self.of_rows)


def shown(filters: Sequence[Filter]) -> str:
    """Filters as errors show them."""
    return ", ".join(f"{column} {op} {value!r}" for column, op, value in filters)


def filtered(filters: Sequence[Filter]) -> tuple[str, ...]:
    """The columns that they are of, each once."""
    return tuple(dict.fromkeys(column for column, _, _ in filters))


def condition_of(filters: Sequence[Filter], schema: pa.Schema, seen: str) -> Condition:
    """Filters, all of which a row must meet.

    Args:
        filters: column, operator and value of each, one at least.
        schema: of a file and its folders.
        seen: the file's name, for errors.

    Raises:
        DataError: a filter names a column that is unknown or holds lists, an unknown operator, or a value that is none
            of the column's type.
    """
    known = {leaf.name: leaf.type for leaf in flattened(schema)}
    found = [_condition(one, known, schema, seen) for one in filters]
    return Condition(*(reduce(operator.and_, parts) for parts in zip(*found, strict=True)))


def _condition(one: Filter, known: Mapping[str, pa.DataType], schema: pa.Schema, seen: str) -> Condition:
    column, op, value = one
    _check(column, known, seen)
    if op not in _OPERATORS:
        seen, todo = f"{seen}: {shown([one])}", f"use one of {', '.join(_OPERATORS)}"
        raise DataError(f"a filter has an unknown operator: {op}", seen, todo)
    arrow = known[column]
    if pa.types.is_null(arrow):
        return Condition(pc.scalar(False), pc.scalar(False))
    try:
        op, literal = comparison(op, value, arrow)
        of_rows = _OPERATORS[op](_compared(column, arrow), literal)
        Condition(of_rows, of_rows).met(pa.table({column: pa.nulls(0, arrow)}))
    except (pa.ArrowException, ValueError, TypeError, OverflowError) as error:
        happened = f"a filter cannot be used: column {column} is {arrow}, with which {value!r} cannot be compared"
        raise DataError(happened, f"{seen}: {shown([one])}", first_line(error)) from None
    if op in ("!=", "not in") and pa.types.is_floating(compared_as(arrow)):
        return Condition(of_rows, pc.scalar(True))  # statistics do not count NaN, which is not equal to anything
    return Condition(of_rows, _OPERATORS[op](pc.field(*_steps(schema, column)), literal))


def _compared(column: str, arrow: pa.DataType) -> pc.Expression:
    """A column of a table without views, in the type in which it is compared."""
    field, wanted = pc.field(column), compared_as(arrow)
    return field if with_items(arrow).equals(wanted) else field.cast(wanted)


def _without_views(table: pa.Table) -> pa.Table:
    """The table without views of texts, which Arrow cannot filter."""
    wanted = pa.schema([(field.name, with_items(field.type)) for field in table.schema])
    return table if wanted.types == table.schema.types else table.cast(wanted)


def _check(column: str, known: Mapping[str, pa.DataType], seen: str) -> None:
    if column not in known:
        if fields := [name for name in known if name.startswith(f"{column}.")]:
            seen = f"{seen}: {', '.join(fields)}"
            raise DataError(f"a filter names column {column}, which has several fields", seen, "name one of them")
        todo = f"its columns are {', '.join(known)}"
        raise DataError(f"a filter names no column: {column}", seen, todo)
    if pa.types.is_nested(known[column]):
        todo = "filter by a column of one value a row, or filter the dataset"
        raise DataError(f"a filter names column {column}, which holds lists", f"{seen}: {known[column]}", todo)


def _steps(fields: pa.Schema | pa.StructType, name: str) -> tuple[str, ...]:
    """The names that lead to a field within structs: those of the structs, and its own."""
    for field in fields:
        if field.name == name:
            return (name,)
        if name.startswith(f"{field.name}.") and pa.types.is_struct(field.type):
            inner = _steps(field.type, name[len(field.name) + 1 :])
            if inner:
                return (field.name, *inner)
    return ()
