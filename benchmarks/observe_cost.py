"""What observation costs in processor time, by process, for `benchmarks.observe`.

Keras' fit makes the same steps again and again, in turn observed (reports, samples, events, metrics, TensorBoard's
scalars; the profiler idle) and not at all. A turn's processor time is that of each process; two turns that follow each
other are compared. Other work on the machine takes time from a step, but adds next to nothing to its processor time.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
#: Units of the three layers, and steps of a turn: some eight seconds of both.
WORKLOADS = ((128, 1000), (1024, 125))
#: What is counted: in the leader's process all that differs, and our own code alone; then everyone else.
COUNTED = {
    "task": "the leader's process",
    "hooks": "of it, our callbacks",
    "supervisors": "both supervisors",
    "launcher": "the launcher",
    "ray": "Ray's own processes",
}
Row = dict[str, Any]
Turn = dict[str, float]


def rows(pairs: int) -> list[Row]:
    """The costs of all workloads, from so many pairs of turns each."""
    from benchmarks import observe_workload as workload
    from cluster import run
    from cluster.console import SilentConsole

    setattr(sys.modules["cluster.workers"], "Worker", workload.Switched)  # noqa: B010  # what the gang is made of
    setattr(sys.modules["cluster.attempts"], "Instruments", workload.SwitchedInstruments)  # noqa: B010
    found: list[Row] = []
    for units, steps in WORKLOADS:
        with tempfile.TemporaryDirectory(prefix="tfcluster-observe-") as folder:
            os.environ[workload.SWITCH] = f"{folder}/on"
            document: dict[str, Any] = {
                "entrypoint": "observe_workload.py:counted",
                "args": {"folder": folder, "units": units, "steps": steps, "pairs": pairs},
                "strategy": "multi_worker_mirrored",
                "roles": {"worker": 2},
                "storage": f"{folder}/runs",
            }
            run(document, directory=HERE, observer=SilentConsole())
            turns: list[Turn] = json.loads(Path(folder, "counted.json").read_text())
        found += rows_of(f"processor time, layers of 3 × {units}", turns)
    return found


def rows_of(case: str, turns: Sequence[Turn]) -> list[Row]:
    """A step without observation, then what each process spends on it besides, with its share of the step."""
    on, off = ([turn for turn in turns if bool(turn["on"]) is which] for which in (True, False))
    step = float(np.median(per_step(off, "task")))
    common = {"case": case, "unit": "µs a step"}
    first = {**common, "system": "a step, nothing observed", "value": step * 1e6, "reference": True, "ratio": 1.0}
    wall = float(np.median(per_step(on, "wall")))
    return [first, *({**common, **cost(name, on, off, step, wall)} for name in COUNTED)]


def cost(name: str, on: Sequence[Turn], off: Sequence[Turn], step: float, wall: float) -> Row:
    """What one of `COUNTED` costs: the median over pairs, and its 95 % interval by resampling them."""
    differences = per_step(on, name) - per_step(off, name)
    chosen = np.random.default_rng(7).choice(differences, (10_000, len(differences)))
    low, value, high = (float(v) for v in np.percentile(np.median(chosen, axis=1), [2.5, 50, 97.5]))
    return {
        "system": COUNTED[name],
        "value": value * 1e6,
        "reference": False,
        "ratio": value / step,
        "95 %": [low / step, high / step],
        "cores": value / wall,
        "cores 95 %": [low / wall, high / wall],
        "pairs": [float(difference) * 1e6 for difference in differences],
    }


def per_step(turns: Sequence[Turn], name: str) -> Any:
    """Seconds a step, of each turn."""
    return np.array([turn[name] / turn["steps"] for turn in turns])
