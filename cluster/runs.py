"""Finds a run directory again, says how its run is doing, and stops it."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import select
import signal
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cluster.errors import RunNotFoundError, StorageError, TfClusterError
from cluster.events import Event
from cluster.live import Live
from cluster.locations import join, shown
from cluster.meters import Meters
from cluster.storage import open_filesystem, read_text
from cluster.tail import Tail
from cluster.tasks import Task
from cluster.timeline import Timeline


@dataclass(frozen=True)
class Run:
    """A run as its directory tells it.

    Attributes:
        uri: the run directory.
        status: running, lost (its launcher is gone without a result), succeeded, failed or interrupted.
        tasks: state of each task, see `cluster.states`.
        step: the highest that a task reported.
        metrics: the newest value of each.
        about: pid, pid_started, hostname, job_id of the launcher.
        result: `result.json`, or {} before the end.
        last: the newest event.
        live: state, place and step of each task.
        meters: speed, learning curves, use of the machines.
        timeline: attempts, processes, failures, captures.
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
    todo = "give its directory, --storage where it is (runs/ beside its spec by default), or --address if submitted"
    raise RunNotFoundError("no such run", seen, f"{todo}; here: {newest}")


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
    return next((uri for uri in uris if not read_text(uri, "result.json") and Watch(uri).goes_on()), None)


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
    return summarise(uri, _events(uri, every_step=every_step), _result(uri))  # its end is in both


def glance(uri: str) -> Run:
    """How a run is doing, for a list of many: of one that has ended what its result tells, and no tasks.

    Raises:
        RunNotFoundError: it is no run directory.
    """
    result = _result(uri)
    if "steps" not in result or "status" not in result:
        return read_run(uri, every_step=False)
    live = Live(phase=str(result["status"]))
    metrics = {name: float(value) for name, value in result.get("metrics", {}).items()}
    return Run(
        uri, live.phase, int(result.get("attempts", 1)), int(result["steps"]), {}, metrics, result=result, live=live
    )


def _result(uri: str) -> dict[str, Any]:
    return dict(json.loads(read_text(uri, "result.json") or "{}"))


def _events(uri: str, *, every_step: bool) -> Iterator[Event]:
    """The events in the whole lines of a run directory, however many there are."""
    filesystem, base = open_filesystem(uri)
    try:
        with filesystem.open_input_stream(f"{base.rstrip('/')}/events.jsonl") as stream:
            yield from parsed(_lines(stream) if every_step else newest_steps(_lines(stream)))
    except (FileNotFoundError, NotADirectoryError):
        raise RunNotFoundError("not a run directory", shown(uri), "it has no events.jsonl") from None
    except OSError as error:
        raise StorageError("events.jsonl cannot be read", shown(uri), str(error).splitlines()[0]) from None


def _lines(stream: Any) -> Iterator[str]:
    """The whole lines of `stream`: the last may still be being written."""
    rest = b""
    while data := bytes(stream.read(1 << 18)):
        *whole, rest = (rest + data).split(b"\n")
        for line in whole:
            yield line.decode(errors="replace")


#: What differs between steps of one task that tell of the same things.
_NUMBERS = b"0123456789.+-"


def newest_steps(lines: Iterable[str]) -> Iterator[str]:
    """Whole lines of events, without steps that later ones of the same task outdate before anything else happens.

    Of steps that tell of the same things, such as the same metrics, the newest two remain, which tell the speed, and
    the first, from which on the average counts. Most lines of a long run are steps, and to parse one takes ten times as
    long as to see that it need not be parsed.
    """
    held: dict[tuple[object, ...], tuple[tuple[int, str], ...]] = {}
    for number, line in enumerate(lines):
        if '"kind": "step"' in line[:64]:
            index = line[: line.find(",", line.find('"index": '))].rpartition(" ")[2]
            names = line[line.find('"metrics"') :].split('"')[1::2]  # which may have numbers in them
            key = index, line.encode().translate(None, _NUMBERS), *names
            first, later = held.get(key, ())[:1], held.get(key, ())[1:]
            held[key] = (*first, *later[-1:], (number, line))
            continue
        if held:
            yield from _in_order(held.values())
            held.clear()
        yield line
    yield from _in_order(held.values())


def _in_order(held: Iterable[tuple[tuple[int, str], ...]]) -> list[str]:
    return [line for _, line in sorted(itertools.chain.from_iterable(held))]


def parsed(lines: Iterable[str]) -> Iterator[Event]:
    """The events in whole lines; one that a full disk has cut is passed over."""
    for line in lines:
        with contextlib.suppress(ValueError):
            yield Event.from_line(line)


def summarise(uri: str, events: Iterable[Event], result: dict[str, Any]) -> Run:
    """How the run of `events` is doing."""
    story = Story()
    for event in events:
        story.take(event)
    alive = not story.ended and launcher_alive(story.about)
    status = str(result.get("status") or story.ended or ("running" if alive else "lost"))
    story.timeline.finish(status == "running", time.time())
    if status != "running":
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
