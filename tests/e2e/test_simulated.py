"""The chart and the client on simulated nodes, where no kubelet can run.

The API server, the controllers, the scheduler and KubeRay's operator are real. Pods are Running because KWOK says so,
and run nothing: no job gets further than to its RayCluster and its Pods. The other tests here show how jobs succeed.
"""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.e2e import programs, simulated
from tests.e2e.conftest import SMALL, Target
from tests.e2e.kube import JOBS, Document, Space
from tests.e2e.test_jobs import job

#: What a release makes, and the operator for it.
KINDS = "pods,rayclusters,rayjobs,jobs,services,secrets,configmaps,networkpolicies,rolebindings,poddisruptionbudgets"
#: But for what every namespace has.
OURS = "--field-selector=metadata.name!=kube-root-ca.crt"
GPU = "nvidia.com/gpu"


@pytest.fixture(scope="session")
def target() -> Iterator[Target]:
    """The cluster of TFCLUSTER_E2E_SIMULATED, or one of our own, for this session."""
    given = os.environ.get("TFCLUSTER_E2E_SIMULATED")
    if given:
        yield Target(given, simulated.IMAGE)
        return
    if os.environ.get("TFCLUSTER_E2E_KUBECONFIG"):
        pytest.skip("TFCLUSTER_E2E_KUBECONFIG names a cluster whose Pods run, where the other tests show more")
    missing = [name for name in simulated.PROGRAMS if not programs.is_made(name)]
    if missing:
        pytest.skip(f"no {', '.join(missing)}: python3 -m deploy.e2e --simulated --prepare makes them")
    with simulated.simulated() as own:
        yield Target(str(own.kubeconfig), own.image)


@pytest.fixture
def settings(platform: Document) -> Document:
    """Settings of a platform with CPU and GPU workers, and storage that nobody looks into."""
    groups = {"cpu": group(1), "gpu": group(1, gpus=2)}
    storage = {"uri": "s3://bucket/runs"}
    return {"image": platform["image"], "head": {"resources": SMALL}, "workerGroups": groups, "storage": storage}


def group(replicas: int, **more: object) -> Document:
    """A group of small workers."""
    return {"replicas": replicas, "resources": SMALL, **more}


