"""Where a launcher's events come from: messages of the supervisors, their loss, and timers."""

from __future__ import annotations

import contextlib
import heapq
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from cluster.events import Event
from cluster.preflight import draining_nodes, nodes_from_ray
from cluster.tasks import Task
from cluster.workers import Gang

#: Longest wait for a message before the clock is looked at, in seconds.
TICK = 0.5


@dataclass
class Inbox:
    """What one attempt's supervisors have been asked, and what is due at a time.

    Log lines go to `on_log` as they come; everything else comes out of `wait` as events of that attempt.
    """

    on_log: Callable[[Task, str], None]
    polls: dict[Any, Task] = field(default_factory=dict)  # a supervisor's `next`
    starts: dict[Any, Task] = field(default_factory=dict)  # a supervisor's `start`
    timers: list[tuple[float, int, Event]] = field(default_factory=list)
    order: itertools.count[int] = field(default_factory=itertools.count)

    def listen(self, gang: Gang, task: Task, begun: Any) -> None:
        """Take messages of `task`, whose supervisor was asked to start it by the call `begun`."""
        self.starts[begun] = task
        if task not in self.polls.values():
            self.polls[gang.workers[task].next.remote()] = task

    def after(self, seconds: float, event: Event) -> None:
        """Have `wait` return `event`, `seconds` from now."""
        heapq.heappush(self.timers, (time.monotonic() + seconds, next(self.order), event))

    def clear(self) -> None:
        """Forget the attempt."""
        self.polls, self.starts, self.timers = {}, {}, []

    def wait(self, gang: Gang | None, attempt: int) -> list[Event]:
        """Events since the last call, waiting up to `TICK` seconds for one."""
        due = self.timers[0][0] - time.monotonic() if self.timers else TICK
        patience = max(0.0, min(TICK, due))
        if gang is None or not (self.polls or self.starts):
            time.sleep(patience)
            events = []
        else:
            events = self._messages(gang, attempt, patience)
        while self.timers and self.timers[0][0] <= time.monotonic():
            events.append(heapq.heappop(self.timers)[2])
        return events

    def _messages(self, gang: Gang, attempt: int, patience: float) -> list[Event]:
        import ray

        waiting = [*self.polls, *self.starts]
        done, _ = ray.wait(waiting, num_returns=1, timeout=patience)
        if done:
            done, _ = ray.wait(waiting, num_returns=len(waiting), timeout=0)
        events = []
        for ref in done:
            events += self._start_failed(ref, attempt) if ref in self.starts else self._polled(gang, ref, attempt)
        return events

    def _polled(self, gang: Gang, ref: Any, attempt: int) -> list[Event]:
        import ray
        from ray.exceptions import RayError

        task = self.polls.pop(ref)
        try:
            messages = ray.get(ref)
        except RayError as error:
            return [lost(gang, task, attempt, error)]
        self.polls[gang.workers[task].next.remote()] = task
        return [e for kind, data in messages for e in self._message(attempt, task, kind, data)]

    def _message(self, attempt: int, task: Task, kind: Any, data: dict[str, Any]) -> list[Event]:
        if kind == "log":
            self.on_log(task, data["text"])
            return []
        return [Event(kind, attempt, task, data)]

    def _start_failed(self, ref: Any, attempt: int) -> list[Event]:
        """What kept a supervisor from starting its task; a dead supervisor's poll says so itself."""
        import ray
        from ray.exceptions import RayError, RayTaskError

        task = self.starts.pop(ref)
        try:
            ray.get(ref)
        except RayTaskError as error:
            data = {"happened": f"{task} could not be started", "seen": str(error.cause), "todo": "see Ray's logs"}
            return [Event("startup_failed", attempt, data=data)]
        except RayError:
            return []
        return []

    def drain(self, gang: Gang) -> None:
        """Take the log lines that arrived since the last `wait`; other messages come too late to matter."""
        import ray

        polls, self.polls = self.polls, {}
        for task in polls.values():
            gang.workers[task].nudge.remote()
        done, _ = ray.wait(list(polls), num_returns=len(polls), timeout=2.0) if polls else ([], [])
        for ref in done:
            with contextlib.suppress(Exception):
                for kind, data in ray.get(ref):
                    self._message(0, polls[ref], kind, data)


def lost(gang: Gang, task: Task, attempt: int, error: Exception) -> Event:
    """A supervisor died: with its node, or alone. Nothing comes back in its place on a node that is being drained."""
    node = gang.landings[task].node
    node_alive = node in {node.id for node in nodes_from_ray()} and not _drains(node)
    what = "its supervisor was ended" if node_alive else "its node was lost"
    reason = f"{what} ({type(error).__name__})"
    return Event("lost", attempt, task, {"reason": reason, "node_alive": node_alive})


def _drains(node: str) -> bool:
    with contextlib.suppress(Exception):  # Ray's own errors, whose classes are private
        return node in draining_nodes()
    return False
