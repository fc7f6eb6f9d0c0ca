"""Data that a program has already, arrays or a `tf.data.Dataset` of rows, shared out over shards as files are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines import shards
from pipelines.dataset import file_dataset, of_length, per_worker_options, repeating
from pipelines.errors import DataError
from pipelines.memory import open_arrays
from pipelines.reader import Reader, ReadPlan
from pipelines.shards import Sharding
from pipelines.sources import Files

if TYPE_CHECKING:
    import tensorflow as tf


def array_reader(arrays: Any, sharding: Sharding, shard: int, *, shuffle: bool = False, seed: int = 0) -> Reader:
    """A reader of a structure of arrays `[rows, …]`: tensors, numpy arrays, lists.

    Raises:
        DataError: arrays of different lengths, or of a dtype that cannot be read.
    """
    import tensorflow as tf

    flat = [np.asarray(array) for array in tf.nest.flatten(arrays)]
    return Reader(ReadPlan(Files(()), sharding=sharding, shard=shard, shuffle=shuffle, seed=seed), open_arrays(flat))


def array_dataset(arrays: Any, reader: Reader, *, resumes: bool = False, per_step: int = 1) -> tf.data.Dataset:
    """Batches of `array_reader`'s shard, in the structure of `arrays`; see `pipelines.dataset.file_dataset`."""
    import tensorflow as tf

    def packed(features: dict[str, tf.Tensor]) -> Any:
        return tf.nest.pack_sequence_as(arrays, [features[str(number)] for number in range(len(features))])

    def structured(dataset: tf.data.Dataset) -> tf.data.Dataset:
        return dataset.map(tf.autograph.experimental.do_not_convert(packed))

    found = file_dataset(reader, resumes=resumes, per_step=per_step)
    mapped = structured(found)
    mapped.cardinality = found.cardinality
    return repeating(mapped, lambda: structured(file_dataset(reader, repeat=True)))


def shared_rows(rows: tf.data.Dataset, sharding: Sharding, shard: int, *, per_step: int = 1) -> tf.data.Dataset:
    """One shard of a dataset of rows, in batches: row i is on shard i modulo the number of shards.

    All shards have the same number of batches, as `pipelines.shards.Sharding` tells. Every shard makes every row of the
    dataset and keeps its own: where making them is the work, shard the files instead.

    Args:
        rows: elements are single rows; the same, in the same order, on every shard.
        sharding: how they are shared out.
        shard: this shard, from 0.
        per_step: batches that one step of training takes, one for each replica; the length is told in steps.

    Raises:
        DataError: the number of rows is not known, or too small.
    """
    import tensorflow as tf

    count = int(rows.cardinality())
    if count == tf.data.INFINITE_CARDINALITY:
        raise DataError("a dataset without end cannot be shared out", "cardinality: infinite", "leave out its repeat()")
    if count == tf.data.UNKNOWN_CARDINALITY:
        todo = "say it with .apply(tf.data.experimental.assert_cardinality(n))"
        raise DataError("the number of rows of a dataset is not known", "cardinality: unknown", todo)
    batches = shards.batch_count(count, sharding)
    mine = len(range(shard, count, sharding.shards))
    if sharding.remainder == "drop":
        mine = batches * sharding.batch
    sizes = shards.batch_sizes(mine, batches, sharding.batch)
    found = rows.shard(sharding.shards, shard).take(mine).batch(sharding.batch).rebatch(tf.constant(sizes, tf.int64))
    if per_step == 1:
        found = found.apply(tf.data.experimental.assert_cardinality(batches))
    found = found.prefetch(2).with_options(per_worker_options(deterministic=True))
    return of_length(found, -(-batches // per_step)) if per_step > 1 else found
