"""One shard's reader without TensorFlow: what it reads of the files, and how far ahead."""

from __future__ import annotations

import threading

import numpy as np
import pyarrow as pa
import pytest

from pipelines.layout import Request, layout_of
from pipelines.memory import MemorySource
from pipelines.reader import AHEAD, CHUNK_ROWS, Reader, ReadPlan
from pipelines.shards import MIX_UNITS, Sharding, Span, Unit
from pipelines.sources import Files, Opened
from tests.idle import until_idle

ROWS, UNIT = 1_000_000, 8_192


class Counting(MemorySource):
    """Remembers which units were read."""

    def __init__(self) -> None:
        super().__init__([np.arange(ROWS)])
        self.read_units: list[int] = []
        self._turn = threading.Lock()

    def read(self, unit: Unit) -> pa.Table:
        with self._turn:
            self.read_units.append(unit.row_group)
        return super().read(unit)


@pytest.fixture
def source() -> Counting:
    return Counting()


def reader_of(source: Counting, start: int = 0, *, shuffle: bool = False) -> Reader:
    opened = Opened(source, layout_of(source.schema, Request(), "arrays"), source.units)
    plan = ReadPlan(Files(("",)), sharding=Sharding(1, 1024), line=(Span(0, start, ROWS),), shuffle=shuffle)
    return Reader(plan, opened)


def test_an_epoch_begun_at_its_end_reads_its_end_only(source: Counting) -> None:
    reader = reader_of(source, ROWS - 500)
    found = np.concatenate([reader.read(chunk)[0] for chunk in reader.begin()])
    assert np.array_equal(found, np.arange(ROWS - 500, ROWS))
    assert sorted(source.read_units) == [len(source.units) - 1]


def test_a_shuffled_epoch_begun_at_its_end_reads_its_last_block_only(source: Counting) -> None:
    reader = reader_of(source, ROWS - 5_000, shuffle=True)
    found = np.concatenate([reader.read(chunk)[0] for chunk in reader.begin()])
    assert len(set(found.tolist())) == 5_000
    assert len(source.read_units) == len(set(source.read_units)) <= MIX_UNITS


def test_every_unit_is_read_once(source: Counting) -> None:
    reader = reader_of(source)
    found = np.concatenate([reader.read(chunk)[0] for chunk in reader.begin()])
    assert np.array_equal(found, np.arange(ROWS))
    assert sorted(source.read_units) == [*range(len(source.units))]


def test_little_is_read_ahead_of_the_first_batch(source: Counting) -> None:
    reader = reader_of(source)
    first, *_ = reader.begin()
    assert np.array_equal(reader.read(first)[0], np.arange(1024))
    until_idle(reader)
    assert sorted(source.read_units) == [*range(1 + AHEAD)]


def test_no_more_is_read_ahead_than_two_chunks(source: Counting) -> None:
    reader = reader_of(source)
    chunks = reader.begin()
    for chunk in chunks[:-3]:
        reader.read(chunk)
    until_idle(reader)
    taken = int(chunks[-4][2])
    assert len(source.read_units) <= -(-(taken + 2 * CHUNK_ROWS) // UNIT) + 1


def reading() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name.startswith("read")}


def test_the_threads_of_an_iteration_end_with_it(source: Counting) -> None:
    before, mine = reading(), set[threading.Thread]()
    reader = reader_of(source)
    for chunk in reader.begin():
        reader.read(chunk)
        mine |= reading() - before
    assert mine
    for thread in mine:
        thread.join(10)
    assert reading() <= before


def test_an_iteration_that_others_have_replaced_ends(source: Counting) -> None:
    before = reading()
    reader = reader_of(source)
    first, second, *_ = reader.begin()
    iteration = reader._iterations[0]
    reader.read(first)
    for _ in range(3):
        reader.begin()
    for asked in (lambda: reader.read(second), lambda: iteration.rows(int(second[1]), int(second[2]))):
        with pytest.raises(StopIteration):
            asked()
    for thread in reading() - before:
        thread.join(10)
        assert not thread.is_alive()
