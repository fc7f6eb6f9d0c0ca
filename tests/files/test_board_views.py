"""What TensorBoard is given to serve: runs by name, path or storage, local and remote, and the dumps of one task."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from cluster.board_views import RunView, StorageView, open_view, run_of_job
from cluster.errors import RunNotFoundError
from cluster.events import Event
from cluster.locations import join, shown
from cluster.storage import RunDirectory, upload_folder

EVENTS = "train/events.out.tfevents.1"


def write(folder: Path, name: str, text: str = "x") -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)


def make_run(storage: Path, name: str) -> Path:
    folder = storage / name
    RunDirectory(str(folder)).create()
    write(folder, "events.jsonl", Event("run_started").to_line())
    write(folder, "job.yaml", "name: job\n")
    write(folder, f"tensorboard/{EVENTS}", name)
    return folder


@pytest.fixture
def board(tmp_path: Path) -> Path:
    """An empty folder."""
    folder = tmp_path / "board"
    folder.mkdir()
    return folder


@pytest.fixture
def storage(tmp_path: Path) -> Path:
    folder = tmp_path / "runs"
    for name in ("flights-1", "digits-1"):
        make_run(folder, name)
    (folder / "notes").mkdir()
    return folder


def files(folder: Path) -> set[str]:
    """Files below `folder`, through links as TensorBoard sees them."""
    return {
        str(Path(parent, name).relative_to(folder))
        for parent, _, names in os.walk(folder, followlinks=True)
        for name in names
    }


# One run


@pytest.mark.parametrize("name", ["flights", "flights-1"])
def test_a_run_by_name(storage: Path, board: Path, name: str) -> None:
    view = open_view(name, str(storage), board)
    assert isinstance(view, RunView)
    view.refresh()
    assert files(board) == {EVENTS}
    assert view.title == "flights-1"


def test_a_run_by_path_and_what_is_new_in_it(storage: Path, board: Path) -> None:
    view = open_view(str(storage / "digits-1"), "/nowhere", board)
    view.refresh()
    write(storage / "digits-1" / "tensorboard", "system/worker-0/events.out.tfevents.2")
    view.refresh()
    assert files(board) == {EVENTS, "system/worker-0/events.out.tfevents.2"}
    assert (board / EVENTS).read_text() == "digits-1"


def test_a_file_that_is_still_being_written_is_left_out(storage: Path, board: Path, s3: str) -> None:
    write(storage / "flights-1" / "tensorboard", "train/.events.out.tfevents.9")
    upload_folder(storage, s3)
    for number, uri in enumerate((str(storage / "flights-1"), join(s3, "flights-1"))):
        view = RunView(uri, board / str(number))
        view.refresh()
        assert files(view.folder) == {EVENTS}


def test_a_run_that_has_written_nothing_yet(tmp_path: Path, board: Path) -> None:
    view = RunView(str(tmp_path / "none"), board)
    view.refresh()
    assert files(board) == set()


def test_a_run_on_remote_storage(storage: Path, board: Path, s3: str) -> None:
    upload_folder(storage, s3)
    view = open_view(join(s3, "flights-1"), "./runs", board)
    view.refresh()
    assert files(board) == {EVENTS}
    assert view.title == "flights-1"


def test_no_such_run(storage: Path, board: Path) -> None:
    (storage / "notes" / "today.txt").write_text("nothing to train")
    for name in ("boats", str(storage / "notes"), f"file://{storage}/notes"):
        with pytest.raises(RunNotFoundError, match="no run here" if "/" in name else "no such run"):
            open_view(name, str(storage), board)


# Many runs


def test_a_storage_that_is_empty_yet(tmp_path: Path, board: Path, s3: str) -> None:
    runs = tmp_path / "none-yet"
    runs.mkdir()
    for place in (str(runs), f"file://{runs}", s3):
        assert isinstance(open_view(place, "./runs", board), StorageView)
    view = open_view(str(runs), "./runs", board)
    assert isinstance(view, StorageView)
    empty = []
    for _ in range(2):
        view.refresh()
        empty.append(view.is_empty)
        make_run(runs, "flights-1")
    assert empty == [True, False]
    assert files(board) == {f"flights-1/{EVENTS}"}


def test_all_runs_of_a_storage(storage: Path, board: Path) -> None:
    view = open_view(str(storage), "./runs", board)
    assert isinstance(view, StorageView)
    view.refresh()
    assert files(board) == {f"flights-1/{EVENTS}", f"digits-1/{EVENTS}"}
    make_run(storage, "flights-2")
    view.refresh()
    assert f"flights-2/{EVENTS}" in files(board)
    assert view.title == "runs"


def test_all_runs_of_a_remote_storage(storage: Path, board: Path, s3: str) -> None:
    upload_folder(storage, s3)
    view = open_view(s3, "./runs", board)
    view.refresh()
    assert files(board) == {f"flights-1/{EVENTS}", f"digits-1/{EVENTS}"}


def test_a_run_that_has_ended_is_looked_at_for_the_last_time(storage: Path, board: Path, s3: str) -> None:
    write(storage / "flights-1", "result.json", json.dumps({"status": "succeeded"}))
    upload_folder(storage, s3)
    view = open_view(s3, "./runs", board)
    view.refresh()
    for name in ("flights-1", "digits-1"):
        write(storage / name / "tensorboard", "late/events.out.tfevents.3")
    upload_folder(storage, s3)
    view.refresh()
    assert {name for name in files(board) if "late" in name} == {"digits-1/late/events.out.tfevents.3"}


# Dumps


@pytest.fixture
def dumped(storage: Path) -> Path:
    folder = storage / "flights-1" / "tensorboard" / "debug"
    for task, attempts in {"worker-10": [1], "worker-2": [1, 2, 10], "ps-0": [1]}.items():
        for attempt in attempts:
            write(folder, f"{task}/{attempt}/tfdbg_events.1.metadata", f"{task} {attempt}")
    (folder / "chief-0" / "1").mkdir(parents=True)  # has not dumped anything yet
    return folder


@pytest.mark.parametrize(
    ("task", "dump"), [(None, "worker-2 10"), ("worker-10", "worker-10 1"), ("ps-0", "ps-0 1"), ("chief-0", None)]
)
def test_the_debugger_gets_the_newest_dumps_of_one_task(
    storage: Path, dumped: Path, board: Path, task: str | None, dump: str | None
) -> None:
    view = open_view("flights", str(storage), board, task)
    view.refresh()
    found = board / "tfdbg_events.1.metadata"
    assert (found.read_text() if found.exists() else None) == dump
    assert isinstance(view, RunView)
    assert view.dumped_tasks() == ["chief-0", "worker-2", "worker-10", "ps-0"]


def test_dumps_of_another_attempt_take_their_place(storage: Path, dumped: Path, board: Path) -> None:
    view = open_view("flights", str(storage), board)
    view.refresh()
    write(dumped, "worker-2/11/tfdbg_events.1.metadata", "worker-2 11")
    view.refresh()
    assert (board / "tfdbg_events.1.metadata").read_text() == "worker-2 11"


def test_dumps_on_remote_storage(storage: Path, dumped: Path, board: Path, s3: str) -> None:
    upload_folder(storage, s3)
    view = open_view(join(s3, "flights-1"), "./runs", board)
    view.refresh()
    assert (board / "tfdbg_events.1.metadata").read_text() == "worker-2 10"


def test_whether_there_are_traces(storage: Path, board: Path) -> None:
    view = RunView(str(storage / "flights-1"), board)
    assert not view.has_traces()
    write(storage / "flights-1", "tensorboard/plugins/profile/2026_11_23_14_05_59/worker-0.xplane.pb")
    assert view.has_traces()


def test_the_run_of_a_submitted_job_where_it_can_be_read(tmp_path: Path, s3: str) -> None:
    uri = str(make_run(tmp_path, "flights-1"))
    assert run_of_job("raysubmit_1", uri, "head") == uri
    with pytest.raises(RunNotFoundError) as caught:
        run_of_job("raysubmit_1", str(tmp_path / "other"), "head")
    there = f"ssh -L 6006:localhost:6006 head tfcluster tensorboard {tmp_path / 'other'}"
    assert f"raysubmit_1: {tmp_path / 'other'} · serve it there ({there}), or put tensorboard: true" in str(
        caught.value
    )
    with pytest.raises(RunNotFoundError, match="needs a password, which is not shown"):
        run_of_job("raysubmit_1", shown(join(s3, "flights-1")), "head")
