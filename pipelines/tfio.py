"""Parquet files that tensorflow-io's own operations decode, in the place of Arrow; all else is as with Arrow.

Those operations do not raise errors. A null, an encoding that they do not know or a damaged page ends the process with
a segmentation fault, or shifts the values. So each footer is looked at first, and what is not known to go well is
refused.
"""

from __future__ import annotations

import itertools
import os
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from pipelines.apart import flattened
from pipelines.errors import DataError
from pipelines.files import File, first_line
from pipelines.layout import Request
from pipelines.parquet import ParquetSource
from pipelines.shards import Unit
from pipelines.source import where
from pipelines.tfio_limits import misfit

if TYPE_CHECKING:
    import tensorflow as tf

_THREADS = 8
#: Files of which it is remembered how they are read.
_FILES = 64
#: The dtype in which each physical type of Parquet is handed out.
_DTYPES = {
    "BOOLEAN": "bool",
    "INT32": "int32",
    "INT64": "int64",
    "FLOAT": "float32",
    "DOUBLE": "float64",
    "BYTE_ARRAY": "string",
    "FIXED_LEN_BYTE_ARRAY": "string",
}
#: Logical types that do not keep the whole file from being opened.
_LOGICAL = {"NONE", "STRING", "ENUM", "LIST", "MAP", "INT", "DECIMAL", "DATE", "TIME", "TIMESTAMP", "UNKNOWN", "UUID"}
_LOGICAL |= {"JSON", "BSON"}
_ENCODINGS = {"PLAIN", "RLE", "BIT_PACKED", "PLAIN_DICTIONARY", "RLE_DICTIONARY"}
#: Further encodings by physical type.
_MORE_ENCODINGS = {
    "INT32": {"DELTA_BINARY_PACKED"},
    "INT64": {"DELTA_BINARY_PACKED"},
    "FLOAT": {"BYTE_STREAM_SPLIT"},
    "DOUBLE": {"BYTE_STREAM_SPLIT"},
    "BYTE_ARRAY": {"DELTA_BYTE_ARRAY"},
}
_CODECS = ("UNCOMPRESSED", "SNAPPY", "GZIP", "ZSTD", "BROTLI", "LZ4")
_TODO = "leave the column out with columns, or use engine: arrow"


@dataclass(frozen=True)
class _Column:
    """Where a column is, as which dtype it is handed out, and which type it has in Arrow."""

    path: str
    dtype: str
    arrow: pa.DataType


@dataclass(frozen=True)
class _Readable:
    """A file that can be read: its columns that are asked for, and at which row each row group begins and ends."""

    columns: dict[str, _Column]
    ends: tuple[int, ...]


@cache
def load() -> Any:
    """The operations of tensorflow-io.

    Raises:
        DataError: it is not installed, or does not go with the installed TensorFlow.
    """
    import tensorflow as tf

    version = _installed()
    if problem := misfit("engine: tensorflow_io", tf.__version__, version):
        happened, seen, todo = problem
        raise DataError(happened, seen, f"{todo}; or use engine: arrow")
    try:
        from tensorflow_io.python.ops import core_ops

        core_ops.io_parquet_readable_read  # noqa: B018  # the library is loaded when it is first asked for something
    except (ImportError, NotImplementedError, tf.errors.OpError) as error:
        seen = f"TensorFlow {tf.__version__}, tensorflow-io {version}: {first_line(error)}"
        todo = "install it again, or use engine: arrow"
        raise DataError("tensorflow-io cannot load its library", seen, todo) from None
    return core_ops


def _installed() -> str | None:
    for name in ("tensorflow-io", "tensorflow-io-nightly"):
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return None


class TensorflowIOSource(ParquetSource):
    """`ParquetSource`, whose columns are decoded by tensorflow-io.

    Args:
        filesystem: that of this machine.
        files: the files in order.
        request: which columns are read.
        kept: document in which footers are kept, or None.

    Raises:
        DataError: what `ParquetSource` raises, or a column that tensorflow-io is not known to read rightly.
    """

    def __init__(
        self, filesystem: pafs.FileSystem, files: Sequence[File], request: Request, kept: Path | None = None
    ) -> None:
        self._listed = {file.path: (file.size, file.changed) for file in files}
        self._readable = lru_cache(_FILES)(self._look)
        # tensorflow-io keeps a file open under this name: another source is to open it anew.
        self._name = uuid.uuid4().hex
        super().__init__(filesystem, files, request, kept)
        with ThreadPoolExecutor(_THREADS) as pool:
            for _ in pool.map(self._readable, dict.fromkeys(unit.file for unit in self.units)):
                pass

    def _look(self, path: str) -> _Readable:
        """How a file is read.

        Raises:
            DataError: it is not known to be read rightly.
        """
        footer, leaves = self._opened(path)
        _check_types(footer, path)
        types = {leaf.name: leaf.type for leaf in flattened(footer.schema.to_arrow_schema())}
        columns = {}
        for name in self._read_names:
            if name not in leaves.places:
                raise DataError(f"tensorflow-io cannot read column {name}, which holds no value", path, _TODO)
            at = leaves.places[name].start
            if reason := next(_reasons(footer, at, types[name]), None):
                raise DataError(f"tensorflow-io cannot read column {name}, which {reason}", path, _TODO)
            stored = footer.schema.column(at)
            columns[name] = _Column(stored.path, _DTYPES[stored.physical_type], _plain(types[name]))
        rows = (footer.row_group(index).num_rows for index in range(footer.num_row_groups))
        return _Readable(columns, (0, *itertools.accumulate(rows)))

    def _decode(self, unit: Unit, names: list[str]) -> pa.Table:
        if not names:
            return super()._decode(unit, names)
        file = self._readable(unit.file)
        self._check_unchanged(unit)
        start, stop = file.ends[unit.row_group : unit.row_group + 2]
        found = {}
        for name in names:
            column = file.columns[name]
            found[name] = _array(_read(self._name, unit.file, column, start, stop, file.ends[-1]), column.arrow)
        return pa.table(found)

    def _check_unchanged(self, unit: Unit) -> None:
        """Refuse a file that was written anew, of which nobody has seen the footer."""
        found = os.stat(unit.file)
        if (found.st_size, found.st_mtime_ns) != self._listed[unit.file]:
            todo = "start again, and leave it as it is"
            raise DataError("a data file has changed while it was in use", where(unit), todo)


