"""When what happened in a run: its attempts, the processes of its tasks, and what befell them. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from cluster.curves import Curves
from cluster.events import Event
from cluster.tasks import Task
from cluster.units import format_duration

#: Marks that are kept of one kind: so many of the newest, and at most as many that cover what was before them.
MOST_MARKS = 1000
#: What ended a process, by the event that says so.
_ENDINGS = {"finished": "finished", "failed": "failed", "lost": "lost"}


@dataclass
class Span:
    """One process of one task, in seconds since the Unix epoch.

    Attributes:
        ready: when its own code began, if it came so far.
        end: None while it runs.
        ending: finished, failed, lost, stopped (with the job), unknown (nobody was left to see it), or ''.
        why: what the event of its end says.
    """

    task: Task
    attempt: int
    begin: float
    node: str = ""
    ready: float | None = None
    end: float | None = None
    ending: str = ""
    why: str = ""


@dataclass
class Attempt:
    """One attempt of the whole job; `placed` is when every supervisor was on its node."""

    number: int
    begin: float
    placed: float | None = None
    end: float | None = None
    outcome: str = ""


@dataclass(frozen=True)
class Mark:
    """Something that happened at one moment, to one task or to the job."""

    at: float
    kind: str
    text: str
    task: Task | None = None


@dataclass
class _Marks:
    """Those of one kind: the newest, and of the older ones every `stride`-th, which doubles when there are too many."""

    newest: deque[Mark] = field(default_factory=deque)
    older: list[Mark] = field(default_factory=list)
    stride: int = 1
    _left: int = 0  # how many have gone from the newest

    def add(self, mark: Mark) -> None:
        self.newest.append(mark)
        if len(self.newest) <= MOST_MARKS:
            return
        leaving = self.newest.popleft()
        if self._left % self.stride == 0:
            self.older.append(leaving)
        self._left += 1
        if len(self.older) > MOST_MARKS:
            self.older, self.stride = self.older[::2], 2 * self.stride

    def kept(self) -> list[Mark]:
        return [*self.older, *self.newest]


@dataclass
class Timeline:
    """What the events of one run say of time; `take` them in their order.

    Attributes:
        begin: of the run; `end` is that of the last event.
        counts: how many events of a kind there were, also of those that left no mark.
        captures: the newest event of each capture of traces, by its id.
        use: what the tasks of each role took together of their machines, by seconds since `begin`.
    """

    begin: float = 0.0
    end: float = 0.0
    attempts: list[Attempt] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    captures: dict[str, dict[str, Any]] = field(default_factory=dict)
    use: Curves = field(default_factory=Curves)
    _open: dict[Task, Span] = field(default_factory=dict)
    _nodes: dict[str, str] = field(default_factory=dict)
    _marks: dict[str, _Marks] = field(default_factory=dict)  # by kind

    def take(self, event: Event) -> None:
        """Take the next event."""
        self.begin = self.begin or event.at
        self.end = max(self.end, event.at)
        self.counts[event.kind] = self.counts.get(event.kind, 0) + 1
        if event.task is not None:
            self._task(event, event.task)
        else:
            self._job(event)
        text = mark_text(event)
        if text:
            self._marks.setdefault(event.kind, _Marks()).add(Mark(event.at, event.kind, text, event.task))

    def _task(self, event: Event, task: Task) -> None:
        span = self._open.get(task)
        if event.kind == "task_started":
            if span is not None:
                self._close(span, event.at, "stopped", "")
            span = Span(task, event.attempt, event.at, self._nodes.get(str(task), ""))
            self._open[task] = span
            self.spans.append(span)
        elif event.kind == "task_ready" and span is not None:
            span.ready = event.at
        elif event.kind in _ENDINGS and span is not None:
            self._close(span, event.at, _ENDINGS[event.kind], failure_text(event))

    def _job(self, event: Event) -> None:
        match event.kind:
            case "attempt_started":
                self._end_attempt(event.at, "restarted")
                self.attempts.append(Attempt(event.attempt, event.at))
            case "placed":
                self._nodes = {str(name): str(node) for name, node in event.data.get("nodes", {}).items()}
                if self.attempts:
                    self.attempts[-1].placed = event.at
            case "restarting":
                self._end_attempt(event.at, "restarted")
            case "run_ended":
                self._end_attempt(event.at, str(event.data.get("status", "ended")))
            case "profile" if "id" in event.data:
                self.captures[str(event.data["id"])] = dict(event.data)
            case "usage":
                self.use.add(int(event.at - self.begin), use_by_role(event.data.get("tasks", {})))

    def _end_attempt(self, at: float, outcome: str) -> None:
        for span in [*self._open.values()]:
            self._close(span, at, "stopped", "")
        if self.attempts and self.attempts[-1].end is None:
            self.attempts[-1].end, self.attempts[-1].outcome = at, outcome

    def _close(self, span: Span, at: float, ending: str, why: str) -> None:
        span.end, span.ending, span.why = at, ending, why
        del self._open[span.task]

    def finish(self, running: bool, now: float) -> None:
        """Say how the run is doing: it goes on, or nobody was left to see the end of what had not ended."""
        if running:
            self.end = max(self.end, now)
            return
        for span in [*self._open.values()]:
            self._close(span, self.end, "unknown", "its launcher was gone")
        if self.attempts and self.attempts[-1].end is None:
            self.attempts[-1].end, self.attempts[-1].outcome = self.end, "lost"

    @property
    def seconds(self) -> float:
        """From the first event to the last, or to now."""
        return max(0.0, self.end - self.begin)

    @property
    def marks(self) -> list[Mark]:
        """What befell the run, in order; of very many of a kind, some of the older ones are left out."""
        return sorted((mark for kind in self._marks.values() for mark in kind.kept()), key=lambda mark: mark.at)

    def failures(self) -> list[Mark]:
        """What went wrong, in order."""
        return [mark for mark in self.marks if mark.kind in _TROUBLE]


def use_by_role(tasks: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Processors and GiB that the tasks of each role took together, and the mean share of their GPUs in percent."""
    found: dict[str, float] = {}
    gpus: dict[str, list[float]] = {}
    for name, sample in tasks.items():
        role = name.rpartition("-")[0]
        found[f"{role}: processors"] = found.get(f"{role}: processors", 0.0) + sample.get("cpus", 0.0)
        found[f"{role}: memory, GiB"] = found.get(f"{role}: memory, GiB", 0.0) + sample.get("memory", 0.0) / 2**30
        if "gpu" in sample:
            gpus.setdefault(f"{role}: GPU, %", []).append(100 * sample["gpu"])
    return found | {name: sum(shares) / len(shares) for name, shares in gpus.items()}


