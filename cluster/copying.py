"""When a run directory is copied to remote storage while its run goes on: when asked, and as often as is cheap."""

from __future__ import annotations

import time
from collections.abc import Callable

from cluster.errors import StorageError
from cluster.storage import RunDirectory

#: Seconds between two copies at least, and between them so many times what the last one took.
EVERY, TIMES = 30.0, 20.0


def pause_after(took: float) -> float:
    """Seconds from a copy that took so long to the next: meanwhile the launcher does nothing else.

    A file that has grown is copied whole, and the events of a large job that runs for days are gigabytes.
    """
    return max(EVERY, TIMES * took)


class Copying:
    """The copies of one run directory; on a local file system there is nothing to copy.

    Args:
        directory: the run directory.
        tell: is given a sentence when the storage refuses; the next copy, and the last at the latest, tries again.
        clock: seconds.
    """

    def __init__(
        self, directory: RunDirectory, tell: Callable[[str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._directory, self._tell, self._clock = directory, tell, clock
        self._next = clock() + EVERY

    def now(self) -> None:
        """Copy what changed."""
        begun = self._clock()
        try:
            self._directory.upload()
        except StorageError as error:
            self._tell(f"not uploaded yet: {error}")
        ended = self._clock()
        self._next = ended + pause_after(ended - begun)

    def if_due(self) -> None:
        """Copy what changed, unless the last time was just now."""
        if self._clock() >= self._next:
            self.now()
