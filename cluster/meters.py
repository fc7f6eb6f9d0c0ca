"""What a run's events say in numbers: how fast it goes, what it waits for, what it takes, its learning curves. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from cluster.curves import Curves
from cluster.events import Event
from cluster.metric_names import metric_name
from cluster.states import FOR_ALL, State, state_after
from cluster.tasks import Task, task_named

#: Seconds over which a rate of the moment is taken, and steps that are remembered for it.
WINDOW = 30.0
_REMEMBERED = 300
#: Seconds without a step, or so many times the usual pause between two, after which the rate of the moment falls.
_PATIENCE, _PAUSES = 5.0, 1.5


@dataclass
class Pace:
    """How fast steps are made: at the moment, and on average while steps were made (restarts do not count).

    Attributes:
        steps: made between two reports of one attempt.
        seconds: that they took, evaluation and saving included.
    """

    steps: int = 0
    seconds: float = 0.0
    _lately: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))

    def begin(self) -> None:
        """Another attempt begins: the time until its first step is not that of a step."""
        self._lately.clear()

    def take(self, step: int, at: float) -> None:
        """The newest step, seen at `at` (seconds of a clock)."""
        if self._lately and step < self._lately[-1][1]:
            self.begin()
        if self._lately:
            before, done = self._lately[-1]
            self.seconds += max(0.0, at - before)
            self.steps += step - done
        self._lately.append((at, step))
        while len(self._lately) > 2 and self._lately[0][0] < at - WINDOW:
            self._lately.popleft()

    @property
    def average(self) -> float | None:
        """Steps a second over the whole run, or None before its second report."""
        return self.steps / self.seconds if self.seconds > 0 else None

    def now(self, at: float) -> float | None:
        """Steps a second over the last half minute before `at`, or None before the second report."""
        if len(self._lately) < 2:
            return None
        (first, start), (before, _), (last, stop) = self._lately[0], self._lately[-2], self._lately[-1]
        patience = max(_PATIENCE, _PAUSES * (last - before))
        until = max(last, at - patience)
        return (stop - start) / (until - first) if until > first else None


@dataclass
class TaskMeter:
    """The newest of one task: its state (see `cluster.states`), step, share of time in which it read, and use."""

    state: State = "waiting"
    step: int | None = None
    step_at: float | None = None
    input_busy: float | None = None
    usage: dict[str, float] = field(default_factory=dict)


@dataclass
class Use:
    """What the tasks of a role took: sums of processors and samples for a mean, and the most memory that one took."""

    samples: int = 0
    cpus: float = 0.0
    memory: float = 0.0
    gpus: int = 0
    gpu: float = 0.0
    gpu_memory: float | None = None

    def add(self, sample: Mapping[str, float]) -> None:
        """Take one task's sample."""
        self.samples += 1
        self.cpus += sample["cpus"]
        self.memory = max(self.memory, sample["memory"])
        if "gpu" in sample:
            self.gpus += 1
            self.gpu += sample["gpu"]
        if "gpu_memory" in sample:
            self.gpu_memory = max(self.gpu_memory or 0.0, sample["gpu_memory"])

    def to_dict(self) -> dict[str, float]:
        """Mean processors (and GPU utilisation) of a task, and the most memory that one had."""
        found = {"cpus": round(self.cpus / max(1, self.samples), 3), "memory": int(self.memory)}
        if self.gpus:
            found["gpu"] = round(self.gpu / self.gpus, 3)
        if self.gpu_memory is not None:
            found["gpu_memory"] = int(self.gpu_memory)
        return found


