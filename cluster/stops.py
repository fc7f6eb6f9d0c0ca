"""A task's stops between its steps, at which all tasks save together when one of their nodes is about to be lost."""

from __future__ import annotations

import threading
from typing import Any

from cluster.agreement import Promise
from cluster.channel import Channel

#: Longest wait for the launcher's word, in seconds; it answers in far less, or is gone, and this task with it.
PATIENCE = 60.0
#: Longest stay after saving, in seconds, for the launcher to end the attempt.
STAY = 60.0


class Stops:
    """Answers the launcher's proposals, see `cluster.agreement`, and waits where they lead to.

    Args:
        channel: to the launcher.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._promise = Promise()
        channel.on("stop_proposed", self._proposed)
        channel.on("stop_agreed", self._agreed)

    def come(self) -> bool:
        """A stop: whether this task is to save now, as all are that train in step with it."""
        promise = self._promise
        with self._lock:
            promise.comes = True
            promise.passed += 1
            if promise.stop != promise.passed:
                return False
            self._changed.wait_for(lambda: not promise.waits, PATIENCE)
            if promise.waits:
                promise.stop = 0
            return promise.saves

    def none_follow(self) -> None:
        """Training is over, or goes on later."""
        with self._changed:
            self._promise.comes = False

    @property
    def saving(self) -> bool:
        """Whether this task is at the stop that all save at."""
        return self._promise.saves

    def stay(self) -> None:
        """After saving at such a stop, wait for the end: steps made now would be lost. Elsewhere nothing."""
        promise = self._promise
        with self._changed:
            self._changed.wait_for(lambda: not promise.saves, STAY)
            if promise.saves:
                promise.stop = 0

    def _proposed(self, command: dict[str, Any]) -> None:
        with self._changed:
            heard = self._promise.hear(command["round"], command["stop"])
            answer = self._promise.answer
            self._changed.notify_all()
        if heard:
            self._channel.send("stop_answer", round=command["round"], passed=answer)

    def _agreed(self, command: dict[str, Any]) -> None:
        with self._changed:
            self._promise.agree(command["round"])
            self._changed.notify_all()
