"""Files of any format as a source: which format they have, and who reads it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipelines.files import DATA_ENDINGS, find
from pipelines.footers import cache_folder
from pipelines.layout import Layout, Request
from pipelines.parquet import ParquetSource
from pipelines.source import Source


@dataclass(frozen=True)
class Files:
    """Which files are read.

    Attributes:
        patterns: paths, directories or globs on any file system that pyarrow opens.
    """

    patterns: tuple[str, ...]

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Files:
        """The files that `dataclasses.asdict` has made plain."""
        return cls(tuple(values["patterns"]))


def open_source(files: Files, request: Request) -> tuple[Source, Layout]:
    """The source of `files`, and the layout of `request` over it.

    Raises:
        DataError: nothing there, files of several formats, or what the format's source raises.
    """
    filesystem, found = find(files.patterns, DATA_ENDINGS)
    source = ParquetSource(filesystem, found, request, cache_folder())
    return source, source.layout
