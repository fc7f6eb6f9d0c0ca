"""Arrays and datasets of rows shared out, and records of TFRecord files read, as Parquet files are."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import tensorflow as tf

from pipelines.dataset import PER_WORKER, read_dataset
from pipelines.errors import DataError
from pipelines.rows import array_dataset, array_reader, shared_rows
from pipelines.shards import Sharding

pytestmark = pytest.mark.timeout(120)


@pytest.mark.parametrize("shuffle", [False, True])
def test_arrays_of_any_structure(shuffle: bool) -> None:
    ids = np.arange(1003)
    words = np.array([f"é{number}" for number in ids])
    images = np.random.default_rng(0).random((1003, 3, 2)).astype(np.float32)
    data = ({"image": images, "word": words, "flag": tf.constant(ids % 2 == 0)}, ids)
    seen: list[int] = []
    for shard in range(3):
        reader = array_reader(data, Sharding(3, 50), shard, shuffle=shuffle, seed=1)
        dataset = array_dataset(data, reader)
        assert dataset.element_spec[0]["image"] == tf.TensorSpec([None, 3, 2], tf.float32)
        assert dataset.cardinality() == 7
        for features, label in dataset.as_numpy_iterator():
            np.testing.assert_array_equal(features["image"], images[label])
            np.testing.assert_array_equal(features["flag"], label % 2 == 0)
            assert [word.decode() for word in features["word"]] == [f"é{number}" for number in label]
            seen += label.tolist()
    assert sorted(seen) == ids.tolist()
    assert (seen == ids.tolist()) is not shuffle


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ((np.zeros(3), np.zeros(4)), "equally many rows"),
        ((), "equally many rows"),
        ((np.zeros(0),), "equally many rows"),
        ((np.float32(1.5),), "is a scalar, 1.5"),
        ((1.0, 2.0), "is a scalar, 1.0 · .*those in a tuple an array each"),
        ([], "no arrays"),
        ([[1], [2, 3]], r"a list is no array · \[\[1\], \[2, 3\]\]: .* · .*ragged.constant"),
        ((np.zeros(3, np.complex64),), "array 0 of complex64: .* · cast it"),
        ((tf.zeros(3, tf.bfloat16),), "array 0 of bfloat16: .* · cast it, such as to float32"),
        ((np.zeros((4, 0)),), r"the rows of an array are empty · array 0 of shape \(4, 0\)"),
        ((tf.ragged.constant([[1], [2, 3]]), np.zeros(2)), "array 0 is a RaggedTensor · share .*from_tensor_slices"),
        ((np.zeros(2), tf.sparse.from_dense([[1, 0], [0, 1]])), "array 1 is a SparseTensor · share .*from_tensor_sl"),
        ((tf.data.Dataset.range(3), np.zeros(3)), "array 0 is a .*Dataset · zip them"),
    ],
)
def test_arrays_that_cannot_be_shared(arrays: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        array_reader(arrays, Sharding(1, 1), 0)


class Pair(NamedTuple):
    x: Any
    y: Any


@pytest.mark.parametrize(
    "arrays",
    [
        [1.0, 2.5, 3.0],
        [2**40, 2, 3],
        ["a", "bc", "d"],
        [[True, False], [True, True]],
        [(1, 2), (3, 4)],
        ([1.0, 2.0, 3.0], [4, 5, 6]),
        ({"a": [[1], [2]], "b": ([b"x", b"y"],)}, np.arange(2)),
        Pair([1, 2], [0.5, 1.5]),
        OrderedDict(z=[1, 2], a=[3, 4]),
        np.arange(4, dtype=">i4"),
    ],
    ids=str,
)
def test_lists_are_arrays_as_tensorflow_takes_them(arrays: Any) -> None:
    reader = array_reader(arrays, Sharding(1, 2), 0)
    ours = array_dataset(arrays, reader)
    theirs = tf.data.Dataset.from_tensor_slices(arrays).batch(2)
    assert ours.element_spec == theirs.element_spec
    for mine, yours in zip(ours, theirs, strict=True):
        tf.nest.map_structure(np.testing.assert_array_equal, mine, yours)


def test_a_list_of_arrays_is_an_array_each() -> None:
    arrays = [np.arange(3), [0.5, 1.5, 2.5]]
    assert len(array_dataset(arrays, array_reader(arrays, Sharding(1, 3), 0)).element_spec) == 2


@pytest.mark.parametrize("remainder", ["keep", "drop"])
def test_a_dataset_of_rows(remainder: Any) -> None:
    sharding = Sharding(3, 50, remainder)
    rows = tf.data.Dataset.range(1003).map(lambda number: {"id": number, "twice": 2 * number})
    shards = [shared_rows(rows, sharding, shard) for shard in range(3)]
    seen = [[batch["id"].tolist() for batch in shard.as_numpy_iterator()] for shard in shards]
    assert {len(batches) for batches in seen} == {7 if remainder == "keep" else 6}
    found = sorted(number for batches in seen for batch in batches for number in batch)
    assert found == list(range(1003 if remainder == "keep" else 900))
    assert shards[0].options().dataset_name == PER_WORKER


def test_a_dataset_of_rows_for_several_replicas_counts_steps() -> None:
    rows = tf.data.Dataset.range(103)
    found = shared_rows(rows, Sharding(2, 10), 1, per_step=2)
    assert int(found.cardinality()) == 3
    assert sorted(int(row) for batch in found for row in batch) == [*range(1, 103, 2)]


def test_datasets_of_unknown_length() -> None:
    rows = tf.data.Dataset.range(10)
    with pytest.raises(DataError, match="assert_cardinality"):
        shared_rows(rows.filter(lambda number: number > 3), Sharding(2, 2), 0)
    with pytest.raises(DataError, match="without end"):
        shared_rows(rows.repeat(), Sharding(2, 2), 0)


@pytest.mark.parametrize("compression", [None, "GZIP", "ZLIB"])
def test_records(tmp_path: Path, compression: str | None) -> None:
    for number in range(3):
        path = str(tmp_path / f"{number}.tfrecord")
        with tf.io.TFRecordWriter(path, compression) as writer:
            for row in range(number * 100, number * 100 + 100):
                feature = {
                    "id": tf.train.Feature(int64_list=tf.train.Int64List(value=[row])),
                    "tags": tf.train.Feature(int64_list=tf.train.Int64List(value=range(row % 3))),
                    "pair": tf.train.Feature(float_list=tf.train.FloatList(value=[row, row + 0.5])),
                    "label": tf.train.Feature(bytes_list=tf.train.BytesList(value=[b"%d" % row])),
                }
                writer.write(tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString())
    seen: list[int] = []
    for shard in range(2):
        dataset = read_dataset(str(tmp_path), batch=32, shards=2, shard=shard, shuffle=True, label="label")
        assert dataset.cardinality() == 5
        for features, label in dataset:
            ids = features["id"].numpy()
            assert features["tags"].to_list() == [list(range(row % 3)) for row in ids]
            np.testing.assert_array_equal(features["pair"].numpy(), np.stack([ids, ids + 0.5], axis=1))
            assert label.numpy().tolist() == [b"%d" % row for row in ids]
            seen += ids.tolist()
    assert sorted(seen) == list(range(300))


def test_records_as_they_are_described(tmp_path: Path) -> None:
    path = str(tmp_path / "x.tfrecord")
    with tf.io.TFRecordWriter(path) as writer:
        for row in range(10):
            values = {"a": [row], "b": [2 * row]} | ({"c": [1]} if row % 2 else {})
            feature = {n: tf.train.Feature(int64_list=tf.train.Int64List(value=v)) for n, v in values.items()}
            writer.write(tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString())
    features = {"a": "int64", "b": "int32", "c": {"dtype": "int64", "default": 7}}
    dataset = read_dataset(path, batch=10, features=features, columns=("c",), casts={"a": "float32", "b": "float32"},
                           pack={"both": ("a", "b")})  # fmt: skip
    (batch,) = dataset.as_numpy_iterator()
    assert set(batch) == {"c", "both"}
    assert batch["c"].tolist() == [7, 1] * 5
    np.testing.assert_array_equal(batch["both"], [[row, 2.0 * row] for row in range(10)])
    with pytest.raises(DataError, match="did you mean"):
        read_dataset(path, batch=1, features=features, columns=("aa",))
    with pytest.raises(DataError, match="filters need columns"):
        read_dataset(path, batch=1, filters=(("a", ">", 1),))
