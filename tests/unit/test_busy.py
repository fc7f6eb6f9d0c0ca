"""How much of the time something goes on, of which several may go on at once, and what a task tells of its reading."""

from __future__ import annotations

import threading

import numpy as np
import pyarrow as pa
import pytest

from cluster.input_share import InputShare
from pipelines import busy
from pipelines.busy import Busy
from pipelines.layout import Request, layout_of
from pipelines.memory import MemorySource
from pipelines.reader import Reader, ReadPlan
from pipelines.shards import Sharding, Unit
from pipelines.sources import Files, Opened
from tests.idle import until_idle


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_what_overlaps_counts_once() -> None:
    clock = Clock()
    busy = Busy(clock)
    with busy:
        clock.now += 1
        with busy:
            clock.now += 2
        clock.now += 4
        assert busy.seconds() == 7
    clock.now += 8
    assert busy.seconds() == 7

    def ends() -> None:
        with busy:
            clock.now += 16
            raise StopIteration

    with pytest.raises(StopIteration):
        ends()
    assert busy.seconds() == 23


def test_threads_lose_no_time() -> None:
    clock, busy = Clock(), Busy()
    gate = threading.Barrier(9)

    def block() -> None:
        gate.wait()
        for _ in range(200):
            with busy:
                pass

    threads = [threading.Thread(target=block) for _ in range(8)]
    for thread in threads:
        thread.start()
    gate.wait()
    for thread in threads:
        thread.join()
    before = busy.seconds()
    assert busy.seconds() == before  # none of them is thought to go on
    assert clock.now == 100.0


def test_a_share_is_of_the_time_since_the_last_one() -> None:
    clock = Clock()
    busy = Busy(clock)
    share = InputShare(busy, clock)
    clock.now += 10
    assert share.share() is None  # nothing is read through us at all
    with busy:
        clock.now += 1
    clock.now += 3
    assert share.share() == 0.25
    clock.now += 5
    assert share.share() == 0.0
    with busy:
        clock.now += 5
        assert share.share() == 1.0


class Slow(MemorySource):
    """Reads when it is allowed to."""

    def __init__(self) -> None:
        super().__init__([np.arange(200_000)])
        self.go, self.begun = threading.Event(), threading.Event()

    def read(self, unit: Unit) -> pa.Table:
        self.begun.set()
        self.go.wait(20)
        return super().read(unit)


def test_a_reader_is_busy_while_it_reads_and_not_while_nobody_asks() -> None:
    source = Slow()
    opened = Opened(source, layout_of(source.schema, Request(), "arrays"), source.units)
    reader = Reader(ReadPlan(Files(("",)), sharding=Sharding(1, 1024)), opened)
    first = reader.begin()[0]
    thread = threading.Thread(target=reader.read, args=(first,))
    share = InputShare()
    thread.start()
    assert source.begun.wait(20)
    share.share()  # from here on it reads all the time
    threading.Event().wait(0.05)
    assert share.share() == 1.0
    source.go.set()
    thread.join(20)
    until_idle(reader)
    share.share()
    before = busy.reads.seconds()
    assert before > 0
    assert share.share() == 0.0
    assert busy.reads.seconds() == before
