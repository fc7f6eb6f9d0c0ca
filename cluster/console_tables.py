"""Tables and lines on a terminal, and the same as plain text elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from rich.cells import cell_len
from rich.console import Console, JustifyMethod, OverflowMethod
from rich.table import Table
from rich.text import Text

from cluster.console import printable

#: Columns of a terminal between two of a table's, and that are left for a long last one.
_GAP, _LAST = 2, 24


class Grid(NamedTuple):
    """A table.

    Attributes:
        title: above it.
        header: names of its columns; those that begin with `>` stand to the right.
        rows: their cells.
        spare: columns that a narrow terminal does without, the first first; where there are any, no cell is broken, and
            what is too long loses the beginning of its last column.
    """

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    spare: Sequence[str] = ()


def show_grid(grid: Grid, console: Console) -> None:
    """A table, and an empty line after it."""
    if console.is_terminal:
        _show_rich(console, grid)
    else:
        _show_plain(console, grid)
    show_line("", console)


def _show_rich(console: Console, grid: Grid) -> None:
    whole = bool(grid.spare)
    grid = fitted(grid, console.width) if whole else grid
    headed = any(grid.header)
    table = Table(title=grid.title or None, title_justify="left", show_header=headed, box=None, pad_edge=False)
    for index, name in enumerate(grid.header):
        right, first = name.startswith(">"), index == 0
        overflow: OverflowMethod = "ellipsis" if whole else "fold"
        justify: JustifyMethod = "right" if right else "left"
        table.add_column(name.lstrip(">"), justify=justify, overflow=overflow, no_wrap=whole or first)
    for row in grid.rows:
        table.add_row(*map(Text, row))
    console.print(table, highlight=False)


def fitted(grid: Grid, width: int) -> Grid:
    """The table without the spare columns that are too many for `width`, and with so much of its last as fits."""
    for name in (*grid.spare, None):
        room = width - sum(_widths(grid)[:-1]) - _GAP * (len(grid.header) - 1)
        if room >= min(_widths(grid)[-1], _LAST) or name is None:
            break
        kept = [place for place, column in enumerate(grid.header) if column != name]
        rows = [[row[place] for place in kept] for row in grid.rows]
        grid = grid._replace(header=[grid.header[place] for place in kept], rows=rows)
    return grid._replace(rows=[[*row[:-1], _end(row[-1], max(1, room))] for row in grid.rows])


def _widths(grid: Grid) -> list[int]:
    lines = [[name.lstrip(">") for name in grid.header], *grid.rows]
    return [max(cell_len(line[place]) for line in lines) for place in range(len(grid.header))]


def _end(text: str, room: int) -> str:
    """The end of `text`, which tells more of a long name than its beginning."""
    return text if cell_len(text) <= room else f"…{text[1 - room :] if room > 1 else ''}"


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
