"""A task's side of saving before a node is lost: over a real channel, it waits, saves and stays, or goes on."""

from __future__ import annotations

import json
import select
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

TASK = """
import json, socket, sys
from cluster.channel import Channel
from cluster.stops import Stops

stops = Stops(Channel(socket.socket(fileno=int(sys.argv[1]))))
print(json.dumps("ready"), flush=True)
for line in sys.stdin:
    if line == "come\\n":
        print(json.dumps(["came", stops.come(), stops.saving]), flush=True)
    elif line == "stay\\n":
        stops.stay()
        print(json.dumps("went on"), flush=True)
    else:
        stops.none_follow()
"""


class TaskProcess:
    """A task that does with its stops what it is told to."""

    def __init__(self) -> None:
        self.supervisor, theirs = socket.socketpair()
        self.process = subprocess.Popen(
            [sys.executable, "-c", TASK, str(theirs.fileno())],
            pass_fds=(theirs.fileno(),),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        theirs.close()
        self.answers = self.supervisor.makefile()
        assert self.said() == "ready"

    def do(self, *words: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("".join(f"{word}\n" for word in words))
        self.process.stdin.flush()

    def said(self) -> Any:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())

    def silent(self) -> bool:
        """Whether nothing is said for a moment."""
        assert self.process.stdout is not None
        return not select.select([self.process.stdout], [], [], 0.2)[0]

    def tell(self, kind: str, **command: int) -> None:
        self.supervisor.sendall(json.dumps({"kind": kind, **command}).encode() + b"\n")

    def proposed(self, round: int, stop: int) -> int | None:
        """The answer to a proposal."""
        self.tell("stop_proposed", round=round, stop=stop)
        answer = json.loads(self.answers.readline())
        assert (answer["kind"], answer["round"]) == ("stop_answer", round)
        passed: int | None = answer["passed"]
        return passed

    def close(self) -> None:
        self.answers.close()
        self.supervisor.close()
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def task() -> Iterator[TaskProcess]:
    made = TaskProcess()
    yield made
    made.close()


def test_a_task_answers_how_far_it_is_once_it_comes_to_stops(task: TaskProcess) -> None:
    assert task.proposed(1, 0) is None
    task.do("come", "come")
    assert [task.said(), task.said()] == [["came", False, False]] * 2
    assert task.proposed(2, 0) == 2
    task.do("none", "come")  # training is over; and goes on
    task.said()
    assert task.proposed(3, 0) == 3


def test_it_waits_at_the_stop_then_saves_and_stays(task: TaskProcess) -> None:
    task.do("come")
    task.said()
    assert task.proposed(1, 2) == 1
    task.do("come")
    assert task.silent()
    task.tell("stop_agreed", round=1)
    assert task.said() == ["came", True, True]
    task.do("stay")
    assert task.silent()
    assert task.proposed(2, 0) == 2  # the launcher takes it back
    assert task.said() == "went on"
    task.do("come")
    assert task.said() == ["came", False, False]


def test_it_goes_on_from_the_stop_upon_another_proposal(task: TaskProcess) -> None:
    task.do("come")
    task.said()
    assert task.proposed(1, 2) == 1
    task.do("come")
    assert task.proposed(2, 4) in (1, 2)
    assert task.said() == ["came", False, False]
    task.do("come", "come")
    assert task.said() == ["came", False, False]
    task.tell("stop_agreed", round=2)
    assert task.said() == ["came", True, True]


def test_to_stay_where_nothing_was_agreed_is_nothing(task: TaskProcess) -> None:
    task.do("stay", "come", "stay")
    assert [task.said(), task.said(), task.said()] == ["went on", ["came", False, False], "went on"]
