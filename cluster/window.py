"""The leader's side of a capture by steps, or of a block of code: training waits until every task records."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from cluster.channel import Channel

#: Longest wait for the other tasks, in seconds; training is not held up for ever by a capture.
PATIENCE = 20.0


class Window:
    """Asks the launcher for a capture when training comes to its first step, and for its end after the last.

    Args:
        channel: to the launcher.
        steps: the first and the last step that are traced, from 1; None for no steps.
    """

    def __init__(self, channel: Channel, steps: tuple[int, int] | None = None) -> None:
        self._channel = channel
        self._steps = steps
        self._begun = ""
        self._going = threading.Event()
        channel.on("trace_go", lambda command: self._going.set())

    @property
    def waits(self) -> bool:
        """Whether steps are still to come that it waits for."""
        return self._steps is not None

    def before(self, step: int, count: int = 1) -> None:
        """Steps `step` to `step + count - 1` are about to run.

        The capture begins a step early and ends a step late: other tasks may already be in the one, and still in the
        other.
        """
        if self._steps is None:
            return
        first, last = self._steps
        if step > last + 1:
            self._steps = None
            self.close()
        elif not self._begun and step + count >= first:
            self._open(steps=self._steps)

    @contextmanager
    def block(self, tasks: tuple[str, ...] | None) -> Iterator[None]:
        """Trace while the block runs."""
        if self._begun:  # by steps: that capture goes on
            yield
            return
        self._open(tasks=tasks)
        try:
            yield
        finally:
            self.close()

    def _open(self, **what: Any) -> None:
        self._begun = secrets.token_hex(4)
        self._going.clear()
        self._channel.send("profile", id=self._begun, status="wanted", **what)
        self._going.wait(PATIENCE)

    def close(self) -> None:
        """End the capture, if one goes on; its files come together while training goes on."""
        if self._begun:
            self._channel.send("profile", id=self._begun, status="enough")
            self._begun = ""
