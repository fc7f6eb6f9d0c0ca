"""What a reader remembers of the records that it handed out: where each of them is from, whatever their order."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path

import pytest

from pipelines import tfrecord_index
from pipelines.columns import Array
from pipelines.layout import Request
from pipelines.reader import Reader, ReadPlan, readers_of_records
from pipelines.shards import Line, Sharding, Span
from pipelines.sources import Files
from pipelines.tfrecord_writer import write_records


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """1,000 records in two files of several units."""
    monkeypatch.setattr(tfrecord_index, "UNIT_RECORDS", 70)
    for name, numbers in (("a", range(300)), ("b", range(300, 1000))):
        write_records(str(tmp_path / f"{name}.tfrecord"), [b"%d" % number for number in numbers])
    return tmp_path


def records_in(parts: list[Array]) -> list[bytes]:
    data, offsets = parts[0].item(), parts[1]
    return [data[start:stop] for start, stop in itertools.pairwise(offsets)]


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("line", [None, (Span(2, 90, 411), Span(2, 700, 1000), Span(3, 0, 1000))])
def test_where_the_records_of_each_chunk_are_from(folder: Path, shuffle: bool, line: Line | None) -> None:
    files = Files((str(folder),), features={"x": "int64"})
    for shard in range(2):
        reader = Reader(ReadPlan(files, Request(), Sharding(2, 32), shard, shuffle, 7, 2, line))
        assert reader in readers_of_records
        for chunk in reader.begin():
            found = records_in(reader.read(chunk))
            origins = [origin for piece in reader.lately[-1] for origin in reader.origins(piece)]
            tables = [reader.source.read(unit)["record"].take(rows).to_pylist() for unit, rows in origins]
            assert Counter(found) == Counter(record for table in tables for record in table)
