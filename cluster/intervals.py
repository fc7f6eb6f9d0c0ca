"""Sets of time: unions of intervals, and how much of them lies in other intervals."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

Times = npt.NDArray[np.int64]


class Cover:
    """The instants that lie in at least one of some intervals `[start, end)` of whole numbers, each counted once.

    Attributes:
        starts, ends: `[n]`, of the intervals that are left when overlapping ones are joined, in order.
    """

    def __init__(self, spans: Iterable[Sequence[int]] | Times = ()) -> None:
        found = np.asarray(spans if isinstance(spans, np.ndarray) else [*spans], np.int64).reshape(-1, 2)
        found = found[found[:, 0] < found[:, 1]]
        found = found[np.argsort(found[:, 0], kind="stable")]
        reached = np.maximum.accumulate(found[:, 1]) if len(found) else found[:, 1]
        begins = np.flatnonzero(np.append(True, found[1:, 0] > reached[:-1])[: len(found)])
        self.starts: Times = found[begins, 0]
        self.ends: Times = reached[np.append(begins[1:], len(found)) - 1] if len(found) else found[:, 1]
        self._lengths: Times = np.append(0, np.cumsum(self.ends - self.starts))

    def __or__(self, other: Cover) -> Cover:
        return Cover(np.stack((np.append(self.starts, other.starts), np.append(self.ends, other.ends)), axis=1))

    def __bool__(self) -> bool:
        return len(self.starts) > 0

    @property
    def length(self) -> int:
        """Of all of it."""
        return int(self._lengths[-1])

    def before(self, times: Times) -> Times:
        """`[n]`: how much of it lies before each of `times`."""
        index = np.searchsorted(self.starts, times, side="right")
        over = np.where(index > 0, np.append(0, self.ends)[index] - times, 0)
        lengths: Times = self._lengths[index] - np.maximum(0, over)
        return lengths

    def within(self, windows: Cover) -> int:
        """How much of it lies in `windows`."""
        return int(np.sum(self.before(windows.ends) - self.before(windows.starts)))
