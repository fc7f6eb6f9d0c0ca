"""Parquet files as a source: their row groups are the units."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from pipelines.errors import DataError
from pipelines.files import File, first_line, partitions
from pipelines.footers import Footer, Footers, read_footer, read_footers
from pipelines.layout import Layout, Request, layout_of
from pipelines.schema import describe, flattened, kind_of
from pipelines.shards import Unit
from pipelines.source import where

_THREADS = 8
#: Whole footers that are kept in memory, for files of which several row groups are read.
_FOOTERS = 64


class ParquetSource:
    """Parquet files of one schema, with the columns of the folders they lie in (hive partitions).

    Args:
        filesystem: where the files are.
        files: the files in order.
        request: which columns are read; with `filters`, row groups that cannot hold a matching row are left out by
            their statistics, and in the others the matching rows are counted once, by reading the filters' columns.
        cache: folder in which footers are kept, or None.
        on_error: is told of a file that is not Parquet, or has other columns than most files, which is then left out;
            None raises.

    Raises:
        DataError: a file that is not Parquet, a column that is missing or differs between files.
    """

    def __init__(
        self,
        filesystem: pafs.FileSystem,
        files: Sequence[File],
        request: Request,
        cache: Path | None = None,
        on_error: Callable[[str, DataError], None] | None = None,
    ) -> None:
        self._filesystem = filesystem
        self._footers = read_footers(filesystem, files, cache, on_error)
        if not self._footers.by_file:
            raise DataError("no file has a readable footer", files[0].path, "write the files again")
        first, footer = _reference(self._footers, tolerant=on_error is not None)
        self._folders = {file.path: partitions(file) for file in files}
        self._partitions = _partition_types(files)
        self._stored = self._footers.schemas[footer.schema]
        self.schema = _with_partitions(self._stored, self._partitions)
        self.layout: Layout = layout_of(self.schema, request, first)
        self._condition = _condition(request, self.schema, first)
        self._check_same(first, on_error)
        names = [*self.layout.columns, *(column for column, _, _ in request.filters)]
        self._read_names = [name for name in dict.fromkeys(names) if name not in self._partitions]
        self._footer = functools.lru_cache(_FOOTERS)(functools.partial(read_footer, filesystem))
        self.units: tuple[Unit, ...] = tuple(
            Unit(path, index, rows, size)
            for path, footer in self._footers.by_file.items()
            for index, (rows, size) in enumerate(zip(footer.rows, footer.bytes, strict=True))
        )
        if self._condition is not None:
            self.units = self._matching(request)

    def read(self, unit: Unit) -> pa.Table:
        """The rows of a row group that meet the filters, `[unit.rows, columns]`, in the file's types.

        Raises:
            DataError: the row group cannot be read; names file, row group and, where it is one, the column.
        """
        table = self._read_columns(unit, self._read_names)
        found = table if self._condition is None else table.filter(self._condition)
        if found.num_rows != unit.rows:
            seen = f"{where(unit)}: {found.num_rows} rows, before {unit.rows}"
            raise DataError("a data file has changed while it was in use", seen, "start again, and leave it as it is")
        return found

    def _read_columns(self, unit: Unit, names: list[str]) -> pa.Table:
        try:
            with self._filesystem.open_input_file(unit.file) as file:
                reader = pq.ParquetFile(file, metadata=self._footer(unit.file), page_checksum_verification=True)
                table = reader.read_row_group(unit.row_group, columns=names, use_threads=False)
        except (pa.ArrowException, OSError, ValueError) as error:
            culprit = self._culprit(unit, names)
            raise DataError("cannot read a row group", where(unit, culprit), _todo(error)) from None
        return self._with_folders(table, unit)

    def _with_folders(self, table: pa.Table, unit: Unit) -> pa.Table:
        """The table with the columns that its file's folders name."""
        if not self._partitions:
            return table
        values = self._folders[unit.file]
        for name, arrow in self._partitions.items():
            value = pa.scalar(values[name], pa.string()).cast(arrow)
            table = table.append_column(name, pa.repeat(value, table.num_rows))
        return table

    def _culprit(self, unit: Unit, names: list[str]) -> str | None:
        """The first column that cannot be read, where the file can be read otherwise."""
        if not names:
            return None
        try:
            self._read_columns(unit, [])
        except DataError:
            return None
        if len(names) == 1:
            return names[0]
        for name in names:
            try:
                self._read_columns(unit, [name])
            except DataError:
                return name
        return None

    def _check_same(self, first: str, on_error: Callable[[str, DataError], None] | None) -> None:
        """Refuse files whose selected columns are not of the first file's types; each schema is looked at once."""
        good, stored = {self._footers.by_file[first].schema}, self._footers.schemas
        for path, footer in [*self._footers.by_file.items()]:
            if footer.schema in good:
                continue
            try:
                self._check(path, {leaf.name: leaf.type for leaf in flattened(stored[footer.schema])}, first)
                good.add(footer.schema)
            except DataError as error:
                if on_error is None:
                    raise
                on_error(path, error)
                del self._footers.by_file[path]

    def _check(self, path: str, found: dict[str, pa.DataType], first: str) -> None:
        wanted = {leaf.name: leaf.type for leaf in flattened(self._stored)}
        for name in self.layout.columns:
            if name in self._partitions:
                continue
            if name not in found:
                raise DataError(f"there is no column {name}", path, f"{first} has it; write both with one schema")
            here, there = (describe(kind_of(arrow, name, path)) for arrow in (found[name], wanted[name]))
            if here != there:
                seen = f"{path} has {here}, {first} has {there}"
                raise DataError(f"column {name} is not of one type", seen, "write both files with one schema")

    def _matching(self, request: Request) -> tuple[Unit, ...]:
        """The row groups that hold rows which meet the filters, with their numbers of such rows."""
        names = list(dict.fromkeys(column for column, _, _ in request.filters))
        stored = [name for name in names if name not in self._partitions]
        possible = [unit for path in self._footers.by_file for unit in self._possible(path)]

        def counted(unit: Unit) -> Unit:
            table = self._read_columns(unit, stored) if stored else self._with_folders(_rows_only(unit), unit)
            return unit._replace(rows=table.filter(self._condition).num_rows)

        with ThreadPoolExecutor(_THREADS) as pool:
            return tuple(unit for unit in pool.map(counted, possible) if unit.rows)

    def _possible(self, path: str) -> list[Unit]:
        """The row groups of a file whose statistics do not rule out every row."""
        partition = _equals(self._folders[path], self._partitions)
        fragment = pads.ParquetFileFormat().make_fragment(path, self._filesystem, partition_expression=partition)
        subset = fragment.subset(self._condition, schema=self.schema)
        rows = self._footers.by_file[path].rows
        return [Unit(path, group.id, rows[group.id]) for group in subset.row_groups]


