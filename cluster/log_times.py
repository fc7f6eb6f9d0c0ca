"""When the lines of a log arrived: marks beside it, `OFFSET SECONDS`, at most one a second. Pure.

Output has no times of its own: `print` writes none, and TensorFlow writes its node's clock without a time zone. Text
from byte OFFSET on arrived at SECONDS since the Unix epoch, on the launcher's clock, or within the second after.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field

#: Seconds of text that share a mark.
GRAIN = 1.0


def mark(offset: int, at: float) -> str:
    """One line of `logs/<task>.times`."""
    return f"{offset} {at:.2f}\n"


@dataclass
class LogTimes:
    """The marks of one log.

    Attributes:
        offsets: in bytes, ascending.
        seconds: when the text from each of them on began to arrive.
    """

    offsets: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def add(self, text: str) -> None:
        """Take further marks; a line that is none, cut by a full disk, is passed over."""
        for offset, at in _marks(text):
            if not self.offsets or offset >= self.offsets[-1]:
                self.offsets.append(offset)
                self.seconds.append(at)

    def at(self, offset: int) -> float | None:
        """When the byte `offset` arrived; None before the first mark."""
        position = bisect_right(self.offsets, offset)
        return self.seconds[position - 1] if position else None

    def since(self, at: float) -> int | None:
        """Where the text begins that arrived at `at` or later, or within `GRAIN` before; None where there is none."""
        later = (offset for offset, seconds in zip(self.offsets, self.seconds, strict=True) if seconds >= at - GRAIN)
        return next(later, None) if self.offsets else 0

    def until(self, at: float) -> int | None:
        """Where the text ends that had arrived by `at`, or within `GRAIN` after; None where none is later."""
        later = (offset for offset, seconds in zip(self.offsets, self.seconds, strict=True) if seconds > at)
        return next(later, None)


def _marks(text: str) -> Iterator[tuple[int, float]]:
    for line in text.splitlines():
        offset, _, seconds = line.partition(" ")
        try:
            yield int(offset), float(seconds)
        except ValueError:
            continue
