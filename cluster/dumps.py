"""Brings the dumps of tasks that do not see the run directory to it, while they wait: no shared disk is needed."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from cluster.debug import FOLDER
from cluster.events import Event
from cluster.notices import Notices
from cluster.pulls import pull
from cluster.tasks import Task


class Dumps:
    """Fetches what tasks say they have dumped, see `cluster.debug`.

    Args:
        folder: the run directory's, on this machine.
        tell: sends a command to a task.
    """

    def __init__(self, folder: Path, tell: Callable[[Task, dict[str, Any]], None]) -> None:
        self._folder, self._tell = folder, tell
        self._pool = ThreadPoolExecutor(4, thread_name_prefix="tfcluster-dumps")
        self._news = Notices()

    def fetch(self, event: Event, worker: Any) -> None:
        """Fetch the files of a `dumps` message, and have the task, whose supervisor is `worker`, go on then."""
        self._pool.submit(self._fetch, event, worker)

    def news(self) -> list[Event]:
        """What went wrong since the last call."""
        return self._news.take()

    def close(self) -> None:
        """Begin nothing more, and keep no thread."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _fetch(self, event: Event, worker: Any) -> None:
        assert event.task is not None
        target = self._folder / FOLDER / str(event.task) / str(event.attempt)
        try:
            target.mkdir(parents=True, exist_ok=True)
            for name in event.data["files"]:
                pull(worker, f"{event.data['folder']}/{name}", target / Path(name).name)
        except Exception as error:  # the task, its node, or this disk: no reason to end the job
            self._news.say(f"the dumps of {event.task} could not be fetched: {type(error).__name__}: {error}")
        self._tell(event.task, {"kind": "dumps_taken"})
