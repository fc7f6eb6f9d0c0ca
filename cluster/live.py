"""How a running job is doing, from its events: state, step, speed and use of each task, and of the whole. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from cluster.events import Event
from cluster.meters import Pace
from cluster.spec_parts import ROLE_ORDER
from cluster.states import FOR_ALL, TROUBLE, State, state_after, state_at_end
from cluster.tasks import Task, leader_of, task_named
from cluster.units import format_duration


@dataclass
class TaskLife:
    """One task: its state (see `cluster.states`), where it is, how far it is, and what it takes of its machine.

    Attributes:
        use: its newest sample, see `cluster.usage`.
        restarts: how often it was restarted in its place.
    """

    state: State = "waiting"
    node: str = ""
    step: int | None = None
    pace: Pace = field(default_factory=Pace)
    use: Mapping[str, float] = field(default_factory=dict)
    restarts: int = 0


@dataclass
class Live:
    """What the events so far tell of a run.

    Attributes:
        phase: placing, starting, running, restarting, stopping, or how it ended (`lost`: a reader found no launcher).
        total: steps of the whole training, where it is known.
        metrics: those of the leader's newest step that had any.
        within: seconds in which all tasks are placed and start, or the attempt is given up; None: nobody told.
        after: seconds from the end of an attempt to the next.
        begun: when the launcher took the spec; `at`: when the last event was; seconds since the Unix epoch.
    """

    phase: str = "placing"
    attempt: int = 1
    tasks: dict[Task, TaskLife] = field(default_factory=dict)
    leader: Task | None = None
    step: int = 0
    total: int | None = None
    epoch: str = ""
    metrics: dict[str, float] = field(default_factory=dict)
    within: float | None = None
    after: float = 0.0
    begun: float | None = None
    at: float = 0.0
    checkpoint: int | None = None

    def expect(self, tasks: Iterable[Task]) -> None:
        """Say which tasks the job has, before any of their events."""
        self.tasks = {task: self.tasks.get(task, TaskLife()) for task in tasks}
        self.leader = leader_of(tuple(self.tasks)) if self.tasks else None

    def take(self, event: Event) -> None:
        """Note what `event` says."""
        self.at = max(self.at, event.at)
        if event.task is not None:
            self._of_task(event, event.task)
        else:
            self._of_job(event)
        if event.kind == "checkpoint":
            self.checkpoint = int(event.data["step"])

    def end(self, status: str) -> None:
        """Say that the run is over, as its result tells, or that its launcher is gone (`lost`)."""
        self.phase = status
        for life in self.tasks.values():
            life.state = state_at_end(life.state, seen=status != "lost")

    def _of_job(self, event: Event) -> None:
        if event.kind == "placed":
            self.expect(task_named(name) for name in event.data["nodes"])
        for life in self.tasks.values() if event.kind in FOR_ALL else ():
            life.state = state_after(life.state, event)
        match event.kind:
            case "run_started":
                self.begun = event.at
            case "attempt_started":
                self.phase, self.attempt, self.within = "placing", event.attempt, event.data.get("within")
                for life in self.tasks.values():
                    life.node, life.use = "", {}
                    life.pace.begin()
            case "placed":
                self.phase = "starting"
                for name, node in event.data["nodes"].items():
                    self.tasks[task_named(name)].node = str(node)
            case "usage":
                self._use(event.data.get("tasks", {}))
            case "restarting":
                self.phase, self.after = "restarting", float(event.data.get("after", 0.0))
            case "interrupted":
                self.phase = "stopping"
            case "run_ended":
                self.phase = str(event.data.get("status", "ended"))

    def _of_task(self, event: Event, task: Task) -> None:
        life = self.tasks.setdefault(task, TaskLife())
        self.leader = self.leader or task
        life.state = state_after(life.state, event)
        if event.kind == "restarting":
            life.restarts += 1
        if event.kind == "task_ready" and self.phase == "starting":
            self.phase = "running"
        if event.kind == "step":
            self._step(event, task, life)

    def _step(self, event: Event, task: Task, life: TaskLife) -> None:
        life.step = int(event.data["step"])
        life.pace.take(life.step, event.at)
        if task == self.leader:
            self.phase, self.step = "running", life.step
            self.total = total_steps(event) or self.total
            self.epoch = epoch_text(event)
            metrics = event.data.get("metrics") or {}
            self.metrics = {name: float(value) for name, value in metrics.items()} or self.metrics

    def _use(self, tasks: Mapping[str, Mapping[str, float]]) -> None:
        for name, sample in tasks.items():
            if (life := self.tasks.get(task_named(name))) is not None:
                life.use = sample

    def rate(self, now: float) -> float:
        """Steps a second of the leader lately, or 0 where nothing can be told yet, or the run is over."""
        life = None if self.leader is None or self.ended else self.tasks.get(self.leader)
        return (life.pace.now(now) or 0.0) if life is not None else 0.0

    def left(self, now: float) -> float | None:
        """Seconds until the last step, at the present speed; None where that is not known."""
        rate = self.rate(now)
        return (self.total - self.step) / rate if self.total and rate and self.step < self.total else None

    @property
    def stepped(self) -> bool:
        """Whether the leader has told of a step: of a script nobody does."""
        life = None if self.leader is None else self.tasks.get(self.leader)
        return life is not None and life.step is not None

    @property
    def restarts(self) -> int:
        """New attempts of the whole job, and tasks restarted in their places."""
        return self.attempt - 1 + sum(life.restarts for life in self.tasks.values())

    @property
    def troubled(self) -> bool:
        """Whether something went wrong that a person should see."""
        return self.restarts > 0 or any(life.state in TROUBLE for life in list(self.tasks.values()))

    @property
    def ended(self) -> bool:
        """Whether the run is over."""
        return self.phase in ("succeeded", "failed", "interrupted", "ended", "lost")

    def by_role(self) -> dict[str, Counter[str]]:
        """How many tasks of each role are in which state."""
        counts: dict[str, Counter[str]] = {role: Counter() for role in ROLE_ORDER}
        for task, life in list(self.tasks.items()):  # a copy: what draws may be another thread
            counts[task.role][life.state] += 1
        return {role: found for role, found in counts.items() if found}

    def in_order(self) -> list[tuple[Task, TaskLife]]:
        """The tasks, those in trouble first, then the leader, then as everywhere."""

        def place(item: tuple[Task, TaskLife]) -> tuple[bool, bool, int, int]:
            task, life = item
            return life.state not in TROUBLE, task != self.leader, ROLE_ORDER.index(task.role), task.index

        return sorted(self.tasks.items(), key=place)


def total_steps(event: Event) -> int | None:
    """Steps of the whole training, as a `step` event tells them: what the train function said, or what `fit` knows."""
    data = event.data
    if data.get("total"):
        return int(data["total"])
    return int(data["steps"]) * int(data["epochs"]) if data.get("steps") and data.get("epochs") else None


def epoch_text(event: Event) -> str:
    """`epoch 2/3`, or '' where the event tells of no epoch."""
    epoch, epochs = event.data.get("epoch"), event.data.get("epochs")
    return "" if epoch is None else f"epoch {epoch}{f'/{epochs}' if epochs else ''}"


def states_text(live: Live) -> str:
    """`worker 7 running, 1 lost · ps 2 running · 1 restart`."""
    roles = [
        f"{role} {', '.join(f'{count} {state}' for state, count in sorted(states.items()))}"
        for role, states in live.by_role().items()
    ]
    restarts = f"{live.restarts} restart{'s' if live.restarts > 1 else ''}"
    return " · ".join([*roles, restarts] if live.restarts else roles)


def metrics_text(metrics: Mapping[str, float]) -> str:
    """` · loss 0.25 · mae 0.1`."""
    return "".join(f" · {name} {value:.4g}" for name, value in metrics.items())


def progress_text(live: Live, now: float) -> str:
    """`epoch 2/3 · step 120 · 35 steps/s · 1m20s left · loss 0.12`: the least important last, where it may be cut.

    A loop that has no epochs tells its total instead: `step 120 of 720`. '' until a step was reported.
    """
    if not live.stepped:
        return ""
    epoch = f"{live.epoch} · " if live.epoch else ""
    of = f" of {live.total}" if live.total and not live.epoch else ""
    rate, left = live.rate(now), live.left(now)
    speed = f" · {rate:.3g} steps/s" if rate else ""
    rest = f" · {format_duration(left)} left" if left is not None and left >= 1 else ""
    return f"{epoch}step {live.step}{of}{speed}{rest}{metrics_text(live.metrics)}"
