"""Tasks that list the files of a dataset by themselves, and whether they see the same rows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.events import Event
from cluster.same_data import SameData, told
from cluster.tasks import Task
from pipelines.damage import OnError
from pipelines.errors import DataError
from pipelines.leased import LeasedReader
from pipelines.leases import Desk
from pipelines.listing import counts, difference, digest, listed, packed
from pipelines.reader import Reader, ReadPlan
from pipelines.shards import Sharding, Unit
from pipelines.sources import Files


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    found = tmp_path / "data"
    found.mkdir()
    for part in range(3):
        write(found, part)
    return found


def write(folder: Path, part: int, rows: int = 100) -> None:
    pq.write_table(pa.table({"id": range(rows)}), folder / f"part-{part}.parquet", row_group_size=40)


def reader_of(folder: Path, shard: int, on_error: OnError = "raise", seed: int = 0) -> Reader:
    files = Files((str(folder),), on_error=on_error)
    return Reader(ReadPlan(files, sharding=Sharding(2, 10), shard=shard, shuffle=True, seed=seed))


def listing(index: int, reader: Reader, nth: int = 0) -> Event:
    return Event("data_listed", 1, Task("worker", index), told("data.train", nth, reader))


def test_tasks_that_see_the_same_go_on(folder: Path) -> None:
    same = SameData()
    assert same.take(listing(0, reader_of(folder, 0))) == []
    assert same.take(listing(1, reader_of(folder, 1))) == []


def test_a_file_that_lands_between_two_listings_is_refused(folder: Path) -> None:
    same = SameData()
    assert same.take(listing(1, reader_of(folder, 1))) == []
    write(folder, 3, rows=50)
    (failure,) = same.take(listing(0, reader_of(folder, 0)))
    assert (failure.kind, failure.attempt, failure.task) == ("failed", 1, Task("worker", 0))
    assert failure.data["message"] == (
        "data.train is not the same on all tasks"
        " · worker-0: 350 rows in 4 files; worker-1: 300 rows in 3 files;"
        f" first difference: {folder}/part-3.parquet (50 rows in 2 row groups; not there)"
        " · run again when the files no longer change and every task can read all of them"
    )
    assert failure.data["traceback"] == f"DataError: {failure.data['message']}"


def test_what_one_task_left_out_is_told(folder: Path) -> None:
    same = SameData()
    assert same.take(listing(0, reader_of(folder, 0, "skip_files"))) == []
    (folder / "part-1.parquet").write_bytes(b"PAR1, but not quite")
    (failure,) = same.take(listing(1, reader_of(folder, 1, "skip_files")))
    assert "worker-0: 300 rows in 3 files; worker-1: 200 rows in 2 files" in failure.data["message"]
    assert "worker-1: 1 file left out" in failure.data["message"]


def test_another_order_is_refused(folder: Path) -> None:
    same = SameData()
    same.take(listing(0, reader_of(folder, 0)))
    (failure,) = same.take(listing(1, reader_of(folder, 1, seed=1)))
    assert "orders: True 0 " in failure.data["message"]


def test_each_listing_is_compared_with_those_of_the_same_turn(folder: Path) -> None:
    """A directory that grows may be listed anew for each epoch; and another attempt begins afresh."""
    same = SameData()
    before = [reader_of(folder, shard) for shard in range(2)]
    write(folder, 3)
    after = [reader_of(folder, shard) for shard in range(2)]
    events = [listing(0, before[0]), listing(0, after[0], 1), listing(1, before[1]), listing(1, after[1], 1)]
    assert [same.take(event) for event in events] == [[]] * 4
    same.forget()
    assert same.take(listing(0, after[0])) == []


def test_a_lease_is_of_the_rows_that_the_coordinator_counts(folder: Path) -> None:
    seen = reader_of(folder, 0)
    plan = replace(seen.plan, desk=Desk("localhost", 1, "train", listed(seen.units)))
    assert LeasedReader(plan, b"", 1).rows == 300
    write(folder, 3)
    with pytest.raises(DataError, match=r"data\.train is not the same on worker-1 and on the coordinator") as caught:
        LeasedReader(plan, b"", 1)
    assert caught.value.seen == "400 rows in 4 files; 300 rows in 3 files"


def units(*files: tuple[str, list[int]]) -> list[Unit]:
    return [Unit(file, group, rows) for file, groups in files for group, rows in enumerate(groups)]


def test_the_digest_is_of_files_below_their_folder_and_of_their_row_groups() -> None:
    one = units(("/a/x/1.parquet", [5, 5]), ("/a/x/y/2.parquet", [3]))
    assert digest(one) == digest(units(("s3/b/1.parquet", [5, 5]), ("s3/b/y/2.parquet", [3])))
    assert digest(one) != digest(units(("/a/x/1.parquet", [5, 5]), ("/a/x/y/3.parquet", [3])))
    assert digest(one) != digest(units(("/a/x/1.parquet", [4, 6]), ("/a/x/y/2.parquet", [3])))
    assert digest(units(("/a/1.parquet", [5]))) == digest(units(("1.parquet", [5]))) != digest([])
    assert counts(one) == "13 rows in 2 files"


def test_the_first_file_that_differs() -> None:
    one = packed(units(("/a/1", [5, 5]), ("/a/2", [3])))
    assert difference(one, one) == ""
    assert difference(one, packed(units(("/a/1", [5, 5])))) == "/a/2 (3 rows in 1 row group; not there)"
    assert difference(one, packed(units(("/a/1", [10]), ("/a/2", [3])))) == (
        "/a/1 (10 rows in 2 row groups; 10 rows in 1 row group)"
    )
    assert difference(one, packed(units(("/a/2", [3]), ("/a/1", [5, 5])))) == "the order of the files"
    assert difference(one, packed([])) == "/a/1 (10 rows in 2 row groups; not there)"
