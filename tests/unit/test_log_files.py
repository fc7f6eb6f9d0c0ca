"""Logs of a run directory, read once and from where it is asked to."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.locations import join
from cluster.log_files import CHUNK, Logs, task_order
from cluster.log_times import mark
from cluster.storage import RunDirectory, upload_folder


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    directory = RunDirectory(str(tmp_path / "job-1"))
    directory.create()
    return directory


def texts(logs: Logs, tail: int | None = None) -> list[str]:
    return [f"{line.task} {line.text}" for line in logs.new_lines(tail=tail)]


def test_the_logs_of_a_run_in_the_order_of_tasks(run: RunDirectory, s3: str) -> None:
    assert Logs(run.uri).look() == []
    for task in ("worker-10", "worker-2", "evaluator-0", "chief-0", "ps-1"):
        run.append(f"logs/{task}.log", "hello\n")
    ordered = ["chief-0", "worker-2", "worker-10", "ps-1", "evaluator-0"]
    assert [file.task for file in Logs(run.uri).look()] == ordered
    upload_folder(run.local, join(s3, "job-1"))
    assert [file.task for file in Logs(join(s3, "job-1")).look()] == ordered
    assert Logs(str(run.local / "nothing")).look() == []


def test_each_line_is_read_once(run: RunDirectory) -> None:
    logs = Logs(run.uri)
    run.append("logs/worker-0.log", "one\ntwo\nthr")
    logs.look()
    assert texts(logs) == ["worker-0 one", "worker-0 two"]
    logs.look()
    assert texts(logs) == []
    run.append("logs/worker-0.log", "ee\nfour\n")
    run.append("logs/worker-1.log", "other\n")
    logs.look()
    assert texts(logs) == ["worker-0 three", "worker-0 four", "worker-1 other"]


def test_what_was_read_is_not_read_again(run: RunDirectory) -> None:
    path = run.local / "logs" / "worker-0.log"
    path.write_text("a" * 1000 + "\n")
    logs = Logs(run.uri)
    logs.look()
    assert len(texts(logs)) == 1
    with open(path, "r+") as file:  # whoever reads from the start meets other lines now
        file.write("\n" * 900)
    run.append("logs/worker-0.log", "new\n")
    logs.look()
    assert texts(logs) == ["worker-0 new"]


def test_lines_longer_than_a_part_and_odd_bytes(run: RunDirectory) -> None:
    lines = ["x" * (2 * CHUNK + 17), "", "ü" * CHUNK, "end"]
    (run.local / "logs" / "worker-0.log").write_bytes("\n".join(lines).encode() + b"\n\xff\xfe\n")
    logs = Logs(run.uri)
    logs.look()
    assert [line.text for line in logs.new_lines()] == [*lines, "\ufffd\ufffd"]


@pytest.mark.parametrize("count", [0, 1, 2, 3, 99])
@pytest.mark.parametrize("last", ["", "not whole"])
def test_the_last_lines(run: RunDirectory, count: int, last: str) -> None:
    lines = [f"line {number}" + "." * (CHUNK // 4) for number in range(12)]
    run.append("logs/worker-0.log", "\n".join(lines) + "\n" + last)
    logs = Logs(run.uri)
    (file,) = logs.look()
    file.skip_to_last(count, logs.size(file))
    assert [line.text for line in logs.new_lines()] == (lines[-count:] if count else [])
    run.append("logs/worker-0.log", " any more\n")
    logs.look()
    assert [line.text for line in logs.new_lines()] == [f"{last} any more"]


def test_the_last_lines_of_a_log_that_was_read_up_to_somewhere(run: RunDirectory) -> None:
    run.append("logs/worker-0.log", "a\nb\nc\nd\n")
    logs = Logs(run.uri)
    (file,) = logs.look()
    file.offset = 4
    file.skip_to_last(3, logs.size(file))
    assert texts(logs) == ["worker-0 c", "worker-0 d"]


def test_the_last_of_those_that_are_kept(run: RunDirectory) -> None:
    run.append("logs/worker-0.log", "".join(f"{number}\n" for number in range(100)))
    logs = Logs(run.uri)
    logs.look()
    assert [line.text for line in logs.new_lines(lambda line: line.text.endswith("7"), tail=2)] == ["87", "97"]


def test_lines_of_all_tasks_in_the_order_in_which_they_arrived(run: RunDirectory) -> None:
    for task, at in (("worker-0", 100.0), ("worker-1", 101.0), ("worker-0", 102.0)):
        size = run.size(f"logs/{task}.log")
        run.append(f"logs/{task}.times", mark(size, at))
        run.append(f"logs/{task}.log", f"first of {at}\nsecond\n")
    logs = Logs(run.uri)
    logs.look()
    found = list(logs.new_lines())
    assert [(line.task, line.at) for line in found[::2]] == [
        ("worker-0", 100.0),
        ("worker-1", 101.0),
        ("worker-0", 102.0),
    ]
    assert [line.text for line in found[1::2]] == ["second"] * 3


def test_only_the_wanted_tasks(run: RunDirectory) -> None:
    for task in ("worker-0", "worker-1", "ps-0"):
        run.append(f"logs/{task}.log", "hello\n")
    assert [file.task for file in Logs(run.uri, lambda task: task.startswith("ps")).look()] == ["ps-0"]


@pytest.fixture
def few_files() -> Iterator[int]:
    """This process may open only so many files."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    open_now = len(list(Path("/proc/self/fd").iterdir()))
    resource.setrlimit(resource.RLIMIT_NOFILE, (open_now + 40, before[1]))
    yield 40
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_more_logs_than_files_may_be_open(run: RunDirectory, few_files: int) -> None:
    for number in range(5 * few_files):
        run.append(f"logs/worker-{number}.log", "hello\n" * 3)
    logs = Logs(run.uri)
    logs.look()
    assert len(texts(logs)) == 15 * few_files


def test_the_order_of_tasks() -> None:
    names = ["worker-10", "extra-0", "worker-9", "ps-0", "odd", "chief-0"]
    assert sorted(names, key=task_order) == ["chief-0", "worker-9", "worker-10", "ps-0", "odd", "extra-0"]
