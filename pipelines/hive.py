"""Columns in the names of folders, as hive writes them: `year=2013/month=1/part.parquet`."""

from __future__ import annotations

import posixpath
from collections.abc import Collection, Mapping, Sequence
from urllib.parse import unquote

import pyarrow as pa

from pipelines.errors import DataError
from pipelines.files import File

#: How a folder names a null.
NULL = "__HIVE_DEFAULT_PARTITION__"
#: A file's value of each column.
Values = Mapping[str, pa.Scalar]


def folder_columns(files: Sequence[File], stored: Collection[str] = ()) -> tuple[pa.Schema, list[Values]]:
    """The columns that the folders of `files` name, but for those `stored` in the files, and the values of each file.

    A column is int64 where all its values are whole numbers, else string.

    Raises:
        DataError: folders of some files name other columns than those of the first.
    """
    if not any("=" in file.below for file in files):
        return pa.schema([]), [{}] * len(files)
    folders = [posixpath.dirname(file.below) for file in files]
    texts = {folder: in_names(folder) for folder in dict.fromkeys(folders)}
    first = texts[folders[0]]
    for file, folder in zip(files, folders, strict=True):
        if texts[folder].keys() != first.keys():
            raise DataError(
                "files lie in folders that name different columns",
                f"{file.path} has {_named(texts[folder])}, {files[0].path} has {_named(first)}",
                "give folders of one kind, such as …/year=2013/month=1",
            )
    names = [name for name in first if name not in stored]
    schema = pa.schema([(name, _type({found[name] for found in texts.values()})) for name in names])
    values = {
        folder: {field.name: pa.scalar(found[field.name], pa.string()).cast(field.type) for field in schema}
        for folder, found in texts.items()
    }
    return schema, [values[folder] for folder in folders]


def in_names(folder: str) -> dict[str, str | None]:
    """The columns in a path of folders, and their values as they are written there."""
    found: dict[str, str | None] = {}
    for name, mark, value in (part.partition("=") for part in folder.split("/")):
        if mark and name:
            found[unquote(name)] = None if value == NULL else unquote(value)
    return found


def _named(columns: Collection[str]) -> str:
    return ", ".join(columns) or "none"


def _type(texts: Collection[str | None]) -> pa.DataType:
    filled = [text for text in texts if text is not None]
    whole = all(text.isascii() and text.removeprefix("-").isdecimal() and len(text) < 19 for text in filled)
    return pa.int64() if whole and filled else pa.string()
