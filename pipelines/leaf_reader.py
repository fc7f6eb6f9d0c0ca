"""Columns of a Parquet row group by the names that they have once they are taken apart; nothing else is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.apart import apart, is_apart, stored

#: Columns that are read at once: until it has read all of them, Arrow takes a fifth of a MiB more for each.
AT_ONCE = 2048


@dataclass(frozen=True)
class Leaves:
    """The columns of files of one schema, once they are taken apart; made once, for it takes long of a thousand.

    Attributes:
        places: which columns of a file each of them is stored in.
        paths: of the columns of a file.
        apart: whether there is nothing to take apart.
    """

    places: Mapping[str, range]
    paths: tuple[str, ...]
    apart: bool


def leaves_of(footer: pq.FileMetaData) -> Leaves:
    """The columns of a file.

    Raises:
        ValueError: they are not those that its schema has.
    """
    schema = footer.schema.to_arrow_schema()
    places = stored(schema)
    if sum(map(len, places.values())) != footer.num_columns:
        raise ValueError(f"the schema of Arrow is not that of Parquet, which has {footer.num_columns} columns")
    paths = tuple(footer.schema.column(index).path for index in range(footer.num_columns))
    return Leaves(places, paths, is_apart(schema))


def read_leaves(reader: pq.ParquetFile, row_group: int, names: Sequence[str], leaves: Leaves) -> pa.Table:
    """The columns of these names, `[rows, columns]`, in the order of the file.

    Raises:
        ValueError: there is no such column, or two have the same path in the file and cannot be told apart.
    """
    places = leaves.places
    if unknown := [name for name in names if name not in places]:
        raise ValueError(f"it has no column {unknown[0]}")
    found = sorted(names, key=lambda name: places[name].start)
    paths = [leaves.paths[index] for name in found for index in places[name]]
    read = partial(reader.read_row_group, row_group, use_threads=False)
    if leaves.apart and len(paths) > AT_ONCE:
        table = _side_by_side([read(columns=paths[at : at + AT_ONCE]) for at in range(0, len(paths), AT_ONCE)])
    else:
        table = read(columns=paths)
    if not names:
        return table
    columns = None if leaves.apart else apart(table)
    if len(found) != (table.num_columns if columns is None else len(columns)):
        raise ValueError("the file has two columns of one path")
    # Of a list of structs with a single field, or of the keys of a map, Arrow has no other name than that in the file.
    return table if columns is None else pa.table(columns, names=found)


def _side_by_side(tables: Sequence[pa.Table]) -> pa.Table:
    """The columns of all of them."""
    columns = [column for table in tables for column in table.columns]
    return pa.table(columns, names=[name for table in tables for name in table.column_names])
