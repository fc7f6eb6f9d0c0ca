"""Which tasks a capture traces, and when it has begun and ended."""

from __future__ import annotations

import re

import pytest

from cluster.capture import MOST_TASKS, Capture, chosen, folder_name
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


def test_folders_are_named_as_tensorflow_names_them() -> None:
    assert folder_name(1_700_000_000.9) == "2023_11_14_22_13_20"
