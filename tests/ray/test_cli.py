"""The command as a person types it: exit codes, sentences, `status`, `logs`, `stop`, and an embedded Ray."""

from __future__ import annotations

import contextlib
import json
import os
import signal
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


@pytest.mark.parametrize("beside", ["", " --no-monitor"], ids=["nobody", "an autoscaler"])
def test_nodes_may_come_where_kuberays_autoscaler_stands_beside_the_head(ray_address, tmp_path, monkeypatch, beside):
    monkeypatch.setenv("KUBERAY_GEN_RAY_START_CMD", f"ray start --head{beside} --num-cpus=0")
    path = write(tmp_path, entrypoint=f"{JOBS}/train.py:fit", roles={"worker": {"cpus": 99}})
    document = json.loads(tfcluster("plan", path, "--json", address=ray_address).stdout)
    findings = [(f["level"], f["happened"]) for f in document["findings"] if "CPU" in str(f)]
    assert document["ok"] == bool(beside), findings


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


def test_json_is_one_document_of_an_interrupted_run_whose_data_were_prepared(ray_address, tmp_path):
    path = write(tmp_path, entrypoint=f"{JOBS}/train.py:waits", prepare=f"{JOBS}/train.py:prepares")
    env = {**os.environ, "RAY_ADDRESS": ray_address, "PYTHONPATH": str(JOBS.parents[2])}
    command = [sys.executable, "-m", "cluster", "run", str(path), "--json"]
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert "the data are made" in process.stderr.readline()
        while not any(b'"step"' in events.read_bytes() for events in tmp_path.glob("runs/*/events.jsonl")):
            with contextlib.suppress(subprocess.TimeoutExpired):
                pytest.fail(f"it ended with {process.wait(0.1)}")
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert json.loads(output)["status"] == "interrupted"


@pytest.mark.parametrize("last_read", [None, "job: strategy none", "] line "], ids=["nothing", "plan", "logs"])
def test_a_run_whose_output_nobody_reads_any_more_ends_in_order(ray_address, tmp_path, last_read):
    path = write(tmp_path, entrypoint=f"{JOBS}/train.py:writes", args={"lines": 100_000})
    env = {**os.environ, "RAY_ADDRESS": ray_address, "PYTHONPATH": str(JOBS.parents[2])}
    command = [sys.executable, "-m", "cluster", "run", str(path)]
    read_end, write_end = os.pipe()
    with os.fdopen(read_end) as output:
        if last_read is None:
            output.close()
        with subprocess.Popen(command, env=env, stdout=write_end, stderr=subprocess.PIPE, text=True) as process:
            os.close(write_end)
            if last_read is not None:
                assert any(last_read in line for line in output)
                output.close()
            assert "nobody reads its output any more" in process.stderr.read()
            assert process.wait(60) == 130
    result = json.loads(next(tmp_path.glob("runs/*/result.json")).read_text())
    assert result["status"] == "interrupted"


def test_a_signal_to_the_whole_process_group_ends_a_run_in_order(tmp_path):
    """As `timeout` and service managers send it; the embedded Ray must outlive it until the run has ended."""
    path = write(tmp_path, entrypoint=f"{JOBS}/train.py:waits")
    env = {**os.environ, "PYTHONPATH": str(JOBS.parents[2])}
    env.pop("RAY_ADDRESS", None)
    command = [sys.executable, "-m", "cluster", "run", str(path)]
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert any("step 1" in line for line in process.stdout)
        os.killpg(process.pid, signal.SIGTERM)
        process.stdout.read()
        assert process.wait(60) == 130
    result = json.loads(next(tmp_path.glob("runs/*/result.json")).read_text())
    assert "SIGTERM" in result["error"]


SEVERAL_RUNS = """
import json, os, sys
import ray
from cluster import run
from cluster.console import SilentConsole

class Watcher(SilentConsole):
    def plan(self, plan):
        self.findings = [str(finding) for finding in plan.findings if finding.level != "note"]

def once(**more):
    watcher = Watcher()
    done = run({"entrypoint": sys.argv[1], "args": {"steps": 1}, "storage": sys.argv[2], **more}, observer=watcher)
    address = ray.get_runtime_context().gcs_address
    return {"ray": address, "value": done.value["steps"], "findings": watcher.findings}

first, second = once(), once()
agent_port = ray._private.worker._global_node.dashboard_agent_listen_port
os.environ["COLOUR"] = "blue"  # which workers that have started already would not see
third = once()
print(json.dumps([first, second, third, agent_port]))
"""


def test_several_runs_of_one_process_share_a_ray_that_fits_them(tmp_path):
    env = {**os.environ, "PYTHONPATH": str(JOBS.parents[2])}
    env.pop("RAY_ADDRESS", None)
    words = [sys.executable, "-c", SEVERAL_RUNS, f"{JOBS}/train.py:report", str(tmp_path / "runs")]
    done = subprocess.run(words, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stdout + done.stderr
    first, second, third, agent_port = json.loads(done.stdout.splitlines()[-1])
    assert second == first  # the same Ray, and nothing said of resources that the first run has just left
    assert first["findings"] == []
    assert third["ray"] != first["ray"]
    assert agent_port != 52365  # which a Ray head on this machine needs to take jobs
