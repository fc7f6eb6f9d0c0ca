"""Writes a run directory while the run goes on: events, one log a task, the result, post-mortems."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import yaml

from cluster.events import Event, to_json
from cluster.log_times import GRAIN, mark
from cluster.plan import Plan
from cluster.secrets import Mask
from cluster.spec import mask_of, shown_document
from cluster.storage import RunDirectory
from cluster.tasks import Task

#: What a post-mortem keeps of the events and of each task's log, in lines.
LAST_EVENTS = 200
LAST_LINES = 100


@dataclass
class Recorder:
    """One run's files; `event` and `log` are called in the order in which things happened.

    Attributes:
        mask: over the secrets of the spec and of the launcher's environment.
    """

    directory: RunDirectory
    plan: Plan
    events: deque[str] = field(default_factory=lambda: deque(maxlen=LAST_EVENTS))
    tails: dict[Task, deque[str]] = field(default_factory=dict)
    marked: dict[Task, float] = field(default_factory=dict)
    mask: Mask = field(init=False)

    def __post_init__(self) -> None:
        self.mask = mask_of(self.plan.spec, os.environ)

    def masked(self, event: Event) -> Event:
        """`event` as others may see it."""
        return replace(event, data=self.mask.data(event.data)) if self.mask.values else event

    def begin(self) -> None:
        """Make the folders and write the spec."""
        self.directory.create()
        self.directory.write("job.yaml", spec_text(self.plan, self.mask))

    def event(self, event: Event) -> None:
        """Append one event to `events.jsonl`."""
        line = event.to_line()
        self.events.append(line)
        self.directory.append("events.jsonl", line)

    def log(self, task: Task, text: str) -> None:
        """Append whole lines to the task's log, and now and then the time to `logs/<task>.times`."""
        self.tails.setdefault(task, deque(maxlen=LAST_LINES)).extend(text.split("\n"))
        now = time.time()
        if now - self.marked.get(task, 0.0) >= GRAIN:
            self.directory.append(f"logs/{task}.times", mark(self.directory.size(f"logs/{task}.log"), now))
            self.marked[task] = now
        self.directory.append(f"logs/{task}.log", text + "\n")

    def post_mortem(self, attempt: int, reason: str, stacks: Mapping[Task, str]) -> None:
        """Write `failures/<attempt>/`: why, spec, plan, last events, log tails and stacks."""
        folder = f"failures/{attempt}"
        self.directory.write(f"{folder}/reason.txt", reason + "\n")
        self.directory.write(f"{folder}/job.yaml", spec_text(self.plan, self.mask))
        plan = self.mask.data(self.plan.to_document())
        self.directory.write(f"{folder}/plan.json", to_json(plan, indent=2) + "\n")
        self.directory.write(f"{folder}/events.jsonl", "".join(self.events))
        for task, lines in self.tails.items():
            self.directory.write(f"{folder}/{task}.log", "\n".join(lines) + "\n")
        for task, text in stacks.items():
            if text:
                self.directory.write(f"{folder}/{task}.stacks", self.mask.text(text))

    def result(self, document: Mapping[str, Any]) -> None:
        """Write `result.json`, whole or not at all, and bring everything to the storage."""
        self.directory.write("result.json", to_json(document, indent=2) + "\n")
        self.directory.close()


def spec_text(plan: Plan, mask: Mask) -> str:
    """The spec as YAML, as the user set it but for secrets."""
    return yaml.safe_dump(mask.data(shown_document(plan.spec)), sort_keys=False)
