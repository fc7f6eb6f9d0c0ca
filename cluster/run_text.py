"""How a run is doing, in words: for `tfcluster status`, and for the page about a run. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cluster.live import TaskLife
from cluster.locations import shown
from cluster.log_folding import short_names
from cluster.runs import Run
from cluster.silence import silence_text, silent_for
from cluster.states import TROUBLE
from cluster.tasks import Task
from cluster.timeline import Mark
from cluster.units import format_duration, format_size

#: With more tasks than these, those that are alike share a line.
MOST_LINES = 16
#: Captures that are told of, the newest.
_CAPTURES = 3
#: Seconds since the last event from which it is told how long ago that was.
_LATELY = 150.0


def run_document(run: Run, now: float) -> dict[str, Any]:
    """All of it, for a program, at `now` (seconds since the Unix epoch)."""
    keys = ("uri", "status", "attempt", "step", "tasks", "metrics", "about", "result")
    rows = {
        str(task): {
            "state": life.state,
            "node": life.node,
            "step": life.step,
            "restarts": life.restarts,
            "usage": dict(life.use),
        }
        for task, life in run.live.tasks.items()
    }
    return {key: getattr(run, key) for key in keys} | {
        "seconds": round(run.timeline.seconds, 3),
        "total": run.live.total,
        "left": _rounded(run.live.left(now)) if run.status == "running" else None,
        "last_word": run.live.at or None,
        "silent_for": silent_for(run.live, run.about, run.uri, now),
        "restarts": run.live.restarts,
        "checkpoint": run.live.checkpoint,
        "rates": {key: value for key, value in run.meters.summary().items() if key not in ("usage", "restarts")},
        "places": rows,
        "failures": [_mark_document(mark) for mark in run.timeline.failures()],
        "captures": list(run.timeline.captures.values()),
        "trouble": run.trouble,
    }


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 1)


def _mark_document(mark: Mark) -> dict[str, Any]:
    task = None if mark.task is None else str(mark.task)
    return {"at": mark.at, "kind": mark.kind, "task": task, "text": mark.text}


def run_rows(run: Run, now: float) -> list[tuple[str, str]]:
    """Names and values, the most important first.

    Args:
        run: as it was read.
        now: seconds since the Unix epoch.
    """
    rows = [("run", shown(run.uri)), ("status", status_text(run, now))]
    if run.trouble:
        rows.append(("trouble", run.trouble))
    if run.stepped:
        rows.append(("step", step_text(run, now)))
    speed = speed_text(run, now)
    if speed:
        rows.append(("speed", speed))
    if run.meters.metrics:
        rows.append(("metrics", " · ".join(f"{name} {value:.5g}" for name, value in run.meters.metrics.items())))
    if run.live.restarts:
        rows.append(("restarts", restarts_text(run)))
    rows.append(("checkpoint", checkpoint_text(run, now)))
    failures = run.timeline.failures()
    if failures and not run.result.get("error"):
        rows.append(("last failure", failure_line(failures[-1], now)))
    rows += [("traces", capture_text(capture)) for capture in last_captures(run)]
    return rows


def last_captures(run: Run) -> list[Mapping[str, Any]]:
    """The newest captures, and the last request if it was refused: many refusals hide no capture."""
    captures = [*run.timeline.captures.values()]
    made = [capture for capture in captures if capture.get("status") != "refused"]
    return [*made[-_CAPTURES:], *[capture for capture in captures[-1:] if capture not in made]]


def status_text(run: Run, now: float) -> str:
    """`running for 3m05s`, `succeeded in 1m50s`, `lost: …`."""
    seconds = format_duration(seconds_of(run))
    if run.status == "running":
        phase = "" if run.live.phase == "running" else f", {run.live.phase}"
        return f"running for {seconds}{phase}{_last_word(run, now)}"
    if run.status == "unknown":
        return "nothing is known yet: it has told nothing"
    if run.status == "lost":
        return f"lost: its launcher is gone without a result; its last word came {ago(run.timeline.end, now)}"
    return f"{run.status} in {seconds}, {ago(run.timeline.end, now)}"


def seconds_of(run: Run) -> float:
    """How long it took, or takes so far."""
    return float(run.result.get("seconds", run.timeline.seconds))


def _last_word(run: Run, now: float) -> str:
    """How long ago the last event was, and what that may mean; '' where it was just now."""
    if run.live.at == 0.0 or now - run.live.at < _LATELY:
        return ""
    silence = silence_text(run.live, run.about, run.uri, now)
    return f"; {silence}" if silence else f"; its last word came {ago(run.live.at, now)}"


def ago(at: float, now: float) -> str:
    """`3m05s ago`; a day and more in days."""
    days = (now - at) / 86400
    return f"{days:.0f} days ago" if days >= 2 else f"{format_duration(max(0.0, now - at))} ago"


def step_text(run: Run, now: float) -> str:
    """`120 of 720 · epoch 1/3 · 2m10s left`."""
    live = run.live
    parts = [f"{run.step} of {live.total}" if live.total else str(run.step)]
    left = live.left(now) if run.status == "running" else None
    parts += [part for part in (live.epoch, f"{format_duration(left)} left" if left else "") if part]
    return " · ".join(parts)


def speed_text(run: Run, now: float) -> str:
    """`35 steps/s · 35.8k examples/s · reading 40% of the time`, of now while it runs, else of the whole run."""
    meters = run.meters
    steps = meters.steps_per_second(now) if run.status == "running" else meters.pace.average
    examples = meters.examples(steps)
    parts = [f"{steps:.3g} steps/s"] if steps else []
    parts += [f"{count(examples)} examples/s"] if examples else []
    if meters.input_busy is not None:
        parts.append(f"reading {meters.input_busy:.0%} of the time")
    return " · ".join(parts)


def count(value: float) -> str:
    """`950`, `35.8k`, `1.2M`."""
    for scale, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= scale:
            return f"{value / scale:.3g}{unit}"
    return f"{value:.3g}"


def roles_text(run: Run) -> str:
    """`2 worker, 1 ps`."""
    return ", ".join(f"{sum(states.values())} {role}" for role, states in run.live.by_role().items())


def restarts_text(run: Run) -> str:
    """`2 of the whole job, 1 of a task in its place`."""
    whole = max(0, run.live.attempt - 1)
    single = run.timeline.counts.get("restarting", 0) - whole
    parts = [f"{whole} of the whole job"] if whole else []
    parts += [f"{single} of a task in its place"] if single > 0 else []
    return ", ".join(parts) or "0"


def checkpoint_text(run: Run, now: float) -> str:
    """`step 480, 12.0s ago`, or `none`."""
    saved = [mark for mark in run.timeline.marks if mark.kind == "checkpoint"]
    if run.live.checkpoint is None:
        return "none"
    exact = saved and saved[-1].text == f"checkpoint {run.live.checkpoint}"
    return f"step {run.live.checkpoint}" + (f", {ago(saved[-1].at, now)}" if exact else "")


def failure_line(mark: Mark, now: float) -> str:
    """`worker-1 lost: its process was ended by SIGKILL, 3m05s ago`."""
    who = f"{mark.task} {mark.kind}" if mark.task is not None else mark.kind.replace("_", " ")
    return f"{who}: {first_line(mark.text)}, {ago(mark.at, now)}"


def first_line(text: str, width: int = 300) -> str:
    """The first line of `text`, cut where it is long."""
    line = next(iter(text.strip().splitlines()), "")
    return line if len(line) <= width else line[: width - 1] + "…"


def capture_text(capture: Mapping[str, Any]) -> str:
    """What a capture's newest event says."""
    status = str(capture.get("status"))
    tasks = [task for task, trace in capture.get("tasks", {}).items() if trace]
    said = capture.get("verdict") or capture.get("reason") or ""
    number = f"{len(tasks)} task{'' if len(tasks) == 1 else 's'}"
    where = f" ({number}, {capture['folder']})" if status == "done" and "folder" in capture else ""
    return f"{status}{where}{f': {said}' if said else ''}"


