"""`profile(run)`: has the tasks of a running job traced over the same time, and waits for the verdict."""

from __future__ import annotations

import contextlib
import json
import tempfile
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import yaml

from cluster import copying, requests
from cluster.advice import About
from cluster.capture import LONGEST, traced_bytes
from cluster.errors import CaptureError, SpecError
from cluster.events import Event
from cluster.live import Live
from cluster.locations import join, shown
from cluster.runs import Run, check_told, parsed, read_run
from cluster.spec import parse
from cluster.storage import download_folder, read_text
from cluster.tail import Tail

#: Seconds that a launcher has to take a request, beyond those in which it looks for one.
_TAKING = 30.0
#: Longest wait for tasks that are still starting, in seconds.
_STARTING = 300.0
#: Seconds after a capture in which its traces are gathered, and bytes that are judged in each second after those.
_GATHERING, _JUDGED = 120.0, 1e6
#: Seconds between two looks at the run's events.
_EVERY = 0.2


def profile(
    run_dir: str,
    seconds: float = 3.0,
    tasks: Collection[str] | None = None,
    on_event: Callable[[Event], None] = lambda event: None,
) -> dict[str, Any]:
    """Trace tasks of a running job for some seconds; what `verdict.json` of the capture says, and where it is.

    While the job starts, or starts again, it waits up to five minutes for the tasks.

    Args:
        run_dir: a run directory, path or URI; whoever may write there may ask.
        seconds: how long, up to 120.
        tasks: names or roles, such as `worker-0` or `ps`; default: some of each role but the evaluator, 16 in all.
        on_event: is shown how far the capture is.

    Returns:
        The verdict, with `folder`, the path or URI of the traces, and `traces`, the bytes of each task's.

    Raises:
        SpecError: `seconds` is out of range, or `tasks` names none.
        CaptureError: no task could be traced, or the run has ended, or still starts.
        RunNotFoundError, StorageError: the run cannot be read, or not be written to.
    """
    check(seconds, tasks)
    events = Tail(run_dir, "events.jsonl")
    events.skip()
    run = read_run(run_dir, every_step=False)
    check_told(run)
    if run.status != "running":
        raise CaptureError("the run has ended", f"{shown(run_dir)}: {run.status}", "profile a running one")
    named = None if tasks is None else list(tasks)
    asked = requests.ask(run_dir, kind="profile", seconds=seconds, tasks=named)
    try:
        return _outcome(run_dir, _Answer(run, events, asked, seconds, on_event).last())
    finally:  # a launcher that has not come to it need not trace for nobody
        requests.take_back(run_dir, asked)


def check(seconds: float, tasks: Collection[str] | None) -> None:
    """Whether tasks can be asked for a capture.

    Raises:
        SpecError: not for so many seconds, or none is named.
    """
    if not 0 < seconds <= LONGEST:
        todo = f"give a number above 0 and up to {LONGEST:g}: what is traced is kept in memory"
        raise SpecError("a capture cannot take so many seconds", f"{seconds:g}", todo)
    if tasks is not None and not tasks:
        todo = "name tasks or roles, such as worker-0,ps; or leave it out, for some of each role"
        raise SpecError("no task is named to be traced", "tasks is empty", todo)


class _Answer:
    """What the run's events say of the capture that was `asked` for, see `profile`."""

    def __init__(self, run: Run, events: Tail, asked: str, seconds: float, on_event: Callable[[Event], None]) -> None:
        self._uri, self._live, self._events = run.uri, run.live, events
        self._asked, self._seconds, self._on_event = asked, seconds, on_event
        self._begun = time.monotonic()
        self._patience = patience(seconds, local=events.is_local)
        self._deadline = self._begun + self._patience
        self._folder = ""  # of its traces, once they are in place
        self._heard = self._told = False  # of the capture, and of what it waits for

    def last(self) -> dict[str, Any]:
        """The data of the event with which it ended."""
        while time.monotonic() < self._deadline:
            for event in parsed(self._events.lines()):
                self._live.take(event)
                if event.kind == "run_ended":
                    raise CaptureError("the run ended before its traces had come together", shown(self._uri), "")
                if event.kind == "profile" and event.data.get("id") == self._asked and self._ended(event):
                    return dict(event.data)
            self._wait_for_tasks()
            time.sleep(_EVERY)
        raise self._silence()

    def _ended(self, event: Event) -> bool:
        self._heard = True
        self._on_event(event)
        if event.data["status"] == "tracing":
            self._deadline = time.monotonic() + self._seconds + _GATHERING
        elif event.data["status"] == "collected":
            self._folder = str(event.data["folder"])
            self._deadline = time.monotonic() + _GATHERING + traced_bytes(event.data) / _JUDGED
        else:
            return True
        return False

    def _wait_for_tasks(self) -> None:
        """Have more patience while tasks are still to come: the launcher takes no request before all are there."""
        if self._heard or not starts(self._live):
            return
        if not self._told:
            self._told = True
            reason = starting_text(self._live.attempt, local=self._events.is_local)
            data = {"id": self._asked, "status": "waiting", "reason": reason}
            self._on_event(Event("profile", self._live.attempt, data=data))
        if time.monotonic() - self._begun < _STARTING:
            self._deadline = time.monotonic() + self._patience

    def _silence(self) -> CaptureError:
        if not self._heard and starts(self._live):
            seen = f"{shown(self._uri)}: attempt {self._live.attempt}, {self._live.phase}"
            return CaptureError("the job is still starting", seen, "try again when its tasks run")
        if self._folder:
            seen = join(shown(self._uri), self._folder)
            return CaptureError("the traces are there, but no verdict yet", seen, "see tfcluster status later")
        todo = "it may hang: see tfcluster status and its logs"
        return CaptureError("the launcher did not answer", shown(self._uri), todo)


