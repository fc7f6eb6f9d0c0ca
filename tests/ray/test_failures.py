"""Jobs that break: user errors, killed processes of every role, lost supervisors; nothing is lost or left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cluster.errors import (
    EvaluatorError,
    HangError,
    PlacementError,
    PreflightError,
    StorageError,
    TaskLostError,
    UserCodeError,
)
from cluster.runs import read_run
from tests.ray.conftest import JOBS, alive, kill, task_processes, wait_until

pytestmark = pytest.mark.timeout(240)


def positions(result):
    return sorted(int(p.stem.split("-")[1]) for p in Path(result.run_dir, "checkpoints").glob("ckpt-*.json"))


def test_the_users_own_error_with_role_index_and_traceback_grouped(start):
    job = start(entrypoint="train.py:raises", strategy="custom", roles={"worker": 2}, failure={"max_restarts": 3})
    error = job.failure()
    assert isinstance(error, UserCodeError)
    assert "worker-0, worker-1 failed: ValueError: the moon is in the wrong phase" in str(error)
    assert 'raise ValueError("the moon is in the wrong phase")' in str(error)
    assert "cluster/task.py" not in str(error)  # the user's frames alone
    assert "restarting" not in job.kinds()
    folder = Path(error.run_dir)
    assert json.loads((folder / "result.json").read_text())["exit_code"] == 10
    for name in ("reason.txt", "job.yaml", "plan.json", "events.jsonl", "worker-0.log"):
        assert (folder / "failures" / "1" / name).is_file()
    assert "wrong phase" in (folder / "failures" / "1" / "worker-0.log").read_text()


def test_one_failing_task_ends_the_others_and_leaves_their_stacks(start):
    error = start(entrypoint="train.py:raises_on_worker_1", strategy="custom", roles={"worker": 2}).failure()
    assert "worker-1 failed: KeyError" in str(error)
    stacks = Path(error.run_dir, "failures", "1", "worker-0.stacks").read_text()
    assert "raises_on_worker_1" in stacks


def test_sys_exit_is_the_tasks_failure(start):
    error = start(entrypoint="train.py:exits").failure()
    assert isinstance(error, UserCodeError)
    assert "exited with 3" in str(error)


def test_user_errors_are_retried_only_when_asked(start):
    job = start(entrypoint="train.py:raises", failure={"max_restarts": 2, "retry_user_errors": True, "backoff": "10ms"})
    assert isinstance(job.failure(), UserCodeError)
    assert job.kinds().count("attempt_started") == 3


@pytest.mark.parametrize("backoff", ["10ms", 0])
def test_a_process_killed_by_a_signal_is_lost_and_the_job_starts_again(start, backoff):
    job = start(entrypoint="train.py:dies", failure={"max_restarts": 1, "backoff": backoff})
    result = job.join()
    assert (result.value, result.restarts) == ({"attempt": 2}, 1)
    assert job.kinds().count("restarting") == 1
    assert "SIGKILL" in job.wait_for("lost").data["reason"]


def test_no_restart_is_left(start):
    error = start(entrypoint="train.py:dies", failure={"max_restarts": 0}).failure()
    assert isinstance(error, TaskLostError)
    assert "SIGKILL" in str(error)


@pytest.mark.parametrize("index", [0, 1])
def test_a_killed_multi_worker_task_restarts_all_from_the_last_checkpoint(start, index):
    job = start(
        entrypoint="train.py:fit",
        args={"epochs": 0},
        strategy="multi_worker_mirrored",
        roles={"worker": 2},
        failure={"max_restarts": 2, "backoff": "10ms"},
    )
    saved = job.wait_for("checkpoint", lambda e: e.data["step"] >= 8).data
    kill(job.pid(f"worker-{index}"))
    result = job.join()
    assert result.attempts == 2
    first_addresses, second = [e.data for e in job.events if e.kind == "placed"]
    assert first_addresses["nodes"] == second["nodes"]
    last = max(e.data["step"] for e in job.events if e.kind == "checkpoint" and e.attempt == 1)
    assert last >= saved["step"]
    epochs = result.value["epochs"]
    assert epochs == list(range(last // 4, 5)) or last // 4 >= 5  # it went on where the checkpoint stands
    assert result.value["iterations"] == max(20, last)  # no step lost, none twice
    assert any("restored checkpoint" in str(e.data.get("text")) for e in job.events if e.kind == "notice")


def test_a_killed_supervisor_takes_its_task_with_it_and_the_job_goes_on(start):
    job = start(
        entrypoint="train.py:fit",
        args={"epochs": 0},
        strategy="multi_worker_mirrored",
        roles={"worker": 2},
        failure={"max_restarts": 1, "backoff": "10ms"},
    )
    job.wait_for("checkpoint")
    task = job.pid("worker-1")
    kill(job.wait_for_supervisor("worker-1"))
    assert job.join().attempts == 2
    assert not alive(task)


def test_a_killed_parameter_server_worker_comes_back_in_place(start):
    job = start(
        entrypoint="train.py:coordinate",
        args={"steps": 3000},
        strategy="parameter_server",
        roles={"worker": 2, "ps": 1},
        keras="3",
        failure={"max_restarts": 1},
    )
    job.wait_for("checkpoint")
    before = job.pid("worker-0")
    kill(before)
    restarted = job.wait_for("task_started", lambda e: str(e.task) == "worker-0")
    assert restarted.data["pid"] != before
    result = job.join()
    assert result.attempts == 1
    assert result.value["done"] >= 3000  # a closure in flight may run twice


def test_a_killed_supervisor_of_a_parameter_server_worker_comes_back_on_its_address(start):
    job = start(
        entrypoint="train.py:coordinate",
        args={"steps": 3000},
        strategy="parameter_server",
        roles={"worker": 2, "ps": 1},
        keras="3",
        failure={"max_restarts": 1},
    )
    job.wait_for("checkpoint")
    kill(job.wait_for_supervisor("worker-1"))
    job.wait_for("task_started", lambda e: str(e.task) == "worker-1")
    assert job.join().attempts == 1


@pytest.mark.parametrize("victim", ["ps-0", "chief-0"])
def test_a_lost_ps_or_coordinator_restarts_all_from_the_last_checkpoint(start, victim):
    job = start(
        entrypoint="train.py:coordinate",
        args={"steps": 0},
        strategy="parameter_server",
        roles={"worker": 1, "ps": 1},
        keras="3",
        failure={"max_restarts": 1, "backoff": "10ms"},
    )
    job.wait_for("checkpoint")
    kill(job.pid(victim))
    result = job.join()
    last = max(e.data["step"] for e in job.events if e.kind == "checkpoint" and e.attempt == 1)
    assert result.attempts == 2
    assert result.value == {"start": last, "done": last + 20}
    assert read_run(result.run_dir).live.total == last + 20  # of the attempt that came through


def test_a_killed_evaluator_comes_back(start):
    job = start(
        entrypoint="train.py:evaluated",
        args={"epochs": 40},
        strategy="multi_worker_mirrored",
        roles={"worker": 1, "evaluator": 1},
        failure={"max_restarts": 1},
    )
    job.wait_for("evaluated")
    kill(job.pid("evaluator-0"))
    result = job.join()
    assert result.attempts == 1
    assert [e.data["step"] for e in job.events if e.kind == "evaluated"][-1] == result.checkpoint


def test_what_is_evaluated_stays_while_training_prunes_it(start):
    job = start(entrypoint="train.py:pruned", roles={"worker": 1, "evaluator": 1}, checkpoint={"keep": 1})
    job.join()
    seen = [(e.data["step"], e.data["metrics"]["read"]) for e in job.events if e.kind == "evaluated"]
    assert seen == [(1, 1), (2, 2)]


def test_an_evaluator_that_never_sees_the_last_checkpoint(start):
    job = start(
        entrypoint="train.py:late_evaluator",
        roles={"worker": 1, "evaluator": 1},
        timeouts={"evaluator": "500ms", "stop": "1s"},
    )
    assert isinstance(job.failure(), EvaluatorError)


def test_a_killed_warm_process_is_a_loss_and_the_next_attempt_starts_another(start):
    job = start(
        entrypoint="train.py:fit",
        args={"epochs": 0},
        failure={"max_restarts": 1, "backoff": "10ms"},
    )
    job.wait_for("checkpoint")
    parent = int(Path(f"/proc/{job.pid('worker-0')}/stat").read_text().rsplit(")", 1)[1].split()[1])
    kill(parent)
    assert job.join().attempts == 2


def test_a_hang_is_told_with_the_stacks(start):
    error = start(
        entrypoint="train.py:waits", timeouts={"hang": "1s", "stop": "1s"}, failure={"max_restarts": 0}
    ).failure()
    assert isinstance(error, HangError)
    assert "worker-0" in str(error)
    assert "in waits" in Path(error.run_dir, "failures", "1", "worker-0.stacks").read_text()


def test_what_a_task_started_ends_with_it(start):
    result = start(entrypoint="train.py:leaves_children").join()
    wait_until(lambda: not alive(result.value["pid"]), "a process that the task had started is left")


def test_a_bundle_that_can_never_be_placed_is_refused_before_anything_starts(start):
    job = start(entrypoint="train.py:report", roles={"worker": {"gpus": 64}})
    error = job.failure()
    assert isinstance(error, PreflightError)
    assert "64" in str(error)
    assert job.events == []


def test_a_bundle_that_is_taken_ends_in_the_placement_timeout_with_numbers(start):
    holder = start(
        entrypoint="train.py:waits",
        roles={"worker": {"resources": {"rare": 1}}},
        timeouts={"hang": "8s"},
        failure={"max_restarts": 0},
    )
    holder.wait_for("step")
    second = start(
        entrypoint="train.py:report", roles={"worker": {"resources": {"rare": 1}}}, timeouts={"placement": "2s"}
    )
    error = second.failure()
    assert isinstance(error, PlacementError)
    assert "rare needed 1, available 0 of 1" in str(error)
    assert isinstance(holder.failure(), HangError)


def test_a_full_storage_ends_the_run_with_its_own_error_and_what_can_be_said_is_said(start, small_disk):
    job = start(entrypoint="train.py:writes", args={"lines": 200_000}, storage=str(small_disk))
    error = job.failure()
    assert isinstance(error, StorageError)
    assert "No space left on device" in str(error)
    assert Path(error.run_dir).parent == small_disk
    assert job.kinds()[-1] == "run_ended"


def test_half_a_gang_is_torn_down(start, monkeypatch):
    """The second supervisor cannot be made: the first, and the placement group, go."""
    from cluster import workers

    made: list[object] = []
    original = workers._supervisor

    def second_fails(gang, plan, task):
        if made:
            raise RuntimeError("no second supervisor")
        made.append(original(gang, plan, task))
        return made[0]

    monkeypatch.setattr(workers, "_supervisor", second_fails)
    job = start(entrypoint="train.py:report", strategy="custom", roles={"worker": 2})
    with pytest.raises(RuntimeError, match="no second"):
        job.join()


@pytest.fixture
def cli(ray_address):
    """Start `tfcluster` in a process of its own, which is killed at the end whatever the test saw."""
    processes: list[subprocess.Popen[str]] = []

    def begin(*words: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "cluster", *words],
            env={**os.environ, "RAY_ADDRESS": ray_address, "PYTHONPATH": str(JOBS.parents[2])},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        processes.append(process)
        return process

    yield begin
    for process in processes:
        process.kill()
        process.wait(30)
        if process.stdout is not None:
            process.stdout.close()


@pytest.fixture
def waiting_job(tmp_path):
    path = tmp_path / "job.json"
    document = {
        "entrypoint": f"{JOBS}/train.py:waits",
        "storage": str(tmp_path / "runs"),
        "roles": {"worker": 2},
        "strategy": "custom",
    }
    path.write_text(json.dumps(document))
    return path


def until_line(process, text):
    seen = []
    for line in process.stdout:
        seen.append(line)
        if text in line:
            return seen
    raise AssertionError("".join(seen))


def test_a_killed_driver_leaves_nothing(cli, waiting_job):
    process = cli("run", str(waiting_job))
    until_line(process, "step 1")
    wait_until(lambda: len(task_processes()) == 2, "two tasks do not run", 60)
    process.kill()
    process.wait(30)
    wait_until(lambda: not task_processes(), "tasks outlived their driver", 30)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_and_sigterm_end_a_run_in_order(cli, waiting_job, number):
    process = cli("run", str(waiting_job))
    until_line(process, "step 1")
    process.send_signal(number)
    rest = process.stdout.read()
    assert process.wait(60) == 130, rest
    runs = list((waiting_job.parent / "runs").iterdir())
    assert json.loads((runs[0] / "result.json").read_text())["status"] == "interrupted"
    assert task_processes() == []
