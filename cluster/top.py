"""`tfcluster top`: a table of a running job that is drawn anew each second, or once where there is no terminal."""

from __future__ import annotations

import contextlib
import os
import select
import sys
import termios
import time
import tty
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TextIO

import yaml
from rich.console import Console as RichConsole
from rich.console import Group
from rich.live import Live as Screen
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from cluster.console import ROLE_STYLE
from cluster.errors import RunNotFoundError, StorageError
from cluster.events import Event
from cluster.live import Live, TaskLife, progress_text, states_text
from cluster.locations import shown
from cluster.runs import launcher_alive
from cluster.silence import silence_text
from cluster.spec import parse
from cluster.states import TROUBLE
from cluster.storage import read_text
from cluster.tail import Tail
from cluster.tasks import Task, tasks_of
from cluster.units import format_duration, format_size

#: Seconds between two looks at a run directory, on this machine's file systems and elsewhere.
LOOK, LOOK_FAR = 1.0, 10.0
#: Lines of the screen that are not rows of the table: three above it, its head with a rule, one below.
_OTHER_LINES = 6
#: Colour of a state.
_STATE_STYLE = {"running": "green", "finished": "dim", "failed": "bold red", "lost": "bold red", "restarting": "yellow"}
#: What each column is, and whether it holds numbers.
_COLUMNS = {
    "task": False, "state": False, "step": True, "steps/s": True, "cpu": True, "memory": True, "gpu": True,
    "restarts": True, "node": False,
}  # fmt: skip


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
        if read_text(self.uri, "events.jsonl") is None:
            raise RunNotFoundError("not a run directory", shown(self.uri), "it has no events.jsonl")
        with contextlib.suppress(Exception):  # a spec of another version: tasks appear with their events
            self.live.expect(tasks_of(parse(yaml.safe_load(read_text(self.uri, "job.yaml") or ""))))

    def look(self) -> None:
        """Take the events since the last look.

        Raises:
            StorageError: the storage does not answer.
        """
        for line in self._events.lines():
            with contextlib.suppress(ValueError):  # a full disk may have cut one
                event = Event.from_line(line)
                self.about = dict(event.data) if event.kind == "run_started" else self.about
                self.live.take(event)
        if not self.live.ended and self.about and not launcher_alive(self.about):
            self.live.end("lost")

    @property
    def over(self) -> bool:
        """Whether nothing more is to come."""
        return self.live.ended

    @property
    def now(self) -> float:
        """The time that speeds are of: this machine's while the run goes on here, else that of its last event."""
        here = self.about.get("hostname") == os.uname().nodename
        return self.clock() if here and not self.over else self.live.at

    @property
    def silence(self) -> str:
        """That nothing has been heard for long, or ''."""
        return silence_text(self.live, self.about, self.uri, self.clock())


def show(uri: str) -> None:
    """Show the run until it ends or the user presses q; once, as plain text, if it has ended or without a terminal.

    Raises:
        RunNotFoundError, StorageError: it cannot be read.
    """
    watched = Watched(uri)
    watched.look()
    console = RichConsole()
    if watched.over or not (console.is_terminal and sys.stdin.isatty()) or console.is_dumb_terminal:
        sys.stdout.write(plain(watched))
        return
    with _keys(sys.stdin) as keys, contextlib.suppress(KeyboardInterrupt):
        _follow(watched, console, keys)
    console.print(*heading(watched), sep="\n", highlight=False, markup=False, soft_wrap=True)


def _follow(watched: Watched, console: RichConsole, keys: TextIO) -> None:
    pause = LOOK_FAR if "://" in watched.uri else LOOK
    first, wrong = 0, ""
    looked = time.monotonic()
    with Screen(console=console, screen=True, auto_refresh=False) as screen:
        while not watched.over:
            first = max(0, min(first, len(watched.live.tasks) - 1))
            screen.update(drawn(watched, console.height, first, wrong), refresh=True)
            key = _key(keys, LOOK)
            if key == "q":
                return
            page = max(1, console.height - _OTHER_LINES)
            first += {"j": 1, "k": -1, " ": page, "b": -page}.get(key, 0)
            if time.monotonic() - looked >= pause:
                looked = time.monotonic()
                wrong = _look(watched)


def _look(watched: Watched) -> str:
    """Look again; what went wrong, or ''."""
    try:
        watched.look()
    except StorageError as error:
        return str(error)
    return ""


