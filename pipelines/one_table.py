"""Many files as one table: which of them have its columns, and as what their columns become those of the table."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import pyarrow as pa

from pipelines.alike import castable, common, is_number, is_void, same_sense
from pipelines.apart import flattened
from pipelines.errors import DataError
from pipelines.filters import Condition, Filter, condition_of, filtered
from pipelines.layout import Layout
from pipelines.schema import describe, kind_of


@dataclass(frozen=True)
class OneTable:
    """The table that files are read as.

    Attributes:
        schema: of the files, and of their folders.
        folder_columns: those of them that folders name.
        layout: what is made of it.
        filters: conditions of its rows.
        first: the file whose schema it is, for errors.
        origins: by leaf, the file that a type is from, where it is not that of `first`.
        types: of its leaves.
    """

    schema: pa.Schema
    folder_columns: pa.Schema
    layout: Layout
    filters: Sequence[Filter]
    first: str
    origins: Mapping[str, str]
    types: Mapping[str, pa.DataType] = field(init=False)
    _conditions: dict[tuple[pa.DataType, ...], Condition] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "types", leaf_types(self.schema))

    @property
    def filtered(self) -> tuple[str, ...]:
        """The columns that the filters are of."""
        return filtered(self.filters)

    @property
    def read_names(self) -> list[str]:
        """The columns that are read from the files."""
        names = dict.fromkeys([*self.layout.columns, *self.filtered])
        return [name for name in names if name not in self.folder_columns.names]

    def mismatch(self, path: str, schema: pa.Schema) -> DataError | None:
        """Why a file of this schema cannot be read as part of the table; a condition of its columns is learned."""
        found = leaf_types(schema)
        for name in self.read_names:
            place = place_of(name, found)
            if place is None or (place != name and not is_void(found[place])):
                return DataError(f"there is no column {name}", path, f"{self.first} has it; write both with one schema")
            if not self._is_read_as(name, found[place]):
                there = _Seen(self.origins.get(name, self.first), self.types[name])
                return _differs(name, _Seen(path, found[place]), there, to_cast=name in self.layout.columns)
        try:
            self.learn_condition(self.with_folders(schema), path)
        except DataError as error:
            return error
        return None

    def of_other_types(self, schema: pa.Schema) -> Iterator[str]:
        """Columns of files of this schema that become those of the table before anything is made of them.

        Those without any value, and those that are cast: a cast of a time to a number keeps its unit.
        """
        found = leaf_types(schema)
        for name in self.read_names:
            kind = found.get(place_of(name, found) or name, self.types[name])
            if kind != self.types[name] and (is_void(kind) or name in self.layout.casts):
                yield name

    def with_folders(self, schema: pa.Schema) -> pa.Schema:
        """A file's schema and the columns of its folders."""
        return pa.schema([*schema, *self.folder_columns])

    def learn_condition(self, schema: pa.Schema, path: str) -> Condition | None:
        """The filters as a condition of columns of these types; None without filters.

        Raises:
            DataError: a filter cannot be used.
        """
        if not self.filters:
            return None
        found = leaf_types(schema)
        kinds = tuple(found.get(name, pa.null()) for name in self.filtered)
        if kinds not in self._conditions:
            missing = [pa.field(name, pa.null()) for name in self.filtered if name not in found and name in self.types]
            self._conditions[kinds] = condition_of(self.filters, pa.schema([*schema, *missing]), path)
        return self._conditions[kinds]

    def condition(self, schema: pa.Schema, path: str) -> Condition | None:
        """`learn_condition`, once the files are known, of which all may be alike."""
        return (
            next(iter(self._conditions.values())) if len(self._conditions) == 1 else self.learn_condition(schema, path)
        )

    def _is_read_as(self, name: str, found: pa.DataType) -> bool:
        """Whether a column of this type becomes that of the table, and means what it means."""
        stored, wanted = self.types[name], self.layout.columns.get(name)
        if common(stored, found) is not None:
            return wanted is None or castable(found, wanted)
        if name in self.filtered and not (is_number(stored) and is_number(found)):
            return False
        if wanted is None:
            return True
        return name in self.layout.casts and same_sense(stored, found, wanted) and castable(found, wanted)


class _Seen(NamedTuple):
    """A file, and the type that it has of some column."""

    path: str
    arrow: pa.DataType


def leaf_types(schema: pa.Schema) -> dict[str, pa.DataType]:
    """The types of its columns, taken apart."""
    return {leaf.name: leaf.type for leaf in flattened(schema)}


def place_of(name: str, columns: Collection[str]) -> str | None:
    """Where a column is: under its name, or in what has no value at all, and so no fields either."""
    while name and name not in columns:
        name = name.rpartition(".")[0]
    return name if name in columns else None


def _differs(name: str, one: _Seen, other: _Seen, *, to_cast: bool) -> DataError:
    """The error of a column that two files have of different types; `to_cast`: that is also read, not only filtered."""
    here, there = _said(one, name), _said(other, name)
    if here == there:
        here, there = str(one.arrow), str(other.arrow)
    todo = "write both files with one schema"
    if to_cast and same_sense(one.arrow, other.arrow):
        todo += f", or say what type it is to have: casts: {{{name}: …}}"
    return DataError(f"column {name} is not of one type", f"{one.path} has {here}, {other.path} has {there}", todo)


def _said(seen: _Seen, name: str) -> str:
    try:
        return describe(kind_of(seen.arrow, name, seen.path))
    except DataError:
        return str(seen.arrow)
