"""Reads a file of a run directory while it is being written: each whole line once, and nothing twice."""

from __future__ import annotations

from typing import Any

from cluster.errors import StorageError
from cluster.locations import shown
from cluster.storage import open_filesystem


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

    def lines(self) -> list[str]:
        """The whole lines since the last call; none where there is no such file yet.

        Raises:
            StorageError: it is there, but cannot be read.
        """
        try:
            with self._filesystem.open_input_file(self._path) as file:
                file.seek(min(self._read, file.size()))
                data: Any = file.read()
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            seen = str(error).splitlines()[0]
            raise StorageError(f"{self._name} cannot be read", shown(self._uri), seen) from None
        whole = bytes(data)[: bytes(data).rfind(b"\n") + 1]
        self._read += len(whole)
        return whole.decode("utf-8", errors="replace").split("\n")[:-1]
