"""How a run is doing, in words; and `tfcluster status` as a person types it."""

from __future__ import annotations

import json
import sys
import tracemalloc
from pathlib import Path

import pytest

from cluster.cli import main
from cluster.events import Event
from cluster.run_text import ago, aligned, capture_text, count, last_captures, run_document, run_rows, task_lines
from cluster.runs import Run, read_run, summarise
from cluster.tasks import Task
from tests.made_runs import BEGAN, Made, failed, lost, own_loop, running, succeeded, thousand


def rows_of(run: Run, now: float = BEGAN + 300) -> dict[str, str]:
    return dict(run_rows(run, now))


def test_a_run_that_went_well(tmp_path: Path) -> None:
    rows = rows_of(read_run(succeeded(tmp_path).uri))
    assert rows["status"] == "succeeded in 3m36s, 1m24s ago"
    assert rows["step"] == "4000 of 4000"
    assert rows["speed"] == "20 steps/s · 20.5k examples/s · reading 40% of the time"
    assert rows["checkpoint"].startswith("step 4000, ")
    assert rows["traces"].startswith("done (2 tasks, tensorboard/plugins/profile/2026_09_21_14_01_40): worker-1 holds")
    assert "restarts" not in rows
    assert "last failure" not in rows


def test_a_run_that_goes_on(tmp_path: Path) -> None:
    made = running(tmp_path)
    run = read_run(made.uri)
    rows = rows_of(run, made.began + 42.0)
    assert rows["status"].startswith("running for 4")
    assert rows["step"].startswith("600 of 4000 · epoch 1/5 · ")
    assert rows["step"].endswith(" left")
    assert rows["checkpoint"] == "none"
    assert rows["restarts"] == "1 of a task in its place"
    assert rows["last failure"] == "worker-0 lost: its process was ended by SIGKILL, 12.0s ago"
    table = task_lines(run)
    assert table[0].split() == ["task", "state", "node", "step", "restarts"]
    assert table[1].split() == ["chief-0", "running", "10.0.0.1", "600"]
    assert table[2].split() == ["worker-0", "running", "10.0.0.2", "1"]


def test_a_run_that_failed_and_one_that_nobody_ended(tmp_path: Path) -> None:
    rows = rows_of(read_run(failed(tmp_path).uri))
    assert rows["status"].startswith("failed in 2m02s")
    assert rows["restarts"] == "1 of the whole job"
    rows = rows_of(read_run(lost(tmp_path).uri))
    assert rows["status"].startswith("lost: its launcher is gone without a result; its last word came 4m0")


def test_a_loop_of_ones_own_has_a_total_and_time_left(tmp_path: Path) -> None:
    made = own_loop(tmp_path, alive=True)
    for every_step in (True, False):
        run = read_run(made.uri, every_step=every_step)
        now = run.live.at
        assert rows_of(run, now)["step"] == "480 of 720 · 1m20s left"
        document = run_document(run, now)
        assert (document["step"], document["total"], document["left"]) == (480, 720, 80.0)


def test_a_run_that_is_over_has_a_total_but_no_time_left(tmp_path: Path) -> None:
    made = own_loop(tmp_path, alive=False)
    made.end(300.0, "interrupted", steps=480)
    run = read_run(made.uri)
    assert rows_of(run)["step"] == "480 of 720"
    document = run_document(run, BEGAN + 300)
    assert (document["total"], document["left"]) == (720, None)


def test_a_run_that_has_hardly_begun(tmp_path: Path) -> None:
    run = read_run(Made(tmp_path, "job-1", alive=True).uri)
    assert "step" not in rows_of(run)
    assert task_lines(run) == ["no task has been placed yet"]


def test_of_a_script_whose_steps_nobody_knows_none_are_told(tmp_path: Path) -> None:
    made = Made(tmp_path, "job-1")
    made.start(1.0, [Task("worker", 0)])
    made.end(30.0, "succeeded", steps=0)
    run = read_run(made.uri)
    assert "step" not in rows_of(run)
    assert run_document(run, BEGAN + 300)["step"] == 0


def test_a_run_that_has_told_nothing(tmp_path: Path) -> None:
    (tmp_path / "events.jsonl").touch()
    run = read_run(str(tmp_path))
    assert rows_of(run)["status"] == "nothing is known yet: it has told nothing"
    document = run_document(run, BEGAN)
    assert (document["status"], document["seconds"], document["last_word"]) == ("unknown", 0.0, None)


def test_a_damaged_result_is_told_of(tmp_path: Path) -> None:
    made = succeeded(tmp_path)
    assert "trouble" not in rows_of(read_run(made.uri))
    made.directory.write("result.json", '{"status": "succ')
    rows = rows_of(read_run(made.uri))
    assert rows["trouble"] == "result.json is damaged, and is passed over"
    assert rows["status"].startswith("succeeded in 3m3")  # as its last event tells


