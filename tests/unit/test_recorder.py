"""What a run directory holds while a run goes on, after its end, and after a failure."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path

import pytest
import yaml

from cluster.errors import StorageError
from cluster.events import Event
from cluster.locations import join
from cluster.log_times import LogTimes
from cluster.plan import Facts, Plan, make_plan
from cluster.recorder import LAST_EVENTS, LAST_LINES, Recorder
from cluster.spec import JobSpec, parse
from cluster.spec_parts import RoleSpec
from cluster.storage import FOLDERS, RunDirectory, read_text
from cluster.tasks import Task

FIRST, SECOND = Task("worker", 0), Task("worker", 1)


def plan() -> Plan:
    spec = parse(
        {
            "name": "flights",
            "entrypoint": "train.py:train",
            "strategy": "multi_worker_mirrored",
            "roles": {"worker": 2},
            "timeouts": {"hang": "10m"},
        }
    )
    return make_plan(spec, [], Facts())


@pytest.fixture
def recorder(tmp_path: Path) -> Recorder:
    made = Recorder(RunDirectory(f"{tmp_path}/runs/flights-1"), plan())
    made.begin()
    return made


def text(recorder: Recorder, name: str) -> str:
    found = read_text(recorder.directory.uri, name)
    assert found is not None, name
    return found


def test_a_run_begins_with_its_folders_and_its_spec(recorder: Recorder) -> None:
    assert {path.name for path in recorder.directory.local.iterdir()} == {*FOLDERS, "job.yaml"}
    assert parse(yaml.safe_load(text(recorder, "job.yaml"))) == recorder.plan.spec


def test_events_and_logs_are_there_at_once(recorder: Recorder) -> None:
    events = [Event("placed", 1, data={"nodes": {}}), Event("task_ready", 1, FIRST)]
    for event in events:
        recorder.event(event)
        assert text(recorder, "events.jsonl").endswith(event.to_line())
    recorder.log(FIRST, "one\ntwo")
    recorder.log(SECOND, "other")
    recorder.log(FIRST, "three")
    assert text(recorder, "logs/worker-0.log") == "one\ntwo\nthree\n"
    assert text(recorder, "logs/worker-1.log") == "other\n"


def test_a_post_mortem_has_all_that_explains_a_failure(recorder: Recorder) -> None:
    for number in range(LAST_EVENTS + 50):
        recorder.event(Event("step", 1, FIRST, {"step": number}))
    for number in range(LAST_LINES + 50):
        recorder.log(FIRST, f"line {number}\nand more")
    recorder.log(SECOND, "goodbye")
    recorder.post_mortem(1, "worker-1 lost", {FIRST: "File train.py, line 3 in wait", SECOND: ""})
    folder = recorder.directory.local / "failures" / "1"
    names = ["events.jsonl", "job.yaml", "plan.json", "reason.txt", "worker-0.log", "worker-0.stacks", "worker-1.log"]
    assert sorted(path.name for path in folder.iterdir()) == names
    assert text(recorder, "failures/1/reason.txt") == "worker-1 lost\n"
    steps = [json.loads(line)["step"] for line in text(recorder, "failures/1/events.jsonl").splitlines()]
    assert steps == list(range(50, LAST_EVENTS + 50))
    tail = text(recorder, "failures/1/worker-0.log").splitlines()
    assert len(tail) == LAST_LINES
    assert tail[-2:] == [f"line {LAST_LINES + 49}", "and more"]
    assert text(recorder, "failures/1/worker-1.log") == "goodbye\n"
    assert "in wait" in text(recorder, "failures/1/worker-0.stacks")
    assert json.loads(text(recorder, "failures/1/plan.json"))["spec"]["name"] == "flights"


def test_each_attempt_has_a_post_mortem_of_its_own(recorder: Recorder) -> None:
    recorder.post_mortem(1, "first", {})
    recorder.post_mortem(2, "second", {})
    assert text(recorder, "failures/1/reason.txt") == "first\n"
    assert text(recorder, "failures/2/reason.txt") == "second\n"


def test_a_result_is_json_whatever_the_loss_became(recorder: Recorder) -> None:
    recorder.result({"status": "succeeded", "metrics": {"loss": math.nan, "accuracy": 0.5}, "value": Path("/x")})
    written = json.loads(text(recorder, "result.json"), parse_constant=lambda constant: pytest.fail(constant))
    assert written == {"status": "succeeded", "metrics": {"loss": "NaN", "accuracy": 0.5}, "value": "/x"}


def test_no_file_of_a_run_holds_a_secret(tmp_path: Path) -> None:
    storage = "s3://key:hush@bucket/runs"
    spec = JobSpec(
        entrypoint="train.py:train",
        args={"source": "https://ada:hush@example.org/rows"},
        storage=storage,
        roles={"worker": RoleSpec(env={"AWS_SECRET_ACCESS_KEY": "hush", "COLOUR": "blue"})},
        runtime_env={"env_vars": {"HF_TOKEN": "hush"}, "pip": ["x"]},
    )
    recorder = Recorder(RunDirectory(str(tmp_path)), make_plan(spec, [], Facts()))
    recorder.begin()
    recorder.event(Event("run_started", data={"run_dir": f"{storage}/job-1"}))
    recorder.post_mortem(1, "worker-0 lost", {})
    recorder.result({"status": "failed", "run_dir": f"{storage}/job-1", "value": [f"{storage}/job-1/export"]})
    written = {path.relative_to(tmp_path): path.read_text() for path in tmp_path.rglob("*") if path.is_file()}
    assert len(written) == 7
    assert [str(path) for path, content in written.items() if "hush" in content] == []
    document = yaml.safe_load(text(recorder, "job.yaml"))
    assert document["roles"]["worker"]["env"] == {"AWS_SECRET_ACCESS_KEY": "***", "COLOUR": "blue"}
    assert document["storage"] == "s3://key:***@bucket/runs"
    assert spec.roles["worker"].env["AWS_SECRET_ACCESS_KEY"] == "hush"


def test_a_secret_is_masked_also_where_another_variable_repeats_it(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("LAUNCHERS_TOKEN", "of-the-launcher")
    env = {"API_TOKEN": "hush-hush", "SAME": "hush-hush", "PART": "user:hush-hush", "OTHER": "of-the-launcher"}
    spec = JobSpec(entrypoint="train.py:train", roles={"worker": RoleSpec(env=env)})
    recorder = Recorder(RunDirectory(str(tmp_path)), make_plan(spec, [], Facts()))
    recorder.begin()
    recorder.post_mortem(1, "worker-0 lost", {FIRST: "in login('hush-hush')"})
    document = yaml.safe_load(text(recorder, "job.yaml"))
    assert document["roles"]["worker"]["env"] == {
        "API_TOKEN": "***",
        "SAME": "***",
        "PART": "user:***",
        "OTHER": "***",
    }
    written = [path.read_text() for path in tmp_path.rglob("*") if path.is_file()]
    assert [content for content in written if "hush-hush" in content or "of-the-launcher" in content] == []
    event = recorder.masked(Event("notice", data={"text": ["logged in with hush-hush"]}))
    assert event.data == {"text": ["logged in with ***"]}


def test_a_log_has_the_times_at_which_its_lines_arrived(recorder: Recorder) -> None:
    recorder.log(FIRST, "one\ntwo")
    recorder.log(FIRST, "three")  # within the same second
    recorder.marked[FIRST] -= 2.0
    recorder.log(FIRST, "four")
    times = LogTimes()
    times.add(text(recorder, "logs/worker-0.times"))
    assert times.offsets == [0, len("one\ntwo\nthree\n")]
    assert times.seconds == pytest.approx([time.time()] * 2, abs=20)


def test_a_full_disk_leaves_no_half_result(small_disk: Path) -> None:
    recorder = Recorder(RunDirectory(f"{small_disk}/flights-1"), plan())
    recorder.begin()
    (small_disk / "ballast").write_bytes(bytes(900_000))
    with pytest.raises(StorageError, match=r"worker-0\.log: No space left on device"):
        recorder.log(FIRST, "x" * 1_000_000)
    with pytest.raises(StorageError, match=r"result\.json: No space left on device"):
        recorder.result({"status": "failed", "error": "y" * 100_000})
    folder = recorder.directory.local
    assert sorted(path.name for path in folder.iterdir() if path.is_file()) == ["job.yaml"]


def test_a_remote_run_is_complete_there_when_its_result_is_written(s3: str, tmp_path: Path) -> None:
    recorder = Recorder(RunDirectory(join(s3, "flights-1"), tmp_path / "spool"), plan())
    recorder.begin()
    recorder.event(Event("placed", 1, data={"nodes": {}}))
    recorder.log(FIRST, "hello")
    recorder.result({"status": "succeeded"})
    assert json.loads(text(recorder, "result.json")) == {"status": "succeeded"}
    assert text(recorder, "logs/worker-0.log") == "hello\n"
    assert "placed" in text(recorder, "events.jsonl")
    assert "flights" in text(recorder, "job.yaml")
    assert not (tmp_path / "spool").exists()
