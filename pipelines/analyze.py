"""One full pass over the rows of files: statistics and vocabularies of every column, as a document for transforms."""

from __future__ import annotations

import json
import posixpath
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa

from pipelines.errors import DataError
from pipelines.files import first_line
from pipelines.inputs import Input, Options, intervals, read
from pipelines.open_input import open_input
from pipelines.staging import place
from pipelines.summary import LONGEST_VALUE, Summaries, merge, summarize
from pipelines.vocabulary import VALUES

VERSION = 1
#: Bytes of files that one task looks at, about, and tasks at most: each has a result that is held until it is merged.
_PART_BYTES, _MOST_PARTS = 64 << 20, 1024


@dataclass(frozen=True)
class Part:
    """What is known of some of the rows."""

    rows: int = 0
    columns: Summaries | None = None

    def merge(self, other: Part) -> Part:
        """Of the rows of both."""
        return Part(self.rows + other.rows, merge(self.columns or {}, other.columns or {}))


class Reduce(Protocol):
    """Calls a function for each item, somewhere, and merges the results: `pipelines.ray_tasks.reduce`."""

    def __call__(
        self,
        function: Callable[[Any, Any], Any],
        shared: Any,
        items: Sequence[Any],
        merge: Callable[[Any, Any], Any],
        *,
        done: Callable[[], None],
    ) -> Any:
        """See there."""


@dataclass(frozen=True)
class _Pass:
    """What a task needs."""

    input: Input
    vocabulary: bool


def analyze(
    files: Sequence[str],
    options: Options,
    reduce: Reduce,
    *,
    words: int = 10_000,
    progress: Callable[[int, int], None] = lambda done, parts: None,
) -> dict[str, Any]:
    """The document of `analysis.json`: see docs/data.md.

    The same files give the same document, on whatever cluster.

    Args:
        files: see `pipelines.open_input`.
        options: how to read.
        reduce: how to call a function for many items and merge what it gives.
        words: values of each vocabulary that come into the document, the most frequent ones; 0 counts none.
        progress: told how many of how many parts are done.

    Raises:
        DataError: the files cannot be read.
    """
    source = open_input(files, options)
    size = sum(file.size for file in source.files)
    parts = intervals(source, max(1, min(_MOST_PARTS, -(-size // _PART_BYTES))))
    count = iter(range(1, len(parts) + 1))
    progress(0, len(parts))
    whole: Part = reduce(
        analyze_part,
        _Pass(source, words > 0),
        parts,
        Part.merge,
        done=lambda: progress(next(count), len(parts)),
    )
    return document(source, whole, words)


def analyze_part(job: _Pass, interval: tuple[int, int]) -> Part:
    """Of the rows in one interval; runs in a Ray task."""
    found = Part(0, summarize(job.input.schema.empty_table(), vocabulary=job.vocabulary))
    for batch in read(job.input, *interval):
        found = found.merge(Part(batch.num_rows, summarize(batch, vocabulary=job.vocabulary)))
    return found


def document(source: Input, whole: Part, words: int) -> dict[str, Any]:
    """What is written to `analysis.json`, in plain values."""
    return {
        "made_by": "ray-tfcluster",
        "version": VERSION,
        "format": source.format,
        "files": len(source.files),
        "bytes": sum(file.size for file in source.files),
        "rows": whole.rows,
        "limits": {"vocabulary_values": VALUES, "vocabulary_value_bytes": LONGEST_VALUE},
        "columns": {path: summary.to_document(words) for path, summary in (whole.columns or {}).items()},
    }


def save(found: dict[str, Any], uri: str) -> None:
    """Write a document, whole or not at all.

    Raises:
        DataError: it cannot be written.
    """
    filesystem, path = place(uri)
    hidden = posixpath.join(posixpath.dirname(path), f".{posixpath.basename(path)}.{uuid.uuid4().hex[:8]}")
    try:
        filesystem.create_dir(posixpath.dirname(path), recursive=True)
        with filesystem.open_output_stream(hidden) as stream:
            stream.write(json.dumps(found, indent=1, allow_nan=False, ensure_ascii=False).encode())
        filesystem.move(hidden, path)
    except (pa.ArrowException, OSError) as error:
        with suppress(OSError):
            filesystem.delete_file(hidden)
        raise DataError("cannot write the analysis", uri, first_line(error)) from None


def load(uri: str) -> dict[str, Any]:
    """The document that `save` wrote.

    Raises:
        DataError: it is not there, or is something else.
    """
    filesystem, path = place(uri)
    try:
        with filesystem.open_input_stream(path) as stream:
            found = json.loads(stream.read())
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError("cannot read the analysis", uri, first_line(error)) from None
    if not isinstance(found, dict) or found.get("made_by") != "ray-tfcluster" or found.get("version") != VERSION:
        raise DataError("this is no analysis of this version", uri, "make it anew with: tfcluster data analyze")
    return found
