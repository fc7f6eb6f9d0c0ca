"""Runs found again by their directories: which one, how it is doing, whether its launcher lives, how it is stopped."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cluster.errors import RunNotFoundError, StorageError, TfClusterError
from cluster.event_lines import newest_steps
from cluster.events import Event
from cluster.locations import join
from cluster.runs import (
    Run,
    find_run,
    glance,
    is_run,
    launcher_alive,
    nearest,
    newest_running,
    read_run,
    run_names,
    started_at,
    stop,
    summarise,
)
from cluster.silence import silent_for
from cluster.storage import RunDirectory, upload_folder
from cluster.tasks import Task
from tests.made_runs import ALL, BEGAN, Made

HERE = os.uname().nodename
FIRST, SECOND, EVALUATOR = Task("worker", 0), Task("worker", 1), Task("evaluator", 0)


def make_run(folder: Path, name: str, began: float, *events: Event, result: Mapping[str, Any] | None = None) -> Path:
    directory = RunDirectory(str(folder / name))
    directory.create()
    directory.write("job.yaml", f"name: {name}\n")
    os.utime(folder / name / "job.yaml", (began, began))
    for event in events or (Event("run_started", data={"pid": 1, "hostname": "elsewhere"}),):
        directory.append("events.jsonl", event.to_line())
    if result is not None:
        directory.write("result.json", json.dumps(result))
    return folder / name


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Three runs; the one begun first changed last."""
    folder = tmp_path / "runs"
    make_run(folder, "flights-20260101-a", 1000.0)
    make_run(folder, "flights-20260102-b", 3000.0)
    make_run(folder, "digits-20260101-c", 2000.0)
    (folder / "notes").mkdir()
    (folder / "README").write_text("not a run")
    RunDirectory(str(folder / "flights-20260101-a")).append("events.jsonl", Event("notice").to_line())
    return folder


# Which run


def test_runs_are_known_in_the_order_in_which_they_began(runs: Path) -> None:
    assert run_names(str(runs)) == ["flights-20260101-a", "digits-20260101-c", "flights-20260102-b"]
    assert run_names(str(runs / "nothing")) == []


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("latest", "flights-20260102-b"),
        ("flights-20260101-a", "flights-20260101-a"),
        ("flights-20260102", "flights-20260102-b"),
        ("d", "digits-20260101-c"),
    ],
)
def test_a_name_below_the_storage(runs: Path, name: str, found: str) -> None:
    assert find_run(name, str(runs)) == str(runs / found)


def test_a_path_is_a_run_wherever_it_is(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_run(str(runs / "digits-20260101-c"), "/nowhere") == str(runs / "digits-20260101-c")
    monkeypatch.chdir(runs)
    assert find_run("digits-20260101-c", "/nowhere") == "digits-20260101-c"


def test_the_default_storage_is_the_specs(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(runs.parent)
    assert Path(find_run("latest")).resolve() == runs / "flights-20260102-b"


def test_a_whole_name_is_not_ambiguous(runs: Path) -> None:
    make_run(runs, "flights-20260101-ab", 4000.0)
    assert find_run("flights-20260101-a", str(runs)) == str(runs / "flights-20260101-a")


@pytest.mark.parametrize(
    ("name", "seen"),
    [
        ("flights", "2 runs begin with 'flights'"),
        ("trains", "'trains' in "),
        ("notes", "'notes' in "),
        ("README", "'README' in "),
    ],
)
def test_no_such_run(runs: Path, name: str, seen: str) -> None:
    with pytest.raises(RunNotFoundError, match=seen) as caught:
        find_run(name, str(runs))
    assert "flights-20260102-b" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("latst", "latest"),
        ("flight-2026", "flights-20260102-b"),  # the newest of those that are as near
        ("digts", "digits-20260101-c"),
        ("digits-20260101-d", "digits-20260101-c"),
    ],
)
def test_a_misspelt_name_is_answered_with_the_nearest(runs: Path, name: str, meant: str) -> None:
    with pytest.raises(RunNotFoundError, match=rf"no such run · .* · did you mean {meant}\? give its directory"):
        find_run(name, str(runs))


def test_a_name_that_is_like_none_is_answered_without_a_guess(runs: Path) -> None:
    assert nearest("quux", run_names(str(runs))) == ""
    assert nearest("latst", []) == ""


