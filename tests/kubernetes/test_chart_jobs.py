"""`status`, `logs` and `stop` of RayJobs that were not submitted from here."""

from __future__ import annotations

import uuid

import pytest

from cluster.errors import RunNotFoundError, SubmissionError
from tests.helm.charts import Helm
from tests.kubernetes.chart_jobs import NAME, on_a_team, scheduled
from tests.kubernetes.kubelet import kubelet
from tests.kubernetes.space import READY, Space

RUNNING = {"jobStatus": "RUNNING", "jobDeploymentStatus": "Running"}


def names_of(pods: object) -> set[str]:
    return {str(pod["metadata"]["name"]) for pod in pods}  # type: ignore[attr-defined]


def test_pods_of_a_job_that_a_schedule_started(space: Space, helm: Helm) -> None:
    """Two of the same release run: each has its own."""
    job = scheduled(space, helm)
    spec = space.get("rayjob", NAME)["spec"]
    assert spec["submitterPodTemplate"]["metadata"]["labels"]["app.kubernetes.io/instance"] != NAME
    space.take_up(NAME, **RUNNING)
    mine = {space.pod(NAME, component, **READY) for component in ("head", "cpu", "submitter")}
    space.ray_pod("earlier-head", "nightly-1-abcde", spec["rayClusterSpec"], "head", **READY)
    space.make_pod("earlier-submitter", spec["submitterPodTemplate"], {"job-name": "nightly-1"}, **READY)
    assert names_of(job.sight().pods) == mine
    assert job.has_head()


def test_output_of_a_job_that_a_schedule_started(space: Space, helm: Helm) -> None:
    job = scheduled(space, helm)
    node = f"node-{uuid.uuid4().hex[:8]}"
    with kubelet(space.plane, space, node) as served:
        space.take_up(NAME, **RUNNING)
        served.write(space.pod(NAME, "submitter", node=node, **READY), "one", "run directory: s3://bucket/runs/n-1")
        assert job.logs().splitlines()[0] == "one"
        assert job.run_dir() == "s3://bucket/runs/n-1"


def test_output_of_a_job_whose_head_submits_it(space: Space, helm: Helm) -> None:
    """With SidecarMode the submitter is a container of the head's Pod."""
    job = scheduled(space, helm, submissionMode="SidecarMode")
    node = f"node-{uuid.uuid4().hex[:8]}"
    with kubelet(space.plane, space, node) as served:
        cluster = space.take_up(NAME, **RUNNING)
        spec = space.get("raycluster", cluster)["spec"]
        containers = spec["headGroupSpec"]["template"]["spec"]["containers"]
        containers.append({"name": "ray-job-submitter", "image": containers[0]["image"]})  # as the operator does
        head = space.ray_pod(f"{NAME}-head", cluster, spec, "head", node=node, **READY)
        served.write(head, "one")
        assert job.logs() == "one\n"
        assert [pod["metadata"]["name"] for pod in job.sight().pods] == [head]


def test_a_running_job_without_a_head_is_not_deleted(space: Space, helm: Helm) -> None:
    job = scheduled(space, helm)
    space.take_up(NAME, **RUNNING)
    space.pod(NAME, "head", phase="Pending")
    expected = rf"no head runs that could end the job in order · {NAME}: RUNNING · .* delete rayjob {NAME}"
    with pytest.raises(SubmissionError, match=expected):
        job.stop()
    assert space.names("rayjob") == [NAME]
    assert not job.has_head()


def test_a_job_that_a_schedule_started_and_has_not_begun(space: Space, helm: Helm) -> None:
    job = scheduled(space, helm)
    space.take_up(NAME)
    assert job.stop()
    assert space.names("rayjob") == []
    assert not job.has_head()
    with pytest.raises(RunNotFoundError):
        job.status()


def test_pods_of_a_job_on_the_cluster_of_a_team(space: Space, helm: Helm) -> None:
    job, cluster = on_a_team(space, helm)
    head = space.ray_pod("team-head", "team", cluster["spec"], "head", **READY)
    submitter = space.pod("vision", "submitter", **READY)
    assert names_of(job.sight().pods) == {head, submitter}
    assert job.has_head()
