"""`file_dataset`: files as a `tf.data.Dataset` of the batches of one shard."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from pipelines import remote
from pipelines.damage import OnError
from pipelines.decode import spec_of, tensor
from pipelines.layout import Request
from pipelines.listing import listed
from pipelines.reader import Reader, ReadPlan
from pipelines.shards import Line, Remainder, Sharding
from pipelines.sources import Engine, Files, Format

if TYPE_CHECKING:
    import tensorflow as tf

#: Chunks that are made ready at the same time.
PARALLEL_CHUNKS = 2
#: The `dataset_name` option of these datasets and of all that is made from them with map, prefetch and the like. Their
#: batches are those of one worker already, and must not be split over the workers once more.
PER_WORKER = "per-worker"


def file_dataset(
    reader: Reader,
    *,
    repeat: bool = False,
    deterministic: bool = True,
    resumes: bool = False,
    per_step: int = 1,
) -> tf.data.Dataset:
    """The rows of one shard, in batches, each row of the files on exactly one shard.

    Units (row groups; when shuffled, blocks of them) are decoded by Arrow ahead of their use, at most `reader.AHEAD`
    beyond the one in use, and cut into batches in TensorFlow; Python runs once a chunk of `reader.CHUNK_ROWS` rows.

    Args:
        reader: of the shard.
        repeat: epoch after epoch without end. What is made by the dataset's own `repeat()` is that, too.
        deterministic: False lets chunks overtake each other.
        resumes: an iteration may begin within its epoch, and so be shorter than the others.
        per_step: batches that one step of training takes, one for each replica; the length is told in steps.

    Returns:
        A dataset of features by name, or of `(features, label)`: `[batch]`, `[batch, n]` for fixed-size lists and
        packed columns, ragged `[batch, None]` for lists, in the dtypes that `pipelines.schema.kind_of` tells. Its
        cardinality is known; but where it resumes, what is made of it by map and the like has an unknown one.

    What a `DataError` says while it is iterated stands in an error of TensorFlow's, see
    `pipelines.errors.data_error_in`.
    """
    import tensorflow as tf

    if repeat:
        return _finished(_without_end(reader, deterministic), reader, deterministic, tf.data.INFINITE_CARDINALITY)
    told = resumes or reader.plan.line is not None or per_step > 1
    batches = tf.data.Dataset.range(1).flat_map(_as_it_is(lambda _: _one_epoch(reader, deterministic)))
    batches = _finished(batches, reader, deterministic, None if told else reader.batches)
    once = of_length(batches, -(-reader.batches // per_step)) if told else batches
    return repeating(once, lambda: file_dataset(reader, repeat=True, deterministic=deterministic))


def read_dataset(
    files: str | Sequence[str],
    *,
    batch: int,
    shards: int = 1,
    shard: int = 0,
    remainder: Remainder = "keep",
    shuffle: bool = False,
    seed: int = 0,
    epoch: int = 0,
    line: Line | None = None,
    repeat: bool = False,
    deterministic: bool = True,
    format: Format = "auto",
    features: Mapping[str, Any] | None = None,
    engine: Engine = "arrow",
    on_error: OnError = "raise",
    **request: Any,
) -> tf.data.Dataset:
    """`file_dataset` without a job: the batches of one shard of `files`.

    Args:
        files: paths, directories or globs on any file system that pyarrow opens.
        batch: rows of one batch of this shard.
        shards: number of shards.
        shard: this shard, from 0.
        remainder: see `pipelines.shards.Sharding`.
        shuffle: another order of rows in each epoch.
        seed: of that order.
        epoch: the epoch of the first iteration; each later one is the next epoch.
        line: the rows of the first epoch that are yet to be read, of all shards: see `pipelines.shards.left`.
        repeat: epoch after epoch without end.
        deterministic: False lets chunks overtake each other.
        format: `parquet`, `tfrecord` or, by the names of the files, `auto`.
        features: of the records in TFRecord files: see `pipelines.sources.Files`.
        engine: what decodes Parquet: `arrow`, or `tensorflow_io`, see `pipelines.tfio`.
        on_error: what to do about data that cannot be read, see `pipelines.damage`; a warning tells what is left out.
        **request: fields of `pipelines.layout.Request`, such as `columns` and `label`.

    Raises:
        DataError: the files cannot be read as one table, or hold too few rows.
    """
    patterns = (files,) if isinstance(files, str) else tuple(files)
    chosen, sharding = Files(patterns, format, features, on_error, engine), Sharding(shards, batch, remainder)
    reader = Reader(ReadPlan(chosen, Request(**request), sharding, shard, shuffle, seed, epoch, line))
    if reader.skipped:
        warnings.warn(str(reader.skipped), stacklevel=2)
    return file_dataset(reader, repeat=repeat, deterministic=deterministic)


def leased_dataset(reader: Reader) -> tf.data.Dataset:
    """The rows that the worker which iterates it leases, in batches, epoch after epoch without end.

    Args:
        reader: of a plan with a desk; it tells what the batches look like, and reads nothing.

    Returns:
        A dataset like that of `file_dataset`; `pipelines.remote.counted` has to follow what is made of it.
    """
    import tensorflow as tf

    assert reader.plan.desk is not None
    desk = replace(reader.plan.desk, listing=listed(reader.units))
    plan = tf.constant(replace(reader.plan, desk=desk).to_json())

    def leases(reading: tf.Tensor) -> tf.data.Dataset:
        def lease(_: tf.Tensor) -> tf.Tensor:
            (chunk,) = remote.call("lease", [plan, reading], [tf.int64])
            return tf.ensure_shape(chunk, [4])

        return tf.data.Dataset.counter().map(_as_it_is(lease))

    def read(chunk: tf.Tensor, types: list[tf.DType]) -> list[tf.Tensor]:
        return remote.call("read", [plan, chunk], types)

    def reading(_: tf.Tensor) -> tf.data.Dataset:
        (number,) = remote.call("open", [plan], [tf.int64])
        return _batches(leases(tf.ensure_shape(number, [])), reader, read, deterministic=True)

    batches = tf.data.Dataset.range(1).flat_map(_as_it_is(reading))
    batches = batches.apply(tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY))
    return batches.prefetch(reader.ready_batches).with_options(per_worker_options(deterministic=True))


def _finished(
    batches: tf.data.Dataset, reader: Reader, deterministic: bool, cardinality: int | None
) -> tf.data.Dataset:
    """The batches, fetched ahead, with their options; `cardinality` is None where it is not that of each iteration."""
    import tensorflow as tf

    if cardinality is not None:
        batches = batches.apply(tf.data.experimental.assert_cardinality(cardinality))
    return batches.prefetch(reader.ready_batches).with_options(per_worker_options(deterministic=deterministic))


def _without_end(reader: Reader, deterministic: bool) -> tf.data.Dataset:
    """The batches from where the iteration that begins now starts, epoch after epoch."""
    import tensorflow as tf

    def passes(_: tf.Tensor) -> tf.data.Dataset:
        start = tf.ensure_shape(tf.numpy_function(reader.start, [], tf.int64), [None, 3])

        def one(nth: tf.Tensor) -> tf.data.Dataset:
            return _of_chunks(tf.numpy_function(reader.begin_pass, [start, nth], tf.int64), reader, deterministic)

        return tf.data.Dataset.counter().flat_map(_as_it_is(one))

    return tf.data.Dataset.range(1).flat_map(_as_it_is(passes))


def _one_epoch(reader: Reader, deterministic: bool) -> tf.data.Dataset:
    """The batches of the iteration that begins now."""
    import tensorflow as tf

    return _of_chunks(tf.numpy_function(reader.begin, [], tf.int64), reader, deterministic)


def _of_chunks(chunks: tf.Tensor, reader: Reader, deterministic: bool) -> tf.data.Dataset:
    """The batches of the chunks of an iteration."""
    import tensorflow as tf

    chunks.set_shape([None, 4])

    def read(chunk: tf.Tensor, types: list[tf.DType]) -> list[tf.Tensor]:
        tensors: list[tf.Tensor] = tf.numpy_function(reader.read, [chunk], types, name="tfcluster_read")
        return tensors

    return _batches(tf.data.Dataset.from_tensor_slices(chunks), reader, read, deterministic=deterministic)


def _batches(
    chunks: tf.data.Dataset,
    reader: Reader,
    read_parts: Callable[[tf.Tensor, list[tf.DType]], list[tf.Tensor]],
    *,
    deterministic: bool,
) -> tf.data.Dataset:
    """The batches of chunks, which `read_parts` reads.

    Records are parsed a chunk at a time: TensorFlow's parser shares the records of a call out over its threads, and for
    a batch of a thousand it needs half as long again as for the same records in one call.
    """
    import tensorflow as tf

    features, request, records = reader.layout.features, reader.plan.request, reader.records
    types = [tf.as_dtype(dtype) for dtype in reader.part_dtypes()]
    stored = {feature.name: spec_of(feature.kind) for feature in features}

    def read(chunk: tf.Tensor) -> tf.data.Dataset:
        parts = iter(read_parts(chunk, types))
        columns: dict[str, Any] = {feature.name: tensor(parts, feature.kind) for feature in features}
        specs = stored
        if records is not None:
            columns = records.tensors(*columns.values())
            specs = {name: tf.type_spec_from_value(column) for name, column in columns.items()}
        return _cut(chunk[3], _structure(request, columns), _structure(request, specs))

    read_chunks = chunks.map(_as_it_is(read), num_parallel_calls=PARALLEL_CHUNKS, deterministic=deterministic)
    return read_chunks.flat_map(_as_it_is(lambda batches: batches))


def _as_it_is(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function without Python control flow over tensors, which AutoGraph need not look at: it takes its time."""
    import tensorflow as tf

    unconverted: Callable[..., Any] = tf.autograph.experimental.do_not_convert(function)
    return unconverted


