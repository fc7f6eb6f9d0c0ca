"""The folder in which files wait unseen until all of them are there, and their move to where readers look.

They lie in `.OUT.unfinished` beside the folder `OUT`, in object stores in `OUT/_unfinished`: each under a hidden name
until it is whole, and then with a note, so that a later call knows what it need not do again.
"""

from __future__ import annotations

import json
import os
import posixpath
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs

from pipelines.errors import DataError
from pipelines.file_systems import CannotOpenError, content, open_file_system
from pipelines.files import first_line
from pipelines.manifest import NAME, Manifest

#: File systems, by pyarrow's names, that have no folders which could be renamed.
OBJECT_STORES = ("s3", "gcs", "abfs")


def place(uri: str) -> tuple[pafs.FileSystem, str]:
    """The file system and the path of a folder to write to.

    Raises:
        DataError: it cannot be opened.
    """
    if "://" not in uri:
        return pafs.LocalFileSystem(), os.path.abspath(os.path.expanduser(uri))
    try:
        filesystem, path = open_file_system(uri)
    except CannotOpenError as error:
        raise DataError("cannot open the file system to write to", uri, str(error)) from None
    return filesystem, path.rstrip("/")


@dataclass(frozen=True)
class Staging:
    """The staging folder of the folder `out`."""

    filesystem: pafs.FileSystem
    out: str

    @property
    def folder(self) -> str:
        """Where files wait."""
        if self._of_objects:
            return f"{self.out}/_unfinished"
        return posixpath.join(posixpath.dirname(self.out), f".{posixpath.basename(self.out)}.unfinished")

    @property
    def _of_objects(self) -> bool:
        return self.filesystem.type_name in OBJECT_STORES

    def plan(self) -> dict[str, Any] | None:
        """The plan of an earlier call that did not finish."""
        with suppress(OSError, ValueError):
            found = json.loads(content(self.filesystem, f"{self.folder}/_plan.json") or b"null")
            return found if isinstance(found, dict) and "key" in found and "pieces" in found else None
        return None

    def begin(self, plan: dict[str, Any]) -> None:
        """Make the folder anew, with a plan.

        Raises:
            DataError: it cannot be written.
        """
        try:
            if self._is_there(self.folder):
                self.filesystem.delete_dir(self.folder)
            self.filesystem.create_dir(f"{self.folder}/_done", recursive=True)
            self._write_text(f"{self.folder}/_plan.json", json.dumps(plan))
        except (pa.ArrowException, OSError) as error:
            raise DataError("cannot write", self.folder, first_line(error)) from None

    @contextmanager
    def writing(self, name: str) -> Iterator[pa.NativeFile]:
        """The open file `name`, which is there when it is whole, and leaves nothing behind otherwise.

        Raises:
            DataError: it cannot be written.
        """
        hidden, final = f"{self.folder}/.{name}.{uuid.uuid4().hex[:8]}", f"{self.folder}/{name}"
        try:
            with self.filesystem.open_output_stream(hidden, compression=None) as sink:
                yield sink
            self.filesystem.move(hidden, final)
        except (pa.ArrowException, OSError) as error:
            self._remove(hidden)
            raise DataError("cannot write", final, first_line(error)) from None
        except BaseException:
            self._remove(hidden)
            raise

    def note(self, receipt: dict[str, Any]) -> dict[str, Any]:
        """Note that the file `receipt["name"]` is whole: the receipt with its size in `bytes`.

        Raises:
            DataError: it cannot be written.
        """
        path = f"{self.folder}/{receipt['name']}"
        try:
            receipt = {**receipt, "bytes": self.filesystem.get_file_info(path).size}
            self._write_text(f"{self.folder}/_done/{receipt['name']}.json", json.dumps(receipt))
        except (pa.ArrowException, OSError) as error:
            raise DataError("cannot write", path, first_line(error)) from None
        return receipt

    def receipts(self) -> list[dict[str, Any]]:
        """The receipts of files that are there and whole."""
        sizes = {}
        for folder in [self.folder, *([self.out] if self._of_objects else [])]:
            for info in self.filesystem.get_file_info(pafs.FileSelector(folder, allow_not_found=True)):
                sizes[info.base_name] = info.size
        found = []
        for info in self.filesystem.get_file_info(pafs.FileSelector(f"{self.folder}/_done", allow_not_found=True)):
            with suppress(OSError, ValueError, KeyError):
                with self.filesystem.open_input_stream(info.path) as stream:
                    receipt = json.loads(stream.read())
                if sizes.get(receipt["name"]) == receipt["bytes"]:
                    found.append(receipt)
        return found

    def publish(self, manifest: Manifest) -> None:
        """Let readers see the files, all at once where the file system can.

        Raises:
            DataError: the folder cannot be written.
        """
        try:
            if self._of_objects:
                self._move_files(manifest)
            else:
                self._move_folder(manifest)
        except (pa.ArrowException, OSError) as error:
            raise DataError("cannot write", self.out, first_line(error)) from None

    def clear(self) -> None:
        """Take away the notes of the work that is done."""
        with suppress(OSError):
            self.filesystem.delete_dir(f"{self.out}/_done")
        with suppress(OSError):
            self.filesystem.delete_file(f"{self.out}/_plan.json")

    def _move_folder(self, manifest: Manifest) -> None:
        """Give the whole folder its name, with one rename."""
        filesystem, out = self.filesystem, self.out
        for info in filesystem.get_file_info(pafs.FileSelector(self.folder)):
            if info.base_name.startswith("."):
                self._remove(info.path)
        self._write_text(f"{self.folder}/{NAME}", manifest.to_json())
        old = f"{posixpath.dirname(out)}/.{posixpath.basename(out)}.replaced"
        if self._is_there(old):
            filesystem.delete_dir(old)
        if self._is_there(out):
            filesystem.move(out, old)
        filesystem.move(self.folder, out)
        if self._is_there(old):
            filesystem.delete_dir(old)
        self.clear()

    def _move_files(self, manifest: Manifest) -> None:
        """Move the files one by one, and `_SUCCESS` last: an object store can do no more."""
        filesystem = self.filesystem
        ours = {file["name"] for file in manifest.files}
        staged = {info.base_name for info in filesystem.get_file_info(pafs.FileSelector(self.folder))}
        for info in filesystem.get_file_info(pafs.FileSelector(self.out)):
            moved_before = info.base_name in ours and info.base_name not in staged
            if info.type == pafs.FileType.File and not moved_before:
                filesystem.delete_file(info.path)
            elif info.type == pafs.FileType.Directory and info.base_name != "_unfinished":
                filesystem.delete_dir(info.path)
        for name in sorted(ours & staged):
            filesystem.move(f"{self.folder}/{name}", f"{self.out}/{name}")
        self._write_text(f"{self.out}/{NAME}", manifest.to_json())
        filesystem.delete_dir(self.folder)

    def _is_there(self, path: str) -> bool:
        return bool(self.filesystem.get_file_info(path).type != pafs.FileType.NotFound)

    def _write_text(self, path: str, text: str) -> None:
        """Write a file whole or not at all."""
        hidden = posixpath.join(posixpath.dirname(path), f".{posixpath.basename(path)}.{uuid.uuid4().hex[:8]}")
        with self.filesystem.open_output_stream(hidden, compression=None) as stream:
            stream.write(text.encode())
        self.filesystem.move(hidden, path)

    def _remove(self, path: str) -> None:
        with suppress(OSError):
            self.filesystem.delete_file(path)
