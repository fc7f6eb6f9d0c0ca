"""Sets of time against sets of whole numbers."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cluster.intervals import Cover

SPANS = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), max_size=8)


def instants(spans: list[tuple[int, int]]) -> set[int]:
    return {t for start, end in spans for t in range(start, end)}


@given(SPANS, SPANS, SPANS)
def test_a_cover_is_the_set_of_its_instants(one: list, other: list, windows: list) -> None:
    both = Cover(one) | Cover(other)
    expected = instants(one) | instants(other)
    assert instants([*zip(both.starts.tolist(), both.ends.tolist(), strict=True)]) == expected
    assert both.length == len(expected)
    assert bool(both) == bool(expected)
    assert both.within(Cover(windows)) == len(expected & instants(windows))


@given(SPANS, st.lists(st.integers(-2, 45), max_size=10))
def test_what_lies_before(spans: list, times: list) -> None:
    expected = [len({t for t in instants(spans) if t < time}) for time in times]
    assert Cover(spans).before(np.array(times, np.int64)).tolist() == expected


def test_intervals_of_a_cover_are_apart_and_in_order() -> None:
    cover = Cover([(5, 9), (1, 3), (3, 4), (7, 8), (20, 20)])
    assert (cover.starts.tolist(), cover.ends.tolist()) in (([1, 5], [4, 9]), ([1, 3, 5], [3, 4, 9]))
