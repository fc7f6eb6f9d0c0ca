"""`status`, `logs`, `stop` and waiting: what a job on Kubernetes is told to be, as its parts come and go."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster import submit
from cluster.errors import RunNotFoundError, SubmissionError
from cluster.kube_pending import findings
from cluster.kube_submitted import SubmittedRayJob
from tests.kubernetes.kubelet import Kubelet, kubelet
from tests.kubernetes.space import READY, STORAGE, Space, away, unschedulable, waiting

TFCLUSTER = str(Path(sys.executable).with_name("tfcluster"))


@pytest.fixture
def job(space: Space, folder: Path) -> SubmittedRayJob:
    """A job that nobody has taken up."""
    return submit(folder / "job.yaml", kubernetes=STORAGE)


@pytest.fixture
def node(space: Space) -> Iterator[tuple[str, Kubelet]]:
    """A node and its kubelet."""
    name = f"node-{uuid.uuid4().hex[:8]}"
    with kubelet(space.plane, space, name) as made:
        yield name, made


def why(job: SubmittedRayJob) -> str:
    return "\n".join(map(str, findings(job.sight())))


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([TFCLUSTER, *words], capture_output=True, text=True, timeout=60, check=False)


def test_no_operator(space: Space, job: SubmittedRayJob) -> None:
    sight = job.sight()
    assert findings(sight) == []
    later = type(sight)(sight.job, now=sight.now + 60)
    assert "KubeRay's operator has not taken up the job" in str(findings(later)[0])


def test_nothing_to_show_is_said(space: Space, folder: Path) -> None:
    where = ("--kubernetes", "--namespace", space.name)
    none = run("list", *where)
    assert f"no job that was submitted by tfcluster in namespace {space.name}" in none.stdout + none.stderr
    job = submit(folder / "job.yaml", kubernetes=STORAGE)
    logs = run("logs", job.id, *where)
    assert (logs.stdout, logs.returncode) == ("", 0)
    assert f"{job.id} has written nothing yet: tfcluster status {job.id} --kubernetes" in logs.stderr


def test_unschedulable_workers(space: Space, job: SubmittedRayJob) -> None:
    space.take_up(job.id)
    space.pod(job.id, "head", **READY)
    said = "0/3 nodes are available: 1 Insufficient nvidia.com/gpu, 2 node(s) had untolerated taint {gpu: true}. "
    said += "preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling."
    for number in range(2):
        space.pod(job.id, "worker", number, **unschedulable(said))
    assert why(job) == (
        f"no node has enough nvidia.com/gpu left and nodes are kept free by taint gpu: true · 2 Pods of worker "
        f"({job.id}-worker-0, {job.id}-worker-1): asks for cpu 2, memory 4Gi; the scheduler: 1 Insufficient "
        "nvidia.com/gpu, 2 node(s) had untolerated taint {gpu: true} · ask for less, or wait for others to end; "
        "add tolerations"
    )
    done = run("status", job.id, "--kubernetes", "--namespace", space.name)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^status +PENDING for ", done.stdout, re.MULTILINE)
    assert re.search(r"^worker +2 pending$", done.stdout, re.MULTILINE)
    assert "warning: no node has enough nvidia.com/gpu left" in done.stdout


def test_an_image_that_does_not_come(space: Space, job: SubmittedRayJob) -> None:
    space.take_up(job.id)
    space.pod(job.id, "worker", **waiting("ImagePullBackOff", 'Back-off pulling image "ray-tfcluster:0.1.0"'))
    assert why(job).startswith("its image does not come · Pod ")
    assert "ray-tfcluster:0.1.0" in why(job)
    document = json.loads(run("status", job.id, "-k", "--namespace", space.name, "--json").stdout)
    assert document["findings"][0]["level"] == "error"
    assert document["pods"][0]["phase"] == "pending"


def test_a_secret_that_is_not_there(space: Space, job: SubmittedRayJob) -> None:
    space.take_up(job.id)
    space.pod(job.id, "head", **waiting("CreateContainerConfigError", 'secret "s3-keys" not found'))
    assert "its container cannot be made · Pod" in why(job)
    assert 'secret "s3-keys" not found' in why(job)


def test_quota_of_pods(space: Space, job: SubmittedRayJob) -> None:
    """The API server's own words about a quota, as the operator writes them into an event."""
    hard = {"pods": "0"}
    space.create({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "team"}, "spec": {"hard": hard}})
    space.set_status("resourcequota", "team", hard=hard, used={"pods": "0"})
    cluster = space.take_up(job.id)
    with pytest.raises(Exception, match="exceeded quota") as refused:
        space.pod(job.id, "worker")
    said = re.search(r"pods \".*", str(refused.value))
    assert said is not None
    space.event("RayCluster", cluster, "FailedToCreateWorkerPod", f"Failed to create worker Pod, {said[0]}")
    assert "the namespace's quota is used up · quota team: asked pods=1, used pods=0, at most pods=0" in why(job)


