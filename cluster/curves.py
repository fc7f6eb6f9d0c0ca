"""Learning curves of a run of any length: each metric by step, thinned to a bounded number of points."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

#: Points kept of one metric, and metrics kept of one run; whoever reports more names of metrics means something else.
MAX_POINTS = 1000
MAX_METRICS = 50

#: Steps and values, in the order of steps.
Points = list[tuple[int, float]]


@dataclass
class Curve:
    """One metric: every `stride`-th of its values, which doubles whenever there would be too many, and the last one."""

    stride: int = 1
    kept: Points = field(default_factory=list)
    last: tuple[int, float] | None = None
    _seen: int = 0

    def add(self, step: int, value: float) -> None:
        """Take the metric's value at `step`; what a restart makes a second time replaces what was there."""
        while self.kept and self.kept[-1][0] >= step:
            self.kept.pop()
        self.last = step, value
        if self._seen % self.stride == 0 or not self.kept:
            self.kept.append(self.last)
        self._seen += 1
        if len(self.kept) >= MAX_POINTS:
            self.kept = self.kept[::2]
            self.stride *= 2

    @property
    def points(self) -> Points:
        """What is kept, in the order of steps."""
        ends = self.last is None or (self.kept and self.kept[-1] == self.last)
        return list(self.kept) if ends or self.last is None else [*self.kept, self.last]


@dataclass
class Curves:
    """The metrics of a run by name."""

    by_name: dict[str, Curve] = field(default_factory=dict)

    def add(self, step: int, metrics: Mapping[str, float], prefix: str = "") -> None:
        """Take the values of some metrics at `step`; `prefix` is put before their names."""
        for name, value in metrics.items():
            curve = self.by_name.get(prefix + name)
            if curve is None:
                if len(self.by_name) >= MAX_METRICS:
                    continue
                curve = self.by_name[prefix + name] = Curve()
            curve.add(step, float(value))

    def points(self) -> dict[str, Points]:
        """The points of each metric that has more than one finite value."""
        found = {name: curve.points for name, curve in self.by_name.items()}
        return {name: points for name, points in found.items() if sum(math.isfinite(y) for _, y in points) > 1}
