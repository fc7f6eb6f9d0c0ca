"""Filters of a request as expressions of Arrow's: of rows that are read, and of what statistics tell of a row group."""

from __future__ import annotations

from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines.apart import flattened
from pipelines.errors import DataError
from pipelines.files import first_line
from pipelines.layout import Request


class Condition(NamedTuple):
    """What is true of every row that is wanted.

    Attributes:
        of_rows: of a table that is taken apart.
        of_files: of a file's own columns, for its statistics.
    """

    of_rows: pc.Expression
    of_files: pc.Expression


def condition_of(request: Request, schema: pa.Schema, seen: str) -> Condition | None:
    """The filters of a request, all of which a row must meet; None where there are none.

    Args:
        request: with the filters.
        schema: of the files and their folders.
        seen: a file's name, for errors.

    Raises:
        DataError: a filter names a column that is unknown or holds lists, an unknown operator, or a value of another
            type.
    """
    if not request.filters:
        return None
    known = {leaf.name: leaf.type for leaf in flattened(schema)}
    for column, _, _ in request.filters:
        _check(column, known, seen)
    try:
        filters = [(name, op, _comparable(value, known[name])) for name, op, value in request.filters]
        of_rows = pq.filters_to_expression([filters])
        flattened(schema).empty_table().filter(of_rows)
        of_files = pq.filters_to_expression([[(_steps(schema, name), op, value) for name, op, value in filters]])
    except (pa.ArrowException, ValueError, TypeError) as error:
        raise DataError("a filter cannot be used", [*map(list, request.filters)], first_line(error)) from None
    return Condition(of_rows, of_files)


def _check(column: str, known: dict[str, pa.DataType], seen: str) -> None:
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


def _comparable(value: Any, arrow: pa.DataType) -> Any:
    """A filter's value; texts become the dates and times that they are to be compared with."""
    if not pa.types.is_temporal(arrow) or isinstance(value, str) is isinstance(value, list | tuple):
        return value
    found = pa.array([value] if isinstance(value, str) else [*map(str, value)]).cast(arrow)
    return found[0] if isinstance(value, str) else found
