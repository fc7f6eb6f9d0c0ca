"""The task's side of a capture: trace this process when the launcher says so, and keep the file until it is taken.

The launcher sends `trace` {id, at, seconds}, `trace_end` {id} and, when it has the file or does without, `trace_taken`
{id}; the task answers with `profile` messages: `tracing` when it records, `traced` with the file's path, its size and
notes on it, or `failed` with a reason. See `cluster.captures`.
"""

from __future__ import annotations

import shutil
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from cluster.capture import LONGEST
from cluster.channel import Channel

#: Longest time in which a task that is done waits for its capture to be saved.
_SAVING = 60.0
#: And one that has failed, in seconds: for its trace to be saved, on a machine that may be busy, and to be fetched.
_LEAVING, _FETCHING = 8.0, 4.0
_CUT = f"cut after {LONGEST:g} s, the longest that a task is traced: later steps are not in it"


class Tracer:
    """Carries out the captures of one task, one at a time, each in a thread of its own."""

    def __init__(self, channel: Channel, scratch: Path) -> None:
        self._channel, self._scratch = channel, scratch
        self._ended = threading.Event()
        self._id = ""
        self._thread: threading.Thread | None = None
        self._folders: dict[str, Path] = {}  # of captures, by their ids
        self._taken = threading.Condition()  # is told when one of them goes
        channel.on("trace", self._begin)
        channel.on("trace_end", self._end)
        channel.on("trace_taken", self._remove)

    @property
    def busy(self) -> bool:
        """Whether a capture goes on, so that there will be another word on it."""
        return self._thread is not None and self._thread.is_alive()

    def finish(self, patience: float = _SAVING) -> None:
        """End the capture that goes on, if any, and wait until it is saved and told of."""
        if self._thread is not None:
            self._ended.set()
            self._thread.join(patience)

    def leave(self) -> None:
        """As `finish`, of a task that has failed: for some seconds only, in which its trace is fetched, too.

        What it has recorded is lost with this process, whose scratch folder goes with it.
        """
        self.finish(_LEAVING)
        if self.busy:
            self._tell(self._id, "failed", reason="its code failed while it was traced, and its trace was not saved")
            return
        with self._taken:
            self._taken.wait_for(lambda: not self._folders, _FETCHING)

    def _begin(self, command: dict[str, Any]) -> None:
        if self.busy:
            self._tell(command["id"], "failed", reason="another capture goes on in this task")
            return
        self._ended.clear()
        self._id = command["id"]
        self._thread = threading.Thread(target=self._capture, args=(command,), name="tfcluster-trace", daemon=True)
        self._thread.start()

    def _end(self, command: dict[str, Any]) -> None:
        if command["id"] == self._id:
            self._ended.set()

    def _remove(self, command: dict[str, Any]) -> None:
        """Keep nothing of a capture: a job of weeks may be traced every hour."""
        folder = self._folders.pop(command["id"], None)
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
        with self._taken:
            self._taken.notify_all()

    def _capture(self, command: dict[str, Any]) -> None:
        try:
            path, notes = self._trace(command)
            size = path.stat().st_size
        except Exception as error:  # whatever it is, the training goes on
            self._remove(command)
            self._tell(command["id"], "failed", reason=str(error) or type(error).__name__)
        else:
            self._tell(command["id"], "traced", path=str(path), bytes=size, notes=notes)

    def _trace(self, command: dict[str, Any]) -> tuple[Path, list[str]]:
        """The file, and what there is to say of it."""
        from cluster import profiler

        folder = self._folders[command["id"]] = Path(tempfile.mkdtemp(prefix="trace-", dir=self._scratch))
        self._ended.wait(profiler.wall_clock(command.get("at") or 0.0))
        profiler.begin(folder)
        began = time.monotonic()
        self._tell(command["id"], "tracing", at=time.time())
        seconds = command.get("seconds")
        told = self._ended.wait(min(seconds or LONGEST, LONGEST) - (time.monotonic() - began))
        trace = profiler.end(folder)
        return trace.path, [*trace.notes, *([] if told or seconds else [_CUT])]

    def _tell(self, capture: str, status: str, **data: Any) -> None:
        self._channel.send("profile", id=capture, status=status, **data)
