"""Files of any format as a source: which format they have, and who reads it."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import pyarrow.fs as pafs

from pipelines.alike import is_void
from pipelines.apart import flattened
from pipelines.damage import OnError, Skipped, left, readable
from pipelines.errors import DataError, UnreachableDataError
from pipelines.examples import check
from pipelines.files import DATA_ENDINGS, PARQUET_ENDINGS, PART_ENDING, File, find
from pipelines.filters import condition_of
from pipelines.footers import read_footers
from pipelines.hive import in_names
from pipelines.kept import document
from pipelines.kept_indexes import read_indexes
from pipelines.layout import Layout, Request
from pipelines.parquet import ParquetSource
from pipelines.records import RECORDS, MatchingSource, Records, records_of
from pipelines.shards import Unit
from pipelines.source import Source
from pipelines.tfio import TensorflowIOSource, load
from pipelines.tfio_limits import refused
from pipelines.tfrecord import TFRecordSource

Format = Literal["auto", "parquet", "tfrecord"]
#: What decodes Parquet.
Engine = Literal["arrow", "tensorflow_io"]
_ENDINGS = {
    "auto": DATA_ENDINGS,
    "parquet": PARQUET_ENDINGS,
    "tfrecord": (*(ending for ending in DATA_ENDINGS if ending not in PARQUET_ENDINGS), PART_ENDING),
}
#: Files of very many, and records of each, that are looked at before a job starts.
_LOOKED_AT, _RECORDS = 8, 64


@dataclass(frozen=True)
class Files:
    """Which files are read.

    Attributes:
        patterns: paths, directories or globs on any file system that pyarrow opens.
        format: `auto` goes by the names of the files, and is Parquet where they tell nothing.
        features: of the records in TFRecord files, as `pipelines.features.Features.from_dict` takes them; None infers
            them from some of the records.
        on_error: what to do about data that cannot be read, see `pipelines.damage`.
        engine: what decodes Parquet: Arrow, or the operations of tensorflow-io, see `pipelines.tfio`.
    """

    patterns: tuple[str, ...]
    format: Format = "auto"
    features: Mapping[str, Any] | None = None
    on_error: OnError = "raise"
    engine: Engine = "arrow"

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Files:
        """The files that `dataclasses.asdict` has made plain."""
        return cls(**{**values, "patterns": tuple(values["patterns"])})


@dataclass(frozen=True)
class Opened:
    """Files that can be read.

    Attributes:
        source: reads them.
        layout: of the request over what the source reads.
        units: of the source, without those that are left out.
        records: what becomes of a batch of it, where the files hold records; else None.
        skipped: what the source does not read, because it cannot.
    """

    source: Source
    layout: Layout
    units: tuple[Unit, ...]
    records: Records | None = None
    skipped: Skipped = field(default_factory=Skipped)


def find_files(files: Files) -> tuple[pafs.FileSystem, list[File]]:
    """The file system and the files; in a directory, those whose names tell the format that was asked for.

    Raises:
        DataError: nothing there, or more than one file system.
    """
    return find(files.patterns, _ENDINGS[files.format])


@dataclass(frozen=True)
class Looked:
    """What can be told of files without reading them.

    Attributes:
        filesystem: where they are.
        files: all of them.
        opened: its units are those of all files, with all their rows, whatever the filters; or of a few of them. None
            where a few are not enough to tell.
        whole: whether they are those of all files.
    """

    filesystem: pafs.FileSystem
    files: list[File]
    opened: Opened | None
    whole: bool


def look_at(files: Files, request: Request, most: int) -> Looked:
    """What can be told without reading anything, and without TensorFlow, also where the engine is not installed.

    Args:
        files: which files.
        request: which columns.
        most: of more files only a few from all over them are looked at.

    Raises:
        DataError: as `open_source`, as far as that can be told.
    """
    filesystem, found = find_files(files)
    if len(found) <= most:
        return Looked(filesystem, found, _open(files, request, filesystem, found, to_read=False), whole=True)
    # What type a column of folders has depends on all of them.
    named = in_names(posixpath.dirname(found[0].below))
    request = replace(request, filters=tuple(one for one in request.filters if one[0] not in named))
    some = found[:: -(-len(found) // _LOOKED_AT)]  # those of which the features of records are inferred
    try:
        opened = _open(files, request, filesystem, some, to_read=False, keep=False)
    except UnreachableDataError:
        raise
    except DataError:
        if not _speak_for_all(files, filesystem, some):
            return Looked(filesystem, found, None, whole=False)
        raise
    return Looked(filesystem, found, opened, whole=False)


def _speak_for_all(files: Files, filesystem: pafs.FileSystem, some: list[File]) -> bool:
    """Whether what is wrong with some of the files is so with all of them together.

    A column without any value in these may have values, and so a type, in others; and which files are left out for
    their columns depends on most of them.
    """
    tolerant = files.on_error != "raise"
    if _format(files, some) != "parquet":
        return not tolerant
    bad: dict[str, DataError] = {}
    footers = read_footers(filesystem, some, None, bad.__setitem__ if tolerant else None)
    alike = not bad and len(set(footers.kinds.tolist())) == 1
    typed = not any(is_void(leaf.type) for schema in footers.schemas for leaf in flattened(schema))
    return typed and (alike or not tolerant)


def check_records(opened: Opened) -> None:
    """Compare the first records of up to eight files with the features that they are to have.

    Raises:
        DataError: one does not match; with file, record and feature.
    """
    assert opened.records is not None
    first = [*{unit.file: unit for unit in reversed(opened.units)}.values()][::-1]
    for unit in first[:: -(-len(first) // _LOOKED_AT)]:
        records = opened.source.read(unit)["record"].slice(0, _RECORDS).to_pylist()
        check(opened.records.features, records, unit.file)


def open_source(files: Files, request: Request, *, to_read: bool = True) -> Opened:
    """The source of `files`, and the layout of `request` over it.

    Args:
        files: which files.
        request: which columns.
        to_read: False only looks at them, see `look_at`.

    Raises:
        DataError: nothing there, files of several formats, what the format's source raises, or an engine that is not
            there.
    """
    filesystem, found = find_files(files)
    return _open(files, request, filesystem, found, to_read=to_read)


def _open(
    files: Files,
    request: Request,
    filesystem: pafs.FileSystem,
    found: list[File],
    *,
    to_read: bool,
    keep: bool = True,
) -> Opened:
    form = _format(files, found)
    if files.engine == "tensorflow_io":
        _check_tensorflow_io(files, form)
        if to_read:
            load()
    kept = document("footers" if form == "parquet" else "indexes", files.patterns) if keep else None
    if form == "parquet":
        return _open_parquet(files, request, filesystem, found, kept, to_read=to_read)
    return _open_records(files, request, filesystem, found, kept, to_read=to_read)


def _open_parquet(
    files: Files,
    request: Request,
    filesystem: pafs.FileSystem,
    found: list[File],
    kept: Path | None,
    *,
    to_read: bool,
) -> Opened:
    skipped = Skipped()
    if files.engine == "tensorflow_io":
        asked = request if to_read else replace(request, filters=())  # counting takes the engine
        source: ParquetSource = TensorflowIOSource(filesystem, found, asked, kept)
        if asked != request:
            condition_of(request.filters, source.schema, found[0].path)
    else:
        skip_file = None if files.on_error == "raise" else skipped.files.__setitem__
        source = ParquetSource(filesystem, found, request, kept, skip_file, count=to_read)
    units = readable(source, files.on_error, skipped) if to_read else source.units
    return Opened(source, source.layout, units, skipped=skipped)


def _open_records(
    files: Files,
    request: Request,
    filesystem: pafs.FileSystem,
    found: list[File],
    kept: Path | None,
    *,
    to_read: bool,
) -> Opened:
    skipped = Skipped()
    skip_file = None if files.on_error == "raise" else skipped.add_file
    indexes = read_indexes(filesystem, found, kept, skip_file)
    source = TFRecordSource(filesystem, indexes, indexes=indexes)
    units = readable(source, files.on_error, skipped) if to_read else left(source.units, skipped)
    records = records_of(source, units, request, files.features)
    if to_read:
        units = readable(MatchingSource(source, units, records.features), files.on_error, skipped)
    return Opened(source, RECORDS, units, records, skipped)


def _check_tensorflow_io(files: Files, form: Format) -> None:
    described = files.features is not None
    for limit in refused(files.patterns, form, features=described, on_error=files.on_error):
        raise DataError(f"engine tensorflow_io {limit}", files.patterns[0], "use engine: arrow")


def _format(files: Files, found: list[File]) -> Format:
    if files.format != "auto":
        return files.format
    named = [_named(file.path) for file in found]
    if len(set(named)) > 1:
        one, other = (found[named.index(kind)].path for kind in ("parquet", "tfrecord"))
        todo = "give them a dataset each; or name the directory, and set format"
        raise DataError("data files are of several formats", f"{one}, {other}", todo)
    return named[0]


def _named(path: str) -> Format:
    """The format that the name of a file tells."""
    return "tfrecord" if ".tfrec" in path and ".tfrec" in path.rsplit("/", 1)[-1] else "parquet"
