"""Requests for nothing that is known are refused where people see it; others wait until there are tasks to trace."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest

from cluster import requests
from cluster.capture_desk import CaptureDesk
from cluster.console import PlainConsole
from cluster.events import Event
from cluster.plan import Facts, make_plan
from cluster.requests import FOLDER, ask, take_back
from cluster.spec import parse
from cluster.storage import RunDirectory
from cluster.tasks import Task


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "LOCAL_SECONDS", 0.0)


def test_a_bad_request_is_refused_once(tmp_path: Path) -> None:
    plan = make_plan(parse({"entrypoint": "train.py:train"}), [], Facts())
    refused: list[dict[str, Any]] = []
    desk = CaptureDesk(plan, RunDirectory(str(tmp_path)), lambda task, command: None, refused.append)
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / "0.json").write_text("{seconds: 3}")
    unknown, good = ask(str(tmp_path), kind="stop"), ask(str(tmp_path), kind="profile", seconds=3)
    for _ in range(3):
        desk.tick(starting=False)
    desk.close()
    assert {answer["status"] for answer in refused} == {"refused"}
    reasons = {answer["id"]: answer["reason"] for answer in refused}
    assert reasons["0"].startswith("request 0: it is not JSON: ")
    assert reasons[unknown] == f"request {unknown}: its kind is 'stop'; known: profile"
    assert reasons[good] == "no task is running at the moment"
    assert len(refused) == 3
    shown = io.StringIO()
    console = PlainConsole(shown)
    for answer in refused:
        console.event(Event("profile", 1, data=answer))
    assert "no traces: request 0: it is not JSON" in shown.getvalue()
    assert len(shown.getvalue().splitlines()) == 3


def test_while_tasks_start_a_request_waits_and_those_of_the_attempt_before_are_not_asked(tmp_path: Path) -> None:
    document = {"entrypoint": "train.py:train", "strategy": "multi_worker_mirrored", "roles": {"worker": 2}}
    plan = make_plan(parse(document), [], Facts())
    told: list[tuple[str, str]] = []
    desk = CaptureDesk(
        plan, RunDirectory(str(tmp_path)), lambda task, command: told.append((str(task), command["kind"])), print
    )
    first, second = Task("worker", 0), Task("worker", 1)
    for task in (first, second):
        desk.see(Event("task_ready", 1, task))
    desk.see(Event("lost", 1, second, {"reason": "SIGKILL"}))
    desk.forget()
    asked, kept = (ask(str(tmp_path), kind="profile", seconds=3) for _ in range(2))
    desk.tick(starting=True)
    assert (tmp_path / FOLDER / f"{kept}.json").exists()
    take_back(str(tmp_path), kept)
    desk.see(Event("task_ready", 2, second))
    desk.tick(starting=False)
    desk.close()
    assert told == [("worker-1", "trace")]
    assert not list((tmp_path / FOLDER).iterdir()), asked
