"""Columns of a Parquet row group by the names that they have once they are taken apart; nothing else is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.apart import apart, stored


def places_of(footer: pq.FileMetaData) -> dict[str, range]:
    """Which columns of a file each of its columns, once taken apart, is stored in.

    Raises:
        ValueError: they are not those that its schema has.
    """
    places = stored(footer.schema.to_arrow_schema())
    if sum(map(len, places.values())) != footer.num_columns:
        raise ValueError(f"the schema of Arrow is not that of Parquet, which has {footer.num_columns} columns")
    return places


def read_leaves(reader: pq.ParquetFile, row_group: int, names: Sequence[str], places: Mapping[str, range]) -> pa.Table:
    """The columns of these names, `[rows, columns]`, in the order of the file.

    Raises:
        ValueError: there is no such column, or two have the same path in the file and cannot be told apart.
    """
    if unknown := [name for name in names if name not in places]:
        raise ValueError(f"it has no column {unknown[0]}")
    found = sorted(names, key=lambda name: places[name].start)
    paths = [reader.schema.column(index).path for name in found for index in places[name]]
    table = reader.read_row_group(row_group, columns=paths, use_threads=False)
    if not names:
        return table
    # Of a list of structs with a single field, or of the keys of a map, Arrow has no other name than that in the file.
    columns = apart(table)
    if len(columns) != len(found):
        raise ValueError("the file has two columns of one path")
    return pa.table(columns, names=found)
