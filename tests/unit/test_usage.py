"""What a process group takes of this machine, seen on real processes, and how samples become events."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.samples import EVERY, FIRST, TASKS, Samples
from cluster.tasks import Task
from cluster.usage import Gpus, Sampler, read_session

#: 150 MB, then a child of the same session, which is busy for half a second of processor time and tells.
BUSY = """
import subprocess, sys
kept = bytearray(b"x") * (150 << 20)
code = "import time\\nwhile time.process_time() < 0.5: pass\\nprint('busy', flush=True)\\ninput()"
child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE)
sys.stdin.readline()
child.communicate(b"\\n")
print("child ended", flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def session() -> Iterator[subprocess.Popen[str]]:
    """A session of two processes, when the child is about to be busy."""
    process = subprocess.Popen(
        [sys.executable, "-c", BUSY], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    yield process
    process.kill()
    process.communicate()


def told(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def tell(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def test_a_session_is_all_its_processes_also_those_that_have_ended(session: subprocess.Popen[str]) -> None:
    sampler = Sampler(session.pid)
    assert told(session) == "busy"
    sample = sampler.sample()
    assert sample is not None
    assert sample["cpus"] * sample["seconds"] > 0.45  # the child's; 0.01 s is what the kernel counts in
    assert 150 << 20 < sample["memory"] < 400 << 20
    reading = read_session(session.pid)
    assert reading is not None
    tell(session)
    assert told(session) == "child ended"
    after = read_session(session.pid)
    assert after is not None
    assert after.cpu_seconds >= reading.cpu_seconds
    assert after.memory < reading.memory


def test_a_session_that_has_ended_has_no_sample() -> None:
    command = [sys.executable, "-c", "input()"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)
    sampler = Sampler(process.pid)
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and nobody has taken note
    assert sampler.sample() is None
    process.communicate()
    assert read_session(process.pid) is None


def test_a_task_that_does_not_lead_its_session_yet_is_sampled_later() -> None:
    command = [sys.executable, "-c", "import os; input(); os.setsid(); print(1, flush=True); input()"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    sampler = Sampler(process.pid)
    tell(process)
    assert told(process) == "1"
    sample = sampler.sample()
    process.communicate("\n")
    assert sample is not None
    assert sample["memory"] > 1 << 20


def test_names_of_processes_do_not_confuse(tmp_path: Path) -> None:
    fields = ["S", "1", "7", "7", *["0"] * 7, "100", "50", "3", "2", *["0"] * 6, "10", *["0"] * 20]
    for pid, text in (("7", f"7 (evil) S 9 9 9 (x) {' '.join(fields)}"), ("8", "8 (gone"), ("self", "")):
        (tmp_path / pid).mkdir()
        (tmp_path / pid / "stat").write_text(text)
    reading = read_session(7, tmp_path, lambda pid: 7)
    assert reading is not None
    assert reading.cpu_seconds == pytest.approx(155 / os.sysconf("SC_CLK_TCK"))
    assert reading.memory == 10 * os.sysconf("SC_PAGE_SIZE")
    assert read_session(9, tmp_path, lambda pid: 9) is None


def test_gpus_that_are_not_there_are_silent() -> None:
    assert Gpus(()).read() == {}
    assert Gpus(("no such GPU",)).read() == {}


def test_samples_of_all_tasks_become_one_event_now_and_then() -> None:
    samples = Samples(2)
    assert not samples.due(0.0)
    samples.take(Task("worker", 0), {"cpus": 1.0, "memory": 100, "seconds": 2.0}, 10.0)
    samples.take(Task("worker", 1), {"cpus": 0.5, "memory": 50, "seconds": 2.0, "gpu": 0.5, "gpu_memory": 9}, 10.5)
    assert not samples.due(10.0 + FIRST - 0.1)
    assert samples.due(10.0 + FIRST)
    samples.take(Task("worker", 0), {"cpus": 2.0, "memory": 80, "seconds": 6.0}, 12.0)
    assert samples.drain(13.0) == {
        "worker-0": {"cpus": 1.75, "memory": 100},
        "worker-1": {"cpus": 0.5, "gpu": 0.5, "memory": 50, "gpu_memory": 9},
    }
    assert not samples.due(1000.0)  # nothing to tell
    samples.take(Task("worker", 0), {"cpus": 1.0, "memory": 1, "seconds": 5.0}, 14.0)
    assert not samples.due(13.0 + EVERY - 0.1)
    assert samples.due(13.0 + EVERY)


def test_events_of_many_tasks_are_fewer() -> None:
    samples = Samples(4 * TASKS)
    for now in (0.0, 5.0):
        samples.take(Task("worker", 0), {"cpus": 1.0, "memory": 1, "seconds": 5.0}, now)
        samples.drain(now)
    samples.take(Task("worker", 0), {"cpus": 1.0, "memory": 1, "seconds": 5.0}, 6.0)
    assert not samples.due(5.0 + 4 * EVERY - 1)
    assert samples.due(5.0 + 4 * EVERY)
