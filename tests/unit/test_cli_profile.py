"""`tfcluster profile`: which run it means, what it refuses, what it says of one that has ended, or elsewhere."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cluster import cli_profile, requests
from cluster.cli import main
from cluster.tasks import Task
from tests.made_runs import BEGAN, Made, capture, verdict_document


def profiled(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["tfcluster", "profile", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def ended(folder: Path, name: str = "ended", spec: str = "entrypoint: train.py:train\n") -> Made:
    made = Made(folder, name, spec=spec)
    made.start(0.0, [Task("worker", 0)])
    made.end(9.0, "succeeded")
    return made


def test_latest_is_the_newest_run_that_still_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long, short = Made(tmp_path, "long", alive=True), ended(tmp_path, "short")
    for number, made in enumerate((long, short)):
        os.utime(made.directory.local / "job.yaml", (BEGAN + number, BEGAN + number))
    asked: list[str] = []

    def answer(uri: str, *rest: Any) -> dict[str, Any]:
        asked.append(uri)
        return verdict_document()

    monkeypatch.setattr("cluster.profiling.profile", answer)
    assert profiled(monkeypatch, "--storage", str(tmp_path)) == 0
    assert asked == [long.uri]
    assert profiled(monkeypatch, short.uri) == 8  # who names it means it
    long.end(10.0, "failed")
    assert profiled(monkeypatch, "latest", "--storage", str(tmp_path)) == 8
    assert len(asked) == 1


def test_of_a_run_that_has_ended_its_last_capture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = ended(tmp_path)
    assert profiled(monkeypatch, made.uri) == 8
    error = capsys.readouterr().err
    assert "profile a running job, or put profile: {steps: [100, 110]} into the spec" in error
    capture(made, 5.0)
    assert profiled(monkeypatch, made.uri) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "the run has ended (succeeded); its last capture said:"
    assert lines[-1] == f"next: tfcluster tensorboard {made.uri}"


def test_a_script_is_not_advised_what_its_spec_cannot_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert profiled(monkeypatch, ended(tmp_path, spec="script: [train.py]\n").uri) == 8
    assert capsys.readouterr().err.rstrip().endswith("· profile a running job")


class Elsewhere:
    """A job that ran on a cluster, and what a command there printed of it."""

    id, options = "raysubmit_1", "--address http://head:8265"

    def profile(self, seconds: float, tasks: Any) -> dict[str, Any]:
        folder = "/there/runs/flights-1/tensorboard/plugins/profile/2026"
        return {**verdict_document(), "folder": folder, "ended": "succeeded"}


def test_of_a_job_elsewhere_it_says_the_same_and_names_the_job(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli_profile, "submitted", lambda *arguments: Elsewhere())
    assert profiled(monkeypatch, "raysubmit_1") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "the run has ended (succeeded); its last capture said:"
    assert lines[-2].endswith("(on the cluster)")
    assert lines[-1] == "next: tfcluster tensorboard raysubmit_1 --address http://head:8265"


@pytest.mark.parametrize("tasks", ["", ",", " , "])
def test_nobody_is_not_traced(tasks: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert profiled(monkeypatch, "no-run", "--tasks", tasks) == 2
    assert "no task is named to be traced · tasks is empty · name tasks or roles" in capsys.readouterr().err


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "121"])
def test_seconds_out_of_range(
    seconds: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert profiled(monkeypatch, "no-run", "--seconds", seconds) == 2
    words = f"a capture cannot take so many seconds · {seconds} · give a number above 0 and up to 120"
    assert words in capsys.readouterr().err


def test_who_leaves_while_tasks_are_traced_is_told_that_it_goes_on(tmp_path: Path) -> None:
    made = Made(tmp_path, "run", alive=True)
    made.start(0.0, [Task("worker", 0)])
    command = [sys.executable, "-m", "cluster", "profile", made.uri, "--seconds", "60"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        while not (asked := [path.stem for path in Path(made.uri, requests.FOLDER).glob("*.json")]):
            assert process.poll() is None
        made.event(9.0, "profile", id=asked[0], status="tracing", tasks={"worker-0": {}}, seconds=60.0)
        assert process.stdout.readline() == "tracing worker-0 for 60 s …\n"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "the capture goes on for the rest of its seconds, and will be in the run directory" in errors
