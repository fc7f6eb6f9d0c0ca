"""`tfcluster top`: a table of a running job that is drawn anew each second, or once where there is no terminal."""

from __future__ import annotations

import contextlib
import os
import select
import sys
import termios
import time
import tty
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TextIO

from rich.console import Console as RichConsole
from rich.console import ConsoleDimensions, Group
from rich.live import Live as Screen
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from cluster.console import ROLE_STYLE, fitted
from cluster.errors import StorageError, SubmissionError
from cluster.watched import View, is_number

#: Seconds between two looks at a run directory, on this machine's file systems and elsewhere.
LOOK, LOOK_FAR = 1.0, 10.0
#: Lines of the screen that are not rows of the table: three above it, its head with a rule, one below.
_OTHER_LINES = 6
#: Colour of a state.
_STATE_STYLE = {"running": "green", "finished": "dim", "failed": "bold red", "lost": "bold red", "restarting": "yellow"}


class Source(Protocol):
    """Where views come from: `cluster.watched.Watched`, or a job that runs elsewhere."""

    def look(self) -> None:
        """See what is new."""

    def view(self) -> View:
        """How the run is doing."""


def show(source: Source, pause: float) -> None:
    """Show the run until it ends or the user presses q; once, as plain text, if it has ended or without a terminal.

    Args:
        source: is looked at every `pause` seconds.
        pause: see there.

    Raises:
        RunNotFoundError, StorageError, SubmissionError: it cannot be read.
    """
    source.look()
    console = RichConsole()
    terminal = console.is_terminal and sys.stdin.isatty() and sys.stdout.isatty()
    if source.view().over or not terminal or console.is_dumb_terminal:
        sys.stdout.write(source.view().text())
        return
    with _keys(sys.stdin) as keys, contextlib.suppress(KeyboardInterrupt):
        _follow(source, pause, console, keys)
    console.print(*source.view().heading, sep="\n", highlight=False, markup=False, soft_wrap=True)


def tell(source: Source, pause: float, write: Callable[[View], None], *, follow: bool) -> None:
    """Write the view of the run, with `follow` every `pause` seconds until it ends.

    Raises:
        RunNotFoundError, StorageError, SubmissionError: it cannot be read.
    """
    while True:
        source.look()
        view = source.view()
        write(view)
        if view.over or not follow:
            return
        time.sleep(pause)


def _follow(source: Source, pause: float, console: RichConsole, keys: TextIO) -> None:
    first, wrong = 0, ""
    looked = time.monotonic()
    with Screen(console=console, screen=True, auto_refresh=False) as screen:
        while not (view := source.view()).over:
            first = max(0, min(first, len(view.rows) - 1))
            screen.update(drawn(view, console.size, first, wrong), refresh=True)
            key = _key(keys, LOOK)
            if key == "q":
                return
            page = max(1, console.height - _OTHER_LINES)
            first += {"j": 1, "k": -1, " ": page, "b": -page}.get(key, 0)
            if time.monotonic() - looked >= pause:
                looked = time.monotonic()
                wrong = _look(source)


def _look(source: Source) -> str:
    """Look again; what went wrong, or ''."""
    try:
        source.look()
    except (StorageError, SubmissionError) as error:
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


def drawn(view: View, size: ConsoleDimensions, first: int = 0, wrong: str = "") -> Group:
    """What the screen shows: the job, as many tasks from the `first` on as there is room for, and the keys."""
    room = max(1, size.height - _OTHER_LINES)
    table = Table(box=None, header_style="bold", expand=False, padding=(0, 2, 0, 0))
    for name in view.columns:
        table.add_column(name, justify="right" if is_number(name) else "left", no_wrap=True)
    for cell in view.rows[first : first + room]:
        table.add_row(*_styled(cell))
    total = len(view.rows)
    part = f"tasks {first + 1} to {min(total, first + room)} of {total} · space, b: next, previous · "
    keys = f"{part if total > room else ''}q ends"
    bar = Padding(ProgressBar(total=view.total, completed=view.step), 0) if view.total else Text("")
    return Group(
        _line(view.run, "dim"),
        _line(fitted(view.progress, size.width), "bold"),
        _line(view.states, "bold red" if view.trouble else "default"),
        _line(view.silence, "bold red") if view.silence else bar,
        table,
        Text(wrong or keys, style="red" if wrong else "dim", no_wrap=True),
    )


def _line(text: str, style: str) -> Text:
    return Text(text, style=style, no_wrap=True, overflow="ellipsis")


def _styled(cell: Sequence[str]) -> list[Text]:
    task, state, *rest = cell
    styles = [ROLE_STYLE[task.rpartition("-")[0]], _STATE_STYLE.get(state, "default")]
    return [Text(task, style=styles[0]), Text(state, style=styles[1]), *map(Text, rest)]
