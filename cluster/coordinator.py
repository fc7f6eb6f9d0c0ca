"""The coordinator of parameter-server workers: hands out the rows of the spec's datasets besides TensorFlow's steps.

TensorFlow's coordinator hands out steps, and each worker's iterator the batches for them, which nobody keeps count of.
So a dataset of the spec leases its rows from here, and counts its batches as its last act before a step.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

from cluster.datasets import check_unchanged
from pipelines.dataset import leased_dataset
from pipelines.leases import Desk, LeaseServer
from pipelines.ledger import Ledger
from pipelines.listing import digest
from pipelines.reader import Reader
from pipelines.remote import counted
from pipelines.shards import Span


class Leases:
    """The rows of the spec's datasets on the coordinator.

    Args:
        host: where to listen for workers.
        secret: that they know.
        workers: how many share the rows out between them.

    Attributes:
        uncounted: names of the datasets that were made within `counted` so far; None outside of it.

    Raises:
        OSError: it cannot listen there.
    """

    def __init__(self, host: str, secret: bytes, workers: int) -> None:
        self._server = LeaseServer(host, secret)
        self._workers = workers
        self._rows: dict[str, Mapping[str, Any]] = {}  # by dataset, what a position must be of
        self._resumed = (0, 0)  # an epoch of Keras, and how many of its steps earlier attempts did
        self.uncounted: set[str] | None = None

    def dataset(self, name: str, make_reader: Callable[[Desk], Reader], start: Mapping[str, Any] | None) -> Any:
        """The batches of a dataset of the spec, without end, for whichever worker iterates it.

        Args:
            name: of the dataset.
            make_reader: makes the reader of a plan with that desk.
            start: what `to_dict` told of it in a position to go on from; heeded when the dataset is made first.

        Raises:
            DataError: an epoch has no batch, or `start` is of other rows.
        """
        reader = make_reader(self._server.desk(name))
        if name not in self._rows:
            plan = reader.plan
            sharding, rows = plan.sharding, reader.chunk_rows
            ledger = Ledger(reader.rows, sharding.batch, self._workers, sharding.remainder, rows)
            self._server.add(name, ledger)
            order = {"shuffle": plan.shuffle, "seed": plan.seed}
            self._rows[name] = {"rows": reader.rows, "order": order, "listing": digest(reader.units)}
            if start is not None:
                self._resume(name, start)
        dataset = leased_dataset(reader)
        if self.uncounted is None:
            return counted(dataset, [name])
        self.uncounted.add(name)
        return dataset

    def counted(self, make: Callable[[], Any]) -> Any:
        """What `make` makes of datasets of the spec; if that is a dataset, its batches are counted as its last act."""
        import tensorflow as tf

        self.uncounted = set()
        try:
            dataset = make()
            if isinstance(dataset, tf.data.Dataset) and self.uncounted:
                return counted(dataset, sorted(self.uncounted))
            return dataset
        finally:
            self.uncounted = None

    def settle(self) -> None:
        """No step is in flight: every batch that was taken has been trained on."""
        self._server.settle()

    def to_dict(self, batch: int, epoch: int | None = None, _: int | None = None) -> dict[str, Any]:
        """Plain values for a position after `batch` steps of `epoch`, where that is known, in this attempt."""
        steps = batch + (self.batches_done(epoch) if batch and epoch is not None else 0)
        found = self._server.to_dict()
        return {name: {**data, **self._rows[name], "steps": steps} for name, data in found.items()}

    def resume(self, epoch: int, batch: int, data: Mapping[str, Any]) -> int:
        """Go on in every dataset that a position tells of; the epoch that the training goes on in.

        Raises:
            DataError: the files, or how they are shuffled, are no longer what they were.
        """
        known = [name for name in self._rows if name in data]
        for name in known:
            self._resume(name, data[name])
        self._resumed = epoch, max((data[name]["steps"] for name in known), default=0)
        return epoch

    def batches_done(self, epoch: int) -> int:
        """By how many steps `epoch` is shorter than others, because it was resumed."""
        at, steps = self._resumed
        return steps if epoch == at else 0

    def batches_left(self, epoch: int) -> int:
        """Nothing is known of it: an epoch is as many steps as `fit` was told."""
        return 0

    def close(self) -> None:
        """Lease no more."""
        self._server.close()

    def _resume(self, name: str, saved: Mapping[str, Any]) -> None:
        check_unchanged(name, saved, self._rows[name])
        self._server.resume(name, tuple(Span(*span) for span in saved["line"]), int(saved["epoch"]))


def make_coordinator(strategy: Any, leases: Leases) -> Any:
    """A `tf.distribute.coordinator.ClusterCoordinator` of `strategy`, which is also the one that Keras finds."""
    import tensorflow as tf

    class Coordinator(tf.distribute.coordinator.ClusterCoordinator):  # type: ignore[misc]
        def create_per_worker_dataset(self, dataset_fn: Any) -> Any:
            if not callable(dataset_fn):
                return super().create_per_worker_dataset(dataset_fn)
            undistributed = functools.partial(_undistributed, self.strategy, dataset_fn, leases)
            return super().create_per_worker_dataset(lambda: leases.counted(undistributed))

        def join(self) -> None:
            super().join()
            leases.settle()

    return Coordinator(strategy)


def _undistributed(strategy: Any, dataset_fn: Callable[[], Any], leases: Leases) -> Any:
    """What `dataset_fn` makes, with `distribute_datasets_from_function` leaving datasets of the spec as they are.

    For a worker with one replica all that it adds is an iterator which takes a batch or two before they are asked for,
    and those would count as trained on.
    """
    import tensorflow as tf

    distribute = strategy.distribute_datasets_from_function

    def plain(make: Callable[[Any], Any], options: Any = None) -> Any:
        dataset = make(tf.distribute.InputContext(num_replicas_in_sync=strategy.num_replicas_in_sync))
        return dataset if leases.uncounted else distribute(make, options)

    if strategy.extended._num_gpus_per_worker > 1:
        return dataset_fn()
    strategy.distribute_datasets_from_function = plain
    try:
        return dataset_fn()
    finally:
        del strategy.distribute_datasets_from_function
