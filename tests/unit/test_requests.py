"""Requests that are left in a run directory: each is taken once, in order, also what cannot be read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

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
    assert sorted(request.asked["seconds"] for request in taken) == [0, 1, 2]
    assert [request.id for request in taken] == sorted(names)
    assert all(request.asked["id"] == request.id and not request.wrong for request in taken)
    assert waiting.take() == []
    assert not list((tmp_path / "requests").iterdir())


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"{", "it is not JSON: Expecting property name"),
        (b"\xff\xfe", "it is not JSON"),
        (b"[1, 2]", "it is no JSON object: [1, 2]"),
        (b" " * (1 << 16) + b"{}", "it has more than 65536 bytes"),
    ],
)
def test_what_cannot_be_read_is_told_of_once(tmp_path: Path, waiting: Requests, data: bytes, words: str) -> None:
    folder = tmp_path / "requests"
    folder.mkdir()
    (folder / "a.json").write_bytes(data)
    (folder / ".d.json").write_text('{"half": "written"}')
    (folder / "e.txt").write_text("{}")
    name = ask(str(tmp_path), kind="profile")
    bad, good = sorted(waiting.take(), key=lambda request: request.wrong, reverse=True)
    assert (good.id, good.asked, good.wrong) == (name, {"kind": "profile", "id": name}, "")
    assert (bad.id, bad.asked) == ("a", {})
    assert words in bad.wrong
    assert waiting.take() == []
    assert sorted(path.name for path in folder.iterdir()) == [".d.json", "e.txt"]


def test_a_file_that_cannot_be_read_or_deleted_is_told_of_once(
    tmp_path: Path, waiting: Requests, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "requests"
    folder.mkdir()
    (folder / "gone.json").symlink_to(tmp_path / "nowhere")  # as one that is deleted while the folder is listed
    (folder / "kept.json").write_text("{}")
    monkeypatch.setattr(waiting, "_filesystem", Refusing(waiting._filesystem))
    assert [(request.id, request.wrong) for request in waiting.take()] == [("kept", "")]
    assert waiting.take() == []


class Refusing:
    """A file system that deletes nothing."""

    def __init__(self, filesystem: Any) -> None:
        self.get_file_info, self.open_input_stream = filesystem.get_file_info, filesystem.open_input_stream

    def delete_file(self, path: str) -> None:
        raise PermissionError(path)


def test_between_two_looks_nothing_is_read(tmp_path: Path) -> None:
    waiting = Requests(str(tmp_path), local=True)
    ask(str(tmp_path), kind="profile")
    assert waiting.take() == []


def test_who_may_not_write_there_is_told_so(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file in the place of the folder")
    with pytest.raises(StorageError, match="the run cannot be asked"):
        ask(str(tmp_path / "run"), kind="profile")
