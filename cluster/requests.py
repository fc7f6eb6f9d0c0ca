"""Asks a running job for something through its run directory: whoever may write there may ask, and no port is open."""

from __future__ import annotations

import contextlib
import json
import secrets
import time
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

    def take(self) -> list[dict[str, Any]]:
        """Those that came since the last call; nothing between two looks. What cannot be read is no request."""
        if time.monotonic() - self._looked < self._every:
            return []
        self._looked = time.monotonic()
        with contextlib.suppress(OSError):
            return list(self._waiting())
        return []

    def _waiting(self) -> list[dict[str, Any]]:
        from pyarrow import fs

        found = []
        for info in self._filesystem.get_file_info(fs.FileSelector(self._base, allow_not_found=True)):
            if info.type == fs.FileType.File and info.base_name.endswith(".json") and info.base_name[0] != ".":
                with self._filesystem.open_input_stream(info.path) as stream:
                    text = stream.read(_LARGEST)
                self._filesystem.delete_file(info.path)
                with contextlib.suppress(ValueError):
                    document = json.loads(text)
                    found += [document] if isinstance(document, dict) else []
        return sorted(found, key=lambda request: str(request.get("id")))
