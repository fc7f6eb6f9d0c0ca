"""What files hold, without reading them: schema, sizes, nulls, whether they share out well, and a few rows."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, NamedTuple

import pyarrow as pa

from pipelines.apart import leaves, stored
from pipelines.errors import DataError
from pipelines.footers import read_footer
from pipelines.input_csv import CsvInput, estimated_rows
from pipelines.input_sequences import SequenceInput
from pipelines.input_tfrecord import TFRecordInput
from pipelines.inputs import Input, Options, read
from pipelines.open_input import open_input
from pipelines.schema import describe, kind_of
from pipelines.shards import Sharding, batch_count
from pipelines.storage import tfrecord_schema

#: Rows that are shown.
SAMPLE_ROWS = 5
#: Column chunks whose statistics are looked at, at most: 10,000 files of 1,000 columns would take minutes.
_MOST_CHUNKS = 200_000
_THREADS = 16
#: What is a good row group, and what is too large, in rows and in bytes before compression.
GOOD_ROWS = 65_536
_LARGE_ROWS, _LARGE_BYTES = 1 << 20, 512 << 20
#: What is too small, where there are many.
_SMALL_ROWS, _SMALL_BYTES, _MANY = 1000, 1 << 20, 100
#: The largest file or row group in proportion to the middle one, from where it is worth a word.
_SKEW = 4.0
#: What is a large compressed TFRecord file, and how many for each worker are few.
_LARGE_PACKED, _FEW = 64 << 20, 2


class Spread(NamedTuple):
    """The least, the middle and the greatest of some numbers."""

    least: int
    middle: int
    greatest: int


def spread(numbers: Sequence[int]) -> Spread:
    """Of `numbers`; zeros where there are none."""
    if not numbers:
        return Spread(0, 0, 0)
    return Spread(min(numbers), int(statistics.median_low(numbers)), max(numbers))


class Finding(NamedTuple):
    """One thing worth knowing, in the words of an error."""

    level: Literal["error", "warning", "note"]
    happened: str
    seen: str = ""
    todo: str = ""

    def __str__(self) -> str:
        return " · ".join(part for part in (self.happened, self.seen, self.todo) if part)


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes:
        name: fields of structs have dotted names.
        type: its Arrow type.
        tensorflow: what TensorFlow gets, such as `float32` or `ragged int64`; '' where it can get nothing.
        problem: why it cannot.
        part: of a SequenceExample: `context` or `sequence`; '' elsewhere.
        nulls: as the statistics count them; None where they do not say.
        bytes: on disk; None where it is not known.
        raw_bytes: before compression, likewise.
    """

    name: str
    type: str
    tensorflow: str
    problem: str = ""
    part: str = ""
    nulls: int | None = None
    bytes: int | None = None
    raw_bytes: int | None = None


@dataclass(frozen=True)
class Shares:
    """How the rows are shared out over workers.

    Attributes:
        workers: how many.
        batch: rows of one worker's batch.
        batches: of each worker in an epoch; 0 where there are too few rows.
        rows: of each worker, to within one.
        steps_short: rows by which the last batches of all workers fall short of full ones.
    """

    workers: int
    batch: int
    batches: int
    rows: int
    steps_short: int


@dataclass(frozen=True)
class Report:
    """All that is known of some files.

    Attributes:
        format: of the files.
        files: how many.
        file_bytes: their sizes.
        bytes: of all files.
        raw_bytes: before compression; None where it is not known.
        rows: of all files; estimated for CSV.
        rows_estimated: whether they are.
        groups: number of row groups, or of runs of records that are read at once; None for CSV.
        group_rows: rows of these.
        group_bytes: bytes of these before compression; zeros where they are not known.
        codecs: how the files are compressed.
        columns: in their order.
        nulls_known: whether all statistics were looked at.
        shares: how the rows are shared out.
        sample: the first rows, as text.
        findings: the worst first.
        next: the next useful command, '' where there is none, or the files must be repaired first.
    """

    format: str
    files: int
    file_bytes: Spread
    bytes: int
    raw_bytes: int | None
    rows: int
    rows_estimated: bool
    groups: int | None
    group_rows: Spread
    group_bytes: Spread
    codecs: tuple[str, ...]
    columns: tuple[Column, ...]
    nulls_known: bool
    shares: Shares
    sample: tuple[dict[str, Any], ...] = ()
    findings: tuple[Finding, ...] = ()
    next: str = ""

    @property
    def sequences(self) -> bool:
        """Whether they are SequenceExamples, which `convert` and `analyze` do not take."""
        return any(column.part for column in self.columns)

    def to_document(self) -> dict[str, Any]:
        """Plain values for JSON."""
        named = {"file_bytes": self.file_bytes, "group_rows": self.group_rows, "group_bytes": self.group_bytes}
        document = {**asdict(self), **{name: value._asdict() for name, value in named.items()}}
        return {**document, "findings": [finding._asdict() for finding in self.findings]}


