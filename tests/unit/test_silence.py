"""Whether a run's events have stopped for so long that its launcher may be gone."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from cluster.cli import main
from cluster.events import Event, Kind
from cluster.live import Live
from cluster.run_text import run_document, status_text
from cluster.runs import summarise
from cluster.samples import pause
from cluster.silence import COPYING, QUIET, patience, silence_text, silent_for
from cluster.storage import RunDirectory
from cluster.tasks import Task

FIRST = Task("worker", 0)
ELSEWHERE: dict[str, Any] = {"hostname": "gpu-7", "pid": 1}
HOUR = 3600.0


def event(kind: Kind, at: float, task: Task | None = None, attempt: int = 1, **data: Any) -> Event:
    return Event(kind, attempt, task, data, at)


STARTED = event("run_started", 100.0, **ELSEWHERE)
WAITS = [STARTED, event("attempt_started", 100.0, within=900.0), event("notice", 105.0, text="waiting for resources")]
RUNS = [*WAITS, event("placed", 110.0, nodes={"worker-0": "10.0.0.1"}), event("task_ready", 120.0, FIRST)]


def live_of(*events: Event) -> Live:
    live = Live()
    for each in events:
        live.take(each)
    return live


def text(live: Live, now: float, uri: str = "/runs/1", **about: Any) -> str:
    return silence_text(live, ELSEWHERE | about, uri, now)


def test_tasks_that_run_are_heard_of() -> None:
    live = live_of(*RUNS)
    assert text(live, 120.0 + QUIET) == ""
    assert text(live, 120.0 + 3 * HOUR) == "no word for 3h00m, its launcher on gpu-7 may be gone"


def test_a_launcher_on_this_machine_is_looked_at_instead() -> None:
    assert text(live_of(*RUNS), 9 * HOUR, hostname=os.uname().nodename) == ""


def test_what_has_ended_is_silent_for_good() -> None:
    assert text(live_of(*RUNS, event("run_ended", 130.0, status="succeeded")), 9 * HOUR) == ""


def test_a_job_that_waits_for_resources_is_silent_as_long_as_its_spec_allows() -> None:
    waits = live_of(*WAITS)
    assert text(waits, 105.0 + 900.0 + QUIET) == ""
    assert "may be gone" in text(waits, 106.0 + 900.0 + QUIET)
    assert text(live_of(STARTED, event("attempt_started", 100.0)), 9 * HOUR) == ""  # nobody knows how long
    again = live_of(*RUNS, event("attempt_started", 500.0, attempt=2, within=7200.0))
    assert text(again, 500.0 + 7000.0) == ""


def test_a_back_off_is_waited_for() -> None:
    live = live_of(*RUNS, event("restarting", 200.0, attempt=2, after=1800.0))
    assert text(live, 200.0 + 1800.0 + QUIET) == ""
    assert "may be gone" in text(live, 201.0 + 1800.0 + QUIET)


def test_remote_storage_is_as_new_as_its_last_copy() -> None:
    live = live_of(*RUNS)
    assert text(live, 120.0 + QUIET + COPYING, "s3://bucket/runs/1") == ""
    assert "may be gone" in text(live, 121.0 + QUIET + COPYING, "s3://bucket/runs/1")


@pytest.mark.parametrize("tasks", [1, 250, 10_000])
def test_no_pause_between_two_usage_events_is_silence(tasks: int) -> None:
    nodes = {f"worker-{index}": "10.0.0.1" for index in range(tasks)}
    live = live_of(STARTED, event("placed", 110.0, nodes=nodes), event("task_ready", 120.0, FIRST))
    allowed = patience(live)
    assert allowed is not None
    assert allowed > 2 * pause(tasks)
    assert silent_for(live, ELSEWHERE, "/runs/1", 120.0 + allowed) is None


def test_status_tells_how_old_the_last_word_is() -> None:
    run = summarise("/runs/1", RUNS, {})
    assert run.status == "running"
    assert status_text(run, 200.0).startswith("running for ")
    assert ";" not in status_text(run, 200.0)
    assert status_text(run, 400.0).endswith("; its last word came 4m40s ago")
    assert status_text(run, 120.0 + 3 * HOUR).endswith("; no word for 3h00m, its launcher on gpu-7 may be gone")
    assert run_document(run, 120.0 + 3 * HOUR)["silent_for"] == 3 * HOUR
    waits = summarise("/runs/1", WAITS, {})
    assert status_text(waits, 105.0 + 600).endswith(", placing; its last word came 10m00s ago")


def test_the_list_of_runs_tells_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = RunDirectory(str(tmp_path / "job-1"))
    directory.create()
    for each in RUNS:
        directory.append("events.jsonl", each.to_line())
    monkeypatch.setattr("sys.argv", ["tfcluster", "list", "--storage", str(tmp_path)])
    with pytest.raises(SystemExit):
        main()
    assert " · no word for " in capsys.readouterr().out
