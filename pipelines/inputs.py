"""`Input`: the rows of files in any of the formats, as one long line that can be cut anywhere and read in parallel."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol, get_args

import pyarrow as pa
import pyarrow.fs as pafs

from pipelines.errors import DataError
from pipelines.files import File

Format = Literal["parquet", "csv", "tfrecord"]
FORMATS: tuple[Format, ...] = get_args(Format)
#: Bytes in memory of one batch of rows, about; and its rows at most.
BATCH_BYTES, BATCH_ROWS = 32 << 20, 65_536


class Segment(NamedTuple):
    """A part of one file: `start` to `stop` (exclusive), counted as its input counts."""

    path: str
    start: int
    stop: int


class Input(Protocol):
    """Files of one format and one schema; can be pickled."""

    @property
    def format(self) -> Format:
        """Of all files."""

    @property
    def filesystem(self) -> pafs.FileSystem:
        """Where the files are."""

    @property
    def files(self) -> tuple[File, ...]:
        """In the order of their rows."""

    @property
    def schema(self) -> pa.Schema:
        """Of what `read` gives."""

    @property
    def rows(self) -> int | None:
        """Of all files, where that is known without reading them."""

    @property
    def lengths(self) -> tuple[int, ...]:
        """Of each file, in rows where they can be counted beforehand, otherwise in bytes."""

    def marks(self, index: int) -> Sequence[int]:
        """Where the file of that index is best cut: increasing, from 0 to its length."""

    def can_cut(self, index: int) -> bool:
        """Whether the file of that index can be read from anywhere within it."""

    def read(self, segment: Segment) -> Iterator[pa.RecordBatch]:
        """The rows that begin in `segment`, in order, in batches of about `BATCH_BYTES`.

        Raises:
            DataError: with file, row group or line, and column.
        """


@dataclass(frozen=True)
class Options:
    """How to read files that do not say it themselves.

    Attributes:
        columns: the columns to read, in this order; None reads all.
        types: Arrow types by column, which are inferred otherwise; CSV only.
        delimiter: between two values of a line; CSV only.
        nulls: unquoted values that stand for a null; CSV only.
        newlines: whether quoted values may hold line ends; such files are not split. CSV only.
    """

    columns: tuple[str, ...] | None = None
    types: tuple[tuple[str, str], ...] = ()
    delimiter: str = ","
    nulls: tuple[str, ...] = ("", "NA")
    newlines: bool = False


def segments(input_: Input, start: int, stop: int) -> Iterator[Segment]:
    """The parts of files between `start` and `stop` of all files laid end to end."""
    end = 0
    for file, length in zip(input_.files, input_.lengths, strict=True):
        begin, end = end, end + length
        if begin < stop and start < end:
            yield Segment(file.path, max(start, begin) - begin, min(stop, end) - begin)


def read(input_: Input, start: int, stop: int) -> Iterator[pa.RecordBatch]:
    """The rows that begin between `start` and `stop` of all files laid end to end."""
    for segment in segments(input_, start, stop):
        yield from input_.read(segment)


def intervals(input_: Input, parts: int, reach: float = 1.0) -> list[tuple[int, int]]:
    """At most `parts` intervals of about one length over all files, cut where cutting costs little.

    Args:
        input_: the files.
        parts: how many intervals there should be.
        reach: how far a cut may move to a better place, as a fraction of an interval; files that cannot be cut within
            are not.
    """
    total = sum(input_.lengths)
    if not total:
        return [(0, 0)]
    ends = list(itertools.accumulate(input_.lengths, initial=0))
    marks = sorted({end + mark for i, end in enumerate(ends[:-1]) for mark in input_.marks(i)} | {0, total})
    cuts = {0, total}
    for part in range(1, parts):
        wanted = total * part // parts
        right = bisect.bisect_left(marks, wanted)
        best = min(marks[max(0, right - 1) : right + 1], key=lambda mark: abs(mark - wanted))
        free = input_.can_cut(bisect.bisect_right(ends, wanted) - 1)
        cuts.add(wanted if free and abs(best - wanted) > reach * total / parts else best)
    return list(zip(sorted(cuts), sorted(cuts)[1:], strict=False))


def vanished(path: str) -> DataError:
    """A file was there when the work was planned, and is not seen now."""
    todo = "run the command again; on several machines, use storage that all of them see"
    return DataError("a data file has vanished", path, todo)


def check_columns(names: Sequence[str], asked: Sequence[str], seen: str) -> None:
    """Each of `asked` is exactly one of `names`.

    Raises:
        DataError: one is not.
    """
    import difflib

    for name in asked:
        count = list(names).count(name)
        if count != 1:
            near = difflib.get_close_matches(name, names, n=1)
            todo = f"did you mean {near[0]}?" if near else f"its columns are {', '.join(names[:20])}"
            raise DataError(f"there is {'no' if not count else 'more than one'} column {name}", seen, todo)
