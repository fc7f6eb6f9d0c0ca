"""The leak check of tests/conftest.py finds what was left running, however far it went away."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys

from tests.conftest import listening_ports, started_by_tests, still_running

#: Forks a grandchild into a session of its own, prints its process id and leaves it to init.
DETACH = """
import os, signal
os.setsid()
pid = os.fork()
if pid:
    print(pid, flush=True)
    os._exit(0)
os.closerange(0, 3)
signal.pause()
"""


def test_finds_a_process_that_left_its_session_and_parent(no_leaks: list[str]) -> None:
    before = set(started_by_tests())
    done = subprocess.run([sys.executable, "-c", DETACH], capture_output=True, text=True, check=True)
    left = int(done.stdout)
    assert set(still_running((), before, seconds=0)) == {left}
    assert not still_running(("signal.pause",), before, seconds=0)
    os.kill(left, signal.SIGKILL)
    assert not still_running((), before, seconds=10)


def test_finds_a_listening_port(no_leaks: list[str]) -> None:
    before = listening_ports()
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert listening_ports() - before == {server.getsockname()[1]}
    assert listening_ports() == before
