"""What a run tells in numbers, on two real workers: events, Prometheus metrics, TensorBoard, the result."""

from __future__ import annotations

import json
import os
import threading
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.prometheus import METRICS, Gauges
from tests.ray.conftest import Job
from tests.ray.dashboard import DASHBOARD, Prometheus, prometheus

pytestmark = pytest.mark.timeout(240)
__all__ = ["prometheus"]  # a fixture

Series = tuple[str, frozenset[tuple[str, str]]]


@pytest.fixture
def pipes(tmp_path: Path, start: Callable[..., Job]) -> Iterator[list[int]]:
    """What each worker waits for at its end, and a third task, also when the test fails."""
    found = []
    for index in range(3):
        os.mkfifo(tmp_path / f"go-{index}")
        found.append(os.open(tmp_path / f"go-{index}", os.O_RDWR))
    yield found
    let_go(found)
    for pipe in found:
        os.close(pipe)


def let_go(pipes: list[int]) -> None:
    for pipe in pipes:
        os.write(pipe, b"go\n")


@pytest.fixture
def observed(start: Callable[..., Job], pipes: list[int], tmp_path: Path) -> Job:
    """A job of two workers, which train and then wait for `let_go`."""
    ids = np.arange(1024)
    for name in ("train", "valid"):
        table = pa.table({"x": ids.astype(np.float32) / 1024, "y": ids.astype(np.float32)})
        pq.write_table(table, tmp_path / f"{name}.parquet")
    settings = {"batch": 64, "label": "y"}
    return start(
        entrypoint="observe.py:fit",
        args={"folder": str(tmp_path)},
        strategy="multi_worker_mirrored",
        roles={"worker": 2},
        failure={"max_restarts": 0},
        data={
            "train": {"files": str(tmp_path / "train.parquet"), **settings},
            "valid": {"files": str(tmp_path / "valid.parquet"), **settings, "batch": 128},
        },
    )


def scraped(run: str) -> dict[Series, float]:
    """The samples that Ray's metrics agent exports of a run, by name and labels."""
    import ray
    from prometheus_client.parser import text_string_to_metric_families

    found = {}
    for node in (node for node in ray.nodes() if node["Alive"]):  # Ray lists those of earlier tests too
        url = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
        with urllib.request.urlopen(url, timeout=10) as answer:
            lines = [line for line in answer.read().decode().splitlines() if "tfcluster" in line]
        for family in text_string_to_metric_families("\n".join(lines)):
            for sample in family.samples:
                if sample.labels.get("run") == run:
                    found[sample.name, frozenset(sample.labels.items())] = sample.value
    return found


def values(samples: dict[Series, float], name: str, *labels: str) -> dict[Any, float]:
    """A metric's values by some of its labels, or by all."""
    return {
        tuple(dict(series)[label] for label in labels or sorted(dict(series))): value
        for (metric, series), value in samples.items()
        if metric == f"ray_{name}"
    }


def test_a_run_is_seen_in_prometheus_tensorboard_and_its_result(observed: Job, pipes: list[int]) -> None:
    last = observed.wait_for("step", lambda event: event.data["step"] == 64 and str(event.task) == "worker-0")
    assert last.data["batch"] == 64  # of all workers together, and not that of the other dataset
    assert 0.0 <= last.data["input_busy"] <= 1.0
    run = Path(observed.events[0].data["run_dir"]).name
    expected = {f"ray_{name}" for name in METRICS if "gpu" not in name}

    def told() -> bool:
        samples = scraped(run)
        steps = [*values(samples, "tfcluster_task_step").values(), *values(samples, "tfcluster_step").values()]
        return steps == [64, 64, 64] and {name for name, _ in samples} >= expected

    pause = threading.Event()
    while not told():  # Ray reports every 10 s
        assert observed.error is None
        pause.wait(1.0)
    check_metrics(scraped(run))
    let_go(pipes)
    check_result(observed)
    check_usage(observed)


def check_metrics(samples: dict[Series, float]) -> None:
    """Each metric has its value and its labels, and nobody has more series than he has tasks."""
    assert values(samples, "tfcluster_step", "run").popitem()[1] == 64
    assert values(samples, "tfcluster_attempt", "run").popitem()[1] == 1
    assert values(samples, "tfcluster_restarts", "run").popitem()[1] == 0
    assert values(samples, "tfcluster_failures", "run").popitem()[1] == 0
    assert values(samples, "tfcluster_checkpoint_step", "run").popitem()[1] == 64
    assert set(values(samples, "tfcluster_metric", "metric")) == {("loss",), ("val_loss",), ("gr\\xf6\\xdfe",)}
    assert values(samples, "tfcluster_task_step", "role", "task") == {
        ("worker", "worker-0"): 64,
        ("worker", "worker-1"): 64,
    }
    assert values(samples, "tfcluster_tasks", "state")["running",] == 2
    for name in ("tfcluster_task_cpus", "tfcluster_task_memory_bytes", "tfcluster_task_input_busy"):
        assert set(values(samples, name, "task")) == {("worker-0",), ("worker-1",)}
    for name, labels in samples:
        assert set(METRICS[name.removeprefix("ray_")].labels) <= {label for label, _ in labels}
    by_name = [name for name, _ in samples]
    assert max(map(by_name.count, by_name)) <= 4  # two tasks; or states, of which some have just passed


