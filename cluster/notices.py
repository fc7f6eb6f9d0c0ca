"""Sentences for the user that threads leave, and the launcher's loop takes."""

from __future__ import annotations

from collections import deque

from cluster.events import Event


class Notices:
    """Safe to use from several threads."""

    def __init__(self) -> None:
        self._waiting: deque[Event] = deque()

    def say(self, text: str, **more: str) -> None:
        """Leave a `notice` event."""
        self._waiting.append(Event("notice", data={"text": text, **more}))

    def take(self) -> list[Event]:
        """Those since the last call."""
        return [self._waiting.popleft() for _ in range(len(self._waiting))]
