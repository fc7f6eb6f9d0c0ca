"""A task's reports of its steps: how often they are sent, and what goes with them."""

from __future__ import annotations

import operator
import time
from collections.abc import Callable, Mapping
from typing import Any

from cluster.channel import Channel
from cluster.errors import SpecError
from cluster.input_share import InputShare
from cluster.metric_names import metric_name
from cluster.scalars import MOST_STEPS

#: `report` sends at most one step in this many seconds; the last is never lost.
REPORT_SECONDS = 0.1
#: Tasks beside the leader that may report as often as it does; of more, each reports less often.
OTHERS = 25


class Reports:
    """The reports of one task.

    Args:
        channel: to the supervisor.
        leader: whether its steps are the job's.
        tasks: how many report.
        batch: rows of a step over all tasks, as far as they are known.

    Attributes:
        total: steps of the whole training, where the train function has said it.
    """

    def __init__(self, channel: Channel, *, leader: bool, tasks: int, batch: Callable[[], int | None]) -> None:
        self._channel, self._leader, self._tasks, self._batch = channel, leader, tasks, batch
        self.total: int | None = None
        self._input = InputShare()
        self._unsent: tuple[int, dict[str, float]] | None = None
        self._sent = 0.0

    def keep(self, step: int, metrics: dict[str, float]) -> None:
        """Keep a step, in the place of the last one that was kept, and of each metric the newest value."""
        _, unsent = self._unsent or (0, {})
        self._unsent = step, {**unsent, **metrics}

    def taken(self) -> dict[str, float]:
        """The metrics that were kept, which are kept no longer."""
        _, metrics = self._unsent or (0, {})
        self._unsent = None
        return metrics

    def flush(self, *, if_due: bool = False) -> None:
        """Send what was kept; with `if_due`, unless the last time was just now."""
        if self._unsent is None or (if_due and time.monotonic() - self._sent < self.every(REPORT_SECONDS)):
            return
        self._sent = time.monotonic()
        step, metrics = self._unsent
        self._unsent = None
        self.send(step, metrics)

    def send(self, step: int, metrics: dict[str, float], **more: Any) -> None:
        """Send one `step` event now."""
        if self._leader and (batch := self._batch()) is not None:
            more["batch"] = batch
        if self._leader and self.total is not None:
            more["total"] = self.total
        if (share := self._input.share()) is not None:
            more["input_busy"] = share
        self._channel.send("step", step=step, metrics=metrics, **more)

    def every(self, least: float) -> float:
        """Shortest time between two reports of this task: `least`, or more, if there are many tasks.

        The leader's reports are the job's. All others together report no more often than `OTHERS` of them would.
        """
        return least if self._leader else least * max(1.0, self._tasks / OTHERS)


def total_of(value: Any) -> int:
    """A total of steps that a train function has said, as Python's own whole number; NumPy and TensorFlow have others.

    Raises:
        SpecError: it is no whole number, or none above 0.
    """
    try:
        total = 0 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        total = 0
    if total < 1:
        todo = "set it to the steps of the whole training, as an int; where they are not known, leave it alone"
        raise SpecError("ctx.total_steps is a whole number, 1 or more", repr(value), todo)
    return total


def step_of(value: Any) -> int:
    """A step that a train function reports, as a whole number; what `int` takes is one.

    Raises:
        SpecError: it is no number, below 0, or larger than any file can hold.
    """
    try:
        step = int(value)
    except (TypeError, ValueError, OverflowError):
        step = -1
    if not 0 <= step <= MOST_STEPS:
        todo = "report the steps that are done so far, as an int"
        raise SpecError("a reported step is a whole number, 0 or more", _seen(value), todo)
    return step


def metrics_of(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Metrics that a train function reports: their values as numbers, their names fit to be shown.

    Raises:
        SpecError: a value is no number.
    """
    found = {}
    for name, value in metrics.items():
        try:
            found[metric_name(name)] = float(value)
        except (TypeError, ValueError, OverflowError):
            todo = "report one value of an array or tensor, such as its mean, and leave out what is not known"
            raise SpecError(
                "a reported metric is one number that a float can hold", f"{metric_name(name)}={_seen(value)}", todo
            ) from None
    return found


def _seen(value: Any) -> str:
    """`value` in a few words of one line."""
    try:
        text = " ".join(repr(value).split())
    except ValueError:  # a whole number of thousands of digits
        text = f"{type(value).__name__} of very many digits"
    return text if len(text) <= 100 else text[:99] + "…"
