"""Who asks for a capture waits while its launcher is at it: for tasks that start, for a verdict on large traces."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from pyarrow.fs import FileSelector

from cluster import copying, profiling, requests
from cluster.errors import CaptureError
from cluster.events import Event
from cluster.locations import join
from cluster.profiling import last_verdict, profile
from cluster.runs import read_run
from cluster.storage import open_filesystem, upload_folder
from cluster.tasks import Task
from tests.made_runs import Made, capture
from tests.unit.test_verdict import recorded


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "REMOTE_SECONDS", 0.0)
    monkeypatch.setattr(copying, "EVERY", 0.0)
    for name in ("_STARTING", "_GATHERING"):
        monkeypatch.setattr(profiling, name, 0.0)


def asked_in(folder: Path) -> list[str]:
    return [path.stem for path in folder.glob("requests/*.json")]


def test_who_waits_for_tasks_that_start_is_told_so_and_leaves_no_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(profiling, "_TAKING", 0.1)
    made = Made(tmp_path, "run", alive=True)
    made.event(1.0, "attempt_started", 2)
    told: list[Event] = []
    with pytest.raises(CaptureError, match=r"the job is still starting.*attempt 2, placing"):
        profile(made.uri, 1.0, on_event=told.append)
    assert [event.data["reason"] for event in told] == ["attempt 2 is starting; waiting for its tasks"]
    assert not asked_in(Path(made.uri))


def test_a_verdict_on_many_bytes_may_take_its_time(tmp_path: Path) -> None:
    made = Made(tmp_path, "run", alive=True)
    made.start(0.0, [Task("worker", 0)])
    collected = threading.Event()

    def watch(event: Event) -> None:
        if event.data["status"] == "collected":
            collected.set()

    with ThreadPoolExecutor(1) as pool:
        outcome = pool.submit(profile, made.uri, 0.001, None, watch)
        while not (asked := asked_in(Path(made.uri))):
            assert not outcome.done(), outcome.result()
        tasks = {"worker-0": {"bytes": 10**9}}
        data: dict[str, Any] = {"id": asked[0], "tasks": tasks, "folder": "tensorboard"}
        made.event(10.0, "profile", **data, status="collected")
        assert collected.wait(60)
        made.directory.write("tensorboard/verdict.json", '{"sentence": "input-bound"}')
        made.event(20.0, "profile", **data, status="done", verdict="input-bound")
        assert outcome.result()["sentence"] == "input-bound"
        assert outcome.result()["traces"] == {"worker-0": 10**9}


def test_on_remote_storage_nothing_is_heard_before_a_capture_is_over(
    s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(profiling, "_TAKING", 0.0)
    made = Made(tmp_path, "run", alive=True)
    made.start(0.0, [Task("worker", 0)])
    uri = join(s3, "run")
    upload_folder(Path(made.uri), uri)
    filesystem, base = open_filesystem(join(uri, requests.FOLDER))
    with ThreadPoolExecutor(1) as pool:
        outcome = pool.submit(profile, uri, 60.0)
        while not (found := filesystem.get_file_info(FileSelector(base, allow_not_found=True))):
            assert not outcome.done(), outcome.result()
        asked = found[0].base_name.lstrip(".").removesuffix(".json")
        made.directory.write("tensorboard/verdict.json", '{"sentence": "input-bound"}')
        data: dict[str, Any] = {"id": asked, "tasks": {"worker-0": {"bytes": 9}}, "folder": "tensorboard"}
        made.event(70.0, "profile", **data, status="done", verdict="input-bound")
        upload_folder(Path(made.uri), uri)
        assert outcome.result()["sentence"] == "input-bound"


@pytest.mark.parametrize(("seconds", "local", "least"), [(3.0, True, 35.0), (3.0, False, 68.0), (60.0, False, 125.0)])
def test_how_long_a_launcher_may_be_silent(
    monkeypatch: pytest.MonkeyPatch, seconds: float, local: bool, least: float
) -> None:
    monkeypatch.undo()
    assert profiling.patience(seconds, local=local) == least


def test_tasks_that_seem_to_start_on_remote_storage_may_all_run_by_now() -> None:
    text = "attempt 1 was starting when its events were last copied; waiting for newer ones"
    assert profiling.starting_text(1, local=False) == text


@pytest.mark.parametrize("text", ["{half", "[]", ""])
def test_a_damaged_verdict_is_made_anew(text: str, tmp_path: Path) -> None:
    made = Made(tmp_path, "run")
    capture(made, 5.0)
    (verdict,) = made.directory.local.glob("tensorboard/plugins/profile/*/verdict.json")
    verdict.write_text(text)
    recorded("compute", verdict.parent)
    found = last_verdict(read_run(made.uri))
    assert found is not None
    assert found["sentence"].startswith("compute-bound")
    assert found["missing"] == {"worker-2": "it ended"}


def test_why_nothing_was_traced_is_told_once(tmp_path: Path) -> None:
    reason = "no task gave a trace: worker-0, worker-1: it ended"
    data = {"status": "failed", "reason": reason, "missing": dict.fromkeys(["worker-0", "worker-1"], "it ended")}
    with pytest.raises(CaptureError) as refused:
        profiling._outcome(str(tmp_path), data)
    assert refused.value.seen == reason
    data["missing"] = {"worker-0": "it ended", "worker-1": "its node was lost"}
    with pytest.raises(CaptureError, match=r"\n  - worker-1: its node was lost"):
        profiling._outcome(str(tmp_path), data)
