"""Parquet files as an `Input`: counted in rows, cut for nothing between row groups."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from pipelines.apart import flattened
from pipelines.decoded import decoded_bytes
from pipelines.errors import DataError
from pipelines.files import File, first_line
from pipelines.footers import Footers, read_footer, read_footers
from pipelines.hive import Values, folder_columns
from pipelines.inputs import BATCH_BYTES, BATCH_ROWS, Format, Options, Segment, check_columns, vanished
from pipelines.leaf_reader import Leaves, leaves_of
from pipelines.retries import Steady


@dataclass(frozen=True)
class ParquetInput:
    """See `pipelines.inputs.Input`.

    Attributes:
        row_groups: rows of each row group of each file.
        group_bytes: what they take in memory, about.
        folders: columns that the names of folders hold, by file.
    """

    filesystem: pafs.FileSystem
    files: tuple[File, ...]
    schema: pa.Schema
    row_groups: tuple[tuple[int, ...], ...]
    group_bytes: tuple[tuple[int, ...], ...]
    folders: tuple[Values, ...]

    format: Format = "parquet"

    @cached_property
    def lengths(self) -> tuple[int, ...]:
        """Rows of each file."""
        return tuple(map(sum, self.row_groups))

    @property
    def rows(self) -> int:
        """Of all files."""
        return sum(self.lengths)

    def marks(self, index: int) -> Sequence[int]:
        """Where row groups begin and end."""
        return list(itertools.accumulate(self.row_groups[index], initial=0))

    def can_cut(self, index: int) -> bool:
        """Always: what lies before in a row group is read and dropped."""
        return True

    @cached_property
    def _batch_rows(self) -> int:
        size = sum(map(sum, self.group_bytes))
        return int(max(1, min(BATCH_ROWS, BATCH_BYTES * max(1, self.rows) // max(1, size))))

    @cached_property
    def _index(self) -> dict[str, int]:
        return {file.path: index for index, file in enumerate(self.files)}

    def read(self, segment: Segment) -> Iterator[pa.RecordBatch]:
        """The rows of `segment` in order; a row group is read in parts, so that its size does not matter.

        Raises:
            DataError: with file, row group and column.
            UnreachableDataError: the storage does not give them.
        """
        index = self._index[segment.path]
        begin = 0
        for group, rows in enumerate(self.row_groups[index]):
            start, stop = max(segment.start - begin, 0), min(segment.stop - begin, rows)
            if start < stop:
                for batch in self._read_group(segment.path, group, start, stop):
                    yield self._completed(batch, index)
            begin += rows

    def _read_group(self, path: str, group: int, start: int, stop: int) -> Iterator[pa.RecordBatch]:
        names = [name for name in self.schema.names if name not in self.folders[self._index[path]]]
        try:
            with Steady(self.filesystem, path) as file:
                reader = pq.ParquetFile(file, buffer_size=max(1 << 16, (32 << 20) // max(1, len(names))))
                at = 0
                for batch in reader.iter_batches(
                    self._batch_rows, row_groups=[group], columns=names, use_threads=False
                ):
                    low, high = max(start - at, 0), min(stop - at, batch.num_rows)
                    if low < high:
                        yield batch.slice(low, high - low).select(names)
                    at += batch.num_rows
                    if at >= stop:
                        break
        except FileNotFoundError:
            raise vanished(path) from None
        except (pa.ArrowException, OSError) as error:
            culprit = _culprit(self.filesystem, path, group, names)
            where = f"{path}, row group {group}" + (f", column {culprit}" if culprit else "")
            raise DataError("cannot read a row group", where, f"{first_line(error)}; write the file again") from None

    def _completed(self, batch: pa.RecordBatch, index: int) -> pa.RecordBatch:
        """`batch` with the columns that the names of folders hold, in the order of the schema."""
        values = self.folders[index]
        columns = [
            pa.repeat(values[field.name], batch.num_rows)
            if field.name in values
            else _typed(batch.column(field.name), field.type)
            for field in self.schema
        ]
        return pa.RecordBatch.from_arrays(columns, schema=self.schema)


def open_parquet(filesystem: pafs.FileSystem, files: tuple[File, ...], options: Options) -> ParquetInput:
    """The rows of Parquet `files`; reads their footers.

    Raises:
        DataError: a footer cannot be read, or the files are not of one schema.
    """
    footers = read_footers(filesystem, files)
    kinds, firsts = np.unique(footers.kinds, return_index=True)
    of_kinds = sorted(zip(firsts.tolist(), kinds.tolist(), strict=True))
    names = footers.schemas[footers.kinds[0]].names
    check_columns(names, names, files[0].path)
    schema = _unified([files[first] for first, _ in of_kinds], [footers.schemas[kind] for _, kind in of_kinds])
    named, folders = folder_columns(files, schema.names)
    full = pa.schema([*schema, *named])
    names = full.names if options.columns is None else options.columns
    check_columns(full.names, names, files[0].path)
    full = pa.schema([full.field(name) for name in names])
    return ParquetInput(
        filesystem=filesystem,
        files=files,
        schema=full,
        row_groups=tuple(footers.by_file(footers.rows)),
        group_bytes=tuple(footers.by_file(_sizes(footers, full, filesystem))),
        folders=tuple(folders),
    )


def _sizes(footers: Footers, schema: pa.Schema, filesystem: pafs.FileSystem) -> npt.NDArray[np.int64]:
    """`[row groups]`, what the columns of this schema take in memory, about."""

    def look(path: str) -> tuple[pq.FileMetaData, Leaves]:
        footer = read_footer(filesystem, path)
        return footer, leaves_of(footer)

    try:
        return decoded_bytes(footers, {leaf.name: leaf.type for leaf in flattened(schema)}, look)
    except ValueError:  # of a file whose columns cannot be told apart
        return footers.bytes


def _unified(files: Sequence[File], schemas: Sequence[pa.Schema]) -> pa.Schema:
    """The schema of all files; a file in which a column holds nothing but nulls may say so by its type.

    Raises:
        DataError: a column is missing in a file, or of another type.
    """
    todo = "write all files with one schema, or name them apart"
    first: dict[str, pa.Field] = {field.name: field for field in schemas[0]}
    seen_in = dict.fromkeys(first, files[0].path)
    for file, schema in zip(files, schemas, strict=True):
        for name in [*first, *schema.names]:
            if name not in schema.names or name not in first:
                without, with_it = (files[0].path, file.path) if name not in first else (file.path, seen_in[name])
                raise DataError(f"there is no column {name}", f"{without}; {with_it} has it", todo)
            here, there = schema.field(name).type, first[name].type
            if pa.types.is_null(there):
                first[name], seen_in[name] = first[name].with_type(here), file.path
            elif here != there and not pa.types.is_null(here):
                seen = f"{file.path} has {here}, {seen_in[name]} has {there}"
                raise DataError(f"column {name} is not of one type", seen, todo)
    return pa.schema(first.values())


def _typed(column: pa.Array, kind: pa.DataType) -> pa.Array:
    return pa.nulls(len(column), kind) if pa.types.is_null(column.type) else column


def _culprit(filesystem: pafs.FileSystem, path: str, group: int, names: Sequence[str]) -> str | None:
    """The one column that cannot be read, when the others can."""
    bad = []
    for name in names if len(names) > 1 else ():
        try:
            with Steady(filesystem, path) as file:
                for _ in pq.ParquetFile(file).iter_batches(row_groups=[group], columns=[name], use_threads=False):
                    pass
        except (pa.ArrowException, OSError):
            bad.append(name)
    return bad[0] if len(bad) == 1 else None
