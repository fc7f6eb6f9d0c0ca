"""Which lines of a run's logs are shown, once or until its end; and `tfcluster logs` as a person types it."""

from __future__ import annotations

import json
import os
import re
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from cluster.cli import main
from cluster.events import Event
from cluster.locations import join
from cluster.log_stream import Wanted, folded, stream
from cluster.log_times import mark
from cluster.storage import RunDirectory, upload_folder

BEGAN = time.time() - 3600.0


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    """A run of two workers and a parameter server, whose lines came a minute apart, ten minutes ago."""
    directory = RunDirectory(str(tmp_path / "job-1"))
    directory.create()
    directory.append(
        "events.jsonl", Event("run_started", data={"pid": os.getpid(), "hostname": os.uname().nodename}).to_line()
    )
    for minute, text in enumerate(["INFO:x:one", "WARNING:x:two", "ERROR:x:three\n  more of it"]):
        for task in ("worker-0", "worker-1", "ps-0"):
            directory.append(f"logs/{task}.times", mark(directory.size(f"logs/{task}.log"), BEGAN + 60 * minute))
            directory.append(f"logs/{task}.log", text + "\n")
    return directory


def end(run: RunDirectory) -> None:
    run.append("events.jsonl", Event("run_ended", 1, data={"status": "succeeded"}).to_line())


def shown(uri: str, follow: bool = False, **wanted: Any) -> list[str]:
    lines = stream(uri, Wanted(**wanted), follow=follow)
    return [f"{line.task} {line.text.rpartition(':')[2].strip()}" for line in lines if line is not None]


def test_all_lines_as_they_came(run: RunDirectory) -> None:
    lines = shown(run.uri)
    assert lines[:4] == ["worker-0 one", "worker-1 one", "ps-0 one", "worker-0 two"]
    assert len(lines) == 12


@pytest.mark.parametrize(
    ("wanted", "lines"),
    [
        ({"tasks": ("ps-0",), "level": "warning"}, ["ps-0 two", "ps-0 three", "ps-0 more of it"]),
        ({"tasks": ("ps",), "level": "error"}, ["ps-0 three", "ps-0 more of it"]),
        ({"tasks": ("worker",), "grep": re.compile("t.o$")}, ["worker-0 two", "worker-1 two"]),
        ({"tasks": ("worker-1", "ps"), "grep": re.compile("one")}, ["worker-1 one", "ps-0 one"]),
        ({"tasks": ("ps-0",), "since": BEGAN + 90}, ["ps-0 three", "ps-0 more of it"]),
        ({"tasks": ("ps-0",), "since": BEGAN + 200}, []),
        ({"tasks": ("ps-0",), "since": BEGAN - 5, "tail": 1}, ["ps-0 more of it"]),
        ({"tail": 1}, ["worker-0 more of it", "worker-1 more of it", "ps-0 more of it"]),
        ({"tail": 1, "level": "info", "tasks": ("ps",), "grep": re.compile("one")}, ["ps-0 one"]),
        ({"tasks": ("chief",)}, []),
    ],
)
def test_only_the_wanted_lines(run: RunDirectory, wanted: dict[str, Any], lines: list[str]) -> None:
    assert shown(run.uri, **wanted) == lines


def test_the_same_on_a_remote_storage(run: RunDirectory, s3: str) -> None:
    upload_folder(run.local, join(s3, "job-1"))
    assert shown(join(s3, "job-1"), tasks=("ps",), since=BEGAN + 90) == ["ps-0 three", "ps-0 more of it"]
    assert shown(join(s3, "job-1"), tail=1)[0] == "worker-0 more of it"


def test_following_ends_with_the_run_and_misses_nothing(run: RunDirectory) -> None:
    news = iter(["four\n", "fi", "ve\n", "six\n", None])

    def wait(seconds: float) -> None:
        text = next(news)
        if text is None:
            run.append("logs/worker-1.log", "last\n")
            end(run)
        else:
            run.append("logs/worker-1.log", text)

    lines = stream(run.uri, Wanted(tail=0), follow=True, wait=wait)
    assert [line if line is None else line.text for line in lines] == [
        None, "four", None, None, "five", None, "six", None, "last",
    ]  # fmt: skip


def test_following_a_task_that_has_yet_to_start(run: RunDirectory) -> None:
    def wait(seconds: float) -> None:
        run.append("logs/evaluator-0.log", "here I am\n")
        end(run)

    lines = stream(run.uri, Wanted(tasks=("evaluator",)), follow=True, wait=wait)
    assert [line.text for line in lines if line is not None] == ["here I am"]


def test_following_a_run_whose_launcher_is_gone_ends(run: RunDirectory) -> None:
    run.append("events.jsonl", Event("run_started", data={"pid": 0, "hostname": os.uname().nodename}).to_line())
    assert len(shown(run.uri, follow=True)) == 12


def test_equal_lines_of_all_tasks_as_one(run: RunDirectory) -> None:
    lines = list(folded(stream(run.uri, Wanted(), follow=False), fold=True))
    assert (lines[0].tasks, lines[0].first.text) == (["worker-0", "worker-1", "ps-0"], "INFO:x:one")
    assert len(lines) == 4


def test_folded_lines_come_out_while_the_run_goes_on(run: RunDirectory) -> None:
    seen: list[str] = []

    def wait(seconds: float) -> None:
        assert len(seen) == 4  # all that was said an hour ago
        end(run)

    for line in folded(stream(run.uri, Wanted(), follow=True, wait=wait), fold=True):
        seen.append(line.first.text)
    assert len(seen) == 4


# As a person types it


def tfcluster(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    monkeypatch.setattr(sys, "argv", ["tfcluster", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_each_line_has_its_tasks_name(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run.append("logs/ps-0.log", "\x1b[32m10%\r100%\x1b[0m\n")
    assert tfcluster(monkeypatch, "logs", run.uri, "--task", "ps", "-n", 1) == 0
    assert capsys.readouterr().out == "[ps-0] 100%\n"


def test_folded_and_filtered(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tfcluster(monkeypatch, "logs", run.uri, "--fold", "--level", "error", "-e", "three", "--since", "2h") == 0
    assert capsys.readouterr().out == "[worker-0,1 ps-0 ×3] ERROR:x:three\n"


def test_a_document_a_line(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tfcluster(monkeypatch, "logs", run.uri, "--task", "ps-0", "--json", "--level", "warning") == 0
    documents = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert documents[0] == {
        "tasks": ["ps-0"],
        "at": pytest.approx(BEGAN + 60, abs=0.01),
        "level": "warning",
        "text": "WARNING:x:two",
    }
    assert [document["text"] for document in documents[1:]] == ["ERROR:x:three", "  more of it"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--grep", "("], "--grep is no regular expression"),
        (["--since", "soon"], "'soon' is not a duration"),
        (["--task", "worker-7"], "no such task has a log · worker-7 · there are: worker-0,1 ps-0"),
    ],
)
def test_a_wrong_argument_is_a_sentence(
    run: RunDirectory,
    words: list[str],
    sentence: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert tfcluster(monkeypatch, "logs", run.uri, *words) == 2
    assert sentence in capsys.readouterr().err


def test_nothing_to_show_is_said(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tfcluster(monkeypatch, "logs", run.uri, "--grep", "no such text") == 0
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "no such lines" in printed.err
