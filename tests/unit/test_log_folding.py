"""Equal lines of several tasks become one; none is lost, and each task's lines stay in order."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.log_folding import FoldedLine, Folder, fold, names_text, shown_text, tag
from cluster.log_lines import LogLine


def line(task: str, text: str, at: float | None = 0.0) -> LogLine:
    return LogLine(task, text, at)


def folded(*lines: LogLine) -> list[tuple[str, list[str]]]:
    return [(entry.first.text, entry.tasks) for entry in fold(lines)]


def test_equal_lines_of_several_tasks_are_one() -> None:
    lines = [line(f"worker-{i}", "hello", i / 10) for i in range(8)]
    (entry,) = fold(lines)
    assert shown_text(entry) == "[worker-0…7 ×8] hello"


def test_a_task_that_says_it_twice_has_said_it_twice() -> None:
    lines = [line(task, "again") for task in ("worker-0", "worker-0", "worker-1", "worker-1", "worker-1")]
    assert folded(*lines) == [
        ("again", ["worker-0", "worker-1"]),
        ("again", ["worker-0", "worker-1"]),
        ("again", ["worker-1"]),
    ]


def test_lines_keep_the_order_of_who_wrote_first() -> None:
    lines = [
        line("worker-0", "a"),
        line("worker-0", "b"),
        line("worker-1", "a"),
        line("worker-1", "c"),
        line("worker-1", "b"),
    ]
    assert [text for text, _ in folded(*lines)] == ["a", "b", "c"]


def test_what_was_said_much_later_is_another_line() -> None:
    lines = [line("worker-0", "a", 0.0), line("worker-1", "a", 2.9), line("worker-2", "a", 60.0)]
    assert folded(*lines) == [("a", ["worker-0", "worker-1"]), ("a", ["worker-2"])]


def test_a_line_comes_out_as_soon_as_no_other_can_join() -> None:
    folder = Folder(window=3.0)
    assert list(folder.take(line("worker-0", "a", 10.0))) == []
    assert list(folder.due(13.0)) == []
    (entry,) = folder.due(13.1)
    assert entry.tasks == ["worker-0"]
    assert list(folder.rest()) == []


def test_without_times_all_of_a_log_is_at_one_time() -> None:
    assert folded(line("worker-0", "a", None), line("worker-0", "b", None), line("worker-1", "a", None)) == [
        ("a", ["worker-0", "worker-1"]),
        ("b", ["worker-0"]),
    ]


TASKS = st.sampled_from(["chief-0", "worker-0", "worker-1", "worker-2", "ps-0"])
LINES = st.lists(st.tuples(TASKS, st.sampled_from("abc"), st.floats(0, 5)), max_size=60)


@given(LINES)
def test_no_line_is_lost_or_made_up(said: list[tuple[str, str, float]]) -> None:
    at, lines = 0.0, []
    for task, text, pause in said:
        at += pause
        lines.append(line(task, text, at))
    entries = list(fold(lines))
    found = Counter((task, entry.first.text) for entry in entries for task in entry.tasks)
    assert found == Counter((entry.task, entry.text) for entry in lines)
    assert all(len(set(entry.tasks)) == len(entry.tasks) for entry in entries)


def test_many_equal_lines_of_many_tasks_take_no_longer_than_their_number() -> None:
    """Two hundred tasks that each say the same thing five hundred times: quadratic would take minutes."""
    lines = (line(f"worker-{task}", "again", 0.0) for task in range(200) for _ in range(500))
    entries = list(fold(lines))
    assert len(entries) == 500
    assert all(len(entry.tasks) == 200 for entry in entries)


@pytest.mark.parametrize(
    ("tasks", "text"),
    [
        (["worker-0"], "worker-0"),
        (["worker-1", "worker-0"], "worker-0,1"),
        (["worker-0", "worker-1", "worker-2"], "worker-0…2"),
        (["ps-1", "worker-3", "worker-0", "worker-1", "worker-2", "worker-7", "chief-0"], "chief-0 worker-0…3,7 ps-1"),
        ([f"worker-{i}" for i in range(1000) if i != 500], "worker-0…499,501…999"),
        ([], ""),
    ],
)
def test_names_of_tasks_in_few_words(tasks: list[str], text: str) -> None:
    assert names_text(tasks) == text


def test_a_single_task_has_its_own_name() -> None:
    assert tag(["ps-0"]) == "ps-0"
    assert shown_text(FoldedLine(line("ps-0", "\x1b[31mred\x1b[0m"), ["ps-0"])) == "[ps-0] red"
