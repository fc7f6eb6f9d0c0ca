"""`tfcluster` looks at, traces, shows and stops a job that it has submitted; and says why one does not start."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path

import pytest

from tests.e2e.conftest import SMALL, Target
from tests.e2e.kube import JOBS, Document, Space
from tests.e2e.test_jobs import ended


@pytest.fixture
def settings(space: Space, platform: Document) -> Document:
    """Settings of a platform, with a claim that is there."""
    space.claim("runs")
    small = {"head": {"resources": SMALL}, "workerGroups": {"cpu": {"replicas": 2, "resources": SMALL}}}
    return {"image": platform["image"], "storage": {"claim": {"name": "runs"}}, **small}


def submit(space: Space, folder: Path, settings: Document, **spec: object) -> str:
    """Hand a job to Kubernetes; returns its name."""
    for path in JOBS.glob("*.py"):
        (folder / path.name).write_text(path.read_text())
    document = {
        "name": "long", "entrypoint": "train.py:fit", "args": {"epochs": 1_000_000}, "roles": {"worker": 2},
        "strategy": "multi_worker_mirrored", "checkpoint": {"every": 1000}, "timeouts": {"placement": "3m"}, **spec,
    }  # fmt: skip
    (folder / "job.yaml").write_text(json.dumps(document))
    (folder / "platform.yaml").write_text(json.dumps(settings))
    where = ("--kubernetes", "--namespace", space.name, "--platform", str(folder / "platform.yaml"))
    output = space.tfcluster("submit", str(folder / "job.yaml"), *where, "--json")
    return str(json.loads(output)["id"])


def test_look_trace_show_and_stop(space: Space, settings: Document, tmp_path: Path, target: Target) -> None:
    job = submit(space, tmp_path, settings)
    where = ("--kubernetes", "--namespace", space.name)
    env = {**os.environ, "KUBECONFIG": target.kubeconfig}
    command = [sys.executable, "-m", "cluster"]
    follow = subprocess.Popen(
        [*command, "logs", job, *where, "--follow"],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    lines = []
    for line in follow.stdout:
        lines.append(line)
        if "step " in line:
            break
    assert any("placed worker-0 on " in line for line in lines), lines
    status = space.tfcluster("status", job, *where)
    assert re.search(r"^status +RUNNING for ", status, re.MULTILINE), status
    assert re.search(r"^cpu +2 running on ", status, re.MULTILINE), status

    traced = json.loads(space.tfcluster("profile", job, *where, "--seconds", "1", "--json"))
    assert {task["task"] for task in traced["tasks"]} == {"worker-0", "worker-1"}

    seen = json.loads(space.tfcluster("top", job, *where, "--json"))
    assert [(task["task"], task["state"]) for task in seen["tasks"]] == [(f"worker-{i}", "running") for i in range(2)]
    space.tfcluster("report", job, *where, "--output", str(tmp_path / "page.html"))
    assert "worker-1" in (tmp_path / "page.html").read_text()

    board = subprocess.Popen(
        [*command, "tensorboard", job, *where, "--port", "0"], env=env, stdout=subprocess.PIPE, text=True
    )
    said = board.stdout.readline()
    address = said.rpartition(": ")[2].strip()
    with urllib.request.urlopen(address, timeout=60) as answer:
        assert b"TensorBoard" in answer.read()
    board.send_signal(signal.SIGINT)
    assert board.wait(60) == 0
    board.stdout.close()

    assert "stopping" in space.tfcluster("stop", job, *where)
    rest = follow.stdout.read()
    follow.stdout.close()
    assert follow.wait(120) == 0
    assert "the run was stopped" in rest, rest
    space.wait(f"rayjob/{job}", "jsonpath={.status.jobStatus}=STOPPED", 120)
    assert json.loads(space.tfcluster("list", *where, "--json"))[0]["status"] == "STOPPED"


def test_a_suspended_job_says_how_it_is_started(space: Space, settings: Document, tmp_path: Path) -> None:
    job = submit(space, tmp_path, {**settings, "rayJob": {"suspend": True}}, args={"epochs": 1})
    where = ("--kubernetes", "--namespace", space.name)
    space.wait(f"rayjob/{job}", "jsonpath={.status.jobDeploymentStatus}=Suspended")
    assert space.pods("app.kubernetes.io/part-of=tfcluster") == []
    said = space.tfcluster("status", job, *where)
    assert re.search(r"^status +PENDING", said, re.MULTILINE), said
    program, *words = shlex.split(said[said.index("kubectl ") :].splitlines()[0])
    assert (program, words[:4]) == ("kubectl", ["-n", space.name, "patch", "rayjob"])
    space.kubectl(*words)
    ended(space, job)
    assert "status         succeeded" in space.tfcluster("logs", job, *where)


def test_why_a_job_does_not_start(space: Space, settings: Document, tmp_path: Path) -> None:
    """The words are those of a real scheduler and kubelet."""
    large = {"requests": {"cpu": "1000", "memory": "1Gi"}, "limits": {"cpu": "1000", "memory": "1Gi"}}
    workers = {"cpu": {"replicas": 2, "resources": large}}
    image = {**settings["image"], "tag": "of-another-time", "pullPolicy": "Never"}
    job = submit(space, tmp_path, {**settings, "workerGroups": workers, "image": image})
    where = ("--kubernetes", "--namespace", space.name)
    expected = ("no node has enough cpu left · 2 Pods of cpu", "its image does not come · Pod")
    said = ""
    for _ in range(60):
        said = space.tfcluster("status", job, *where)
        if all(sentence in said for sentence in expected):
            break
        threading.Event().wait(1.0)
    assert all(sentence in said for sentence in expected), said
    assert "deleted, for it had not begun" in space.tfcluster("stop", job, *where)
    assert space.get("rayjobs")["items"] == []
    space.kubectl("wait", f"configmap/{job}-job", "--for=delete", "--timeout=60s")  # which the RayJob owned
