"""Finds a run directory again, says how its run is doing, and stops it."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cluster.errors import RunNotFoundError, StorageError, TfClusterError
from cluster.events import Event
from cluster.locations import join, shown
from cluster.storage import open_filesystem, read_text


@dataclass(frozen=True)
class Run:
    """A run as its directory tells it.

    Attributes:
        uri: the run directory.
        status: running, lost (its launcher is gone without a result), succeeded, failed or interrupted.
        tasks: state of each task: starting, running, finished, failed or lost.
        step: the highest that a task reported.
        metrics: the newest value of each.
        about: pid, pid_started, hostname, job_id of the launcher.
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
    known = run_names(storage)
    if name == "latest" and known:
        return join(storage, known[-1])
    matches = [n for n in known if n == name] or [n for n in known if n.startswith(name)]
    if len(matches) == 1:
        return join(storage, matches[0])
    where = shown(storage) if "://" in storage else Path(storage).resolve()
    seen = f"{len(matches)} runs begin with {name!r}" if matches else f"{name!r} in {where}"
    newest = ", ".join((matches or known)[-3:]) or "none"
    raise RunNotFoundError(
        "no such run", seen, f"give a run directory, or --address for a submitted job; here: {newest}"
    )


def run_names(storage: str) -> list[str]:
    """Names of the run directories in `storage`, in the order in which they began.

    Raises:
        StorageError: it cannot be listed.
    """
    from pyarrow import fs

    filesystem, base = open_filesystem(storage)
    try:
        found = filesystem.get_file_info(fs.FileSelector(base, allow_not_found=True))
        folders = [info for info in found if info.type == fs.FileType.Directory]
        events = filesystem.get_file_info([f"{folder.path}/events.jsonl" for folder in folders])
        specs = filesystem.get_file_info([f"{folder.path}/job.yaml" for folder in folders])  # written once, at first
    except OSError as error:
        raise StorageError("the storage cannot be listed", shown(storage), str(error).splitlines()[0]) from None
    runs = zip(folders, events, specs, strict=True)
    began = [(spec.mtime_ns or 0, folder.base_name) for folder, event, spec in runs if event.type == fs.FileType.File]
    return [name for _, name in sorted(began)]


def read_run(uri: str) -> Run:
    """Read a run directory.

    Raises:
        RunNotFoundError: it is not one.
    """
    text = read_text(uri, "events.jsonl")
    if text is None:
        raise RunNotFoundError("not a run directory", shown(uri), "it has no events.jsonl")
    result = json.loads(read_text(uri, "result.json") or "{}")
    return summarise(uri, list(_events(text)), result)


def _events(text: str) -> Iterator[Event]:
    """The whole lines of `text`: the last may still be being written, and a full disk may have cut one."""
    for line in text.split("\n")[:-1]:
        with contextlib.suppress(ValueError):
            yield Event.from_line(line)


def summarise(uri: str, events: list[Event], result: dict[str, Any]) -> Run:
    """How the run of `events` is doing."""
    about: dict[str, Any] = {}
    tasks: dict[str, str] = {}
    metrics: dict[str, float] = {}
    attempt = step = 0
    ended = ""
    for event in events:
        if event.kind == "run_started":
            about = dict(event.data)
        if event.kind == "attempt_started":
            attempt, tasks = event.attempt, {}
        if event.task is not None and event.kind in _STATES:
            tasks[str(event.task)] = _STATES[event.kind]
        if event.kind in ("step", "evaluated"):
            metrics.update({name: float(value) for name, value in event.data.get("metrics", {}).items()})
            step = max(step, int(event.data["step"]))
        if event.kind == "run_ended":
            ended = str(event.data["status"])
    status = str(result.get("status") or ended or ("running" if launcher_alive(about) else "lost"))
    return Run(uri, status, attempt, step, tasks, metrics, about, result, events[-1] if events else None)


def launcher_alive(about: dict[str, Any]) -> bool:
    """Whether the launcher still runs; on another machine that cannot be seen, and is believed."""
    if about.get("hostname") != os.uname().nodename:
        return True
    started = started_at(about.get("pid", 0))
    return bool(started) and about.get("pid_started", started) == started


def started_at(pid: int) -> str:
    """When process `pid` began, as `BOOT-TICKS`, or '' when it has ended.

    Together with its number this names a process for good: numbers are given again. Source: proc(5), stat.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
    state, ticks = fields[0], fields[19]
    return "" if state in "ZX" else f"{boot}-{ticks}"


def stop(run: Run, patience: float = 60.0) -> bool:
    """Ask the launcher of `run` to end in order, and wait for it; False when it had ended before.

    Raises:
        RunNotFoundError: its launcher runs on another machine, or belongs to another user.
        TfClusterError: it did not end within `patience` seconds.
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
    except ProcessLookupError:
        return False
    try:
        return launcher_alive(run.about) and _end(watched, pid, patience)
    finally:
        os.close(watched)


def _end(watched: int, pid: int, patience: float) -> bool:
    try:
        signal.pidfd_send_signal(watched, signal.SIGTERM)
    except ProcessLookupError:
        return False
    except PermissionError:
        raise RunNotFoundError(
            "the launcher belongs to another user", f"process {pid}", "stop it as that user"
        ) from None
    if not select.select([watched], [], [], patience)[0]:
        raise TfClusterError(
            "the launcher did not end in time", f"process {pid} after {patience:g} s", f"wait, or kill -9 {pid}"
        )
    return True


def log_names(uri: str) -> list[str]:
    """Names of the tasks that have a log, such as `worker-0`."""
    from pyarrow import fs

    filesystem, base = open_filesystem(join(uri, "logs"))
    found = filesystem.get_file_info(fs.FileSelector(base, allow_not_found=True))
    return sorted(info.base_name.removesuffix(".log") for info in found if info.base_name.endswith(".log"))
