"""Parquet files on any pyarrow file system: find them, read their footers, read columns of a row group as numpy."""

from __future__ import annotations

import difflib
import os
import posixpath
import re
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from pipelines.errors import DataError
from pipelines.shards import Unit

_FOOTER_THREADS = 16
#: `np.dtype(object)` holds the bytes of strings, as TensorFlow takes them.
BYTES = np.dtype(object)


@dataclass(frozen=True)
class Source:
    """Parquet files as one table: `columns` maps each selected column to the dtype it is read as."""

    filesystem: pafs.FileSystem
    footers: dict[str, pq.FileMetaData]
    columns: dict[str, np.dtype[Any]]

    @property
    def units(self) -> tuple[Unit, ...]:
        """The row groups of all files in order."""
        return tuple(
            Unit(path, index, footer.row_group(index).num_rows)
            for path, footer in self.footers.items()
            for index in range(footer.num_row_groups)
        )


def open_source(files: str | Sequence[str], columns: Sequence[str] | None = None, label: str | None = None) -> Source:
    """The table in `files`, with every footer read and every schema compared.

    Selected are `columns`, or all where that is None, and `label`.

    Raises:
        DataError: no file, a file that is not Parquet, a column that is missing, differs between files or has a type
            without a TensorFlow counterpart.
    """
    filesystem, paths = expand(files)
    footers = _read_footers(filesystem, paths)
    schemas = {path: footer.schema.to_arrow_schema() for path, footer in footers.items()}
    first_path, first = next(iter(schemas.items()))
    names = [*(first.names if columns is None else columns), *([label] if label else [])]
    selected = _dtypes(first_path, first, names)
    for path, schema in schemas.items():
        if not schema.equals(first):
            _check_same(path, _dtypes(path, schema, list(selected)), first_path, selected)
    return Source(filesystem, footers, selected)


def expand(files: str | Sequence[str]) -> tuple[pafs.FileSystem, list[str]]:
    """The file system and the sorted paths behind a path, a directory, a glob, or a list of these, each file once.

    Files in a directory are those below it that end in `.parquet`; names that begin with `_` or `.` are left out.

    Raises:
        DataError: nothing there, or more than one file system.
    """
    patterns = [files] if isinstance(files, str) else list(files)
    if not patterns:
        raise DataError("no data files are given", "an empty list", "name a file, a directory or a glob")
    filesystem: pafs.FileSystem | None = None
    paths: dict[str, None] = {}
    for pattern in patterns:
        found_on, path = _resolve(pattern)
        if filesystem is not None and found_on != filesystem:
            raise DataError("data files lie on different file systems", pattern, "copy them to one file system")
        filesystem = found_on
        paths.update(dict.fromkeys(_matches(filesystem, path, pattern)))
    assert filesystem is not None
    return filesystem, list(paths)


def read(source: Source, unit: Unit) -> pa.Table:
    """The selected columns of one row group: `[unit.rows, columns]`.

    Raises:
        DataError: the row group cannot be read, or a column holds nulls; with file, row group and column.
    """
    table = _read_columns(source, unit, list(source.columns))
    for name in source.columns:
        if nulls := table[name].null_count:
            raise DataError(
                f"column {name} holds {nulls} nulls, which a tensor cannot hold",
                where(unit, name),
                "fill or drop them when the file is written, or leave the column out with columns",
            )
    return table


