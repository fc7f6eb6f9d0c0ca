"""Which warm process serves which task, and how one is found, started and ended; without TensorFlow."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster import warm_client
from cluster.warm import locked, runtime_directory
from cluster.warm_client import connect, environment_key, import_time_environment, send_start
from tests.conftest import started_by_tests

# Which warm process


def test_variables_that_are_read_when_tensorflow_is_imported() -> None:
    env = {
        "TF_USE_LEGACY_KERAS": "1",
        "TF_ENABLE_ONEDNN_OPTS": "0",
        "KERAS_BACKEND": "tensorflow",
        "XLA_FLAGS": "--xla",
        "OMP_NUM_THREADS": "2",
        "LD_LIBRARY_PATH": "/lib",
        "PYTHONPATH": "/mine",
    }
    later = {
        "TF_CONFIG": "{}",
        "TF_GRPC_REUSE_PORT": "true",
        "TF_FORCE_GPU_ALLOW_GROWTH": "true",
        "CUDA_VISIBLE_DEVICES": "0",
        "GRPC_FAIL_FAST": "use_caller",
        "TFCLUSTER_ROLE": "worker",
        "TOKEN": "hush",
    }
    assert import_time_environment({**env, **later}) == env


def test_tasks_of_one_job_share_a_warm_process() -> None:
    common = {"TF_USE_LEGACY_KERAS": "0"}
    first = environment_key("3", {**common, "TF_CONFIG": "a", "CUDA_VISIBLE_DEVICES": "0", "TFCLUSTER_INDEX": "0"})
    second = environment_key("3", {**common, "TF_CONFIG": "b", "CUDA_VISIBLE_DEVICES": "1", "TFCLUSTER_INDEX": "1"})
    assert first == second
    assert environment_key("3", {"A": "1", "TF_X": "1", "TF_Y": "2"}) == environment_key(
        "3", {"TF_Y": "2", "TF_X": "1"}
    )


def test_what_is_imported_otherwise_needs_another_one() -> None:
    keys = {
        environment_key("none", {}),
        environment_key("2", {}),
        environment_key("3", {}),
        environment_key("3", {"TF_ENABLE_ONEDNN_OPTS": "0"}),
        environment_key("3", {"TF_ENABLE_ONEDNN_OPTS": "1"}),
        environment_key("3", {"PYTHONPATH": "/mine"}),
    }
    assert len(keys) == 6


def test_another_python_or_another_version_of_ours_needs_another_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before = environment_key("3", {})
    with monkeypatch.context() as changed:
        changed.setattr(sys, "executable", "/elsewhere/bin/python")
        assert environment_key("3", {}) != before
    (tmp_path / "warm_client.py").write_text("")
    monkeypatch.setattr(warm_client, "__file__", str(tmp_path / "warm_client.py"))
    other = environment_key("3", {})
    assert other != before
    os.utime(tmp_path / "warm_client.py", (1, 1))
    assert environment_key("3", {}) not in (before, other)


def test_a_key_fits_into_the_name_of_a_socket() -> None:
    assert len(environment_key("3", {"LD_LIBRARY_PATH": "x" * 10_000})) == 16


# A warm process that has imported nothing


@pytest.fixture
def lifeline() -> Iterator[subprocess.Popen[bytes]]:
    """A process for whose life the warm process stays."""
    process = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    yield process
    process.kill()
    process.communicate()


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A runtime directory of this test's own, with a name that is short enough for a socket."""
    folder = tempfile.mkdtemp(prefix="tf-", dir="/tmp")
    monkeypatch.setattr(tempfile, "tempdir", folder)
    monkeypatch.setenv("TMPDIR", folder)
    yield Path(runtime_directory())
    for pid, line in started_by_tests().items():
        if "cluster.warm" in line and f"TMPDIR={folder}".encode() in _environment(pid):
            _await_end(pid)  # with its lifeline; it writes there until then
    shutil.rmtree(folder)


