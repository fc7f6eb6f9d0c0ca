"""What tracing costs a job and how long its traces take to come together, for `benchmarks.observe`."""

from __future__ import annotations

import json
import statistics
import tempfile
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.observe_cores import first_core_free
from cluster import requests, run
from cluster.captures import LEAD
from cluster.console import SilentConsole
from cluster.events import Event
from cluster.plan import Plan
from cluster.tasks import Task, leader_of

HERE = Path(__file__).parent
#: Seconds that a capture lasts, and of rest before the next one.
SECONDS, REST = 3.0, 4.0


@dataclass
class Tracing(SilentConsole):
    """The observer of a run, which asks for one capture after the other, and ends the run after the last."""

    captures: int
    folder: Path
    leader: Task | None = None
    run_dir: str = ""
    next_at: float | None = None
    windows: list[tuple[float, float]] = field(default_factory=list)
    rests: list[tuple[float, float]] = field(default_factory=list)
    collected: list[tuple[float, int, int]] = field(default_factory=list)

    def plan(self, plan: Plan) -> None:
        """Who leads."""
        self.leader = leader_of(tuple(task.task for task in plan.tasks))

    def event(self, event: Event) -> None:
        """Ask when it is time; note when a capture began and was done."""
        self.run_dir = event.data.get("run_dir", self.run_dir)
        if event.kind == "profile" and event.data["status"] == "tracing":
            self.windows.append((event.at + LEAD, event.at + LEAD + SECONDS))
        elif event.kind == "profile" and event.data["status"] != "collected":
            sizes = [task["bytes"] for task in event.data.get("tasks", {}).values() if task]
            self.collected.append((event.at - self.windows[-1][1], len(sizes), sum(sizes)))
            self.next_at = event.at + REST
        elif event.kind == "step" and event.task == self.leader and event.data["step"] > 50:
            self._ask(event.at)

    def _ask(self, at: float) -> None:
        if self.next_at is None:
            self.next_at = at + REST
        elif at >= self.next_at:
            self.next_at = at + 600.0
            self.rests.append((at - SECONDS, at))
            if len(self.collected) >= self.captures:
                (self.folder / "enough").touch()
            else:
                requests.ask(self.run_dir, kind="profile", seconds=SECONDS, tasks=None)


def traced(
    workers: int, function: str, captures: int, strategy: str = "custom", **arguments: Any
) -> tuple[Tracing, Any]:
    """Run a function of the workload and trace it so often; what was seen, and when the leader's steps ended."""
    with tempfile.TemporaryDirectory(prefix="tfcluster-observe-") as name:
        watch = Tracing(captures, Path(name))
        document: dict[str, Any] = {
            "entrypoint": f"observe_workload.py:{function}",
            "args": {"folder": name, **arguments},
            "strategy": strategy,
            "roles": {"worker": workers},
            "storage": f"{name}/runs",
        }
        run(document, directory=HERE, observer=watch)
        stamps = np.array(json.loads(Path(name, "stamps.json").read_text()))
    return watch, stamps


def step_in(stamps: Any, start: float, stop: float) -> float:
    """Mean seconds between the steps that ended in a window."""
    inside = stamps[(stamps >= start) & (stamps < stop)]
    return float(inside[-1] - inside[0]) / (len(inside) - 1)


def ratios(watch: Tracing, stamps: Any) -> tuple[Any, list[float]]:
    """Of each capture, its step's time in the mean of that before it and that after it; and all of the latter."""
    resting = [step_in(stamps, *rest) for rest in watch.rests]
    around = [(before + after) / 2 for before, after in pairwise(resting)]
    return np.array([step_in(stamps, *window) for window in watch.windows]) / np.array(around), resting


def rows(captures: int) -> list[dict[str, Any]]:
    """Tracing on two workers that train together, and the traces of eight that make small steps with pauses."""
    found = []
    for units in (128, 1024):
        seen = ratios(*traced(2, "stamped", captures, "multi_worker_mirrored", units=units, core=None))
        found.append(row_of(f"traced steps, layers of 3 × {units}", *seen))
    with first_core_free() as core:
        for units in (128, 1024) if core is not None else ():
            seen = ratios(*traced(1, "stamped", captures, "none", units=units, core=core))
            found.append(row_of(f"traced steps apart, layers of 3 × {units}", *seen))
    watch, _ = traced(8, "paced", captures)
    seconds, tasks, size = (statistics.median(column) for column in zip(*watch.collected, strict=True))
    found.append(
        {
            "case": f"traces of {tasks:.0f} tasks, {SECONDS:g} s each",
            "system": f"{size / 1e6:.1f} MB",
            "value": seconds,
            "unit": "s until they lie in the run directory, with their verdict",
            "reference": False,
            "ratio": None,
        }
    )
    return found


def row_of(case: str, traced_steps: Any, resting: list[float]) -> dict[str, Any]:
    """The median of the ratios with its 95 % interval, and how long a step takes."""
    chosen = np.random.default_rng(7).choice(traced_steps, (10_000, len(traced_steps)))
    low, high = np.percentile(np.median(chosen, axis=1), [2.5, 97.5])
    return {
        "case": case,
        "system": f"{len(traced_steps)} captures",
        "value": statistics.median(resting) * 1000,
        "unit": "ms an untraced step",
        "reference": False,
        "ratio": float(np.median(traced_steps)),
        "95 %": [float(low), float(high)],
    }
