"""Indexes of TFRecord files, made in parallel, and kept so that unchanged files are not read again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs

from pipelines.errors import DataError
from pipelines.files import File
from pipelines.kept import keep, listed, recall
from pipelines.tfrecord_index import FileIndex, index_files

_LEARNED = pa.schema(
    {"compression": pa.string(), "starts": pa.list_(pa.int64()), "rows": pa.list_(pa.int64())},
)


def read_indexes(
    filesystem: pafs.FileSystem,
    files: Sequence[File],
    kept: Path | None = None,
    on_error: Callable[[DataError], None] | None = None,
) -> dict[str, FileIndex]:
    """The indexes of `files`, by path in their order, of which only those are made that are new or have changed.

    Args:
        filesystem: where the files are.
        files: with their sizes and times of change.
        kept: document in which indexes are kept, see `pipelines.kept`; None keeps none.
        on_error: is told of a file that cannot be indexed, which is then left out; None raises the error.

    Raises:
        DataError: as for `pipelines.tfrecord.TFRecordSource`.
    """
    known, missing = recall(kept, files, _LEARNED)
    found = {index.path: index for index in _indexes(known)}
    if missing:
        new = [files[at] for at in missing]
        found |= index_files(filesystem, [(file.path, file.size) for file in new], "auto", {}, on_error)
        whole = [file for file in new if file.path in found and found[file.path].size == file.size]
        keep(kept, pa.concat_tables([known, _table(whole, found)]))
    return {file.path: found[file.path] for file in files if file.path in found}


def _table(files: Sequence[File], indexes: dict[str, FileIndex]) -> pa.Table:
    table = listed(files)
    for field in _LEARNED:
        values = [getattr(indexes[file.path], field.name) for file in files]
        table = table.append_column(field, pa.array(values, field.type))
    return table


def _indexes(known: pa.Table) -> list[FileIndex]:
    starts, rows = (_tuples(known[name].combine_chunks()) for name in ("starts", "rows"))
    columns = (known[name].to_pylist() for name in ("path", "size", "compression"))
    return [FileIndex(*values) for values in zip(*columns, starts, rows, strict=True)]


def _tuples(lists: pa.ListArray) -> list[tuple[int, ...]]:
    ends = np.cumsum(pc.list_value_length(lists).to_numpy())
    return [tuple(part.tolist()) for part in np.split(lists.flatten().to_numpy(), ends[:-1])] if len(lists) else []