def _todo(error: BaseException) -> str:
    """What Arrow says of a row group that it cannot read, and what to do about it."""
    said = first_line(error)
    if "Expected all lists to be of size" in said:
        return "Arrow reads no nulls in a column of lists of a fixed size; write it as list, or without nulls"
    return said if isinstance(error, FileNotFoundError) else f"{said}; write the file again"


def _rows_only(unit: Unit) -> pa.Table:
    return pa.table({"": pa.nulls(unit.rows)})


def _equals(values: dict[str, str | None], types: dict[str, pa.DataType]) -> pc.Expression:
    """What is true of every row below these folders."""
    known = pc.scalar(True)
    for name, arrow in types.items():
        if values[name] is not None:
            known = known & (pc.field(name) == pa.scalar(values[name], pa.string()).cast(arrow))
    return known


def _reference(footers: Footers, *, tolerant: bool) -> tuple[str, Footer]:
    """The file that the others are compared with: the first; where some may be left out, the first of the commonest."""
    counts = Counter(footer.schema for footer in footers.by_file.values())
    wanted = counts.most_common(1)[0][0] if tolerant else next(iter(footers.by_file.values())).schema
    return next((path, footer) for path, footer in footers.by_file.items() if footer.schema == wanted)


def _partition_types(files: Sequence[File]) -> dict[str, pa.DataType]:
    """The columns that the folders of all files name, and their types: int64 where every value is one, else string."""
    found = [partitions(file) for file in files]
    names = [name for name in found[0] if all(name in values for values in found)]
    for file, values in zip(files, found, strict=True):
        if set(values) != set(names):
            raise DataError(
                "files lie in folders that name different columns",
                f"{file.path} has {', '.join(values) or 'none'}, {files[0].path} has {', '.join(found[0]) or 'none'}",
                "give folders of one kind, such as …/year=2013/month=1",
            )
    return {name: _partition_type({values[name] for values in found}) for name in names}


def _partition_type(values: set[Any]) -> pa.DataType:
    filled = [value for value in values if value is not None]
    whole = all(value.removeprefix("-").isdecimal() and len(value) < 19 for value in filled)
    return pa.int64() if whole and filled else pa.string()


def _with_partitions(schema: pa.Schema, types: dict[str, pa.DataType]) -> pa.Schema:
    for name, arrow in types.items():
        if name not in schema.names:
            schema = schema.append(pa.field(name, arrow))
    return schema


def _condition(request: Request, schema: pa.Schema, seen: str) -> pc.Expression | None:
    """The filters as one expression of Arrow's.

    Raises:
        DataError: a filter names an unknown column, an unknown operator, or a value of another type.
    """
    if not request.filters:
        return None
    for column, _, _ in request.filters:
        if column not in schema.names:
            raise DataError(f"a filter names no column: {column}", seen, f"its columns are {', '.join(schema.names)}")
    try:
        known = [(name, op, _comparable(value, schema.field(name).type)) for name, op, value in request.filters]
        condition = pq.filters_to_expression([known])
        schema.empty_table().filter(condition)
    except (pa.ArrowException, ValueError, TypeError) as error:
        raise DataError("a filter cannot be used", [*map(list, request.filters)], first_line(error)) from None
    return condition


def _comparable(value: Any, arrow: pa.DataType) -> Any:
    """A filter's value; texts become the dates and times that they are to be compared with."""
    if not pa.types.is_temporal(arrow) or isinstance(value, str) is isinstance(value, list | tuple):
        return value
    found = pa.array([value] if isinstance(value, str) else [*map(str, value)]).cast(arrow)
    return found[0] if isinstance(value, str) else found
