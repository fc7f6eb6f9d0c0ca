"""Lines of tasks, found again in what the launcher of a submitted job has printed."""

from __future__ import annotations

from cluster.job_lines import JobLines
from cluster.log_lines import LogLine
from cluster.log_stream import last_of_each

OUTPUT = """job: strategy none · 2 worker
12:00:00 placing tasks
[worker-0] WARNING:x:low
[worker-1] Traceback (most recent call last):
[worker-0]   and more
[worker-1]   File "train.py"
[worker-1] custom.Odd: one
[worker-0] [1, 2]
[note] of the job
[worker-0]
"""


def test_each_line_has_its_task_and_its_level() -> None:
    found = list(JobLines().take(OUTPUT))
    assert [(line.task, line.level, line.text) for line in found] == [
        ("launcher-0", None, "job: strategy none · 2 worker"),
        ("launcher-0", None, "12:00:00 placing tasks"),
        ("worker-0", "warning", "WARNING:x:low"),
        ("worker-1", "error", "Traceback (most recent call last):"),
        ("worker-0", "warning", "  and more"),
        ("worker-1", "error", '  File "train.py"'),
        ("worker-1", "error", "custom.Odd: one"),
        ("worker-0", None, "[1, 2]"),
        ("launcher-0", None, "[note] of the job"),
        ("worker-0", None, ""),
    ]


def test_the_output_may_come_in_any_parts() -> None:
    whole = list(JobLines().take(OUTPUT))
    lines = JobLines()
    assert [line for character in OUTPUT for line in lines.take(character)] == whole
    assert list(lines.rest()) == []


def test_a_last_line_without_an_end() -> None:
    lines = JobLines()
    assert list(lines.take("[ps-0] half")) == []
    assert list(lines.rest()) == [LogLine("ps-0", "half")]
    assert list(lines.rest()) == []


def test_the_last_lines_of_each_task() -> None:
    lines = list(JobLines().take(OUTPUT))
    assert [f"{line.task} {line.text}" for line in last_of_each(lines, 1)] == [
        "worker-1 custom.Odd: one",
        "launcher-0 [note] of the job",
        "worker-0 ",
    ]
    assert last_of_each(lines, None) == lines
    assert last_of_each(lines, 0) == []
