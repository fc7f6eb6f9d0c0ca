"""Which files: globs, directories, lists and URIs become paths on one pyarrow file system."""

from __future__ import annotations

import os
import posixpath
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from operator import attrgetter
from typing import NamedTuple

import pyarrow as pa
import pyarrow.fs as pafs

from pipelines.errors import DataError
from pipelines.file_systems import CannotOpenError, open_file_system

#: What a file in a directory must end in to be data.
PARQUET_ENDINGS = (".parquet", ".pq")
TFRECORD_ENDINGS = (".tfrecord", ".tfrecords", ".tfrec")
COMPRESSED_ENDINGS = (".gz", ".gzip", ".zlib")
DATA_ENDINGS = (
    *PARQUET_ENDINGS,
    *TFRECORD_ENDINGS,
    *(record + packed for record in TFRECORD_ENDINGS for packed in COMPRESSED_ENDINGS),
)
#: What numbers the parts of a whole, as TensorFlow Datasets and Beam name them: `x.tfrecord-00000-of-00010`.
_PART = re.compile(r"-\d{5,}-of-\d{5,}(?=\.|$)")
#: An ending that numbered parts have which have no other one, `x-00000-of-00010`; not one of `DATA_ENDINGS`, for it
#: does not tell the format.
PART_ENDING = "-00000-of-00000"
#: Before a name: that it is not hidden.
_SEEN = r"(?![_.])"


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

    Files in a directory are those below it that have one of the `endings`, see `has_ending`; names that begin with `_`
    or `.` are left out, as wildcards leave them out. They come sorted by path within each entry of the list. A file of
    this machine is one, however its path is written; a link to it is another.

    Raises:
        DataError: nothing there, or more than one file system.
    """
    patterns = [files] if isinstance(files, str) else list(files)
    if not patterns:
        raise DataError("no data files are given", "an empty list", "name a file, a directory or a glob")
    filesystem: pafs.FileSystem | None = None
    found: dict[str, File] = {}
    identity = _identity if len(patterns) > 1 else attrgetter("path")
    for pattern in patterns:
        found_on, path = _resolve(pattern)
        if filesystem is not None and found_on != filesystem:
            raise DataError("data files lie on different file systems", pattern, "copy them to one file system")
        filesystem = found_on
        for file in _matches(filesystem, path, pattern, endings):
            found.setdefault(identity(file) if isinstance(filesystem, pafs.LocalFileSystem) else file.path, file)
    assert filesystem is not None
    return filesystem, list(found.values())


def has_ending(path: str, endings: tuple[str, ...]) -> bool:
    """Whether `path` has one of these endings, before or after the number of a part, or is a part of `PART_ENDING`."""
    if path.endswith(endings):
        return True
    if "-of-" not in path:  # far quicker than the expression
        return False
    name = posixpath.basename(path)
    number = _PART.search(name)
    if number is None:
        return False
    before, after = name[: number.start()], name[number.end() :]
    bare = after in ("", *COMPRESSED_ENDINGS) and not before.endswith(DATA_ENDINGS)
    return (before + after).endswith(endings) or (bare and PART_ENDING in endings)


def first_line(error: BaseException) -> str:
    """The first line of `error`."""
    return str(error).strip().split("\n")[0]


def _identity(file: File) -> str:
    """The same for all spellings of a path on this machine."""
    return os.path.abspath(file.path)


def _resolve(pattern: str) -> tuple[pafs.FileSystem, str]:
    """The file system of a path or URI, and the path there; in a URI, `?` begins the query."""
    if not re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", pattern):
        return pafs.LocalFileSystem(), os.path.expanduser(pattern)
    place, mark, query = pattern.partition("?")
    root = _glob_root(place) if _is_glob(place) else place
    try:
        filesystem, path = open_file_system(root + mark + query)
    except CannotOpenError as error:
        raise DataError("cannot open the file system of the data", pattern, str(error)) from None
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
    _check_names(found)
    return sorted(found, key=attrgetter("path"))


def _check_names(files: list[File]) -> None:
    try:
        "".join(file.path for file in files).encode()
    except UnicodeEncodeError as error:
        seen = next(repr(file.path) for file in files if error.object[error.start] in file.path)
        raise DataError("the name of a data file is not UTF-8", seen, "give it another name") from None


def _below(filesystem: pafs.FileSystem, root: str, endings: tuple[str, ...]) -> Iterator[File]:
    """The files below `root` with one of these endings, none of it hidden."""
    start = len(root)

    def wanted(path: str) -> bool:
        return has_ending(path, endings) and "/_" not in (below := f"/{path[start:]}") and "/." not in below

    return _files(filesystem, root, wanted)


def _globbed(filesystem: pafs.FileSystem, path: str, endings: tuple[str, ...]) -> Iterator[File]:
    if not _is_glob(path):
        return iter(())
    match = re.compile(_glob_regex(path)).fullmatch
    return _files(filesystem, _glob_root(path), lambda path: match(path) is not None)


def _is_glob(path: str) -> bool:
    return re.search(r"[*?\[]", path) is not None


def _glob_root(path: str) -> str:
    """The folder above the first wildcard of `path`."""
    head = re.split(r"[*?\[]", path)[0]
    return head[: head.rfind("/") + 1] or "."


def _glob_regex(path: str) -> str:
    """`path` as a regular expression: `*` and `?` stay within a folder, `**/` crosses folders.

    A wildcard that begins a name stands for no `_` or `.` there: such names are hidden, as in directories.
    """
    wild = {"**/": f"(?:{_SEEN}[^/]*/)*", "*": "[^/]*", "?": "[^/]"}
    parts = [part for part in re.split(r"(\*\*/|\*|\?|\[[^]]+\])", path.removeprefix("./")) if part]
    regex = ""
    for before, part in zip(["/", *parts], parts, strict=False):
        starts = before.endswith("/") and part != "**/" and (part in wild or part.startswith("["))
        regex += _SEEN * starts + (wild.get(part) or (_one_of(part) if part.startswith("[") else re.escape(part)))
    return rf"(?:\./)?{regex}"


def _one_of(part: str) -> str:
    """`[abc]` as it is; `[!abc]`, which stays within a folder, too."""
    return re.sub(r"^\[[!^]", "[^/", "[" + part[1:].replace("[", r"\["))


def _files(filesystem: pafs.FileSystem, root: str, wanted: Callable[[str], bool]) -> Iterator[File]:
    """The files below `root`, on whatever level, whose paths are wanted."""
    if isinstance(filesystem, pafs.LocalFileSystem):
        return _local_files(root, wanted)
    selector = pafs.FileSelector(root, recursive=True, allow_not_found=True)
    found = (info for info in filesystem.get_file_info(selector) if info.type == pafs.FileType.File)
    return (_file(info, root) for info in found if wanted(info.path))


def _local_files(root: str, wanted: Callable[[str], bool]) -> Iterator[File]:
    """`_files` of this machine, several times as fast as Arrow lists them; links are followed, but not in a circle."""
    folders = [root]
    while folders:
        folder = folders.pop()
        below = posixpath.join(folder[len(root) :].lstrip("/"), "")
        with suppress(FileNotFoundError), os.scandir(folder) as entries:
            for entry in entries:
                path = entry.path
                if entry.is_dir():
                    if not (entry.is_symlink() and _holds(path, folder)):
                        folders.append(path)
                elif wanted(path) and (found := _status(entry)) is not None:
                    yield File(path, found.st_size, found.st_mtime_ns, below + entry.name)


def _status(entry: os.DirEntry[str]) -> os.stat_result | None:
    """Of a file; None for something else, such as a link to nothing, or a file that was deleted just now."""
    try:
        found = entry.stat()
    except FileNotFoundError:
        return None
    return found if stat.S_ISREG(found.st_mode) else None


def _holds(above: str, folder: str) -> bool:
    """Whether `folder` is `above`, or lies below it, when links are followed."""
    outer, inner = os.path.realpath(above), os.path.realpath(folder)
    return os.path.commonpath([outer, inner]) == outer


def _file(info: pafs.FileInfo, root: str) -> File:
    below = info.path[len(root) :].lstrip("/") if info.path.startswith(root) else posixpath.basename(info.path)
    return File(info.path, info.size or 0, info.mtime_ns or 0, below)
