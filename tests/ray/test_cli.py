"""The command as a person types it: exit codes, sentences, `status`, `logs`, `stop`, and an embedded Ray."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.ray.conftest import JOBS, wait_until

pytestmark = pytest.mark.timeout(240)


def tfcluster(*words, address=None, cwd=None):
    env = {**os.environ, "PYTHONPATH": str(JOBS.parents[2])}
    env.pop("RAY_ADDRESS", None)
    if address:
        env["RAY_ADDRESS"] = address
    command = [sys.executable, "-m", "cluster", *map(str, words)]
    return subprocess.run(command, env=env, cwd=cwd, capture_output=True, text=True, timeout=200)


def write(folder: Path, **document) -> Path:
    path = folder / "job.json"
    path.write_text(json.dumps({"storage": str(folder / "runs"), **document}))
    return path


def test_an_embedded_ray_with_more_tasks_than_cores(tmp_path):
    path = write(tmp_path, entrypoint=f"{JOBS}/train.py:report", strategy="custom", roles={"worker": 5})
    done = tfcluster("run", path)
    assert done.returncode == 0, done.stdout + done.stderr
    for index in range(5):
        assert f"[worker-{index}] hello from worker-{index}" in done.stdout
    assert "next: tfcluster logs" in done.stdout or "next " in done.stdout
    run = next((tmp_path / "runs").iterdir())
    status = tfcluster("status", "latest", "--storage", tmp_path / "runs", "--json")
    assert json.loads(status.stdout)["status"] == "succeeded"
    logs = tfcluster("logs", run, "--task", "worker-3")
    assert logs.stdout == "[worker-3] hello from worker-3\n"
    assert "not running" in tfcluster("stop", run).stdout
    launcher = json.loads((run / "events.jsonl").read_text().splitlines()[0])["pid"]
    wait_until(lambda: not warm_processes_of(launcher), "the warm process outlived its Ray", 30)


def warm_processes_of(pid: int) -> list[str]:
    """Warm processes that were started for the launcher `pid`."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if b"cluster.warm" in words and words[words.index(b"--lifeline") + 1] == str(pid).encode():
            found.append(path.parent.name)
    return found


def test_json_is_one_document_also_on_failure(ray_address, tmp_path):
    good = tfcluster("run", write(tmp_path, entrypoint=f"{JOBS}/train.py:report"), "--json", address=ray_address)
    assert json.loads(good.stdout)["status"] == "succeeded"
    bad = tfcluster("run", write(tmp_path, entrypoint=f"{JOBS}/train.py:raises"), "--json", address=ray_address)
    assert bad.returncode == 10
    assert "wrong phase" in json.loads(bad.stdout)["error"]


def test_a_bad_spec_is_exit_code_2_without_a_traceback(tmp_path):
    done = tfcluster("run", write(tmp_path, entrypoint="train.py:report", rolls={"worker": 2}))
    assert done.returncode == 2
    assert "did you mean roles?" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "runs").exists()


def test_a_missing_function_is_exit_code_3_before_any_resource_is_taken(tmp_path):
    done = tfcluster("run", write(tmp_path, entrypoint=f"{JOBS}/train.py:reprot"))
    assert done.returncode == 3
    assert "reprot" in done.stderr
    assert not (tmp_path / "runs").exists()


def test_plan_of_the_cluster_at_hand(ray_address, tmp_path):
    path = write(tmp_path, entrypoint=f"{JOBS}/train.py:fit", strategy="multi_worker_mirrored", roles={"worker": 2})
    done = tfcluster("plan", path, "--json", address=ray_address)
    document = json.loads(done.stdout)
    assert document["ok"], done.stdout
    assert [t["task"] for t in document["tasks"]] == ["worker-0", "worker-1"]
    assert document["resources"]["CPU"]["total"] >= 16


def test_no_ray_at_the_address_is_a_sentence(tmp_path):
    done = tfcluster("run", write(tmp_path, entrypoint=f"{JOBS}/train.py:report"), address="127.0.0.1:1")
    assert done.returncode == 3
    assert "no Ray cluster answered" in done.stderr
    assert "Traceback" not in done.stderr


def test_stop_ends_a_run_of_another_process(ray_address, tmp_path):
    path = write(tmp_path, entrypoint=f"{JOBS}/train.py:waits")
    env = {**os.environ, "RAY_ADDRESS": ray_address, "PYTHONPATH": str(JOBS.parents[2])}
    process = subprocess.Popen(
        [sys.executable, "-m", "cluster", "run", str(path)], env=env, stdout=subprocess.PIPE, text=True
    )
    assert any("step 1" in line for line in process.stdout)
    running = tfcluster("status", "latest", "--storage", tmp_path / "runs")
    assert "running" in running.stdout
    assert "stopped" in tfcluster("stop", "latest", "--storage", tmp_path / "runs").stdout
    process.stdout.read()
    process.stdout.close()
    assert process.wait(30) == 130
    assert "interrupted" in tfcluster("status", "latest", "--storage", tmp_path / "runs").stdout
