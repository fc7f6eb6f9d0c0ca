"""Frames and the channel over real sockets: what a task sends, what it is told, its end without a supervisor."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster import frames

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    ours, theirs = socket.socketpair()
    yield ours, theirs
    ours.close()
    theirs.close()


# Frames


@given(st.lists(st.binary(max_size=300), max_size=8))
def test_frames_arrive_one_by_one_as_they_were(contents: list[bytes]) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        for frame in contents:
            frames.send(ours, frame)
        assert [frames.receive(theirs) for _ in contents] == contents


def test_a_frame_larger_than_any_buffer(pair: Pair) -> None:
    frame = bytes(range(256)) * (20 << 12)  # 20 MiB
    sender = threading.Thread(target=frames.send, args=(pair[0], frame))
    sender.start()
    assert frames.receive(pair[1]) == frame
    sender.join()


def test_a_frame_in_single_bytes(pair: Pair) -> None:
    for byte in b"\0" * 7 + b"\x05hello":
        pair[0].send(bytes([byte]))
    assert frames.receive(pair[1]) == b"hello"


@pytest.mark.parametrize("sent", [b"", b"\0\0\0", b"\0" * 7 + b"\x05hel"])
def test_the_other_side_goes_away_in_the_middle(pair: Pair, sent: bytes) -> None:
    pair[0].sendall(sent)
    pair[0].close()
    with pytest.raises(EOFError, match="the supervisor closed the connection"):
        frames.receive(pair[1])


def test_nothing_is_read_beyond_a_frame(pair: Pair) -> None:
    frames.send(pair[0], b"first")
    pair[0].sendall(b'{"kind": "release"}\n')
    assert frames.receive(pair[1]) == b"first"
    assert pair[1].recv(100) == b'{"kind": "release"}\n'


# The channel of a task, in a process of its own: it ends the whole group when its supervisor goes

TASK = """
import json, socket, subprocess, sys, threading
from cluster.channel import Channel

channel = Channel(socket.socket(fileno=int(sys.argv[1])))

def say(word, value=None):
    print(json.dumps([word, value]), flush=True)

def sends():
    import numpy as np
    metrics = {"loss": np.float32(0.5)}
    channel.send("step", step=np.int64(7), metrics=metrics, shape=np.ones((2, 2)), odd={1}, text="ü\\n")

def many():
    def send(name):
        for number in range(200):
            channel.send("notice", text=f"{name}-{number} " + "x" * 500)
    threads = [threading.Thread(target=send, args=(name,)) for name in "abcd"]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]

def release():
    say("waiting")
    channel.wait_for_release()
    say("released")

def checkpoints():
    say("waiting")
    step = channel.next_checkpoint()
    while step is not None:
        say("checkpoint", step)
        sys.stdin.readline()
        step = channel.next_checkpoint()
    say("no more")

def children():
    child = subprocess.Popen(["sleep", "1000"], stdout=subprocess.DEVNULL)
    say("child", child.pid)
    channel.wait_for_release()

