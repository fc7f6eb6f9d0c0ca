"""A file system of this machine that fails when it is told to, and counts how often."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.fs as pafs


class Failing(pafs.FileSystemHandler):  # type: ignore[misc]
    """Gives the files of this machine, as `filesystem`.

    Attributes:
        opening: the errors of the next openings of a file, in turn; None is no error.
        reading: of the next readings, likewise.
        always: the error of every reading, once these are used up.
        failed: how many errors there were.
    """

    def __init__(self) -> None:
        self._inner = pafs.LocalFileSystem()
        self.opening: list[OSError | None] = []
        self.reading: list[OSError | None] = []
        self.always: OSError | None = None
        self.failed = 0
        self.filesystem = pafs.PyFileSystem(self)

    def raise_next(self, errors: list[OSError | None], otherwise: OSError | None = None) -> None:
        """Raise what is next, if it is an error."""
        error = errors.pop(0) if errors else otherwise
        if error is not None:
            self.failed += 1
            raise error

    def get_type_name(self) -> str:
        return "failing"

    def __eq__(self, other: object) -> bool:
        return self is other

    def __ne__(self, other: object) -> bool:
        return self is not other

    def normalize_path(self, path: str) -> str:
        return path

    def get_file_info(self, paths: list[str]) -> list[pafs.FileInfo]:
        return list(self._inner.get_file_info(paths))

    def get_file_info_selector(self, selector: pafs.FileSelector) -> list[pafs.FileInfo]:
        return list(self._inner.get_file_info(selector))

    def open_input_file(self, path: str) -> pa.NativeFile:
        self.raise_next(self.opening)
        return pa.PythonFile(_File(path, self), mode="r")

    open_input_stream = open_input_file

    def _refuse(self, *_: Any) -> Any:
        raise NotImplementedError

    create_dir = delete_dir = delete_dir_contents = delete_root_dir_contents = delete_file = _refuse
    move = copy_file = open_output_stream = open_append_stream = _refuse


class _File:
    """An open file of this machine, whose readings fail when they are to."""

    def __init__(self, path: str, told: Failing) -> None:
        self._file: BinaryIO = open(path, "rb")  # noqa: SIM115  # closed by whoever has it
        self._told = told
        self.seek: Callable[..., int] = self._file.seek
        self.tell: Callable[[], int] = self._file.tell
        self.close: Callable[[], None] = self._file.close

    @property
    def closed(self) -> bool:
        return self._file.closed

    def read(self, size: int = -1) -> bytes:
        self._told.raise_next(self._told.reading, self._told.always)
        return self._file.read(size)