def _cut(batch: tf.Tensor, columns: Any, specs: Any) -> tf.data.Dataset:
    """A chunk of columns as its batches, in TensorFlow's own code, with no function to call for each batch.

    Batches of dense columns are parts of the chunk, without a copy. That is what `from_tensors(columns).rebatch(batch)`
    does, without its map over sparse and ragged tensors, which takes a third of the time in which the dataset is made.
    """
    import tensorflow as tf

    flat = zip(tf.nest.flatten(columns), tf.nest.flatten(specs), strict=True)
    groups = itertools.groupby(flat, key=lambda one: isinstance(one[1], tf.RaggedTensorSpec))
    parts = [(_cut_ragged if ragged else _cut_dense)(batch, *zip(*group, strict=True)) for ragged, group in groups]
    types, shapes = ([one for part in parts for one in getattr(part, name)] for name in ("types", "shapes"))
    variants = [part.variant for part in parts]
    if len(variants) > 1:
        variants = [tf.raw_ops.ZipDataset(input_datasets=variants, output_types=types, output_shapes=shapes)]
    return tf.data.experimental.from_variant(variants[0], specs)


class _Batches(NamedTuple):
    """A dataset as TensorFlow's operations know it, and the dtypes and shapes of its elements' tensors."""

    variant: tf.Tensor
    types: list[tf.DType]
    shapes: list[tf.TensorShape]


