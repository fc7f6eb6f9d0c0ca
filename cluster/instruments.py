"""What the launcher makes of a run's numbers: `usage` events, Prometheus metrics, TensorBoard's scalars, the result."""

from __future__ import annotations

import itertools
import time
from typing import Any

from cluster import chart
from cluster.board_scalars import BoardScalars
from cluster.errors import StorageError
from cluster.events import Event
from cluster.meters import Meters
from cluster.prometheus import MAX_METRICS, Gauges, run_label
from cluster.samples import Samples
from cluster.storage import RunDirectory
from cluster.tasks import Task

#: Seconds between two updates of the Prometheus metrics; Ray reports every 10 s.
PUBLISH_SECONDS = 5.0
#: The curve's file in the run directory.
CURVE = "curve.svg"


class Instruments:
    """One run's; `take` is called with every event as it is emitted.

    Args:
        leader: the task whose progress is the job's.
        tasks: all of them.
        directory: the run directory.
    """

    def __init__(self, leader: Task, tasks: tuple[Task, ...], directory: RunDirectory) -> None:
        self.meters = Meters(leader)
        self.meters.expect(tasks)
        self._directory = directory
        self._samples = Samples(len(tasks))
        self._board = BoardScalars(tasks, self.meters, directory)
        self._gauges = Gauges({"run": run_label(directory.uri)})
        self._published = 0.0
        self._states: dict[tuple[str, str], int] = {}

    def take(self, event: Event) -> None:
        """Take what has happened.

        Raises:
            StorageError: TensorBoard's scalars cannot be written.
        """
        self.meters.take(event)
        self._board.take(event)

    def sample(self, event: Event) -> None:
        """Take a supervisor's sample of its task, which goes into the next `usage` event."""
        assert event.task is not None
        self._samples.take(event.task, event.data, time.monotonic())

    def due(self, attempt: int) -> list[Event]:
        """A `usage` event, if it is time for one; also brings the Prometheus metrics up to date now and then."""
        now = time.monotonic()
        if now - self._published >= PUBLISH_SECONDS:
            self._published = now
            self._publish()
        return self.rest(attempt) if self._samples.due(now) else []

    def rest(self, attempt: int) -> list[Event]:
        """The samples that have not been told yet, as an event."""
        tasks = self._samples.drain(time.monotonic())
        return [Event("usage", attempt, data={"tasks": tasks})] if tasks else []

    def result(self) -> dict[str, Any]:
        """What `result.json` gets; draws the learning curves."""
        return {**self.meters.summary(), "curve": CURVE if self._draw() else None}

    def _draw(self) -> bool:
        """Whether there are curves, and the picture could be written; if not, the result will say why."""
        points = self.meters.curves.points()
        if not points:
            return False
        try:
            self._directory.write(CURVE, chart.draw(points, self.meters.restarted_at))
        except (StorageError, ArithmeticError, ValueError):  # no metric's value may cost the result
            return False
        return True

    def _publish(self) -> None:
        meters, gauges = self.meters, self._gauges
        rate = meters.pace.now(time.time())
        for name, value in {
            "step": meters.step or None,  # a script that reports nothing is at no step that anybody knows
            "steps_per_second": rate,
            "examples_per_second": meters.examples(rate),
            "attempt": meters.attempt,
            "restarts": meters.restarts,
            "failures": meters.failures,
            "checkpoint_step": meters.checkpoint,
        }.items():
            gauges.set(f"tfcluster_{name}", value)
        left = {of: 0 for of, count in self._states.items() if count}  # told once; then Ray forgets them
        self._states = {**left, **meters.states()}
        for (role, state), count in self._states.items():
            gauges.set("tfcluster_tasks", count, role=role, state=state)
        for metric, value in itertools.islice(meters.metrics.items(), MAX_METRICS):
            gauges.set("tfcluster_metric", value, metric=metric)
