"""What goes to Ray's head through a forwarded port, with the cluster's token. The head is a real one."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import secrets
import socket
import subprocess
import sys
import threading
import urllib.request
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from cluster import submit
from cluster.errors import CaptureError, RunNotFoundError, SubmissionError
from cluster.kube_submitted import SubmittedRayJob
from tests.helm.charts import Helm
from tests.kubernetes.chart_jobs import NAME, on_a_team, scheduled
from tests.kubernetes.kubelet import Kubelet, kubelet
from tests.kubernetes.space import READY, STORAGE, Space
from tests.made_runs import Made

pytestmark = pytest.mark.timeout(300)

RAY = str(Path(sys.executable).with_name("ray"))
TFCLUSTER = str(Path(sys.executable).with_name("tfcluster"))


@dataclass(frozen=True)
class Head:
    """A Ray head on this machine."""

    dashboard: int
    token: str
    env: dict[str, str]

    def start(self, submission: str, *command: str) -> None:
        """Hand a job to it, as the submitter's Pod does."""
        words = [RAY, "job", "submit", "--no-wait", "--submission-id", submission, "--", *command]
        subprocess.run(words, env=self.env, check=True, capture_output=True, timeout=120)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Head]:
    """A head that wants a token, as KubeRay starts it."""
    dashboard, token = free_port(), secrets.token_hex(32)
    env = {
        **os.environ,
        "HOME": str(tmp_path_factory.mktemp("home")),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": token,
        "RAY_API_SERVER_ADDRESS": f"http://127.0.0.1:{dashboard}",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    env.pop("RAY_ADDRESS", None)
    ports = [f"--port={free_port()}", f"--dashboard-port={dashboard}", f"--dashboard-agent-listen-port={free_port()}"]
    command = [RAY, "start", "--head", *ports, "--num-cpus=2", "--block", "--node-ip-address=127.0.0.1"]
    command += ["--disable-usage-stats", f"--temp-dir={tmp_path_factory.mktemp('ray')}"]
    process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    for line in process.stdout:
        if "Ray runtime started" in line:
            break
    made = Head(dashboard, token, env)
    for _ in range(60):  # it answers before it has the agent that takes jobs
        with contextlib.suppress(subprocess.SubprocessError):
            made.start(f"trial-{uuid.uuid4().hex}", "true")
            break
    yield made
    process.terminate()
    process.wait(60)
    process.stdout.close()


@pytest.fixture
def job(space: Space, folder: Path, head: Head) -> Iterator[SubmittedRayJob]:
    """A job that runs, as far as Kubernetes knows, on that head."""
    name = f"node-{uuid.uuid4().hex[:8]}"
    with kubelet(space.plane, space, name) as served:
        yield begin(space, folder, head, name, served)


def begin(space: Space, folder: Path, head: Head, node: str, served: Kubelet) -> SubmittedRayJob:
    job = submit(folder / "job.yaml", kubernetes=STORAGE)
    cluster = space.take_up(job.id, jobStatus="RUNNING", jobDeploymentStatus="Running")
    space.pod(job.id, "head", node=node, **READY)
    served.ports[8265] = head.dashboard
    keep_token(space, cluster, head)
    return job


def keep_token(space: Space, cluster: str, head: Head) -> None:
    """Play the operator that makes a token for the cluster."""
    token = base64.b64encode(head.token.encode()).decode()
    space.create({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": cluster}, "data": {"auth_token": token}})


def submission_of(space: Space, job: SubmittedRayJob) -> str:
    return str(space.get("rayjob", job.id)["status"]["jobId"])


def test_stop_asks_the_launcher_to_end(space: Space, job: SubmittedRayJob, head: Head) -> None:
    head.start(submission_of(space, job), "sleep", "600")
    done = subprocess.run(
        [TFCLUSTER, "stop", job.id, "-k", "--namespace", space.name], capture_output=True, text=True, timeout=120
    )
    assert done.stdout.startswith(f"{job.id}: stopping\n"), done.stdout + done.stderr
    assert space.names("rayjob") == [job.id]
    wait_until_stopped(head, submission_of(space, job))


def wait_until_stopped(head: Head, submission: str) -> None:
    for _ in range(30):  # it is asked to end, and does soon
        words = [RAY, "job", "status", submission]
        said = subprocess.run(words, env=head.env, capture_output=True, text=True, timeout=60)
        if "stopped" in (said.stdout + said.stderr).lower():
            return
    raise AssertionError(said.stdout + said.stderr)


@pytest.mark.parametrize("whose", ["schedule", "team"])
def test_stop_asks_the_launcher_of_a_job_of_the_chart(space: Space, helm: Helm, head: Head, whose: str) -> None:
    """One that a schedule started, and one on the cluster of another release: neither is deleted."""
    node = f"node-{uuid.uuid4().hex[:8]}"
    with kubelet(space.plane, space, node) as served:
        served.ports[8265] = head.dashboard
        if whose == "schedule":
            job = scheduled(space, helm)
            cluster = space.take_up(NAME, jobStatus="RUNNING", jobDeploymentStatus="Running", jobId=job_id(space))
            space.pod(NAME, "head", node=node, **READY)
        else:
            job, made = on_a_team(space, helm, jobId=job_id(space))
            cluster = space.ray_pod("team-head", "team", made["spec"], "head", node=node, **READY).removesuffix("-head")
        keep_token(space, cluster, head)
        head.start(job_id(space), "sleep", "600")
        assert job.stop()
        assert space.names("rayjob") == [job.id]
        wait_until_stopped(head, job_id(space))


def job_id(space: Space) -> str:
    """One that no other test's job has."""
    return f"job-of-{space.name}"


def test_a_token_that_is_wrong(space: Space, job: SubmittedRayJob, head: Head) -> None:
    head.start(submission_of(space, job), "sleep", "5")
    wrong = json.dumps({"data": {"auth_token": base64.b64encode(b"0" * 64).decode()}})
    cluster = space.get("rayjob", job.id)["status"]["rayClusterName"]
    space.kubectl("patch", "secret", cluster, "--patch", wrong)
    with pytest.raises(SubmissionError, match="token"):
        job.stop()


def test_profile_asks_on_the_cluster(space: Space, job: SubmittedRayJob, head: Head, tmp_path: Path) -> None:
    made = Made(tmp_path, "flights-1")
    made.event(5.0, "run_ended", status="succeeded")
    head.start(submission_of(space, job), "sh", "-c", f"cat {telling(made)}; sleep 60")
    with pytest.raises(CaptureError, match=r"the run has ended, and none of its tasks was traced"):
        patient_profile(job)
    assert job.stop()


def telling(made: Made) -> Path:
    """A file with what a launcher says of its run directory; a command with these words would be shown first."""
    file = Path(made.uri).with_name("said.txt")
    file.write_text(f"run directory: {made.uri}\n")
    return file


def patient_profile(job: SubmittedRayJob) -> None:
    """Profile the job once it has said where its run directory is."""
    for _ in range(100):
        with contextlib.suppress(RunNotFoundError):
            job.profile(0.5)
        threading.Event().wait(0.2)


def test_tensorboard_of_the_job(
    space: Space, folder: Path, head: Head, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Made(tmp_path, "flights-1", alive=True)
    name = f"node-{uuid.uuid4().hex[:8]}"
    with kubelet(space.plane, space, name) as served:
        job = begin(space, folder, head, name, served)
        with pytest.raises(RunNotFoundError, match="no run directory yet"), job.tensorboard(0):
            pass
        submitter = space.pod(job.id, "submitter", node=name, **READY)
        served.write(submitter, f"run directory: {made.uri}")
        head.start(submission_of(space, job), "sh", "-c", f"cat {telling(made)}; sleep 600")
        served.anywhere = True  # TensorBoard takes a free port of the head, which is this machine
        words = [TFCLUSTER, "tensorboard", job.id, "--task", "worker-9", "--port", "0", "-k", "--namespace", space.name]
        refused = subprocess.run(words, capture_output=True, text=True, timeout=120)
        assert "no dumps of that task · worker-9 · dumps are of: none" in refused.stderr
        with job.tensorboard(0) as address, urllib.request.urlopen(address, timeout=60) as answer:
            assert b"TensorBoard" in answer.read()
        assert job.stop()