@contextlib.contextmanager
def _keys(stream: TextIO) -> Iterator[TextIO]:
    """The terminal gives each key as it is pressed, and shows none."""
    before = termios.tcgetattr(stream)
    tty.setcbreak(stream)
    try:
        yield stream
    finally:
        termios.tcsetattr(stream, termios.TCSADRAIN, before)


#: What a terminal sends for a key that has no letter, and the letter that means the same here.
_ESCAPES = {"\x1b[A": "k", "\x1b[B": "j", "\x1b[5~": "b", "\x1b[6~": " "}


def _key(stream: TextIO, seconds: float) -> str:
    """The key that is pressed within that time, or ''."""
    if not select.select([stream], [], [], seconds)[0]:
        return ""
    pressed = os.read(stream.fileno(), 16).decode(errors="replace")
    return _ESCAPES.get(pressed, pressed[:1].lower() or "q")  # nothing to read: the terminal is gone


def heading(watched: Watched) -> list[str]:
    """The whole job in three lines, and a fourth where its launcher may be gone."""
    live = watched.live
    since = f" · {format_duration(max(0.0, watched.now - live.begun))}" if live.begun else ""
    attempt = f" · attempt {live.attempt}" if live.attempt > 1 else ""
    saved = f" · checkpoint {live.checkpoint}" if live.checkpoint is not None else ""
    return [
        f"{shown(watched.uri)}",
        f"{live.phase}{since}{attempt} · {progress_text(live, watched.now)}{saved}",
        states_text(live),
        *([watched.silence] if watched.silence else []),
    ]


def row(task: Task, life: TaskLife, now: float) -> list[str]:
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
        f"{use['gpu']:.0%} {format_size(use['gpu_memory'])}" if "gpu" in use else "",
        str(life.restarts) if life.restarts else "",
        life.node,
    ]


def cells(watched: Watched) -> tuple[list[str], list[list[str]]]:
    """Names of the columns in which any task has something, and the rows."""
    now = watched.now
    rows = [row(task, life, now) for task, life in watched.live.in_order()]
    kept = [place for place in range(len(_COLUMNS)) if place < 3 or any(cell[place] for cell in rows)]
    names = list(_COLUMNS)
    return [names[place] for place in kept], [[cell[place] for place in kept] for cell in rows]


def plain(watched: Watched) -> str:
    """All of it as text."""
    names, rows = cells(watched)
    widths = [max(len(line[place]) for line in [names, *rows]) for place in range(len(names))]

    def line(parts: list[str]) -> str:
        pairs = zip(names, parts, widths, strict=True)
        return "  ".join(part.rjust(w) if _COLUMNS[name] else part.ljust(w) for name, part, w in pairs).rstrip()

    return "\n".join([*heading(watched), "", *map(line, [names, *rows])]) + "\n"


def drawn(watched: Watched, height: int, first: int = 0, wrong: str = "") -> Group:
    """What the screen shows: the job, as many tasks from the `first` on as there is room for, and the keys."""
    room = max(1, height - _OTHER_LINES)
    names, rows = cells(watched)
    table = Table(box=None, header_style="bold", expand=False, padding=(0, 2, 0, 0))
    for name in names:
        table.add_column(name, justify="right" if _COLUMNS[name] else "left", no_wrap=True)
    for cell in rows[first : first + room]:
        table.add_row(*_styled(cell))
    where, progress, states, *silence = heading(watched)
    total, live = len(watched.live.tasks), watched.live
    part = f"tasks {first + 1} to {min(total, first + room)} of {total} · space, b: next, previous · "
    keys = f"{part if total > room else ''}q ends"
    style = "bold red" if any(life.state in TROUBLE for life in live.tasks.values()) else "default"
    bar = Padding(ProgressBar(total=live.total, completed=live.step), 0) if live.total else Text("")
    return Group(
        Text(where, style="dim", no_wrap=True, overflow="ellipsis"),
        Text(progress, style="bold", no_wrap=True, overflow="ellipsis"),
        Text(states, style=style, no_wrap=True, overflow="ellipsis"),
        Text(silence[0], style="bold red", no_wrap=True, overflow="ellipsis") if silence else bar,
        table,
        Text(wrong or keys, style="red" if wrong else "dim", no_wrap=True),
    )


def _styled(cell: list[str]) -> list[Text]:
    task, state, *rest = cell
    styles = [ROLE_STYLE[task.rpartition("-")[0]], _STATE_STYLE.get(state, "default")]
    return [Text(task, style=styles[0]), Text(state, style=styles[1]), *map(Text, rest)]
