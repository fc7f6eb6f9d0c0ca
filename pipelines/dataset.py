"""`parquet_dataset`: Parquet files as a `tf.data.Dataset` of the batches of one shard."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from pipelines import remote
from pipelines.reader import Reader, ReadPlan

if TYPE_CHECKING:
    import tensorflow as tf

#: Pieces read at the same time, which bounds what is held in memory.
PARALLEL_READS = 4
#: Batches that are made ready at the same time, and that wait to be taken.
PARALLEL_BATCHES = 2
READY_BATCHES = 8
#: The `dataset_name` option of these datasets and of all that is made from them with map, prefetch and the like. Their
#: batches are those of one worker already, and must not be split over the workers once more.
PER_WORKER = "per-worker"


def parquet_dataset(
    files: str | Sequence[str],
    *,
    batch: int,
    label: str | None = None,
    columns: Sequence[str] | None = None,
    shuffle: bool = False,
    seed: int = 0,
    shard_count: int = 1,
    shard_index: int | None = 0,
    epoch: int | Callable[[], int] = 0,
    repeat: bool = False,
    skip_batches: int = 0,
) -> tf.data.Dataset:
    """The rows of one shard, in batches, each row of the files on exactly one shard.

    All shards have the same number of batches; the last ones are smaller (see `pipelines.shards.assign`). Batches are
    deterministic, and at most `PARALLEL_READS` row groups (or, when shuffled, blocks of row groups) are read at once.

    Args:
        files: paths, directories or globs on any file system that pyarrow opens.
        batch: rows of one batch of this shard.
        label: column that becomes the second element of `(features, label)`; None gives features alone.
        columns: feature columns; None takes all but the label.
        shuffle: another order of rows in each epoch.
        seed: of that order.
        shard_count: number of shards.
        shard_index: this shard, from 0. None leaves it to the process that iterates the dataset, which need not be this
            one: a parameter-server worker that has called `pipelines.remote.serve_reads`.
        epoch: the epoch of the first iteration; each later one is the next epoch. Or a function that is asked for the
            epoch whenever an iteration begins, for a loop that may begin one and not finish it, as Keras does; it
            cannot be asked by another process.
        repeat: epoch after epoch without end.
        skip_batches: batches of the first epoch that are left out, without reading what only they need.

    Returns:
        A dataset of `{column: [batch]}`, or `({column: [batch]}, [batch])` with a label, in the dtypes of the files;
        strings are `tf.string`. Its cardinality is known, unless batches are skipped.

    Raises:
        DataError: the files cannot be read as one table, or hold fewer rows than there are shards. While iterating,
            the same words stand in an error of TensorFlow's: see `pipelines.errors.data_error_in`.
    """
    import tensorflow as tf

    plan = ReadPlan(
        files=(files,) if isinstance(files, str) else tuple(files),
        columns=None if columns is None else tuple(name for name in columns if name != label),
        label=label,
        batch=batch,
        shuffle=shuffle,
        seed=seed,
        shard_count=shard_count,
        shard_index=shard_index,
        epoch=epoch() if callable(epoch) else epoch,
        skip_batches=skip_batches,
    )
    reader = Reader(plan, epoch if callable(epoch) else None)
    dataset = _epochs(reader, repeat).map(_splitter(reader), num_parallel_calls=PARALLEL_BATCHES)
    if repeat or not skip_batches:
        count = tf.data.INFINITE_CARDINALITY if repeat else reader.batches
        dataset = dataset.apply(tf.data.experimental.assert_cardinality(count))
    return dataset.prefetch(READY_BATCHES).with_options(_options())


def _epochs(reader: Reader, repeat: bool) -> tf.data.Dataset:
    """Batches as they leave the reader: a matrix `[batch, columns]` for each group of columns."""
    import tensorflow as tf

    types = [tf.as_dtype(dtype) for dtype in reader.groups]

    def read(piece: tf.Tensor) -> tuple[tf.Tensor, ...]:
        matrices = _call(reader, "read", [piece], types)
        for matrix, names in zip(matrices, reader.groups.values(), strict=True):
            matrix.set_shape([None, len(names)])
        return tuple(matrices)

    def one_epoch(_: tf.Tensor) -> tf.data.Dataset:
        pieces, sizes = _call(reader, "begin", [], [tf.int64, tf.int64])
        pieces.set_shape([None, 4])
        sizes.set_shape([None])
        return tf.data.Dataset.from_tensor_slices(pieces).map(read, num_parallel_calls=PARALLEL_READS).rebatch(sizes)

    epochs = tf.data.Dataset.range(1)
    return (epochs.repeat() if repeat else epochs).flat_map(one_epoch)


def _call(reader: Reader, method: str, inputs: list[tf.Tensor], types: list[tf.DType]) -> list[tf.Tensor]:
    """The graph's call of a method of `reader`: here, or in whichever process runs the graph."""
    import tensorflow as tf

    if reader.plan.shard_index is None:
        return remote.call(reader.plan, method, inputs, types)
    tensors: list[tf.Tensor] = tf.numpy_function(getattr(reader, method), inputs, types)
    return tensors


def _splitter(reader: Reader) -> Callable[..., Any]:
    """From the matrices of a batch to `{column: [batch]}`, or `({column: [batch]}, [batch])`."""
    import tensorflow as tf

    def split(*matrices: tf.Tensor) -> Any:
        found: dict[str, tf.Tensor] = {}
        for matrix, names in zip(matrices, reader.groups.values(), strict=True):
            found.update(zip(names, tf.unstack(matrix, len(names), axis=1), strict=True))
        columns = {name: found[name] for name in reader.source.columns}
        label = reader.plan.label
        return columns if label is None else (columns, columns.pop(label))

    return split


def _options() -> tf.data.Options:
    import tensorflow as tf

    options = tf.data.Options()
    options.deterministic = True
    # The thread that tunes a dataset may oversleep its end by up to a minute (TensorFlow checks for cancellation before
    # it is set), and then the next epoch begins late.
    options.autotune.enabled = False
    options.dataset_name = PER_WORKER
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    return options
