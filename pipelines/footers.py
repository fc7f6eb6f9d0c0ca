"""What the footers of Parquet files say, read in parallel, and kept so that unchanged files are not asked again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from pipelines.errors import DataError, UnreachableDataError
from pipelines.files import File, first_line
from pipelines.kept import keep, listed, recall
from pipelines.retries import Held, retried

_THREADS = 16
#: Fewer files than this are read anew: that is as quick as looking them up.
_WORTH_KEEPING = 64
#: Bytes at the end of a file that Arrow reads at least, and those of them that tell how long the footer is.
_TAIL, _END = 65_536, 8
#: Of a file: rows and bytes by row group, and its schema, of which there are few.
_LEARNED = pa.schema(
    {
        "rows": pa.list_(pa.int64()),
        "bytes": pa.list_(pa.int64()),
        "schema": pa.dictionary(pa.int32(), pa.binary()),
    }
)


@dataclass(frozen=True)
class Footers:
    """The footers of files, in their order; arrays, because there may be very many.

    Attributes:
        paths: of the files.
        schemas: the schemas that there are.
        kinds: `[files]`, the schema of each file: an index of `schemas`.
        ends: `[files]`, the row group after the last one of each file, when those of all files are counted.
        rows: `[row groups]` of all files.
        bytes: `[row groups]`, before compression.
    """

    paths: list[str]
    schemas: list[pa.Schema]
    kinds: npt.NDArray[np.int32]
    ends: npt.NDArray[np.int64]
    rows: npt.NDArray[np.int64]
    bytes: npt.NDArray[np.int64]

    @property
    def counts(self) -> npt.NDArray[np.int64]:
        """Row groups of each file: `[files]`."""
        return np.diff(self.ends, prepend=0)

    def by_file(self, values: npt.NDArray[np.int64]) -> list[tuple[int, ...]]:
        """`rows` or `bytes`, file by file."""
        return [tuple(part.tolist()) for part in np.split(values, self.ends[:-1])]

    def of_kinds(self, kinds: set[int]) -> Footers:
        """Those of the files that have one of these schemas."""
        chosen = np.isin(self.kinds, [*kinds])
        groups = np.repeat(chosen, self.counts)
        return Footers(
            paths=[path for path, good in zip(self.paths, chosen, strict=True) if good],
            schemas=self.schemas,
            kinds=self.kinds[chosen],
            ends=np.cumsum(self.counts[chosen]),
            rows=self.rows[groups],
            bytes=self.bytes[groups],
        )


def read_footers(
    filesystem: pafs.FileSystem,
    files: Sequence[File],
    kept: Path | None = None,
    on_error: Callable[[str, DataError], None] | None = None,
) -> Footers:
    """The footers of `files`, of which only those are read that are new or have changed since they were kept.

    Args:
        filesystem: where the files are.
        files: with their sizes and times of change.
        kept: document in which footers are kept, see `pipelines.kept`; None keeps none.
        on_error: is told of a file without a readable footer, which is then left out; None raises the error.

    Raises:
        DataError: a file is not there, or has no readable footer; with its name.
    """
    kept = kept if len(files) >= _WORTH_KEEPING else None
    known, missing = recall(kept, files, _LEARNED)
    if missing:
        new = _read(filesystem, [files[index] for index in missing], on_error)
        known = _in_order(files, pa.concat_tables([known, new]))
        keep(kept, known)
    return _footers(known)


def read_footer(filesystem: pafs.FileSystem, path: str) -> pq.FileMetaData:
    """The whole footer of one file.

    Raises:
        DataError: the file is not there, or its footer cannot be read.
        UnreachableDataError: the storage does not give it.
    """
    try:
        return retried(lambda: _footer_or_blame(filesystem, path), f"{path}, footer")
    except FileNotFoundError:
        raise DataError("a data file is not there", path, "check the path") from None
    except (pa.ArrowException, OSError) as error:
        raise DataError("cannot read the footer of a Parquet file", path, first_line(error)) from None


def _footer_or_blame(filesystem: pafs.FileSystem, path: str) -> pq.FileMetaData:
    """The footer; an `OSError` only where the storage is to blame, see `pipelines.parquet`."""
    try:
        return pq.read_metadata(path, filesystem=filesystem)
    except OSError as error:
        if error.errno is not None:
            raise
    with filesystem.open_input_file(path) as file:
        size = file.size()
        length = int.from_bytes(file.read_at(_END, max(0, size - _END))[:4], "little") + _END
        held = Held(file, max(0, size - max(_TAIL, length if length <= size else 0)), size)
    try:
        return pq.read_metadata(held)
    except OSError as error:
        raise pa.ArrowInvalid(str(error)) from None


def _read(
    filesystem: pafs.FileSystem, files: Sequence[File], on_error: Callable[[str, DataError], None] | None
) -> pa.Table:
    """What is learned of `files`, a row a file, without those that cannot be read."""

    def read(file: File) -> tuple[File, list[int], list[int], bytes] | None:
        try:
            metadata = read_footer(filesystem, file.path)
        except DataError as error:
            if on_error is None or isinstance(error, UnreachableDataError):
                raise
            on_error(file.path, error)
            return None
        groups = [metadata.row_group(index) for index in range(metadata.num_row_groups)]
        schema = metadata.schema.to_arrow_schema().remove_metadata().serialize().to_pybytes()
        return file, [group.num_rows for group in groups], [group.total_byte_size for group in groups], schema

    with ThreadPoolExecutor(_THREADS) as pool:
        found = [footer for footer in pool.map(read, files) if footer is not None]
    table = listed([file for file, *_ in found])
    for field, values in zip(_LEARNED, [[footer[index] for footer in found] for index in (1, 2, 3)], strict=True):
        table = table.append_column(field, pa.array(values, field.type))
    return table


def _in_order(files: Sequence[File], known: pa.Table) -> pa.Table:
    """The rows of `known` in the order of `files`, and its schemas without those that no file has any longer."""
    known = known.unify_dictionaries().combine_chunks()
    rows = pc.index_in(pa.array([file.path for file in files]), known["path"]).drop_null()
    known = known.take(rows).combine_chunks()
    at = known.schema.get_field_index("schema")
    return known.set_column(at, _LEARNED.field("schema"), _compact(known.column(at).combine_chunks()))


def _compact(column: pa.DictionaryArray) -> pa.DictionaryArray:
    used, codes = np.unique(column.indices.to_numpy(), return_inverse=True)
    return pa.DictionaryArray.from_arrays(pa.array(codes, pa.int32()), column.dictionary.take(pa.array(used)))


def _footers(known: pa.Table) -> Footers:
    rows, sizes, schema = (known[name].combine_chunks() for name in ("rows", "bytes", "schema"))
    return Footers(
        paths=known["path"].to_pylist(),
        schemas=[pa.ipc.read_schema(pa.py_buffer(text)) for text in schema.dictionary.to_pylist()],
        kinds=schema.indices.to_numpy(),
        ends=np.cumsum(rows.value_lengths().to_numpy(), dtype=np.int64),
        rows=rows.flatten().to_numpy(),
        bytes=sizes.flatten().to_numpy(),
    )
