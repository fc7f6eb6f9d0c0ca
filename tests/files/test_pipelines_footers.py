"""Footers: read once, kept, looked at again when a file has changed, and never in the way."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
import pytest

from pipelines import footers
from pipelines.errors import DataError
from pipelines.files import find
from pipelines.footers import Footers, read_footers
from pipelines.kept import document
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


def footers_of(folder: Path, keep: bool = True) -> Footers:
    return read_footers(*find(str(folder)), document("footers", [str(folder)]) if keep else None)


def rows_of(found: Footers) -> dict[str, tuple[int, ...]]:
    """Rows of the row groups of each file, by its name."""
    names = [os.path.basename(path) for path in found.paths]
    return dict(zip(names, found.by_file(found.rows), strict=True))


def same(one: Footers, other: Footers) -> bool:
    return (one.paths, one.schemas) == (other.paths, other.schemas) and all(
        np.array_equal(getattr(one, name), getattr(other, name)) for name in ("kinds", "ends", "rows", "bytes")
    )


def test_footers_are_read_once(folder: Path, cache: Path, read: list[str]) -> None:
    first = footers_of(folder)
    assert sorted(read) == sorted(path.name for path in folder.iterdir())
    read.clear()
    assert same(footers_of(folder), first)
    assert read == []
    assert rows_of(first)["69.parquet"] == (10,) * 7 + (4,)
    assert first.schemas == [pa.schema({"x": pa.int64()})]
    assert first.paths == [str(path) for path in sorted(folder.iterdir())]
    group = pq.ParquetFile(first.paths[3]).metadata.row_group(0)
    assert first.by_file(first.bytes)[3] == (group.total_byte_size,)


def test_a_source_uses_them(folder: Path, cache: Path, read: list[str]) -> None:
    first = open_source(Files((str(folder),)), Request()).units
    assert len(read) == FILES
    assert [*cache.iterdir()] == [document("footers", [str(folder)])]
    read.clear()
    assert open_source(Files((str(folder),)), Request()).units == first
    assert read == []


@pytest.mark.parametrize("change", ["size", "time", "both"])
def test_a_file_that_has_changed_is_read_again(folder: Path, cache: Path, read: list[str], change: str) -> None:
    footers_of(folder)
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
    found = footers_of(folder)
    assert read == ["07.parquet"]
    assert sum(rows_of(found)["07.parquet"]) == (12 if change == "time" else 99)
    read.clear()
    assert same(footers_of(folder), found)
    assert read == []


def test_a_file_more_or_less(folder: Path, cache: Path, read: list[str]) -> None:
    footers_of(folder)
    read.clear()
    (folder / "00.parquet").unlink()
    (folder / "40.parquet").unlink()
    assert [*rows_of(footers_of(folder))] == sorted(path.name for path in folder.iterdir())
    write(folder / "35a.parquet", 3)
    found = footers_of(folder)
    assert read == ["35a.parquet"]
    assert [*rows_of(found)] == sorted(path.name for path in folder.iterdir())
    assert rows_of(found) == rows_of(footers_of(folder, keep=False))
    assert len(pa.ipc.open_stream(kept(cache)[16:]).read_all()) == FILES - 1


def kept(cache: Path) -> bytes:
    (store,) = cache.iterdir()
    return store.read_bytes()


def test_files_that_differ_are_kept_with_their_schemas(folder: Path, cache: Path, read: list[str]) -> None:
    write(folder / "30.parquet", 5, "y")
    footers_of(folder)
    found = footers_of(folder)
    assert [found.schemas[kind].names for kind in found.kinds[29:32]] == [["x"], ["y"], ["x"]]
    with pytest.raises(DataError, match=r"there is no column x · .*/30\.parquet"):
        open_source(Files((str(folder),)), Request())
    write(folder / "30.parquet", 6, "x")
    assert footers_of(folder).schemas == [pa.schema({"x": pa.int64()})]


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", bytes(500)])
def test_a_damaged_cache_is_ignored_and_replaced(folder: Path, cache: Path, read: list[str], content: bytes) -> None:
    first = footers_of(folder)
    (store,) = cache.iterdir()
    store.write_bytes(content)
    read.clear()
    assert same(footers_of(folder), first)
    assert len(read) == FILES
    read.clear()
    assert same(footers_of(folder), first)
    assert read == []


def test_a_cache_folder_that_cannot_be_written(folder: Path, tmp_path: Path, read: list[str]) -> None:
    (tmp_path / "file").write_text("not a folder")
    for place in (tmp_path / "file" / "footers", Path("/proc/footers")):
        for _ in range(2):
            assert len(read_footers(*find(str(folder)), place / "one.arrow").paths) == FILES
    assert len(read) == 4 * FILES


def test_a_full_disk_leaves_no_part_of_a_cache(folder: Path, small_disk: Path, read: list[str]) -> None:
    (small_disk / "ballast").write_bytes(bytes(2**20 - 8192))
    cache = small_disk / "footers"
    for _ in range(2):
        assert len(read_footers(*find(str(folder)), cache / "one.arrow").paths) == FILES
    assert not list(cache.glob("*"))


def test_few_files_are_not_worth_keeping(folder: Path, cache: Path, read: list[str]) -> None:
    for _ in range(2):
        few = [str(folder / f"{number:02}.parquet") for number in range(10)]
        read_footers(*find(few), document("footers", few))
    assert len(read) == 20
    assert not cache.exists()


def test_no_cache(folder: Path, cache: Path, read: list[str]) -> None:
    for _ in range(2):
        footers_of(folder, keep=False)
    assert len(read) == 2 * FILES
    assert not cache.exists()


def test_a_bad_footer_is_not_kept(folder: Path, cache: Path, read: list[str]) -> None:
    good = (folder / "05.parquet").read_bytes()
    (folder / "05.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"05\.parquet"):
        footers_of(folder)
    (folder / "05.parquet").write_bytes(good)
    assert len(footers_of(folder).paths) == FILES


def test_a_file_that_vanishes_before_its_footer_is_read(folder: Path) -> None:
    filesystem, files = find(str(folder))
    (folder / "05.parquet").unlink()
    with pytest.raises(DataError, match=f"a data file is not there · {folder}/05.parquet · check the path"):
        read_footers(filesystem, files)