def _environment(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:  # it has ended
        return b""


def _await_end(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        end = os.pidfd_open(pid)
        try:
            assert select.select([end], [], [], 20)[0], "it does not end"
        finally:
            os.close(end)


def answer(connection: socket.socket) -> dict[str, Any]:
    assert select.select([connection], [], [], 20)[0], "no answer"
    message = connection.recv(1 << 16)
    return json.loads(message) if message else {}


def start_task(connection: socket.socket, how: str = "spawn") -> tuple[socket.socket, int, dict[str, Any]]:
    """A task that waits to be told what to do: its channel, output and the answer about it."""
    channel, theirs = socket.socketpair()
    output, written = os.pipe()
    stacks = os.memfd_create("stacks")
    send_start(connection, how, (written, theirs.fileno(), stacks))
    theirs.close()
    os.close(written)
    os.close(stacks)
    return channel, output, answer(connection)


@pytest.mark.parametrize("how", ["spawn", "fork"])
def test_a_task_is_started_and_its_end_is_told(runtime: Path, lifeline: subprocess.Popen[bytes], how: str) -> None:
    with connect("none", {}, lifeline.pid) as connection:
        channel, output, started = start_task(connection, how)
        assert started["how"] == ("forked" if how == "fork" else "spawned")
        channel.close()  # it is told nothing and gives up
        ended = answer(connection)
        with open(output, "rb") as text:
            assert b"the supervisor closed the connection" in text.read()
        assert ended["exited"] not in (0, None)
        assert not (runtime / "scratch" / Path(started["scratch"]).name).exists()


def test_a_second_client_meets_the_same_process(runtime: Path, lifeline: subprocess.Popen[bytes]) -> None:
    parents = set()
    with connect("none", {}, lifeline.pid) as first, connect("none", {}, lifeline.pid) as second:
        for connection in (first, second):
            channel, output, started = start_task(connection)
            parents.add(Path(f"/proc/{started['started']}/stat").read_text().rpartition(")")[2].split()[1])
            channel.close()
            os.close(output)
    assert len(parents) == 1
    assert len(list(runtime.glob("*.sock"))) == 1


def test_a_process_with_other_variables_is_another_one(runtime: Path, lifeline: subprocess.Popen[bytes]) -> None:
    with connect("none", {}, lifeline.pid), connect("none", {"TF_X": "1"}, lifeline.pid):
        assert len(list(runtime.glob("*.sock"))) == 2


def test_a_socket_that_nobody_answers_is_replaced(runtime: Path, lifeline: subprocess.Popen[bytes]) -> None:
    path = runtime / f"{environment_key('none', {})}.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as dead:
        dead.bind(str(path))
    with connect("none", {}, lifeline.pid) as connection:
        channel, output, started = start_task(connection)
        assert started["started"] > 0
        channel.close()
        os.close(output)


def test_it_ends_with_its_lifeline_and_leaves_nothing(runtime: Path, lifeline: subprocess.Popen[bytes]) -> None:
    with connect("none", {}, lifeline.pid) as connection:
        channel, output, started = start_task(connection)
        task = os.pidfd_open(started["started"])
        lifeline.kill()
        assert select.select([task], [], [], 20)[0], "the task outlives its warm process"
        while answer(connection):
            pass
        os.close(task)
        channel.close()
        os.close(output)
    with locked():  # which it holds to remove its files
        pass
    assert list((runtime / "scratch").iterdir()) == []


def test_when_a_client_goes_its_task_goes(runtime: Path, lifeline: subprocess.Popen[bytes]) -> None:
    connection = connect("none", {}, lifeline.pid)
    channel, output, started = start_task(connection)
    task = os.pidfd_open(started["started"])
    connection.close()
    assert select.select([task], [], [], 20)[0], "the task outlives its supervisor"
    os.close(task)
    channel.close()
    os.close(output)


def test_a_signal_right_after_the_start_is_not_lost(runtime: Path, lifeline: subprocess.Popen[bytes]) -> None:
    with connect("none", {}, lifeline.pid) as connection:
        channel, theirs = socket.socketpair()
        output, written = os.pipe()
        stacks = os.memfd_create("stacks")
        send_start(connection, "spawn", (written, theirs.fileno(), stacks))
        connection.send(json.dumps({"signal": signal.SIGTERM}).encode())
        for fd in (written, stacks, theirs.detach()):
            os.close(fd)
        assert answer(connection)["started"] > 0
        try:
            assert select.select([connection], [], [], 3)[0], "the signal was lost"
            assert answer(connection) == {"exited": -signal.SIGTERM}
        finally:
            channel.close()
            os.close(output)
