"""TF_CONFIG as TensorFlow itself reads it."""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from typing import Any

import pytest

from cluster.tasks import Task
from cluster.tf_config import join_address, make_tf_configs, read_tf_config
from tests.tf.crew import TASK_ENV, Forge, held_ports

TASKS = [Task("chief", 0), Task("worker", 0), Task("worker", 1), Task("ps", 0), Task("evaluator", 0)]


Jobs = Mapping[str, tuple[str, Mapping[str, Any]]]


def resolve(post: Any) -> dict[str, Any]:
    """What TFConfigClusterResolver makes of this process's TF_CONFIG."""
    import tensorflow as tf

    resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver()
    cluster = resolver.cluster_spec().as_dict()
    return {"cluster": cluster, "task": {"type": resolver.task_type, "index": resolver.task_id}}


def sum_over_replicas(post: Any) -> tuple[int, float]:
    """Build the strategy that TF_CONFIG asks for and reduce a 1 over its replicas."""
    import tensorflow as tf

    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    ones = strategy.run(tf.function(lambda: tf.constant(1.0)))
    return strategy.num_replicas_in_sync, float(strategy.reduce(tf.distribute.ReduceOp.SUM, ones, axis=None))


@pytest.mark.parametrize("host", ["127.0.0.1", "fd00::2", "worker.example.org"])
def test_the_resolver_reads_what_we_write(keras3: Forge, host: str) -> None:
    addresses = {task: join_address(host, 2222 + i) for i, task in enumerate(TASKS)}
    configs = make_tf_configs(TASKS, addresses, "parameter_server")
    jobs: Jobs = {str(task): (f"{__name__}:resolve", {}) for task in TASKS}
    crew = keras3.start(jobs, {str(task): {"TF_CONFIG": json.dumps(configs[task])} for task in TASKS})
    try:
        seen = crew.results()
    finally:
        crew.close()
    assert seen == {str(task): configs[task] for task in TASKS}
    for task in TASKS:
        found, members = read_tf_config(json.dumps(seen[str(task)]))
        assert found == task
        assert members.items() <= addresses.items()


def has_ipv6() -> bool:
    """Whether this machine has an IPv6 loopback address."""
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.parametrize(
    "host", ["127.0.0.1", pytest.param("::1", marks=pytest.mark.skipif(not has_ipv6(), reason="no IPv6 here"))]
)
def test_workers_meet_and_the_evaluator_stays_alone(keras3: Forge, host: str) -> None:
    tasks = [Task("worker", 0), Task("worker", 1), Task("evaluator", 0)]
    with held_ports(len(tasks)) as ports:
        addresses = {task: join_address(host, port) for task, port in zip(tasks, ports, strict=True)}
        configs = make_tf_configs(tasks, addresses, "multi_worker_mirrored")
        jobs: Jobs = {str(task): (f"{__name__}:sum_over_replicas", {}) for task in tasks}
        env = {str(task): {**TASK_ENV, "TF_CONFIG": json.dumps(configs[task])} for task in tasks}
        crew = keras3.start(jobs, env)
        try:
            seen = crew.results()
        finally:
            crew.close()
    assert seen == {"worker-0": (2, 2.0), "worker-1": (2, 2.0), "evaluator-0": (1, 1.0)}
