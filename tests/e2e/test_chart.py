"""The chart over its life on a cluster: install, test, a job by Ray's own API, upgrade, roll back, uninstall."""

from __future__ import annotations

import base64
import contextlib
import json
import re
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from tests.e2e.conftest import Target
from tests.e2e.kube import JOBS, PATIENCE_S, Document, Space
from tests.e2e.test_jobs import job, result_of

AUTOSCALER = {"requests": {"cpu": "50m", "memory": "256Mi"}, "limits": {"cpu": "1", "memory": "1Gi"}}


def workers(space: Space, count: int) -> None:
    """Wait until the Ray cluster has this many, and says so."""
    space.wait("raycluster/vision", f"jsonpath={{.status.desiredWorkerReplicas}}={count}")
    space.wait("raycluster/vision", f"jsonpath={{.status.availableWorkerReplicas}}={count}")


def submit(space: Space, folder: Path) -> str:
    """Run a job on the cluster, as NOTES say to, through a port-forward and with the cluster's token."""
    token = space.get("secret", "vision")["data"]["auth_token"]
    more = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": base64.b64decode(token).decode()}
    for path in JOBS.glob("*.py"):
        (folder / path.name).write_text(path.read_text())
    (folder / "job.yaml").write_text(json.dumps({**job(epochs=2), "storage": "/storage"}))
    with forwarded(space, "service/vision-head-svc", 8265) as address:
        return space.tfcluster("submit", str(folder / "job.yaml"), "--address", address, "--wait", more=more)


@contextlib.contextmanager
def forwarded(space: Space, what: str, port: int) -> Iterator[str]:
    """Where a port of the cluster is on this machine."""
    with space.following("port-forward", what, f":{port}") as lines:
        line = next(lines)
        found = re.search(r"127\.0\.0\.1:\d+", line)
        assert found, line
        yield f"http://{found[0]}"


def test_a_cluster_for_a_team_over_its_life(space: Space, platform: Document, target: Target, tmp_path: Path) -> None:
    space.install("vision", platform)
    space.wait("raycluster/vision", "condition=RayClusterProvisioned", 300)
    workers(space, 2)
    space.helm("test", "vision", "--timeout", "3m")
    assert "status         succeeded" in submit(space, tmp_path)
    assert result_of(space, "vision-runs", target)["value"]["workers"] == 2

    changed = {
        **platform,
        "workerGroups": {"cpu": {**platform["workerGroups"]["cpu"], "replicas": 1}},
        "podDisruptionBudget": {"enabled": True},
        "tensorboard": {"enabled": True},
    }
    space.helm("upgrade", "vision", str(space.chart), values=changed)
    workers(space, 1)
    assert space.get("poddisruptionbudgets")["items"]
    space.kubectl("rollout", "status", "deployment/vision-tensorboard", "--timeout=120s")
    with (
        forwarded(space, "service/vision-tensorboard", 6006) as board,
        urllib.request.urlopen(f"{board}/data/runs", timeout=30) as answer,
    ):
        assert any(name.startswith("regression-") for name in json.load(answer))

    space.helm("rollback", "vision", "1")
    workers(space, 2)
    assert space.get("poddisruptionbudgets")["items"] == []

    space.helm("uninstall", "vision")
    space.kubectl("wait", "pods", "--all", "--for=delete", "--timeout=120s")
    assert [claim["metadata"]["name"] for claim in space.get("pvc")["items"]] == ["vision-runs"]  # runs are kept
    assert space.get("rayclusters,networkpolicies,secrets,services,rolebindings")["items"] == []


def test_the_autoscaler_brings_workers_for_a_job_and_sends_them_away(
    space: Space, platform: Document, target: Target, tmp_path: Path
) -> None:
    none = {"cpu": {**platform["workerGroups"]["cpu"], "replicas": 0, "minReplicas": 0, "maxReplicas": 2}}
    autoscaling = {"enabled": True, "idleTimeoutSeconds": 1, "resources": AUTOSCALER}
    space.install("vision", {**platform, "workerGroups": none, "autoscaling": autoscaling})
    space.wait("raycluster/vision", "condition=HeadPodReady", 300)
    assert space.pods("ray.io/node-type=worker") == []
    assert "status         succeeded" in submit(space, tmp_path)
    assert result_of(space, "vision-runs", target)["value"]["workers"] == 2
    space.kubectl("wait", "pods", "--selector=ray.io/node-type=worker", "--for=delete", f"--timeout={PATIENCE_S}s")