def task_lines(run: Run) -> list[str]:
    """A table of the tasks, with a heading; of many tasks, those that are alike share a line."""
    tasks = run.live.in_order()
    if not tasks:
        return ["no task has been placed yet"]
    header = ("task", "state", "node", "step", "cpu", "memory", "restarts")
    rows = [_one(run, task, life) for task, life in tasks] if len(tasks) <= MOST_LINES else _grouped(run, tasks)
    used = [i for i in range(len(header)) if i < 2 or any(row[i] for row in rows)]
    return aligned([[line[i] for i in used] for line in (header, *rows)])


def _one(run: Run, task: Task, life: TaskLife) -> tuple[str, ...]:
    step = "" if life.step is None else str(life.step)
    restarts = str(life.restarts) if life.restarts else ""
    return str(task), life.state, life.node, step, *_use(life.use), restarts


def _use(use: Mapping[str, float]) -> tuple[str, str]:
    return (f"{use['cpus']:.2g}", format_size(use["memory"])) if "cpus" in use and "memory" in use else ("", "")


def _grouped(run: Run, tasks: Sequence[tuple[Task, TaskLife]]) -> list[tuple[str, ...]]:
    groups: dict[tuple[str, str, bool], list[tuple[Task, TaskLife]]] = {}
    for task, life in tasks:
        state = life.state
        alone = state in TROUBLE or bool(life.restarts)
        groups.setdefault((task.role, state, alone), []).append((task, life))
    return [_one(run, *items[0]) if len(items) == 1 else _many(run, items) for items in groups.values()]


def _many(run: Run, items: Sequence[tuple[Task, TaskLife]]) -> tuple[str, ...]:
    lives = [life for _, life in items]
    nodes = {life.node for life in lives} - {""}
    steps = [life.step for life in lives if life.step is not None]
    span = "" if not steps else str(steps[0]) if min(steps) == max(steps) else f"{min(steps)}…{max(steps)}"
    node = next(iter(nodes), "") if len(nodes) < 2 else f"{len(nodes)} nodes"
    cpus = sum(life.use.get("cpus", 0.0) for life in lives)
    memory = sum(life.use.get("memory", 0.0) for life in lives)
    use = (f"{cpus:.3g}", format_size(memory)) if memory else ("", "")
    restarts = sum(life.restarts for life in lives)
    name = f"{short_names(str(task) for task, _ in items)} ×{len(items)}"
    return name, lives[0].state, node, span, *use, str(restarts) if restarts else ""


def aligned(table: Sequence[Sequence[str]]) -> list[str]:
    """Rows with their cells below each other."""
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]
