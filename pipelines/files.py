"""Which files: globs, directories, lists and URIs become paths on one pyarrow file system."""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.fs as pafs

from pipelines.errors import DataError

#: What a file in a directory must end in to be data.
PARQUET_ENDINGS = (".parquet", ".pq")
TFRECORD_ENDINGS = (".tfrecord", ".tfrecords", ".tfrec")
COMPRESSED_ENDINGS = (".gz", ".gzip", ".zlib")
DATA_ENDINGS = (
    *PARQUET_ENDINGS,
    *TFRECORD_ENDINGS,
    *(record + packed for record in TFRECORD_ENDINGS for packed in COMPRESSED_ENDINGS),
)
#: How a hive-partitioned directory names a null.
NULL_PARTITION = "__HIVE_DEFAULT_PARTITION__"


class File(NamedTuple):
    """A file, with what tells whether it has changed.

    Attributes:
        path: on its file system.
        size: in bytes.
        changed: time of its last change in nanoseconds, 0 where the file system does not tell.
        below: its path below the directory or glob that was asked for.
    """

    path: str
    size: int
    changed: int
    below: str = ""


def expand(files: str | Sequence[str], endings: tuple[str, ...] = DATA_ENDINGS) -> tuple[pafs.FileSystem, list[str]]:
    """`find` without sizes: the file system and the sorted paths."""
    filesystem, found = find(files, endings)
    return filesystem, [file.path for file in found]


def find(files: str | Sequence[str], endings: tuple[str, ...] = DATA_ENDINGS) -> tuple[pafs.FileSystem, list[File]]:
    """The file system and the files behind a path, a directory, a glob, or a list of these, each file once.

    Files in a directory are those below it that have one of the `endings`; names that begin with `_` or `.` are left
    out. They come sorted by path within each entry of the list.

    Raises:
        DataError: nothing there, or more than one file system.
    """
    patterns = [files] if isinstance(files, str) else list(files)
    if not patterns:
        raise DataError("no data files are given", "an empty list", "name a file, a directory or a glob")
    filesystem: pafs.FileSystem | None = None
    found: dict[str, File] = {}
    for pattern in patterns:
        found_on, path = _resolve(pattern)
        if filesystem is not None and found_on != filesystem:
            raise DataError("data files lie on different file systems", pattern, "copy them to one file system")
        filesystem = found_on
        for file in _matches(filesystem, path, pattern, endings):
            found.setdefault(file.path, file)
    assert filesystem is not None
    return filesystem, list(found.values())


def partitions(file: File) -> dict[str, str | None]:
    """The columns in the names of a file's folders, as hive writes them: `year=2013/month=1/part.parquet`."""
    found: dict[str, str | None] = {}
    for folder in file.below.split("/")[:-1]:
        name, mark, value = folder.partition("=")
        if mark and name:
            found[unquote(name)] = None if value == NULL_PARTITION else unquote(value)
    return found


def first_line(error: BaseException) -> str:
    """The first line of `error`."""
    return str(error).strip().split("\n")[0]


def _resolve(pattern: str) -> tuple[pafs.FileSystem, str]:
    """The file system of a path or URI, and the path there; in a URI, `?` begins the query."""
    if not re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", pattern):
        return pafs.LocalFileSystem(), os.path.expanduser(pattern)
    place, mark, query = pattern.partition("?")
    root = _glob_root(place) if _is_glob(place) else place
    try:
        filesystem, path = pafs.FileSystem.from_uri(root + mark + query)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError("cannot open the file system of the data", pattern, first_line(error)) from None
    below = place[len(root) :]
    return filesystem, f"{path.rstrip('/')}/{below}" if below else path


def _matches(filesystem: pafs.FileSystem, path: str, pattern: str, endings: tuple[str, ...]) -> list[File]:
    try:
        info = filesystem.get_file_info(path)
        if info.type == pafs.FileType.File:
            return [_file(info, posixpath.dirname(info.path))]
        found = [*(_below if info.type == pafs.FileType.Directory else _globbed)(filesystem, path, endings)]
    except (pa.ArrowException, OSError) as error:
        raise DataError("cannot list data files", pattern, first_line(error)) from None
    if not found:
        todo = f"check the path; directories are searched for *{' *'.join(endings[:3])}"
        raise DataError("no data file is there", pattern, todo)
    return sorted(found)


def _below(filesystem: pafs.FileSystem, root: str, endings: tuple[str, ...]) -> Iterator[File]:
    for file in _files(filesystem, root):
        if file.path.endswith(endings) and not _hidden(file.below):
            yield file


def _globbed(filesystem: pafs.FileSystem, path: str, endings: tuple[str, ...]) -> Iterator[File]:
    if not _is_glob(path):
        return iter(())
    match = re.compile(_glob_regex(path)).fullmatch
    return (file for file in _files(filesystem, _glob_root(path)) if match(file.path))


def _is_glob(path: str) -> bool:
    return re.search(r"[*?\[]", path) is not None


def _glob_root(path: str) -> str:
    """The folder above the first wildcard of `path`."""
    head = re.split(r"[*?\[]", path)[0]
    return head[: head.rfind("/") + 1] or "."


def _glob_regex(path: str) -> str:
    """`path` as a regular expression: `*` and `?` stay within a folder, `**/` crosses folders."""
    wild = {"**/": "(?:.*/)?", "*": "[^/]*", "?": "[^/]"}
    parts = re.split(r"(\*\*/|\*|\?|\[[^]]+\])", path.removeprefix("./"))
    regex = "".join(wild.get(part) or (part if part.startswith("[") else re.escape(part)) for part in parts)
    return rf"(?:\./)?{regex}"


def _hidden(path: str) -> bool:
    return any(part.startswith(("_", ".")) for part in path.split("/"))


def _files(filesystem: pafs.FileSystem, root: str) -> Iterator[File]:
    selector = pafs.FileSelector(root, recursive=True, allow_not_found=True)
    return (_file(info, root) for info in filesystem.get_file_info(selector) if info.type == pafs.FileType.File)


def _file(info: pafs.FileInfo, root: str) -> File:
    below = info.path[len(root) :].lstrip("/") if info.path.startswith(root) else posixpath.basename(info.path)
    return File(info.path, info.size or 0, info.mtime_ns or 0, below)