@dataclass
class _Facts:
    """What the footers or indexes say."""

    raw_bytes: int | None = None
    group_rows: list[int] = field(default_factory=list)
    group_bytes: list[int] = field(default_factory=list)
    codecs: set[str] = field(default_factory=set)
    columns: dict[str, list[int | None]] = field(default_factory=dict)
    complete: bool = True


def inspect(files: Sequence[str], options: Options, *, workers: int = 1, batch: int = 1024) -> Report:
    """Look at `files`; of Parquet nothing is read but footers and the first rows.

    Args:
        files: see `pipelines.open_input`.
        options: how to read.
        workers: that the rows are to be shared out over.
        batch: rows of one worker's batch.

    Raises:
        DataError: the files cannot be read, or are not of one schema.
    """
    source = open_input(files, options, sequences=True)
    facts = _facts_of(source)
    rows = estimated_rows(source) if isinstance(source, CsvInput) else source.rows or 0
    sizes = [file.size for file in source.files]
    report = Report(
        format=source.format,
        files=len(sizes),
        file_bytes=spread(sizes),
        bytes=sum(sizes),
        raw_bytes=facts.raw_bytes,
        rows=rows,
        rows_estimated=source.rows is None,
        groups=None if source.format == "csv" else len(facts.group_rows),
        group_rows=spread(facts.group_rows),
        group_bytes=spread(facts.group_bytes),
        codecs=tuple(sorted(facts.codecs)),
        columns=tuple(_columns(source, facts)),
        nulls_known=facts.complete,
        shares=_shares(rows, workers, batch),
        sample=_sample(source),
    )
    return _with_findings(report, files)


def _with_findings(report: Report, files: Sequence[str]) -> Report:
    found = sorted(findings_of(report), key=lambda finding: ("error", "warning", "note").index(finding.level))
    named = " ".join(files)
    rewrite = any("data convert" in finding.todo for finding in found)
    if report.sequences or any(finding.level == "error" for finding in found):
        after = ""
    elif rewrite:
        after = f"tfcluster data convert {named} NEW_FOLDER --to parquet"
    else:
        after = f"tfcluster data analyze {named}"
    return Report(**{**vars(report), "findings": tuple(found), "next": after})


def findings_of(report: Report) -> Iterator[Finding]:
    """What a person should know of a report before training on the files."""
    if not report.rows:
        yield Finding("error", "there are no rows", _files(report), "name other files")
        return
    shares = report.shares
    if not shares.batches:
        seen = f"{report.rows} rows, {shares.workers} workers"
        yield Finding("error", "there are fewer rows than workers", seen, "use fewer workers")
    yield from _column_findings(report)
    if report.sequences:
        what = "these are SequenceExamples: ctx.dataset reads them, convert and analyze do not"
        yield Finding("note", what, _files(report), "say what they hold with features: {context: …, sequence: …}")
    if report.format == "csv":
        todo = "make Parquet of it: tfcluster data convert FILES FOLDER --to parquet"
        yield Finding("warning", "ctx.dataset does not read CSV", _files(report), todo)
        return
    yield from _size_findings(report)
    if report.groups is not None and shares.batches and report.groups < shares.workers:
        what = f"there are fewer {_groups_name(report)} than workers, so several workers read each"
        todo = f"write row groups of {GOOD_ROWS:,} rows or fewer"
        yield Finding("note", what, f"{report.groups} for {shares.workers} workers", todo)