def _check_types(footer: pq.FileMetaData, path: str) -> None:
    """Refuse files with a column, asked for or not, of a type that is newer than tensorflow-io."""
    for index in range(footer.num_columns):
        column = footer.schema.column(index)
        if column.logical_type.type not in _LOGICAL:
            happened = f"tensorflow-io cannot open a file with a column of type {column.logical_type.type}"
            raise DataError(happened, f"{path}, column {column.path}", "use engine: arrow")


def _reasons(footer: pq.FileMetaData, index: int, arrow: pa.DataType) -> Iterator[str]:
    """Why a column of a file cannot be read."""
    column = footer.schema.column(index)
    if column.max_repetition_level:
        yield "is a list"
    if pa.types.is_decimal(arrow) or isinstance(arrow, pa.BaseExtensionType):
        yield f"is of type {arrow}"
    if column.physical_type not in _DTYPES:
        yield f"is stored as {column.physical_type}"
    for group in range(footer.num_row_groups):
        chunk = footer.row_group(group).column(index)
        if not chunk.num_values:
            continue
        if unknown := _unknown(chunk, column.physical_type):
            yield f"is written with {unknown}"
        if column.max_definition_level:
            statistics = chunk.statistics
            if statistics is None or not statistics.has_null_count:
                yield f"may hold nulls, for row group {group} does not say how many it holds"
            elif statistics.null_count:
                yield f"holds {statistics.null_count} nulls in row group {group}"


def _unknown(chunk: pq.ColumnChunkMetaData, physical: str) -> str | None:
    """An encoding or a codec that tensorflow-io does not know."""
    encodings = {*chunk.encodings}
    strange = sorted(encodings - _ENCODINGS - _MORE_ENCODINGS.get(physical, set()))
    if physical == "BOOLEAN" and "PLAIN" not in encodings:  # then RLE is not only that of levels
        strange.append("RLE")
    if chunk.compression not in _CODECS:
        strange.append(str(chunk.compression))
    return strange[0] if strange else None


def _plain(arrow: pa.DataType) -> pa.DataType:
    """The type of which `_array` makes an array: that of a dictionary's values, of what a view is a view of."""
    if pa.types.is_dictionary(arrow):
        return _plain(arrow.value_type)
    if pa.types.is_string_view(arrow):
        return pa.string()
    return pa.binary() if pa.types.is_binary_view(arrow) else arrow


def _read(name: str, path: str, column: _Column, start: int, stop: int, rows: int) -> tf.Tensor:
    """Rows `start` to `stop` (exclusive) of a column of a file of `rows` rows: `[stop - start]`."""
    import tensorflow as tf

    read: Callable[..., tf.Tensor] = load().io_parquet_readable_read
    try:
        with tf.device("/CPU:0"):
            return read(
                input=path,
                shared=f"{path} {name}",
                container="ray-tfcluster",
                component=column.path,
                shape=[rows],
                start=start,
                stop=stop,
                dtype=tf.as_dtype(column.dtype),
            )
    except tf.errors.OpError as error:
        raise OSError(error.message) from None


def _array(tensor: tf.Tensor, arrow: pa.DataType) -> pa.Array:
    """A tensor `[rows]` as an array of a type that is stored so."""
    if tensor.dtype.name == "string":
        return _text(tensor, arrow)
    numbers = pa.array(tensor.numpy())
    if numbers.type.equals(arrow):
        return numbers
    return numbers.view(arrow) if arrow.bit_width == numbers.type.bit_width else numbers.cast(arrow)


def _text(tensor: tf.Tensor, arrow: pa.DataType) -> pa.Array:
    """Strings, of which Python makes no objects."""
    import tensorflow as tf

    with tf.device("/CPU:0"):
        data, lengths = tf.strings.reduce_join(tensor).numpy(), tf.strings.length(tensor).numpy()
    buffers = [None, pa.py_buffer(data)]
    if pa.types.is_fixed_size_binary(arrow):
        return pa.Array.from_buffers(arrow, len(lengths), buffers)
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    buffers.insert(1, pa.py_buffer(offsets))
    is_text = pa.types.is_string(arrow) or pa.types.is_large_string(arrow)
    wide = pa.Array.from_buffers(pa.large_string() if is_text else pa.large_binary(), len(lengths), buffers)
    return wide.cast(arrow)
