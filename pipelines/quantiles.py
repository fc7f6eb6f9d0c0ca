"""`Quantiles`: a sketch of the order of numbers, small, mergeable, reproducible, and with an error that it knows.

It keeps sorted samples in levels; a sample of level `h` stands for `2**h` numbers. A level that grows beyond `SAMPLES`
is halved: every other sample moves one level up. This is the scheme of Manku, Rajagopalan and Lindsay, "Approximate
medians and other quantiles in one pass" (1998), and of the KLL sketches after it. Where those flip a coin, the halves
are taken in turns, so that the same data gives the same answer each time.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

#: Samples that a level holds at most. Up to so many numbers, nothing is lost.
SAMPLES = 4096

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Quantiles:
    """Of numbers without NaN.

    Attributes:
        levels: sorted samples; those of level `h` stand for `2**h` numbers each.
        error: how many places a number's rank may be off, at most; 0 means exact.
        halvings: how many levels have been halved, which decides whose turn it is.
        samples: the most that a level holds.
    """

    levels: tuple[Array, ...] = ()
    error: int = 0
    halvings: int = 0
    samples: int = SAMPLES

    @property
    def count(self) -> int:
        """How many numbers there were."""
        return sum(len(level) << h for h, level in enumerate(self.levels))

    def merge(self, other: Quantiles) -> Quantiles:
        """Of the numbers of both."""
        joined = [
            np.sort(np.concatenate(pair)) for pair in itertools.zip_longest(self.levels, other.levels, fillvalue=_NONE)
        ]
        return _shrink(joined, self.error + other.error, self.halvings + other.halvings, self.samples)

    def at(self, fractions: list[float]) -> list[int | float]:
        """The number at each fraction of the way from the least to the greatest.

        With `n` numbers it is the one at index `floor(fraction * (n - 1))` of their order, give or take `error`.
        """
        if not self.count:
            return []
        values = np.concatenate(self.levels)
        weights = np.concatenate([np.full(len(level), 1 << h) for h, level in enumerate(self.levels)])
        order = np.argsort(values, kind="stable")
        ends = np.cumsum(weights[order])
        indices = np.floor(np.array(fractions) * (self.count - 1)).astype(np.int64)
        found: list[int | float] = values[order][np.searchsorted(ends, indices, side="right")].tolist()
        return found


#: Joins any dtype without widening it.
_NONE = np.empty(0, np.bool_)


def quantiles_of(values: Array, samples: int = SAMPLES) -> Quantiles:
    """Of `values`, `[n]`, without NaN; every `2**h`-th is kept, from the middle of its neighbours."""
    ordered = np.sort(values)
    height = 0
    while len(ordered) >> height > samples:
        height += 1
    step = 1 << height
    whole = len(ordered) - len(ordered) % step
    levels = [ordered[whole:]] + [_NONE] * (height - 1) + [ordered[step // 2 : whole : step]] if height else [ordered]
    return _shrink(levels, step // 2, 0, samples)


def _shrink(levels: list[Array], error: int, halvings: int, samples: int) -> Quantiles:
    """Halve, from the bottom up, what holds too much."""
    height = 0
    while height < len(levels):
        level = levels[height]
        if len(level) > samples:
            even = len(level) - len(level) % 2
            moved = level[halvings % 2 : even : 2]
            levels[height] = level[even:]
            if height + 1 == len(levels):
                levels.append(_NONE)
            levels[height + 1] = np.sort(np.concatenate([levels[height + 1], moved]))
            error, halvings = error + (1 << height), halvings + 1
        height += 1
    return Quantiles(tuple(levels), error, halvings, samples)
