"""Datasets that are sharded already reach the replicas as they are, instead of being sharded once more."""

from __future__ import annotations

from typing import Any


def respect_per_worker_batches() -> None:
    """Have multi-worker strategies of this process leave batches of `pipelines.dataset` alone; idempotent.

    `experimental_distribute_dataset`, which Keras calls, takes a dataset's batches for global ones and splits each over
    all replicas. A dataset marked `per-worker` goes through `distribute_datasets_from_function` instead, which hands
    one batch to each replica of this worker.
    """
    from tensorflow.python.distribute.collective_all_reduce_strategy import CollectiveAllReduceStrategy

    from pipelines.dataset import PER_WORKER

    original = CollectiveAllReduceStrategy.experimental_distribute_dataset
    if getattr(original, "respects_per_worker", False):
        return

    def experimental_distribute_dataset(self: Any, dataset: Any, options: Any = None) -> Any:
        named = getattr(dataset, "options", None)
        if named is not None and named().dataset_name == PER_WORKER:
            return self.distribute_datasets_from_function(lambda _: dataset, options)
        return original(self, dataset, options)

    experimental_distribute_dataset.respects_per_worker = True  # type: ignore[attr-defined]
    CollectiveAllReduceStrategy.experimental_distribute_dataset = experimental_distribute_dataset
