"""Which processes a run on this machine consists of, and the processor time that they have used."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

_TICK = 1 / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Processes:
    """The processes of one run, by number; `ray` are those of a Ray of its own."""

    launcher: frozenset[int]
    supervisors: frozenset[int]
    tasks: frozenset[int]
    ray: frozenset[int]

    def seconds(self) -> dict[str, float]:
        """Processor seconds of each group so far."""
        return {name: sum(map(seconds_of, pids)) for name, pids in vars(self).items()}


def processes_of(run_dir: str) -> Processes:
    """The processes of the run in `run_dir`, all of whose tasks have started."""
    events = [json.loads(line) for line in Path(run_dir, "events.jsonl").read_text().splitlines()]
    (launcher,) = [event["pid"] for event in events if event["kind"] == "run_started"]
    (supervisors,) = [frozenset(event["supervisors"].values()) for event in events if event["kind"] == "placed"]
    tasks = frozenset(event["pid"] for event in events if event["kind"] == "task_started")
    rest = below(launcher) - supervisors - tasks
    return Processes(frozenset({launcher}), supervisors, tasks, rest)


def below(pid: int) -> frozenset[int]:
    """The processes that `pid` has started, and those that they have."""
    parents = {number: int(fields[1]) for number in _numbers() if (fields := _stat(number))}
    found, new = set[int](), {pid}
    while new:
        new = {child for child, parent in parents.items() if parent in new} - found
        found |= new
    return frozenset(found)


def seconds_of(pid: int) -> float:
    """User and system time of all threads of a process, those that have ended too; 0 of one that is gone."""
    fields = _stat(pid)
    return (int(fields[11]) + int(fields[12])) * _TICK if fields else 0.0


def _numbers() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _stat(pid: int) -> list[str]:
    """What proc(5) tells of a process after its name; nothing of one that is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return []
