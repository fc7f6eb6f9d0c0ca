"""Brings a folder that a task writes to remote storage now and then, so that others can watch it grow."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path

from cluster.errors import StorageError
from cluster.storage import Stamps, upload_folder

#: Seconds between two uploads of what changed.
EVERY = 30.0


class Uploads:
    """Uploads `folder` to `uri` from a thread of its own until `close`."""

    def __init__(self, folder: Path, uri: str, every: float = EVERY) -> None:
        self._folder, self._uri, self._every = folder, uri, every
        self._uploaded: Stamps = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tfcluster-uploads", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._ended.wait(self._every):
            with contextlib.suppress(StorageError, FileNotFoundError):  # the next one tries again
                upload_folder(self._folder, self._uri, self._uploaded)

    def close(self) -> None:
        """Upload the rest.

        Raises:
            StorageError: the storage refuses.
        """
        self._ended.set()
        self._thread.join()
        upload_folder(self._folder, self._uri, self._uploaded)
