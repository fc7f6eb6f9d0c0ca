"""How far a job is, from the events of its tasks."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from cluster.events import Event
from cluster.tasks import Task


@dataclass
class Progress:
    """How far the job is, from the events of its tasks."""

    step: int = 0
    metrics: dict[str, float] = field(default_factory=dict)
    value: Any = None
    seen: dict[Task, float] = field(default_factory=dict)  # task → time.monotonic() of its last step

    def take(self, event: Event, leader: Task) -> None:
        """Note what `event` says of the job's progress."""
        if event.kind == "step" and event.task is not None:
            self.seen[event.task] = time.monotonic()
            if event.task == leader:
                self.step = max(self.step, int(event.data.get("step", 0)))
        if event.task == leader or event.kind == "evaluated":
            self.metrics.update(event.data.get("metrics", {}))
        if event.kind == "finished" and event.task == leader:
            self.value = event.data.get("value")
