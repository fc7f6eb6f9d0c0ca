"""The line between a task and its supervisor: events up, commands down, one JSON document a line."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
from collections.abc import Callable
from typing import Any


class Channel:
    """A task's end. `send` may be called from any thread; commands are kept until asked for."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._write = threading.Lock()
        self._changed = threading.Condition()
        self._released = False
        self._newest: int | None = None  # step of the newest checkpoint heard of
        self._returned: int | None = None  # and of the newest one that was asked for
        self._drained = False
        self._handlers: dict[str, Callable[[dict[str, Any]], None]] = {}
        threading.Thread(target=self._listen, name="tfcluster-channel", daemon=True).start()

    def send(self, kind: str, **data: Any) -> None:
        """Send one event; its data must be JSON values (others are written as text)."""
        line = (json.dumps({"kind": kind, **data}, default=_plain) + "\n").encode()
        with self._write:
            self._connection.sendall(line)

    def on(self, kind: str, handler: Callable[[dict[str, Any]], None]) -> None:
        """Call `handler` with every command of that kind, on the channel's thread: it must not block."""
        self._handlers[kind] = handler

    def wait_for_release(self) -> None:
        """Block until the launcher lets the task go."""
        with self._changed:
            self._changed.wait_for(lambda: self._released)

    def next_checkpoint(self) -> int | None:
        """The newest checkpoint not yet returned, waiting for one; None after the last."""
        with self._changed:
            self._changed.wait_for(lambda: self._newest != self._returned or self._drained)
            if self._newest == self._returned:
                return None
            self._returned = self._newest
            return self._newest

    def _listen(self) -> None:
        try:
            with self._connection.makefile("rb") as lines:
                for line in lines:
                    self._take(json.loads(line))
        finally:  # the supervisor is gone, so nobody watches this task any more
            os.killpg(os.getpgrp(), signal.SIGKILL)

    def _take(self, command: dict[str, Any]) -> None:
        if (handler := self._handlers.get(command["kind"])) is not None:
            handler(command)
        with self._changed:
            if command["kind"] == "release":
                self._released = True
            elif command["kind"] == "checkpoint":
                self._hear_of(command["step"])
            elif command["kind"] == "drain":
                self._drained = True
                self._hear_of(command["checkpoint"])
            self._changed.notify_all()

    def _hear_of(self, step: int | None) -> None:
        """Of a checkpoint; news may overtake each other on their way through Ray, and an older one is none."""
        if step is not None and (self._newest is None or step > self._newest):
            self._newest = step


def _plain(value: Any) -> Any:
    """Numbers of numpy and TensorFlow as Python numbers, arrays as lists, anything else as text."""
    if hasattr(value, "numpy"):
        value = value.numpy()
    return value.tolist() if hasattr(value, "tolist") else str(value)
