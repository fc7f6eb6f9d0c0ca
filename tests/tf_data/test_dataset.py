"""`read_dataset` against pyarrow's own read: values, shards, orders, resumption, errors, distribution."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from pipelines.dataset import PER_WORKER, file_dataset, read_dataset
from pipelines.errors import DataError, data_error_in
from pipelines.example_writer import example_of
from pipelines.layout import Request
from pipelines.reader import Reader, ReadPlan
from pipelines.shards import Line, Sharding, left, rows_in, whole
from pipelines.sources import Files
from pipelines.tfrecord_writer import write_records

pytestmark = pytest.mark.timeout(120)

ROWS = 1003


def ids(dataset: tf.data.Dataset) -> list[list[int]]:
    """The row ids of each batch."""
    return [batch["id"].tolist() for batch in dataset.as_numpy_iterator()]


def flat(batches: list[list[int]]) -> list[int]:
    return list(itertools.chain(*batches))


def test_equals_what_pyarrow_reads(files: Path, table: pa.Table) -> None:
    dataset = read_dataset(str(files), batch=64, label="label")
    batches = list(dataset.as_numpy_iterator())
    features = [name for name in table.column_names if name != "label"]
    assert list(batches[0][0]) == features
    whole = pq.read_table(files)
    for name in features:
        values = np.concatenate([batch[0][name] for batch in batches])
        expected = whole[name].to_pylist()
        if values.dtype == object:
            assert [value.decode() for value in values] == expected
        else:
            np.testing.assert_array_equal(values, np.array(expected, values.dtype))
    np.testing.assert_array_equal(np.concatenate([batch[1] for batch in batches]), whole["label"].to_numpy())
    assert [len(batch[1]) for batch in batches] == [64] * 15 + [43]


def test_is_an_ordinary_dataset(files: Path) -> None:
    dataset = read_dataset(str(files), batch=64, label="label", columns=("id", "text", "half", "flag"))
    features, label = dataset.element_spec
    assert features == {
        "id": tf.TensorSpec([None], tf.int64),
        "text": tf.TensorSpec([None], tf.string),
        "half": tf.TensorSpec([None], tf.float16),
        "flag": tf.TensorSpec([None], tf.bool),
    }
    assert label == tf.TensorSpec([None], tf.float32)
    assert dataset.cardinality() == 16
    assert read_dataset(str(files), batch=64, repeat=True).cardinality() == tf.data.INFINITE_CARDINALITY
    options = dataset.map(lambda x, y: (x, y)).take(3).options()
    assert options.experimental_distribute.auto_shard_policy == tf.data.experimental.AutoShardPolicy.OFF
    assert options.dataset_name == PER_WORKER
    assert options.deterministic is True
    assert options.autotune.enabled is False
    assert read_dataset(str(files), batch=64, deterministic=False).options().deterministic is False


def test_what_tf_data_makes_of_it(files: Path, tmp_path: Path) -> None:
    dataset = read_dataset(str(files), batch=64, columns=("id",))
    numbered = dataset.map(lambda batch: batch["id"] * 2).unbatch().batch(10)
    assert flat([batch.tolist() for batch in numbered.as_numpy_iterator()]) == [2 * row for row in range(ROWS)]
    cached = read_dataset(str(files), batch=64, columns=("id",), shuffle=True).cache(str(tmp_path / "cached"))
    assert ids(cached) == ids(cached)
    assert sorted(flat(ids(cached.shuffle(5).take(-1).prefetch(2)))) == list(range(ROWS))
    assert sorted(flat(ids(dataset.filter(lambda batch: batch["id"][0] > 100)))) == list(range(128, ROWS))


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize(("shards", "batch"), [(1, 1), (2, 64), (3, 7), (8, 25), (16, 1000)])
def test_shards_together_are_the_whole(files: Path, shards: int, batch: int, shuffle: bool) -> None:
    options: dict[str, Any] = {"batch": batch, "shuffle": shuffle, "shards": shards, "columns": ("id",)}
    read = [ids(read_dataset(str(files), shard=shard, **options)) for shard in range(shards)]
    assert sorted(flat([flat(batches) for batches in read])) == list(range(ROWS))
    assert len({len(batches) for batches in read}) == 1
    assert all(len(batches[0]) == min(batch, len(flat(batches))) for batches in read)


@pytest.mark.parametrize("shuffle", [False, True])
def test_batches_are_full_where_the_remainder_is_dropped(files: Path, shuffle: bool) -> None:
    options: dict[str, Any] = {"batch": 64, "shards": 3, "columns": ("id",), "remainder": "drop", "shuffle": shuffle}
    datasets = [read_dataset(str(files), shard=shard, **options) for shard in range(3)]
    read = [ids(dataset) for dataset in datasets]
    assert [[len(batch) for batch in batches] for batches in read] == [[64] * 5] * 3
    assert len(set(flat([flat(batches) for batches in read]))) == 3 * 5 * 64
    assert all(dataset.cardinality() == 5 for dataset in datasets)


@pytest.mark.parametrize("shuffle", [False, True])
def test_what_comes_first_may_come_first(files: Path, shuffle: bool) -> None:
    dataset = read_dataset(str(files), batch=10, columns=("id",), deterministic=False, shuffle=shuffle)
    for _ in range(2):
        assert sorted(flat(ids(dataset))) == list(range(ROWS))


def test_each_iteration_is_another_reproducible_epoch(files: Path) -> None:
    def epochs(**options: Any) -> list[list[int]]:
        dataset = read_dataset(str(files), batch=50, shuffle=True, columns=("id",), **options)
        return [flat(ids(dataset)) for _ in range(3)]

    first = epochs()
    assert all(sorted(epoch) == list(range(ROWS)) for epoch in first)
    assert first[0] != first[1] != first[2]
    assert first == epochs()
    assert first[1:] == epochs(epoch=1)[:2]
    assert first != epochs(seed=1)
    # Rows are mixed well beyond their row group of 97: neighbours are as far apart as in any permutation.
    assert np.mean(np.abs(np.diff(first[0]))) == pytest.approx(ROWS / 3, rel=0.15)


def test_repeat_goes_on_to_the_next_epoch(files: Path) -> None:
    dataset = read_dataset(str(files), batch=100, shuffle=True, columns=("id",))
    endless = read_dataset(str(files), batch=100, shuffle=True, columns=("id",), repeat=True)
    assert ids(endless.take(22)) == ids(dataset) + ids(dataset)


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("done", [1, 3, 10, 20, 21])
def test_batches_that_are_done(files: Path, done: int, shuffle: bool) -> None:
    """With as many shards again, what is left is exactly the batches that follow; the epoch after is whole."""
    options: dict[str, Any] = {"batch": 25, "shuffle": shuffle, "shards": 2, "columns": ("id",), "epoch": 4}
    line = left(whole(4, ROWS), Sharding(2, 25), done)
    before: list[int] = []
    after: list[list[int]] = [[], []]
    for shard in range(2):
        whole_epoch = read_dataset(str(files), shard=shard, **options)
        before += flat(ids(whole_epoch)[:done])
        if rows_in(line):
            rest = read_dataset(str(files), shard=shard, line=line, **options)
            after[shard] = flat(ids(rest))
            assert rest.cardinality() == whole_epoch.cardinality() == 21
            assert ids(rest) == ids(whole_epoch)  # the epoch after is whole again
    assert sorted(before + flat(after)) == list(range(ROWS))
    assert abs(len(after[0]) - len(after[1])) <= 1


@pytest.mark.parametrize("shuffle", [False, True])
def test_batches_that_are_done_by_another_number_of_shards(files: Path, shuffle: bool) -> None:
    line: Line = whole(2, ROWS)
    seen: list[int] = []
    for shards, batch, done in ((2, 25, 7), (5, 10, 3), (1, 64, 4), (3, 100, None)):
        for shard in range(shards):
            options: dict[str, Any] = {"shuffle": shuffle, "epoch": 2, "columns": ("id",), "line": line}
            read = ids(read_dataset(str(files), batch=batch, shards=shards, shard=shard, **options))
            seen += flat(read[:done])
        if done is not None:
            line = left(line, Sharding(shards, batch), done)
    assert sorted(seen) == list(range(ROWS))


def test_an_epoch_that_the_caller_counts(files: Path) -> None:
    now, line = 2, left(whole(2, ROWS), Sharding(1, 100), 1)
    reader = Reader(ReadPlan(Files((str(files),)), Request(("id",)), Sharding(1, 100), shuffle=True))
    reader.start_now = lambda: (now, line if now == 2 else None)
    dataset = file_dataset(reader, resumes=True)
    begun_only = next(iter(dataset))["id"].numpy().tolist()
    second = ids(dataset)
    assert begun_only == second[0]
    assert len(second) == 10
    now = 3
    third = ids(dataset)
    assert len(third) == 11
    assert flat(third) == flat(ids(read_dataset(str(files), batch=100, shuffle=True, columns=("id",), epoch=3)))


def test_iterators_side_by_side(files: Path) -> None:
    dataset = read_dataset(str(files), batch=10, columns=("id",))
    first, second = iter(dataset), iter(dataset)
    pairs = [(next(first)["id"].numpy().tolist(), next(second)["id"].numpy().tolist()) for _ in range(101)]
    assert flat([one for one, _ in pairs]) == flat([other for _, other in pairs]) == list(range(ROWS))


def test_an_iterator_that_is_given_up_harms_no_other(files: Path) -> None:
    dataset = read_dataset(str(files), batch=10, columns=("id",), shuffle=True)
    for _ in range(6):
        next(iter(dataset))
    assert sorted(flat(ids(dataset))) == list(range(ROWS))


def test_looking_at_a_batch_harms_no_loop(files: Path) -> None:
    dataset = read_dataset(str(files), batch=2, columns=("id",))
    found = []
    for batch in dataset.as_numpy_iterator():
        found += batch["id"].tolist()
        if len(found) <= 100:
            assert next(iter(dataset))["id"].numpy().tolist() == [0, 1]
    assert found == [*range(1003)]


def test_errors_while_reading_are_found_again(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"x": [1, 2, 3, None]}), path, row_group_size=2)
    with pytest.raises(tf.errors.OpError) as caught:
        list(read_dataset(str(path), batch=1))
    error = data_error_in(caught.value)
    assert error is not None
    assert error.seen == f"{path}, row group 1, column x"
    assert error.todo.endswith("leave the column out with columns")


def test_a_file_that_vanishes_while_it_is_read(tmp_path: Path) -> None:
    for number in range(30):
        pq.write_table(pa.table({"id": np.arange(20_000) + number}), tmp_path / f"{number:02}.parquet")
    batches = iter(read_dataset(str(tmp_path), batch=20_000))
    assert next(batches)["id"].numpy()[0] == 0
    (tmp_path / "29.parquet").unlink()
    with pytest.raises(tf.errors.OpError) as caught:
        list(batches)
    error = data_error_in(caught.value)
    assert error is not None
    assert error.seen == f"{tmp_path}/29.parquet, row group 0"


def test_errors_before_reading(tmp_path: Path, files: Path) -> None:
    with pytest.raises(DataError, match="no data file is there"):
        read_dataset(str(tmp_path), batch=1)
    with pytest.raises(DataError, match=r"fewer rows than shards · 1003 rows, 1004 shards"):
        read_dataset(str(files), batch=1, shards=1004)


def test_what_cannot_be_read_is_left_out_with_a_warning(tmp_path: Path) -> None:
    pq.write_table(pa.table({"x": [1.0, 2.0, 3.0], "y": [1.0, 0.0, 1.0], "i": [7, 8, 9]}), tmp_path / "1.parquet")
    (tmp_path / "2.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"2\.parquet"):
        read_dataset(str(tmp_path), batch=3)
    with pytest.warns(UserWarning, match=r"1 file left out: .*2\.parquet"):
        dataset = read_dataset(str(tmp_path), batch=3, on_error="skip_files", pack={"m": "float64"}, label="i")
    ((features, label),) = dataset
    assert features["m"].numpy().tolist() == [[1.0, 1.0], [2.0, 0.0], [3.0, 1.0]]
    assert label.numpy().tolist() == [7, 8, 9]


def test_features_of_records_are_packed_by_dtype(tmp_path: Path) -> None:
    records = [example_of({"a": [0.5], "b": [1.5], "y": [2.5], "i": [n], "s": [b"s"], "v": [1.0, 2.0]}) for n in (3, 4)]
    write_records(str(tmp_path / "x.tfrecord"), records)
    path = str(tmp_path / "x.tfrecord")
    ((features, _),) = read_dataset(path, batch=2, pack={"m": "float32"}, label="y")
    assert set(features) == {"m", "i", "s", "v"}
    assert features["m"].numpy().tolist() == [[0.5, 1.5], [0.5, 1.5]]
    (features,) = read_dataset(path, batch=2, pack={"m": "float32"}, casts={"i": "float32"}, columns=["i", "s"])
    assert features["m"].numpy().tolist() == [[3.0], [4.0]]
    for pack in ({"m": "int16"}, {"m": ()}):
        with pytest.raises(DataError, match="pack m has no columns"):
            read_dataset(path, batch=2, pack=pack)
