"""The index of a TFRecord file: which runs of consecutive records (units) it holds, and where they begin.

The file has none, so one is made. In a plain file the lengths lead from header to header; where records are large,
nothing but the headers is read. A compressed file has to be decompressed once as a whole. An index is a few numbers a
unit, and can be kept: see `pipelines.kept_indexes`.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.fs as pafs

from pipelines.errors import DataError, UnreachableDataError
from pipelines.framing import FRAME, HEADER, HEADER_TYPE, Headers, hop
from pipelines.inflate import Inflater
from pipelines.retries import retried
from pipelines.shards import Unit

#: A unit ends before the record with which it would be larger than either; one larger record is a unit of its own.
UNIT_BYTES, UNIT_RECORDS = 8 << 20, 65_536
#: Files indexed at the same time.
_THREADS = 16
#: Bytes read at once where records are smaller than `_LARGE`, the mean size from which on headers are read one by one:
#: where a round trip costs as much as reading on, here and over a network.
_WINDOW = 1 << 20
_LARGE_HERE, _LARGE_REMOTE = 64 << 10, 2 << 20
#: Headers that are read one by one before their checksums are compared.
_BATCH = 1024
#: No file is as long; also a damaged length, added to an offset below it, stays a number that can be compared.
_ENDLESS = 1 << 62
_PLAIN = "plain"
#: How files of other formats begin.
_MAGIC = {
    b"PAR1": "Parquet",
    b"\x1f\x8b": "a GZIP file",
    b"(\xb5/\xfd": "a Zstandard file",
    b"PK\x03\x04": "a ZIP file",
    b"Obj\x01": "Avro",
    b"ARROW1": "Arrow IPC",
    b"{": "JSON",
}
DAMAGED = "the file is damaged: write it again, or leave it out"


@dataclass(frozen=True)
class FileIndex:
    """The units of one file.

    `starts` are the offsets where units begin, and, as one more number, where the last one ends, in bytes of what the
    file holds when it is not compressed. `rows` are the numbers of records of the units. `compression` is GZIP, ZLIB or
    None; `size` is that of the file itself.
    """

    path: str
    size: int
    compression: str | None
    starts: tuple[int, ...]
    rows: tuple[int, ...]

    @property
    def units(self) -> tuple[Unit, ...]:
        """The units as `TFRecordSource.read` takes them."""
        sizes = (stop - start for start, stop in itertools.pairwise(self.starts))
        return tuple(Unit(self.path, number, *of) for number, of in enumerate(zip(self.rows, sizes, strict=True)))


def index_files(
    filesystem: pafs.FileSystem,
    files: list[str | tuple[str, int]],
    compression: str | None,
    known: Mapping[str, FileIndex],
    on_error: Callable[[DataError], None] | None,
) -> dict[str, FileIndex]:
    """Indexes by path, in the order of `files`."""
    sizes = dict((entry, None) if isinstance(entry, str) else entry for entry in files)
    found: dict[str, FileIndex] = {}
    with ThreadPoolExecutor(_THREADS) as pool:
        try:
            pending = {
                path: pool.submit(index_file, filesystem, path, compression)
                for path, size in sizes.items()
                if path not in known or size not in (None, known[path].size)
            }
            for path in sizes:
                try:
                    found[path] = pending[path].result() if path in pending else known[path]
                except DataError as error:
                    if on_error is None or isinstance(error, UnreachableDataError):
                        raise
                    on_error(error)
        finally:
            pool.shutdown(cancel_futures=True)
    return found


def index_file(filesystem: pafs.FileSystem, path: str, compression: str | None = "auto") -> FileIndex:
    """The units of one file, from its record headers.

    Args:
        filesystem: where the file lies.
        path: the file.
        compression: GZIP, ZLIB, None or `auto`.

    Raises:
        DataError: as for `TFRecordSource`.
    """
    with blaming(path):
        return retried(lambda: _index_file(filesystem, path, compression), path)


def _index_file(filesystem: pafs.FileSystem, path: str, compression: str | None) -> FileIndex:
    with filesystem.open_input_file(path) as file:
        size = file.size()
        if size == 0:
            raise DataError("the TFRecord file is empty", f"{path}, 0 bytes", "write it again, or leave it out")
        head = file.read_at(HEADER, 0)
        compression = _compression(head, path, compression)
        if compression is None:
            return FileIndex(path, size, None, *_index(_scan(file, size, _large(filesystem)), path, head, None, size))
        stream = Inflater(file, path, compression)
        starts, rows = _index(_scan_inflated(stream), path, b"", compression)
        return FileIndex(path, size, compression, starts, rows)


def _index(
    scan: Iterator[Headers], path: str, head: bytes, compression: str | None, size: int = _ENDLESS
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """`FileIndex.starts` and `FileIndex.rows`; what the scan ends with has no records, and stops at the real end."""
    units = _Units()
    where = Where(path, compression)
    end, last = 0, path
    for headers in scan:
        if not len(headers.starts):
            if headers.stop < end:
                raise _truncated(last, end, headers.stop)
            if headers.stop > end:
                raise _truncated(where.at(units.records, end), end + FRAME, headers.stop)
            break
        if (bad := headers.first_bad()) is not None:
            if units.records + bad == 0:
                raise _not_tfrecord(where, head)
            at = where.at(units.records + bad, int(headers.starts[bad]))
            raise DataError("the length of a record is damaged", at, DAMAGED)
        end = headers.stop
        last = where.at(units.records + len(headers.starts) - 1, int(headers.starts[-1]))
        if end > size:
            raise _truncated(last, end, size)
        units.add(headers.starts, end)
    if not units.records:
        raise DataError("the TFRecord file holds no record", path, "write it again, or leave it out")
    return units.close()


def _scan(file: pa.NativeFile, size: int, large: int) -> Iterator[Headers]:
    """The headers of a plain file, in parts, and at last none, with the end of the file."""
    offset, dense = 0, True
    while offset <= size - HEADER:
        headers = hop(file.read_at(_WINDOW, offset), 0, base=offset) if dense else _hop_apart(file, offset, size)
        if not len(headers.starts):  # it has become shorter
            break
        yield headers
        dense = headers.stop - offset < large * len(headers.starts)
        offset = headers.stop
    yield Headers(np.empty(0, np.int64), np.empty(0, HEADER_TYPE), size)


def _hop_apart(file: pa.NativeFile, offset: int, size: int) -> Headers:
    """The next `_BATCH` headers of a plain file, and nothing read between them."""
    starts: list[int] = []
    fields: list[bytes] = []
    while len(starts) < _BATCH and offset <= size - HEADER:
        header = file.read_at(HEADER, offset)
        if len(header) < HEADER:
            break
        starts.append(offset)
        fields.append(header)
        offset += int.from_bytes(header[:8], "little") + FRAME
    return Headers(np.array(starts, np.int64), np.frombuffer(b"".join(fields), HEADER_TYPE), offset)


def _scan_inflated(stream: Inflater) -> Iterator[Headers]:
    """The headers of what a compressed file holds, in parts, and at last none, with the end of it."""
    offset, rest = 0, b""
    while data := stream.read(_WINDOW):
        base = stream.position - len(data) - len(rest)
        data = rest + data
        if offset < base + len(data):
            headers = hop(data, offset - base, base)
            if len(headers.starts):
                yield headers
            offset = headers.stop
        rest = data[offset - base :] if offset < base + len(data) else b""
    yield Headers(np.empty(0, np.int64), np.empty(0, HEADER_TYPE), stream.position)


def _large(filesystem: pafs.FileSystem) -> int:
    return _LARGE_HERE if isinstance(filesystem, pafs.LocalFileSystem) else _LARGE_REMOTE


class _Units:
    """Cuts the records of a file into units while their headers are found."""

    def __init__(self) -> None:
        self.records = 0
        self._starts, self._rows = [0], list[int]()
        self._stops: npt.NDArray[np.int64] = np.empty(0, np.int64)

    def add(self, starts: npt.NDArray[np.int64], stop: int) -> None:
        """Records that begin at `starts` and end where the next one begins, the last of them at `stop`."""
        self.records += len(starts)
        self._stops = np.concatenate([self._stops, starts[1:], np.array([stop], np.int64)])
        while (count := self._fitting()) < len(self._stops):
            self._cut(count)

    def close(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """`FileIndex.starts` and `FileIndex.rows`."""
        if len(self._stops):
            self._cut(len(self._stops))
        return tuple(self._starts), tuple(self._rows)

    def _fitting(self) -> int:
        fitting = int(np.searchsorted(self._stops, self._starts[-1] + UNIT_BYTES, side="right"))
        return min(max(fitting, 1), UNIT_RECORDS)

    def _cut(self, count: int) -> None:
        self._starts.append(int(self._stops[count - 1]))
        self._rows.append(count)
        self._stops = self._stops[count:]


class Where(NamedTuple):
    """A file, and how offsets in it are counted."""

    path: str
    compression: str | None

    def at(self, record: int, offset: int) -> str:
        """A record as errors name it: its number in the file, from 0, and the byte where its frame begins."""
        return f"{self.path}, record {record}, byte offset {offset}" + (" uncompressed" if self.compression else "")


def _compression(head: bytes, path: str, asked: str | None) -> str | None:
    """The compression of a file that begins with `head`."""
    if asked is None:
        return None
    found = _kind(head)
    if asked == "auto":
        return None if found == _PLAIN else found
    if found != asked:
        seen = f"{path}, {'a plain file' if found == _PLAIN else found or f'beginning with {head[:4]!r}'}"
        raise DataError(f"the file is not compressed with {asked}", seen, "set compression to auto")
    return asked


def _kind(head: bytes) -> str | None:
    """GZIP or ZLIB, `_PLAIN` if a record header is there, None if neither.

    A length may begin with the bytes by which the others are known; then its checksum tells.
    """
    if len(head) == HEADER and Headers(np.zeros(1, np.int64), np.frombuffer(head, HEADER_TYPE), 0).first_bad() is None:
        return _PLAIN
    if head[:3] == b"\x1f\x8b\x08":
        return "GZIP"
    if len(head) >= 8 and head[0] & 0x0F == 8 and (head[0] << 8 | head[1]) % 31 == 0 and any(head[4:8]):
        return "ZLIB"
    return None


def _not_tfrecord(where: Where, head: bytes) -> DataError:
    known = next((f": it looks like {name}" for magic, name in _MAGIC.items() if head.startswith(magic)), "")
    todo = "check the path and the compression; if it is one, its first bytes are damaged"
    return DataError("this is not a TFRecord file" + known, where.at(0, 0), todo)


def _truncated(at: str, needed: int, there: int) -> DataError:
    return DataError("the file is truncated", f"{at}: {needed} bytes needed, {there} there", DAMAGED)


def changed(at: str) -> DataError:
    """The error for a file that does not agree with its index."""
    return DataError("the file has changed since it was indexed", at, "start again; do not write to files in use")


@contextlib.contextmanager
def blaming(path: str) -> Iterator[None]:
    """Errors of a file's file system in our words."""
    try:
        yield
    except FileNotFoundError:
        raise DataError("the data file is not there", path, "it may have been moved while in use") from None
    except (pa.ArrowException, OSError) as error:
        raise DataError("the data file cannot be read", f"{path}: {str(error).splitlines()[0]}", "") from None
