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


class Desk:
    """One of two workers that run, what it told tasks, and what it said."""

    def __init__(self, folder: Path) -> None:
        document = {"entrypoint": "train.py:train", "strategy": "multi_worker_mirrored", "roles": {"worker": 2}}
        plan = make_plan(parse(document), [], Facts())
        self.said: list[dict[str, Any]] = []
        self.desk = CaptureDesk(plan, RunDirectory(str(folder)), lambda task, command: None, self.said.append)
        for task in (FIRST, SECOND):
            self.desk.see(Event("task_ready", 1, task))
        self.id = ask(str(folder), kind="profile", seconds=30)
        self.desk.tick(starting=False)

    def word(self, task: Task, status: str, **data: Any) -> None:
        self.desk.message(Event("profile", 1, task, {"id": self.id, "status": status, **data}), None, starting=False)


FIRST, SECOND = Task("worker", 0), Task("worker", 1)


def test_of_a_task_that_failed_while_it_was_traced_another_word_is_waited_for(tmp_path: Path) -> None:
    run = Desk(tmp_path)
    run.desk.see(Event("failed", 1, FIRST, {"type": "ValueError", "tracing": True}))
    run.desk.see(Event("failed", 1, SECOND, {"type": "ValueError"}))
    run.desk.tick(starting=False)
    assert [said["status"] for said in run.said] == ["tracing"]
    run.word(FIRST, "failed", reason="its trace was not saved")
    run.desk.tick(starting=False)
    run.desk.close()
    why = {"worker-0": "its trace was not saved", "worker-1": "its code failed while it was traced"}
    assert run.said[-1]["missing"] == why
    assert run.said[-1]["reason"].startswith("no task gave a trace: worker-1: its code failed while it was traced; and")


def test_the_end_of_an_attempt_cuts_a_capture_short(tmp_path: Path) -> None:
    run = Desk(tmp_path)
    run.desk.settle(lambda: None, "the attempt ended", 0.0)
    run.desk.close()
    assert run.said[-1]["cut"] == "it was cut short after 0.0 s of 30 s: the attempt ended"
    assert run.said[-1]["reason"] == "no task gave a trace: worker-0, worker-1: the attempt ended"
