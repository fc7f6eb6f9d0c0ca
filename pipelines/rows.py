"""Data that a program has already, arrays or a `tf.data.Dataset` of rows, shared out over shards as files are."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pipelines import shards
from pipelines.dataset import file_dataset, of_length, per_worker_options, repeating
from pipelines.errors import DataError
from pipelines.files import first_line
from pipelines.memory import open_arrays
from pipelines.reader import Reader, ReadPlan
from pipelines.shards import Sharding
from pipelines.sources import Files

if TYPE_CHECKING:
    import tensorflow as tf


def array_reader(arrays: Any, sharding: Sharding, shard: int, *, shuffle: bool = False, seed: int = 0) -> Reader:
    """A reader of a structure of arrays `[rows, …]`: tensors, numpy arrays, and lists of plain values.

    Raises:
        DataError: arrays of different lengths, or what is none, or of a dtype that cannot be read.
    """
    import tensorflow as tf

    flat = [_array(array, number) for number, array in enumerate(tf.nest.flatten(_listed(arrays)))]
    return Reader(ReadPlan(Files(()), sharding=sharding, shard=shard, shuffle=shuffle, seed=seed), open_arrays(flat))


def array_dataset(arrays: Any, reader: Reader, *, resumes: bool = False, per_step: int = 1) -> tf.data.Dataset:
    """Batches of `array_reader`'s shard, in the structure of `arrays`; see `pipelines.dataset.file_dataset`."""
    import tensorflow as tf

    structure = _listed(arrays)

    def packed(features: dict[str, tf.Tensor]) -> Any:
        return tf.nest.pack_sequence_as(structure, [features[str(number)] for number in range(len(features))])

    def structured(dataset: tf.data.Dataset) -> tf.data.Dataset:
        return dataset.map(tf.autograph.experimental.do_not_convert(packed))

    found = file_dataset(reader, resumes=resumes, per_step=per_step)
    mapped = structured(found)
    mapped.cardinality = found.cardinality
    return repeating(mapped, lambda: structured(file_dataset(reader, repeat=True)))


def _listed(arrays: Any) -> Any:
    """The structure with an array for each list of plain values, in which `tf.nest` sees an array for each value."""
    if isinstance(arrays, dict):
        found = copy.copy(arrays)
        found.update({name: _listed(array) for name, array in arrays.items()})
        return found
    if isinstance(arrays, tuple):
        parts = [_listed(array) for array in arrays]
        return arrays._make(parts) if hasattr(arrays, "_make") else tuple(parts)
    if isinstance(arrays, list):
        return _array_of(arrays) if arrays and _is_plain(arrays) else [_listed(array) for array in arrays]
    return arrays


def _is_plain(values: Any) -> bool:
    """Whether a list begins with a number or a string, or a list that does; whether it is one of them."""
    while isinstance(values, list | tuple) and values:
        values = values[0]
    return isinstance(values, list | tuple | bool | int | float | str | bytes | np.generic)


def _array_of(values: list[Any]) -> npt.NDArray[Any]:
    """A list as TensorFlow takes it: numbers as float32 or int32."""
    import tensorflow as tf

    try:
        with tf.device("/CPU:0"):
            return np.asarray(tf.convert_to_tensor(values))
    except (ValueError, TypeError) as error:
        todo = "where its parts differ in length, share tf.data.Dataset.from_tensor_slices(tf.ragged.constant(…))"
        raise DataError("a list is no array", f"{values!s:.40}: {first_line(error)}", todo) from None


def _array(array: Any, number: int) -> npt.NDArray[Any]:
    """What numpy makes of one of the arrays.

    Raises:
        DataError: it is something else.
    """
    import tensorflow as tf

    if isinstance(array, tf.RaggedTensor | tf.SparseTensor | tf.data.Dataset):
        of_slices = "tf.data.Dataset.from_tensor_slices(data)"
        todo = "zip them: tf.data.Dataset.zip(data)" if isinstance(array, tf.data.Dataset) else f"share {of_slices}"
        raise DataError("this is no array", f"array {number} is a {type(array).__name__}", todo)
    return np.asarray(array)


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
