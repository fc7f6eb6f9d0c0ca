"""Writes one HTML page about a run that needs no network: everything it shows comes from the run directory."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster import chart, run_text
from cluster.advice import plain_type
from cluster.errors import StorageError
from cluster.html_page import fill
from cluster.live import TaskLife
from cluster.locations import join, shown
from cluster.log_files import LogFile, Logs, task_order
from cluster.log_folding import names_text, short_names
from cluster.log_lines import LogLine, plain
from cluster.picture import draw
from cluster.runs import Run, check_told, read_run
from cluster.storage import open_filesystem, read_text
from cluster.timeline import Mark
from cluster.units import format_duration, format_size

#: Of how many failed tasks the last lines are shown, and how many lines of each.
MOST_TAILS, TAIL_LINES = 8, 60
#: Metrics among the figures at the top.
_METRICS = 3
#: Lines of a task's stacks.
_STACK_LINES = 200
#: Seconds after the end of a process in which its last lines arrive.
_LATE = 3.0
#: Captures, and rows of their tables, that are shown; and marks in the list of what happened.
_CAPTURES, _OPERATIONS, _MARKS = 5, 8, 300
#: Parts of a step in the order in which bars show them, and what they are called.
PARTS = {
    "input": "input",
    "compute": "compute",
    "communication": "exchange",
    "runtime": "TensorFlow",
    "other": "other: Python, idle",
}

#: Columns of the table of tasks that are left out where they are empty.
COLUMNS = {
    "node": "node",
    "step": "step",
    "cpus": "processors",
    "memory": "memory",
    "gpu": "GPU",
    "restarts": "restarts in place",
}


def page_of(uri: str) -> str:
    """The page about the run directory `uri`, a path or URI, as HTML.

    Raises:
        RunNotFoundError: not a run directory.
        StorageError: it cannot be read.
    """
    run = read_run(uri)
    check_told(run)
    return render(run, time.time())


def write_page(uri: str, output: Path | None = None) -> Path:
    """Write the page about the run directory `uri`; returns where it is.

    Args:
        uri: a path or URI.
        output: where to; default: `report.html` in the run directory, or, of a remote one, `<run>.html` here.

    Raises:
        RunNotFoundError: not a run directory.
        StorageError: it cannot be read, or the page not be written.
    """
    return keep(page_of(uri), output or _default_file(uri))


def keep(page: str, file: Path) -> Path:
    """Put a page where `file` is, all of it or nothing; returns it.

    Raises:
        StorageError: it cannot be written.
    """
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        temporary.write_text(page, encoding="utf-8", errors="replace")
        temporary.replace(file)
    except OSError as error:
        raise StorageError("the page cannot be written", file, f"{error.strerror}; give another place: -o") from None
    return file


def _default_file(uri: str) -> Path:
    filesystem, path = open_filesystem(uri)
    if filesystem.type_name == "local":
        return Path(path, "report.html")
    return Path(f"{path.rstrip('/').rpartition('/')[2]}.html")


def render(run: Run, now: float) -> str:
    """The page, as HTML."""
    return fill(
        "report.html", view(run, now), styles=["report.css"], curves=curve_pictures(run), uses=use_pictures(run)
    )


def view(run: Run, now: float) -> dict[str, Any]:
    """What the template shows."""
    begin = run.timeline.begin
    tasks = [_task(run, str(task), life) for task, life in run.live.in_order()]
    return {
        "name": run_name(run.uri),
        "uri": shown(run.uri),
        "status": run.status,
        "sentence": run_text.status_text(run, now),
        "began": clock(begin),
        "written": clock(now),
        "tiles": list(tiles(run, now)),
        "error": plain_lines(str(run.result.get("error", "")).strip()),
        "picture": draw(run.timeline),
        "attempts": [_attempt(attempt, begin, run.timeline.end) for attempt in run.timeline.attempts],
        "failures": grouped_failures(run),
        "tails": list(tails(run)),
        "stacks": list(stacks(run.uri)),
        "captures": list(captures(run)),
        "tasks": tasks,
        "columns": [(key, text) for key, text in COLUMNS.items() if any(task[key] for task in tasks)],
        "marks": _marks(run),
        "parts": PARTS,
        "use_unit": use_unit(run)[0],
        "spec": read_text(run.uri, "job.yaml") or "",
        "about": about(run),
    }


def moment(seconds: float) -> str:
    """A time since the run began."""
    return "0s" if seconds < 0.05 else format_duration(seconds)


def clock(at: float) -> str:
    """A moment as people write it, with the time zone of this machine."""
    return time.strftime("%Y-%m-%d %H:%M:%S %Z", time.localtime(at))


def run_name(uri: str) -> str:
    """The name of a run directory."""
    return uri.partition("?")[0].rstrip("/").rpartition("/")[2] or uri


@dataclass(frozen=True)
class Tile:
    """One figure at the top of the page, and what it is."""

    label: str
    value: str
    more: str = ""


def tiles(run: Run, now: float) -> Iterator[Tile]:
    """The figures that a reader wants first."""
    live, meters = run.live, run.meters
    yield Tile("duration", format_duration(run_text.seconds_of(run)))
    if run.stepped:
        epoch = live.epoch.removeprefix("epoch ")
        yield Tile("steps", f"{run.step:,}", f"of {live.total:,}" if live.total else f"epoch {epoch}" if epoch else "")
    steps = meters.steps_per_second(now) if run.status == "running" else meters.pace.average
    if steps:
        examples = meters.examples(steps)
        yield Tile("steps a second", f"{steps:.3g}", f"{run_text.count(examples)} examples" if examples else "")
    for name, value in list(meters.metrics.items())[:_METRICS]:
        yield Tile(name, f"{value:.4g}", "last value")
    if meters.input_busy is not None:
        yield Tile("input busy", f"{meters.input_busy:.0%}", "of the time in a read")
    yield Tile("restarts", str(live.restarts), run_text.restarts_text(run) if live.restarts else "")
    yield Tile("checkpoint", "none") if live.checkpoint is None else Tile("checkpoint", f"{live.checkpoint:,}", "step")
    yield Tile("tasks", f"{len(live.tasks):,}", run_text.roles_text(run))


def _attempt(attempt: Any, begin: float, end: float) -> dict[str, str]:
    last = end if attempt.end is None else attempt.end
    placing = "" if attempt.placed is None else format_duration(attempt.placed - attempt.begin)
    return {
        "number": str(attempt.number),
        "began": moment(attempt.begin - begin),
        "placing": placing,
        "took": format_duration(last - attempt.begin),
        "outcome": attempt.outcome or "running",
    }


def grouped_failures(run: Run) -> list[dict[str, str]]:
    """What went wrong, equal failures of several tasks together."""
    groups: dict[tuple[str, str], list[Mark]] = {}
    for mark in run.timeline.failures():
        groups.setdefault((mark.kind, run_text.first_line(mark.text)), []).append(mark)
    return [
        {
            "when": moment(marks[0].at - run.timeline.begin),
            "who": _who(marks),
            "all": names_text(tasks_of(marks)),
            "kind": kind.replace("_", " "),
            "text": text,
        }
        for (kind, text), marks in groups.items()
    ]


def tasks_of(marks: list[Mark]) -> list[str]:
    """Names of the tasks to which something happened, each once."""
    return list(dict.fromkeys(str(mark.task) for mark in marks if mark.task is not None))


def _who(marks: list[Mark]) -> str:
    names = short_names(tasks_of(marks))
    return f"{names} ×{len(marks)}" if len(marks) > 1 else names


def tails(run: Run) -> Iterator[dict[str, Any]]:
    """The last lines of tasks that failed, of each kind of failure first."""
    spans = [span for span in run.timeline.spans if span.ending in ("failed", "lost")]
    seen: dict[str, int] = {}
    order = []
    for span in spans:
        key = run_text.first_line(span.why)
        seen[key] = seen.get(key, 0) + 1
        order.append((seen[key], span))
    chosen = {str(span.task): span for _, span in sorted(order, key=lambda item: item[0])[:MOST_TAILS]}
    logs = Logs(run.uri, chosen.__contains__)
    for file in logs.look():
        span = chosen[file.task]
        end = None if span.end is None else file.times.until(span.end + _LATE)
        lines = list(last_lines(file, logs.size(file) if end is None else end))
        yield {"task": file.task, "ending": span.ending, "why": run_text.first_line(span.why), "lines": lines}


def last_lines(file: LogFile, size: int) -> Iterator[tuple[str, str]]:
    """Level and text of the last lines of a log."""
    file.skip_to_last(TAIL_LINES, size)
    lines: Iterator[LogLine] = file.lines(size)
    return ((line.level or "", plain(line.text)) for line in lines)


def stacks(uri: str) -> Iterator[dict[str, str]]:
    """Where the tasks waited that had not failed, at the end of the newest attempt that did not go well."""
    from pyarrow import fs

    filesystem, base = open_filesystem(join(uri, "failures"))
    try:
        found = filesystem.get_file_info(fs.FileSelector(base, recursive=True, allow_not_found=True))
    except OSError:
        return
    names = [info.path.removeprefix(base).strip("/").split("/") for info in found if info.path.endswith(".stacks")]
    newest = max((int(attempt) for attempt, _ in names if attempt.isdecimal()), default=0)
    tasks = sorted((name.removesuffix(".stacks") for attempt, name in names if attempt == str(newest)), key=task_order)
    for task in tasks[:MOST_TAILS]:
        text = read_text(uri, f"failures/{newest}/{task}.stacks") or ""
        yield {"task": task, "text": plain_lines("\n".join(text.splitlines()[:_STACK_LINES]))}


def captures(run: Run) -> Iterator[dict[str, Any]]:
    """The newest captures of traces with what was found in them."""
    for capture in [*run.timeline.captures.values()][: -_CAPTURES - 1 : -1]:
        verdict = _verdict(run.uri, capture)
        yield {
            "when": str(capture.get("folder", "")).rpartition("/")[2] or str(capture.get("id")),
            "status": str(capture.get("status")),
            "sentence": str((verdict or {}).get("sentence") or capture.get("verdict") or capture.get("reason") or ""),
            "bytes": sum(int(trace.get("bytes", 0)) for trace in capture.get("tasks", {}).values()),
            "missing": dict(capture.get("missing", {})),
            "verdict": None if verdict is None else _tables(verdict),
        }


def _verdict(uri: str, capture: Mapping[str, Any]) -> dict[str, Any] | None:
    """What `verdict.json` of a capture holds, if there is one that can be read."""
    if not capture.get("folder"):
        return None
    try:
        document = json.loads(read_text(uri, f"{capture['folder']}/verdict.json") or "null")
    except (ValueError, StorageError):
        return None
    return document if isinstance(document, dict) else None


def _tables(verdict: Mapping[str, Any]) -> dict[str, Any]:
    """The parts of a verdict that are shown, with what may be lacking made empty."""
    slow = {row["task"] for row in verdict.get("stragglers", [])}
    tasks = [{**row, "slow": row["task"] in slow} for row in verdict.get("tasks", [])]
    return {
        "step": verdict.get("step"),
        "at_best": verdict.get("at_best"),
        "tasks": tasks,
        "operations": [{**row, "type": plain_type(row["type"])} for row in verdict.get("operations", [])[:_OPERATIONS]],
        "stages": verdict.get("stages", [])[:_OPERATIONS],
        "notes": verdict.get("notes", []),
        "advice": verdict.get("advice", []),
    }


def _task(run: Run, name: str, life: TaskLife) -> dict[str, Any]:
    return {
        "name": name,
        "state": life.state,
        "node": life.node,
        "step": "" if life.step is None else f"{life.step:,}",
        "restarts": life.restarts or "",
        "cpus": f"{life.use['cpus']:.2f}" if "cpus" in life.use else "",
        "memory": format_size(life.use["memory"]) if "memory" in life.use else "",
        "gpu": f"{life.use['gpu']:.0%}" if "gpu" in life.use else "",
    }


def _marks(run: Run) -> list[dict[str, str]]:
    """What happened, in order; of a long run the newest."""
    return [
        {
            "when": moment(mark.at - run.timeline.begin),
            "who": "" if mark.task is None else str(mark.task),
            "kind": mark.kind.replace("_", " "),
            "text": run_text.first_line(mark.text),
        }
        for mark in sorted(run.timeline.marks, key=lambda mark: mark.at)[-_MARKS:]
    ]


def about(run: Run) -> list[tuple[str, str]]:
    """Where it ran, and with which versions."""
    versions = run.about.get("versions") or {}
    rows = [("launcher", f"{run.about.get('hostname', '?')}, process {run.about.get('pid', '?')}")]
    if run.about.get("job_id"):
        rows.append(("Ray job", str(run.about["job_id"])))
    rows += [(str(name), str(version)) for name, version in versions.items()]
    if run.result.get("value") is not None:
        rows.append(("returned", run_text.first_line(json.dumps(run.result["value"]))))
    nodes = {life.node for life in run.live.tasks.values()} - {""}
    rows.append(("nodes", f"{len(nodes)}: {', '.join(sorted(nodes)[:8])}{' …' if len(nodes) > 8 else ''}"))
    return rows


def plain_lines(text: str) -> str:
    """A text of several lines without colours and control characters."""
    return "\n".join(plain(line) for line in text.splitlines())


def curve_pictures(run: Run) -> Iterator[str]:
    """A picture of each metric by step, as SVG."""
    for panel in chart.panels_of(run.meters.curves.points()):
        yield chart.draw(panel, run.meters.restarted_at)


def use_pictures(run: Run) -> Iterator[str]:
    """A picture of processors, memory and GPUs by role over time, as SVG."""
    unit = use_unit(run)[1]
    for name, points in run.timeline.use.points().items():
        yield chart.draw({name: [(second // unit, value) for second, value in points]})


def use_unit(run: Run) -> tuple[str, int]:
    """The unit of the time axis of `use_pictures`, and its seconds."""
    return ("seconds", 1) if run.timeline.seconds < 1800 else ("minutes", 60)