globals()[sys.argv[2]]()
"""


class TaskProcess:
    """A task that does one thing with its channel."""

    def __init__(self, action: str) -> None:
        self.supervisor, theirs = socket.socketpair()
        self.process = subprocess.Popen(
            [sys.executable, "-c", TASK, str(theirs.fileno()), action],
            pass_fds=(theirs.fileno(),),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        theirs.close()
        self._rest = b""

    def tell(self, *commands: dict[str, Any]) -> None:
        self.supervisor.sendall(b"".join(json.dumps(command).encode() + b"\n" for command in commands))

    def said(self) -> list[Any]:
        assert self.process.stdout is not None
        found: list[Any] = json.loads(self.process.stdout.readline())
        return found

    def go_on(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def messages(self, count: int) -> list[dict[str, Any]]:
        """The next `count` messages that came over the channel."""
        lines: list[bytes] = []
        while len(lines) < count:
            part = self.supervisor.recv(1 << 16)
            assert part, "the task closed its channel"
            *whole, self._rest = (self._rest + part).split(b"\n")
            lines += whole
        return [json.loads(line) for line in lines]

    def silent(self) -> bool:
        """Whether nothing is said for a moment."""
        assert self.process.stdout is not None
        return not select.select([self.process.stdout], [], [], 0.2)[0]

    def close(self) -> None:
        self.supervisor.close()
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def task(request: pytest.FixtureRequest) -> Iterator[TaskProcess]:
    made = TaskProcess(request.param)
    yield made
    made.close()


@pytest.mark.parametrize("task", ["sends"], indirect=True)
def test_numbers_of_numpy_travel_as_numbers(task: TaskProcess) -> None:
    assert task.messages(1) == [
        {"kind": "step", "step": 7, "metrics": {"loss": 0.5}, "shape": [[1.0, 1.0]] * 2, "odd": "{1}", "text": "ü\n"}
    ]


@pytest.mark.parametrize("task", ["many"], indirect=True)
def test_messages_of_several_threads_do_not_mix(task: TaskProcess) -> None:
    texts = [message["text"].split()[0] for message in task.messages(800)]
    for name in "abcd":
        assert [text for text in texts if text.startswith(name)] == [f"{name}-{number}" for number in range(200)]


@pytest.mark.parametrize("task", ["release"], indirect=True)
def test_a_task_waits_until_it_is_released(task: TaskProcess) -> None:
    assert task.said() == ["waiting", None]
    task.tell({"kind": "checkpoint", "step": 1})
    assert task.silent()
    task.tell({"kind": "release"})
    assert task.said() == ["released", None]


@pytest.mark.parametrize("task", ["checkpoints"], indirect=True)
def test_an_evaluator_is_given_the_newest_checkpoint_and_each_once(task: TaskProcess) -> None:
    assert task.said() == ["waiting", None]
    task.tell({"kind": "checkpoint", "step": 5})
    assert task.said() == ["checkpoint", 5]
    task.tell({"kind": "checkpoint", "step": 10}, {"kind": "checkpoint", "step": 15})
    task.tell({"kind": "drain", "checkpoint": 15})
    task.go_on()
    assert task.said() == ["checkpoint", 15]
    task.go_on()
    assert task.said() == ["no more", None]


@pytest.mark.parametrize("task", ["checkpoints"], indirect=True)
def test_news_of_an_older_checkpoint_are_none(task: TaskProcess) -> None:
    """What is told may be overtaken on its way."""
    assert task.said() == ["waiting", None]
    task.tell({"kind": "checkpoint", "step": 15}, {"kind": "checkpoint", "step": 10})
    assert task.said() == ["checkpoint", 15]
    task.tell({"kind": "drain", "checkpoint": 20}, {"kind": "checkpoint", "step": 15})
    task.go_on()
    assert task.said() == ["checkpoint", 20]
    task.go_on()
    assert task.said() == ["no more", None]


@pytest.mark.parametrize("task", ["checkpoints"], indirect=True)
def test_an_evaluator_without_any_checkpoint(task: TaskProcess) -> None:
    assert task.said() == ["waiting", None]
    assert task.silent()
    task.tell({"kind": "drain", "checkpoint": None})
    assert task.said() == ["no more", None]


@pytest.mark.parametrize("task", ["checkpoints"], indirect=True)
def test_an_evaluator_that_came_back_still_sees_the_last_checkpoint(task: TaskProcess) -> None:
    """It was told of that checkpoint while it was away, or before it had started."""
    assert task.said() == ["waiting", None]
    task.tell({"kind": "drain", "checkpoint": 15})
    assert task.said() == ["checkpoint", 15]
    task.tell({"kind": "drain", "checkpoint": 15})  # told twice, evaluated once
    task.go_on()
    assert task.said() == ["no more", None]


@pytest.mark.parametrize("task", ["children"], indirect=True)
@pytest.mark.parametrize("cut", [b"", pytest.param(b'{"kind": "rel')])
def test_without_a_supervisor_the_whole_group_ends(task: TaskProcess, cut: bytes) -> None:
    child = os.pidfd_open(task.said()[1])
    task.supervisor.sendall(cut)
    task.supervisor.close()
    try:
        assert select.select([child], [], [], 3)[0], "what the task had started goes on"
        assert task.process.wait(3) == -signal.SIGKILL
    finally:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(child, signal.SIGKILL)
        os.close(child)