def _cut_dense(batch: tf.Tensor, columns: Sequence[tf.Tensor], specs: Sequence[tf.TensorSpec]) -> _Batches:
    """Dense columns in batches."""
    import tensorflow as tf

    types, shapes = [spec.dtype for spec in specs], [spec.shape for spec in specs]
    chunk = tf.raw_ops.TensorDataset(components=columns, output_shapes=shapes)
    batches = tf.raw_ops.RebatchDatasetV2(
        input_dataset=chunk, batch_sizes=batch, drop_remainder=False, output_types=types, output_shapes=shapes
    )
    return _Batches(batches, types, shapes)


def _cut_ragged(batch: tf.Tensor, columns: Sequence[tf.RaggedTensor], _: object) -> _Batches:
    """Ragged columns in batches; rebatch does not know them, but they can be cut at once into what datasets hold."""
    import tensorflow as tf

    rows = columns[0].nrows()
    ends = tf.concat([tf.range(0, rows, batch), [rows]], axis=0)
    cut = [
        tf.raw_ops.RaggedTensorToVariant(
            rt_nested_splits=[ends, *column.nested_row_splits], rt_dense_values=column.flat_values, batched_input=True
        )
        for column in columns
    ]
    scalars = [tf.TensorShape([]) for _ in cut]
    slices = tf.raw_ops.TensorSliceDataset(components=cut, output_shapes=scalars)
    return _Batches(slices, [tf.variant for _ in cut], scalars)


def _structure(request: Request, features: dict[str, Any]) -> Any:
    """`{name: tensor}`, or `({name: tensor}, label)`."""
    named = dict(features)
    label = None if request.label is None else named.pop(request.label)
    found = _nested(named) if request.nested else named
    return found if request.label is None else (found, label)


def _nested(features: dict[str, Any]) -> dict[str, Any]:
    """Dotted names as dictionaries in dictionaries."""
    found: dict[str, Any] = {}
    for name, value in features.items():
        *above, last = name.split(".")
        place = found
        for step in above:
            place = place.setdefault(step, {})
        place[last] = value
    return found


def of_length(dataset: tf.data.Dataset, batches: int) -> tf.data.Dataset:
    """The dataset, which says that it has `batches` batches, as every epoch has but one that is resumed.

    Keras asks the dataset, and would take the length of the resumed epoch for that of all; TensorFlow's own
    `assert_cardinality` makes an error of a shorter one.
    """
    import tensorflow as tf

    dataset.cardinality = lambda: tf.constant(batches, tf.int64)
    return dataset


def repeating(once: tf.data.Dataset, endless: Callable[[], tf.data.Dataset]) -> tf.data.Dataset:
    """The dataset `once`, whose `repeat()` is `endless()`.

    An endless reading of ours tells where its epochs begin and end. Of one that TensorFlow repeats it is only seen that
    another one begins, batches before the steps of the one before are made.
    """
    original = once.repeat

    def repeat(count: Any = None, name: str | None = None) -> tf.data.Dataset:
        without_end = count is None or (isinstance(count, int) and count == -1)
        return endless() if without_end else original(count, name)

    once.repeat = repeat
    return once


def per_worker_options(*, deterministic: bool) -> tf.data.Options:
    """Of a dataset whose batches are those of one worker already."""
    import tensorflow as tf

    options = tf.data.Options()
    options.deterministic = deterministic
    # The thread that tunes a dataset may oversleep its end by up to a minute (TensorFlow checks for cancellation before
    # it is set), and then the next epoch begins late.
    options.autotune.enabled = False
    options.dataset_name = PER_WORKER
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    return options
