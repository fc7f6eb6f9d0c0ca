"""Shows a run: live progress on a terminal or in a notebook, plain lines elsewhere."""

from __future__ import annotations

import atexit
import html
import math
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, TextIO

from rich.cells import cell_len, set_cell_size
from rich.console import Console as RichConsole
from rich.console import RenderableType
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
from rich.table import Column
from rich.text import Text

from cluster.events import Event
from cluster.live import Live, metrics_text, progress_text, states_text
from cluster.locations import shown
from cluster.plan import Plan
from cluster.tasks import Task
from cluster.timeline import draining_text
from cluster.units import format_duration

#: Seconds between two progress lines where there is no terminal, at first and later.
LINE_SECONDS, LONGEST_PAUSE = 5.0, 60.0
#: Seconds between two looks of a notebook's bar.
DRAW_SECONDS = 0.5
#: Columns of a terminal that a bar has at most, and that are left for it beside a long text.
BAR, SHORT_BAR = 40, 4
#: Columns of the percentage, with the gaps before it and before the bar.
_SHARE = 6
#: Colours of roles in front of their log lines.
ROLE_STYLE = {"chief": "cyan", "worker": "green", "ps": "magenta", "evaluator": "yellow"}


def sentence(event: Event) -> str:
    """What a user should read of `event`, or '' where progress or a log says it."""
    data, task = event.data, event.task
    match event.kind:
        case "run_started":
            return f"run directory: {shown(data['run_dir'])}"
        case "attempt_started":
            return f"attempt {event.attempt}: placing tasks" if event.attempt > 1 else "placing tasks"
        case "placed":
            return "placed " + ", ".join(f"{name} on {host}" for name, host in _first(data["nodes"]))
        case "task_started" if data.get("reason"):
            return f"{task}: a plain process instead of a fork: {data['reason']}"
        case "notice" if "text" in data:
            return str(data["text"])
        case "checkpoint":
            return f"checkpoint {data['step']} saved"
        case "evaluated":
            return f"checkpoint {data['step']} evaluated{metrics_text(data.get('metrics', {}))}"
        case "profile" if data.get("status") == "done":
            traced = [name for name, trace in data["tasks"].items() if trace]
            said = "; ".join([data.get("verdict") or "no verdict", *data.get("notes", [])])
            return f"traced {_names(traced)}: {said}"
        case "profile" if data.get("status") in ("refused", "failed"):
            return f"no traces: {data.get('reason')}"
        case "lost":
            return f"{task} lost: {data.get('reason')}"
        case "failed" if data.get("peer"):
            return f"{task} lost the connection to another task: {data.get('type')}: {data.get('message')}"
        case "failed":
            return f"{task} failed: {data.get('type')}: {data.get('message')}"
        case "node_draining":
            return draining_text(event)
        case "hang":
            return f"no step in time from {', '.join(data['tasks'])}"
        case "restarting" if task is not None:
            return f"restarting {task} in its place"
        case "restarting" if data.get("reason"):
            return f"going on elsewhere: {data['reason']}"
        case "restarting":
            return "restarting everything" + (f" in {format_duration(data['after'])}" if data["after"] else " at once")
        case "interrupted":
            return f"stopping: {data.get('reason')}"
        case _:
            return ""


def _names(tasks: list[str], count: int = 6) -> str:
    return ", ".join(tasks[:count]) + (f" and {len(tasks) - count} more" if len(tasks) > count else "")


def _first(nodes: dict[str, str], count: int = 6) -> list[tuple[str, str]]:
    shown = list(nodes.items())[:count]
    return [*shown, (f"{len(nodes) - count} more", "…")] if len(nodes) > count else shown


def line_pause(elapsed: float) -> float:
    """Seconds between two progress lines, so many seconds after the start: a long run does not fill a log."""
    return min(LONGEST_PAUSE, max(LINE_SECONDS, elapsed / 20))


