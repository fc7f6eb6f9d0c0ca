"""Requests that are left in a run directory: each is taken once, in order, and what is none is passed over."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster import requests
from cluster.errors import StorageError
from cluster.requests import Requests, ask


@pytest.fixture
def waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Requests:
    monkeypatch.setattr(requests, "LOCAL_SECONDS", 0.0)
    return Requests(str(tmp_path), local=True)


def test_each_request_is_taken_once_and_in_order(tmp_path: Path, waiting: Requests) -> None:
    assert waiting.take() == []
    names = [ask(str(tmp_path), kind="profile", seconds=number) for number in range(3)]
    assert len(set(names)) == 3
    taken = waiting.take()
    assert sorted(request["seconds"] for request in taken) == [0, 1, 2]
    assert {request["id"] for request in taken} == set(names)
    assert waiting.take() == []
    assert not list((tmp_path / "requests").iterdir())


def test_what_is_no_request_is_passed_over(tmp_path: Path, waiting: Requests) -> None:
    folder = tmp_path / "requests"
    folder.mkdir()
    (folder / "a.json").write_text("{")
    (folder / "b.json").write_text("[1, 2]")
    (folder / "c.json").write_bytes(b"\xff\xfe")
    (folder / ".d.json").write_text('{"half": "written"}')
    (folder / "e.txt").write_text("{}")
    name = ask(str(tmp_path), kind="profile")
    assert waiting.take() == [{"kind": "profile", "id": name}]
    assert sorted(path.name for path in folder.iterdir()) == [".d.json", "e.txt"]


def test_between_two_looks_nothing_is_read(tmp_path: Path) -> None:
    waiting = Requests(str(tmp_path), local=True)
    ask(str(tmp_path), kind="profile")
    assert waiting.take() == []


def test_who_may_not_write_there_is_told_so(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file in the place of the folder")
    with pytest.raises(StorageError, match="the run cannot be asked"):
        ask(str(tmp_path / "run"), kind="profile")