def test_a_queue(space: Space, folder: Path) -> None:
    settings = {**STORAGE, "queue": {"scheduler": "kueue", "name": "team"}, "rayJob": {"suspend": True}}
    job = submit(folder / "job.yaml", kubernetes=settings)
    assert space.get("rayjob", job.id)["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "team"
    assert why(job) == "the job waits in a queue · queue team · is Kueue there, and the LocalQueue?"


def queue_crd(version: str) -> dict[str, Any]:
    """Kueue's Workloads, as far as they are read, in one version of their API."""
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    served = {"name": version, "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    names = {"kind": "Workload", "plural": "workloads", "singular": "workload"}
    approved = {"api-approved.kubernetes.io": "https://github.com/kubernetes-sigs/kueue"}
    return {
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "workloads.kueue.x-k8s.io", "annotations": approved},
        "spec": {"group": "kueue.x-k8s.io", "scope": "Namespaced", "names": names, "versions": [served]},
    }  # fmt: skip


@pytest.mark.parametrize("version", ["v1beta1", "v1beta2"])
def test_what_a_queue_says(space: Space, folder: Path, version: str) -> None:
    """Older Kueue has the one version of its API only, and newer Kueue the other."""
    settings = {**STORAGE, "queue": {"scheduler": "kueue", "name": "team"}, "rayJob": {"suspend": True}}
    job = submit(folder / "job.yaml", kubernetes=settings)
    owner = {"apiVersion": "ray.io/v1", "kind": "RayJob", "name": job.id}
    owner["uid"] = space.get("rayjob", job.id)["metadata"]["uid"]
    said = "couldn't assign flavors to pod set head: insufficient unused quota for cpu"
    conditions = [{"type": "QuotaReserved", "status": "False", "message": said}]
    space.create(queue_crd(version))
    try:
        space.kubectl("wait", "--for=condition=Established", "--timeout=30s", "crd/workloads.kueue.x-k8s.io")
        space.create({
            "apiVersion": f"kueue.x-k8s.io/{version}", "kind": "Workload",
            "metadata": {"name": "rayjob-flights", "ownerReferences": [owner]}, "status": {"conditions": conditions},
        })  # fmt: skip
        assert why(job) == f"the job waits in a queue · queue team: {said}"
    finally:
        space.kubectl("delete", "crd", "workloads.kueue.x-k8s.io")


def test_events_of_pods_are_shown(space: Space, job: SubmittedRayJob) -> None:
    space.take_up(job.id, jobStatus="RUNNING", jobDeploymentStatus="Running")
    pod = space.pod(job.id, "worker", phase="Failed", reason="Evicted", message="The node was low on resource: memory.")
    space.event("Pod", pod, "Evicted", "The node was low on resource: memory.")
    space.event("Pod", "of-somebody-else", "Evicted", "not ours")
    shown = run("status", job.id, "-k", "--namespace", space.name).stdout
    assert "a node evicted it · Pod" in shown
    assert "The node was low on resource: memory." in shown
    assert re.search(rf"\d\d:\d\d:\d\dZ Pod {pod}: Evicted: ", shown)
    assert "not ours" not in shown
    assert "RUNNING for" in shown


def test_the_end(space: Space, job: SubmittedRayJob) -> None:
    space.take_up(job.id)
    message = "Job entrypoint command failed with exit code 10, last available logs (truncated to 20,000 chars):\nBoom"
    space.set_status(
        "rayjob", job.id, jobStatus="FAILED", jobDeploymentStatus="Failed", message=message, reason="AppFailed"
    )
    assert (job.wait(10), job.exit_code()) == ("FAILED", 10)
    assert not job.stop()
    listed = json.loads(run("list", "-k", "--namespace", space.name, "--json").stdout)
    assert [(row["id"], row["status"], row["exit_code"]) for row in listed] == [(job.id, "FAILED", 10)]


def test_stop_before_it_begins(space: Space, job: SubmittedRayJob) -> None:
    assert f"{job.id}: deleted, for it had not begun" in run("stop", job.id, "-k", "--namespace", space.name).stdout
    assert space.names("rayjob") == []
    with pytest.raises(RunNotFoundError, match="there is no RayJob of that name"):
        job.status()


#: What Ray's command writes around a job's output.
BEFORE = (
    "Waiting for Ray Dashboard GCS to become healthy at http://x:8265 ...",
    "2026-11-23 20:00:33,881\tINFO cli.py:42 -- \x1b[37mJob submission server address\x1b[39m: http://x:8265",
    "2026-11-23 20:00:33,926\tSUCC cli.py:67 -- \x1b[32mJob 'x' submitted successfully\x1b[39m",
)
AFTER = (
    "2026-11-23 20:00:42,482\tINFO sdk.py:520 -- WebSocket closed for job j-1 with close code 1000",
    "2026-11-23 20:00:42,491\tERR cli.py:75 -- \x1b[31mJob 'x' failed\x1b[39m",
    "2026-11-23 20:00:42,492\tINFO cli.py:89 -- Status message: Job entrypoint command failed with exit code 10:",
    "one",
    "two",
)


class Followed:
    """`logs(follow=True)` in a thread."""

    def __init__(self, job: SubmittedRayJob) -> None:
        self.told: list[str] = []
        self.out = io.StringIO()
        self.error: BaseException | None = None
        self._news = threading.Condition()
        follower = self

        class Out(io.TextIOBase):
            def write(self, text: str) -> int:
                with follower._news:
                    follower.out.write(text)
                    follower._news.notify_all()
                return len(text)

        def work() -> None:
            try:
                job.logs(follow=True, stream=Out(), tell=self._tell)  # type: ignore[arg-type]
            except BaseException as error:
                self.error = error

        self._thread = threading.Thread(target=work)
        self._thread.start()

    def _tell(self, text: str) -> None:
        with self._news:
            self.told.append(text)
            self._news.notify_all()

    def wait_for(self, seen: Callable[[], Any]) -> None:
        with self._news:
            assert self._news.wait_for(lambda: seen() or self.error, 40), (self.out.getvalue(), self.told)
        assert self.error is None, self.error

    def join(self) -> str:
        self._thread.join(40)
        assert not self._thread.is_alive()
        if self.error is not None:
            raise self.error
        return self.out.getvalue()


def test_logs_go_on_after_breaks_and_from_pod_to_pod(
    space: Space, job: SubmittedRayJob, node: tuple[str, Kubelet]
) -> None:
    name, kubelet = node
    followed = Followed(job)
    space.take_up(job.id)
    space.pod(job.id, "worker", **unschedulable("0/1 nodes are available: 1 Insufficient cpu."))
    followed.wait_for(lambda: followed.told)
    assert "no node has enough cpu left" in followed.told[0]

    kubelet.starting.add(f"{job.id}-submitter-0")
    first = space.pod(job.id, "submitter", 0, node=name, **READY)
    space.set_status("rayjob", job.id, jobStatus="RUNNING", jobDeploymentStatus="Running")
    assert job.logs() == ""
    kubelet.starting.clear()
    kubelet.write(first, *BEFORE, "one", "run directory: s3://bucket/runs/flights-1", "two")
    followed.wait_for(lambda: followed.out.getvalue().endswith("two\n"))
    kubelet.break_connections()
    kubelet.write(first, "three")
    followed.wait_for(lambda: followed.out.getvalue().endswith("three\n"))
    assert job.run_dir() == "s3://bucket/runs/flights-1"

    # The submitter loses its connection to Ray; the next one says it all again.
    kubelet.end(first)
    space.set_status("pod", first, phase="Failed")
    second = space.pod(job.id, "submitter", 1, node=name, **READY)
    kubelet.write(second, *BEFORE, "one", "run directory: s3://bucket/runs/flights-1", "two", "three", "four", *AFTER)
    followed.wait_for(lambda: followed.out.getvalue().endswith("four\n"))
    kubelet.end(second)
    space.set_status("rayjob", job.id, jobStatus="FAILED", jobDeploymentStatus="Failed")
    expected = "one\nrun directory: s3://bucket/runs/flights-1\ntwo\nthree\nfour\n"
    assert followed.join() == expected
    assert job.logs() == expected


def test_a_program_that_waits_reads_the_json_alone(space: Space, folder: Path, node: tuple[str, Kubelet]) -> None:
    name, kubelet = node
    settings = [f"--set={key}" for key in ("storage.uri=s3://bucket/runs", "storage.secretName=s3-keys")]
    words = [TFCLUSTER, "submit", str(folder / "job.yaml"), "-k", "--name", "mine", "--json", "--wait", *settings]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        space.kubectl("wait", "rayjob/mine", "--for=create", "--timeout=40s")
        space.take_up("mine", jobStatus="RUNNING", jobDeploymentStatus="Running")
        pod = space.pod("mine", "submitter", 0, node=name, **READY)
        kubelet.write(pod, *BEFORE, "one", "two")
        kubelet.end(pod)
        space.set_status("rayjob", "mine", jobStatus="SUCCEEDED", jobDeploymentStatus="Complete")
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert json.loads(out)["id"] == "mine"
    assert "one\ntwo\n" in err


def test_a_job_that_is_deleted_right_after_its_end(
    space: Space, job: SubmittedRayJob, node: tuple[str, Kubelet]
) -> None:
    """By deletion rules: its Pods, and their logs, go too."""
    name, kubelet = node
    space.take_up(job.id, jobStatus="RUNNING", jobDeploymentStatus="Running")
    pod = space.pod(job.id, "submitter", 0, node=name, **READY)
    kubelet.write(pod, *BEFORE, "one")
    followed = Followed(job)
    followed.wait_for(lambda: followed.out.getvalue() == "one\n")
    kubelet.write(pod, "two", *AFTER)
    followed.wait_for(lambda: followed.out.getvalue() == "one\ntwo\n")
    space.kubectl("delete", "rayjob", job.id)
    space.kubectl("delete", "pod", pod, "--force", "--grace-period=0")
    kubelet.end(pod)
    assert followed.join() == "one\ntwo\n"
    assert followed.told == [f"RayJob {job.id} was deleted after its end: FAILED"]
    assert (job.wait(10), job.exit_code()) == ("FAILED", 10)


def test_the_api_server_goes_away_and_comes_back(
    space: Space, job: SubmittedRayJob, node: tuple[str, Kubelet], capfd: pytest.CaptureFixture[str]
) -> None:
    name, kubelet = node
    space.take_up(job.id, jobStatus="RUNNING", jobDeploymentStatus="Running")
    pod = space.pod(job.id, "submitter", 0, node=name, **READY)
    kubelet.write(pod, "one")
    followed = Followed(job)
    followed.wait_for(lambda: followed.out.getvalue() == "one\n")
    with away(space):
        kubelet.write(pod, "two")
        threading.Event().wait(3.0)
    followed.wait_for(lambda: followed.out.getvalue() == "one\ntwo\n")
    kubelet.end(pod)
    space.set_status("rayjob", job.id, jobStatus="SUCCEEDED", jobDeploymentStatus="Complete")
    assert followed.join() == "one\ntwo\n"
    assert "the API server does not answer" in capfd.readouterr().err


def test_an_api_server_that_stays_away(space: Space, job: SubmittedRayJob, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cluster.kube_api.LATER", 3.0)
    with (
        away(space),
        pytest.raises(SubmissionError, match=r"the API server does not answer · https://.* tried for \d s"),
    ):
        job.status()
    monkeypatch.setattr("cluster.kube_api.LATER", 60.0)
    assert job.status() == "PENDING"
