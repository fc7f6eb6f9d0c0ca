"""How long from the call to the end of the first step, against processes started by hand and Ray Train?

    python -m benchmarks.startup [--quick] [--json FILE] [--only CASE …]

Ray Train needs `pip install 'ray[train]'`, which the dependency group `benchmark` has.

Ray itself is up before any clock starts. `cold` is the first run of a Ray, whose warm process must import TensorFlow;
`warm` are the runs after it. All systems train the same tiny tf-keras model (Ray's trainer fails on Keras 3).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

HERE = Path(__file__).parent
ROLES = {
    "multi-worker": {"worker": 2},
    "parameter servers": {"chief": 1, "worker": 2, "ps": 1},
}
STRATEGY = {"multi-worker": "multi_worker_mirrored", "parameter servers": "parameter_server"}
Seen = dict[str, float]


def free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago, as one picks them by hand."""
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [int(probe.getsockname()[1]) for probe in probes]
    for probe in probes:
        probe.close()
    return ports


def collect(folder: str, started: float) -> Seen:
    """The slowest first step of all tasks, and the medians of step time and memory."""
    seen = [json.loads(path.read_text()) for path in Path(folder).glob("*.json")]
    medians = {key: statistics.median(task[key] for task in seen) for key in ("step_ms", "pss_mb", "rss_mb")}
    return {"seconds": max(task["first_step_at"] for task in seen) - started, **medians}


def by_hand(case: str, folder: str) -> Seen:
    """Plain processes with a TF_CONFIG each."""
    roles = ROLES[case]
    ports = iter(free_ports(sum(roles.values())))
    cluster = {role: [f"127.0.0.1:{next(ports)}" for _ in range(count)] for role, count in roles.items()}
    base = {**os.environ, "TF_USE_LEGACY_KERAS": "1", "TF_CPP_MIN_LOG_LEVEL": "2", "GRPC_FAIL_FAST": "use_caller"}
    command = [sys.executable, str(HERE / "startup_workload.py"), folder]
    started = time.time()
    processes = {}
    for role, addresses in cluster.items():
        for index in range(len(addresses)):
            task = {"cluster": cluster, "task": {"type": role, "index": index}}
            env = {**base, "TF_CONFIG": json.dumps(task)}
            processes[role, index] = subprocess.Popen(command, env=env, stderr=subprocess.DEVNULL)
    for (role, _), process in processes.items():
        if case == "multi-worker" or role == "chief":
            process.wait(300)
    for process in processes.values():
        process.kill()
        process.wait()
    return collect(folder, started)


def ours(case: str, folder: str) -> Seen:
    """One `run`, on the Ray that is up."""
    from cluster import run
    from cluster.console import SilentConsole

    document: dict[str, Any] = {
        "entrypoint": "startup_workload.py:train",
        "args": {"folder": folder},
        "strategy": STRATEGY[case],
        "roles": ROLES[case],
        "keras": "2",
        "storage": f"{folder}/runs",
    }
    started = time.time()
    run(document, directory=HERE, observer=SilentConsole())
    return collect(folder, started)


def ray_train(case: str, folder: str) -> Seen:
    """Ray's TensorflowTrainer; it has no parameter servers."""
    from ray.train import RunConfig, ScalingConfig
    from ray.train.tensorflow import TensorflowTrainer

    def loop(config: dict[str, str]) -> None:
        sys.path.insert(0, config["here"])
        import tensorflow as tf

        from benchmarks import startup_workload

        startup_workload.multi_worker(tf.distribute.MultiWorkerMirroredStrategy(), config["folder"])

    started = time.time()
    TensorflowTrainer(
        loop,
        train_loop_config={"folder": folder, "here": str(HERE.parent)},
        scaling_config=ScalingConfig(num_workers=2),
        run_config=RunConfig(storage_path=f"{folder}/train"),
    ).fit()
    return collect(folder, started)


def measure(system: Callable[[str, str], Seen], case: str) -> Seen:
    """One run of one system, in a folder of its own."""
    print(f"{time.strftime('%X')} {case}: {system.__name__}", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory(prefix="tfcluster-startup-") as folder:
        return system(case, folder)


def start_ray() -> None:
    """A fresh Ray, with a new warm process to come."""
    import ray

    env = {"TF_USE_LEGACY_KERAS": "1", "TF_CPP_MIN_LOG_LEVEL": "2"}
    os.environ.update(env)
    ray.init(address="local", num_cpus=8, include_dashboard=False, log_to_driver=False, logging_level="ERROR")


def run_case(case: str, repeats: int) -> dict[str, list[Seen]]:
    """Every system in turn, `repeats` times, so that a drifting machine is the same to all."""
    import ray

    found: dict[str, list[Seen]] = {"by hand": [], "ray-tfcluster, cold": [], "ray-tfcluster, warm": []}
    if case == "multi-worker":
        found["Ray Train"] = []
    for _ in range(repeats):
        start_ray()
        found["ray-tfcluster, cold"].append(measure(ours, case))
        found["by hand"].append(measure(by_hand, case))
        found["ray-tfcluster, warm"].append(measure(ours, case))
        if "Ray Train" in found:
            found["Ray Train"].append(measure(ray_train, case))
        ray.shutdown()
    return found


def rows_of(case: str, found: dict[str, list[Seen]]) -> list[dict[str, Any]]:
    """Medians, and their ratio to processes started by hand."""
    rows = []
    for unit, key in (
        ("s to the end of the first step", "seconds"),
        ("ms a step", "step_ms"),
        ("MB PSS a task", "pss_mb"),
    ):
        reference = statistics.median(seen[key] for seen in found["by hand"])
        for system, runs in found.items():
            value = statistics.median(seen[key] for seen in runs)
            rows.append(
                {"case": case, "system": system, "value": round(value, 3), "unit": unit, "reference": "by hand",
                 "ratio": round(value / reference, 3), "runs": [round(seen[key], 3) for seen in runs]}
            )  # fmt: skip
    return rows


def show(rows: list[dict[str, Any]]) -> None:
    """Print the table that the docs show."""
    import tensorflow as tf

    title = f"{os.cpu_count()} cores, Python {platform.python_version()}, TensorFlow {tf.__version__}"
    table = Table("case", "system", "median", "unit", "ratio to by hand", "least … most", title=title)
    for row in rows:
        spread = f"{min(row['runs']):g} … {max(row['runs']):g}"
        table.add_row(row["case"], row["system"], f"{row['value']:g}", row["unit"], f"{row['ratio']:g}", spread)
    Console(width=120).print(table)


def main() -> None:
    """Measure, print the table, write the JSON file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one repeat")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write the rows there")
    parser.add_argument("--only", nargs="*", choices=[*ROLES], default=[*ROLES], help="cases; default: all")
    options = parser.parse_args()
    rows = [
        row for case in options.only for row in rows_of(case, run_case(case, 1 if options.quick else options.repeats))
    ]
    show(rows)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
