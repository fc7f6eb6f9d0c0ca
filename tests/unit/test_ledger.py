"""Leases: over any order of asking, losses and new starts each row of an epoch is trained on exactly once."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing import AuthenticationError
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.errors import DataError
from pipelines.leases import LeaseClient, LeaseServer
from pipelines.ledger import Lease, Ledger, batches_in, cut
from pipelines.shards import Remainder, Span, rows_in

pytestmark = pytest.mark.timeout(120)


@dataclass
class Crew:
    """Workers that lease from a ledger, read ahead, and train; and what the ps have been told since the start."""

    ledger: Ledger
    trained: Counter[tuple[int, int]] = field(default_factory=Counter)
    readings: dict[int, int] = field(default_factory=dict)
    ahead: dict[int, list[Span]] = field(default_factory=dict)

    def read(self, worker: int) -> None:
        """Lease some rows and cut them into batches, ahead of the training."""
        if worker not in self.readings:
            self.readings[worker], self.ahead[worker] = self.ledger.open(worker), []
        lease = self.ledger.lease(self.readings[worker])
        assert lease is not None
        rest: tuple[Span, ...] = (lease.span,)
        while rest:
            (batch,), rest = cut(rest, 1, lease.batch)
            assert 0 < batch.stop - batch.start <= lease.batch
            self.ahead[worker].append(batch)

    def train(self, worker: int, *, finishes: bool = True) -> None:
        """Take a batch, and train on it unless the worker dies in that step."""
        if not self.ahead.get(worker):
            self.read(worker)
        batch = self.ahead[worker].pop(0)
        self.ledger.took(self.readings[worker])
        if finishes:
            self.trained.update((batch.epoch, row) for row in range(batch.start, batch.stop))

    def lose(self, worker: int) -> None:
        """The worker is killed within a step."""
        self.train(worker, finishes=False)
        self.ledger.close(self.readings.pop(worker))
        del self.ahead[worker]

    def waiting(self) -> Counter[tuple[int, int]]:
        """The rows that a position would tell of."""
        return Counter((span.epoch, row) for span in self.ledger.line() for row in range(span.start, span.stop))


@settings(max_examples=150, deadline=None)
@given(
    rows=st.integers(1, 300),
    batch=st.integers(1, 40),
    workers=st.integers(1, 5),
    remainder=st.sampled_from(["keep", "drop"]),
    lease_rows=st.integers(1, 200),
    script=st.lists(st.tuples(st.sampled_from(["read", "train", "train", "lose", "restart"]), st.integers(0, 4))),
    new_batch=st.integers(1, 40),
)
def test_each_row_of_an_epoch_is_trained_on_once(
    rows: int,
    batch: int,
    workers: int,
    remainder: Remainder,
    lease_rows: int,
    script: list[tuple[str, int]],
    new_batch: int,
) -> None:
    if remainder == "drop" and rows < max(batch, new_batch):
        remainder = "keep"
    crew = Crew(Ledger(rows, batch, workers, remainder, lease_rows))
    saved, at_save = crew.ledger.to_dict(), Counter(crew.trained)
    for action, number in script:
        worker = number % crew.ledger.workers
        match action:
            case "read":
                crew.read(worker)
            case "train":
                crew.train(worker)
            case "lose":
                crew.lose(worker)
            case "restart" if number % 2:  # a checkpoint
                crew.ledger.settle()
                saved, at_save = crew.ledger.to_dict(), Counter(crew.trained)
            case "restart":  # a ps is lost; the next attempt has other workers and other batches
                fresh = Ledger(rows, new_batch if remainder == "keep" else batch, number + 1, remainder, lease_rows)
                fresh.resume(saved["line"], saved["epoch"])
                crew = Crew(fresh, Counter(at_save))
    whole = rows - rows % batch if remainder == "drop" else rows
    begun = Counter((epoch, row) for epoch in range(crew.ledger.epoch) for row in range(whole))
    assert crew.trained + crew.waiting() == begun


def test_a_worker_reads_along_its_files_and_steals_half_of_what_another_has_left() -> None:
    ledger = Ledger(rows=1600, batch=100, workers=2)
    fast, slow = ledger.open(0), ledger.open(1)
    assert ledger.lease(slow) == Lease(Span(0, 800, 900), 100)
    leases = [ledger.lease(fast)]
    while leases[-1] is not None and leases[-1].span.epoch == 0:
        leases.append(ledger.lease(fast))
    spans = [lease.span for lease in leases[:-1] if lease is not None]
    # Small leases first, for a quick start, and last, for others to steal; then half of the seven batches that wait.
    assert [(span.start, span.stop) for span in spans[:5]] == [(0, 100), (100, 300), (300, 500), (500, 600), (600, 700)]
    assert (spans[6].start, spans[6].stop) == (1200, 1400)
    assert sorted(row for span in spans for row in range(span.start, span.stop)) == [*range(800), *range(900, 1600)]


def test_batches_never_go_over_the_end_of_a_span() -> None:
    line = (Span(0, 0, 250), Span(0, 900, 1000), Span(1, 0, 30))
    assert batches_in(line, 100) == 5
    assert cut(line, 2, 100) == ((Span(0, 0, 200),), (Span(0, 200, 250), *line[1:]))
    assert cut(line, 4, 100) == (line[:2], line[2:])
    assert cut(line, 9, 100) == (line, ())
    assert cut(line, 0, 100) == ((), line)


def test_too_few_rows_for_a_batch() -> None:
    with pytest.raises(DataError, match=r"an epoch has no batch · 5 rows, batches of 10"):
        Ledger(5, 10, 2, "drop")
    with pytest.raises(DataError, match="an epoch has no batch"):
        Ledger(0, 10, 2)


SECRET = b"s" * 32


@pytest.fixture(params=["127.0.0.1", "::1"])
def server(request: pytest.FixtureRequest) -> Iterator[LeaseServer]:
    """Hands out 1,000 rows in batches of ten to two workers."""
    server = LeaseServer(request.param, SECRET)
    server.add("train", Ledger(1000, 10, 2))
    yield server
    server.close()


def test_leases_come_over_a_connection_and_go_back_when_it_ends(server: LeaseServer) -> None:
    clients = [LeaseClient(server.desk("train"), SECRET, worker) for worker in range(2)]
    spans = [client.lease() for client in clients for _ in range(2)]
    assert spans == [(Span(0, *at), 10) for at in [(0, 10), (10, 30), (500, 510), (510, 530)]]
    for client in clients:
        client.took()
        client.close()
    until(lambda: rows_in(server.to_dict()["train"]["line"]) == 1000)


def test_what_a_killed_process_told_still_counts(server: LeaseServer) -> None:
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=takes_and_stays, args=(server.desk("train"), theirs))
    process.start()
    assert ours.recv() == "took"
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    # Five batches were taken, and the last may be in flight.
    until(lambda: server.to_dict()["train"]["line"] == (Span(0, 40, 1000),))


def takes_and_stays(desk: Any, pipe: Any) -> None:
    """Take five of fifteen leased batches, and wait to be killed."""
    client = LeaseClient(desk, SECRET, 0)
    for _ in range(4):
        client.lease()
    for _ in range(5):
        client.took()
    pipe.send("took")
    threading.Event().wait()


def test_a_new_reading_ends_the_one_before(server: LeaseServer) -> None:
    first = LeaseClient(server.desk("train"), SECRET, 0)
    assert first.lease() == (Span(0, 0, 10), 10)
    second = LeaseClient(server.desk("train"), SECRET, 0)
    assert second.lease() == (Span(0, 0, 10), 10)
    assert first.lease() is None


def test_who_does_not_know_the_secret_gets_no_lease(server: LeaseServer) -> None:
    with pytest.raises((AuthenticationError, EOFError, OSError)):
        LeaseClient(server.desk("train"), b"another", 0)
    with socket.create_connection((server.desk("train").host, server.desk("train").port)) as stranger:
        stranger.sendall(b'\0\0\0\x07"lease"' * 3)
        with contextlib.suppress(ConnectionResetError):
            while stranger.recv(1024):  # the challenge, then the end
                pass
    assert LeaseClient(server.desk("train"), SECRET, 0).lease() == (Span(0, 0, 10), 10)


def until(condition: Callable[[], bool]) -> None:
    """Wait for what another thread does."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        threading.Event().wait(0.005)