def test_of_many_tasks_those_that_are_alike_share_a_line(tmp_path: Path) -> None:
    table = task_lines(read_run(thousand(tmp_path).uri))
    assert len(table) == 4
    assert table[1].startswith("worker-7,10,13,16,19,22,… ×131  failed")
    assert table[2].startswith("worker-500 ")
    assert "lost" in table[2]
    assert "×868" in table[3]
    assert "stopped" in table[3]
    assert "4 nodes" in table[3]


def test_all_of_it_for_a_program(tmp_path: Path) -> None:
    document = run_document(read_run(failed(tmp_path).uri), BEGAN + 300)
    assert document["status"] == "failed"
    assert document["restarts"] == 1
    assert (document["last_word"], document["silent_for"]) == (BEGAN + 124.2, None)
    assert document["tasks"] == {"worker-0": "failed", "worker-1": "failed", "worker-2": "stopped"}
    assert document["places"]["worker-2"]["state"] == "stopped"
    assert document["places"]["worker-0"]["node"] == "10.0.0.1"
    assert document["rates"]["steps_per_second"] == 20.0
    assert [failure["kind"] for failure in document["failures"]] == ["lost", "failed", "failed"]
    assert document["failures"][0]["task"] == "worker-1"
    json.dumps(document)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.0, "0ms ago"), (42.0, "42.0s ago"), (3700.0, "1h01m ago"), (86400 * 5, "5 days ago")]
)
def test_how_long_ago(seconds: float, text: str) -> None:
    assert ago(1000.0, 1000.0 + seconds) == text


@pytest.mark.parametrize(("value", "text"), [(0.5, "0.5"), (950, "950"), (35_800, "35.8k"), (1_200_000, "1.2M")])
def test_large_numbers(value: float, text: str) -> None:
    assert count(value) == text


def test_refusals_hide_no_capture() -> None:
    states = ["done", "refused", "failed", "refused", "refused"]
    captures = [{"id": str(number), "status": status, "tasks": {}} for number, status in enumerate(states)]
    run = summarise("flights-1", [Event("profile", 1, data=data) for data in captures], {})
    assert [capture["id"] for capture in last_captures(run)] == ["0", "2", "4"]
    more = [*captures, {"id": "5", "status": "done", "tasks": {}}]
    run = summarise("flights-1", [Event("profile", 1, data=data) for data in more], {})
    assert [capture["id"] for capture in last_captures(run)] == ["0", "2", "5"]


def test_tasks_of_a_capture_are_counted() -> None:
    done = {"status": "done", "folder": "f", "tasks": {"worker-0": 9, "worker-1": 0}, "verdict": "v"}
    assert capture_text(done) == "done (1 task, f): v"
    assert capture_text(done | {"tasks": {"worker-0": 9, "worker-1": 9}}) == "done (2 tasks, f): v"


def test_a_capture_that_goes_on_and_one_that_was_refused() -> None:
    assert capture_text({"status": "tracing"}) == "tracing"
    assert capture_text({"status": "refused", "reason": "another one goes on"}) == "refused: another one goes on"


def test_columns_stand_below_each_other() -> None:
    assert aligned([["a", "bb"], ["ccc", "d"]]) == ["a    bb", "ccc  d"]


@pytest.mark.parametrize("as_json", [False, True])
def test_the_command(as_json: bool, tmp_path: Path, monkeypatch, capsys):
    made = failed(tmp_path)
    monkeypatch.setattr(sys, "argv", ["tfcluster", "status", made.uri, *(["--json"] if as_json else [])])
    with pytest.raises(SystemExit):
        main()
    out = capsys.readouterr().out
    if as_json:
        assert json.loads(out)["status"] == "failed"
        return
    assert "\nstatus" in out
    assert "\nworker-1  failed   10.0.0.2  2000\n" in out
    assert "error: worker-0, worker-1 failed: ValueError: bad phase" in out
    assert out.endswith(f"next: tfcluster report {made.uri}\n")


def test_a_list_goes_on_past_a_damaged_result_and_tells_no_steps_of_a_script(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    succeeded(tmp_path).directory.write("result.json", "{")
    Made(tmp_path, "script", alive=True).start(1.0, [Task("worker", 0)])
    monkeypatch.setattr(sys, "argv", ["tfcluster", "list", "--storage", str(tmp_path)])
    with pytest.raises(SystemExit):
        main()
    said = [line.partition("  ")[2].strip() for line in capsys.readouterr().out.splitlines()]
    assert sorted(said) == ["running", "succeeded · step 4000"]


def test_a_long_stream_of_events_is_read_line_by_line(tmp_path: Path) -> None:
    """A thousand tasks write gigabytes of them."""
    made = lost(tmp_path)
    line = made.directory.local.joinpath("events.jsonl").read_text().splitlines()[-2]
    with open(made.directory.local / "events.jsonl", "a") as file:
        file.write((line + "\n") * 20_000)
    size = made.directory.size("events.jsonl")
    read_run(lost(tmp_path / "before").uri)  # what is imported for it is not of the events
    tracemalloc.start()
    run = read_run(made.uri)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert run.status == "lost"
    assert size > 2_500_000
    assert peak < 0.75 * size  # all of it, as text and as events, would be some times that
