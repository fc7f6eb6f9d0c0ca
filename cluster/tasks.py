"""`Task`: one process of a job, named by its role and index."""

from __future__ import annotations

from typing import NamedTuple, cast

from cluster.spec import JobSpec
from cluster.spec_parts import ROLE_ORDER, RoleName, StrategyName


class Task(NamedTuple):
    """A task's role and its index among the tasks of that role, from 0."""

    role: RoleName
    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody asks a task for

    def __str__(self) -> str:
        return f"{self.role}-{self.index}"


def task_named(name: str) -> Task:
    """The task of a name such as `worker-1`, as an event has it."""
    role, _, index = name.rpartition("-")
    return Task(cast(RoleName, role), int(index))


def tasks_of(spec: JobSpec) -> tuple[Task, ...]:
    """Every task of `spec`: chief, workers, parameter servers, evaluator."""
    return tuple(Task(role, index) for role in ROLE_ORDER for index in range(spec.replicas(role)))


def leader_of(tasks: tuple[Task, ...]) -> Task:
    """The task that saves checkpoints and whose end ends the job: the chief, else worker 0."""
    return next((t for t in tasks if t.role == "chief"), Task("worker", 0))


def runs_user_code(task: Task, strategy: StrategyName, script: bool) -> bool:
    """Whether `task` runs the entrypoint; with parameter servers ps and workers only serve.

    A script always runs: it was written for TF_CONFIG and starts the servers itself.
    """
    return script or strategy != "parameter_server" or task.role in ("chief", "evaluator")


def trains(task: Task, strategy: StrategyName) -> bool:
    """Whether `task` makes steps of its own: all but ps, evaluator and parameter-server workers."""
    return task.role == "chief" or (task.role == "worker" and strategy != "parameter_server")
