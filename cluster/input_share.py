"""How much of the time a task was reading its dataset."""

from __future__ import annotations

import time
from collections.abc import Callable

from pipelines.busy import Busy, reads


class InputShare:
    """The share of the time since it was last asked in which at least one read was under way.

    Near 1 the reader never rests, so it sets the pace, or just keeps it; near 0 it is done long before its batches are
    wanted. What TensorFlow makes of the batches after that, such as a `map` of the user's, is not in it.

    Args:
        busy: what adds up the reads.
        clock: that it goes by.
    """

    def __init__(self, busy: Busy = reads, clock: Callable[[], float] = time.monotonic) -> None:
        self._busy, self._clock = busy, clock
        self._at, self._read = clock(), busy.seconds()

    def share(self) -> float | None:
        """From 0 to 1; None as long as this task has read nothing through us."""
        at, read = self._clock(), self._busy.seconds()
        seconds, self._at = at - self._at, at
        busy, self._read = read - self._read, read
        if not read or seconds <= 0:
            return None
        return round(min(1.0, busy / seconds), 3)
