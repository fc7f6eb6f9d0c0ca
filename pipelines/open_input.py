"""Files of any of the formats as an `Input`, by the endings of their names."""

from __future__ import annotations

import os
from collections.abc import Sequence

from pipelines import files as finding
from pipelines.errors import DataError
from pipelines.input_csv import open_csv
from pipelines.input_parquet import open_parquet
from pipelines.input_sequences import open_sequences
from pipelines.input_tfrecord import SequenceExamplesError, open_tfrecord, source_of
from pipelines.inputs import Format, Input, Options

CSV_ENDINGS = (".csv", ".csv.gz", ".csv.bz2", ".csv.zst")


def open_input(files: str | Sequence[str], options: Options | None = None, *, sequences: bool = False) -> Input:
    """The rows of `files`: Parquet, CSV or TFRecord, by the endings of their names.

    Args:
        files: paths, folders or globs.
        options: how to read.
        sequences: whether SequenceExamples in TFRecord will do, of which reading takes its time.

    Raises:
        DataError: nothing there, more than one format, or files that are not of one schema.
    """
    options = options or Options()
    # Tasks on Ray have another working directory.
    patterns = [files] if isinstance(files, str) else files
    patterns = [name if "://" in name else os.path.abspath(os.path.expanduser(name)) for name in patterns]
    filesystem, found = finding.find(patterns, (*finding.DATA_ENDINGS, *CSV_ENDINGS))
    of_format: dict[Format, str] = {}
    for file in found:
        of_format.setdefault(format_of(file.path), file.path)
    if len(of_format) > 1:
        raise DataError("the files are of more than one format", ", ".join(of_format.values()), "name one kind of file")
    kind = next(iter(of_format))
    if kind == "parquet":
        return open_parquet(filesystem, tuple(found), options)
    if kind == "csv":
        return open_csv(filesystem, tuple(found), options)
    source = source_of(filesystem, found)
    try:
        return open_tfrecord(filesystem, tuple(found), options, source)
    except SequenceExamplesError:
        if not sequences:
            raise
        return open_sequences(filesystem, tuple(found), options, source)


def format_of(path: str) -> Format:
    """By the ending of the name.

    Raises:
        DataError: the ending is none that we know.
    """
    if finding.has_ending(path, finding.PARQUET_ENDINGS):
        return "parquet"
    if finding.has_ending(path, CSV_ENDINGS):
        return "csv"
    if finding.has_ending(path, finding.DATA_ENDINGS):
        return "tfrecord"
    todo = f"names must end in {' '.join((*finding.DATA_ENDINGS[:3], *CSV_ENDINGS))}"
    raise DataError("the format of a file is not known", path, todo)
