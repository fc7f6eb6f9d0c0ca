"""Writes a run directory while the run goes on: events, one log a task, the result, post-mortems."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from cluster.events import Event, to_json
from cluster.plan import Plan
from cluster.spec import shown_document
from cluster.storage import RunDirectory
from cluster.tasks import Task

#: What a post-mortem keeps of the events and of each task's log, in lines.
LAST_EVENTS = 200
LAST_LINES = 100


@dataclass
class Recorder:
    """One run's files; `event` and `log` are called in the order in which things happened."""

    directory: RunDirectory
    plan: Plan
    events: deque[str] = field(default_factory=lambda: deque(maxlen=LAST_EVENTS))
    tails: dict[Task, deque[str]] = field(default_factory=dict)

    def begin(self) -> None:
        """Make the folders and write the spec."""
        self.directory.create()
        self.directory.write("job.yaml", spec_text(self.plan))

    def event(self, event: Event) -> None:
        """Append one event to `events.jsonl`."""
        line = event.to_line()
        self.events.append(line)
        self.directory.append("events.jsonl", line)

    def log(self, task: Task, text: str) -> None:
        """Append whole lines to the task's log."""
        self.tails.setdefault(task, deque(maxlen=LAST_LINES)).extend(text.split("\n"))
        self.directory.append(f"logs/{task}.log", text + "\n")

    def post_mortem(self, attempt: int, reason: str, stacks: Mapping[Task, str]) -> None:
        """Write `failures/<attempt>/`: why, spec, plan, last events, log tails and stacks."""
        folder = f"failures/{attempt}"
        self.directory.write(f"{folder}/reason.txt", reason + "\n")
        self.directory.write(f"{folder}/job.yaml", spec_text(self.plan))
        self.directory.write(f"{folder}/plan.json", to_json(self.plan.to_document(), indent=2) + "\n")
        self.directory.write(f"{folder}/events.jsonl", "".join(self.events))
        for task, lines in self.tails.items():
            self.directory.write(f"{folder}/{task}.log", "\n".join(lines) + "\n")
        for task, text in stacks.items():
            if text:
                self.directory.write(f"{folder}/{task}.stacks", text)

    def result(self, document: Mapping[str, Any]) -> None:
        """Write `result.json`, whole or not at all, and bring everything to the storage."""
        self.directory.write("result.json", to_json(document, indent=2) + "\n")
        self.directory.close()


def spec_text(plan: Plan) -> str:
    """The spec as YAML, as the user set it but for secrets."""
    return yaml.safe_dump(shown_document(plan.spec), sort_keys=False)
