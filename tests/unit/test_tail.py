"""A file that grows is read line by line, each once, on a disk and on remote storage."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest

from cluster import tail as tail_module
from cluster.errors import StorageError
from cluster.storage import RunDirectory, upload_folder
from cluster.tail import Tail


def test_each_whole_line_is_read_once(tmp_path: Path) -> None:
    tail, file = Tail(str(tmp_path), "events.jsonl"), tmp_path / "events.jsonl"
    assert list(tail.lines()) == []
    with open(file, "ab", buffering=0) as stream:
        for written, read in [(b"a\nb\n", ["a", "b"]), (b"", []), (b"c", []), (b"d\ne", ["cd"]), (b"\n\n", ["e", ""])]:
            stream.write(written)
            assert list(tail.lines()) == read


def test_what_was_read_before_is_not_read_again(tmp_path: Path) -> None:
    file = tmp_path / "log"
    file.write_bytes(b"x\n" * 1000)
    tail = Tail(str(tmp_path), "log")
    assert len(list(tail.lines())) == 1000
    file.write_bytes(b"y\n" * 1000 + b"z\n")  # other bytes in the place of those
    assert list(tail.lines()) == ["z"]


def test_a_large_file_is_read_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    line = b"x" * 999 + b"\n"
    (tmp_path / "log").write_bytes(line * 30_000)
    tracemalloc.start()
    try:
        assert sum(1 for _ in Tail(str(tmp_path), "log").lines()) == 30_000
        assert tracemalloc.get_traced_memory()[1] < 20 << 20
    finally:
        tracemalloc.stop()
    monkeypatch.setattr(tail_module, "CHUNK", 7)
    (tmp_path / "log").write_bytes(b"one\n" + "übergröße\n".encode() * 3 + b"\nrest")
    tail = Tail(str(tmp_path), "log")
    assert next(tail.lines()) == "one"
    assert list(tail.lines()) == ["übergröße"] * 3 + [""]  # those that nobody took are not passed over


@pytest.mark.parametrize("line", [1, 3, 1 << 16])
def test_what_is_there_can_be_passed_over(line: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tail_module, "_LINE", line)
    tail, file = Tail(str(tmp_path), "log"), tmp_path / "log"
    tail.skip()
    with open(file, "ab", buffering=0) as stream:
        for written, read in [(b"a\nbcdefg\nhi", ["hij"]), (b"k", ["k"]), (b"", [])]:
            stream.write(written)
            tail.skip()
            stream.write(b"j\n" if written.endswith(b"hi") else b"\n" if written else b"")
            assert list(tail.lines()) == read


def test_letters_cut_in_two_come_whole(tmp_path: Path) -> None:
    tail, file = Tail(str(tmp_path), "log"), tmp_path / "log"
    data = "日本\u2028語\n".encode()
    for end in range(1, len(data) + 1):
        file.write_bytes(data[:end])
        assert list(tail.lines()) == (["日本\u2028語"] if end == len(data) else [])


def test_a_folder_in_its_place_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    with pytest.raises(StorageError, match="log cannot be read"):
        list(Tail(str(tmp_path), "log").lines())


def test_on_remote_storage(s3: str, tmp_path: Path) -> None:
    tail = Tail(s3, "events.jsonl")
    assert list(tail.lines()) == []
    directory = RunDirectory(s3, tmp_path)
    for text, read in [("a\n", ["a"]), ("b\nc", ["b"]), ("d\n", ["cd"])]:
        directory.append("events.jsonl", text)
        upload_folder(tmp_path, s3)
        assert not tail.is_local
        assert list(tail.lines()) == read
