"""Shows the verdict on a capture: what limits the steps, tables of tasks and operations, and what to try."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from cluster.advice import plain_type, step_time
from cluster.console_tables import Grid, show_grid, show_line

#: Parts of a step, in the order of the table, and what they are called there.
_PARTS = {
    "input": "input",
    "compute": "compute",
    "communication": "exchange",
    "runtime": "TF",
    "other": "other",
}
#: Columns that a narrow terminal does without.
_SPARE = (">p95", ">feed", ">its own", ">TF", ">steps")
#: Operations, and stages of the input pipeline, that are shown.
_OPERATIONS, _STAGES = 10, 5
#: Share of the time from which on the stages of an input pipeline are worth a look.
_FED = 0.5


def show(document: Mapping[str, Any], console: Console) -> None:
    """Show what `verdict.json` holds; a part that it lacks is left out."""
    _heading(_sentence(document), console)
    tasks = document.get("tasks", [])
    if tasks:
        show_line("", console)
        show_grid(_tasks(tasks, document), console)
    operations = document.get("operations", [])
    if operations:
        show_grid(_costs("operation", operations[:_OPERATIONS], operations), console)
    stages = document.get("stages", [])
    if stages and (document.get("limit") == "input" or any(t["feed"] > _FED for t in tasks)):
        show_grid(_costs("input stage", stages[:_STAGES], stages), console)
    _list("also seen", document.get("notes", []), console)
    _list("to try", document.get("advice", []), console)


def _sentence(document: Mapping[str, Any]) -> str:
    best = document.get("at_best")
    gain = f"; without that, {step_time(best)} at best" if best is not None else ""
    return f"{document.get('sentence', 'no verdict')}{gain}"


def _tasks(tasks: Sequence[Mapping[str, Any]], document: Mapping[str, Any]) -> Grid:
    """One row a task; those that hold the others up are marked, and those that make no steps have no times."""
    slow = {straggler["task"] for straggler in document.get("stragglers", [])}
    header = ["task", ">steps", ">step", ">p95", ">its own", *(f">{name}" for name in _PARTS.values()), ">feed"]
    rows = []
    for task in tasks:
        steps, own = task["steps"], task["own"]
        times = [step_time(steps["mean"]), step_time(steps["p95"])] if steps["count"] else ["", ""]
        rows.append(
            [
                f"{task['task']}{' (slow)' if task['task'] in slow else ''}",
                str(steps["count"] or ""),
                *times,
                "" if own is None else step_time(own),
                *(f"{task['shares'][part]:.0%}" for part in _PARTS),
                f"{task['feed']:.0%}",
            ]
        )
    return Grid("", header, rows, _SPARE)


def _costs(noun: str, shown: Sequence[Mapping[str, Any]], all_of_them: Sequence[Mapping[str, Any]]) -> Grid:
    """Operations or stages, what they cost a step, and their share of what all of them cost."""
    whole = sum(row["seconds"] for row in all_of_them if not row["moves_data"]) or 1.0
    rows = []
    for row in shown:
        share = "exchange" if row["moves_data"] else f"{row['seconds'] / whole:.0%}"
        time = step_time(row["seconds"])
        rows.append([plain_type(row["type"]), f"{row['calls']:.1f}", time, share, _short(row["name"])])
    return Grid("", [noun, ">calls/step", ">time/step", ">share", "name"], rows, (">calls/step",))


def _short(name: str, most: int = 60) -> str:
    """A name without what all names begin with, and its end rather than its beginning."""
    short = name.replace("StatefulPartitionedCall/", "").removeprefix("Iterator::Root::")
    return short if len(short) <= most else f"…{short[1 - most :]}"


def _list(title: str, texts: Sequence[str], console: Console) -> None:
    if texts:
        _heading(f"{title}:", console)
        for text in texts:
            show_line(f"- {text}", console)
        show_line("", console)


def _heading(text: str, console: Console) -> None:
    if console.is_terminal:
        console.print(Text(text, style="bold"), soft_wrap=True)
    else:
        show_line(text, console)
