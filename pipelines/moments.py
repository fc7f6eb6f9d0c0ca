"""`Moments`: count, mean, variance, least and greatest of numbers, of parts that can be merged in any order."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Moments:
    """Of finite numbers.

    Attributes:
        count: how many.
        mean: 0 where there are none.
        m2: sum of the squared distances from the mean.
        low: the least; None where there are none. An int when the numbers are.
        high: the greatest, likewise.
    """

    count: int = 0
    mean: float = 0.0
    m2: float = 0.0
    low: int | float | None = None
    high: int | float | None = None

    @property
    def variance(self) -> float | None:
        """Of the whole population (divided by `count`); None where there are no numbers."""
        return self.m2 / self.count if self.count else None

    def merge(self, other: Moments) -> Moments:
        """Of the numbers of both.

        Means and squares are joined as in Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for
        computing sample variances" (1979), which loses no digits where the mean is large against the variance.
        """
        if not self.count or not other.count:
            return self if self.count else other
        count = self.count + other.count
        delta = other.mean - self.mean
        return Moments(
            count=count,
            mean=self.mean + delta * other.count / count,
            m2=self.m2 + other.m2 + delta * delta * self.count * other.count / count,
            low=min(self.low, other.low),  # type: ignore[type-var]  # neither is None where there are numbers
            high=max(self.high, other.high),  # type: ignore[type-var]
        )


def moments_of(values: npt.NDArray[Any]) -> Moments:
    """Of `values`, `[n]` of a bool, int or float dtype, all finite."""
    if not len(values):
        return Moments()
    with np.errstate(over="ignore", invalid="ignore"):
        wide = values.astype(np.float64, copy=False)
        mean = float(wide.mean())
        distances = wide - mean
        m2 = float(np.dot(distances, distances))
    return Moments(len(values), mean, m2, values.min().item(), values.max().item())


def finite(number: float | None) -> float | None:
    """`number`, or None where JSON has no word for it."""
    return number if number is not None and math.isfinite(number) else None