def test_a_path_that_is_no_run_is_not_looked_for_in_the_storage(runs: Path) -> None:
    with pytest.raises(RunNotFoundError, match=r"no such run · /nonexist · there is no such folder"):
        find_run("/nonexist", str(runs))
    with pytest.raises(RunNotFoundError, match=r"no such run · .*/notes · it has no events.jsonl"):
        find_run(str(runs / "notes"), str(runs))


def test_a_uri_without_a_bucket_is_no_run(runs: Path) -> None:
    with pytest.raises(StorageError, match="it names no bucket"):
        find_run("s3://", str(runs))


def test_a_file_of_a_run_names_its_folder(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = runs / "digits-20260101-c"
    for name, meant in ((f"{folder}/events.jsonl", folder), ("s3://b/x/events.jsonl", "s3://b/x")):
        with pytest.raises(RunNotFoundError, match=f"a file of a run instead of its directory · .* · give {meant}$"):
            find_run(name, str(runs))
    monkeypatch.chdir(folder)
    with pytest.raises(RunNotFoundError, match=r"give \.$"):
        find_run("events.jsonl", str(runs))


def test_no_runs_at_all(tmp_path: Path) -> None:
    with pytest.raises(RunNotFoundError, match=r"'latest' in .*here: none"):
        find_run("latest", str(tmp_path / "runs"))


def test_an_ambiguous_name_is_answered_with_the_runs_that_it_may_mean(runs: Path) -> None:
    with pytest.raises(RunNotFoundError) as caught:
        find_run("flights", str(runs))
    assert "digits" not in str(caught.value)


def test_runs_on_a_remote_storage(runs: Path, s3: str) -> None:
    for name in ("flights-20260101-a", "digits-20260101-c"):  # in this order
        upload_folder(runs / name, join(s3, name))
    assert set(run_names(s3)) == {"flights-20260101-a", "digits-20260101-c"}
    found = find_run("digits", s3)
    assert found == join(s3, "digits-20260101-c")
    assert find_run(found) == found
    assert is_run(found)
    assert not is_run(s3)
    assert read_run(found).about["hostname"] == "elsewhere"
    with pytest.raises(RunNotFoundError) as caught:
        find_run("trains", s3)
    assert "hush" not in str(caught.value)


def test_a_storage_that_cannot_be_listed(runs: Path) -> None:
    with pytest.raises(StorageError, match="the storage cannot be listed"):
        run_names(str(runs / "README"))


# How it is doing


def about(**more: Any) -> Event:
    return Event("run_started", data={"pid": os.getpid(), "hostname": HERE, "job_id": "", **more})


def test_a_run_as_its_directory_tells_it(tmp_path: Path) -> None:
    events = [
        about(),
        Event("attempt_started", 1),
        Event("placed", 1, data={"nodes": {}}),
        Event("task_started", 1, FIRST, {"pid": 1}),
        Event("task_started", 1, SECOND, {"pid": 2}),
        Event("task_ready", 1, FIRST),
        Event("step", 1, FIRST, {"step": 120, "metrics": {"loss": 0.5, "accuracy": 0.9}}),
        Event("step", 1, SECOND, {"step": 121, "metrics": {}}),
        Event("step", 1, FIRST, {"step": 130, "metrics": {"loss": 0.25}}),
    ]
    run = read_run(str(make_run(tmp_path, "job-1", 0.0, *events)))
    assert run.status == "running"
    assert run.attempt == 1
    assert run.step == 130
    assert run.metrics == {"loss": 0.25, "accuracy": 0.9}
    assert run.tasks == {"worker-0": "running", "worker-1": "starting"}
    assert run.last is not None
    assert run.last.data["step"] == 130
    assert run.result == {}


def test_a_new_attempt_has_new_tasks() -> None:
    events = [
        Event("attempt_started", 1),
        Event("task_ready", 1, FIRST),
        Event("lost", 1, SECOND, {"reason": "SIGKILL"}),
        Event("attempt_started", 2),
        Event("task_started", 2, FIRST),
    ]
    assert summarise("job-1", events[:3], {}).tasks == {"worker-0": "running", "worker-1": "lost"}
    run = summarise("job-1", events, {})
    assert run.attempt == 2
    assert run.tasks == {"worker-0": "starting", "worker-1": "waiting"}


@pytest.mark.parametrize("status", ["succeeded", "failed", "interrupted"])
def test_a_run_that_has_ended(tmp_path: Path, status: str) -> None:
    events = [
        about(),
        Event("finished", 1, FIRST),
        Event("evaluated", 1, EVALUATOR, {"step": 8, "metrics": {"mae": 3}}),
    ]
    run = read_run(str(make_run(tmp_path, "job-1", 0.0, *events, result={"status": status, "exit_code": 0})))
    assert run.status == status
    assert run.result["exit_code"] == 0
    assert run.metrics == {"mae": 3.0}
    assert run.step == 8
    assert run.tasks == {"worker-0": "finished", "evaluator-0": "stopped"}


def test_a_step_without_metrics_counts() -> None:
    assert summarise("job-1", [Event("step", 1, FIRST, {"step": 5, "metrics": {}})], {}).step == 5


def test_a_run_whose_result_found_no_room_has_ended(tmp_path: Path) -> None:
    """A full disk takes the few bytes of the last event, and not the result."""
    ended = Event("run_ended", 1, data={"status": "failed", "exit_code": 5})
    run = read_run(str(make_run(tmp_path, "job-1", 0.0, about(), Event("task_ready", 1, FIRST), ended)))
    assert run.status == "failed"
    assert run.result == {}


def test_a_metric_that_became_nan_is_a_number_again(tmp_path: Path) -> None:
    step = Event("step", 1, FIRST, {"step": 5, "metrics": {"loss": math.nan, "norm": math.inf}})
    run = read_run(str(make_run(tmp_path, "job-1", 0.0, about(), step)))
    assert math.isnan(run.metrics["loss"])
    assert run.metrics["norm"] == math.inf


@pytest.mark.parametrize("cut", [1, 2, 5, 30])
def test_a_line_that_is_being_written_is_not_read_yet(tmp_path: Path, cut: int) -> None:
    folder = make_run(tmp_path, "job-1", 0.0, about(), Event("step", 1, FIRST, {"step": 5, "metrics": {"loss": 0.5}}))
    line = Event("step", 1, FIRST, {"step": 6, "metrics": {"loss": 0.25}}).to_line()
    with open(folder / "events.jsonl", "a") as file:
        file.write(line[:-cut])
    assert read_run(str(folder)).step == 5
    with open(folder / "events.jsonl", "a") as file:
        file.write(line[-cut:])
    assert read_run(str(folder)).step == 6


def test_a_line_that_a_full_disk_has_cut_hides_only_itself(tmp_path: Path) -> None:
    folder = make_run(tmp_path, "job-1", 0.0, about())
    line = Event("step", 1, FIRST, {"step": 6, "metrics": {}}).to_line()
    with open(folder / "events.jsonl", "a") as file:
        file.write(line[:20] + line + line)
    assert read_run(str(folder)).step == 6


@pytest.mark.parametrize("kind", [kind for kind in ALL if kind != "thousand"])
def test_a_run_is_told_the_same_without_every_step(tmp_path: Path, kind: str) -> None:
    made = ALL[kind](tmp_path)
    whole, thin = read_run(made.uri), read_run(made.uri, every_step=False)
    for name in ("status", "attempt", "step", "tasks", "metrics", "about", "result", "last"):
        assert getattr(thin, name) == getattr(whole, name), name
    assert thin.meters.pace.average == pytest.approx(whole.meters.pace.average)
    assert thin.live.rate(whole.live.at) == pytest.approx(whole.live.rate(whole.live.at))
    assert thin.meters.metrics == whole.meters.metrics
    assert thin.meters.batch == whole.meters.batch
    assert thin.timeline.marks == whole.timeline.marks
    assert (thin.live.step, thin.live.total, thin.live.epoch) == (whole.live.step, whole.live.total, whole.live.epoch)


def test_steps_that_later_ones_outdate_are_not_parsed(tmp_path: Path) -> None:
    def step(number: int, task: Task = FIRST, **metrics: float) -> str:
        return Event("step", 1, task, {"step": number, "metrics": metrics}, 100.0 + number).to_line().rstrip("\n")

    saved = Event("checkpoint", 1, FIRST, {"step": 6}).to_line().rstrip("\n")
    lines = [
        *(step(number, loss=1 / number) for number in range(1, 5)),
        step(4, SECOND),
        step(4, loss=0.2, val_loss=0.5),
        *(step(number, loss=1 / number) for number in range(5, 7)),
        step(6, SECOND),
        step(7, SECOND),
        saved,
        step(3, loss=0.1),
        "cut by a full di",
    ]
    assert list(newest_steps(lines)) == [lines[0], *lines[4:]]


def test_metrics_whose_names_differ_in_a_number_only_outdate_no_other() -> None:
    metrics = ({"auc_1": 0.5}, {"auc_2": 0.6}, {"auc_2": 0.6}, {"auc_2": 0.7}, {"auc_2": 0.8})
    steps = [Event("step", 1, FIRST, {"step": n, "metrics": of}).to_line() for n, of in enumerate(metrics)]
    assert list(newest_steps(steps)) == [*steps[:2], *steps[3:]]


def test_the_average_speed_is_that_of_all_steps_also_of_slow_first_ones(tmp_path: Path) -> None:
    made = Made(tmp_path, "job-1")
    made.start(0.0, [FIRST])
    times = [*(BEGAN + 10 + n for n in range(100)), *(BEGAN + 110 + 0.1 * n for n in range(100))]
    lines = [Event("step", 1, FIRST, {"step": n, "metrics": {}}, at).to_line() for n, at in enumerate(times)]
    made.directory.append("events.jsonl", "".join(lines))
    whole, thin = read_run(made.uri), read_run(made.uri, every_step=False)
    assert thin.meters.pace.average == pytest.approx(whole.meters.pace.average)
    assert whole.meters.pace.average == pytest.approx(199 / (times[-1] - times[0]))


def test_a_long_run_is_read_without_parsing_most_of_it(tmp_path: Path) -> None:
    made = Made(tmp_path, "job-1")
    made.start(0.0, [FIRST])
    lines = [Event("step", 1, FIRST, {"step": n, "metrics": {"loss": 0.1}}, BEGAN + 9 + n).to_line() for n in range(9)]
    made.directory.append("events.jsonl", "".join(lines * 4000))
    begun = time.process_time()
    assert read_run(made.uri).step == 8
    whole, begun = time.process_time() - begun, time.process_time()
    assert read_run(made.uri, every_step=False).step == 8
    assert time.process_time() - begun < whole / 3


def test_of_a_run_that_has_ended_a_glance_reads_its_result_only(tmp_path: Path) -> None:
    result = {"status": "failed", "exit_code": 10, "steps": 120, "attempts": 3, "metrics": {"loss": "NaN"}}
    folder = make_run(tmp_path, "job-1", 0.0, about(), result=result)
    (folder / "events.jsonl").unlink()
    run = glance(str(folder))
    assert (run.status, run.result["exit_code"], run.step, run.attempt) == ("failed", 10, 120, 3)
    assert math.isnan(run.metrics["loss"])
    assert silent_for(run.live, run.about, run.uri, 1e12) is None
    going = make_run(tmp_path, "job-2", 0.0, about(), Event("step", 1, FIRST, {"step": 5, "metrics": {}}))
    assert (glance(str(going)).status, glance(str(going)).step) == ("running", 5)
    with pytest.raises(RunNotFoundError, match="not a run directory"):
        glance(str(tmp_path))


DAMAGED = ["", "{", "[1]", "3", '{"seconds": "long"}', '{"status": 1}', '{"status": "failed", "steps": null}']


@pytest.mark.parametrize("text", DAMAGED)
def test_a_damaged_result_is_passed_over_and_told_of(tmp_path: Path, text: str) -> None:
    ended = Event("run_ended", 1, data={"status": "failed", "exit_code": 5})
    folder = make_run(tmp_path, "job-1", 0.0, about(), Event("step", 1, FIRST, {"step": 5, "metrics": {}}), ended)
    assert read_run(str(folder)).trouble == ""
    (folder / "result.json").write_text(text)
    for run in (read_run(str(folder)), glance(str(folder))):
        assert (run.status, run.step, run.result) == ("failed", 5, {})
        assert run.trouble == "result.json is damaged, and is passed over"


def test_a_run_with_a_damaged_result_is_among_those_that_run(tmp_path: Path) -> None:
    folder = make_run(tmp_path, "job-1", 0.0, about())
    (folder / "result.json").write_text("{")
    assert newest_running(str(tmp_path)) == str(folder)


def test_a_run_that_has_told_nothing(tmp_path: Path) -> None:
    folder = make_run(tmp_path, "job-1", 1.0, about())
    silent = make_run(tmp_path, "job-2", 2.0, about())
    (silent / "events.jsonl").write_text("")
    run = read_run(str(silent))
    assert (run.status, run.timeline.seconds, glance(str(silent)).status) == ("unknown", 0.0, "unknown")
    with pytest.raises(RunNotFoundError, match="the run has told nothing yet"):
        stop(run)
    assert newest_running(str(tmp_path)) == str(folder)


def test_stop_where_nobody_told_of_the_launcher() -> None:
    with pytest.raises(RunNotFoundError, match="where the launcher runs is not known · job-1"):
        stop(summarise("job-1", [Event("attempt_started", 1)], {}))


STRANGE = [
    {"kind": "step", "metrics": {}},
    {"kind": "step", "step": "many"},
    {"kind": "step", "step": 7, "metrics": None},
    {"kind": "step", "step": 7, "metrics": {"loss": "low"}},
    {"kind": "step", "step": 7, "role": "boss"},
    {"kind": "step", "step": 7, "index": None},
    {"kind": "step", "step": 7, "at": "noon"},
    {"kind": ["step"], "step": 7},
    {"kind": "evaluated"},
    {"kind": "checkpoint"},
    {"kind": "usage", "tasks": {"worker-0": {}}},
    {"kind": "usage", "tasks": {"worker-0": {"cpus": 1}}},
    {"kind": "step", "step": float("nan")},
    {"kind": "step", "step": float("inf")},
    {"kind": "step", "step": 10**400},
    {"kind": "step", "step": 7, "metrics": {"loss": 10**400}},
    {"kind": "hang", "tasks": [1]},
    {"kind": "profile", "id": "c"},
    {"kind": "run_ended"},
]


@pytest.mark.parametrize("strange", STRANGE, ids=str)
def test_an_event_of_a_wrong_shape_is_passed_over(tmp_path: Path, strange: dict[str, Any]) -> None:
    folder = make_run(tmp_path, "job-1", 0.0, about(), Event("step", 1, FIRST, {"step": 5, "metrics": {}}))
    line = {"at": time.time(), "attempt": 1, "role": "worker", "index": 0, **strange}
    with open(folder / "events.jsonl", "a") as file:
        file.write(json.dumps(line) + "\n")
    for every_step in (True, False):
        run = read_run(str(folder), every_step=every_step)
        assert (run.status, run.step, list(run.tasks)) == ("running", 5, ["worker-0"])


@pytest.mark.parametrize("line", [{"kind": "placed"}, {"kind": "placed", "nodes": {"boss": ""}}], ids=str)
def test_a_placement_of_a_wrong_shape_is_passed_over(tmp_path: Path, line: dict[str, Any]) -> None:
    folder = make_run(tmp_path, "job-1", 0.0, about())
    with open(folder / "events.jsonl", "a") as file:
        file.write(json.dumps({"at": 1.0, "attempt": 1, **line}) + "\n")
    assert read_run(str(folder)).status == "running"


@pytest.mark.parametrize("name", ["nothing", "notes"])
def test_not_a_run_directory(runs: Path, name: str) -> None:
    with pytest.raises(RunNotFoundError, match="not a run directory"):
        read_run(str(runs / name))


# Its launcher

LAUNCHER = """
import signal, sys
def end(number, frame):
    sys.exit(130)
signal.signal(signal.SIGTERM, signal.SIG_IGN if "deaf" in sys.argv else end)
print("ready", flush=True)
sys.stdin.read()
"""
Launch = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def launch() -> Iterator[Launch]:
    """Starts processes that take a SIGTERM as a launcher does, or are deaf to it."""
    started = []

    def start(*words: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", LAUNCHER, *words]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def run_of(pid: int, **more: Any) -> Run:
    return summarise("job-1", [Event("run_started", data={"pid": pid, "hostname": HERE, **more})], {})


def test_a_launcher_that_runs(launch: Launch) -> None:
    process = launch()
    assert launcher_alive({"pid": process.pid, "hostname": HERE})
    assert launcher_alive({"pid": process.pid, "hostname": HERE, "pid_started": started_at(process.pid)})
    assert run_of(process.pid).status == "running"


def test_a_launcher_that_is_gone(launch: Launch) -> None:
    process = launch()
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert not launcher_alive({"pid": process.pid, "hostname": HERE})  # a zombie
    process.wait()
    assert not launcher_alive({"pid": process.pid, "hostname": HERE})
    assert run_of(process.pid).status == "lost"


def test_a_launcher_whose_number_was_given_to_another_process(launch: Launch) -> None:
    process = launch()
    boot, ticks = started_at(process.pid).rsplit("-", 1)
    for before in (f"{boot}-{int(ticks) - 1}", f"another-boot-{ticks}"):
        run = run_of(process.pid, pid_started=before)
        assert run.status == "lost"
        assert not stop(Run("job-1", "running", 1, 0, {}, {}, about=dict(run.about)))
    assert process.poll() is None  # it was left in peace


def test_when_a_process_began() -> None:
    assert started_at(os.getpid()) == started_at(os.getpid())
    assert int(started_at(os.getpid()).rsplit("-", 1)[1]) > 0
    assert started_at(0) == ""


def test_a_launcher_elsewhere_cannot_be_seen_and_is_believed() -> None:
    assert launcher_alive({"pid": 1, "hostname": "elsewhere"})


@pytest.mark.parametrize("known", [{}, {"hostname": HERE}])
def test_a_run_without_a_word_of_its_launcher(known: dict[str, Any]) -> None:
    assert launcher_alive(known) == (not known)  # without even a host it may run anywhere


def test_stop_ends_the_launcher_and_waits_for_it(launch: Launch) -> None:
    process = launch()
    assert stop(run_of(process.pid, pid_started=started_at(process.pid)))
    assert process.wait(0) == 130


@pytest.mark.parametrize("status", ["succeeded", "failed", "interrupted", "lost"])
def test_stop_leaves_alone_what_does_not_run(launch: Launch, status: str) -> None:
    process = launch()
    assert not stop(Run("job-1", status, 1, 0, {}, {}, about={"pid": process.pid, "hostname": HERE}))
    assert process.poll() is None


def test_stop_when_the_launcher_has_just_ended(launch: Launch) -> None:
    process = launch()
    run = run_of(process.pid)
    process.kill()
    process.wait()
    assert run.status == "running"
    assert not stop(run)


def test_stop_of_a_launcher_that_does_not_end(launch: Launch) -> None:
    process = launch("deaf")
    with pytest.raises(TfClusterError, match=f"the launcher did not end in time.*process {process.pid}"):
        stop(run_of(process.pid), patience=0.1)


@pytest.mark.parametrize(("job", "todo"), [("", "stop it on elsewhere"), ("raysubmit_1", "tfcluster stop raysubmit_1")])
def test_stop_of_a_launcher_elsewhere(job: str, todo: str) -> None:
    run = summarise("job-1", [Event("run_started", data={"pid": 1, "hostname": "elsewhere", "job_id": job})], {})
    with pytest.raises(RunNotFoundError, match=todo):
        stop(run)


AS_NOBODY = """
import os, sys
from cluster.errors import RunNotFoundError
from cluster.events import Event
from cluster.runs import stop, summarise
os.setuid(65534)
about = {"pid": int(sys.argv[1]), "hostname": os.uname().nodename}
try:
    stop(summarise("job-1", [Event("run_started", data=about)], {}))
except RunNotFoundError as error:
    print(error)
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_stop_of_another_users_launcher(launch: Launch) -> None:
    process = launch()
    done = subprocess.run(
        [sys.executable, "-c", AS_NOBODY, str(process.pid)], capture_output=True, text=True, check=True
    )
    assert "the launcher belongs to another user" in done.stdout
    assert process.poll() is None


def test_the_newest_that_runs_is_none_that_has_ended_since(tmp_path: Path) -> None:
    storage = str(tmp_path)
    assert newest_running(storage) is None
    made = {}
    for number, name in enumerate(("older", "long", "short", "killed")):
        made[name] = Made(tmp_path, name, alive=name != "killed")
        os.utime(tmp_path / name / "job.yaml", (BEGAN + number, BEGAN + number))
    made["short"].end(9.0, "succeeded")
    assert newest_running(storage) == made["long"].uri
    dead = [Event("run_started", data={"pid": 1, "hostname": "elsewhere"}), Event("attempt_started", 1)]
    dead += [Event("placed", 1, data={"nodes": {}}), Event("task_started", 1, FIRST, {"pid": 1})]
    dead += [Event("task_ready", 1, FIRST), Event("step", 1, FIRST, {"step": 5, "metrics": {}})]
    make_run(tmp_path, "silent", BEGAN + 9, *(replace(event, at=BEGAN) for event in dead))
    assert newest_running(storage) == made["long"].uri, "nobody has heard of the newest for long"
    for name in ("older", "long"):
        made[name].end(10.0, "failed")
    assert newest_running(storage) is None