@dataclass
class Meters:
    """All of it, from the events of one run in their order; memory does not grow with the run's length.

    Attributes:
        leader: the task whose steps are the job's.
        batch: rows of one step, as far as the leader reads a dataset of the spec.
        attempt: the newest.
        restarts: of the whole job, and of tasks in their place.
        failures: `failed`, `lost` and `hang` events.
        checkpoint: step of the newest.
        metrics: the newest value of each metric.
        restarted_at: steps from which a new attempt went on.
    """

    leader: Task
    pace: Pace = field(default_factory=Pace)
    curves: Curves = field(default_factory=Curves)
    tasks: dict[Task, TaskMeter] = field(default_factory=dict)
    use: dict[str, Use] = field(default_factory=dict)
    step: int = 0
    batch: int | None = None
    attempt: int = 0
    restarts: int = 0
    failures: int = 0
    checkpoint: int | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    restarted_at: list[int] = field(default_factory=list)
    _read: float = 0.0  # seconds in which tasks read, of so many
    _watched: float = 0.0
    _resumed: bool = False

    def take(self, event: Event) -> None:
        """Take the next event of the run."""
        if event.task is not None:
            meter = self._of(event.task)
            meter.state = state_after(meter.state, event)
        elif event.kind in FOR_ALL:
            self._of_all(event)
        if (handler := _HANDLERS.get(event.kind)) is not None:
            handler(self, event)

    def _of(self, task: Task) -> TaskMeter:
        return self.tasks.setdefault(task, TaskMeter())

    def expect(self, tasks: Iterable[Task]) -> None:
        """Say which tasks the job has, before any of their events."""
        self.tasks = {task: self._of(task) for task in tasks}

    def _of_all(self, event: Event) -> None:
        if event.kind == "placed":
            self.expect(task_named(name) for name in event.data["nodes"])
        for task, meter in self.tasks.items():
            kept = TaskMeter() if event.kind == "attempt_started" else meter
            kept.state = state_after(meter.state, event)
            self.tasks[task] = kept

    def _attempt_started(self, event: Event) -> None:
        self.attempt = event.attempt
        self.pace.begin()
        self._resumed = event.attempt > 1

    def _restarting(self, event: Event) -> None:
        self.restarts += 1
        if event.task is not None:
            self.tasks[event.task] = TaskMeter(self._of(event.task).state)

    def _failed(self, event: Event) -> None:
        self.failures += 1

    def _checkpoint(self, event: Event) -> None:
        self.checkpoint = int(event.data["step"])

    def _step(self, event: Event) -> None:
        if event.task is None:
            return
        data, meter, step = event.data, self._of(event.task), int(event.data.get("step", 0))
        if "input_busy" in data:
            self._reading(meter, float(data["input_busy"]), event.at)
        meter.step, meter.step_at = step, event.at
        if event.task == self.leader:
            self._progress(step, event)

    def _reading(self, meter: TaskMeter, share: float, at: float) -> None:
        if meter.step_at is not None and at > meter.step_at:
            self._read += share * (at - meter.step_at)
            self._watched += at - meter.step_at
        meter.input_busy = share

    def _progress(self, step: int, event: Event) -> None:
        if self._resumed:
            self._resumed = False
            self.restarted_at.append(step)
        self.step = step
        self.batch = event.data.get("batch", self.batch)
        self.pace.take(step, event.at)
        metrics = numbers(event.data.get("metrics", {}))
        self.metrics.update(metrics)
        self.curves.add(step, metrics)
        if (rate := self.pace.now(event.at)) is not None:
            self.curves.add(step, {"steps_per_second": rate})

    def _evaluated(self, event: Event) -> None:
        metrics = numbers(event.data.get("metrics", {}))
        self.metrics.update({f"evaluator/{name}": value for name, value in metrics.items()})
        self.curves.add(int(event.data["step"]), metrics, "evaluator/")

    def _usage(self, event: Event) -> None:
        for name, sample in event.data.get("tasks", {}).items():
            task = task_named(name)
            self._of(task).usage = dict(sample)
            self.use.setdefault(task.role, Use()).add(sample)

    @property
    def input_busy(self) -> float | None:
        """Share of the time between their reports in which tasks read, over the whole run; None where none tells."""
        return self._read / self._watched if self._watched else None

    def steps_per_second(self, at: float) -> float | None:
        """Of the last half minute before `at`."""
        return self.pace.now(at)

    def examples(self, steps: float | None) -> float | None:
        """Rows a second at so many steps a second, where it is known how many rows a step has."""
        return None if steps is None or self.batch is None else steps * self.batch

    def states(self) -> dict[tuple[str, str], int]:
        """How many tasks of a role are in a state."""
        found: dict[tuple[str, str], int] = {}
        for task, meter in self.tasks.items():
            key = task.role, meter.state
            found[key] = found.get(key, 0) + 1
        return found

    def summary(self) -> dict[str, Any]:
        """What `result.json` tells of them."""
        average = self.pace.average
        return {
            "steps_per_second": _rounded(average),
            "examples_per_second": _rounded(self.examples(average)),
            "input_busy": _rounded(self.input_busy),
            "restarts": self.restarts,
            "usage": {role: use.to_dict() for role, use in self.use.items()},
        }


def numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    """The metrics that are numbers, also of an event that was read from a file, where NaN is text.

    Their names are fit to be shown, also those of an event that another version wrote.
    """
    found = {}
    for name, value in metrics.items():
        try:
            found[metric_name(str(name))] = float(value)
        except (TypeError, ValueError, OverflowError):
            continue
    return found


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.5g}")


_HANDLERS: dict[str, Callable[[Meters, Event], None]] = {
    "attempt_started": Meters._attempt_started,
    "restarting": Meters._restarting,
    "failed": Meters._failed,
    "lost": Meters._failed,
    "hang": Meters._failed,
    "checkpoint": Meters._checkpoint,
    "step": Meters._step,
    "evaluated": Meters._evaluated,
    "usage": Meters._usage,
}
