"""Tables and lines on a terminal, and the same as plain text elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from rich.console import Console
from rich.table import Table
from rich.text import Text

from cluster.console import printable


class Grid(NamedTuple):
    """A table: its title, the names of its columns, and its rows; names that begin with `>` stand to the right."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]


def show_grid(grid: Grid, console: Console) -> None:
    """A table, and an empty line after it."""
    if console.is_terminal:
        _show_rich(console, grid)
    else:
        _show_plain(console, grid)
    show_line("", console)


def _show_rich(console: Console, grid: Grid) -> None:
    headed = any(grid.header)
    table = Table(title=grid.title or None, title_justify="left", show_header=headed, box=None, pad_edge=False)
    for index, name in enumerate(grid.header):
        right = name.startswith(">")
        table.add_column(name.lstrip(">"), justify="right" if right else "left", overflow="fold", no_wrap=index == 0)
    for row in grid.rows:
        table.add_row(*map(Text, row))
    console.print(table, highlight=False)


def _show_plain(console: Console, grid: Grid) -> None:
    header = [name.lstrip(">") for name in grid.header]
    lines = [header, *grid.rows] if any(header) else list(grid.rows)
    widths = [max(len(line[index]) for line in lines) for index in range(len(header))]
    right = [name.startswith(">") for name in grid.header]
    for line in lines:
        cells = (
            cell.rjust(width) if side else cell.ljust(width)
            for cell, width, side in zip(line, widths, right, strict=True)
        )
        show_line("  ".join(cells).rstrip(), console)


def show_line(text: str, console: Console) -> None:
    """One line, which is never cut or broken."""
    console.file.write(printable(f"{text}\n", getattr(console.file, "encoding", None)))
    console.file.flush()
