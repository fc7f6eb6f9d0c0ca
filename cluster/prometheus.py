"""A run's numbers as Prometheus metrics, by the metrics agent of each Ray node.

All are gauges: Ray forgets a gauge some seconds after its process has ended, a counter never, and on a cluster that
lives long each run would leave its labels behind for good.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

#: Series of one run that differ in what the user names: metrics that are reported.
MAX_METRICS = 30


@dataclass(frozen=True)
class Metric:
    """A metric's help and the labels that it has besides those which Ray gives each."""

    help: str
    labels: tuple[str, ...] = ("run",)


_TASK = ("run", "role", "task")
#: All metrics by name; Ray puts `ray_` before it.
METRICS: Mapping[str, Metric] = {
    "tfcluster_step": Metric("Last step that the leader reported"),
    "tfcluster_steps_per_second": Metric("Steps a second over the last 30 s"),
    "tfcluster_examples_per_second": Metric("Rows a second over the last 30 s, over all tasks"),
    "tfcluster_attempt": Metric("Attempt that the run is in, from 1"),
    "tfcluster_restarts": Metric("Restarts so far, of the whole job and of tasks in their place"),
    "tfcluster_failures": Metric("Failures so far: tasks that failed or were lost, and hangs"),
    "tfcluster_checkpoint_step": Metric("Step of the newest checkpoint"),
    "tfcluster_tasks": Metric("Tasks in a state, such as running or lost", ("run", "role", "state")),
    "tfcluster_metric": Metric("Newest value of a metric that the job reports", ("run", "metric")),
    "tfcluster_task_step": Metric("Last step that the task reported", _TASK),
    "tfcluster_task_input_busy": Metric("Share of the time in which the task was reading its dataset", _TASK),
    "tfcluster_task_cpus": Metric("Processors in use by the task's processes", _TASK),
    "tfcluster_task_memory_bytes": Metric("Resident memory of the task's processes", _TASK),
    "tfcluster_task_gpu_utilization": Metric("Mean utilisation of the task's GPUs, from 0 to 1", _TASK),
    "tfcluster_task_gpu_memory_bytes": Metric("Memory in use on the task's GPUs", _TASK),
}


class Gauges:
    """Sets gauges in a process that is connected to Ray; whatever goes wrong there is nobody's loss.

    Ray tells each value once and forgets it 20 s later: what is still true has to be set again and again.

    Args:
        labels: what all of them have: the run's name, of a task also its role and name.
    """

    def __init__(self, labels: Mapping[str, str]) -> None:
        self._labels = {name: _label(value) for name, value in labels.items()}
        self._gauges: dict[str, Any] = {}

    def set(self, name: str, value: float | None, **labels: str) -> None:
        """Set a metric of `METRICS`; None does not, and of NaN and infinities Ray tells nobody."""
        if value is None:
            return
        with contextlib.suppress(Exception):
            own = {name: _label(text) for name, text in labels.items()}
            self._gauge(name).set(float(value), tags={**self._labels, **own})

    def _gauge(self, name: str) -> Any:
        if name not in self._gauges:
            from ray.util.metrics import Gauge

            self._gauges[name] = Gauge(name, METRICS[name].help, METRICS[name].labels)
        return self._gauges[name]


def _label(text: str) -> str:
    """`text` as Ray 2.60 takes it for a label's value, which it encodes as ASCII; not too long."""
    return text[:100].encode("ascii", "backslashreplace").decode()


def run_label(run_dir: str) -> str:
    """The name of a run by its directory, a path or URI."""
    return run_dir.rstrip("/").rpartition("/")[2]
