"""Finds a run directory again, says how its run is doing, and stops it."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cluster.errors import RunNotFoundError
from cluster.events import Event
from cluster.storage import open_filesystem, read_text


@dataclass(frozen=True)
class Run:
    """A run as its directory tells it.

    Attributes:
        uri: the run directory.
        status: running, lost (its launcher is gone without a result), succeeded, failed or interrupted.
        tasks: state of each task: starting, running, finished, failed or lost.
        about: pid, hostname, job_id of the launcher.
        result: `result.json`, or {} before the end.
        last: the newest event.
    """

    uri: str
    status: str
    attempt: int
    step: int
    tasks: dict[str, str]
    metrics: dict[str, float]
    about: dict[str, Any] = field(default_factory=dict)
    result: dict[str, Any] = field(default_factory=dict)
    last: Event | None = None


#: State of a task after an event of that kind.
_STATES = {
    "task_started": "starting",
    "task_ready": "running",
    "finished": "finished",
    "failed": "failed",
    "lost": "lost",
}


def find_run(name: str, storage: str = "./runs") -> str:
    """The run directory that `name` means: a path or URI, a name below `storage`, or `latest` there.

    Raises:
        RunNotFoundError: there is none.
    """
    if "://" in name or Path(name, "events.jsonl").is_file():
        return name
    base = Path(storage)
    known = sorted((p.parent for p in base.glob("*/events.jsonl")), key=lambda p: p.stat().st_mtime)
    if name == "latest" and known:
        return str(known[-1])
    matches = [p for p in known if p.name.startswith(name)]
    if len(matches) == 1:
        return str(matches[0])
    seen = f"{len(matches)} runs begin with {name!r}" if matches else f"{name!r} in {base.resolve()}"
    newest = ", ".join(p.name for p in known[-3:]) or "none"
    raise RunNotFoundError(
        "no such run", seen, f"give a run directory, or --address for a submitted job; here: {newest}"
    )


def read_run(uri: str) -> Run:
    """Read a run directory.

    Raises:
        RunNotFoundError: it is not one.
    """
    text = read_text(uri, "events.jsonl")
    if text is None:
        raise RunNotFoundError("not a run directory", uri, "it has no events.jsonl")
    events = [Event.from_line(line) for line in text.splitlines() if line.endswith("}")]
    result = json.loads(read_text(uri, "result.json") or "{}")
    return summarise(uri, events, result)


def summarise(uri: str, events: list[Event], result: dict[str, Any]) -> Run:
    """How the run of `events` is doing."""
    about: dict[str, Any] = {}
    tasks: dict[str, str] = {}
    metrics: dict[str, float] = {}
    attempt = step = 0
    for event in events:
        if event.kind == "run_started":
            about = dict(event.data)
        if event.kind == "attempt_started":
            attempt, tasks = event.attempt, {}
        if event.task is not None and event.kind in _STATES:
            tasks[str(event.task)] = _STATES[event.kind]
        if event.kind in ("step", "evaluated") and event.data.get("metrics"):
            metrics.update(event.data["metrics"])
            step = max(step, int(event.data["step"]))
    status = str(result.get("status") or ("running" if launcher_alive(about) else "lost"))
    return Run(uri, status, attempt, step, tasks, metrics, about, result, events[-1] if events else None)


def launcher_alive(about: dict[str, Any]) -> bool:
    """Whether the launcher still runs; on another machine that cannot be seen, and is believed."""
    if about.get("hostname") != os.uname().nodename:
        return True
    try:
        command = Path(f"/proc/{about['pid']}/cmdline").read_bytes()
    except (OSError, KeyError):
        return False
    return bool(command)


def stop(run: Run, patience: float = 60.0) -> bool:
    """Ask the launcher of `run` to end in order, and wait for it; False when it had ended before.

    Raises:
        RunNotFoundError: its launcher runs on another machine.
    """
    if run.status != "running":
        return False
    if run.about.get("hostname") != os.uname().nodename:
        job, host = run.about.get("job_id"), run.about.get("hostname")
        todo = f"tfcluster stop {job} --address http://HEAD:8265" if job else f"stop it on {host}"
        raise RunNotFoundError("the launcher runs on another machine", host, todo)
    pid = int(run.about["pid"])
    try:
        watched = os.pidfd_open(pid)
        signal.pidfd_send_signal(watched, signal.SIGTERM)
    except ProcessLookupError:
        return False
    try:
        import select

        return bool(select.select([watched], [], [], patience)[0])
    finally:
        os.close(watched)


def log_names(uri: str) -> list[str]:
    """Names of the tasks that have a log, such as `worker-0`."""
    from pyarrow import fs

    filesystem, base = open_filesystem(uri)
    found = filesystem.get_file_info(fs.FileSelector(f"{base}/logs", allow_not_found=True))
    return sorted(info.base_name.removesuffix(".log") for info in found if info.base_name.endswith(".log"))