class PlainConsole:
    """One line an event, log lines with their task's name before them."""

    def __init__(self, stream: TextIO, *, logs: bool = True) -> None:
        self._stream, self._logs = stream, logs
        self._begun, self._shown = time.monotonic(), -math.inf
        self._live = Live()

    def plan(self, plan: Plan) -> None:
        """Say what is about to run, and what the preflight noticed."""
        self._begun = time.monotonic()
        self._live.expect(task.task for task in plan.tasks)
        for line in summary(plan):
            self._line(line)

    def event(self, event: Event) -> None:
        """Write the event's sentence, and progress now and then."""
        self._live.take(event)
        text = sentence(event)
        if text:
            self._line(text)
        elif event.kind == "step" and event.task == self._live.leader:
            self._progress(event)

    def log(self, task: Task, text: str) -> None:
        """Write a task's lines, each with its name."""
        if self._logs:
            self._write("".join(f"[{task}] {line}\n" for line in text.split("\n")))

    def _progress(self, event: Event) -> None:
        now = time.monotonic()
        if now - self._shown >= line_pause(now - self._begun) or event.data.get("epoch_done"):
            self._shown = now
            states = f" · {states_text(self._live)}" if self._live.troubled else ""
            self._line(progress_text(self._live, event.at) + states)

    def _line(self, text: str) -> None:
        self._write(f"{time.strftime('%H:%M:%S')} {text}\n")

    def _write(self, text: str) -> None:
        self._stream.write(printable(text, getattr(self._stream, "encoding", None)))
        self._stream.flush()


def printable(text: str, encoding: str | None) -> str:
    """`text` with `?` for what `encoding` cannot write: a task's odd line must not end the run."""
    return text.encode(encoding or "utf-8", "replace").decode(encoding or "utf-8")


class NotebookConsole(PlainConsole):
    """Lines as `PlainConsole`, and one output of the cell that is a progress bar, drawn anew as the run goes on.

    rich would draw its bar with ipywidgets, which a kernel need not have, and each log line as an output of its own.

    Args:
        stream: where lines go.
        display: shows a bar and returns a handle, whose `update` shows another in its place.
        logs: whether to show what tasks write.
    """

    def __init__(self, stream: TextIO, display: Callable[[Bar], Any], *, logs: bool = True) -> None:
        super().__init__(stream, logs=logs)
        self._display = display
        self._handle: Any = None

    def event(self, event: Event) -> None:
        """Write the event's sentence, and draw the bar anew."""
        super().event(event)
        now = time.monotonic()
        if now - self._shown >= DRAW_SECONDS or event.data.get("epoch_done") or event.kind in _LASTING:
            self._shown = now
            self._draw(event.at)

    def _progress(self, event: Event) -> None:
        """The bar tells that."""

    def _draw(self, now: float) -> None:
        live = self._live
        bar = Bar(bar_text(live, now), live.step, live.total, states_text(live))
        if self._handle is None:
            self._handle = self._display(bar)
        else:
            self._handle.update(bar)


#: Events after which a display may not change for long.
_LASTING = ("placed", "restarting", "interrupted", "run_ended")


def bar_text(live: Live, now: float) -> str:
    """What stands beside a bar: the phase until the first step, then progress."""
    return progress_text(live, now) if live.step else live.phase


def fitted(text: str, room: int) -> str:
    """The parts of `text` between ` · ` that fit into `room` columns of a terminal, and a sign where some do not."""
    if cell_len(text) <= room:
        return text
    parts = text.split(" · ")
    while parts and cell_len(f"{' · '.join(parts)} …") > room:
        parts.pop()
    return f"{' · '.join(parts)} …" if parts else f"{set_cell_size(text, max(0, room - 1))}…"


@dataclass(frozen=True)
class Bar:
    """A progress bar as notebooks show it: `step` of `total` steps, where the total is known."""

    text: str
    step: int
    total: int | None
    states: str = ""

    def __repr__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        bar = f'<progress value="{self.step}" max="{self.total}"></progress> ' if self.total else ""
        states = f"<br>{html.escape(self.states)}" if self.states else ""
        return f"<code>{bar}{html.escape(self.text)}{states}</code>"