def to_numpy(column: pa.ChunkedArray, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """A column without nulls as `[rows]` of `dtype`; strings as Python bytes."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if dtype == BYTES:
        column = column.cast(pa.large_binary())
    return np.asarray(column.to_numpy()).astype(dtype, copy=False)


def where(unit: Unit, column: str | None = None) -> str:
    """`unit` as errors name it."""
    return f"{unit.file}, row group {unit.row_group}" + (f", column {column}" if column else "")


def _resolve(pattern: str) -> tuple[pafs.FileSystem, str]:
    """The file system of a path or URI, and the path there; in a URI, `?` begins the query."""
    if not re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", pattern):
        return pafs.LocalFileSystem(), os.path.expanduser(pattern)
    place, mark, query = pattern.partition("?")
    root = _glob_root(place) if _is_glob(place) else place
    try:
        filesystem, path = pafs.FileSystem.from_uri(root + mark + query)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError("cannot open the file system of the data", pattern, _line(error)) from None
    below = place[len(root) :]
    return filesystem, f"{path.rstrip('/')}/{below}" if below else path


def _matches(filesystem: pafs.FileSystem, path: str, pattern: str) -> list[str]:
    try:
        kind = filesystem.get_file_info(path).type
        if kind == pafs.FileType.File:
            return [path]
        found = _below(filesystem, path) if kind == pafs.FileType.Directory else _globbed(filesystem, path)
    except (pa.ArrowException, OSError) as error:
        raise DataError("cannot list data files", pattern, _line(error)) from None
    if not found:
        raise DataError("no data file is there", pattern, "check the path; directories are searched for *.parquet")
    return sorted(found)


def _below(filesystem: pafs.FileSystem, root: str) -> list[str]:
    names = [name for name in _files(filesystem, root) if name.endswith(".parquet")]
    return [name for name in names if not _hidden(posixpath.relpath(name, root))]


def _globbed(filesystem: pafs.FileSystem, path: str) -> list[str]:
    if not _is_glob(path):
        return []
    match = re.compile(_glob_regex(path)).fullmatch
    return [name for name in _files(filesystem, _glob_root(path)) if match(name)]


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


def _files(filesystem: pafs.FileSystem, root: str) -> Iterator[str]:
    selector = pafs.FileSelector(root, recursive=True, allow_not_found=True)
    return (info.path for info in filesystem.get_file_info(selector) if info.type == pafs.FileType.File)


def _read_footers(filesystem: pafs.FileSystem, paths: Iterable[str]) -> dict[str, pq.FileMetaData]:
    def footer(path: str) -> tuple[str, pq.FileMetaData]:
        try:
            return path, pq.read_metadata(path, filesystem=filesystem)
        except FileNotFoundError:
            raise DataError("a data file is not there", path, "check the path") from None
        except (pa.ArrowException, OSError) as error:
            raise DataError("cannot read the footer of a Parquet file", path, _line(error)) from None

    with ThreadPoolExecutor(_FOOTER_THREADS) as pool:
        return dict(pool.map(footer, paths))


def _dtypes(path: str, schema: pa.Schema, names: Sequence[str]) -> dict[str, np.dtype[Any]]:
    out = {}
    for name in dict.fromkeys(names):
        if len(schema.get_all_field_indices(name)) != 1:
            count = "no" if name not in schema.names else "more than one"
            near = difflib.get_close_matches(name, schema.names, n=1)
            todo = f"did you mean {near[0]}?" if near else f"its columns are {', '.join(schema.names[:20])}"
            raise DataError(f"there is {count} column {name}", path, todo)
        out[name] = _dtype(path, schema.field(name))
    return out


def _dtype(path: str, field: pa.Field) -> np.dtype[Any]:
    kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
    if pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return np.dtype(kind.to_pandas_dtype())
    if any(test(kind) for test in (pa.types.is_string, pa.types.is_large_string)):
        return BYTES
    if any(test(kind) for test in (pa.types.is_binary, pa.types.is_large_binary)):
        return BYTES
    todo = "leave it out with columns, or write it as int, float, bool or string"
    raise DataError(f"column {field.name} has a type that cannot be read yet", f"{path}, {field.type}", todo)


def _check_same(path: str, found: dict[str, np.dtype[Any]], first_path: str, first: dict[str, np.dtype[Any]]) -> None:
    for name, dtype in found.items():
        if dtype != first[name]:
            seen = f"{path} has {_type_name(dtype)}, {first_path} has {_type_name(first[name])}"
            raise DataError(f"column {name} is not of one type", seen, "write both files with one schema")


def _type_name(dtype: np.dtype[Any]) -> str:
    return "string" if dtype == BYTES else str(dtype)


def _read_columns(source: Source, unit: Unit, names: list[str]) -> pa.Table:
    try:
        with source.filesystem.open_input_file(unit.file) as file:
            reader = pq.ParquetFile(file, metadata=source.footers[unit.file])
            return reader.read_row_group(unit.row_group, columns=names, use_threads=False)
    except (pa.ArrowException, OSError, ValueError) as error:
        culprit = _culprit(source, unit, names)
        todo = f"{_line(error)}; write the file again" if not isinstance(error, FileNotFoundError) else _line(error)
        raise DataError("cannot read a row group", where(unit, culprit), todo) from None


def _culprit(source: Source, unit: Unit, names: list[str]) -> str | None:
    """The one column that cannot be read, when the others can."""
    if len(names) < 2:
        return None
    bad = []
    for name in names:
        try:
            _read_columns(source, unit, [name])
        except DataError:
            bad.append(name)
    return bad[0] if 0 < len(bad) < len(names) else None


def _line(error: BaseException) -> str:
    """The first line of `error`."""
    return str(error).strip().split("\n")[0]
