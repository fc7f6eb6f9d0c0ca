"""Captures of real jobs: every task's trace comes together, by steps, by a block and on demand; and what breaks one."""

from __future__ import annotations

import re
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cluster import requests
from cluster.errors import CaptureError
from cluster.events import Event
from cluster.profiling import profile
from cluster.xplane import read_planes
from tests.ray.conftest import kill, wait_until

pytestmark = pytest.mark.timeout(300)


def done(event):
    return event.data["status"] not in ("tracing", "collected")


def traced(run_dir, event):
    """The files of a capture."""
    assert event.data["status"] == "done", event.data
    return sorted(path.name for path in Path(run_dir, event.data["folder"]).glob("*.xplane.pb"))


def leave(tmp_path, job):
    """Have the job end some steps from now."""
    step = max(int(e.data["step"]) for e in job.events if e.kind == "step")
    (tmp_path / "last").write_text(str(step + 400))


@pytest.fixture
def ended(tmp_path):
    """Ends a job that a failed test would leave running."""
    yield
    (tmp_path / "last").write_text("1")


@pytest.mark.parametrize("keras", [3, 2])
def test_two_workers_are_traced_by_steps_and_on_demand(start, tmp_path, ended, keras):
    job = start(
        entrypoint="profiled.py:fit",
        args={"folder": str(tmp_path)},
        strategy="multi_worker_mirrored",
        roles={"worker": 2},
        keras=keras,
        profile={"steps": [5, 12]},
    )
    by_steps = job.wait_for("profile", done)
    run_dir = next(Path(tmp_path, "runs").iterdir())
    names = ["worker-0.xplane.pb", "worker-1.xplane.pb"]
    assert traced(run_dir, by_steps) == names
    wanted = {*range(5, 13)} if keras == 3 else {*range(4, 12)}  # tf_keras counts the steps of an epoch from 0
    for name in names:
        assert wanted <= steps_in(Path(run_dir, by_steps.data["folder"], name))

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(profile, str(run_dir), 1.5)
        job.wait_for("profile", lambda event: event.data["status"] == "tracing")
        with pytest.raises(CaptureError, match="goes on; try again when it is done"):
            profile(str(run_dir), 1.0)
        found = first.result()
    assert sorted(found["traces"]) == ["worker-0", "worker-1"]
    assert found["sentence"]
    with pytest.raises(CaptureError, match="did you mean worker"):
        profile(str(run_dir), 1.0, ["wroker-1"])
    only = profile(str(run_dir), 0.5, ["worker-1"])
    assert sorted(only["traces"]) == ["worker-1"]
    scratch = Path(next(line for line in job.lines["worker-1"] if "tensorboard_dir: " in line).split(": ")[1]).parent
    wait_until(lambda: not list(scratch.glob("trace-*")), "a task keeps traces that were fetched")
    assert scratch.exists()

    leave(tmp_path, job)
    assert job.join().value["steps"] > 12
    with pytest.raises(CaptureError, match="the run has ended"):
        profile(str(run_dir), 1.0)
    assert not list(Path(run_dir).glob(".capture-*"))


def steps_in(path):
    """Numbers of the training steps that are marked in a trace."""
    found = set()
    for plane in read_planes(path):
        for line in plane.lines:
            marks = [plane.stats_of(event) for event in line.events if plane.names[event.metadata_id][0] == "train"]
            found |= {int(mark["step_num"]) for mark in marks if "step_num" in mark}
    return found


def test_every_role_of_parameter_servers_is_traced_and_a_lost_task_costs_only_its_own(start, tmp_path, ended):
    job = start(
        entrypoint="profiled.py:loop",
        args={"folder": str(tmp_path)},
        strategy="parameter_server",
        roles={"worker": 2, "ps": 1},
    )
    block = job.wait_for("profile", done)
    run_dir = next(Path(tmp_path, "runs").iterdir())
    everyone = ["chief-0", "ps-0", "worker-0", "worker-1"]
    assert traced(run_dir, block) == [f"{name}.xplane.pb" for name in everyone]

    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(profile, str(run_dir), 3.0)
        job.wait_for("profile", lambda event: event.data["status"] == "tracing")
        kill(job.pid("worker-1"))
        found = asked.result()
    assert sorted(found["traces"]) == ["chief-0", "ps-0", "worker-0"]
    assert "SIGKILL" in found["missing"]["worker-1"]

    job.wait_for("task_ready", lambda event: str(event.task) == "worker-1")
    leave(tmp_path, job)
    job.join()


