"""Which nodes of a job Ray is about to lose: preempted, evicted, drained or scaled down."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from cluster.events import Event
from cluster.preflight import draining_nodes
from cluster.workers import Gang

#: Seconds between two looks, and after one that Ray did not answer.
EVERY, LATER = 1.0, 10.0


class Drains:
    """Looks at the nodes of a gang now and then.

    Args:
        look: the nodes that are being drained, by id, and when they end, as `draining_nodes` has it.
        clock: that it goes by.
    """

    def __init__(
        self,
        look: Callable[[], Mapping[str, float | None]] = draining_nodes,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._look, self._clock = look, clock
        self._next = 0.0
        self._told: set[tuple[int, str]] = set()

    def news(self, gang: Gang | None, attempt: int) -> list[Event]:
        """An event for each node of the gang of which it has not been told yet in that attempt."""
        now = self._clock()
        if gang is None or now < self._next:
            return []
        self._next = now + EVERY
        try:
            draining = self._look()
        except Exception:  # Ray's own errors, whose classes are private; whether Ray is gone is for others to say
            self._next = now + LATER
            return []
        return [
            _event(gang, node, ends, attempt) for node, ends in draining.items() if self._is_news(gang, node, attempt)
        ]

    def _is_news(self, gang: Gang, node: str, attempt: int) -> bool:
        known = (attempt, node) in self._told or all(landing.node != node for landing in gang.landings.values())
        self._told |= set() if known else {(attempt, node)}
        return not known


def _event(gang: Gang, node: str, ends: float | None, attempt: int) -> Event:
    tasks = [str(task) for task, landing in gang.landings.items() if landing.node == node]
    seconds = None if ends is None else round(max(0.0, ends - time.time()), 1)
    return Event("node_draining", attempt, data={"node": gang.hosts[node], "tasks": tasks, "seconds": seconds})
