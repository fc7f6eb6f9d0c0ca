"""`Vocabulary`: values and how often each occurs, in bounded memory, of parts that can be merged in any order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

#: Different values that are held at most. Up to so many, every count is exact.
VALUES = 65_536


@dataclass(frozen=True)
class Vocabulary:
    """Counts of values; none is too high, and none is too low by more than `error`.

    Attributes:
        counts: a table of `value` and `count` (int64), each value once, in no order.
        error: 0 means that every value is there and every count exact. Otherwise counts are too low by this at most,
            and a value that is not there occurred no oftener.
        most: different values that are held at most.
    """

    counts: pa.Table
    error: int = 0
    most: int = VALUES

    @property
    def distinct(self) -> int | None:
        """How many different values there are, where that is known."""
        return None if self.error else self.counts.num_rows

    def merge(self, other: Vocabulary) -> Vocabulary:
        """Of the values of both.

        Beyond `most` values it is cut as in Agarwal and others, "Mergeable summaries" (2012): every count falls by that
        of the first value that has no room. So `error` is below the number of all values divided by `most`.
        """
        both = pa.concat_tables([self.counts, other.counts])
        sums = both.group_by("value", use_threads=False).aggregate([("count", "sum")]).select(["value", "count_sum"])
        return _cut(sums.rename_columns(["value", "count"]), self.error + other.error, self.most)

    def top(self, limit: int) -> tuple[list[Any], list[int]]:
        """The `limit` most frequent values and their counts; of equally frequent ones, the least first."""
        order = pc.sort_indices(self.counts, [("count", "descending"), ("value", "ascending")])
        best = self.counts.take(order[:limit])
        return best["value"].to_pylist(), best["count"].to_pylist()


def vocabulary_of(values: pa.Array, most: int = VALUES) -> Vocabulary:
    """Of `values`, without nulls."""
    found = pc.value_counts(values)
    columns = [found.field("values"), found.field("counts")]
    return _cut(pa.table(columns, names=["value", "count"]), 0, most)


def _cut(counts: pa.Table, error: int, most: int) -> Vocabulary:
    if counts.num_rows <= most:
        return Vocabulary(counts, error, most)
    number = counts["count"].to_numpy()
    first_out = int(np.partition(number, len(number) - most - 1)[len(number) - most - 1])
    left = pa.table({"value": counts["value"], "count": number - first_out}).filter(pc.field("count") > 0)
    return Vocabulary(left, error + first_out, most)
