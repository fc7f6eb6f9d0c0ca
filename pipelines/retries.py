"""Reads of a storage that may fail for a moment: tried again a few times, and never taken for damage of the data."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from typing import TypeVar

import pyarrow as pa
import pyarrow.fs as pafs

from pipelines.errors import UnreachableDataError
from pipelines.files import first_line

T = TypeVar("T")
#: Seconds before each further try.
WAITS = (0.25, 1.0, 4.0)
#: What another try does not change.
_LASTING = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)


def retried(read: Callable[[], T], what: str) -> T:
    """`read()`, again after each of `WAITS` while it raises an `OSError` that may pass.

    Args:
        read: what is tried; errors of what was read, not of reading, it must not raise as `OSError`.
        what: is read, as the error names it.

    Raises:
        UnreachableDataError: it still fails.
        OSError: that a file is not there, or must not be read.
    """
    for wait in (*WAITS, None):
        try:
            return read()
        except _LASTING:
            raise
        except OSError as error:
            if wait is None:
                seen = f"{what}: {first_line(error)}, {len(WAITS) + 1} times"
                todo = "the data may well be good: see whether the storage can be reached, and try again"
                raise UnreachableDataError("the storage does not give the data", seen, todo) from None
            time.sleep(wait)
    raise AssertionError("the last try returns or raises")


class _Placed(io.RawIOBase):
    """A file for Arrow that knows its size, and at which place of it the next reading begins."""

    def __init__(self, size: int) -> None:
        self._size, self._at = size, 0

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place of the file."""
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def tell(self) -> int:
        """The place in the file."""
        return self._at


class Held(_Placed):
    """A part of a file in memory, at its place: whatever cannot be read of it now is not the storage's fault.

    Args:
        file: the open file.
        start: of the part.
        stop: its end, exclusive.
    """

    def __init__(self, file: pa.NativeFile, start: int, stop: int) -> None:
        super().__init__(int(file.size()))
        self._start = start
        self._content = file.read_at(max(0, min(stop, self._size) - start), start)

    def read(self, size: int = -1) -> bytes:
        """The next bytes; none outside of the part."""
        begin = self._at - self._start
        found: bytes = self._content[begin : begin + size if size >= 0 else None] if begin >= 0 else b""
        self._at += len(found)
        return found


class Steady(_Placed):
    """A file that is read where Arrow asks for it, each part of it `retried`: other errors are those of its content.

    Args:
        filesystem: where it lies.
        path: of the file.

    Raises:
        UnreachableDataError: the storage does not give it; also from each reading.
        OSError: that it is not there, or must not be read.
    """

    def __init__(self, filesystem: pafs.FileSystem, path: str) -> None:
        self._path = path
        self._opened: list[pa.NativeFile] = []  # closing does not fail where opening does
        self._file: pa.NativeFile = retried(lambda: filesystem.open_input_file(path), path)
        self._opened.append(self._file)
        super().__init__(int(retried(self._file.size, path)))

    def read(self, size: int = -1) -> bytes:
        """The next bytes; none at the end."""
        at, left = self._at, max(0, self._size - self._at)
        wanted = left if size < 0 else min(size, left)
        found: bytes = retried(lambda: self._file.read_at(wanted, at), self._path)
        self._at += len(found)
        return found

    def close(self) -> None:
        """Close the file."""
        for file in self._opened:
            file.close()
        super().close()
