"""A file that grows is read line by line, each once, on a disk and on remote storage."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.errors import StorageError
from cluster.storage import RunDirectory, upload_folder
from cluster.tail import Tail


def test_each_whole_line_is_read_once(tmp_path: Path) -> None:
    tail, file = Tail(str(tmp_path), "events.jsonl"), tmp_path / "events.jsonl"
    assert tail.lines() == []
    with open(file, "ab", buffering=0) as stream:
        for written, read in [(b"a\nb\n", ["a", "b"]), (b"", []), (b"c", []), (b"d\ne", ["cd"]), (b"\n\n", ["e", ""])]:
            stream.write(written)
            assert tail.lines() == read


def test_what_was_read_before_is_not_read_again(tmp_path: Path) -> None:
    file = tmp_path / "log"
    file.write_bytes(b"x\n" * 1000)
    tail = Tail(str(tmp_path), "log")
    tail.lines()
    file.write_bytes(b"y\n" * 1000 + b"z\n")  # other bytes in the place of those
    assert tail.lines() == ["z"]


def test_letters_cut_in_two_come_whole(tmp_path: Path) -> None:
    tail, file = Tail(str(tmp_path), "log"), tmp_path / "log"
    data = "日本\u2028語\n".encode()
    for end in range(1, len(data) + 1):
        file.write_bytes(data[:end])
        assert tail.lines() == (["日本\u2028語"] if end == len(data) else [])


def test_a_folder_in_its_place_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    with pytest.raises(StorageError, match="log cannot be read"):
        Tail(str(tmp_path), "log").lines()


def test_on_remote_storage(s3: str, tmp_path: Path) -> None:
    tail = Tail(s3, "events.jsonl")
    assert tail.lines() == []
    directory = RunDirectory(s3, tmp_path)
    for text, read in [("a\n", ["a"]), ("b\nc", ["b"]), ("d\n", ["cd"])]:
        directory.append("events.jsonl", text)
        upload_folder(tmp_path, s3)
        assert tail.lines() == read
