"""Which run another one goes on from, and how its checkpoint comes along."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cluster.errors import PreflightError, RunNotFoundError, StorageError
from cluster.events import Event
from cluster.resuming import Origin, bring, last_step, origin_of
from cluster.runs import started_at

NAMES = ("flights-20261124-030000-aaaa", "flights-20261124-030100-bbbb", "flights-20261124-030200-cccc")


@pytest.fixture
def storage(tmp_path: Path) -> Path:
    return tmp_path / "runs"


def make(storage: Path, name: str, *steps: int, status: str = "failed", pid: int = 0) -> Path:
    """A run directory with these checkpoints; a `pid` is that of a launcher which goes on."""
    run = storage / name
    (run / "checkpoints").mkdir(parents=True)
    about = {"pid": pid, "pid_started": started_at(pid), "hostname": os.uname().nodename}
    (run / "events.jsonl").write_text(Event("run_started", data=about).to_line())
    (run / "job.yaml").write_text("")
    os.utime(run / "job.yaml", (int(name[-4:], 16),) * 2)
    if not pid:
        (run / "result.json").write_text(json.dumps({"status": status}))
    for step in steps:
        for ending in ("json", "index", "data-00000-of-00001"):
            (run / "checkpoints" / f"ckpt-{step}.{ending}").write_text(f"{step} {ending}")
    return run


def found(storage: Path, resume: str | None = "latest") -> Origin | None:
    return origin_of(resume, "flights", str(storage), str(storage.parent))


def test_a_spec_that_says_nothing_begins_afresh(storage: Path) -> None:
    make(storage, NAMES[0], 10)
    assert found(storage, None) is None


def test_the_newest_run_that_has_a_checkpoint(storage: Path) -> None:
    make(storage, NAMES[0], 10)
    run = make(storage, NAMES[1], 20, 30)
    make(storage, NAMES[2])  # ended before its first one
    make(storage, "flights-of-birds-20261124-030300-dddd", 40)  # another job's
    assert found(storage) == Origin(str(run), 30)


def test_latest_begins_afresh_where_there_is_none_and_after_a_success(storage: Path) -> None:
    assert found(storage) is None
    make(storage, NAMES[0], 10)
    make(storage, NAMES[1], 20, status="succeeded")
    assert found(storage) is None
    make(storage, NAMES[2])
    assert found(storage) is None


def test_a_damaged_result_is_not_taken_for_a_success(storage: Path) -> None:
    run = make(storage, NAMES[0], 10)
    (run / "result.json").write_text('{"status": "succeeded"')
    assert found(storage) == Origin(str(run), 10)


@pytest.mark.parametrize("resume", [f"runs/{NAMES[0]}", NAMES[0], "flights-20261124-0300"])
def test_a_run_by_its_path_or_by_its_name(storage: Path, resume: str) -> None:
    run = make(storage, NAMES[0], 10, 20, status="succeeded")
    assert found(storage, resume) == Origin(str(run), 20)


def test_half_of_a_checkpoint_is_none(storage: Path) -> None:
    run = make(storage, NAMES[0], 10, 20)
    (run / "checkpoints" / "ckpt-20.json").unlink()
    assert last_step(str(run)) == 10
    (run / "checkpoints" / "ckpt-10.index").unlink()
    assert last_step(str(run)) is None


def test_without_a_checkpoint_it_is_said(storage: Path) -> None:
    make(storage, NAMES[0])
    with pytest.raises(PreflightError, match=r"has no checkpoint .* start afresh, without resume"):
        found(storage, NAMES[0])


def test_no_such_run(storage: Path) -> None:
    with pytest.raises(RunNotFoundError, match="'elsewhere'"):
        found(storage, "elsewhere")


@pytest.mark.parametrize("resume", ["latest", NAMES[0]])
def test_a_run_that_goes_on_is_left_alone(storage: Path, resume: str) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as launcher:
        make(storage, NAMES[0], 10, pid=launcher.pid)
        with pytest.raises(PreflightError, match=f"still goes on .* tfcluster stop .*{NAMES[0]}"):
            found(storage, resume)
    assert found(storage, resume) is not None  # killed: it left no result


def test_what_comes_along(storage: Path) -> None:
    run = make(storage, NAMES[0], 10, 20)
    bring(Origin(str(run), 20), str(storage / "new"))
    made = storage / "new" / "checkpoints"
    assert {path.name for path in made.iterdir()} == {
        "checkpoint", "ckpt-20.json", "ckpt-20.index", "ckpt-20.data-00000-of-00001"
    }  # fmt: skip
    assert (made / "ckpt-20.index").read_text() == "20 index"
    assert 'model_checkpoint_path: "ckpt-20"' in (made / "checkpoint").read_text()
    assert last_step(str(storage / "new")) == 20


def test_a_place_that_cannot_be_written(storage: Path) -> None:
    run = make(storage, NAMES[0], 10)
    (storage / "new").write_text("a file")
    with pytest.raises(StorageError, match="the checkpoint to resume from cannot be copied"):
        bring(Origin(str(run), 10), str(storage / "new"))
