"""The line between a task and its supervisor: events up, commands down, one JSON document a line."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
from typing import Any


class Channel:
    """A task's end. `send` may be called from any thread; commands are kept until asked for."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._write = threading.Lock()
        self._changed = threading.Condition()
        self._released = False
        self._checkpoints: list[int] = []
        self._last: tuple[int | None] | None = None
        threading.Thread(target=self._listen, name="tfcluster-channel", daemon=True).start()

    def send(self, kind: str, **data: Any) -> None:
        """Send one event; its data must be JSON values (others are written as text)."""
        line = (json.dumps({"kind": kind, **data}, default=_plain) + "\n").encode()
        with self._write:
            self._connection.sendall(line)

    def wait_for_release(self) -> None:
        """Block until the launcher lets the task go."""
        with self._changed:
            self._changed.wait_for(lambda: self._released)

    def next_checkpoint(self) -> int | None:
        """The newest checkpoint not yet returned, waiting for one; None after the last."""
        with self._changed:
            self._changed.wait_for(lambda: self._checkpoints or self._last is not None)
            if self._checkpoints:
                newest = self._checkpoints[-1]
                self._checkpoints.clear()
                return newest
            return None

    def _listen(self) -> None:
        with self._connection.makefile("rb") as lines:
            for line in lines:
                self._take(json.loads(line))
        # The supervisor is gone, so nobody watches this task any more.
        os.killpg(os.getpgrp(), signal.SIGKILL)

    def _take(self, command: dict[str, Any]) -> None:
        with self._changed:
            if command["kind"] == "release":
                self._released = True
            elif command["kind"] == "checkpoint":
                self._checkpoints.append(command["step"])
            elif command["kind"] == "drain":
                self._last = (command["checkpoint"],)
            self._changed.notify_all()


def _plain(value: Any) -> Any:
    """Numbers of numpy and TensorFlow as Python numbers, arrays as lists, anything else as text."""
    if hasattr(value, "numpy"):
        value = value.numpy()
    return value.tolist() if hasattr(value, "tolist") else str(value)
