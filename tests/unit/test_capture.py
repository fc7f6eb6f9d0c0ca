"""Which tasks a capture traces, and when it has begun and ended."""

from __future__ import annotations

import re
from typing import Any

import pytest

from cluster.capture import MOST_TASKS, Capture, asked_for, chosen, folder_name
from cluster.tasks import Task

CHIEF, EVALUATOR = Task("chief", 0), Task("evaluator", 0)
WORKERS = [Task("worker", index) for index in range(30)]
SERVERS = [Task("ps", index) for index in range(3)]


def test_few_tasks_are_all_traced_but_for_the_evaluator() -> None:
    running = [CHIEF, *WORKERS[:3], *SERVERS, EVALUATOR]
    assert chosen(None, running) == (CHIEF, *WORKERS[:3], *SERVERS)
    assert chosen(None, [EVALUATOR]) == (EVALUATOR,)


def test_of_many_tasks_some_of_each_role_are_traced() -> None:
    found = chosen(None, [CHIEF, *WORKERS, *SERVERS])
    assert found == (CHIEF, *WORKERS[: MOST_TASKS - 4], *SERVERS)


def test_tasks_are_named_by_task_or_role_and_each_is_traced_once() -> None:
    running = [CHIEF, *WORKERS[:3], *SERVERS]
    assert chosen(["ps", "worker-1", "ps-0"], running) == (*SERVERS, WORKERS[1])
    assert len(chosen(["worker"], [CHIEF, *WORKERS])) == 30  # who names more gets more


@pytest.mark.parametrize(
    ("wanted", "running", "words"),
    [
        (["wroker-1"], WORKERS[:3], "no running task is 'wroker-1'; did you mean worker-1?"),
        (["xyz"], WORKERS, "no running task is 'xyz'; running: worker-0, worker-1"),
        (["worker-1"], [], "no task is running at the moment"),
        (None, [], "no task is running at the moment"),
    ],
)
def test_names_of_no_task_are_refused(wanted: list[str] | None, running: list[Task], words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        chosen(wanted, running)


def test_a_capture_has_begun_when_no_task_is_left_that_may_begin_and_ended_when_none_is_awaited() -> None:
    capture = Capture("c", (CHIEF, *WORKERS[:2]), held=True)
    assert [capture.begun, capture.awaited] == [False, (CHIEF, *WORKERS[:2])]
    capture.recording |= {CHIEF, WORKERS[0]}
    capture.missing[WORKERS[1]] = "it is gone"
    assert [capture.begun, capture.awaited] == [True, (CHIEF, WORKERS[0])]
    capture.sizes |= {CHIEF: 10, WORKERS[0]: 10}
    assert capture.awaited == ()
    document = capture.document("done", folder="f")
    assert document["missing"] == {"worker-1": "it is gone"}
    assert document["tasks"] == {"chief-0": {"bytes": 10}, "worker-0": {"bytes": 10}, "worker-1": {}}
    assert "seconds" not in document


def test_why_no_task_gave_a_trace_is_told_by_the_first_reason_and_who_has_it() -> None:
    capture = Capture("c", (CHIEF, *WORKERS[:3]))
    assert capture.nothing == "no task gave a trace"
    capture.missing |= dict.fromkeys(WORKERS[:2], "the program profiles itself")
    assert capture.nothing == "no task gave a trace: worker-0, worker-1: the program profiles itself"
    capture.missing |= {CHIEF: "it ended", WORKERS[2]: "its node was lost"}
    assert capture.nothing.endswith("worker-0, worker-1: the program profiles itself; and 2 other reasons")


def test_a_capture_that_was_cut_short_says_so() -> None:
    capture = Capture("c", (CHIEF,), 10.0, cut="it was cut short after 0.3 s of 10 s: the attempt ended")
    capture.note(CHIEF, ["only GPUs are in it"])
    assert capture.document("done")["notes"] == [capture.cut, "the trace of chief-0: only GPUs are in it"]
    assert capture.document("done")["cut"] == capture.cut


def test_folders_are_named_as_tensorflow_names_them() -> None:
    assert folder_name(1_700_000_000.9) == "2023_11_14_22_13_20"


def test_a_request_says_for_how_long_and_may_name_tasks() -> None:
    assert asked_for({"kind": "profile", "seconds": 3, "id": "1"}) == (3.0, None)
    assert asked_for({"kind": "profile", "seconds": 0.5, "tasks": ["ps"]}) == (0.5, ["ps"])


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({}, "its kind is None; known: profile"),
        ({"kind": "stop"}, "its kind is 'stop'; known: profile"),
        ({"kind": "profile"}, "seconds is None; it may be a number above 0 and up to 120"),
        ({"kind": "profile", "seconds": True}, "seconds is True"),
        ({"kind": "profile", "seconds": 0}, "seconds is 0"),
        ({"kind": "profile", "seconds": float("nan")}, "seconds is nan"),
        ({"kind": "profile", "seconds": 121}, "seconds is 121"),
        ({"kind": "profile", "seconds": 1, "tasks": "ps"}, "tasks is 'ps'; it may be a list of names, or missing"),
        ({"kind": "profile", "seconds": 1, "tasks": [1]}, "tasks is [1]"),
        ({"kind": "profile", "seconds": 1, "tasks": []}, "tasks is []"),
    ],
)
def test_a_request_for_something_else_is_refused(asked: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        asked_for(asked)
