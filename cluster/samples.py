"""Gathers what each task takes of its machine into one `usage` event now and then. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from cluster.tasks import Task

#: Seconds between two `usage` events; more for a job of more tasks, so that its events take no more room.
EVERY, TASKS = 30.0, 250
#: Seconds from the first sample to the first event, in which the other tasks' come too.
FIRST = 3.0


@dataclass
class _Gathered:
    """The samples of one task: sums over time of what is averaged, and the most of what is not."""

    seconds: float = 0.0
    sums: dict[str, float] = field(default_factory=dict)
    most: dict[str, float] = field(default_factory=dict)

    def add(self, sample: Mapping[str, float]) -> None:
        """Take a sample, see `cluster.usage.Sample`."""
        seconds = float(sample["seconds"])
        self.seconds += seconds
        for name, value in sample.items():
            if name in ("cpus", "gpu"):
                self.sums[name] = self.sums.get(name, 0.0) + value * seconds
            elif name != "seconds":
                self.most[name] = max(self.most.get(name, 0.0), value)

    def to_dict(self) -> dict[str, float]:
        """Mean `cpus` and `gpu`, highest `memory` and `gpu_memory`."""
        return {**{name: round(value / self.seconds, 3) for name, value in self.sums.items()}, **self.most}


@dataclass
class Samples:
    """The samples since the last event.

    Attributes:
        tasks: how many the job has.
    """

    tasks: int
    _by_task: dict[Task, _Gathered] = field(default_factory=dict)
    _due: float | None = None

    def take(self, task: Task, sample: Mapping[str, float], now: float) -> None:
        """A task's sample, at `now` (seconds of a clock)."""
        self._by_task.setdefault(task, _Gathered()).add(sample)
        if self._due is None:
            self._due = now + FIRST

    def due(self, now: float) -> bool:
        """Whether it is time for an event."""
        return bool(self._by_task) and self._due is not None and now >= self._due

    def drain(self, now: float) -> dict[str, dict[str, float]]:
        """What each task that was sampled took since the last call, by its name; the next event is due later."""
        found = {str(task): gathered.to_dict() for task, gathered in self._by_task.items()}
        self._by_task.clear()
        self._due = now + pause(self.tasks)
        return found


def pause(tasks: int) -> float:
    """Seconds between two `usage` events of a job of so many tasks."""
    return EVERY * max(1.0, tasks / TASKS)
