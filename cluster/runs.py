"""Finds a run directory again, says how its run is doing, and stops it."""

from __future__ import annotations

import contextlib
import difflib
import json
import os
import select
import signal
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cluster.errors import RunNotFoundError, StorageError, TfClusterError
from cluster.event_lines import newest_steps, whole_lines
from cluster.events import Event
from cluster.live import Live
from cluster.locations import join, shown
from cluster.meters import Meters
from cluster.shapes import is_event, is_result
from cluster.silence import silent_for
from cluster.storage import open_filesystem, read_text
from cluster.tail import Tail
from cluster.tasks import Task
from cluster.timeline import Timeline


@dataclass(frozen=True)
class Run:
    """A run as its directory tells it.

    Attributes:
        uri: the run directory.
        status: running, lost (its launcher is gone without a result), succeeded, failed, interrupted, or unknown (it
            has told nothing yet).
        tasks: state of each task, see `cluster.states`.
        step: the highest that a task reported.
        metrics: the newest value of each.
        about: pid, pid_started, hostname, job_id of the launcher.
        result: `result.json`, or {} before the end.
        last: the newest event.
        live: state, place and step of each task.
        meters: speed, learning curves, use of the machines.
        timeline: attempts, processes, failures, captures.
        trouble: what of its files is damaged and was passed over, or ''.
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
    live: Live = field(default_factory=Live)
    meters: Meters = field(default_factory=lambda: Meters(Task("worker", 0)))
    timeline: Timeline = field(default_factory=Timeline)
    trouble: str = ""

    @property
    def stepped(self) -> bool:
        """Whether anybody has told of a step: of a script nobody does."""
        return self.step > 0 or self.live.stepped


def find_run(name: str, storage: str = "./runs") -> str:
    """The run directory that `name` means: a path or URI, a name below `storage`, or `latest` there.

    Raises:
        RunNotFoundError: there is none.
        StorageError: a storage cannot be opened or listed.
    """
    folder, _, file = name.rpartition("/")
    if file == "events.jsonl" and ("://" in name or Path(name).is_file()):
        raise RunNotFoundError("a file of a run instead of its directory", name, f"give {folder or '.'}")
    if "://" in name and not name.partition("://")[2].partition("?")[0]:
        open_filesystem(name)  # which says that it names no bucket
    if "://" in name or Path(name, "events.jsonl").is_file():
        return name
    if "/" in name:
        seen = "it has no events.jsonl" if Path(name).is_dir() else "there is no such folder"
        raise RunNotFoundError("no such run", name, f"{seen}: give a run directory, or a run's name and --storage")
    known = run_names(storage)
    if name == "latest" and known:
        return join(storage, known[-1])
    matches = [n for n in known if n == name] or [n for n in known if n.startswith(name)]
    if len(matches) == 1:
        return join(storage, matches[0])
    where = shown(storage) if "://" in storage else Path(storage).resolve()
    seen = f"{len(matches)} runs begin with {name!r}" if matches else f"{name!r} in {where}"
    near = "" if matches else nearest(name, known)
    todo = "give its directory, --storage where it is (runs/ beside its spec by default), or --address if submitted"
    newest = ", ".join((matches or known)[-3:]) or "none"
    raise RunNotFoundError("no such run", seen, f"{f'did you mean {near}? ' if near else ''}{todo}; here: {newest}")


def nearest(name: str, known: Sequence[str]) -> str:
    """What a misspelt `name` most likely means: `latest`, or one of the runs, by its beginning too; '' if nothing.

    Args:
        name: as a person typed it.
        known: names of runs; of several that are as near, the last is meant.
    """
    meant = {"latest": "latest"} if known else {}
    for run in known:
        beginnings = run, run[: len(name)], run[: len(name) + 1], run.rsplit("-", 3)[0]
        meant |= dict.fromkeys(beginnings, run)
    return "".join(meant[found] for found in difflib.get_close_matches(name, meant, n=1))


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


def newest_running(storage: str) -> str | None:
    """The run directory in `storage` that began last of those that still run; None where none does.

    Raises:
        StorageError: it cannot be listed, or a run in it not be read.
    """
    uris = (join(storage, name) for name in reversed(run_names(storage)))
    return next((uri for uri in uris if not read_result(uri)[0] and _runs(uri)), None)


def _runs(uri: str) -> bool:
    """Whether a run goes on, as far as is known: it has told something, and is not silent for too long."""
    watch = Watch(uri)
    if not (watch.goes_on() and watch.hostname):
        return False
    run = read_run(uri, every_step=False)
    return silent_for(run.live, run.about, uri, time.time()) is None


def is_run(uri: str) -> bool:
    """Whether `uri` is a run directory; none of its files is read.

    Raises:
        StorageError: the storage does not answer.
    """
    from pyarrow import fs

    filesystem, base = open_filesystem(uri)
    try:
        found = filesystem.get_file_info(f"{base.rstrip('/')}/events.jsonl").type
    except OSError as error:
        raise StorageError("events.jsonl cannot be read", shown(uri), str(error).splitlines()[0]) from None
    return bool(found == fs.FileType.File)


def read_run(uri: str, *, every_step: bool = True) -> Run:
    """Read a run directory.

    Args:
        uri: its path or URI.
        every_step: whether learning curves are wanted; without them a long run is read ten times as fast, and how
            busy the input was is an estimate.

    Raises:
        RunNotFoundError: it is not one.
    """
    events = _events(uri, every_step=every_step)
    return summarise(uri, events, *read_result(uri))  # its end is in both


def glance(uri: str) -> Run:
    """How a run is doing, for a list of many: of one that has ended what its result tells, and no tasks.

    Raises:
        RunNotFoundError: it is no run directory.
    """
    result, _ = read_result(uri)
    if "steps" not in result or "status" not in result:
        return read_run(uri, every_step=False)
    live = Live(phase=str(result["status"]))
    metrics = {name: float(value) for name, value in result.get("metrics", {}).items()}
    return Run(
        uri, live.phase, int(result.get("attempts", 1)), int(result["steps"]), {}, metrics, result=result, live=live
    )


def read_result(uri: str) -> tuple[dict[str, Any], str]:
    """What `result.json` says, {} where there is none, and what is wrong with it; a damaged one is taken for none.

    Raises:
        StorageError: it cannot be read.
    """
    text = read_text(uri, "result.json")
    if text is None:
        return {}, ""
    with contextlib.suppress(ValueError, RecursionError):
        document = json.loads(text)
        if is_result(document):
            return dict(document), ""
    return {}, "result.json is damaged, and is passed over"


def _events(uri: str, *, every_step: bool) -> Iterator[Event]:
    """The events in the whole lines of a run directory, however many there are."""
    filesystem, base = open_filesystem(uri)
    try:
        with filesystem.open_input_stream(f"{base.rstrip('/')}/events.jsonl") as stream:
            lines = whole_lines(stream)
            yield from parsed(lines if every_step else newest_steps(lines))
    except (FileNotFoundError, NotADirectoryError):
        raise RunNotFoundError("not a run directory", shown(uri), "it has no events.jsonl") from None
    except OSError as error:
        raise StorageError("events.jsonl cannot be read", shown(uri), str(error).splitlines()[0]) from None


def parsed(lines: Iterable[str]) -> Iterator[Event]:
    """The events in whole lines; one that a full disk has cut, or of a shape that is not ours, is passed over."""
    for line in lines:
        with contextlib.suppress(ValueError):
            event = Event.from_line(line)
            if is_event(event):
                yield event


def summarise(uri: str, events: Iterable[Event], result: dict[str, Any], trouble: str = "") -> Run:
    """How the run of `events` is doing."""
    story = Story()
    for event in events:
        story.take(event)
    alive = not story.ended and launcher_alive(story.about)
    seen = "unknown" if story.last is None else "running" if alive else "lost"
    status = str(result.get("status") or story.ended or seen)
    story.timeline.finish(status == "running", time.time())
    if status not in ("running", "unknown"):
        story.live.end(status)
    return Run(
        uri,
        status,
        story.live.attempt if story.timeline.attempts else 0,
        story.step,
        {str(task): str(life.state) for task, life in story.live.tasks.items()},
        story.metrics,
        story.about,
        result,
        story.last,
        story.live,
        story.meters,
        story.timeline,
        trouble,
    )


@dataclass
class Story:
    """What the events of one run tell, each taken once and in order."""

    about: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    step: int = 0
    ended: str = ""
    last: Event | None = None
    live: Live = field(default_factory=Live)
    meters: Meters = field(default_factory=lambda: Meters(Task("worker", 0)))
    timeline: Timeline = field(default_factory=Timeline)

    def take(self, event: Event) -> None:
        """Take the next event."""
        self.last = event
        self.live.take(event)
        if event.kind == "placed" and self.live.leader is not None:
            self.meters.leader = self.live.leader
        self.meters.take(event)
        self.timeline.take(event)
        if event.kind == "run_started":
            self.about = dict(event.data)
        if event.kind in ("step", "evaluated"):
            self.metrics.update({name: float(value) for name, value in event.data.get("metrics", {}).items()})
            self.step = max(self.step, int(event.data["step"]))
        if event.kind == "run_ended":
            self.ended = str(event.data["status"])


class Watch:
    """Whether a run goes on, from what is new in its events."""

    def __init__(self, uri: str) -> None:
        self._tail = Tail(uri, "events.jsonl")
        self._about: dict[str, Any] = {}
        self._ended = False

    @property
    def hostname(self) -> str:
        """Of the launcher's machine, as far as `goes_on` has read; else ''."""
        return str(self._about.get("hostname", ""))

    def goes_on(self) -> bool:
        """Whether its launcher lives and has not told of its end.

        Raises:
            StorageError: its events cannot be read.
        """
        for line in self._tail.lines():
            if '"run_started"' in line or '"run_ended"' in line:  # of a thousand tasks' steps none need be parsed
                for event in parsed([line]):
                    self._ended = self._ended or event.kind == "run_ended"
                    self._about = dict(event.data) if event.kind == "run_started" else self._about
        return not self._ended and launcher_alive(self._about)


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


def check_told(run: Run) -> None:
    """Whether anything is known of a run.

    Raises:
        RunNotFoundError: it has told nothing.
    """
    if run.status == "unknown":
        todo = "no event is in its events.jsonl: wait for one, or remove the directory if nothing runs"
        raise RunNotFoundError("the run has told nothing yet", shown(run.uri), todo)


def stop(run: Run, patience: float = 60.0) -> bool:
    """Ask the launcher of `run` to end in order, and wait for it; False when it had ended before.

    Raises:
        RunNotFoundError: its launcher runs on another machine, belongs to another user, or is not known.
        TfClusterError: it did not end within `patience` seconds.
    """
    check_told(run)
    if run.status != "running":
        return False
    if not isinstance(run.about.get("pid"), int) or not run.about.get("hostname"):
        todo = "look where it was started: its events.jsonl does not tell"
        raise RunNotFoundError("where the launcher runs is not known", shown(run.uri), todo)
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
