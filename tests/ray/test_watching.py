"""Runs that are looked at: TensorBoard beside a job, what it shows of it, dumps of every task, and `tfcluster top`."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cluster.board_views import RunView
from cluster.errors import UserCodeError
from cluster.runs import find_run, read_run
from cluster.tensorboard import Server
from tests.files.test_tensorboard import ask
from tests.ray.conftest import JOBS

pytestmark = pytest.mark.timeout(240)
#: The only run of dumps that Debugger V2 knows.
DUMPED = "__default_debugger_run__"


@pytest.fixture
def gate(tmp_path: Path, start) -> Iterator[int]:
    """What the leader waits for at its end, also when the test fails."""
    os.mkfifo(tmp_path / "gate")
    pipe = os.open(tmp_path / "gate", os.O_RDWR)
    yield pipe
    os.write(pipe, b"go\n")
    os.close(pipe)


def until(question, seconds: float = 90.0):
    """The answer, once it is not empty; TensorBoard looks for news every few seconds."""
    pause, deadline = threading.Event(), time.monotonic() + seconds
    while not (answer := question()):
        assert time.monotonic() < deadline, "TensorBoard does not show it"
        pause.wait(0.3)
    return answer


def addresses(job) -> list[str]:
    return [event.data["tensorboard"] for event in job.events if "tensorboard" in event.data]


def test_tensorboard_beside_a_job_shows_it_and_ends_with_it(start, gate, tmp_path):
    job = start(
        entrypoint="watched.py:fit",
        args={"gate": str(tmp_path / "gate")},
        strategy="multi_worker_mirrored",
        roles={"worker": 2},
        tensorboard={"port": 0},
    )
    job.wait_for("finished")  # worker 1, while the leader waits
    until(lambda: addresses(job))
    (address,) = addresses(job)
    weights = until(lambda: ask(address, "plugin/histograms/tags").get("train"))
    names = {name.split("/", 1)[1] if name.startswith("sequential") else name for name in weights}
    assert {"hidden/kernel/histogram", "norm/moving_mean/histogram"} <= names
    tag = next(name for name in weights if "moving_mean" in name)
    until(lambda: len(ask(address, "plugin/histograms/histograms", run="train", tag=tag)) == 2)  # one an epoch
    assert "epoch_loss" in ask(address, "plugin/scalars/tags")["train"]
    graphs = ask(address, "plugin/graphs/info")["train"]
    assert graphs["run_graph"]  # of operations
    assert graphs["tags"]["keras"]["conceptual_graph"]  # of layers
    table = subprocess.run(
        [sys.executable, "-m", "cluster", "top", "latest", "--storage", str(tmp_path / "runs")],
        env={**os.environ, "PYTHONPATH": str(JOBS.parents[2])},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    assert table[2] == "worker 1 finished, 1 running"
    assert table[5].split()[:3] == ["worker-0", "running", "8"]
    os.write(gate, b"go\n")
    job.join()
    with pytest.raises(OSError):  # noqa: PT011 - nobody listens there any more
        ask(address, "runs")


def test_remote_storage_has_what_the_leader_wrote(start, tmp_path, s3):
    result = start(entrypoint="watched.py:fit", args={"epochs": 1}, storage=s3).join()
    view = RunView(result.run_dir, tmp_path)
    view.refresh()
    assert [path.name.split(".")[2] for path in tmp_path.glob("train/*")] == ["tfevents"]


def test_a_job_that_waits_for_resources_is_seen_in_remote_storage(start, gate, tmp_path, s3):
    rare = {"worker": {"resources": {"rare": 1}}}
    holder = start(entrypoint="watched.py:fit", args={"epochs": 1, "gate": str(tmp_path / "gate")}, roles=rare)
    holder.wait_for("step")
    job = start(entrypoint="watched.py:fit", args={"epochs": 1}, roles=rare, storage=s3)
    job.wait_for("notice", lambda event: "waiting for resources" in event.data["text"])
    uri = find_run("latest", s3)  # it was copied before
    (told,) = until(lambda: read_run(uri).timeline.marks)
    assert "rare needed 1, available 0 of 1" in told.text
    run = read_run(uri)
    assert (run.status, run.live.phase) == ("running", "placing")
    assert job.kinds()[-1] == "notice"
    os.write(gate, b"go\n")
    holder.join()
    job.join()


@contextmanager
def debugger(run: str, folder: Path, task: str | None = None):
    """TensorBoard with TensorFlow over a run, once it has read its dumps."""
    view = RunView(run, folder, task)
    folder.mkdir()
    view.refresh()
    with Server(view, "localhost", 0, tensorflow=True) as server:
        address = server.address()
        until(lambda: number(address, "graph_execution/digests") + number(address, "execution/digests"))
        yield address


def number(address: str, what: str) -> int:
    answer = ask(address, f"plugin/debugger-v2/{what}", run=DUMPED)
    return int(answer["num_alerts" if what == "alerts" else "num_digests"])


def test_the_debugger_shows_the_dumps_of_each_task(start, tmp_path):
    job = start(
        entrypoint="watched.py:fit",
        args={"nan_at": 63},  # in the last batch: worker 1's share
        strategy="multi_worker_mirrored",
        roles={"worker": 2},
        debug={"mode": "FULL_HEALTH", "ops": "MatMul|IteratorGetNext"},
    )
    result = job.join()
    assert result.value == {"epochs": 2}
    assert RunView(result.run_dir, tmp_path / "board").dumped_tasks() == ["worker-0", "worker-1"]
    with debugger(result.run_dir, tmp_path / "one", "worker-1") as address:
        until(lambda: number(address, "alerts"))
        sources = ask(address, "plugin/debugger-v2/source_files/list", run=DUMPED)
        assert any(path.endswith("jobs/watched.py") for _, path in sources)
        trace = ask(address, "plugin/debugger-v2/graph_execution/digests", run=DUMPED, begin=0, end=1)
        assert trace["graph_execution_digests"][0]["op_type"] in ("MatMul", "IteratorGetNext")


@pytest.mark.parametrize("keras", ["2", "3"])
def test_dumps_of_a_task_that_failed_reach_remote_storage(start, tmp_path, s3, keras):
    job = start(entrypoint="watched.py:goes_wrong", debug=True, storage=s3, keras=keras)
    with pytest.raises(UserCodeError) as failed:
        job.join()
    with debugger(failed.value.run_dir, tmp_path / "board") as address:
        assert until(lambda: number(address, "alerts")) == 1
        (alert,) = ask(address, "plugin/debugger-v2/alerts", run=DUMPED, begin=0, end=1)["alerts"]
    assert (alert["op_type"], alert["num_nan"]) == ("Log", 1)
