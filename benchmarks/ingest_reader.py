"""One reader of `benchmarks/ingest.py`, in a process of its own: prints what it measured as one line of JSON.

python benchmarks/ingest_reader.py SYSTEM CASE PATH ROWS BATCH
"""

from __future__ import annotations

import functools
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).resolve().parent.parent)
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def scan(case: str, path: str, rows: int, batch: int) -> Iterator[Any]:
    """Arrow alone, one thread: what any reader of the file must do."""
    import pyarrow.parquet as pq

    file = pq.ParquetFile(path)
    for index in range(file.num_row_groups):
        yield file.read_row_group(index, use_threads=False).num_rows


def tf_data(case: str, path: str, rows: int, batch: int) -> Any:
    """tf.data alone: one row group's tensors, in memory already, cut into batches again and again."""
    import numpy as np
    import pyarrow.parquet as pq
    import tensorflow as tf

    table = pq.ParquetFile(path).read_row_group(0).slice(0, 65_536).combine_chunks()
    columns = []
    for column in (column.chunk(0) for column in table.columns):
        if str(column.type).startswith("fixed_size_list"):
            columns.append(tf.constant(column.flatten().to_numpy().reshape(len(table), -1)))
        elif str(column.type).startswith("list"):
            splits = np.concatenate([[0], np.cumsum(column.value_lengths())])
            columns.append(tf.RaggedTensor.from_row_splits(column.flatten().to_numpy(), splits))
        else:
            columns.append(tf.constant(column.to_numpy(zero_copy_only=False)))
    if case == "lists":
        return _cut_by_hand(columns, len(table), rows, batch)
    repeated = tf.data.Dataset.from_tensors(tuple(columns)).repeat(-(-rows // len(table)))
    return repeated.rebatch(batch).take(-(-rows // batch)).prefetch(8)


def _cut_by_hand(columns: list[Any], length: int, rows: int, batch: int) -> Any:
    """Batches of dense and ragged columns, whose rebatch is not made for ragged ones."""
    import tensorflow as tf

    def cut(index: Any) -> Any:
        start = index * batch % length

        def part(column: Any) -> Any:
            if not isinstance(column, tf.RaggedTensor):
                return column[start : start + batch]
            splits = column.row_splits[start : start + batch + 1]
            values = column.values[splits[0] : splits[-1]]
            return tf.RaggedTensor.from_row_splits(values, splits - splits[0], validate=False)

        return tuple(map(part, columns))

    return tf.data.Dataset.range(-(-rows // batch)).map(cut).prefetch(8)


def ours(case: str, path: str, rows: int, batch: int, **options: Any) -> Any:
    """ray-tfcluster, as a user gets it."""
    from pipelines.dataset import read_dataset

    return read_dataset(path, batch=batch, label="label", **options)


def ours_shuffled(case: str, path: str, rows: int, batch: int) -> Any:
    """With another order of rows each epoch."""
    return ours(case, path, rows, batch, shuffle=True)


def ours_packed(case: str, path: str, rows: int, batch: int) -> Any:
    """With the columns of each dtype in one matrix, by `pack`."""
    return ours(case, path, rows, batch, columns=(), pack=_by_dtype(path))


def ours_stacked(case: str, path: str, rows: int, batch: int) -> Any:
    """The same matrices made of single columns, as one does without `pack`."""
    import tensorflow as tf

    pack = _by_dtype(path)

    def stacked(features: Any, label: Any) -> Any:
        return {name: tf.stack([features[column] for column in of], axis=1) for name, of in pack.items()}, label

    return ours(case, path, rows, batch).map(stacked, num_parallel_calls=2).prefetch(8)


def _by_dtype(path: str) -> dict[str, tuple[str, ...]]:
    """The columns of each dtype but the label, which begin with its letter."""
    import pyarrow.parquet as pq

    names = pq.read_schema(path).names
    found = {kind: tuple(n for n in names if n[0] == kind and n[1:].isdigit()) for kind in "fi"}
    return {name: of for name, of in found.items() if of}


def petastorm(case: str, path: str, rows: int, batch: int) -> Any:
    """Petastorm's reader of plain Parquet, batched as its own converter does it (`make_tf_dataset`): row by row."""
    import tensorflow as tf

    slices = _row_groups_of_petastorm(path).flat_map(tf.data.Dataset.from_tensor_slices)
    return slices.take(rows).batch(batch).prefetch(8)


def petastorm_rebatch(case: str, path: str, rows: int, batch: int) -> Any:
    """Petastorm's reader with tf.data's rebatch, which is newer than Petastorm."""
    return _row_groups_of_petastorm(path).map(lambda group: group._asdict()).rebatch(batch).prefetch(8)


def _row_groups_of_petastorm(path: str) -> Any:
    from petastorm import make_batch_reader
    from petastorm.tf_utils import make_petastorm_dataset

    reader = make_batch_reader(f"file://{path}", num_epochs=1, workers_count=2, shuffle_row_groups=False)
    return make_petastorm_dataset(reader)


def tensorflow_io(case: str, path: str, rows: int, batch: int) -> Any:
    """tensorflow-io's Parquet dataset, which yields rows."""
    import tensorflow_io as tfio

    return tfio.IODataset.from_parquet(path).take(rows).batch(batch).prefetch(8)


def parse_example(case: str, path: str, rows: int, batch: int) -> Any:
    """TFRecordDataset and parse_example on batches."""
    import tensorflow as tf

    spec = {f"f{i}": tf.io.FixedLenFeature([], tf.float32) for i in range(20)}
    spec |= {f"i{i}": tf.io.FixedLenFeature([], tf.int64) for i in range(5)}
    spec["label"] = tf.io.FixedLenFeature([], tf.float32)
    records = tf.data.TFRecordDataset(path).batch(batch)
    return records.map(lambda batch: tf.io.parse_example(batch, spec), num_parallel_calls=tf.data.AUTOTUNE).prefetch(8)


def _ray_data(path: str) -> Any:
    import ray

    if not ray.is_initialized():
        ray.init(address="local", include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    ray.data.DataContext.get_current().enable_progress_bars = False
    return ray.data.read_parquet(path)


def iter_tf_batches(case: str, path: str, rows: int, batch: int) -> Iterator[Any]:
    """Ray Data's batches of tensors."""
    yield from _ray_data(path).limit(rows).iter_tf_batches(batch_size=batch)


def to_tf(case: str, path: str, rows: int, batch: int) -> Any:
    """Ray Data's tf.data dataset."""
    names = [name for name in _ray_data(path).schema().names if name != "label"]
    return _ray_data_again(path).limit(rows).to_tf(names, "label", batch_size=batch)


def _ray_data_again(path: str) -> Any:
    import ray

    return ray.data.read_parquet(path)


SYSTEMS: dict[str, Callable[[str, str, int, int], Any]] = {
    system.__name__: system
    for system in (
        scan, tf_data, ours, ours_shuffled, ours_packed, ours_stacked, petastorm, petastorm_rebatch, tensorflow_io,
        parse_example, iter_tf_batches, to_tf,
    )
}  # fmt: skip


def rows_in(batch: Any) -> int:
    """Rows of a batch of any shape."""
    while isinstance(batch, (tuple, dict)):
        batch = next(iter(batch.values())) if isinstance(batch, dict) else batch[0]
    return int(batch if isinstance(batch, int) else batch.shape[0])


def consume(read: Callable[[], Any], *, from_first: bool) -> tuple[float, float, int]:
    """Seconds to the first batch, seconds for all of them, and their rows.

    A tf.data dataset is read in a `tf.function`, as Keras' fit reads it; anything else in Python. The function is
    traced by a reading before, and the clock starts before the reader is made: else one that reads far ahead would have
    read much by then.

    Args:
        read: makes the reader.
        from_first: the seconds and rows are those after the first batch, for a reader that starts a system of its own.
    """
    started = time.perf_counter()
    batches = read()
    iterator = iter(batches)
    first = next(iterator)
    to_first = time.perf_counter() - started
    if from_first:
        started = time.perf_counter()
    rows = 0 if from_first else rows_in(first)
    if hasattr(batches, "element_spec"):
        rows += int(_rest()(iterator))
    else:
        rows += sum(map(rows_in, iterator))
    return to_first, time.perf_counter() - started, rows


@functools.cache
def _rest() -> Any:
    import tensorflow as tf

    @tf.function(reduce_retracing=True)
    def rest(iterator: Any) -> Any:
        count = tf.constant(0, tf.int64)
        for batch in iterator:
            count += tf.shape(_one_tensor(batch), out_type=tf.int64)[0]
        return count

    return rest


def _one_tensor(batch: Any) -> Any:
    """A dense tensor of a batch."""
    import tensorflow as tf

    flat = [part for part in tf.nest.flatten(batch) if isinstance(part, tf.Tensor)]
    return flat[-1]


def main(system: str, case: str, path: str, rows: int, batch: int) -> None:
    """Read the file twice, the second time for the record, and print the figures."""
    starts_a_system = system in ("to_tf", "iter_tf_batches")

    def read() -> Any:
        return SYSTEMS[system](case, path, rows, batch)

    first, _, _ = consume(read, from_first=False)
    _, seconds, seen = consume(read, from_first=starts_a_system)
    print(json.dumps({"first_s": first, "rows_s": seen / seconds, "peak_mb": peak_mb()}), flush=True)


def peak_mb() -> float:
    """Most resident memory of this process; `getrusage` would tell that of its parent, if it had more."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
    os._exit(0)
