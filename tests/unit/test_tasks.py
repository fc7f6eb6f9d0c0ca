"""Tasks of a job, who leads, who runs what."""

from __future__ import annotations

from typing import Any

import pytest

from cluster.spec import JobSpec, parse
from cluster.spec_parts import ROLE_ORDER, StrategyName
from cluster.tasks import Task, leader_of, runs_user_code, tasks_of, trains


def job(strategy: StrategyName = "none", **roles: Any) -> JobSpec:
    return parse({"entrypoint": "train.py:train", "strategy": strategy, "roles": roles})


@pytest.mark.parametrize(
    ("spec", "names"),
    [
        (job(), "worker-0"),
        (job(chief=1), "chief-0"),
        (job(evaluator=1), "worker-0 evaluator-0"),
        (job("multi_worker_mirrored", worker=3), "worker-0 worker-1 worker-2"),
        (job("multi_worker_mirrored", chief=1, worker=2), "chief-0 worker-0 worker-1"),
        (job("multi_worker_mirrored", chief=1, worker=0), "chief-0"),
        (job("parameter_server", worker=2, ps=1), "chief-0 worker-0 worker-1 ps-0"),
        (job("parameter_server", evaluator=1, ps=1, worker=1, chief=1), "chief-0 worker-0 ps-0 evaluator-0"),
    ],
)
def test_tasks_of_a_job_in_their_order(spec: JobSpec, names: str) -> None:
    assert " ".join(map(str, tasks_of(spec))) == names


def test_indices_count_from_zero_in_numeric_order() -> None:
    indices = [task.index for task in tasks_of(job("multi_worker_mirrored", worker=12))]
    assert indices == list(range(12))


@pytest.mark.parametrize(
    ("spec", "leader"),
    [
        (job("multi_worker_mirrored", worker=2), Task("worker", 0)),
        (job("multi_worker_mirrored", chief=1, worker=2), Task("chief", 0)),
        (job("parameter_server", worker=2, ps=1), Task("chief", 0)),
    ],
)
def test_the_chief_leads_or_else_worker_0(spec: JobSpec, leader: Task) -> None:
    assert leader_of(tasks_of(spec)) == leader


@pytest.mark.parametrize(
    ("strategy", "script", "running"),
    [
        ("multi_worker_mirrored", False, {"chief", "worker", "ps", "evaluator"}),
        ("custom", False, {"chief", "worker", "ps", "evaluator"}),
        ("parameter_server", False, {"chief", "evaluator"}),
        ("parameter_server", True, {"chief", "worker", "ps", "evaluator"}),
    ],
)
def test_who_runs_the_users_code(strategy: StrategyName, script: bool, running: set[str]) -> None:
    assert {role for role in ROLE_ORDER if runs_user_code(Task(role, 0), strategy, script)} == running


@pytest.mark.parametrize(
    ("strategy", "training"),
    [
        ("none", {"chief", "worker"}),
        ("multi_worker_mirrored", {"chief", "worker"}),
        ("custom", {"chief", "worker"}),
        ("parameter_server", {"chief"}),
    ],
)
def test_who_makes_steps(strategy: StrategyName, training: set[str]) -> None:
    assert {role for role in ROLE_ORDER if trains(Task(role, 0), strategy)} == training
