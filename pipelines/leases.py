"""Leases over a connection: the coordinator keeps the ledgers, workers ask for rows and tell which they took.

Both ends prove that they know the job's secret before anything else is said (the challenge of
`multiprocessing.connection`); then each message is one JSON document. A worker tells that it takes a batch before the
batch goes into a step, and does not wait for an answer: what a killed process has written to a socket still arrives.
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from dataclasses import dataclass
from multiprocessing import AuthenticationError
from multiprocessing.connection import Connection, answer_challenge, deliver_challenge
from typing import Any

from pipelines.ledger import Lease, Ledger
from pipelines.shards import Line, Span

#: What a broken connection, or a stranger at the other end, may raise.
_BROKEN = (OSError, EOFError, AuthenticationError, ValueError)


@dataclass(frozen=True)
class Desk:
    """Where the rows of one dataset are leased.

    Attributes:
        host: of the coordinator.
        port: a TCP port there.
        dataset: its name.
        listing: what the coordinator sees of it, see `pipelines.listing`: a digest, a space, and counts.
    """

    host: str
    port: int
    dataset: str
    listing: str = ""


class LeaseServer:
    """Hands out the rows of ledgers to workers; safe to use from several threads.

    Args:
        host: the address to listen at, and no other.
        secret: that a worker must know.

    Raises:
        OSError: it cannot listen there.
    """

    def __init__(self, host: str, secret: bytes) -> None:
        self._secret = secret
        self._ledgers: dict[str, Ledger] = {}
        self._lock = threading.Lock()
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.create_server((host, 0), family=family)
        self._host = host
        threading.Thread(target=self._accept, name="tfcluster-leases", daemon=True).start()

    def desk(self, dataset: str) -> Desk:
        """Where workers lease the rows of `dataset`."""
        return Desk(self._host, self._socket.getsockname()[1], dataset)

    def add(self, dataset: str, ledger: Ledger) -> None:
        """Hand out the rows of `ledger`, unless `dataset` has one already."""
        with self._lock:
            self._ledgers.setdefault(dataset, ledger)

    def settle(self) -> None:
        """No step is in flight: every batch that was taken has been trained on."""
        with self._lock:
            for ledger in self._ledgers.values():
                ledger.settle()

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a position, by dataset."""
        with self._lock:
            return {name: ledger.to_dict() for name, ledger in self._ledgers.items()}

    def resume(self, dataset: str, line: Line, epoch: int) -> None:
        """Go on with the rows of `line`, then with `epoch`; see `Ledger.resume`."""
        with self._lock:
            self._ledgers[dataset].resume(line, epoch)

    def close(self) -> None:
        """Serve nobody new; readings that go on end with their workers."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # which wakes the thread that waits for workers
        self._socket.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), name="tfcluster-lease", daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        """Serve one reading of one worker until its connection ends."""
        with contextlib.suppress(*_BROKEN), _connection(client) as connection:
            deliver_challenge(connection, self._secret)
            answer_challenge(connection, self._secret)
            begin = json.loads(connection.recv_bytes())
            with self._lock:
                ledger = self._ledgers[begin["dataset"]]
                number = ledger.open(begin["worker"])
            try:
                while True:
                    self._answer(connection, ledger, number)
            finally:
                with self._lock:
                    ledger.close(number)

    def _answer(self, connection: Any, ledger: Ledger, number: int) -> None:
        message = json.loads(connection.recv_bytes())
        with self._lock:
            if message == "took":
                ledger.took(number)
                return
            lease = ledger.lease(number)
        connection.send_bytes(json.dumps(lease).encode())


class LeaseClient:
    """One reading of one dataset by one worker.

    Args:
        desk: of the dataset.
        secret: the job's.
        worker: this worker's index.

    Raises:
        OSError, AuthenticationError: the coordinator does not answer, or does not know the secret.
    """

    def __init__(self, desk: Desk, secret: bytes, worker: int) -> None:
        self._connection = _connection(socket.create_connection((desk.host, desk.port)))
        answer_challenge(self._connection, secret)
        deliver_challenge(self._connection, secret)
        self._write = threading.Lock()
        self._send({"dataset": desk.dataset, "worker": worker})

    def lease(self) -> Lease | None:
        """The next rows; None when this reading has been ended by another one."""
        self._send("lease")
        found = json.loads(self._connection.recv_bytes())
        return None if found is None else Lease(Span(*found[0]), found[1])

    def took(self) -> None:
        """The next batch goes into a step."""
        self._send("took")

    def close(self) -> None:
        """Give back what was not taken."""
        self._connection.close()

    def _send(self, message: Any) -> None:
        with self._write:
            self._connection.send_bytes(json.dumps(message).encode())


def _connection(end: socket.socket) -> Connection:
    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return Connection(end.detach())
