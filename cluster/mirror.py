"""Keeps a local copy of a folder on a remote file system: only what is new there travels."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from cluster.errors import StorageError
from cluster.locations import shown
from cluster.storage import Stamps, open_filesystem

if TYPE_CHECKING:
    from pyarrow.fs import FileInfo, FileSystem

#: Parts of the names of files to which is only ever added: TensorBoard's events, and dumps for its debugger.
_GROWING = ("tfevents", "tfdbg_events")


@dataclass
class Mirror:
    """A local copy of the files below `uri`.

    A reader may hold a file open, so what was added to a growing one is appended to the copy; any other file appears
    whole.
    """

    uri: str
    folder: Path
    _seen: Stamps = field(default_factory=dict)

    def refresh(self) -> None:
        """Bring the copy up to date; an absent `uri` is an empty one, and what was deleted there stays here.

        Raises:
            StorageError: the storage refuses, or the copy cannot be written.
        """
        from pyarrow import fs

        filesystem, path = open_filesystem(self.uri)
        base = path.rstrip("/")
        try:
            for info in filesystem.get_file_info(fs.FileSelector(base, recursive=True, allow_not_found=True)):
                name = info.path.removeprefix(base).lstrip("/")
                stamp = (info.size or 0, info.mtime_ns or 0)
                whole = info.type == fs.FileType.File and not info.base_name.startswith(".")  # else being copied up
                if whole and self._seen.get(name) != stamp:
                    _fetch(filesystem, info, self.folder / name)
                    self._seen[name] = stamp
        except OSError as error:
            raise StorageError("files could not be fetched", shown(self.uri), str(error).splitlines()[0]) from None


def _fetch(filesystem: FileSystem, info: FileInfo, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    have = target.stat().st_size if target.exists() else 0
    if any(part in target.name for part in _GROWING) and have <= info.size:
        with filesystem.open_input_file(info.path) as source, open(target, "ab") as sink:
            source.seek(have)
            shutil.copyfileobj(source, sink, 1 << 22)
        return
    temporary = target.with_name(f".{target.name}")
    with filesystem.open_input_stream(info.path) as source, open(temporary, "wb") as sink:
        shutil.copyfileobj(source, sink, 1 << 22)
    os.replace(temporary, target)