_TROUBLE = ("failed", "lost", "hang", "placement_failed", "startup_failed", "evaluator_late")


def failure_text(event: Event) -> str:
    """Why a task ended, or an attempt could not begin, in one line; '' of an event that tells of no failure."""
    data = event.data
    match event.kind:
        case "failed":
            text = f"{data.get('type')}: {data.get('message')}"
            return f"lost the connection to another task: {text}" if data.get("peer") else text
        case "lost":
            return str(data.get("reason"))
        case "hang":
            return f"no step in time from {', '.join(data.get('tasks', []))}"
        case "placement_failed" | "startup_failed":
            return " · ".join(str(data[key]) for key in ("happened", "seen", "todo") if data.get(key))
        case "evaluator_late":
            return "the evaluator did not see the last checkpoint in time"
    return ""


def mark_text(event: Event) -> str:
    """What a timeline says of an event, or '' where it says nothing."""
    data = event.data
    if event.kind in _TROUBLE:
        return failure_text(event)
    match event.kind:
        case "checkpoint":
            return f"checkpoint {data.get('step')}"
        case "evaluated":
            return f"checkpoint {data.get('step')} evaluated"
        case "node_draining":
            return draining_text(event)
        case "restarting" if event.task is not None:
            return f"restarted in its place: {data.get('reason')}"
        case "restarting":
            return f"everything restarts: {data['reason']}" if data.get("reason") else "everything restarts"
        case "interrupted":
            return f"stopped: {data.get('reason')}"
        case "profile" if data.get("status") not in ("tracing", "collected"):
            return f"traces {data.get('status')}: {data.get('verdict') or data.get('reason') or ''}".rstrip(": ")
        case "notice":
            return str(data.get("text", ""))
    return ""


def draining_text(event: Event) -> str:
    """`node 10.0.0.7 of worker-1 is being drained, 28s left`."""
    names = [str(name) for name in event.data.get("tasks", [])]
    some = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
    left = event.data.get("seconds")
    until = "" if left is None else f", {format_duration(left)} left"
    return f"node {event.data.get('node')} of {some} is being drained{until}"


def read_timeline(events: Iterable[Event]) -> Timeline:
    """The timeline of a run whose events are at hand."""
    timeline = Timeline()
    for event in events:
        timeline.take(event)
    return timeline
