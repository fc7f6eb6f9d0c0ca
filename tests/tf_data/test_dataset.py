"""`parquet_dataset` against pyarrow's own read: values, shards, orders, resumption, errors, distribution."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from pipelines.dataset import PER_WORKER, parquet_dataset
from pipelines.errors import DataError, data_error_in

pytestmark = pytest.mark.timeout(120)


def ids(dataset: tf.data.Dataset) -> list[list[int]]:
    """The row ids of each batch."""
    return [batch["id"].tolist() for batch in dataset.as_numpy_iterator()]


def flat(batches: list[list[int]]) -> list[int]:
    return list(itertools.chain(*batches))


def test_equals_what_pyarrow_reads(files: Path, table: pa.Table) -> None:
    dataset = parquet_dataset(str(files), batch=64, label="label")
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
    dataset = parquet_dataset(str(files), batch=64, label="label", columns=["id", "text", "half", "flag"])
    features, label = dataset.element_spec
    assert features == {
        "id": tf.TensorSpec([None], tf.int64),
        "text": tf.TensorSpec([None], tf.string),
        "half": tf.TensorSpec([None], tf.float16),
        "flag": tf.TensorSpec([None], tf.bool),
    }
    assert label == tf.TensorSpec([None], tf.float32)
    assert dataset.cardinality() == 16
    assert parquet_dataset(str(files), batch=64, repeat=True).cardinality() == tf.data.INFINITE_CARDINALITY
    options = dataset.map(lambda x, y: (x, y)).take(3).options()
    assert options.experimental_distribute.auto_shard_policy == tf.data.experimental.AutoShardPolicy.OFF
    assert options.dataset_name == PER_WORKER
    assert options.deterministic is True
    assert options.autotune.enabled is False


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize(("shards", "batch"), [(1, 1), (2, 64), (3, 7), (8, 25), (16, 1000)])
def test_shards_together_are_the_whole(files: Path, shards: int, batch: int, shuffle: bool) -> None:
    options: dict[str, Any] = {"batch": batch, "shuffle": shuffle, "shard_count": shards, "columns": ["id"]}
    read = [ids(parquet_dataset(str(files), shard_index=index, **options)) for index in range(shards)]
    assert sorted(flat([flat(batches) for batches in read])) == list(range(1003))
    assert len({len(batches) for batches in read}) == 1
    assert all(len(batches[0]) == min(batch, len(flat(batches))) for batches in read)


def test_each_iteration_is_another_reproducible_epoch(files: Path) -> None:
    def epochs(**options: Any) -> list[list[int]]:
        dataset = parquet_dataset(str(files), batch=50, shuffle=True, columns=["id"], **options)
        return [flat(ids(dataset)) for _ in range(3)]

    first = epochs()
    assert all(sorted(epoch) == list(range(1003)) for epoch in first)
    assert first[0] != first[1] != first[2]
    assert first == epochs()
    assert first[1:] == epochs(epoch=1)[:2]
    assert first != epochs(seed=1)
    # Rows are mixed well beyond their row group of 97: neighbours are as far apart as in any permutation.
    assert np.mean(np.abs(np.diff(first[0]))) == pytest.approx(1003 / 3, rel=0.15)


def test_repeat_goes_on_to_the_next_epoch(files: Path) -> None:
    dataset = parquet_dataset(str(files), batch=100, shuffle=True, columns=["id"])
    endless = parquet_dataset(str(files), batch=100, shuffle=True, columns=["id"], repeat=True)
    assert ids(endless.take(22)) == ids(dataset) + ids(dataset)


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("skip", [1, 3, 10, 20, 21])
def test_skipped_batches(files: Path, skip: int, shuffle: bool) -> None:
    options: dict[str, Any] = {"batch": 25, "shuffle": shuffle, "shard_count": 2, "shard_index": 1, "columns": ["id"]}
    whole = parquet_dataset(str(files), epoch=4, **options)
    rest = parquet_dataset(str(files), epoch=4, skip_batches=skip, **options)
    assert ids(rest) == ids(whole)[skip:]
    assert ids(rest) == ids(whole)  # the epoch after is whole again


def test_an_epoch_that_the_caller_counts(files: Path) -> None:
    now = 2
    dataset = parquet_dataset(str(files), batch=100, shuffle=True, columns=["id"], epoch=lambda: now, skip_batches=1)
    begun_only = next(iter(dataset))["id"].numpy().tolist()
    second = ids(dataset)
    assert begun_only == second[0]
    assert len(second) == 10
    now = 3
    third = ids(dataset)
    assert len(third) == 11
    assert flat(third) == flat(ids(parquet_dataset(str(files), batch=100, shuffle=True, columns=["id"], epoch=3)))


def test_errors_while_reading_are_found_again(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"x": [1, 2, 3, None]}), path, row_group_size=2)
    with pytest.raises(tf.errors.OpError) as caught:
        list(parquet_dataset(str(path), batch=1))
    error = data_error_in(caught.value)
    assert error is not None
    assert error.seen == f"{path}, row group 1, column x"
    assert error.todo.endswith("leave the column out with columns")


def test_errors_before_reading(tmp_path: Path, files: Path) -> None:
    with pytest.raises(DataError, match="no data file is there"):
        parquet_dataset(str(tmp_path), batch=1)
    with pytest.raises(DataError, match=r"fewer rows than shards · 1003 rows, 1004 shards"):
        parquet_dataset(str(files), batch=1, shard_count=1004)
