"""Files of any format as a source: which format they have, and who reads it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import pyarrow.fs as pafs

from pipelines.damage import OnError, Skipped, readable
from pipelines.errors import DataError
from pipelines.files import DATA_ENDINGS, PARQUET_ENDINGS, PART_ENDING, File, find
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


def open_source(files: Files, request: Request, *, to_read: bool = True) -> Opened:
    """The source of `files`, and the layout of `request` over it.

    Args:
        files: which files.
        request: which columns.
        to_read: False only looks at them, also where the engine that is to read them is not installed.

    Raises:
        DataError: nothing there, files of several formats, what the format's source raises, or an engine that is not
            there.
    """
    filesystem, found = find_files(files)
    form = _format(files, found)
    if files.engine == "tensorflow_io":
        _check_tensorflow_io(files, form)
        if to_read:
            load()
    return (_open_parquet if form == "parquet" else _open_records)(files, request, filesystem, found)


def _open_parquet(files: Files, request: Request, filesystem: pafs.FileSystem, found: list[File]) -> Opened:
    kept, skipped = document("footers", files.patterns), Skipped()
    if files.engine == "tensorflow_io":
        source: ParquetSource = TensorflowIOSource(filesystem, found, request, kept)
    else:
        skip_file = None if files.on_error == "raise" else skipped.files.__setitem__
        source = ParquetSource(filesystem, found, request, kept, skip_file)
    return Opened(source, source.layout, readable(source, files.on_error, skipped), skipped=skipped)


def _open_records(files: Files, request: Request, filesystem: pafs.FileSystem, found: list[File]) -> Opened:
    skipped = Skipped()
    skip_file = None if files.on_error == "raise" else skipped.add_file
    indexes = read_indexes(filesystem, found, document("indexes", files.patterns), skip_file)
    source = TFRecordSource(filesystem, indexes, indexes=indexes)
    units = readable(source, files.on_error, skipped)
    records = records_of(source, units, request, files.features)
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
