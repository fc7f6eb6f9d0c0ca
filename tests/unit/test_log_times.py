"""When the lines of a log arrived, from the marks beside it."""

from __future__ import annotations

import pytest

from cluster.log_times import LogTimes, mark


@pytest.fixture
def times() -> LogTimes:
    found = LogTimes()
    found.add(mark(0, 100.0) + mark(50, 160.0) + mark(80, 161.5))
    return found


@pytest.mark.parametrize(("offset", "at"), [(0, 100.0), (49, 100.0), (50, 160.0), (80, 161.5), (999, 161.5)])
def test_a_byte_arrived_with_the_mark_before_it(times: LogTimes, offset: int, at: float) -> None:
    assert times.at(offset) == at


@pytest.mark.parametrize(("at", "offset"), [(50.0, 0), (101.0, 0), (102.0, 50), (161.2, 80), (163.0, None)])
def test_where_the_text_of_a_time_begins(times: LogTimes, at: float, offset: int | None) -> None:
    assert times.since(at) == offset


@pytest.mark.parametrize(("at", "offset"), [(50.0, 0), (100.0, 50), (160.0, 80), (161.5, None), (200.0, None)])
def test_where_the_text_of_a_time_ends(times: LogTimes, at: float, offset: int | None) -> None:
    assert times.until(at) == offset


def test_a_log_without_marks_tells_no_times() -> None:
    assert LogTimes().at(10) is None
    assert LogTimes().since(100.0) == 0


def test_marks_that_a_full_disk_has_cut_are_passed_over() -> None:
    times = LogTimes()
    times.add("0 100.00\n5")
    times.add("\n70 \n90 200.00\n80 300.00\n")
    assert times.offsets == [0, 90]