def _files(report: Report) -> str:
    return "1 file" if report.files == 1 else f"{report.files:,} files"


def _groups_name(report: Report) -> str:
    return "row groups" if report.format == "parquet" else "runs of records"


def _column_findings(report: Report) -> Iterator[Finding]:
    closed = [column for column in report.columns if column.problem]
    for column in closed[:5]:
        yield Finding("warning", column.problem, f"{column.name}, {column.type}", "leave it out with columns")
    if len(closed) > 5:
        yield Finding("warning", f"{len(closed) - 5} more columns have such a type", closed[5].name, "")
    nulls = [column for column in report.columns if column.nulls]
    if nulls:
        names = ", ".join(f"{column.name} {column.nulls:,}" for column in nulls[:5])
        more = f" and {len(nulls) - 5} more" if len(nulls) > 5 else ""
        todo = f"a tensor has none: give them a value with fill: {{{nulls[0].name}: …}}, or leave them out with columns"
        yield Finding("note", "columns hold nulls", names + more, todo)
    if report.format == "parquet" and not report.nulls_known:
        yield Finding(
            "note", "nulls are not known of all columns", "the statistics do not say, or there are too many", ""
        )


def _size_findings(report: Report) -> Iterator[Finding]:
    rewrite = "write row groups of 65,536 rows: tfcluster data convert FILES FOLDER --to parquet"
    largest = max(report.group_rows.greatest, 0)
    if report.format == "parquet" and (largest > _LARGE_ROWS or report.group_bytes.greatest > _LARGE_BYTES):
        count = "1 row group" if report.groups == 1 else f"{report.groups} row groups, the largest"
        seen = f"{count} of {largest:,} rows, {_mib(report.group_bytes.greatest)} before compression"
        yield Finding(
            "warning", "a row group is read whole, and held in memory by each worker that reads of it", seen, rewrite
        )
    if (
        report.groups
        and report.groups > _MANY
        and report.group_rows.middle < _SMALL_ROWS
        and report.format == "parquet"
    ):
        seen = f"{report.groups:,} row groups, the middle one of {report.group_rows.middle:,} rows"
        yield Finding("warning", "row groups are small, and each costs a request", seen, rewrite)
    elif report.files > _MANY and report.file_bytes.middle < _SMALL_BYTES:
        seen = f"{report.files:,} files, the middle one of {_mib(report.file_bytes.middle)}"
        todo = _by_convert(report, "make fewer, larger files", "parquet")
        yield Finding("warning", "files are small, and each costs several requests", seen, todo)
    if report.group_bytes.greatest > _SKEW * max(1, report.group_bytes.middle) and (report.groups or 0) > 2:
        seen = f"the largest {_mib(report.group_bytes.greatest)}, the middle one {_mib(report.group_bytes.middle)}"
        what = f"{_groups_name(report)} differ in size; memory follows the largest"
        yield Finding("note", what, seen, "rows are shared out evenly all the same")
    if report.format == "tfrecord" and report.codecs and report.file_bytes.greatest > _LARGE_PACKED:
        yield _packed_finding(report)


def _packed_finding(report: Report) -> Finding:
    """Of large compressed TFRecord files."""
    todo = _by_convert(report, "leave them uncompressed", "tfrecord")
    workers, largest = report.shares.workers, _mib(report.file_bytes.greatest)
    if workers > 1 and report.files < _FEW * workers:
        what = "few compressed files are shared out, and each worker unpacks what lies before its rows"
        return Finding("warning", what, f"{_files(report)} of up to {largest} for {workers} workers", todo)
    what = "a compressed TFRecord file can only be read from its start, also to go on within it"
    return Finding("note", what, f"the largest file has {largest}", todo)


def _by_convert(report: Report, todo: str, to: str) -> str:
    return todo if report.sequences else f"{todo}: tfcluster data convert FILES FOLDER --to {to}"


def _mib(size: float) -> str:
    return f"{size / (1 << 20):,.1f} MiB"


