"""RayJobs of a release of the chart, as KubeRay makes them: labelled with the release's name, not with their own."""

from __future__ import annotations

from typing import Any

from cluster.kube_submitted import SubmittedRayJob
from tests.helm.cases import CASES
from tests.helm.charts import Helm
from tests.kubernetes.space import Document, Space

#: Of the release, and of the RayJob that its schedule starts.
RELEASE, NAME = "nightly", "nightly-9f2xk"


def scheduled(space: Space, helm: Helm, **more: Any) -> SubmittedRayJob:
    """Play the operator whose RayCronJob starts a RayJob; `more` is set in its spec."""
    cron = next(d for d in helm.render(CASES["cron"], RELEASE) if d["kind"] == "RayCronJob")
    metadata = {"name": NAME, "labels": {"ray.io/cronjob-name": RELEASE}}
    spec = {**cron["spec"]["jobTemplate"], **more}
    space.create({"apiVersion": "ray.io/v1", "kind": "RayJob", "metadata": metadata, "spec": spec})
    return SubmittedRayJob(NAME, space.name)


def on_a_team(space: Space, helm: Helm, **status: Any) -> tuple[SubmittedRayJob, Document]:
    """A RayJob on the RayCluster of another release, and that RayCluster."""
    cluster = next(d for d in helm.render(CASES["cluster"], "team") if d["kind"] == "RayCluster")
    job = next(d for d in helm.render(CASES["job-on-a-cluster"], "vision") if d["kind"] == "RayJob")
    for document in (cluster, job):
        del document["metadata"]["namespace"]
        space.create(document)
    begun = {"jobDeploymentStatus": "Running", "jobStatus": "RUNNING", "jobId": "vision-xyz"}
    space.set_status("rayjob", "vision", rayClusterName="team", **{**begun, **status})
    return SubmittedRayJob("vision", space.name), cluster
