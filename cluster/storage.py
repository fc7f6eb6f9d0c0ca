"""A run directory on any pyarrow file system, and the local folder in which it is written."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cluster.errors import StorageError

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

#: What a run directory holds, see docs/run-directory.md.
FOLDERS = ("logs", "checkpoints", "tensorboard", "export", "failures")


def resolve(storage: str, directory: str) -> str:
    """`storage` as an absolute path or URI; a relative path is relative to `directory`."""
    return storage if "://" in storage else os.path.abspath(os.path.join(directory, os.path.expanduser(storage)))


def open_filesystem(uri: str) -> tuple[FileSystem, str]:
    """The pyarrow file system of `uri` and the path within it.

    Raises:
        StorageError: unknown scheme, or the file system cannot be reached.
    """
    from pyarrow import fs

    if "://" not in uri:
        return fs.LocalFileSystem(), uri
    try:
        found: tuple[FileSystem, str] = fs.FileSystem.from_uri(uri)
    except (OSError, ValueError) as error:
        raise StorageError("the storage cannot be opened", uri, str(error).splitlines()[0]) from None
    return found


class RunDirectory:
    """One run's directory, written through `local` and, where storage is remote, copied by `upload`.

    Attributes:
        uri: where the run ends up, a path or URI.
        local: the folder that files are written to; `uri` itself on a local file system, else `spool`.
    """

    def __init__(self, uri: str, spool: Path | None = None) -> None:
        self.uri = uri
        self._filesystem, self._path = open_filesystem(uri)
        self.is_local = self._filesystem.type_name == "local"
        if self.is_local:
            self.local = Path(self._path)
        else:
            self.local = spool or Path(tempfile.mkdtemp(prefix="tfcluster-run-"))
        self._uploaded: dict[str, tuple[int, int]] = {}

    def create(self) -> None:
        """Make the folders.

        Raises:
            StorageError: not writable.
        """
        try:
            for folder in FOLDERS:
                (self.local / folder).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError("the run directory cannot be made", self.uri, error.strerror or str(error)) from None

    def append(self, name: str, text: str) -> None:
        """Add `text` to the file `name`."""
        path = self.local / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "a", encoding="utf-8") as file:
            file.write(text)

    def write(self, name: str, text: str) -> None:
        """Write the file `name` whole or not at all."""
        path = self.local / name
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        with open(temporary, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)

    def upload(self) -> None:
        """Copy what changed since the last upload to remote storage; nothing to do on a local one."""
        if self.is_local:
            return
        for path in sorted(p for p in self.local.rglob("*") if p.is_file() and not p.name.startswith(".")):
            name = path.relative_to(self.local).as_posix()
            seen = path.stat()
            stamp = (seen.st_size, seen.st_mtime_ns)
            if self._uploaded.get(name) != stamp:
                copy_up(path, self._filesystem, f"{self._path}/{name}")
                self._uploaded[name] = stamp

    def close(self) -> None:
        """Upload the rest and remove the local copy of a remote run."""
        self.upload()
        if not self.is_local:
            shutil.rmtree(self.local, ignore_errors=True)


def copy_up(path: Path, filesystem: FileSystem, target: str) -> None:
    """Copy the local file `path` to `target`.

    Raises:
        StorageError: the storage refuses.
    """
    try:
        filesystem.create_dir(target.rsplit("/", 1)[0], recursive=True)
        with open(path, "rb") as source, filesystem.open_output_stream(target) as sink:
            shutil.copyfileobj(source, sink, 1 << 22)
    except OSError as error:
        raise StorageError("a file could not be stored", target, str(error)) from None


def upload_folder(folder: Path, uri: str) -> None:
    """Copy every file below the local `folder` to `uri`, deepest last; files appear whole."""
    filesystem, base = open_filesystem(uri)
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        copy_up(path, filesystem, f"{base}/{path.relative_to(folder).as_posix()}")


def download_folder(uri: str, folder: Path) -> None:
    """Copy every file below `uri` into the local `folder`; an absent `uri` is an empty one."""
    from pyarrow import fs

    filesystem, base = open_filesystem(uri)
    selector = fs.FileSelector(base, recursive=True, allow_not_found=True)
    for info in filesystem.get_file_info(selector):
        if info.type == fs.FileType.File:
            target = folder / info.path[len(base) :].lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            with filesystem.open_input_stream(info.path) as source, open(target, "wb") as sink:
                shutil.copyfileobj(source, sink, 1 << 22)


def read_text(uri: str, name: str) -> str | None:
    """The text of the file `name` in the run directory `uri`, or None where there is none."""
    filesystem, base = open_filesystem(uri)
    try:
        with filesystem.open_input_stream(f"{base}/{name}") as stream:
            data: Any = stream.read()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return bytes(data).decode("utf-8", errors="replace")