def _shares(rows: int, workers: int, batch: int) -> Shares:
    try:
        batches = batch_count(rows, Sharding(workers, batch))
    except DataError:
        return Shares(workers, batch, 0, rows // workers, 0)
    return Shares(workers, batch, batches, rows // workers, max(0, batches * batch * workers - rows))


def _columns(source: Input, facts: _Facts) -> Iterator[Column]:
    for field_ in source.schema:
        for leaf in leaves(field_):
            tensorflow, problem = "", ""
            try:
                as_examples = source.format == "tfrecord" and not isinstance(source, SequenceInput)
                kept = tfrecord_schema(pa.schema([leaf]), "").field(0) if as_examples else leaf
                tensorflow = describe(kind_of(kept.type, leaf.name, source.files[0].path))
            except DataError as error:
                problem = error.happened
            nulls, size, raw = facts.columns.get(leaf.name, [None, None, None])
            part = source.part_of(leaf.name) if isinstance(source, SequenceInput) else ""
            yield Column(leaf.name, str(leaf.type), tensorflow, problem, part, nulls, size, raw)


def _facts_of(source: Input) -> _Facts:
    if isinstance(source, TFRecordInput):
        kinds = {index.compression for index in source.indexes} - {None}
        rows = [count for index in source.indexes for count in index.rows]
        starts = [index.starts for index in source.indexes]
        sizes = [b - a for places in starts for a, b in itertools.pairwise(places)]
        return _Facts(sum(sizes), rows, sizes, {str(kind) for kind in kinds})
    return _footer_facts(source) if source.format == "parquet" else _Facts()


def _footer_facts(source: Input) -> _Facts:
    facts = _Facts(0)
    chunks = 0
    with ThreadPoolExecutor(_THREADS) as pool:
        for footer in pool.map(lambda file: read_footer(source.filesystem, file.path), source.files):
            places = {} if chunks > _MOST_CHUNKS else stored(footer.schema.to_arrow_schema())
            names = [name for name, place in places.items() for _ in place]
            for index in range(footer.num_row_groups):
                group = footer.row_group(index)
                facts.group_rows.append(group.num_rows)
                facts.group_bytes.append(group.total_byte_size)
                facts.raw_bytes = (facts.raw_bytes or 0) + group.total_byte_size
                chunks += group.num_columns
                if chunks <= _MOST_CHUNKS:
                    _add_chunks(facts, group, names)
                else:
                    facts.complete = False
    if not facts.complete:
        facts.columns.clear()
    facts.complete = facts.complete and all(nulls is not None for nulls, _, _ in facts.columns.values())
    return facts


def _add_chunks(facts: _Facts, group: Any, names: Sequence[str]) -> None:
    """The nulls and sizes of the columns of one row group, and of which column each of them is."""
    for number, name in enumerate(names):
        chunk = group.column(number)
        path = chunk.path_in_schema
        facts.codecs.add(chunk.compression.lower())
        counts = chunk.statistics
        nulls = counts.null_count if counts is not None and counts.has_null_count and name == path else None
        known = facts.columns.setdefault(name, [0, 0, 0])
        known[0] = None if nulls is None or known[0] is None else known[0] + nulls
        known[1] = (known[1] or 0) + chunk.total_compressed_size
        known[2] = (known[2] or 0) + chunk.total_uncompressed_size


def _sample(source: Input) -> tuple[dict[str, Any], ...]:
    stop = SAMPLE_ROWS if source.rows is not None else min(sum(source.lengths), 1 << 18)
    table = pa.Table.from_batches(itertools.islice(read(source, 0, stop), 1), schema=source.schema)
    return tuple(
        {name: _short(value) for name, value in row.items()} for row in table.slice(0, SAMPLE_ROWS).to_pylist()
    )


def _short(value: Any, most: int = 60) -> Any:
    """`value` as JSON and a table can show it."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, bytes):
        return f"{len(value)} bytes" if len(value) > most // 2 else str(value)[2:-1]
    text = value if isinstance(value, str) else str(value)
    return text if len(text) <= most else f"{text[: most - 1]}…"