def workers(space: Space, count: int, gpus: int) -> None:
    """Wait until the operator has counted this many workers, and the nodes have them."""
    for field, value in (("desiredWorkerReplicas", count), ("availableWorkerReplicas", count), ("desiredGPU", gpus)):
        space.wait("raycluster/vision", f"jsonpath={{.status.{field}}}={value}")
    space.wait("raycluster/vision", "jsonpath={.status.state}=ready")
    groups = {"head": 1, "cpu": count - gpus // 2, "gpu": gpus // 2}
    assert running(space) == {name: number for name, number in groups.items() if number}


def running(space: Space) -> dict[str, int]:
    """How many Pods of each group run; those that use GPUs do so on the one node that has some."""
    counts: dict[str, int] = {}
    for pod in space.get("pods", "--selector=ray.io/cluster", "--field-selector=status.phase=Running")["items"]:
        if "deletionTimestamp" in pod["metadata"]:
            continue
        name = pod["metadata"]["labels"]["ray.io/group"].removesuffix("group")
        counts[name] = counts.get(name, 0) + 1
        assert name != "gpu" or pod["spec"]["nodeName"] == "gpu"
    return counts


def all_gone(space: Space) -> None:
    """Wait until nothing is left of any release."""
    space.kubectl("wait", KINDS, OURS, "--for=delete", "--timeout=60s")


def submit(space: Space, folder: Path, settings: Document, **spec: object) -> str:
    """Hand a job to Kubernetes; returns its name."""
    for path in JOBS.glob("*.py"):
        (folder / path.name).write_text(path.read_text())
    (folder / "job.yaml").write_text(json.dumps({**job(epochs=1), **spec}))
    (folder / "platform.yaml").write_text(json.dumps(settings))
    where = ("--kubernetes", "--namespace", space.name, "--platform", str(folder / "platform.yaml"))
    return str(json.loads(space.tfcluster("submit", str(folder / "job.yaml"), *where, "--json"))["id"])


def has_begun(space: Space, name: str, groups: dict[str, int]) -> None:
    """Wait until the operator has made all Pods of a job, the submitter's too."""
    space.wait(f"job/{name}", "jsonpath={.status.ready}=1")
    cluster = space.get("rayjob", name)["status"]["rayClusterName"]
    space.wait(f"raycluster/{cluster}", "jsonpath={.status.state}=ready")
    assert running(space) == groups


def test_a_cluster_with_gpus_over_its_life(space: Space, platform: Document) -> None:
    values = {**platform, "workerGroups": {"cpu": group(2), "gpu": group(1, gpus=2)}}
    space.install("vision", values)
    workers(space, 3, gpus=2)

    more = {"cpu": group(3), "gpu": group(4, gpus=2)}
    budget = {"podDisruptionBudget": {"enabled": True}}
    space.helm("upgrade", "vision", str(space.chart), values={**values, "workerGroups": more, **budget})
    workers(space, 7, gpus=8)
    assert space.get("poddisruptionbudgets")["items"]

    space.helm("rollback", "vision", "1")
    workers(space, 3, gpus=2)
    assert space.get("poddisruptionbudgets")["items"] == []

    space.helm("uninstall", "vision")
    all_gone(space)
    assert [claim["metadata"]["name"] for claim in space.get("pvc")["items"]] == ["vision-runs"]  # runs are kept


def test_a_suspended_cluster_has_no_pods(space: Space, platform: Document) -> None:
    values = {**platform, "workerGroups": {"cpu": group(2)}}
    space.install("vision", values)
    workers(space, 2, gpus=0)
    space.helm("upgrade", "vision", str(space.chart), values={**values, "suspend": True})
    space.wait("raycluster/vision", "jsonpath={.status.state}=suspended")
    assert running(space) == {}
    space.helm("upgrade", "vision", str(space.chart), values=values)
    workers(space, 2, gpus=0)


def test_a_job_of_the_chart_gets_its_pods(space: Space, platform: Document) -> None:
    space.install_job("flights", {**platform, "job": job(epochs=1)})
    has_begun(space, "flights", {"head": 1, "cpu": 2})
    space.helm("uninstall", "flights")
    all_gone(space)


def test_a_submitted_job_gets_its_pods(space: Space, settings: Document, tmp_path: Path) -> None:
    groups = {"gpu": group(2, gpus=1)}
    roles = {"worker": {"replicas": 2, "gpus": 1}}
    name = submit(space, tmp_path, {**settings, "workerGroups": groups}, roles=roles)
    has_begun(space, name, {"head": 1, "gpu": 2})
    where = ("--kubernetes", "--namespace", space.name)
    said = space.tfcluster("status", name, *where)
    assert re.search(r"^gpu +2 running on gpu", said, re.MULTILINE), said
    assert name in space.tfcluster("list", *where)


def test_a_suspended_job_has_no_pods_until_it_is_resumed(space: Space, settings: Document, tmp_path: Path) -> None:
    name = submit(space, tmp_path, {**settings, "rayJob": {"suspend": True}})
    space.wait(f"rayjob/{name}", "jsonpath={.status.jobDeploymentStatus}=Suspended")
    assert space.get("pods")["items"] == []
    space.kubectl("patch", "rayjob", name, "--type=merge", "--patch", json.dumps({"spec": {"suspend": False}}))
    has_begun(space, name, {"head": 1, "cpu": 1, "gpu": 1})
    space.kubectl("patch", "rayjob", name, "--type=merge", "--patch", json.dumps({"spec": {"suspend": True}}))
    space.wait(f"rayjob/{name}", "jsonpath={.status.jobDeploymentStatus}=Suspended")
    space.kubectl("wait", "pods", "--all", "--for=delete", "--timeout=60s")


def test_more_gpus_than_a_node_has(space: Space, settings: Document, tmp_path: Path) -> None:
    """The words are those of a real scheduler."""
    name = submit(space, tmp_path, {**settings, "workerGroups": {"gpu": group(2, gpus=9)}})
    where = ("--kubernetes", "--namespace", space.name)
    said = ""
    for _ in range(60):
        said = space.tfcluster("status", name, *where)
        if "no node has enough" in said:
            break
        threading.Event().wait(0.5)
    assert f"no node has enough {GPU} left · 2 Pods of gpu" in said, said
    assert f"asks for cpu 100m, memory 512Mi, {GPU} 9" in said, said
    assert re.search(rf"the scheduler: .*Insufficient {re.escape(GPU)}", said), said
    assert "deleted, for it had not begun" in space.tfcluster("stop", name, *where)
    all_gone(space)
