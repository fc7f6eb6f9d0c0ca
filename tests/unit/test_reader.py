"""One shard's reader without TensorFlow: what it reads of the files, and how far ahead."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipelines.errors import DataError
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


def test_an_iteration_goes_on_whatever_others_are_begun_and_left(source: Counting) -> None:
    before = reading()
    reader = reader_of(source)
    chunks = reader.begin()
    found = []
    for chunk in chunks:
        found.append(reader.read(chunk)[0])
        for _ in range(5):  # as `next(iter(dataset))` does
            first, *_ = reader.begin()
            assert reader.read(first)[0][0] == 0
    assert np.array_equal(np.concatenate(found), np.arange(ROWS))
    assert len(reader._iterations) <= 16
    for thread in reading() - before:
        if all(iteration._pool is None or thread not in iteration._pool._threads for iteration in awake(reader)):
            thread.join(10)
            assert not thread.is_alive()


def awake(reader: Reader) -> list[Any]:
    """The iterations that hold something."""
    return [iteration for iteration in reader._iterations.values() if iteration._tables or iteration._pool]


def test_an_iteration_that_takes_its_time_is_not_forgotten(source: Counting) -> None:
    reader = reader_of(source)
    first, second, *_ = reader.begin()
    reader.read(first)
    for _ in range(100):
        reader.read(reader.begin()[0])
    assert np.array_equal(reader.read(second)[0], np.arange(second[1], second[2]))


def test_few_iterations_hold_what_they_have_read(source: Counting) -> None:
    reader = reader_of(source)
    for _ in range(12):
        reader.read(reader.begin()[0])
    assert len(reader._iterations) == 12
    assert len(awake(reader)) == 3


def test_several_iterations_are_read_in_turns(source: Counting) -> None:
    reader = reader_of(source)
    iterations = [reader.begin() for _ in range(6)]
    for chunks in zip(*iterations, strict=True):
        parts = [reader.read(chunk)[0] for chunk in chunks]
        assert all(np.array_equal(part, parts[0]) for part in parts)
        assert len(awake(reader)) <= 3
    assert len(parts) == 6
    reader.begin()
    assert len(reader._iterations) == 1  # those that are over are forgotten first


def test_an_iteration_that_is_forgotten_says_so(source: Counting) -> None:
    reader = reader_of(source)
    first, second, *_ = reader.begin()
    reader.read(first)
    iteration = reader._iterations[0]
    for _ in range(100):
        reader.begin()  # never read
    assert np.array_equal(reader.read(second)[0], np.arange(second[1], second[2]))
    for _ in range(16):
        for chunk in reader.begin()[:4]:
            reader.read(chunk)
    with pytest.raises(DataError, match=r"given up for later ones · 16 others .* · keep an iterator"):
        reader.read(second)
    with pytest.raises(StopIteration):
        iteration.rows(int(second[1]), int(second[2]))


def test_a_piece_that_is_put_to_rest_while_it_is_waited_for_is_loaded_again() -> None:
    started, go_on = threading.Event(), threading.Event()

    class Slow(Counting):
        def read(self, unit: Unit) -> pa.Table:
            started.set()
            go_on.wait(10)
            return super().read(unit)

    reader = reader_of(Slow())
    chunks = reader.begin()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(reader.read, chunks[-1])  # of more pieces than there are threads
        assert started.wait(10)
        for _ in range(3):
            reader.begin()
        assert reader._iterations[0].rests
        go_on.set()
        assert np.array_equal(waiting.result(10)[0], np.arange(chunks[-1][1], ROWS))
