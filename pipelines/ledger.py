"""Who reads which rows when workers do not keep in step: rows are handed out in leases, and stolen from slow workers.

Synchronous workers do the same number of batches, so each has its share of an epoch. Asynchronous ones, on parameter
servers, go as fast as they can. Each begins with a share here too, so that it reads along its files; it takes the
rows from its front in leases, and when it has none left, it takes half of what the worker with the most rows has not
leased yet (work stealing: Blumofe and Leiserson, 1999). Epoch follows epoch; nobody waits for the last rows of one.

The ledger knows of every row whether it was trained on: a row is waiting, leased, or taken. What a lost worker had
leased and not taken waits again, and so does its last batch, which may be in flight. What waits or is leased is a
line (see `pipelines.shards`), from which any number of workers can go on.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from pipelines.errors import DataError
from pipelines.shards import Line, Remainder, Span, joined, rows_in


class Lease(NamedTuple):
    """Rows that one worker is to read: `span`, in batches of `batch` rows, the last of which may have fewer."""

    span: Span
    batch: int


@dataclass
class _Session:
    """One reading of one worker: its leases in order, from the first row that it has not taken yet."""

    worker: int
    leases: deque[Span] = field(default_factory=deque)
    in_flight: Span | None = None  # the batch that was taken last
    batches: int = 1  # of the next lease: few at first, so that nobody waits long for a batch


@dataclass
class Ledger:
    """The rows of one dataset, and which of them are still to be trained on.

    Attributes:
        rows: of the whole dataset.
        batch: rows of one batch.
        workers: number of workers that share the rows out between them.
        remainder: `drop` leaves out the last rows of an epoch, which do not fill a batch.
        lease_rows: rows of the largest lease.
        epoch: the epoch that begins when no row waits any more.

    Raises:
        DataError: an epoch has no batch.
    """

    rows: int
    batch: int
    workers: int
    remainder: Remainder = "keep"
    lease_rows: int = 65_536
    epoch: int = 0
    _waiting: list[Line] = field(init=False)
    _sessions: dict[int, _Session] = field(default_factory=dict)
    _opened: int = 0

    def __post_init__(self) -> None:
        self._waiting = [()] * self.workers
        if not self._epoch_rows():
            raise DataError(
                "an epoch has no batch", f"{self.rows} rows, batches of {self.batch}", "use smaller batches"
            )

    def resume(self, line: Line, epoch: int) -> None:
        """Go on with the rows of `line`, then with `epoch` and those that follow; readings that go on end."""
        self._sessions.clear()
        self.epoch = epoch
        self._share_out(line)

    def open(self, worker: int) -> int:
        """A worker begins to read; what it did not take in an earlier reading waits again. The reading's number."""
        for number in [number for number, session in self._sessions.items() if session.worker == worker]:
            self.close(number)
        self._opened += 1
        self._sessions[self._opened] = _Session(worker)
        return self._opened

    def lease(self, number: int) -> Lease | None:
        """The next rows of a reading; None if it has ended."""
        session = self._sessions.get(number)
        if session is None:
            return None
        if not self._waiting[session.worker]:
            self._steal(session.worker)
        mine = self._waiting[session.worker]
        # Half of what is there can still be stolen.
        most = min(session.batches, self.lease_rows // self.batch, batches_in(mine, self.batch) // 2)
        (span, *rest) = mine
        first, others = cut((span,), max(1, most), self.batch)
        self._waiting[session.worker] = (*others, *rest)
        session.leases.extend(first)
        session.batches *= 2
        return Lease(first[0], self.batch)

    def took(self, number: int) -> None:
        """The next batch of a reading goes into a step, so the one before has been trained on."""
        session = self._sessions.get(number)
        if session is None or not session.leases:
            return
        (session.in_flight,), rest = cut((session.leases.popleft(),), 1, self.batch)
        session.leases.extendleft(rest)

    def settle(self) -> None:
        """No step is in flight: every batch that was taken has been trained on."""
        for session in self._sessions.values():
            session.in_flight = None

    def close(self, number: int) -> None:
        """A reading has ended; what it leased and did not take waits again, and so does a batch in flight."""
        session = self._sessions.pop(number, None)
        if session is not None:
            back = [*([session.in_flight] if session.in_flight else []), *session.leases]
            self._waiting[session.worker] = joined([*back, *self._waiting[session.worker]])

    def line(self) -> Line:
        """The rows of the epochs begun so far that no step has taken, in their order."""
        leased = [span for session in self._sessions.values() for span in session.leases]
        return joined(sorted([*leased, *(span for line in self._waiting for span in line)]))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a position: the rows of the dataset, those that wait, and the epoch after them."""
        return {"rows": self.rows, "line": self.line(), "epoch": self.epoch}

    def _epoch_rows(self) -> int:
        return self.rows - self.rows % self.batch if self.remainder == "drop" else self.rows

    def _steal(self, worker: int) -> None:
        """Give `worker`, which has no rows, half of what the one with most has; a new epoch where none has any."""
        if not any(self._waiting):
            self._share_out((Span(self.epoch, 0, self._epoch_rows()),))
            self.epoch += 1
        if not self._waiting[worker]:
            richest = max(range(self.workers), key=lambda other: rows_in(self._waiting[other]))
            theirs = self._waiting[richest]
            self._waiting[richest], self._waiting[worker] = cut(theirs, batches_in(theirs, self.batch) // 2, self.batch)

    def _share_out(self, line: Line) -> None:
        """Let `line` wait, an equal part of its batches for each worker."""
        count = batches_in(line, self.batch)
        for worker in range(self.workers):
            share = count * (worker + 1) // self.workers - count * worker // self.workers
            self._waiting[worker], line = cut(line, share, self.batch)


def batches_in(line: Line, batch: int) -> int:
    """Batches of a line, none of which goes over the end of a span."""
    return sum(-(-(span.stop - span.start) // batch) for span in line)


def cut(line: Line, batches: int, batch: int) -> tuple[Line, Line]:
    """The first `batches` batches of a line, and the rest of it."""
    front: list[Span] = []
    for index, span in enumerate(line):
        count = -(-(span.stop - span.start) // batch)
        if batches < count:
            middle = span.start + batches * batch
            head = (span._replace(stop=middle),) if batches else ()
            return (*front, *head), (span._replace(start=middle), *line[index + 1 :])
        front.append(span)
        batches -= count
    return tuple(front), ()
