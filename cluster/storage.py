"""A run directory on any pyarrow file system, and the local folder in which it is written."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Set
from pathlib import Path
from typing import TYPE_CHECKING

from cluster.errors import StorageError
from cluster.locations import shown
from pipelines.file_systems import CannotOpenError, content, open_file_system

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

#: What a run directory holds, see docs/run-directory.md.
FOLDERS = ("logs", "checkpoints", "tensorboard", "export", "failures")
#: File systems, by pyarrow's names, on which a file appears when it is complete.
_OBJECT_STORES = ("s3", "gcs", "abfs")

#: Files that were copied, by name, with their size and time of change then.
Stamps = dict[str, tuple[int, int]]


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
        return open_file_system(uri)
    except CannotOpenError as error:
        raise StorageError("the storage cannot be opened", shown(uri), shown(str(error))) from None


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
        self._uploaded: Stamps = {}

    def create(self) -> None:
        """Make the folders.

        Raises:
            StorageError: not writable.
        """
        try:
            for folder in FOLDERS:
                (self.local / folder).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError("the run directory cannot be made", shown(self.uri), _first_line(error)) from None

    def append(self, name: str, text: str | bytes) -> None:
        """Add `text`, or bytes, to the file `name`.

        Raises:
            StorageError: not writable, or full.
        """
        path = self.local / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(path, "ab") as file:
                file.write(text if isinstance(text, bytes) else _bytes(text))
        except OSError as error:
            raise _unwritable(path, error) from None

    def size(self, name: str) -> int:
        """Bytes of the file `name`; 0 where there is none."""
        try:
            return (self.local / name).stat().st_size
        except OSError:
            return 0

    def write(self, name: str, text: str) -> None:
        """Write the file `name` whole or not at all.

        Raises:
            StorageError: not writable, or full; the file is as it was.
        """
        path = self.local / name
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(temporary, "wb") as file:
                file.write(_bytes(text))
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except OSError as error:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise _unwritable(path, error) from None

    def upload(self) -> None:
        """Copy what changed since the last upload to remote storage; nothing to do on a local one.

        Raises:
            StorageError: the storage refuses; the next upload tries again.
        """
        if not self.is_local:
            _copy_changed(self.local, self._filesystem, self._path, self._uploaded)

    def close(self) -> None:
        """Upload the rest and remove the local copy of a remote run.

        Raises:
            StorageError: the storage refuses; the local copy stays.
        """
        try:
            self.upload()
        except StorageError as error:
            raise StorageError(error.happened, error.seen, f"the run's files are still in {self.local}") from None
        if not self.is_local:
            shutil.rmtree(self.local, ignore_errors=True)


def upload_folder(folder: Path, uri: str, uploaded: Stamps | None = None) -> None:
    """Copy the files below the local `folder` to `uri`, in the order of their names; each appears whole.

    Args:
        folder: a folder that is not being written to.
        uri: where to.
        uploaded: what need not be copied again; is brought up to date.

    Raises:
        StorageError: the storage refuses.
    """
    _copy_changed(folder, *open_filesystem(uri), {} if uploaded is None else uploaded)


def _copy_changed(folder: Path, filesystem: FileSystem, base: str, uploaded: Stamps) -> None:
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder).as_posix()
        seen = path.stat()
        stamp = (seen.st_size, seen.st_mtime_ns)
        if uploaded.get(name) != stamp:
            copy_up(path, filesystem, f"{base.rstrip('/')}/{name}")
            uploaded[name] = stamp


def copy_up(path: Path, filesystem: FileSystem, target: str) -> None:
    """Copy the local file `path` to `target`, which appears whole or not at all.

    Raises:
        StorageError: the storage refuses.
    """
    from pyarrow import fs

    folder, _, name = target.rpartition("/")
    whole = filesystem.type_name in _OBJECT_STORES
    first = target if whole else f"{folder}/.{name}"
    try:
        filesystem.create_dir(folder, recursive=True)
        fs.copy_files(str(path), first, source_filesystem=fs.LocalFileSystem(), destination_filesystem=filesystem)
        if not whole:
            filesystem.move(first, target)
    except OSError as error:
        raise StorageError("a file could not be stored", target, _first_line(error)) from None


def delete_others(uri: str, keep: Set[str]) -> None:
    """Delete the files directly in `uri` whose names are not in `keep`.

    Raises:
        StorageError: the storage refuses.
    """
    from pyarrow import fs

    filesystem, path = open_filesystem(uri)
    try:
        for info in filesystem.get_file_info(fs.FileSelector(path.rstrip("/"), allow_not_found=True)):
            if info.type == fs.FileType.File and info.base_name not in keep:
                filesystem.delete_file(info.path)
    except OSError as error:
        raise StorageError("a file could not be deleted", shown(uri), _first_line(error)) from None


def download_folder(uri: str, folder: Path, wanted: Callable[[str], bool] = lambda name: True) -> None:
    """Copy the files below `uri` whose names are `wanted` into the local `folder`; an absent `uri` is an empty one.

    A file that is deleted meanwhile, as old checkpoints are, is left out.

    Raises:
        StorageError: the storage refuses, or `folder` cannot be written.
    """
    from pyarrow import fs

    filesystem, path = open_filesystem(uri)
    base = path.rstrip("/")
    try:
        for info in filesystem.get_file_info(fs.FileSelector(base, recursive=True, allow_not_found=True)):
            if info.type == fs.FileType.File and wanted(info.base_name):
                target = folder / info.path.removeprefix(base).lstrip("/")
                target.parent.mkdir(parents=True, exist_ok=True)
                try:
                    with filesystem.open_input_stream(info.path) as source, open(target, "wb") as sink:
                        shutil.copyfileobj(source, sink, 1 << 22)
                except FileNotFoundError:
                    target.unlink(missing_ok=True)
    except OSError as error:
        raise StorageError("files could not be fetched", shown(uri), _first_line(error)) from None


def is_empty(uri: str) -> bool:
    """Whether nothing is below `uri`.

    Raises:
        StorageError: it cannot be listed.
    """
    from pyarrow import fs

    filesystem, base = open_filesystem(uri)
    try:
        return not filesystem.get_file_info(fs.FileSelector(base.rstrip("/"), allow_not_found=True))
    except OSError as error:
        raise StorageError("the storage cannot be listed", shown(uri), _first_line(error)) from None


def read_text(uri: str, name: str) -> str | None:
    """The text of the file `name` in the run directory `uri`, or None where there is none.

    Raises:
        StorageError: it is there but cannot be read, or the storage does not answer.
    """
    filesystem, base = open_filesystem(uri)
    try:
        found = content(filesystem, f"{base.rstrip('/')}/{name}")
    except OSError as error:
        raise StorageError(f"{name} cannot be read", shown(uri), _first_line(error)) from None
    return None if found is None else found.decode("utf-8", errors="replace")


def _bytes(text: str) -> bytes:
    """`text` in UTF-8; half a surrogate pair, which JSON and file names can hold but UTF-8 cannot, becomes `?`."""
    return text.encode("utf-8", errors="replace")


def _unwritable(path: Path, error: OSError) -> StorageError:
    seen = f"{path}: {error.strerror or error}"
    return StorageError("the run directory cannot be written", seen, "free some space there, or correct storage")


def _first_line(error: Exception) -> str:
    lines = str(getattr(error, "strerror", None) or error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