def test_a_lost_task_of_two_workers_costs_only_its_own_trace_and_the_job_goes_on(start, tmp_path, ended):
    job = start(
        entrypoint="profiled.py:fit",
        args={"folder": str(tmp_path)},
        strategy="multi_worker_mirrored",
        roles={"worker": 2},
        failure={"max_restarts": 1, "backoff": "10ms"},
    )
    job.wait_for("step")
    run_dir = next(Path(tmp_path, "runs").iterdir())
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(profile, str(run_dir), 20.0)
        job.wait_for("profile")
        for _ in range(3):  # an epoch each
            job.wait_for("checkpoint")
        kill(job.pid("worker-1"))
        found = asked.result()
    assert list(found["traces"]) == ["worker-0"]  # which failed itself, as its peer was gone
    assert found["tasks"][0]["steps"]["count"] > 1
    assert list(found["missing"]) == ["worker-1"]
    assert "SIGKILL" in found["missing"]["worker-1"]
    assert re.search(
        r"it was cut short after [\d.]+ s of 20 s: (its tasks|the attempt) ended", "\n".join(found["notes"])
    )
    job.wait_for("step", lambda event: event.attempt == 2)
    leave(tmp_path, job)
    assert job.join().attempts == 2


def test_a_request_waits_for_the_tasks_of_a_job_that_restarts(start, tmp_path, ended):
    job = start(
        entrypoint="profiled.py:fit",
        args={"folder": str(tmp_path)},
        strategy="multi_worker_mirrored",
        roles={"worker": 2},
        failure={"max_restarts": 1, "backoff": "2s"},
    )
    job.wait_for("step")
    kill(job.pid("worker-1"))
    job.wait_for("restarting")
    told: list[Event] = []
    run_dir = next(Path(tmp_path, "runs").iterdir())
    found = profile(str(run_dir), 0.5, on_event=told.append)
    assert [event.data["status"] for event in told][:2] == ["waiting", "tracing"]
    assert told[1].attempt == 2
    assert sorted(found["traces"]) == ["worker-0", "worker-1"]
    leave(tmp_path, job)
    assert job.join().attempts == 2


def test_the_end_of_a_run_does_not_lose_its_capture(start, tmp_path, ended):
    job = start(entrypoint="profiled.py:fit", args={"folder": str(tmp_path)}, profile={"steps": [30, 100_000]})
    job.wait_for("profile", lambda event: event.data["status"] == "tracing")
    leave(tmp_path, job)
    result = job.join()
    last = [e for e in job.events if e.kind == "profile"][-1]
    assert traced(result.run_dir, last) == ["worker-0.xplane.pb"]


def test_steps_that_never_come_are_told_of(start, tmp_path, ended):
    (tmp_path / "last").write_text("1")
    job = start(entrypoint="profiled.py:fit", args={"folder": str(tmp_path)}, profile={"steps": [1000, 1010]})
    job.join()
    notices = [event.data["text"] for event in job.events if event.kind == "notice" and "text" in event.data]
    assert "profile: steps 1000 to 1010 never came: the job ended at step 40" in notices


def test_a_script_is_traced_and_a_request_that_is_none_is_passed_over(start, tmp_path, ended):
    job = start(script=["idle.py", str(tmp_path)])
    job.wait_for("task_ready")
    run_dir = next(Path(tmp_path, "runs").iterdir())
    (run_dir / "requests").mkdir(exist_ok=True)
    (run_dir / "requests" / "nonsense.json").write_text("{")
    (run_dir / "requests" / "list.json").write_text("[1]")
    requests.ask(str(run_dir), kind="profile", seconds="long")
    wait_until(lambda: not list((run_dir / "requests").iterdir()), "requests are left")
    found = profile(str(run_dir), 0.5)
    assert list(found["traces"]) == ["worker-0"]
    assert found["sentence"]
    # A capture that cannot be put in its place costs neither the job nor disk space.
    shutil.rmtree(run_dir / "tensorboard" / "plugins")
    (run_dir / "tensorboard" / "plugins").touch()
    with pytest.raises(CaptureError, match="the traces could not be put in place"):
        profile(str(run_dir), 0.5)
    assert not list(run_dir.glob(".capture-*"))
    (tmp_path / "last").touch()
    job.join()
    pulls = [thread for thread in threading.enumerate() if thread.name.startswith("tfcluster-pull")]
    for thread in pulls:  # which the run does not wait for
        thread.join(10)
        assert not thread.is_alive()
