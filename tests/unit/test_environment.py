"""The variables of each task: what a launcher for TF_CONFIG sets, and what the user's own come over."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cluster.environment import import_environment, task_environment
from cluster.spec import JobSpec, parse
from cluster.spec_parts import ROLE_ORDER, StrategyName
from cluster.tasks import Task, tasks_of

FIXED = {
    "TF_CPP_MIN_LOG_LEVEL": "1",
    "TF_USE_LEGACY_KERAS": "0",
    "PYTHONUNBUFFERED": "1",
    "MIMALLOC_PURGE_DELAY": "10000",
    "MALLOC_TRIM_THRESHOLD_": "268435456",
    "MALLOC_MMAP_THRESHOLD_": "33554432",
    "TF_GRPC_REUSE_PORT": "true",
    "CUDA_VISIBLE_DEVICES": "",
    "TFCLUSTER_NAME": "job",
    "TFCLUSTER_ROLE": "worker",
    "TFCLUSTER_INDEX": "0",
    "TFCLUSTER_ATTEMPT": "2",
    "TFCLUSTER_RUN_DIR": "/runs/job-1",
    "TFCLUSTER_CHECKPOINT_DIR": "/runs/job-1/checkpoints",
    "TFCLUSTER_TENSORBOARD_DIR": "/runs/job-1/tensorboard",
    "TFCLUSTER_EXPORT_DIR": "/runs/job-1/export",
}


def job(strategy: StrategyName = "none", **spec: Any) -> JobSpec:
    return parse({"entrypoint": "train.py:train", "strategy": strategy, **spec})


FIRST = Task("worker", 0)


def env_of(spec: JobSpec, task: Task = FIRST, **more: Any) -> dict[str, str]:
    addresses = {t: f"10.0.0.1:{4000 + number}" for number, t in enumerate(tasks_of(spec))}
    settings = {"keras": "3", "attempt": 2, "run_dir": "/runs/job-1", "addresses": addresses, "gpus": [], **more}
    return task_environment(spec, task, **settings)


def test_every_variable_of_a_task_that_trains_alone() -> None:
    assert env_of(job()) == FIXED


def test_every_variable_of_a_task_in_a_cluster() -> None:
    spec = job("multi_worker_mirrored", roles={"worker": 2})
    env = env_of(spec, Task("worker", 1))
    assert env.keys() == FIXED.keys() | {"TF_CONFIG"}
    assert json.loads(env["TF_CONFIG"]) == {
        "cluster": {"worker": ["10.0.0.1:4000", "10.0.0.1:4001"]},
        "task": {"type": "worker", "index": 1},
    }
    assert env["TFCLUSTER_INDEX"] == "1"


@pytest.mark.parametrize("strategy", ["parameter_server", "custom"])
def test_servers_wait_for_peers_that_start_later(strategy: StrategyName) -> None:
    spec = job(strategy, roles={"chief": 1, "worker": 2, "ps": 1, "evaluator": 1})
    assert {env_of(spec, task)["GRPC_FAIL_FAST"] for task in tasks_of(spec)} == {"use_caller"}
    assert "GRPC_FAIL_FAST" not in env_of(job("custom", roles={"worker": 2}))


def test_each_task_has_its_own_tf_config() -> None:
    spec = job("parameter_server", roles={"worker": 2, "ps": 1, "evaluator": 1})
    configs = {task: json.loads(env_of(spec, task)["TF_CONFIG"]) for task in tasks_of(spec)}
    assert {task: config["task"] for task, config in configs.items()} == {
        task: {"type": task.role, "index": task.index} for task in configs
    }
    assert all("evaluator" not in config["cluster"] for task, config in configs.items() if task.role != "evaluator")
    assert list(configs[Task("chief", 0)]["cluster"]) == [role for role in ROLE_ORDER if role != "evaluator"]


@pytest.mark.parametrize(("gpus", "visible"), [([], ""), (["3"], "3"), (["0", "2"], "0,2")])
def test_a_task_sees_its_own_gpus_and_no_other(gpus: list[str], visible: str) -> None:
    assert env_of(job(), gpus=gpus)["CUDA_VISIBLE_DEVICES"] == visible


@pytest.mark.parametrize(("keras", "legacy"), [("2", "1"), ("3", "0")])
def test_the_choice_of_keras(keras: str, legacy: str) -> None:
    assert env_of(job(), keras=keras)["TF_USE_LEGACY_KERAS"] == legacy


@pytest.mark.parametrize(("level", "number"), [("debug", "0"), ("info", "0"), ("warning", "1"), ("error", "2")])
def test_the_log_level(level: str, number: str) -> None:
    assert env_of(job(log_level=level))["TF_CPP_MIN_LOG_LEVEL"] == number


def test_the_users_own_come_last_and_only_to_their_role() -> None:
    spec = job(
        roles={"worker": {"env": {"TF_CPP_MIN_LOG_LEVEL": "3", "TOKEN": "x"}}, "evaluator": {"env": {"TOKEN": "y"}}}
    )
    assert env_of(spec) == {**FIXED, "TF_CPP_MIN_LOG_LEVEL": "3", "TOKEN": "x"}
    assert env_of(spec, Task("evaluator", 0))["TOKEN"] == "y"


def test_what_a_warm_process_must_have_is_the_same_for_every_task() -> None:
    spec = job("parameter_server", roles={"worker": 2, "ps": 1, "evaluator": 1})
    common = import_environment(spec, "3")
    for task in tasks_of(spec):
        env = env_of(spec, task)
        assert {name: env[name] for name in common} == common


def test_folders_of_a_remote_run_keep_the_options_of_its_storage() -> None:
    env = env_of(job(), run_dir="s3://bucket/runs/job-1?region=eu-1")
    assert env["TFCLUSTER_RUN_DIR"] == "s3://bucket/runs/job-1?region=eu-1"
    assert env["TFCLUSTER_CHECKPOINT_DIR"] == "s3://bucket/runs/job-1/checkpoints?region=eu-1"


def test_every_value_is_text() -> None:
    spec = job("multi_worker_mirrored", roles={"worker": 2})
    assert all(isinstance(value, str) for value in env_of(spec).values())
