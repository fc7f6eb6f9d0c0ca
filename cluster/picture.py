"""A timeline as a picture: rows of bars and marks, in percent of the run's time. Pure.

Tasks that went the same way share a row, so that a thousand of them fit on a page and the odd one is seen.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from cluster.log_folding import names_text, short_names
from cluster.spec_parts import ROLE_ORDER
from cluster.tasks import Task
from cluster.timeline import Attempt, Mark, Span, Timeline
from cluster.units import format_duration

#: With more tasks than these, those that went the same way share a row; and rows at most.
MOST_ALONE, MOST_ROWS = 24, 40
#: Seconds between two ticks, of which the first that gives few enough is taken; and ticks at most.
_TICKS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400)
_MOST_TICKS = 8
#: Marks in one row at most; of more, the newest of each stretch of time is drawn.
_MOST_MARKS = 120
#: Endings that a reader should see first, and the sign at the end of the bar.
_SIGNS = {"failed": "✕", "lost": "✕", "finished": "✓", "unknown": "?", "stopped": ""}


@dataclass(frozen=True)
class Bar:
    """Part of a row, from `left` to `left` + `width` percent; `kind` is its look, `sign` stands at its end."""

    left: float
    width: float
    kind: str
    title: str
    sign: str = ""


@dataclass(frozen=True)
class Point:
    """A sign at one moment."""

    left: float
    kind: str
    title: str


@dataclass
class Row:
    """One line of the picture."""

    label: str
    title: str = ""
    bars: list[Bar] = field(default_factory=list)
    points: list[Point] = field(default_factory=list)


@dataclass
class Picture:
    """The whole: rows from top to bottom, ticks of the time axis, and how many tasks found no room.

    Attributes:
        rows: of the job first, then of tasks.
        ticks: where, and what stands there.
        restarts: where a new attempt began.
        left_out: tasks without a row.
    """

    rows: list[Row]
    ticks: list[tuple[float, str]]
    restarts: list[float]
    left_out: int = 0


def draw(timeline: Timeline) -> Picture:
    """The picture of a run; `Timeline.finish` was called."""
    scale = _Scale(timeline.begin, max(timeline.seconds, 1e-3))
    rows, left_out = _task_rows(timeline, scale)
    restarts = [scale.place(attempt.begin) for attempt in timeline.attempts[1:]]
    return Picture([*_job_rows(timeline, scale), *rows], _ticks(scale), restarts, left_out)


@dataclass(frozen=True)
class _Scale:
    begin: float
    seconds: float

    def place(self, at: float) -> float:
        """Percent of the width."""
        return round(min(100.0, max(0.0, (at - self.begin) / self.seconds * 100)), 3)

    def bar(self, begin: float, end: float, kind: str, title: str, sign: str = "") -> Bar:
        left = self.place(begin)
        text = f"{title} · {self.when(begin)}, {_took(begin, end)}"
        return Bar(left, round(self.place(end) - left, 3), kind, text, sign)

    def when(self, at: float) -> str:
        return f"at {format_duration(max(0.0, at - self.begin))}"


def _took(begin: float, end: float) -> str:
    return f"for {format_duration(max(0.0, end - begin))}"


def _ticks(scale: _Scale) -> list[tuple[float, str]]:
    days = 86400 * (1 + int(scale.seconds / 86400 / _MOST_TICKS))
    step = next((step for step in _TICKS if scale.seconds / step <= _MOST_TICKS), days)
    count = int(scale.seconds / step)
    if scale.seconds < 1:
        return [(0.0, "0")]
    return [(scale.place(scale.begin + i * step), tick_text(i * step)) for i in range(count + 1)]


def tick_text(seconds: int) -> str:
    """`0`, `90s`, `5m`, `2h30m`, `3d`: exact and short."""
    hours, minutes = seconds // 3600, seconds % 3600 // 60
    if seconds and seconds % 86400 == 0:
        return f"{seconds // 86400}d"
    if hours:
        return f"{hours}h{minutes}m" if minutes else f"{hours}h"
    return f"{minutes}m" if minutes and seconds % 60 == 0 else f"{seconds}s" if seconds else "0"


def _job_rows(timeline: Timeline, scale: _Scale) -> list[Row]:
    job = Row("job", "attempts of the whole job")
    for attempt in timeline.attempts:
        job.bars += _attempt_bars(attempt, timeline, scale)
    job.points = _points(
        timeline.marks, ("interrupted", "node_draining", "hang", "placement_failed", "startup_failed"), scale
    )
    rows = [job]
    saved = _points(timeline.marks, ("checkpoint", "evaluated"), scale)
    if saved:
        rows.append(Row("checkpoints", "saved, and seen by the evaluator", points=saved))
    traced = _points(timeline.marks, ("profile",), scale)
    if traced:
        rows.append(Row("traces", "captures by TensorFlow's profiler", points=traced))
    return rows


def _attempt_bars(attempt: Attempt, timeline: Timeline, scale: _Scale) -> list[Bar]:
    end = timeline.end if attempt.end is None else attempt.end
    name = f"attempt {attempt.number}"
    placed = min(end, attempt.placed if attempt.placed is not None else end)
    first = {span.task: span for span in reversed(timeline.spans) if span.attempt == attempt.number}
    ready = [span.ready for span in first.values() if span.ready is not None]
    started = min(end, max(ready)) if ready else end
    parts = [("placing", attempt.begin, placed), ("starting", placed, max(placed, started)), ("running", started, end)]
    bars = [scale.bar(a, b, f"job-{kind}", f"{name}: {kind}") for kind, a, b in parts if b > a]
    return bars or [scale.bar(attempt.begin, end, "job-placing", name)]


def _points(marks: Iterable[Mark], kinds: Sequence[str], scale: _Scale) -> list[Point]:
    found = [mark for mark in marks if mark.kind in kinds]
    points = [Point(scale.place(mark.at), mark.kind, f"{mark.text} {scale.when(mark.at)}") for mark in found]
    if len(points) <= _MOST_MARKS:
        return points
    stretches = _MOST_MARKS // len({point.kind for point in points})
    newest = {(point.kind, min(stretches - 1, int(point.left * stretches / 100))): point for point in points}
    return [*newest.values()]


def _task_rows(timeline: Timeline, scale: _Scale) -> tuple[list[Row], int]:
    """A row for each task, or for those that went the same way; and how many tasks are left out."""
    spans: dict[Task, list[Span]] = {}
    for span in timeline.spans:
        spans.setdefault(span.task, []).append(span)
    tasks = sorted(spans, key=lambda task: (ROLE_ORDER.index(task.role), task.index))
    groups: dict[object, list[Task]] = {}
    for task in tasks:
        way = tuple((span.attempt, span.ending, span.ready is None) for span in spans[task])
        groups.setdefault((task.role, way) if len(tasks) > MOST_ALONE else task, []).append(task)
    ordered = list(groups.values())
    if len(ordered) > MOST_ROWS:  # those in trouble stay
        worst = sorted(ordered, key=lambda group: not _trouble(spans[group[0]]))[:MOST_ROWS]
        ordered = [group for group in ordered if group in worst]
    shown = sum(len(group) for group in ordered)
    return [_row(group, [spans[task] for task in group], timeline.end, scale) for group in ordered], len(tasks) - shown


def _trouble(spans: list[Span]) -> bool:
    return any(span.ending in ("failed", "lost", "unknown") for span in spans)


def _row(tasks: list[Task], spans: list[list[Span]], end: float, scale: _Scale) -> Row:
    """One row for `tasks`, whose processes began and ended in the same ways."""
    names = [str(task) for task in tasks]
    label = short_names(names) if len(tasks) == 1 else f"{short_names(names)} ×{len(tasks)}"
    row = Row(label, f"{names_text(names)} {_places(spans)}".strip())
    for together in zip(*spans, strict=True):
        row.bars += _process_bars(together, end, scale)
    return row


def _places(spans: list[list[Span]]) -> str:
    nodes = sorted({span.node for each in spans for span in each if span.node})
    return f"on {', '.join(nodes[:4])}{f' and {len(nodes) - 4} more' if len(nodes) > 4 else ''}" if nodes else ""


def _process_bars(spans: Sequence[Span], end: float, scale: _Scale) -> list[Bar]:
    """The bars of one process, or of the same process of several tasks."""
    first = spans[0]
    begin = min(span.begin for span in spans)
    stop = max(end if span.end is None else span.end for span in spans)
    readies = [span.ready for span in spans if span.ready is not None]
    ready = max(readies) if readies else stop
    why = f": {first.why.splitlines()[0][:200]}" if first.why else ""
    ending = first.ending or "still running"
    sign = _SIGNS.get(first.ending, "")
    bars = [scale.bar(begin, ready, "starting", "starting")]
    if readies:
        bars.append(scale.bar(ready, stop, f"running {first.ending}".strip(), f"running, then {ending}{why}", sign))
    elif first.ending:
        bars[0] = scale.bar(begin, stop, f"starting {first.ending}", f"starting, then {ending}{why}", sign)
    return bars
