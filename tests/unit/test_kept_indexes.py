"""Indexes of TFRecord files: made once, kept, made again when a file has changed, and never in the way."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow.fs as pafs
import pytest

from pipelines import kept_indexes, tfrecord_index
from pipelines.errors import DataError
from pipelines.files import find
from pipelines.kept import document
from pipelines.kept_indexes import read_indexes
from pipelines.layout import Request
from pipelines.sources import Files, open_source
from pipelines.tfrecord import TFRecordSource
from pipelines.tfrecord_index import FileIndex
from pipelines.tfrecord_writer import write_records

COMPRESSIONS = {"a": None, "b": "GZIP", "c": "ZLIB"}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three files of several units each."""
    monkeypatch.setattr(tfrecord_index, "UNIT_RECORDS", 40)
    folder = tmp_path / "data"
    folder.mkdir()
    for name in COMPRESSIONS:
        write(folder, name, 100)
    return folder


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "ray-tfcluster" / "indexes"


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are read to index them."""
    names: list[str] = []
    original = tfrecord_index.index_file

    def counted(filesystem: pafs.FileSystem, path: str, compression: str | None = "auto") -> FileIndex:
        names.append(os.path.basename(path)[0])
        return original(filesystem, path, compression)

    monkeypatch.setattr(tfrecord_index, "index_file", counted)
    return names


def write(folder: Path, name: str, records: int) -> Path:
    path = folder / f"{name}.tfrecord"
    write_records(str(path), [b"%d" % number for number in range(records)], COMPRESSIONS.get(name))
    return path


def indexes(folder: Path) -> dict[str, FileIndex]:
    return read_indexes(*find(str(folder)), document("indexes", [str(folder)]))


def test_files_are_indexed_once(folder: Path, read: list[str]) -> None:
    first = indexes(folder)
    assert sorted(read) == ["a", "b", "c"]
    read.clear()
    assert indexes(folder) == first
    assert read == []
    assert [*first] == [f"{folder}/{name}.tfrecord" for name in COMPRESSIONS]
    assert [(index.rows, index.compression) for index in first.values()] == [
        ((40, 40, 20), compression) for compression in COMPRESSIONS.values()
    ]
    for path, index in first.items():
        assert index == TFRecordSource(pafs.LocalFileSystem(), [path]).index_of(path)


def test_a_source_uses_them(folder: Path, cache: Path, read: list[str]) -> None:
    request = Files((str(folder),), features={"x": "int64"})
    first = open_source(request, Request())
    assert sorted(read) == ["a", "b", "c"]
    assert [*cache.iterdir()] == [document("indexes", [str(folder)])]
    read.clear()
    again = open_source(request, Request())
    assert read == []
    assert again.units == first.units
    assert sum(again.source.read(unit).num_rows for unit in again.units) == 300


@pytest.mark.parametrize("change", ["size", "time", "both"])
@pytest.mark.parametrize("name", [*COMPRESSIONS])
def test_a_file_that_has_changed_is_indexed_anew(folder: Path, read: list[str], name: str, change: str) -> None:
    indexes(folder)
    read.clear()
    path = folder / f"{name}.tfrecord"
    before = path.stat()
    if change == "time":
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1_000_000))
    else:
        write(folder, name, 250)
        assert path.stat().st_size != before.st_size
        if change == "size":
            os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    found = indexes(folder)
    assert read == [name]
    assert sum(found[str(path)].rows) == (100 if change == "time" else 250)
    read.clear()
    assert indexes(folder) == found
    assert read == []


def test_a_file_more_or_less(folder: Path, read: list[str]) -> None:
    first = indexes(folder)
    read.clear()
    (folder / "b.tfrecord").unlink()
    write(folder, "ab", 7)
    found = indexes(folder)
    assert read == ["a"]
    assert [os.path.basename(path) for path in found] == ["a.tfrecord", "ab.tfrecord", "c.tfrecord"]
    assert all(found[path] == first[path] for path in found if path in first)


def test_a_file_that_cannot_be_indexed_is_not_kept(folder: Path, read: list[str]) -> None:
    good = (folder / "b.tfrecord").read_bytes()
    (folder / "b.tfrecord").write_bytes(good[:-9])
    with pytest.raises(DataError, match=r"b\.tfrecord"):
        indexes(folder)
    errors: list[DataError] = []
    store = document("indexes", [str(folder)])
    for _ in range(2):
        assert len(read_indexes(*find(str(folder)), store, errors.append)) == 2
    assert len(errors) == 2
    read.clear()
    (folder / "b.tfrecord").write_bytes(good)
    assert len(indexes(folder)) == 3
    assert read == ["b"]


def test_a_damaged_cache_is_ignored_and_replaced(folder: Path, cache: Path, read: list[str]) -> None:
    first = indexes(folder)
    (store,) = cache.iterdir()
    store.write_bytes(store.read_bytes()[:-1])
    read.clear()
    assert indexes(folder) == first
    assert sorted(read) == ["a", "b", "c"]
    read.clear()
    assert indexes(folder) == first
    assert read == []


def test_without_a_cache(folder: Path, cache: Path, read: list[str]) -> None:
    for _ in range(2):
        assert len(kept_indexes.read_indexes(*find(str(folder)))) == 3
    assert len(read) == 6
    assert not cache.exists()
