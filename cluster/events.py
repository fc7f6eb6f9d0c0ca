"""The events of a run: what tasks, supervisors and the launcher tell each other, and `events.jsonl`."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, cast

from cluster.locations import shown
from cluster.spec_parts import RoleName
from cluster.tasks import Task

Kind = Literal[
    "run_started",  # the launcher took the spec
    "attempt_started",  # the launcher asks for resources
    "placed",  # every supervisor is up on its node
    "task_started",  # a child process exists: pid, how, node
    "task_ready",  # its strategy or server stands; user code begins
    "step",  # progress: step, epoch, metrics
    "checkpoint",  # the leader saved one: step, path
    "usage",  # what the tasks take of their machines: tasks → cpus, memory, gpus
    "dumps",  # a task's dumps lie on its node: folder, files (not recorded, see cluster.dumps)
    "profile",  # a capture of traces: id, status (see cluster.captures)
    "evaluated",  # the evaluator has seen one: step, metrics
    "notice",  # a sentence for the user
    "finished",  # the task's code returned: value
    "failed",  # the task's code raised: type, message, traceback, peer, passing (no error of its own), exit_code
    "lost",  # process, supervisor or node gone: reason, node_alive
    "node_draining",  # a node of some tasks is about to be lost: node, tasks, seconds
    "data_listed",  # a task has listed data that it shares with others (not recorded, see cluster.same_data)
    "stop_answer",  # a task can save with the others, or not: round, passed (not recorded, see cluster.agreement)
    "hang",  # no step for timeouts.hang: tasks
    "placement_failed",  # error
    "startup_failed",  # error
    "evaluator_late",  # timeouts.evaluator passed after the end of training
    "interrupted",  # Ctrl-C, SIGTERM, stop
    "settled",  # the time to collect further failures, or the ends of other tasks, is over
    "restarting",  # a task in place, or the whole job: after, reason
    "run_ended",  # status, exit_code
]


@dataclass(frozen=True)
class Event:
    """One thing that happened, in one attempt, to one task or (task None) to the whole job.

    `at` is seconds since the Unix epoch on the machine that saw it; `data` holds plain JSON values.
    """

    kind: Kind
    attempt: int = 0
    task: Task | None = None
    data: Mapping[str, Any] = field(default_factory=dict)
    at: float = field(default_factory=time.time)

    def to_line(self) -> str:
        """The event as one JSON line, with its newline."""
        document: dict[str, Any] = {"at": round(self.at, 3), "kind": self.kind, "attempt": self.attempt}
        if self.task is not None:
            document["role"], document["index"] = self.task
        return to_json({**document, **self.data, **document}) + "\n"  # no data hides when, what and whose it is

    @classmethod
    def from_line(cls, line: str) -> Event:
        """The event in one JSON line.

        Raises:
            ValueError: the line is not an event.
        """
        document = json.loads(line)
        try:
            document = dict(document)
            role = document.pop("role", None)
            task = None if role is None else Task(cast(RoleName, role), document.pop("index"))
            at, kind, attempt = document.pop("at"), document.pop("kind"), document.pop("attempt")
        except (KeyError, TypeError, ValueError):
            raise ValueError(f"not an event: {line[:80]!r}") from None
        return cls(kind, attempt, task, document, at)


def to_json(document: object, indent: int | None = None) -> str:
    """`document` as JSON that every reader takes, and anybody: without the passwords of its URIs.

    A loss may be NaN, for which JSON has no number; it is written as text, `"NaN"`, `"Infinity"` or `"-Infinity"`,
    which `float` reads. What JSON cannot hold at all is written as text too.
    """
    return json.dumps(_plain(document), indent=indent, default=str, allow_nan=False)


def _plain(value: object) -> object:
    if isinstance(value, str):
        return shown(value)
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Mapping):
        return {name: _plain(part) for name, part in value.items()}
    return [_plain(part) for part in value] if isinstance(value, list | tuple) else value
