"""How much of the time something goes on, of which several may go on at once: reading, for one."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class Busy:
    """Adds up the time in which at least one of the blocks that it guards runs; safe to use from several threads.

    Args:
        clock: seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._running = 0
        self._since = self._seconds = 0.0

    def __enter__(self) -> None:
        with self._lock:
            if not self._running:
                self._since = self._clock()
            self._running += 1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._running -= 1
            if not self._running:
                self._seconds += self._clock() - self._since

    def seconds(self) -> float:
        """So far, also of what runs now."""
        with self._lock:
            return self._seconds + (self._clock() - self._since if self._running else 0.0)


#: The reads of this process, for all of its datasets.
reads = Busy()
