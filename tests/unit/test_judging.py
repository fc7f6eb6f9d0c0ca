"""Verdicts are made in a process of their own: it may lack memory or be killed, and only the verdict is lost."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.judging import StoppedError, UnjudgedError, free_memory, judge_apart
from cluster.verdict import judge_folder
from tests.unit.test_verdict import recorded


def test_a_verdict_is_the_same_as_in_this_process(tmp_path: Path) -> None:
    recorded("straggler", tmp_path)
    (tmp_path / "worker-1.xplane.pb").write_bytes(b"\xff")
    missing = {"worker-2": "it ended"}
    here = judge_folder(tmp_path, strategy="multi_worker_mirrored", missing=missing).to_document()
    assert judge_apart(tmp_path, strategy="multi_worker_mirrored", missing=missing) == here
    assert here["missing"] == {"worker-1": "the trace is damaged", **missing}


def test_very_many_tasks_may_lack_a_trace(tmp_path: Path) -> None:
    missing = {f"worker-{index}": "the launcher could not fetch it, and nobody knows why" for index in range(3000)}
    assert judge_apart(tmp_path, strategy="multi_worker_mirrored", missing=missing)["missing"] == missing


def test_it_takes_the_memory_that_is_free_or_none(tmp_path: Path) -> None:
    with open(tmp_path / "worker-0.xplane.pb", "wb") as file:
        file.truncate(100_000_000)
    with pytest.raises(UnjudgedError, match=r"^it takes 1\.3 GB of memory, and 0\.5 GB may be taken$"):
        judge_apart(tmp_path, strategy="none", missing={}, memory=5e8)


def test_a_process_that_is_killed_costs_its_verdict_only(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "worker-0.xplane.pb")  # nobody ever writes into it

    def kill() -> bool:
        for pid in children():
            os.kill(pid, signal.SIGKILL)
        return False

    with pytest.raises(UnjudgedError, match="its process was ended by SIGKILL, for want of memory perhaps"):
        judge_apart(tmp_path, strategy="none", missing={}, stopped=kill)


def test_a_process_that_cannot_begin_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    with pytest.raises(UnjudgedError, match=r"its process could not be started: .*No such file"):
        judge_apart(tmp_path, strategy="none", missing={})
    (tmp_path / "python").write_text("#!/bin/sh\necho here >&2\necho MemoryError >&2\nexit 1\n")
    (tmp_path / "python").chmod(0o755)
    with pytest.raises(UnjudgedError, match="its process ended with 1: MemoryError"):
        judge_apart(tmp_path, strategy="none", missing={})


def test_a_verdict_that_nobody_waits_for_ends_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "worker-0.xplane.pb")
    with pytest.raises(StoppedError):
        judge_apart(tmp_path, strategy="none", missing={}, stopped=lambda: True)
    assert not list(children())


def children() -> Iterator[int]:
    """Processes of `cluster.judging` that this one has."""
    for task in Path("/proc/self/task").iterdir():
        for pid in (task / "children").read_text().split():
            if b"cluster.judging" in Path(f"/proc/{pid}/cmdline").read_bytes():
                yield int(pid)


@pytest.mark.parametrize(
    ("limit", "used", "cached", "free"),
    [
        ("max", "5", "0", 8e9),
        ("3000000000", "1000000000", "500000000", 2.5e9),
        ("1", "2", "0", 0.0),
        (None, None, None, 8e9),
    ],
)
def test_free_memory_is_that_of_the_machine_and_of_the_container(
    tmp_path: Path, limit: str | None, used: str | None, cached: str | None, free: float
) -> None:
    (tmp_path / "meminfo").write_text("MemTotal: 9000000 kB\nMemAvailable:    7812500 kB\n")
    if limit is not None:
        (tmp_path / "memory.max").write_text(f"{limit}\n")
        (tmp_path / "memory.current").write_text(f"{used}\n")
        (tmp_path / "memory.stat").write_text(f"anon 7\ninactive_file {cached}\n")
    assert free_memory(tmp_path, tmp_path) == free
    assert 0 < free_memory() < 1e14
