"""Documents of what was learned of files: believed while whole and true, written whole, bounded, never in the way."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pyarrow as pa
import pytest

from pipelines import kept
from pipelines.files import File
from pipelines.kept import document, keep, listed, recall

LEARNED = pa.schema({"rows": pa.list_(pa.int64())})


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "ray-tfcluster" / "things"


def files(count: int = 5, changed: int = 7) -> list[File]:
    return [File(f"/data/{number}", 100 + number, changed) for number in range(count)]


def table(of: list[File]) -> pa.Table:
    return listed(of).append_column(LEARNED.field(0), pa.array([[file.size, 1] for file in of], pa.list_(pa.int64())))


def known(store: Path | None, of: list[File]) -> tuple[list[str], list[int]]:
    found, missing = recall(store, of, LEARNED)
    assert found.schema == table(of).schema
    assert found["rows"].to_pylist() == [[size, 1] for size in found["size"].to_pylist()]
    return found["path"].to_pylist(), missing


def test_where_documents_are(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert document("things", ["/x"]).parent == cache
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/someone")
    assert document("things", ["/x"]).parent == Path("/home/someone/.cache/ray-tfcluster/things")
    monkeypatch.setenv("TFCLUSTER_CACHE", "/shared")
    assert document("things", ["/x"]).parent == Path("/shared/things")


def test_a_document_is_of_one_place(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").mkdir()
    monkeypatch.chdir(tmp_path)
    here = document("things", ["data"])
    assert here == document("things", [f"{tmp_path}/data/"]) == document("things", ["./data"])
    monkeypatch.chdir(tmp_path / "a")
    assert document("things", ["data"]) != here
    names = [["s3://a/x"], ["s3://a/x?region=y"], ["s3://b/x"], ["x"], ["x", "y"], ["y", "x"], ["x y"]]
    assert len({document("things", name) for name in names}) == len(names)


def test_what_is_kept_is_known_again(cache: Path) -> None:
    store = document("things", ["/data"])
    assert known(store, files()) == ([], [0, 1, 2, 3, 4])
    keep(store, table(files()))
    assert known(store, files()) == ([file.path for file in files()], [])
    assert known(None, files()) == ([], [0, 1, 2, 3, 4])
    assert known(store, []) == ([], [])


def test_only_what_is_still_so(cache: Path) -> None:
    store = document("things", ["/data"])
    keep(store, table(files()))
    now = files()[::-1]
    now[0], now[2] = now[0]._replace(size=1), now[2]._replace(changed=8)
    now.insert(3, File("/data/new", 1, 7))
    assert known(store, now) == (["/data/3", "/data/1", "/data/0"], [0, 2, 3])
    assert known(store, [File("/data/0", 100, 7)]) == (["/data/0"], [])


def test_a_file_system_without_times_is_not_believed(cache: Path) -> None:
    store = document("things", ["/data"])
    keep(store, table(files(changed=0)))
    assert known(store, files(changed=0)) == ([], [0, 1, 2, 3, 4])


def test_a_damaged_document_is_not_believed(cache: Path) -> None:
    store = document("things", ["/data"])
    keep(store, table(files()))
    good = store.read_bytes()
    bad = [b"", b"{", good[:16], good[:-1], good[:200], good + b"x", bytes(len(good))]
    bad += [good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :] for at in range(0, len(good), 7)]
    for content in bad:
        store.write_bytes(content)
        assert known(store, files()) == ([], [0, 1, 2, 3, 4])
    store.write_bytes(good)
    assert known(store, files())[1] == []


def test_a_document_of_another_version_is_not_believed(cache: Path) -> None:
    store = document("things", ["/data"])
    keep(store, table(files()).rename_columns(["path", "size", "changed", "lines"]))
    assert known(store, files()) == ([], [0, 1, 2, 3, 4])


def test_two_at_once_leave_one_whole_document(cache: Path) -> None:
    store = document("things", ["/data"])
    tables = [table(files(count)) for count in (2000, 3000)]
    seen: set[int] = set()

    def write(one: pa.Table) -> None:
        for _ in range(30):
            keep(store, one)
            seen.add(len(recall(store, files(3000), LEARNED)[0]))

    threads = [threading.Thread(target=write, args=(one,)) for one in tables]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen <= {2000, 3000}
    assert [*cache.iterdir()] == [store]


def test_documents_not_used_for_longest_go(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stores = [document("things", [f"/{number}"]) for number in range(5)]
    for second, store in enumerate(stores[:4]):
        keep(store, table(files()))
        os.utime(store, (second, second))
    monkeypatch.setattr(kept, "MOST_BYTES", 3 * stores[0].stat().st_size)
    assert known(stores[0], files())[1] == []  # has been used just now
    keep(stores[4], table(files()))
    assert {store for store in stores if store.exists()} == {stores[0], stores[3], stores[4]}
    monkeypatch.setattr(kept, "MOST_BYTES", 10)
    keep(stores[1], table(files()))
    assert [*cache.iterdir()] == [stores[1]]