def patience(seconds: float, *, local: bool) -> float:
    """Seconds until a launcher must have been heard of a capture of so many `seconds`.

    On remote storage nothing is seen before it is copied there, and that is so when the traces have come together, if
    not at the next copy of all events.
    """
    return requests.REMOTE_SECONDS + _TAKING + (0.0 if local else copying.EVERY + seconds)


def starting_text(attempt: int, *, local: bool) -> str:
    """What to say while tasks start; of remote storage what is known may be half a minute old, and they may all run."""
    if local:
        return f"attempt {attempt} is starting; waiting for its tasks"
    return f"attempt {attempt} was starting when its events were last copied; waiting for newer ones"


def starts(live: Live) -> bool:
    """Whether tasks of a run are still to come, of its first or another attempt."""
    coming = ("waiting", "placed", "starting")
    return live.phase in ("placing", "starting", "restarting") or any(t.state in coming for t in live.tasks.values())


def _outcome(run_dir: str, data: dict[str, Any]) -> dict[str, Any]:
    if data["status"] != "done":
        missing = data.get("missing", {})
        each = "".join(f"\n  - {task}: {why}" for task, why in missing.items())
        several = len({*missing.values()}) > 1  # else the reason says it
        raise CaptureError("nothing was traced", f"{data.get('reason', data['status'])}{each if several else ''}", "")
    return verdict_of(run_dir, data)


def verdict_of(run_dir: str, data: dict[str, Any]) -> dict[str, Any]:
    """What the capture with the last event `data` says, as kept in the run directory."""
    folder = str(data["folder"])
    verdict = _kept(run_dir, folder) or _judged(run_dir, folder, data)
    traces = {task: told["bytes"] for task, told in data["tasks"].items() if told}
    return {**verdict, "folder": join(run_dir, folder), "traces": traces}


def _kept(run_dir: str, folder: str) -> dict[str, Any]:
    """What `verdict.json` holds; {} where it is missing or damaged."""
    with contextlib.suppress(ValueError):
        document = json.loads(read_text(run_dir, f"{folder}/verdict.json") or "{}")
        return document if isinstance(document, dict) else {}
    return {}


def _judged(run_dir: str, folder: str, data: dict[str, Any]) -> dict[str, Any]:
    """The verdict on traces whose run ended before it was made."""
    from cluster.verdict import judge_folder

    spec = parse(yaml.safe_load(read_text(run_dir, "job.yaml") or ""))
    with tempfile.TemporaryDirectory(prefix="tfcluster-traces-") as copy:
        traces = Path(run_dir, folder)
        if "://" in run_dir:
            traces = Path(copy)
            download_folder(join(run_dir, folder), traces)
        about = About(script=spec.script is not None, cut=bool(data.get("cut")))
        missing = data.get("missing", {})
        verdict = judge_folder(traces, strategy=spec.strategy, missing=missing, about=about).to_document()
        return {**verdict, "notes": [*data.get("notes", []), *verdict["notes"]]}


def is_script(run_dir: str) -> bool:
    """Whether the job of a run directory is an unmodified script."""
    spec = yaml.safe_load(read_text(run_dir, "job.yaml") or "")
    return isinstance(spec, dict) and spec.get("script") is not None


def last_verdict(run: Run) -> dict[str, Any] | None:
    """What the newest capture of `run` said; None where it has none."""
    done = [capture for capture in run.timeline.captures.values() if capture.get("folder")]
    return verdict_of(run.uri, dict(done[-1])) if done else None
