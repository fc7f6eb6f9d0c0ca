"""Footers: read once, kept, looked at again when a file has changed, and never in the way."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
import pytest

from pipelines import footers
from pipelines.errors import DataError
from pipelines.files import find
from pipelines.footers import Footers, cache_folder, read_footers
from pipelines.layout import Request
from pipelines.sources import Files, open_source

FILES = 70


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    for number in range(FILES):
        write(folder / f"{number:02}.parquet", 5 + number)
    return folder


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "ray-tfcluster" / "footers"


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files whose footers are read."""
    names: list[str] = []
    original = footers.read_footer

    def counted(filesystem: pafs.FileSystem, path: str) -> pq.FileMetaData:
        names.append(os.path.basename(path))
        return original(filesystem, path)

    monkeypatch.setattr(footers, "read_footer", counted)
    return names


def write(path: Path, rows: int, name: str = "x") -> None:
    pq.write_table(pa.table({name: range(rows)}), path, row_group_size=10)


def footers_of(folder: Path, cache: Path | None) -> Footers:
    return read_footers(*find(str(folder)), cache)


def test_where_footers_are_kept(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache_folder() == cache
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/someone")
    assert cache_folder() == Path("/home/someone/.cache/ray-tfcluster/footers")


def test_footers_are_read_once(folder: Path, cache: Path, read: list[str]) -> None:
    first = footers_of(folder, cache)
    assert sorted(read) == sorted(path.name for path in folder.iterdir())
    read.clear()
    assert footers_of(folder, cache) == first
    assert read == []
    footer = first.by_file[f"{folder}/69.parquet"]
    assert footer.rows == [10] * 7 + [4]
    assert first.schemas[footer.schema] == pa.schema({"x": pa.int64()})
    assert [*first.by_file] == [str(path) for path in sorted(folder.iterdir())]


def test_a_source_uses_them(folder: Path, cache: Path, read: list[str]) -> None:
    first = open_source(Files((str(folder),)), Request()).units
    assert len(read) == FILES
    assert list(cache.glob("*.json"))
    read.clear()
    assert open_source(Files((str(folder),)), Request()).units == first
    assert read == []


@pytest.mark.parametrize("change", ["size", "time", "both"])
def test_a_file_that_has_changed_is_read_again(folder: Path, cache: Path, read: list[str], change: str) -> None:
    footers_of(folder, cache)
    read.clear()
    path = folder / "07.parquet"
    before = path.stat()
    if change == "time":
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1_000_000))
    else:
        write(path, 99)
        if change == "size":
            assert path.stat().st_size != before.st_size
            os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    found = footers_of(folder, cache)
    assert read == ["07.parquet"]
    assert sum(found.by_file[str(path)].rows) == (12 if change == "time" else 99)
    read.clear()
    assert footers_of(folder, cache) == found
    assert read == []


def test_a_file_more_or_less(folder: Path, cache: Path, read: list[str]) -> None:
    footers_of(folder, cache)
    (folder / "00.parquet").unlink()
    assert len(footers_of(folder, cache).by_file) == FILES - 1
    write(folder / "new.parquet", 3)
    assert footers_of(folder, cache).by_file[f"{folder}/new.parquet"].rows == [3]


def test_files_that_differ_are_kept_with_their_schemas(folder: Path, cache: Path, read: list[str]) -> None:
    write(folder / "30.parquet", 5, "y")
    footers_of(folder, cache)
    found = footers_of(folder, cache)
    assert {schema.names[0] for schema in found.schemas.values()} == {"x", "y"}
    with pytest.raises(DataError, match=r"there is no column x · .*/30\.parquet"):
        open_source(Files((str(folder),)), Request())


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"\xff\xfe",
        b'{"version": 1}',
        b'{"version": 99, "files": {}, "schemas": {}}',
        b'{"version": 1, "schemas": {"a": "AAAA"}, "files": {"x": [1, 2, [3], [4], "a"]}}',
        b'{"version": 1, "schemas": {}, "files": {"x": [1]}}',
        b'{"version": 1, "schemas": [], "files": 3}',
    ],
)
def test_a_damaged_cache_is_ignored_and_replaced(folder: Path, cache: Path, read: list[str], content: bytes) -> None:
    first = footers_of(folder, cache)
    (store,) = cache.glob("*.json")
    store.write_bytes(content)
    read.clear()
    assert footers_of(folder, cache) == first
    assert len(read) == FILES
    read.clear()
    assert footers_of(folder, cache) == first
    assert read == []


def test_a_cache_that_lacks_a_schema_is_not_believed(folder: Path, cache: Path, read: list[str]) -> None:
    first = footers_of(folder, cache)
    (store,) = cache.glob("*.json")
    values: dict[str, Any] = json.loads(store.read_text())
    store.write_text(json.dumps({**values, "schemas": {}}))
    assert footers_of(folder, cache) == first
    assert open_source(Files((str(folder),)), Request()).units


def test_a_cache_folder_that_cannot_be_written(folder: Path, tmp_path: Path, read: list[str]) -> None:
    (tmp_path / "file").write_text("not a folder")
    for _ in range(2):
        assert len(footers_of(folder, tmp_path / "file" / "footers").by_file) == FILES
    assert len(read) == 2 * FILES
    assert len(footers_of(folder, Path("/proc/footers")).by_file) == FILES


def test_a_full_disk_leaves_no_part_of_a_cache(folder: Path, small_disk: Path, read: list[str]) -> None:
    (small_disk / "ballast").write_bytes(bytes(2**20 - 8192))
    cache = small_disk / "footers"
    for _ in range(2):
        assert len(footers_of(folder, cache).by_file) == FILES
    assert not list(cache.glob("*"))


def test_few_files_are_not_worth_keeping(folder: Path, cache: Path, read: list[str]) -> None:
    for _ in range(2):
        read_footers(*find([str(folder / f"{number:02}.parquet") for number in range(10)]), cache)
    assert len(read) == 20
    assert not cache.exists()


def test_no_cache(folder: Path, cache: Path, read: list[str]) -> None:
    for _ in range(2):
        footers_of(folder, None)
    assert len(read) == 2 * FILES
    assert not cache.exists()


def test_a_bad_footer_is_not_kept(folder: Path, cache: Path, read: list[str]) -> None:
    good = (folder / "05.parquet").read_bytes()
    (folder / "05.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"05\.parquet"):
        footers_of(folder, cache)
    (folder / "05.parquet").write_bytes(good)
    assert len(footers_of(folder, cache).by_file) == FILES


def test_a_file_that_vanishes_before_its_footer_is_read(folder: Path) -> None:
    filesystem, files = find(str(folder))
    (folder / "05.parquet").unlink()
    with pytest.raises(DataError, match=f"a data file is not there · {folder}/05.parquet · check the path"):
        read_footers(filesystem, files)
