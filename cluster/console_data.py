"""Shows what `tfcluster data` finds and how far it is: tables and a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.text import Text

from cluster.console import LINE_SECONDS
from cluster.console_tables import Grid, show_grid, show_line
from cluster.locations import shown
from cluster.units import format_duration, format_size

if TYPE_CHECKING:
    from pipelines.convert import Result
    from pipelines.inspect import Report, Spread

#: Columns of data that a table lists, at most.
_MOST = 60
_STYLE = {"error": "red", "warning": "yellow", "note": "cyan"}


class Bar(Protocol):
    """How far something is."""

    def move(self, done: int, total: int, text: str = "") -> None:
        """So many of so many, and what else there is to say."""

    def say(self, text: str) -> None:
        """One line."""


@contextmanager
def make_progress(doing: str, noun: str, *, silent: bool = False) -> Iterator[Bar]:
    """A bar where a person watches a terminal, a line every few seconds elsewhere, or nothing."""
    console = Console()
    if silent:
        yield _Silent()
    elif not console.is_terminal:
        yield _Lines(doing, noun)
    else:
        columns = [TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn()]
        with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as bar:
            yield _Live(bar, doing, noun)


class _Silent:
    def move(self, done: int, total: int, text: str = "") -> None:
        """Nothing."""

    def say(self, text: str) -> None:
        """Nothing."""


class _Lines:
    def __init__(self, doing: str, noun: str) -> None:
        self._doing, self._noun = doing, noun
        self._shown, self._began = -math.inf, time.monotonic()

    def move(self, done: int, total: int, text: str = "") -> None:
        now = time.monotonic()
        if now - self._shown >= LINE_SECONDS or done == total:
            self._shown = now
            more = f" · {text}" if text else ""
            self.say(f"{self._doing}: {done}/{total} {self._noun}{more} · {format_duration(now - self._began)}")

    def say(self, text: str) -> None:
        _line(f"{time.strftime('%H:%M:%S')} {text}")


class _Live:
    def __init__(self, bar: Progress, doing: str, noun: str) -> None:
        self._bar, self._doing, self._noun = bar, doing, noun
        self._row = bar.add_task(f"{doing}: starting", total=None)

    def move(self, done: int, total: int, text: str = "") -> None:
        more = f" · {text}" if text else ""
        description = f"{self._doing}: {done}/{total} {self._noun}{more}"
        self._bar.update(self._row, description=description, completed=done, total=total)

    def say(self, text: str) -> None:
        self._bar.console.print(Text(text), soft_wrap=True)


def show_report(report: Report) -> None:
    """What `inspect` found, and the next command."""
    _show(_overview(report))
    _show(_column_table(report))
    if report.sample:
        _show(_sample_table(report))
    for finding in report.findings:
        _finding(finding.level, str(finding))
    if report.next:
        _line(f"next: {shown(report.next)}")


def _overview(report: Report) -> Grid:
    about = "about " if report.rows_estimated else ""
    packed = f" · {', '.join(report.codecs)}" if report.codecs else ""
    raw = f", {format_size(report.raw_bytes)} uncompressed" if report.raw_bytes else ""
    rows = [
        ("files", f"{report.files:,} {report.format}{packed}"),
        ("size", f"{format_size(report.bytes)}{raw}"),
        ("each file", _sizes(report.file_bytes)),
        ("rows", f"{about}{report.rows:,}"),
    ]
    if report.groups is not None:
        name = "row groups" if report.format == "parquet" else "runs of records"
        spread = report.group_rows
        rows.append((name, f"{report.groups:,}"))
        rows.append(("  rows of each", f"{spread.least:,} to {spread.greatest:,}, the middle one {spread.middle:,}"))
        rows.append(("  size of each", f"{_sizes(report.group_bytes)}, uncompressed"))
    shares = report.shares
    if shares.batches:
        short = f", the last ones smaller by {shares.steps_short:,} rows in all" if shares.steps_short else ""
        text = f"{about}{shares.rows:,} rows and {shares.batches:,} batches of {shares.batch:,} each{short}"
        rows.append((f"{shares.workers} worker{'s' if shares.workers > 1 else ''}", text))
    return Grid("", ("", ""), rows)


def _sizes(spread: Spread) -> str:
    least, middle, greatest = map(format_size, spread)
    return least if least == greatest else f"{least} to {greatest}, the middle one {middle}"


def _column_table(report: Report) -> Grid:
    rows = [
        (
            column.name,
            column.part or "?",
            column.type,
            column.tensorflow or "nothing",
            "?" if column.nulls is None else f"{column.nulls:,}",
            "?" if column.bytes is None else format_size(column.bytes),
            "?" if column.raw_bytes is None else format_size(column.raw_bytes),
        )
        for column in report.columns[:_MOST]
    ]
    if len(report.columns) > _MOST:
        rows.append((f"… {len(report.columns) - _MOST} more", "", "", "", "", "", ""))
    header = ["column", "part", "Arrow type", "TensorFlow gets", ">nulls", ">size", ">uncompressed"]
    keep = [i for i in range(7) if i in (0, 2, 3) or any(row[i] not in ("?", "") for row in rows)]
    return Grid("columns", [header[i] for i in keep], [[row[i] for i in keep] for row in rows])


def _sample_table(report: Report) -> Grid:
    """The first rows, one below the other: a column of the table for each."""
    names = list(report.sample[0])[:_MOST]
    header = ["column", *(f"row {number}" for number in range(len(report.sample)))]
    width = max(8, 72 // len(report.sample))
    return Grid("first rows", header, [[name, *(_cell(row[name], width) for row in report.sample)] for name in names])


def _cell(value: Any, width: int) -> str:
    text = "null" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)
    text = " ".join(text.split())
    return text if len(text) <= width else f"{text[: width - 1]}…"


def show_result(result: Result) -> None:
    """What `convert` made, and the next command."""
    again = f", {result.reused} of them from an earlier call" if result.reused else ""
    if result.reused == result.files:
        again = ", all there from an earlier call: the input has not changed"
    _line(f"{shown(result.out)}: {result.rows:,} rows in {result.files:,} files, {format_size(result.bytes)}{again}")
    _line(f"next: tfcluster data inspect {shown(result.out)}")


def show_analysis(found: dict[str, Any], out: str, files: Sequence[str]) -> None:
    """The document of `analyze` in short, where it is, and the next command."""
    columns: dict[str, Any] = found["columns"]
    rows = [[path, *_statistics(column)] for path, column in list(columns.items())[:_MOST]]
    if len(columns) > _MOST:
        rows.append([f"… {len(columns) - _MOST} more", *[""] * 8])
    header = ["column", "type", ">missing", ">min", ">median", ">max", ">mean", ">std", ">distinct"]
    _show(Grid("", header, rows))
    _line(f"{found['rows']:,} rows of {found['files']:,} files: {shown(out)}")
    _line(f"next: give it to your transforms, or look closer: python -m json.tool {shown(out)}")


def _statistics(column: dict[str, Any]) -> list[str]:
    lengths = column.get("lengths")
    numbers = lengths if lengths is not None else column
    variance = numbers.get("variance")
    values = column.get("quantiles", {}).get("values") or []
    distinct = column.get("vocabulary", {"distinct": ""})["distinct"]
    return [
        column["type"] + (" (lengths)" if lengths is not None else ""),
        f"{column['missing']:,}",
        _number(numbers.get("min")),
        _number(values[50]) if values else "",
        _number(numbers.get("max")),
        _number(numbers.get("mean")),
        _number(None if variance is None else variance**0.5),
        "many" if distinct is None else f"{distinct:,}" if distinct != "" else "",
    ]


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, int) else f"{value:.5g}"


def _show(grid: Grid) -> None:
    show_grid(grid, Console())


def _finding(level: str, text: str) -> None:
    console = Console()
    if console.is_terminal:
        console.print(Text.assemble((f"{level}:", _STYLE[level]), f" {text}"), soft_wrap=True)
    else:
        _line(f"{level}: {text}")


def _line(text: str) -> None:
    show_line(text, Console())
