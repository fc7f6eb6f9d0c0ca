"""`profile(run)`: has the tasks of a running job traced over the same time, and waits for the verdict."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection
from typing import Any

from cluster import requests
from cluster.capture import LONGEST
from cluster.errors import CaptureError, SpecError
from cluster.events import Event
from cluster.locations import join, shown
from cluster.runs import Run, read_run
from cluster.storage import read_text
from cluster.tail import Tail

#: Seconds that a launcher has to take a request, beyond those in which it looks for one.
_TAKING = 30.0
#: Seconds between two looks at the run's events.
_EVERY = 0.2


def profile(
    run_dir: str,
    seconds: float = 3.0,
    tasks: Collection[str] | None = None,
    on_event: Callable[[Event], None] = lambda event: None,
) -> dict[str, Any]:
    """Trace tasks of a running job for some seconds; what `verdict.json` of the capture says, and where it is.

    Args:
        run_dir: a run directory, path or URI; whoever may write there may ask.
        seconds: how long, up to 120.
        tasks: names or roles, such as `worker-0` or `ps`; default: some of each role, 16 in all.
        on_event: is shown how far the capture is.

    Returns:
        The verdict, with `folder`, the path or URI of the traces, and `traces`, the bytes of each task's.

    Raises:
        SpecError: `seconds` is out of range.
        CaptureError: no task could be traced, or the run has ended.
        RunNotFoundError, StorageError: the run cannot be read, or not be written to.
    """
    if not 0 < seconds <= LONGEST:
        raise SpecError("a capture takes up to two minutes", f"{seconds:g} seconds", "its events are kept in memory")
    run = read_run(run_dir)
    if run.status != "running":
        raise CaptureError("the run has ended", f"{shown(run_dir)}: {run.status}", "profile a running one")
    events = Tail(run_dir, "events.jsonl")
    events.lines()
    named = None if tasks is None else list(tasks)
    asked = requests.ask(run_dir, kind="profile", seconds=seconds, tasks=named)
    return _outcome(run_dir, _last_event(run_dir, events, asked, seconds, on_event))


def _last_event(
    run_dir: str, events: Tail, asked: str, seconds: float, on_event: Callable[[Event], None]
) -> dict[str, Any]:
    """The data of the event with which capture `asked` ended."""
    deadline = time.monotonic() + requests.REMOTE_SECONDS + _TAKING
    while time.monotonic() < deadline:
        for line in events.lines():
            event = Event.from_line(line)
            if event.kind == "run_ended":
                raise CaptureError("the run ended before its traces had come together", shown(run_dir), "")
            if event.kind != "profile" or event.data["id"] != asked:
                continue
            on_event(event)
            if event.data["status"] != "tracing":
                return dict(event.data)
            deadline = time.monotonic() + seconds + _TAKING + 90.0
        time.sleep(_EVERY)
    raise CaptureError("the launcher did not answer", shown(run_dir), "it may hang: see tfcluster status and its logs")


def _outcome(run_dir: str, data: dict[str, Any]) -> dict[str, Any]:
    if data["status"] != "done":
        missing = "".join(f"\n  - {task}: {why}" for task, why in data.get("missing", {}).items())
        raise CaptureError("nothing was traced", f"{data.get('reason', data['status'])}{missing}", "")
    return verdict_of(run_dir, data)


def verdict_of(run_dir: str, data: dict[str, Any]) -> dict[str, Any]:
    """What the capture with the last event `data` says, as kept in the run directory."""
    folder = str(data["folder"])
    text = read_text(run_dir, f"{folder}/verdict.json") or "{}"
    traces = {task: told["bytes"] for task, told in data["tasks"].items() if told}
    return {**json.loads(text), "folder": join(run_dir, folder), "traces": traces}


def last_verdict(run: Run) -> dict[str, Any] | None:
    """What the newest capture of `run` said; None where it has none."""
    done = [capture for capture in run.timeline.captures.values() if capture.get("status") == "done"]
    return verdict_of(run.uri, dict(done[-1])) if done else None
