"""Who asks for a capture waits while its launcher is at it: for tasks that start, for a verdict on large traces."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from cluster import profiling, requests
from cluster.errors import CaptureError
from cluster.events import Event
from cluster.profiling import profile
from cluster.tasks import Task
from tests.made_runs import Made


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "REMOTE_SECONDS", 0.0)
    for name in ("_STARTING", "_GATHERING"):
        monkeypatch.setattr(profiling, name, 0.0)


def asked_in(folder: Path) -> list[str]:
    return [path.stem for path in folder.glob("requests/*.json")]


def test_who_waits_for_tasks_that_start_is_told_so_and_leaves_no_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(profiling, "_TAKING", 0.1)
    made = Made(tmp_path, "run", alive=True)
    made.event(1.0, "attempt_started", 2)
    told: list[Event] = []
    with pytest.raises(CaptureError, match=r"the job is still starting.*attempt 2, placing"):
        profile(made.uri, 1.0, on_event=told.append)
    assert [event.data["reason"] for event in told] == ["attempt 2 is starting"]
    assert not asked_in(Path(made.uri))


def test_a_verdict_on_many_bytes_may_take_its_time(tmp_path: Path) -> None:
    made = Made(tmp_path, "run", alive=True)
    made.start(0.0, [Task("worker", 0)])
    collected = threading.Event()

    def watch(event: Event) -> None:
        if event.data["status"] == "collected":
            collected.set()

    with ThreadPoolExecutor(1) as pool:
        outcome = pool.submit(profile, made.uri, 0.001, None, watch)
        while not (asked := asked_in(Path(made.uri))):
            assert not outcome.done(), outcome.result()
        tasks = {"worker-0": {"bytes": 10**9}}
        data: dict[str, Any] = {"id": asked[0], "tasks": tasks, "folder": "tensorboard"}
        made.event(10.0, "profile", **data, status="collected")
        assert collected.wait(60)
        made.directory.write("tensorboard/verdict.json", '{"sentence": "input-bound"}')
        made.event(20.0, "profile", **data, status="done", verdict="input-bound")
        assert outcome.result()["sentence"] == "input-bound"
        assert outcome.result()["traces"] == {"worker-0": 10**9}
