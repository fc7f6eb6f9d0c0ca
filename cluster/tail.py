"""Reads a file of a run directory while it is being written: each whole line once, and nothing twice."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from typing import Any

from cluster.errors import StorageError
from cluster.locations import shown
from cluster.storage import open_filesystem

#: Bytes that are read at once, of a file that may have grown to gigabytes.
CHUNK = 1 << 22
#: Bytes that hold a whole line, nearly always.
_LINE = 1 << 16


class Tail:
    """The file `name` of the run directory `uri`, local or remote.

    Raises:
        StorageError: the storage cannot be opened.
    """

    def __init__(self, uri: str, name: str) -> None:
        self._uri, self._name = uri, name
        self._filesystem, base = open_filesystem(uri)
        self._path = f"{base.rstrip('/')}/{name}"
        self._read = 0

    @property
    def is_local(self) -> bool:
        """Whether what is written there is seen at once, and not when it is copied there."""
        return bool(self._filesystem.type_name == "local")

    def lines(self) -> Iterator[str]:
        """The whole lines since those that were taken before; none where there is no such file yet.

        Raises:
            StorageError: it is there, but cannot be read.
        """
        with self._open() as file:
            rest, place, end = b"", self._read, file.size()
            while place < end and (data := _part(file, place, min(end, place + CHUNK))):
                place += len(data)
                *whole, rest = (rest + data).split(b"\n")
                for line in whole:
                    self._read += len(line) + 1
                    yield line.decode("utf-8", errors="replace")

    def skip(self) -> None:
        """Pass over the whole lines that are there now, without reading them.

        Raises:
            StorageError: it is there, but cannot be read.
        """
        with self._open() as file:
            end = file.size()
            while end > self._read:
                begin = max(self._read, end - _LINE)
                found = _part(file, begin, end).rfind(b"\n")
                if found >= 0:
                    self._read = begin + found + 1
                    return
                end = begin

    @contextlib.contextmanager
    def _open(self) -> Iterator[Any]:
        """The file, or an empty one where there is none."""
        try:
            try:
                file: Any = self._filesystem.open_input_file(self._path)
            except (FileNotFoundError, NotADirectoryError):
                file = _Nothing()
            with file:
                yield file
        except OSError as error:
            seen = str(error).splitlines()[0]
            raise StorageError(f"{self._name} cannot be read", shown(self._uri), seen) from None


class _Nothing(io.BytesIO):
    """A file without anything in it."""

    def size(self) -> int:
        return 0


def _part(file: Any, begin: int, end: int) -> bytes:
    file.seek(begin)
    return bytes(file.read(end - begin))