class _Bar(Progress):
    """A bar, and below it how many tasks of each role are in which state."""

    def __init__(self, live: Live, console: RichConsole) -> None:
        self._live = live
        self._column = BarColumn()
        description = TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True))
        super().__init__(description, self._column, TaskProgressColumn(), console=console)

    def fitted(self, text: str) -> str:
        """As much of `text` as leaves room for a bar and the percentage, which get the rest of the line."""
        room = self.console.width - _SHARE
        text = fitted(text, room - SHORT_BAR)
        self._column.bar_width = max(1, min(BAR, room - cell_len(text)))
        return text

    def get_renderables(self) -> Iterator[RenderableType]:
        yield self.make_tasks_table(self.tasks)
        style = "yellow" if self._live.troubled else "dim"
        yield Text(states_text(self._live), style=style, no_wrap=True, overflow="ellipsis")


class LiveConsole:
    """A progress bar and the tasks' states, which stay below the log lines."""

    def __init__(self, console: RichConsole, *, logs: bool = True) -> None:
        self._console, self._logs = console, logs
        self._live = Live()
        self._bar = _Bar(self._live, console)
        self._row: Any = None

    def plan(self, plan: Plan) -> None:
        """Say what is about to run; the bar appears with the first attempt."""
        self._live.expect(task.task for task in plan.tasks)
        for line in summary(plan):
            self._print("", line)

    def event(self, event: Event) -> None:
        """Print the event's sentence; move the bar."""
        self._live.take(event)
        text = sentence(event)
        if text:
            self._print(f"[dim]{time.strftime('%H:%M:%S')}[/] ", text)
        if event.kind in ("run_ended", "interrupted"):
            self._hide()
        elif event.task in (None, self._live.leader) and event.kind != "run_started":
            self._move(event)

    def log(self, task: Task, text: str) -> None:
        """Print a task's lines, each with its coloured name."""
        if self._logs:
            for line in text.split("\n"):
                self._print(f"[{ROLE_STYLE[task.role]}]{task}[/] ", line)

    def _print(self, before: str, text: str) -> None:
        """Print `text` as it is, after the markup `before`."""
        plain = escape(printable(text, self._console.encoding))
        self._console.print(before + plain, highlight=False, emoji=False, soft_wrap=True)

    def _move(self, event: Event) -> None:
        live = self._live
        text = self._bar.fitted(bar_text(live, event.at))
        if self._row is not None:
            self._bar.update(self._row, description=text, completed=live.step, total=live.total)
            return
        self._row = self._bar.add_task(text, completed=live.step, total=live.total)
        atexit.register(self._hide)  # a run that breaks off would leave the terminal without its cursor
        self._bar.start()

    def _hide(self) -> None:
        if self._row is not None:
            atexit.unregister(self._hide)
            self._bar.stop()
            self._bar.remove_task(self._row)
            self._row = None


def make_console(*, logs: bool = True) -> PlainConsole | LiveConsole:
    """Live where a person watches a terminal or notebook, plain lines elsewhere.

    For rich a pipe is a terminal, too, where FORCE_COLOR or TTY_COMPATIBLE is set, as for colours in the logs of CI.
    """
    rich = RichConsole()
    if rich.is_jupyter:
        from IPython.display import display

        return NotebookConsole(sys.stdout, partial(display, display_id=True), logs=logs)
    live = sys.stdout.isatty() and rich.is_terminal and not rich.is_dumb_terminal  # on which rich would draw no bar
    return LiveConsole(rich, logs=logs) if live else PlainConsole(sys.stdout, logs=logs)


class SilentConsole:
    """Shows nothing."""

    def plan(self, plan: Plan) -> None:
        """Nothing."""

    def event(self, event: Event) -> None:
        """Nothing."""

    def log(self, task: Task, text: str) -> None:
        """Nothing."""


def summary(plan: Plan) -> list[str]:
    """The plan in a few lines: strategy, tasks, Keras, and every note and warning."""
    counts: dict[str, int] = {}
    for task in plan.tasks:
        counts[task.task.role] = counts.get(task.task.role, 0) + 1
    tasks = ", ".join(f"{count} {role}" for role, count in counts.items())
    lines = [f"{plan.spec.name}: strategy {plan.spec.strategy} · {tasks}", plan.keras.reason]
    return lines + [f"{finding.level}: {finding}" for finding in plan.findings]