def check_usage(job: Job) -> None:
    """Every task was sampled."""
    samples = [(name, sample) for e in job.events if e.kind == "usage" for name, sample in e.data["tasks"].items()]
    assert {name for name, _ in samples} == {"worker-0", "worker-1"}
    for _, sample in samples:
        assert 0.0 <= sample["cpus"] < 64
        assert 50 << 20 < sample["memory"] < 8 << 30
    assert max(sample["memory"] for _, sample in samples) > 200 << 20  # TensorFlow is in it


def check_result(job: Job) -> None:
    """The result's numbers, the curves, and TensorBoard's files."""
    result = job.join()
    assert result.steps == 64
    assert result.steps_per_second is not None
    assert result.steps_per_second > 0
    assert result.examples_per_second == pytest.approx(64 * result.steps_per_second, rel=1e-3)
    assert result.input_busy is not None
    assert result.restarts == 0
    assert result.usage["worker"]["memory"] > 100 << 20
    folder = Path(result.run_dir)
    written = json.loads((folder / "result.json").read_text())
    assert written["curve"] == "curve.svg"
    assert written["usage"] == result.usage
    drawn = "".join(ElementTree.parse(folder / "curve.svg").getroot().itertext())
    for name in ("loss", "val_loss", "steps_per_second"):
        assert name in drawn
    (file,) = (folder / "tensorboard" / "reports").glob("events.out.tfevents.*")
    assert all(tag in file.read_bytes() for tag in (b"loss", b"val_loss", b"steps_per_second", b"examples_per_second"))
    for task in ("worker-0", "worker-1"):
        (file,) = (folder / "tensorboard" / "system" / task).glob("events.out.tfevents.*")
        assert b"system/memory_gib" in file.read_bytes()


def test_the_dashboard_shows_the_runs_in_a_real_prometheus(
    prometheus: Prometheus, observed: Job, pipes: list[int], start: Callable[..., Job], tmp_path: Path
) -> None:
    """Each query of each panel has an answer, which is right; of a run that reports nothing no step is made up."""
    silent = start(entrypoint="observe.py:wait", args={"folder": str(tmp_path)}, roles={"worker": 1})
    for job in (observed, silent):
        job.wait_for("run_started")
    run, other = (Path(job.events[0].data["run_dir"]).name for job in (observed, silent))
    gpu = Gauges({"run": run, "role": "worker", "task": "worker-0"})  # nobody has one here
    pause = threading.Event()
    while not is_complete(prometheus, run, other):
        assert observed.error is None
        assert silent.error is None
        gpu.set("tfcluster_task_gpu_utilization", 0.25)
        gpu.set("tfcluster_task_gpu_memory_bytes", 2**30)
        pause.wait(1.0)
    check_panels(prometheus, run, other)
    let_go(pipes)
    observed.join()
    silent.join()


def is_complete(prometheus: Prometheus, run: str, other: str) -> bool:
    """Whether all panels have something to show, the last step too, of both runs."""
    rows, behind = prometheus.table(".+"), prometheus.panel("Steps behind", run)["A"]
    return (
        rows.get(run, {}).get("Step") == 64
        and rows[run].get("Checkpoint") == 64
        and [row.get("Tasks running") for row in (rows[run], rows.get(other, {}))] == [2, 1]
        and [value for _, value in behind] == [0, 0]
        and all(all(prometheus.panel(panel["title"], run).values()) for panel in DASHBOARD["panels"])
    )


def check_panels(prometheus: Prometheus, run: str, other: str) -> None:
    assert set(prometheus.runs()) >= {run, other}
    rows = prometheus.table(f"({run}|{other})")
    assert rows[other] == {"Tasks running": 1, "Attempt": 1, "Restarts": 0, "Failures": 0}
    assert set(rows[run]) == {*rows[other], "Step", "Steps/s", "Examples/s", "Checkpoint"}
    assert rows[run]["Examples/s"] == pytest.approx(64 * rows[run]["Steps/s"], rel=0.5)
    tasks = {("worker-0", run), ("worker-1", run)}
    for title, lowest, highest in (
        ("Input busy", 0.0, 1.0),
        ("Steps behind", 0.0, 0.0),
        ("Processors in use", 0.0, 64.0),
        ("Memory", 50 << 20, 8 << 30),
    ):
        series = prometheus.panel(title, run)["A"]
        assert {(labels["task"], labels["run"]) for labels, _ in series} == tasks, title
        assert all(lowest <= value <= highest for _, value in series), title
    for title, value in (("GPU utilisation", 0.25), ("GPU memory", 2**30)):
        assert prometheus.panel(title, run)["A"] == [({"run": run, "task": "worker-0"}, value)]
    states = {labels["state"]: value for labels, value in prometheus.panel("Tasks by state", f"({run}|{other})")["A"]}
    assert states["running"] == 3
    metrics = {labels["metric"] for labels, _ in prometheus.panel("Metrics", run)["A"]}
    assert metrics == {"loss", "val_loss", "gr\\xf6\\xdfe"}
