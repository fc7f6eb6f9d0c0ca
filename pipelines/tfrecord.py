"""TFRecord files on any pyarrow file system, as runs of records in Arrow tables.

Reading a unit of a plain file reads its bytes and nothing else. A compressed file can only be read forward, so places
in it are remembered (`inflate.Mark`) where units begin that have been read or passed: at most `KEPT_MARKS` in all, of
60 KB each. Whatever the order of reading, a process decompresses what lies before a unit once, not once a unit. With
more than `KEPT_MARKS` units (8 GB) in a random order it goes on from the nearest place that is still remembered.

Memory: while a unit is read, its bytes two or three times, and 4 MB of a compressed file.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.fs as pafs

from pipelines import crc
from pipelines.errors import DataError
from pipelines.framing import HEADER, footers, hop
from pipelines.inflate import Inflater, Mark, check_compression
from pipelines.retries import retried
from pipelines.shards import Unit
from pipelines.source import where
from pipelines.tfrecord_index import DAMAGED, FileIndex, Where, blaming, changed, index_files

#: What `read` gives.
SCHEMA = pa.schema([pa.field("record", pa.large_binary(), nullable=False)])
#: Places in compressed files that are remembered.
KEPT_MARKS = 1024


class TFRecordSource:
    """TFRecord files as one table of one column, `record`: large_binary, a row a record.

    Files are indexed by several threads when the source is made; the order of `units` is that of the files.

    Args:
        filesystem: where the files lie.
        files: their paths, or pairs of a path and its size in bytes.
        compression: GZIP, ZLIB, None for plain files, or `auto`, which looks at the first bytes of each file.
        indexes: indexes of some of the files from before, by path; those files are not looked at again, unless their
            size is given and is another.
        on_error: what to do about a file that cannot be indexed: called with the error, and the file is left out. None
            raises the error.

    Raises:
        DataError: a file is missing, empty, truncated or no TFRecord file, or a length in it is damaged; with file,
            record and byte offset. Of several files, the first one.
    """

    def __init__(
        self,
        filesystem: pafs.FileSystem,
        files: Iterable[str | tuple[str, int]],
        compression: str | None = "auto",
        *,
        indexes: Mapping[str, FileIndex] | None = None,
        on_error: Callable[[DataError], None] | None = None,
    ) -> None:
        check_compression(compression, "auto")
        self._filesystem = filesystem
        self._indexes = index_files(filesystem, list(files), compression, indexes or {}, on_error)
        self._units = tuple(unit for index in self._indexes.values() for unit in index.units)
        self._marks = _Marks()
        self._turns = {path: threading.Lock() for path, index in self._indexes.items() if index.compression}

    @property
    def units(self) -> tuple[Unit, ...]:
        """All units, file by file."""
        return self._units

    @property
    def schema(self) -> pa.Schema:
        """The one column."""
        return SCHEMA

    def index_of(self, path: str) -> FileIndex:
        """The index of one of the files, to be kept for another time."""
        return self._indexes[path]

    def read(self, unit: Unit) -> pa.Table:
        """The records of one unit: `[unit.rows]` of `record`, each compared with its checksums.

        Threads may read at the same time. Only the first time that a compressed file is read, they wait for each other.

        Raises:
            DataError: the file cannot be read, has changed, or a record in it is damaged; with file, record and offset.
            UnreachableDataError: the storage does not give it.
        """
        index = self._indexes[unit.file]
        with blaming(index.path):
            return _records(retried(lambda: self._bytes(index, unit.row_group), where(unit)), index, unit)

    def _bytes(self, index: FileIndex, number: int) -> bytes:
        """What unit `number` of a file holds."""
        begin, end = index.starts[number], index.starts[number + 1]
        with self._filesystem.open_input_file(index.path) as file:
            if file.size() != index.size:
                raise changed(f"{index.path}, {index.size} bytes then, {file.size()} now")
            if index.compression:
                return self._inflated(file, index, number)
            data: bytes = file.read_at(end - begin, begin)
            return data

    def _inflated(self, file: pa.NativeFile, index: FileIndex, number: int) -> bytes:
        """The bytes of unit `number` of a compressed file."""
        begin, end = index.starts[number], index.starts[number + 1]
        assert index.compression is not None
        with self._turns[index.path]:
            nearest, mark = self._marks.nearest(index.path, number)
            stream = Inflater(file, index.path, index.compression, mark)
            for passed in range(nearest, number):
                stream.skip_to(index.starts[passed + 1])
                self._marks.keep(index.path, passed + 1, stream.mark())
            if number + 1 < len(index.rows) and not self._marks.holds(index.path, number + 1):
                # The next unit begins where this one ends: whoever waits for it would else read this one, too.
                data = stream.read(end - begin)
                self._marks.keep(index.path, number + 1, stream.mark())
                return data
        return stream.read(end - begin)


class _Marks:
    """The places remembered in compressed files, by path and unit; those not used for longest are forgotten."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, int], Mark] = OrderedDict()
        self._lock = threading.Lock()

    def nearest(self, path: str, number: int) -> tuple[int, Mark]:
        """The last unit up to `number` whose beginning is remembered, and that place."""
        with self._lock:
            for known in range(number, 0, -1):
                if (path, known) in self._kept:
                    self._kept.move_to_end((path, known))
                    return known, self._kept[path, known]
        return 0, Mark()

    def holds(self, path: str, number: int) -> bool:
        with self._lock:
            return (path, number) in self._kept

    def keep(self, path: str, number: int, mark: Mark) -> None:
        with self._lock:
            self._kept[path, number] = mark
            self._kept.move_to_end((path, number))
            if len(self._kept) > KEPT_MARKS:
                self._kept.popitem(last=False)


def _records(data: bytes, index: FileIndex, unit: Unit) -> pa.Table:
    """The records that `data` frames, which are those of `unit`."""
    begin, end = index.starts[unit.row_group], index.starts[unit.row_group + 1]
    first = sum(index.rows[: unit.row_group])
    where = Where(index.path, index.compression)
    if len(data) < end - begin:
        raise changed(where.at(first, begin))
    headers = hop(data, 0)
    if (bad := headers.first_bad()) is not None:
        at = where.at(first + bad, begin + int(headers.starts[bad]))
        raise DataError("the length of a record is damaged", at, DAMAGED)
    if headers.stop != end - begin or len(headers.starts) != unit.rows:
        raise changed(where.at(first, begin))
    starts = headers.starts + HEADER
    stops = starts + headers.fields["length"].astype(np.int64)
    bad_data = np.flatnonzero(crc.of_data(data, starts, stops) != footers(data, stops))
    if len(bad_data):
        record = int(bad_data[0])
        at = where.at(first + record, begin + int(headers.starts[record]))
        more = f", and {len(bad_data) - 1} more in this unit" if len(bad_data) > 1 else ""
        raise DataError("the data of a record do not match their checksum", at + more, DAMAGED)
    return pa.table([_slices(data, starts, stops)], schema=SCHEMA)


def _slices(data: bytes, starts: npt.NDArray[np.int64], stops: npt.NDArray[np.int64]) -> pa.LargeBinaryArray:
    """`data[starts[i]:stops[i]]`, copied by Arrow: records, and what lies between them, are every second value each."""
    offsets = np.stack([starts, stops], 1)
    values = pa.LargeBinaryArray.from_buffers(
        pa.large_binary(), offsets.size - 1, [None, pa.py_buffer(offsets), pa.py_buffer(data)]
    )
    return values.take(pa.array(np.arange(0, offsets.size - 1, 2)))
