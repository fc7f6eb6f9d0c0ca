"""Releases of the chart over their life, by Helm 3 and by Helm 4, which applies on the server."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass

import pytest

from deploy.e2e import programs
from deploy.e2e.control_plane import ControlPlane
from tests.e2e.kube import FailedError, Space
from tests.helm import conftest
from tests.helm.cases import CASES, JOB
from tests.helm.charts import Helm

helm_4 = conftest.helm_4
ONE = {"workerGroups": {"cpu": {"replicas": 1, "maxReplicas": 4}}, "autoscaling": {"enabled": True}}
TWO = {**ONE, "workerGroups": {"cpu": {"replicas": 2, "maxReplicas": 4}}, "podDisruptionBudget": {"enabled": True}}


@dataclass(frozen=True)
class Releases(Space):
    """A namespace, and one Helm for it."""

    on_the_server: bool = False

    @property
    def workers(self) -> int:
        """That the RayCluster asks for."""
        return int(self.get("raycluster", "vision")["spec"]["workerGroupSpecs"][0]["replicas"])

    def scale(self, workers: int) -> None:
        """What the autoscaler does."""
        patch = [{"op": "replace", "path": "/spec/workerGroupSpecs/0/replicas", "value": workers}]
        given = ("--type=json", "--field-manager=autoscaler", f"--patch={json.dumps(patch)}")
        self.kubectl("patch", "raycluster", "vision", *given)


@pytest.fixture(params=["helm", "helm_4"])
def releases(plane: ControlPlane, request: pytest.FixtureRequest) -> Releases:
    """A namespace, once for each Helm."""
    helm: Helm = request.getfixturevalue(request.param)
    name = f"test-{uuid.uuid4().hex[:8]}"
    plane.kubectl("create", "namespace", name)
    kubectl = str(programs.path("kubectl"))
    return Releases(name, str(plane.admin), kubectl, helm.binary, on_the_server=helm.version.startswith("v4."))


def test_a_cluster_over_its_life(releases: Releases) -> None:
    releases.install("vision", ONE)
    assert releases.workers == 1
    releases.helm("upgrade", "vision", str(releases.chart), values=TWO)
    assert releases.workers == 2
    assert releases.get("poddisruptionbudgets")["items"]
    releases.helm("rollback", "vision", "1")
    assert releases.workers == 1
    assert not releases.get("poddisruptionbudgets")["items"]
    releases.helm("uninstall", "vision")
    assert releases.get("rayclusters,networkpolicies,serviceaccounts")["items"] == []


def test_an_upgrade_after_the_autoscaler(releases: Releases) -> None:
    releases.install("vision", ONE)
    releases.scale(3)
    more: tuple[str, ...] = ()
    if releases.on_the_server:
        with pytest.raises(FailedError, match=r"conflict with \\?\"autoscaler.*workerGroupSpecs"):
            releases.helm("upgrade", "vision", str(releases.chart), values=TWO)
        more = ("--force-conflicts",)
    releases.helm("upgrade", "vision", str(releases.chart), *more, values=TWO)
    assert releases.workers == 2


@pytest.mark.parametrize("case", ["job", "cron"])
def test_a_job_over_its_life(releases: Releases, case: str) -> None:
    values = {**CASES[case], "storage": JOB["storage"]}
    releases.install("flights", values)
    releases.helm("upgrade", "flights", str(releases.chart), values={**values, "tensorboard": {"enabled": True}})
    assert releases.get("deployment", "flights-tensorboard")
    releases.helm("uninstall", "flights")
    assert (
        releases.get("rayjobs,raycronjobs,configmaps,deployments", "--selector=app.kubernetes.io/part-of=tfcluster")[
            "items"
        ]
        == []
    )
    assert [claim["metadata"]["name"] for claim in releases.get("pvc")["items"]] == ["flights-runs"]
