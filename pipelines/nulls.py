"""Nulls that nothing is to stand for, as far as the footers of Parquet files count them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pyarrow.fs as pafs
import pyarrow.parquet as pq

from pipelines.errors import DataError
from pipelines.footers import read_footer
from pipelines.layout import Layout
from pipelines.leaf_reader import leaves_of

_THREADS = 16


def check_nulls(filesystem: pafs.FileSystem, paths: Sequence[str], layout: Layout) -> None:
    """Refuse files whose statistics count nulls in a column that has neither a fill nor a mask.

    Nulls in lists are not looked at: there the statistics count empty lists, too.

    Raises:
        DataError: with the column and its first row group; as `pipelines.prepare` raises it, once that is read.
    """
    columns = [name for name in layout.columns if name not in layout.fill and name not in layout.masks]

    def look(path: str) -> DataError | None:
        return next(_errors(path, read_footer(filesystem, path), columns), None)

    with ThreadPoolExecutor(_THREADS) as pool:
        for error in pool.map(look, paths):
            if error is not None:
                raise error


def _errors(path: str, footer: pq.FileMetaData, columns: Sequence[str]) -> Iterator[DataError]:
    try:
        places = leaves_of(footer).places
    except ValueError:  # reading it says so
        return
    single = {name: places[name][0] for name in columns if len(places.get(name, ())) == 1}
    single = {name: at for name, at in single.items() if not footer.schema.column(at).max_repetition_level}
    for group in range(footer.num_row_groups):
        for name, at in single.items():
            statistics = footer.row_group(group).column(at).statistics
            if statistics is not None and statistics.has_null_count and statistics.null_count:
                yield DataError(
                    f"column {name} holds {statistics.null_count} nulls, which a tensor cannot hold",
                    f"{path}, row group {group}, column {name}",
                    "say what stands for them with fill, mark them with masks, or leave the column out with columns",
                )
