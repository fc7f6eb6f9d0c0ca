"""What the launcher writes for TensorBoard: reported metrics and the pace, the evaluator's metrics, each task's use."""

from __future__ import annotations

import time
from collections.abc import Mapping

from cluster import scalars
from cluster.curves import MAX_METRICS
from cluster.events import Event
from cluster.meters import Meters, numbers
from cluster.storage import RunDirectory
from cluster.tasks import Task

#: Tasks whose use TensorBoard gets as a run of its own; of more, the first of each role.
MAX_SHOWN = 32
#: Names of TensorBoard's runs, which are folders: of the leader's reports, and of the evaluator's.
REPORTS, EVALUATOR = "reports", "evaluator"


class BoardScalars:
    """Those of one run; `take` is called with every event, after its meters have taken it.

    Args:
        tasks: all of them.
        meters: of the run.
        directory: the run directory.
    """

    def __init__(self, tasks: tuple[Task, ...], meters: Meters, directory: RunDirectory) -> None:
        self._meters, self._directory = meters, directory
        self._shown = {str(task) for task in _first_of_each_role(tasks, MAX_SHOWN)}
        self._files: dict[str, str] = {}
        self._known: dict[str, set[str]] = {}  # tags, by run
        self._attempt = 0  # of the last report
        self._began = time.time()

    def take(self, event: Event) -> None:
        """Take what has happened.

        Raises:
            StorageError: it cannot be written.
        """
        if event.kind == "step" and event.task == self._meters.leader:
            self._report(event)
        elif event.kind == "evaluated":
            self._write(EVALUATOR, event, event.data["step"], numbers(event.data.get("metrics", {})))
        elif event.kind == "usage":
            seconds = int(event.at - self._began)  # not steps, of which a job that waits makes none
            for name, sample in event.data["tasks"].items():
                if name in self._shown:
                    self._write(f"system/{name}", event, seconds, _tags(sample))

    def _report(self, event: Event) -> None:
        step = int(event.data["step"])
        if event.attempt != self._attempt and 0 <= step <= scalars.MOST_STEPS:
            self._append(REPORTS, event.at, scalars.start(event.at, step))
            self._attempt = event.attempt
        rate = self._meters.pace.now(event.at)
        speed = {"steps_per_second": rate, "examples_per_second": self._meters.examples(rate)}
        known = {name: value for name, value in speed.items() if value is not None}
        self._write(REPORTS, event, step, known | numbers(event.data.get("metrics", {})))

    def _write(self, run: str, event: Event, step: int, values: Mapping[str, float]) -> None:
        known = self._known.setdefault(run, set())
        for name in values:
            if len(known) < MAX_METRICS:
                known.add(name)
        kept = {name: value for name, value in values.items() if name in known}
        if kept and 0 <= step <= scalars.MOST_STEPS:
            self._append(run, event.at, scalars.scalars(event.at, int(step), kept))

    def _append(self, run: str, at: float, record: bytes) -> None:
        file = self._files.get(run)
        if file is None:
            file = self._files[run] = f"tensorboard/{run}/{scalars.event_file(at)}"
            record = scalars.header(at) + record
        self._directory.append(file, record)


def _tags(sample: Mapping[str, float]) -> dict[str, float]:
    """A sample as TensorBoard's tags, memory in GiB."""
    return {
        f"system/{name}_gib" if name.endswith("memory") else f"system/{name}": value / 2**30
        if name.endswith("memory")
        else value
        for name, value in sample.items()
    }


def _first_of_each_role(tasks: tuple[Task, ...], count: int) -> list[Task]:
    """As many tasks as may be shown: of each role those with the lowest indices."""
    return sorted(tasks, key=lambda task: (task.index, task.role))[:count]
