"""What does it cost to be observed?

    python -m benchmarks.observe [--quick] [--json FILE] [--only CASE …]

`cost`: the processor time that observation takes of the task's process, the supervisors, the launcher and Ray, by turns
of the same steps with everything that observes them and with nothing of it; see `benchmarks.observe_cost`.

`steps`: Keras' fit on two workers, in one run, in turns with everything that observes it (reports, samples of
processors and memory, events, metrics, TensorBoard's scalars; the profiler idle) and with nothing of it. Each turn is
compared with the one after it, so a machine that drifts does not matter.

`apart`: the same on one task that has a core for itself, while launcher, supervisor and Ray have the others: what a
step takes longer where a machine has cores to spare.

`traces`: a step's time while all is traced against that just before and after it, of two workers that fill the machine
and of one task with a core for itself; and how long the traces of eight tasks take to come together, which make small
steps with pauses, as tasks do whose accelerators work.

`events`: the launcher's own work for 1,000 tasks that report as often as tasks do: messages through Ray's object
store, events, metrics, files. The tasks are simulated; everything else is what a run does.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.observe_cores import first_core_free

HERE = Path(__file__).parent
CASES = ("apart", "cost", "events", "steps", "traces")
Row = dict[str, Any]


def apart(seconds: float, pairs: int) -> list[Row]:
    """Step times of a task alone on the first core, with and without observation; all else is on the other cores."""
    with first_core_free() as core:
        if core is None:
            print("apart needs two cores", file=sys.stderr)
            return []
        return steps(seconds, pairs, {"strategy": "none", "roles": {"worker": 1}}, core)


#: Two workers, on which the machine is busy.
PAIR: dict[str, Any] = {"strategy": "multi_worker_mirrored", "roles": {"worker": 2}}


def steps(seconds: float, pairs: int, tasks: dict[str, Any] = PAIR, core: int | None = None) -> list[Row]:
    """Step times with and without observation, by turns of so many seconds; `core` is the tasks' only one."""
    from benchmarks import observe_workload as workload
    from cluster import run
    from cluster.console import SilentConsole

    setattr(sys.modules["cluster.workers"], "Worker", workload.Switched)  # noqa: B010  # what the gang is made of
    rows = []
    for workload_name, units in (("3 × 128", 128), ("3 × 1024", 1024)):
        with tempfile.TemporaryDirectory(prefix="tfcluster-observe-") as folder:
            os.environ[workload.SWITCH] = f"{folder}/on"
            document: dict[str, Any] = {
                "entrypoint": "observe_workload.py:train",
                "args": {"folder": folder, "seconds": seconds, "pairs": pairs, "units": units, "core": core},
                **tasks,
                "storage": f"{folder}/runs",
            }
            run(document, directory=HERE, observer=SilentConsole())
            turns = json.loads(Path(folder, "turns-0.json").read_text())
        rows += rows_of(f"steps{'' if core is None else ' apart'}, layers of {workload_name}", turns)
    return rows


def rows_of(case: str, turns: list[tuple[bool, float]]) -> list[Row]:
    """Median step with and without, and the median of the ratios of neighbours with its 95 % interval."""
    on, off = ([value for observed, value in turns if observed is which] for which in (True, False))
    ratios = np.array(on) / np.array(off)
    chosen = np.random.default_rng(7).choice(ratios, (10_000, len(ratios)))
    low, high = np.percentile(np.median(chosen, axis=1), [2.5, 97.5])
    common = {"case": case, "unit": "ms a step"}
    return [
        {
            **common,
            "system": "nothing observed",
            "value": statistics.median(off) * 1000,
            "reference": True,
            "ratio": 1.0,
        },
        {
            **common,
            "system": "everything, profiler idle",
            "value": statistics.median(on) * 1000,
            "reference": False,
            "ratio": float(np.median(ratios)),
            "95 %": [float(low), float(high)],
            "pairs": len(ratios),
        },
    ]


def events(seconds: float) -> list[Row]:
    """The launcher's share of a core with so many tasks, the tasks' reports coming as they do in a run."""
    from benchmarks.observe_launcher import launcher_share

    rows = []
    for tasks in (100, 1000):
        for system, kind in (("Keras' fit", "fit"), ("ctx.report in each step", "report")):
            share, rate, megabytes = launcher_share(tasks, kind, seconds)
            print(f"{tasks} tasks, {system}: {share:.2f} of a core, {rate:.0f} events/s", file=sys.stderr)
            rows.append(
                {
                    "case": f"events of {tasks} tasks",
                    "system": system,
                    "value": share,
                    "unit": "cores",
                    "reference": False,
                    "ratio": None,
                    "events_per_second": rate,
                    "megabytes_per_hour": megabytes,
                }
            )
    return rows


def show(rows: list[Row]) -> None:
    """The table that the documentation shows."""
    table = Table(title=f"observe · {platform.processor() or platform.machine()} · {os.cpu_count()} cores")
    for column in ("case", "system", "value", "ratio", "more"):
        table.add_column(column)
    for row in rows:
        ratio = "" if row["ratio"] is None else f"{row['ratio']:.4f}"
        more = "".join(f"{row[key][0]:.4f} to {row[key][1]:.4f} ({key})" for key in ("95 %", "all") if key in row)
        if "cores" in row:
            low, high = row["cores 95 %"]
            more += f"; {row['cores']:.5f} of a core ({low:.5f} to {high:.5f})"
        if "events_per_second" in row:
            more = f"{row['events_per_second']:.0f} events/s, {row['megabytes_per_hour']:.0f} MB/h"
        value = f"{row['value']:,.0f}" if abs(row["value"]) >= 1000 else f"{row['value']:.3g}"
        table.add_row(row["case"], row["system"], f"{value} {row['unit']}", ratio, more)
    Console(width=170).print(table)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.observe", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a few minutes")
    parser.add_argument("--json", type=Path, help="file to write the rows to")
    parser.add_argument("--only", nargs="*", choices=CASES, default=list(CASES), help="cases; default: all")
    options = parser.parse_args()
    rows: list[Row] = []
    if "cost" in options.only:
        from benchmarks import observe_cost

        rows += observe_cost.rows(3 if options.quick else 8)
    if "events" in options.only:
        rows += events(15.0 if options.quick else 60.0)
    if "apart" in options.only:
        rows += apart(2.0, 6 if options.quick else 40)
    if "steps" in options.only:
        rows += steps(6.0, 6 if options.quick else 30)
    if "traces" in options.only:
        from benchmarks import observe_traces

        rows += observe_traces.rows(3 if options.quick else 12)
    show(rows)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
