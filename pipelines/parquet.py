"""Parquet files as a source: their row groups are the units."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from operator import attrgetter
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from pipelines.alike import common, is_void, unified
from pipelines.decoded import decoded_bytes, wider
from pipelines.errors import DataError, UnreachableDataError
from pipelines.files import File, first_line
from pipelines.filters import shown
from pipelines.footers import Footers, read_footer, read_footers
from pipelines.hive import Values, folder_columns
from pipelines.layout import Layout, Request, layout_of
from pipelines.leaf_reader import Leaves, leaves_of, read_leaves
from pipelines.one_table import OneTable, place_of
from pipelines.retries import Held, retried
from pipelines.shards import Unit
from pipelines.source import where

_THREADS = 8
#: Whole footers that are kept in memory, for files of which several row groups are read.
_FOOTERS = 64
#: Bytes that Arrow may read behind a column, for writers that count too few.
_PADDING = 128


class ParquetSource:
    """Parquet files of one table, with the columns of the folders they lie in (hive partitions).

    Args:
        filesystem: where the files are.
        files: the files in order.
        request: which columns are read; with `filters`, row groups that cannot hold a matching row are left out by
            their statistics, and in the others the matching rows are counted once, by reading the filters' columns.
        kept: document in which footers are kept, or None.
        on_error: is told of a file that is not Parquet, or has other columns than most files, which is then left out;
            None raises. Of a row group whose filters' columns cannot be read all rows are counted: reading it says so.
        count: False counts no rows that meet the filters: all row groups are units, with all their rows.

    Raises:
        DataError: a file that is not Parquet, a column that is missing or of another type in one of them, a filter that
            cannot be used, or that no row meets.
    """

    def __init__(
        self,
        filesystem: pafs.FileSystem,
        files: Sequence[File],
        request: Request,
        kept: Path | None = None,
        on_error: Callable[[str, DataError], None] | None = None,
        *,
        count: bool = True,
    ) -> None:
        self._filesystem = filesystem
        footers = read_footers(filesystem, files, kept, on_error)
        if not footers.paths:
            raise DataError("no file has a readable footer", files[0].path, "write the files again")
        first, kind = _reference(footers, tolerant=on_error is not None)
        stored, origins = unified(footers.schemas[kind], _others(footers, kind))
        folder_schema, values = folder_columns(files, stored.names)
        self._folders: dict[str, Values] = {file.path: of for file, of in zip(files, values, strict=True) if of}
        self.schema = pa.schema([*stored, *folder_schema])
        self.layout: Layout = layout_of(self.schema, request, first)
        self._table = OneTable(self.schema, folder_schema, self.layout, request.filters, first, origins)
        self._read_names = self._table.read_names
        footers = _of_one_table(footers, self._table, kind, on_error)
        alike = [footers.schemas[its] for its in np.unique(footers.kinds)]
        self._converted = {name for schema in alike for name in self._table.of_other_types(schema)}
        self._leaves: list[tuple[Any, Leaves]] = []
        self._opened = lru_cache(_FOOTERS)(self._open)
        self._opening: dict[str, Lock] = {}
        self.units = _all_units(footers, self._sizes(footers))
        if request.filters and count:
            self.units = self._matching(self.units, tolerant=on_error is not None)

    def read(self, unit: Unit) -> pa.Table:
        """The rows of a row group that meet the filters, `[unit.rows, columns]`, in the file's types, taken apart.

        Raises:
            DataError: the row group cannot be read; names file, row group and, where it is one, the column.
            UnreachableDataError: the storage does not give it.
        """
        table = self._read_columns(unit, self._read_names)
        found = self._met(table, unit)
        if found.num_rows != unit.rows:
            seen = f"{where(unit)}: {found.num_rows} rows, before {unit.rows}"
            raise DataError("a data file has changed while it was in use", seen, "start again, and leave it as it is")
        return found

    def _read_columns(self, unit: Unit, names: list[str]) -> pa.Table:
        try:
            table = self._of_table(retried(partial(self._decode_or_blame, unit, names), where(unit)))
        except (pa.ArrowException, OSError, ValueError) as error:
            culprit = self._culprit(unit, names)
            raise DataError("cannot read a row group", where(unit, culprit), _todo(error)) from None
        return self._with_folders(table, unit)

    def _decode_or_blame(self, unit: Unit, names: list[str]) -> pa.Table:
        """`_decode`, which raises an `OSError` only where the storage is to blame.

        Arrow raises the same error for damage as some file systems for their own. So the bytes are fetched again, and
        decoded from memory: what fails then is damage.
        """
        try:
            return self._decode(unit, names)
        except OSError as error:
            if error.errno is not None:
                raise
        footer, leaves = self._opened(unit.file)
        group = footer.row_group(unit.row_group)
        chunks = [group.column(index) for name in names for index in leaves.places.get(name, ())]
        starts = [chunk.dictionary_page_offset or chunk.data_page_offset for chunk in chunks]
        ends = [start + chunk.total_compressed_size for start, chunk in zip(starts, chunks, strict=True)]
        with self._filesystem.open_input_file(unit.file) as file:
            held = Held(file, min(starts, default=0), max(ends, default=0) + _PADDING)
        try:
            return self._decode_from(held, unit, names)
        except OSError as error:
            raise pa.ArrowInvalid(str(error)) from None

    def _decode(self, unit: Unit, names: list[str]) -> pa.Table:
        """These columns of a row group, all rows of it; other engines do only this in another way."""
        with self._filesystem.open_input_file(unit.file) as file:
            return self._decode_from(file, unit, names)

    def _decode_from(self, file: pa.NativeFile | Held, unit: Unit, names: list[str]) -> pa.Table:
        with self._opening.setdefault(unit.file, Lock()):  # all threads begin with the same file
            footer, leaves = self._opened(unit.file)
        reader = pq.ParquetFile(file, metadata=footer, page_checksum_verification=True)
        if self._converted.isdisjoint(names):
            return read_leaves(reader, unit.row_group, names, leaves)
        places = {name: place_of(name, leaves.places) or name for name in names}
        table = read_leaves(reader, unit.row_group, [*{*places.values()}], leaves)
        if strange := [name for name, place in places.items() if name != place and not is_void(table[place].type)]:
            raise ValueError(f"it has no column {strange[0]}")
        return pa.table({name: table[place] for name, place in places.items()})

    def _of_table(self, table: pa.Table) -> pa.Table:
        """Columns of a file in the types of the whole table, where they have to be."""
        for name in self._converted.intersection(table.column_names):
            column, wanted = table[name], self._table.types[name]
            if common(wanted, column.type) is not None:
                table = table.set_column(table.column_names.index(name), name, column.cast(wanted))
        return table

    def _open(self, path: str) -> tuple[pq.FileMetaData, Leaves]:
        """The footer of a file, and its columns, which are the same in all files of one schema."""
        footer = read_footer(self._filesystem, path)
        for schema, leaves in self._leaves:
            if schema.equals(footer.schema):
                return footer, leaves
        leaves = leaves_of(footer)
        self._leaves.append((footer.schema, leaves))
        return footer, leaves

    def _with_folders(self, table: pa.Table, unit: Unit) -> pa.Table:
        """The table with the columns that its file's folders name."""
        for name, value in self._folders.get(unit.file, {}).items():
            table = table.append_column(name, pa.repeat(value, table.num_rows))
        return table

    def _culprit(self, unit: Unit, names: list[str]) -> str | None:
        """The first column that cannot be read, where the file can be read otherwise."""
        if not names:
            return None
        try:
            self._read_columns(unit, [])
        except UnreachableDataError:
            raise
        except DataError:
            return None
        if len(names) == 1:
            return names[0]
        for name in names:
            try:
                self._read_columns(unit, [name])
            except UnreachableDataError:
                raise
            except DataError:
                return name
        return None

    def _met(self, table: pa.Table, unit: Unit) -> pa.Table:
        """The rows that meet the filters.

        Raises:
            DataError: they cannot be compared.
        """
        try:
            condition = self._table.condition(table.schema, unit.file)
            return table if condition is None else condition.met(table)
        except pa.ArrowException as error:
            seen = f"{where(unit)}: {shown(self._table.filters)}"
            raise DataError("a filter cannot be used", seen, first_line(error)) from None

    def _sizes(self, footers: Footers) -> npt.NDArray[np.int64]:
        """`[row groups]`, what each takes in memory, about."""
        types = self._table.types
        names = dict.fromkeys((*self.layout.columns, *self._read_names))
        columns = {name: wider(types[name], self.layout.columns.get(name, types[name])) for name in names}
        try:
            return decoded_bytes(footers, columns, self._opened)
        except ValueError:  # of a file whose columns cannot be told apart, which reading will say
            return footers.bytes

    def _matching(self, units: Sequence[Unit], *, tolerant: bool) -> tuple[Unit, ...]:
        """The row groups that hold rows which meet the filters, with their numbers of such rows.

        Args:
            units: all row groups.
            tolerant: keep those that cannot be read, with all their rows.

        Raises:
            DataError: no row meets the filters.
        """
        files = [[*of_file] for _, of_file in itertools.groupby(units, attrgetter("file"))]
        with ThreadPoolExecutor(_THREADS) as pool:
            possible = [unit for found in pool.map(self._possible, files) for unit in found]
            counted = pool.map(partial(self._counted, tolerant=tolerant), possible)
            matching = tuple(unit for unit in counted if unit.rows)
        rows = sum(unit.rows for unit in units)
        if rows and not matching:
            others = f" and {len(files) - 1} more" if len(files) > 1 else ""
            seen = f"{shown(self._table.filters)}: none of {rows} rows in {units[0].file}{others}"
            raise DataError("no row meets the filters", seen, "check their columns and values")
        return matching

    def _counted(self, unit: Unit, *, tolerant: bool) -> Unit:
        """A row group with only the rows that meet the filters, by reading no other columns than theirs."""
        stored = [name for name in self._table.filtered if name in self._read_names]
        try:
            table = self._read_columns(unit, stored) if stored else self._with_folders(_rows_only(unit), unit)
            rows = self._met(table, unit).num_rows
        except UnreachableDataError:
            raise
        except DataError:
            if tolerant:
                return unit
            raise
        return unit._replace(rows=rows, size=unit.size * rows // max(unit.rows, 1))

    def _possible(self, units: list[Unit]) -> list[Unit]:
        """Those of the row groups of a file whose statistics and folders do not rule out every row.

        Where that cannot be told, because the file cannot be read, all of them: reading them says why.
        """
        path = units[0].file
        partition = _equals(self._folders.get(path, {}))
        fragment = pads.ParquetFileFormat().make_fragment(path, self._filesystem, partition_expression=partition)

        def chosen() -> list[int]:
            schema = self._table.with_folders(fragment.physical_schema)
            condition = self._table.condition(schema, path)
            assert condition is not None
            return [group.id for group in fragment.subset(condition.of_files, schema=schema).row_groups]

        try:
            return [unit for unit in units if unit.row_group in {*retried(chosen, path)}]
        except UnreachableDataError:
            raise
        except (pa.ArrowException, OSError, DataError):
            return units


def _all_units(footers: Footers, sizes: npt.NDArray[np.int64]) -> tuple[Unit, ...]:
    """Every row group, file by file."""
    counts = footers.counts
    paths = np.repeat(np.array(footers.paths, object), counts).tolist()
    indices = (np.arange(len(footers.rows)) - np.repeat(footers.ends - counts, counts)).tolist()
    return tuple(map(Unit._make, zip(paths, indices, footers.rows.tolist(), sizes.tolist(), strict=True)))


def _todo(error: BaseException) -> str:
    """What Arrow says of a row group that it cannot read, and what to do about it."""
    said = first_line(error)
    if "Expected all lists to be of size" in said:
        return "Arrow reads no nulls in a column of lists of a fixed size; write it as list, or without nulls"
    return said if isinstance(error, FileNotFoundError) else f"{said}; write the file again"


def _rows_only(unit: Unit) -> pa.Table:
    return pa.table({"": pa.nulls(unit.rows)})


def _equals(values: Values) -> pc.Expression:
    """What is true of every row below these folders."""
    known = pc.scalar(True)
    for name, value in values.items():
        if value.is_valid:
            known = known & (pc.field(name) == value)
    return known


def _reference(footers: Footers, *, tolerant: bool) -> tuple[str, int]:
    """The file that the others are compared with: the first; where some may be left out, the first of the commonest.

    Returns:
        Its path, and its schema's index.
    """
    kinds = footers.kinds
    kind = int(np.argmax(np.bincount(kinds)) if tolerant else kinds[0])
    return footers.paths[int(np.argmax(kinds == kind))], kind


def _others(footers: Footers, kind: int) -> list[tuple[str, pa.Schema]]:
    """The other schemas, each with the first file that has it; the commonest first."""
    kinds, files, counts = np.unique(footers.kinds, return_index=True, return_counts=True)
    order = np.lexsort((files, -counts)).tolist()
    return [(footers.paths[files[at]], footers.schemas[kinds[at]]) for at in order if kinds[at] != kind]


def _of_one_table(
    footers: Footers, table: OneTable, kind: int, on_error: Callable[[str, DataError], None] | None
) -> Footers:
    """The files that have the columns of the table, as files of the schema `kind` do; each schema is looked at once."""
    table.learn_condition(table.schema, table.first)
    table.learn_condition(table.with_folders(footers.schemas[kind]), table.first)
    good = {kind}
    for path, its in zip(footers.paths, footers.kinds.tolist(), strict=True):
        if its in good:
            continue
        error = table.mismatch(path, footers.schemas[its])
        if error is None:
            good.add(its)
        elif on_error is None:
            raise error
        else:
            on_error(path, error)
    return footers.of_kinds(good)
