"""Asks a running job for something through its run directory: whoever may write there may ask, and no port is open."""

from __future__ import annotations

import contextlib
import json
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from cluster.errors import StorageError
from cluster.locations import join, shown
from cluster.storage import open_filesystem

#: Where requests wait in a run directory.
FOLDER = "requests"
#: Seconds between two looks of the launcher, on a local disk and elsewhere.
LOCAL_SECONDS, REMOTE_SECONDS = 0.5, 5.0
#: Largest request that is read, in bytes.
_LARGEST = 1 << 16


@dataclass(frozen=True)
class Request:
    """What a file of the folder asks for.

    Attributes:
        id: the file's name without its ending, by which the answer is known.
        asked: the document in it; {} where it cannot be read.
        wrong: why it cannot be read, or ''.
    """

    id: str
    asked: dict[str, Any] = field(default_factory=dict)
    wrong: str = ""


def ask(uri: str, **request: Any) -> str:
    """Leave a request in the run directory `uri`; returns its id.

    Raises:
        StorageError: it cannot be written there.
    """
    name = f"{int(time.time() * 1000):x}-{secrets.token_hex(3)}"
    filesystem, base = open_filesystem(join(uri, FOLDER))
    try:
        filesystem.create_dir(base, recursive=True)
        with filesystem.open_output_stream(f"{base}/.{name}") as stream:
            stream.write(json.dumps({**request, "id": name}).encode())
        filesystem.move(f"{base}/.{name}", f"{base}/{name}.json")
    except OSError as error:
        raise StorageError("the run cannot be asked", f"{shown(uri)}: {error}", "you need to write there") from None
    return name


def take_back(uri: str, name: str) -> None:
    """Withdraw the request `name` that `ask` left, if no launcher has taken it yet."""
    filesystem, base = open_filesystem(join(uri, FOLDER))
    with contextlib.suppress(OSError):
        filesystem.delete_file(f"{base}/{name}.json")


class Requests:
    """The launcher's end: the requests that wait in its run directory.

    Args:
        uri: the run directory.
        local: whether it is on a local disk.
    """

    def __init__(self, uri: str, local: bool) -> None:
        self._filesystem, self._base = open_filesystem(join(uri, FOLDER))
        self._every = LOCAL_SECONDS if local else REMOTE_SECONDS
        self._looked = time.monotonic()
        self._taken: set[str] = set()  # whose files could not be deleted

    def take(self) -> list[Request]:
        """Those that came since the last call, each once, also what cannot be read; nothing between two looks."""
        if time.monotonic() - self._looked < self._every:
            return []
        self._looked = time.monotonic()
        with contextlib.suppress(OSError):
            return list(self._waiting())
        return []

    def _waiting(self) -> Iterator[Request]:
        from pyarrow import fs

        found = self._filesystem.get_file_info(fs.FileSelector(self._base, allow_not_found=True))
        for info in sorted(found, key=lambda info: info.base_name):  # as they were made, by their names
            name = info.base_name
            if info.type == fs.FileType.File and _is_request(name) and name not in self._taken:
                yield self._read(info.path, name.removesuffix(".json"))
                self._delete(info.path, name)

    def _read(self, path: str, name: str) -> Request:
        try:
            with self._filesystem.open_input_stream(path) as stream:
                return parse(name, stream.read(_LARGEST + 1))
        except OSError as error:
            return Request(name, wrong=f"its file cannot be read: {str(error).splitlines()[0]}")

    def _delete(self, path: str, name: str) -> None:
        try:
            self._filesystem.delete_file(path)
        except OSError:  # it may be another user's
            self._taken.add(name)


def _is_request(name: str) -> bool:
    """Whether a file of that name is one that is whole."""
    return name.endswith(".json") and not name.startswith(".")


def parse(name: str, data: bytes) -> Request:
    """The request in the file `name`.json. Pure."""
    if len(data) > _LARGEST:
        return Request(name, wrong=f"it has more than {_LARGEST} bytes")
    try:
        document = json.loads(data)
    except ValueError as error:
        return Request(name, wrong=f"it is not JSON: {error}")
    if not isinstance(document, dict):
        return Request(name, wrong=f"it is no JSON object: {str(document)[:80]}")
    return Request(name, document)
