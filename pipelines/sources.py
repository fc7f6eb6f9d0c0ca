"""Files of any format as a source: which format they have, and who reads it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pipelines.damage import OnError, Skipped, readable
from pipelines.errors import DataError
from pipelines.files import DATA_ENDINGS, File, find
from pipelines.footers import cache_folder
from pipelines.layout import Layout, Request
from pipelines.parquet import ParquetSource
from pipelines.records import RECORDS, Records, records_of
from pipelines.shards import Unit
from pipelines.source import Source
from pipelines.tfrecord import TFRecordSource

Format = Literal["auto", "parquet", "tfrecord"]


@dataclass(frozen=True)
class Files:
    """Which files are read.

    Attributes:
        patterns: paths, directories or globs on any file system that pyarrow opens.
        format: `auto` goes by the names of the files, and is Parquet where they tell nothing.
        features: of the records in TFRecord files, as `pipelines.features.Features.from_dict` takes them; None infers
            them from some of the records.
        on_error: what to do about data that cannot be read, see `pipelines.damage`.
    """

    patterns: tuple[str, ...]
    format: Format = "auto"
    features: Mapping[str, Any] | None = None
    on_error: OnError = "raise"

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


def open_source(files: Files, request: Request) -> Opened:
    """The source of `files`, and the layout of `request` over it.

    Raises:
        DataError: nothing there, files of several formats, or what the format's source raises.
    """
    filesystem, found = find(files.patterns, DATA_ENDINGS)
    skipped = Skipped()
    tolerant = files.on_error != "raise"
    if _format(files, found) == "parquet":
        skip = skipped.files.__setitem__ if tolerant else None
        source = ParquetSource(filesystem, found, request, cache_folder(), skip)
        return Opened(source, source.layout, readable(source, files.on_error, skipped), skipped=skipped)
    named = [(file.path, file.size) for file in found]
    records = TFRecordSource(filesystem, named, on_error=skipped.add_file if tolerant else None)
    units = readable(records, files.on_error, skipped)
    return Opened(records, RECORDS, units, records_of(records, units, request, files.features), skipped)


def _format(files: Files, found: list[File]) -> Format:
    if files.format != "auto":
        return files.format
    named = {file.path: _named(file.path) for file in found}
    if len(set(named.values())) > 1:
        one, other = (next(path for path, form in named.items() if form == kind) for kind in ("parquet", "tfrecord"))
        raise DataError(
            "data files are of several formats", f"{one}, {other}", "give them a dataset each, or set format"
        )
    return next(iter(named.values()))


def _named(path: str) -> Format:
    """The format that the name of a file tells."""
    return "tfrecord" if ".tfrec" in path.rsplit("/", 1)[-1] else "parquet"
