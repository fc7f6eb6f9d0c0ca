"""Rows of an object store are those of this machine: through the reader, by folder, glob and list, in every format."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.fs as pafs
import pyarrow.parquet as pq
import pytest

from pipelines.damage import OnError
from pipelines.errors import DataError
from pipelines.file_systems import open_file_system
from pipelines.layout import Request
from pipelines.reader import Reader, ReadPlan
from pipelines.shards import Sharding
from pipelines.sources import Files
from pipelines.tfrecord_writer import write_records
from tests.every_type import EVERY_TYPE, expected, same, types_here
from tests.files.parquet_rows import rebuilt, write

ROWS = 1001


class Place:
    """A folder of a storage.

    Args:
        uri: of the folder, with a query where the storage needs one.
    """

    def __init__(self, uri: str) -> None:
        self._base, self._mark, self._query = uri.partition("?")

    def uri(self, below: str = "") -> str:
        """Of what lies below it."""
        return f"{self._base}/{below}{self._mark}{self._query}"

    def put(self, folder: Path) -> None:
        """All files of a folder of this machine."""
        filesystem, path = open_file_system(self.uri("data"))
        filesystem.create_dir(path, recursive=True)
        pafs.copy_files(str(folder), path, pafs.LocalFileSystem(), filesystem)

    def delete(self, below: str) -> None:
        """A file."""
        filesystem, path = open_file_system(self.uri(f"data/{below}"))
        filesystem.delete_file(path)


@pytest.fixture(params=["local", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return Place(f"file://{tmp_path}/there" if request.param == "local" else request.getfixturevalue("s3"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """`ROWS` rows in three files below folders that name a column, and a file that is no data."""
    folder = tmp_path / "here"
    for number, part in enumerate(np.split(np.arange(ROWS), [300, 317])):
        table = {"id": part, "text": [f"row {row}" for row in part], "list": [[row] * (row % 3) for row in part]}
        write(folder / f"part={number}" / "x.parquet", table, row_group_size=90)
    (folder / "_SUCCESS").touch()
    return folder


def reader_of(*uris: str, on_error: OnError = "raise", shards: int = 1, shard: int = 0, **request: Any) -> Reader:
    shuffle = request.pop("shuffle", False)
    plan = ReadPlan(Files(uris, on_error=on_error), Request(**request), Sharding(shards, 16), shard, shuffle)
    return Reader(plan)


def rows(reader: Reader) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {feature.name: [] for feature in reader.layout.features}
    for chunk in reader.begin():
        parts = iter(reader.read(chunk))
        for feature in reader.layout.features:
            found[feature.name] += rebuilt(parts, feature.kind, int(chunk[2] - chunk[1]))
    return found


@pytest.mark.parametrize(
    "below", [("data",), ("data/",), ("data/*/*.parquet",), ("data/part=[0]/*", "data/part=[!0]/*")]
)
def test_every_row(place: Place, folder: Path, below: tuple[str, ...]) -> None:
    place.put(folder)
    found = rows(reader_of(*map(place.uri, below)))
    assert found["id"] == [*range(ROWS)]
    assert found["text"] == [f"row {row}".encode() for row in range(ROWS)]
    assert found["list"] == [[row] * (row % 3) for row in range(ROWS)]
    if below[0] == "data":
        assert found["part"] == [0] * 300 + [1] * 17 + [2] * (ROWS - 317)


def test_shards_share_the_rows_in_an_order_that_is_the_same_everywhere(place: Place, folder: Path) -> None:
    place.put(folder)
    found = [rows(reader_of(place.uri("data"), shards=3, shard=shard, shuffle=True))["id"] for shard in range(3)]
    assert found == [rows(reader_of(str(folder), shards=3, shard=shard, shuffle=True))["id"] for shard in range(3)]
    assert sorted(row for shard in found for row in shard) == [*range(ROWS)]


def test_filters(place: Place, folder: Path) -> None:
    place.put(folder)
    found = rows(reader_of(place.uri("data"), filters=(("id", ">=", 310), ("part", "!=", 2))))
    assert found["id"] == [*range(310, 317)]


def test_every_type(place: Place, tmp_path: Path) -> None:
    for name in types_here():
        path = write(tmp_path / "here" / f"{name}.parquet", {name: EVERY_TYPE[name]()}, row_group_size=17)
    place.put(path.parent)
    for name in types_here():
        found = rows(reader_of(place.uri(f"data/{name}.parquet")))
        wanted = expected(pq.read_table(path.with_name(f"{name}.parquet")))
        assert all(same(found[column], wanted[column]) for column in wanted)


@pytest.mark.parametrize("compression", [None, "GZIP"])
def test_records(place: Place, tmp_path: Path, compression: str | None) -> None:
    (tmp_path / "here").mkdir()
    records = [f"record {number}".encode() * 100 for number in range(500)]
    for part in range(2):
        write_records(str(tmp_path / "here" / f"x.tfrecord-0000{part}-of-00002"), records[part::2], compression)
    place.put(tmp_path / "here")
    features = Files((place.uri("data"),), features={"x": "int64"})
    reader = Reader(ReadPlan(features, sharding=Sharding(1, 16)))
    found = [record.as_py() for unit in reader.units for record in reader.source.read(unit)["record"]]
    assert found == records[0::2] + records[1::2]


def test_what_is_damaged_is_left_out(place: Place, folder: Path) -> None:
    (folder / "part=1" / "x.parquet").write_bytes(b"PAR1")
    place.put(folder)
    reader = reader_of(place.uri("data"), on_error="skip_files")
    assert rows(reader)["id"] == [*range(300), *range(317, ROWS)]
    assert str(reader.skipped).startswith("1 file left out: ")


def test_a_file_that_vanishes(place: Place, folder: Path) -> None:
    place.put(folder)
    reader = reader_of(place.uri("data"))
    place.delete("part=2/x.parquet")
    with pytest.raises(DataError, match=r"cannot read a row group · .*part=2/x\.parquet, row group 0 · "):
        rows(reader)


def test_nothing_is_there(place: Place) -> None:
    with pytest.raises(DataError, match="no data file is there"):
        reader_of(place.uri("nothing"))
