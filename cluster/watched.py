"""A run at one moment, as a table of its tasks: what `tfcluster top` shows, here or from another machine."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import yaml

from cluster.errors import RunNotFoundError
from cluster.event_lines import newest_steps
from cluster.live import Live, TaskLife, progress_text, states_text
from cluster.locations import shown
from cluster.runs import is_run, launcher_alive, parsed, read_result
from cluster.silence import silence_text
from cluster.spec import parse
from cluster.states import TROUBLE
from cluster.storage import read_text
from cluster.tail import Tail
from cluster.tasks import Task, tasks_of
from cluster.units import format_duration, format_size

#: What each column is, and whether it holds numbers.
_COLUMNS = {
    "task": False, "state": False, "step": True, "steps/s": True, "cpu": True, "memory": True, "gpu": True,
    "restarts": True, "node": False,
}  # fmt: skip


@dataclass(frozen=True)
class View:
    """A run at one moment.

    Attributes:
        run: the run directory.
        progress: phase, time, step, metrics, speed.
        states: how many tasks of each role are in which state.
        silence: that nothing has been heard for long, or ''.
        columns: names of those in which any task has something.
        rows: of each task the cells, tasks in trouble first.
        step: that the leader has reached.
        total: steps that there will be, if that is known.
        trouble: whether a task is in a state that it should not be in.
        over: whether nothing more is to come.
    """

    run: str
    progress: str
    states: str
    silence: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    step: int
    total: int | None
    trouble: bool
    over: bool

    def to_document(self) -> dict[str, Any]:
        """For a program: each task as an object, cells as they are shown."""
        tasks = [dict(zip(self.columns, row, strict=True)) for row in self.rows]
        return {**{key: value for key, value in asdict(self).items() if key != "rows"}, "tasks": tasks}

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> View:
        """The one that `to_document` wrote.

        Raises:
            KeyError: it is none.
        """
        rows = [[str(task[name]) for name in document["columns"]] for task in document["tasks"]]
        return cls(**{name: document[name] for name in cls.__annotations__ if name != "rows"}, rows=rows)

    @property
    def heading(self) -> list[str]:
        """The whole job in three lines, and a fourth where its launcher may be gone."""
        return [self.run, self.progress, self.states, *([self.silence] if self.silence else [])]

    def text(self) -> str:
        """All of it as lines."""
        table = [self.columns, *self.rows]
        widths = [max(len(line[place]) for line in table) for place in range(len(self.columns))]

        def line(parts: Sequence[str]) -> str:
            pairs = zip(self.columns, parts, widths, strict=True)
            return "  ".join(part.rjust(w) if is_number(name) else part.ljust(w) for name, part, w in pairs).rstrip()

        return "\n".join([*self.heading, "", *map(line, table)]) + "\n"


def is_number(column: str) -> bool:
    """Whether the column of that name holds numbers."""
    return _COLUMNS.get(column, False)


@dataclass
class Watched:
    """A run as its directory tells it, read piece by piece; `clock` gives seconds since the Unix epoch.

    Raises:
        RunNotFoundError: it is no run directory.
    """

    uri: str
    live: Live = field(default_factory=Live)
    about: dict[str, object] = field(default_factory=dict)
    clock: Callable[[], float] = time.time

    def __post_init__(self) -> None:
        self._events = Tail(self.uri, "events.jsonl")
        self._result: dict[str, Any] = {}
        if not is_run(self.uri):
            raise RunNotFoundError("not a run directory", shown(self.uri), "it has no events.jsonl")
        with contextlib.suppress(Exception):  # a spec of another version: tasks appear with their events
            self.live.expect(tasks_of(parse(yaml.safe_load(read_text(self.uri, "job.yaml") or ""))))

    def look(self) -> None:
        """Take the events since the last look.

        Raises:
            StorageError: the storage does not answer.
        """
        for event in parsed(newest_steps(self._events.lines())):
            self.about = dict(event.data) if event.kind == "run_started" else self.about
            self.live.take(event)
        if not self.live.ended and self.about and not launcher_alive(self.about):
            self.live.end("lost")
        if self.live.ended:
            self._result, _ = read_result(self.uri)

    def view(self) -> View:
        """How the run is doing."""
        live, now = self.live, self._now
        columns, rows = _cells(live, now)
        silence = silence_text(live, self.about, self.uri, self.clock())
        trouble = any(life.state in TROUBLE for life in live.tasks.values())
        progress, states = _progress(live, self._seconds(now), now), states_text(live)
        return View(
            shown(self.uri), progress, states, silence, columns, rows, live.step, live.total, trouble, live.ended
        )

    @property
    def _now(self) -> float:
        """The time that speeds are of: this machine's while the run goes on here, else that of its last event."""
        here = self.about.get("hostname") == os.uname().nodename
        return self.clock() if here and not self.live.ended else self.live.at

    def _seconds(self, now: float) -> float | None:
        """How long it took, as its result tells, or takes so far; None where that is not known."""
        if "seconds" in self._result:
            return float(self._result["seconds"])
        return max(0.0, now - self.live.begun) if self.live.begun else None


def _progress(live: Live, seconds: float | None, now: float) -> str:
    if not live.at:
        return "nothing is known yet: it has told nothing"
    since = f"{live.phase} · {format_duration(seconds)}" if seconds is not None else live.phase
    attempt = f"attempt {live.attempt}" if live.attempt > 1 else ""
    saved = f"checkpoint {live.checkpoint}" if live.checkpoint is not None else ""
    return " · ".join(part for part in (since, attempt, progress_text(live, now), saved) if part)


def _row(task: Task, life: TaskLife, now: float) -> list[str]:
    """One task's cells, by the order of the columns; an unknown one is empty."""
    speed = life.pace.now(now) if life.state == "running" else None
    use = life.use
    return [
        str(task),
        life.state,
        "" if life.step is None else str(life.step),
        "" if speed is None else f"{speed:.3g}" if speed >= 0.001 else "0",
        f"{use['cpus']:.1f}" if "cpus" in use else "",
        format_size(use["memory"]) if "memory" in use else "",
        _gpu(use),
        str(life.restarts) if life.restarts else "",
        life.node,
    ]


def _gpu(use: Mapping[str, float]) -> str:
    """Utilisation and memory, as far as they are known: a part of a GPU tells only the latter."""
    used = [f"{use['gpu']:.0%}"] if "gpu" in use else []
    return " ".join(used + ([format_size(use["gpu_memory"])] if "gpu_memory" in use else []))


def _cells(live: Live, now: float) -> tuple[list[str], list[list[str]]]:
    """Names of the columns in which any task has something, and the rows."""
    rows = [_row(task, life, now) for task, life in live.in_order()]
    kept = [place for place in range(len(_COLUMNS)) if place < 3 or any(cell[place] for cell in rows)]
    names = list(_COLUMNS)
    return [names[place] for place in kept], [[cell[place] for place in kept] for cell in rows]
