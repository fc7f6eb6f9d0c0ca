"""One capture: which tasks it traces, and how far each of them is. Pure."""

from __future__ import annotations

import difflib
import itertools
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cluster.tasks import Task

#: End of a trace's name, after that of its task. Other files in the folder are the caches of its viewers.
SUFFIX = ".xplane.pb"
#: Longest capture, in seconds: a busy task makes some megabytes of events a second, and keeps them in its memory.
LONGEST = 120.0
#: Tasks that are traced unless others are named: a picture of more is hard to read, and each costs its task memory.
MOST_TASKS = 16


@dataclass
class Capture:
    """What has become of one capture.

    Attributes:
        id: names it in messages and events.
        tasks: that are traced.
        seconds: how long; None until it is told to end.
        held: whether training waits for every task to record.
        recording: tasks that have begun.
        sizes: bytes of the traces that are here.
        missing: tasks that will give none, and why.
        notes: on traces that are not as they should be, and whose.
        cut: that it ended before its time, and why; or ''.
        folder: of the run directory, where they are in the end; or ''.
    """

    id: str
    tasks: tuple[Task, ...]
    seconds: float | None = None
    held: bool = False
    recording: set[Task] = field(default_factory=set)
    sizes: dict[Task, int] = field(default_factory=dict)
    missing: dict[Task, str] = field(default_factory=dict)
    notes: dict[str, list[Task]] = field(default_factory=dict)
    cut: str = ""
    folder: str = ""

    @property
    def begun(self) -> bool:
        """Whether no task is left that might still begin."""
        return all(task in self.recording or task in self.missing for task in self.tasks)

    @property
    def awaited(self) -> tuple[Task, ...]:
        """Tasks whose trace may still come."""
        return tuple(task for task in self.tasks if task not in self.sizes and task not in self.missing)

    def note(self, task: Task, notes: Iterable[str]) -> None:
        """Take what a task says of its trace."""
        for text in notes:
            self.notes.setdefault(text, []).append(task)

    @property
    def noted(self) -> list[str]:
        """The notes as sentences, one for all tasks that say the same."""
        of_tasks = [f"the trace of {_some(tasks)}: {text}" for text, tasks in self.notes.items()]
        return [self.cut, *of_tasks] if self.cut else of_tasks

    @property
    def nothing(self) -> str:
        """Why no task gave a trace: the first reason, and who else has it."""
        first = next(iter(self.missing.values()), "")
        if not first:
            return "no task gave a trace"
        others = len({*self.missing.values()}) - 1
        more = f"; and {others} other reason{'s' if others > 1 else ''}" if others else ""
        return f"no task gave a trace: {_some([t for t, why in self.missing.items() if why == first])}: {first}{more}"

    def document(self, status: str, **more: Any) -> dict[str, Any]:
        """The data of its event."""
        tasks = {str(t): {"bytes": self.sizes[t]} if t in self.sizes else {} for t in self.tasks}
        document: dict[str, Any] = {"id": self.id, "status": status, "tasks": tasks}
        if self.seconds is not None:
            document["seconds"] = self.seconds
        if self.folder:
            document["folder"] = self.folder
        if self.noted:
            document["notes"] = self.noted
        if self.cut:
            document["cut"] = self.cut
        if self.missing:
            document["missing"] = {str(task): why for task, why in self.missing.items()}
        return {**document, **more}


def asked_for(asked: Mapping[str, Any]) -> tuple[float, list[str] | None]:
    """Seconds and tasks of a request, `{kind: profile, seconds: …, tasks: […]}`, of which `tasks` may be missing.

    Raises:
        ValueError: it is no such request; the message is for the user.
    """
    kind, seconds, tasks = asked.get("kind"), asked.get("seconds"), asked.get("tasks")
    if kind != "profile":
        raise ValueError(f"its kind is {kind!r}; known: profile")
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds <= LONGEST:
        raise ValueError(f"seconds is {seconds!r}; it may be a number above 0 and up to {LONGEST:g}")
    if tasks is not None and not (tasks and isinstance(tasks, list) and all(isinstance(name, str) for name in tasks)):
        raise ValueError(f"tasks is {tasks!r}; it may be a list of names, or missing")
    return float(seconds), tasks


def chosen(wanted: Iterable[str] | None, running: Sequence[Task]) -> tuple[Task, ...]:
    """The running tasks that `wanted` names, by task or role; by default the first of each role, `MOST_TASKS` in all.

    Raises:
        ValueError: a name is of no running task, or none runs; the message is for the user.
    """
    if not running:
        raise ValueError("no task is running at the moment")
    if wanted is None:
        return _some_of_each(running)
    found: list[Task] = []
    for name in wanted:
        of_it = [task for task in running if name in (str(task), task.role)]
        if not of_it:
            known = [*dict.fromkeys(task.role for task in running), *map(str, running)]
            near = difflib.get_close_matches(name, known, n=1)
            raise ValueError(f"no running task is {name!r}; {f'did you mean {near[0]}?' if near else _known(running)}")
        found += of_it
    return tuple(dict.fromkeys(found))


def _known(running: Sequence[Task]) -> str:
    return f"running: {_some(running)}"


def _some(tasks: Sequence[Task]) -> str:
    return f"{', '.join(map(str, tasks[:8]))}{', …' if len(tasks) > 8 else ''}"


def _some_of_each(running: Sequence[Task]) -> tuple[Task, ...]:
    """Up to `MOST_TASKS`, in turn from each role, in the order of the plan; the evaluator only when it is named."""
    by_role: dict[str, list[Task]] = {}
    for task in running:
        if task.role != "evaluator" or len(running) == 1:
            by_role.setdefault(task.role, []).append(task)
    turns = itertools.zip_longest(*by_role.values())
    taken = {*[task for turn in turns for task in turn if task is not None][:MOST_TASKS]}
    return tuple(task for task in running if task in taken)


def traced_bytes(data: Mapping[str, Any]) -> int:
    """Of all traces of a capture, by the data of one of its events."""
    return sum(int(told.get("bytes", 0)) for told in data["tasks"].values())


def folder_name(at: float) -> str:
    """Of a capture that came together at `at` (seconds since the epoch), as TensorFlow names them, in UTC."""
    return time.strftime("%Y_%m_%d_%H_%M_%S", time.gmtime(at))
