"""Reads the rows that leases name, in the process of a worker."""

from __future__ import annotations

import collections
from concurrent.futures import Future

import numpy as np
import pyarrow as pa

from pipelines.columns import Array
from pipelines.errors import DataError
from pipelines.leases import LeaseClient
from pipelines.listing import counts, listed
from pipelines.reader import Reader, ReadPlan
from pipelines.shards import Block

#: Decoded blocks that are kept: consecutive leases of a worker share the block in which one ends and the next begins.
KEPT_BLOCKS = 2


class LeasedReader(Reader):
    """A reader of one worker; safe to use from several threads.

    Args:
        plan: what to read, with a desk.
        secret: the job's.
        worker: this worker's index.

    Raises:
        DataError: it sees other rows than the coordinator does.
    """

    def __init__(self, plan: ReadPlan, secret: bytes, worker: int) -> None:
        super().__init__(plan)
        self._compare(f"worker-{worker}")
        self._secret, self._worker = secret, worker
        self._client: LeaseClient | None = None
        self._reading = self._leases = 0
        self._blocks: collections.OrderedDict[Block, Future[pa.Table]] = collections.OrderedDict()

    def _compare(self, worker: str) -> None:
        """Lease no row of the coordinator's count that would be another one here."""
        desk = self.plan.desk
        if desk is not None and desk.listing and desk.listing != listed(self.units):
            left_out = f"; {self.skipped}" if self.skipped else ""
            raise DataError(
                f"data.{desk.dataset} is not the same on {worker} and on the coordinator",
                f"{counts(self.units)}; {desk.listing.partition(' ')[2]}" + left_out,
                "run again when the files no longer change and every task can read all of them",
            )

    def open(self) -> Array:
        """Begin to read, which ends an earlier reading: its number, an int64."""
        assert self.plan.desk is not None
        with self._lock:
            if self._client is not None:
                self._client.close()
            self._client = LeaseClient(self.plan.desk, self._secret, self._worker)
            self._iterations.clear()
            self._reading += 1
            return np.int64(self._reading)  # type: ignore[return-value]

    def lease(self, reading: Array) -> Array:
        """The next chunk of a reading: what `read` takes.

        Raises:
            StopIteration: another reading of this worker has begun.
        """
        with self._lock:
            client = self._client
            if client is None or int(reading) != self._reading:
                raise StopIteration
        lease = client.lease()
        if lease is None:
            raise StopIteration
        with self._lock:
            self._leases += 1
            self._iterate(self._leases, (lease.span,))
            rows = lease.span.stop - lease.span.start
            return np.array([self._leases, 0, rows, lease.batch], np.int64)

    def read(self, chunk: Array) -> list[Array]:
        """The rows of a lease, see `Reader.read`."""
        found = super().read(chunk)
        with self._lock:
            self._iterations.pop(int(chunk[0]), None)
        return found

    def _forgotten(self) -> Exception:
        return StopIteration()  # another reading has begun, and nobody will look at this one

    def took(self) -> None:
        """The next batch goes into a step."""
        client = self._client
        if client is not None:
            client.took()

    def _decoded(self, block: Block) -> pa.Table:
        with self._lock:
            known = self._blocks.get(block)
            mine = known or self._blocks.setdefault(block, Future())
            self._blocks.move_to_end(block)
            while len(self._blocks) > KEPT_BLOCKS:
                self._blocks.popitem(last=False)
        if known is None:
            try:
                mine.set_result(super()._decoded(block))
            except BaseException as error:
                mine.set_exception(error)
        return mine.result()
