"""Columns of every type as tensors: exactly what pyarrow reads, in dense, ragged and nested form."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from pipelines.dataset import read_dataset
from tests.every_type import ROWS, every_type, expected, rows_apart, same
from tests.nested import random_table

pytestmark = pytest.mark.timeout(170)


def rows_of(value: Any) -> list[Any]:
    """The rows of a tensor as plain values."""
    return list(value.to_list() if isinstance(value, tf.RaggedTensor) else value.numpy().tolist())


def values(dataset: tf.data.Dataset) -> dict[str, list[Any]]:
    """All rows by feature, each tensor as its element_spec says."""
    found: dict[str, list[Any]] = {name: [] for name in dataset.element_spec}
    for batch in dataset:
        for name, spec in dataset.element_spec.items():
            assert spec.is_compatible_with(batch[name]), name
            found[name] += rows_of(batch[name])
    return found


@pytest.mark.parametrize("batch", [7, 16])
def test_every_type_equals_what_pyarrow_reads(tmp_path: Path, batch: int) -> None:
    pq.write_table(every_type(), tmp_path / "x.parquet", row_group_size=17)
    wanted = expected(pq.read_table(tmp_path / "x.parquet"))
    found = values(read_dataset(str(tmp_path), batch=batch))
    assert list(found) == list(wanted)
    assert [name for name in wanted if not same(found[name], wanted[name])] == []


@pytest.mark.parametrize("half", [0, 1])
def test_every_type_shuffled_over_shards(tmp_path: Path, half: int) -> None:
    pq.write_table(every_type(half), tmp_path / "x.parquet", row_group_size=17)
    wanted = expected(pq.read_table(tmp_path / "x.parquet"))
    shards = [values(read_dataset(str(tmp_path), batch=4, shards=3, shard=shard, shuffle=True)) for shard in range(3)]
    order = [row for shard in shards for row in shard["id"]]
    assert sorted(order) == list(range(ROWS))
    assert order != sorted(order)
    for name, column in wanted.items():
        assert same([row for shard in shards for row in shard[name]], [column[row] for row in order]), name


def test_specs(tmp_path: Path) -> None:
    pq.write_table(every_type(), tmp_path / "x.parquet")
    spec = read_dataset(str(tmp_path), batch=7).element_spec
    assert spec["fixed"] == tf.TensorSpec([None, 3], tf.float32)
    assert spec["fixed_of_fixed"] == tf.TensorSpec([None, 3, 2], tf.int16)
    assert spec["fixed_of_string"] == tf.TensorSpec([None, 2], tf.string)
    assert spec["list"] == tf.RaggedTensorSpec([None, None], tf.int64, 1, tf.int64)
    assert spec["list_of_list_of_string"] == tf.RaggedTensorSpec([None, None, None], tf.string, 2, tf.int64)
    assert spec["list_of_fixed"] == tf.RaggedTensorSpec([None, None, 2], tf.int16, 1, tf.int64)
    assert spec["fixed_of_list"].shape[1:] == [2, None]
    assert spec["uint64"] == tf.TensorSpec([None], tf.uint64)
    assert spec["struct_nested.a.b.c"] == tf.TensorSpec([None], tf.int64)


@pytest.mark.parametrize("ragged", [False, True])
def test_structs_as_dictionaries(tmp_path: Path, ragged: bool) -> None:
    rows = [{"a": {"b": row, "c": f"{row}"}, "d": [row] if ragged else row} for row in range(10)]
    pq.write_table(pa.table({"s": rows, "y": range(10)}), tmp_path / "x.parquet", row_group_size=4)
    dataset = read_dataset(str(tmp_path), batch=10, label="y", nested=True)
    features, label = next(iter(dataset.rebatch(10) if not ragged else dataset.unbatch().ragged_batch(10)))
    assert set(features["s"]) == {"a", "d"}
    assert features["s"]["a"]["b"].numpy().tolist() == list(range(10))
    assert features["s"]["a"]["c"].numpy().tolist() == [str(row).encode() for row in range(10)]
    assert rows_of(features["s"]["d"]) == [[row] if ragged else row for row in range(10)]
    assert label.numpy().tolist() == list(range(10))


def test_lists_of_structs_and_maps_as_dictionaries(tmp_path: Path) -> None:
    items: list[Any] = [[{"a": row, "b": {"c": [f"{row}"] * place}} for place in range(row % 3)] for row in range(10)]
    pairs = [[(f"k{place}", row) for place in range(row % 4)] for row in range(10)]
    columns = {"l": pa.array(items), "m": pa.array(pairs, pa.map_(pa.string(), pa.int32())), "y": pa.array(range(10))}
    pq.write_table(pa.table(columns), tmp_path / "x.parquet", row_group_size=4)
    dataset = read_dataset(str(tmp_path), batch=3, label="y", nested=True)
    ragged = [tf.RaggedTensorSpec([None, None], dtype, 1, tf.int64) for dtype in (tf.int64, tf.string, tf.int32)]
    texts = tf.RaggedTensorSpec([None, None, None], tf.string, 2, tf.int64)
    spec = {"l": {"a": ragged[0], "b": {"c": texts}}, "m": {"key": ragged[1], "value": ragged[2]}}
    assert dataset.element_spec == (spec, tf.TensorSpec([None], tf.int64))
    found: list[list[Any]] = [[], [], [], []]
    for features, _ in dataset:
        tensors = (features["l"]["a"], features["l"]["b"]["c"], features["m"]["key"], features["m"]["value"])
        for rows, tensor in zip(found, tensors, strict=True):
            rows += rows_of(tensor)
    assert found == [
        [[item["a"] for item in row] for row in items],
        [[[text.encode() for text in item["b"]["c"]] for item in row] for row in items],
        [[key.encode() for key, _ in row] for row in pairs],
        [[value for _, value in row] for row in pairs],
    ]


@pytest.mark.parametrize("seed", [1, 2])
def test_random_nested_columns_with_nulls(tmp_path: Path, seed: int) -> None:
    table = random_table(seed, 40, columns=2)
    pq.write_table(table, tmp_path / "x.parquet", row_group_size=11)
    wanted: dict[str, list[Any]] = {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        wanted.update(rows_apart(name, column.type, column.to_pylist()))
    dataset = read_dataset(str(tmp_path), batch=7, masks=tuple(wanted), shuffle=True)
    found = values(dataset)
    for name, rows in wanted.items():
        depth = dataset.element_spec[name].shape.rank - 1
        assert found[f"{name}_present"] == [rows[row] is not None for row in found["id"]]
        assert [unmarked(row, depth) for row in found[name]] == [unmarked(rows[row], depth) for row in found["id"]]


def unmarked(value: Any, depth: int) -> Any:
    """A row of lists in lists, so many deep: null lists as empty ones, and None for null and for what stands for it."""
    if depth:
        return [unmarked(item, depth - 1) for item in value or []]
    return (value.encode() if isinstance(value, str) else value) or None


def test_nulls_filled_and_marked(tmp_path: Path) -> None:
    columns = {
        "x": [1, None, 3, None],
        "t": ["a", None, "", None],
        "l": [[1, None], None, [], [4]],
        "lt": [["a", None], None, [], ["d"]],
        "s": [{"a": 1.5}, None, {"a": None}, {"a": 4.5}],
    }
    pq.write_table(pa.table(columns), tmp_path / "x.parquet", row_group_size=3)
    fill: dict[str, Any] = {"x": -1, "t": "?", "l": 9, "lt": "!", "s": 0.5}
    assert values(read_dataset(str(tmp_path), batch=2, fill=fill, masks=("x", "l", "s"))) == {
        "x": [1, -1, 3, -1],
        "t": [b"a", b"?", b"", b"?"],
        "l": [[1, 9], [], [], [4]],
        "lt": [[b"a", b"!"], [], [], [b"d"]],
        "s.a": [1.5, 0.5, 0.5, 4.5],
        "x_present": [True, False, True, False],
        "l_present": [True, False, True, True],
        "s.a_present": [True, False, False, True],
    }


def test_packed_cast_and_partitioned(tmp_path: Path) -> None:
    for year in (2013, 2014):
        folder = tmp_path / f"year={year}"
        folder.mkdir()
        pq.write_table(pa.table({"a": [1, 2, 3], "b": [0.5, 1.5, 2.5], "l": [[1.0], [], [2.0]]}), folder / "x.parquet")
    dataset = read_dataset(
        str(tmp_path),
        batch=4,
        columns=("l",),
        label="year",
        pack={"m": ("a", "b")},
        casts={"a": "float32", "b": "float32", "l": "float32"},
        filters=(("b", ">", 1),),
    )
    assert dataset.element_spec == (
        {"l": tf.RaggedTensorSpec([None, None], tf.float32, 1, tf.int64), "m": tf.TensorSpec([None, 2], tf.float32)},
        tf.TensorSpec([None], tf.int64),
    )
    features, years = zip(*dataset, strict=True)
    assert [row for batch in features for row in rows_of(batch["m"])] == [[2, 1.5], [3, 2.5], [2, 1.5], [3, 2.5]]
    assert [row for batch in features for row in rows_of(batch["l"])] == [[], [2.0], [], [2.0]]
    assert [row for batch in years for row in rows_of(batch)] == [2013, 2013, 2014, 2014]


def test_a_cell_of_100_megabytes_among_many(tmp_path: Path) -> None:
    large = "x" * 100_000_000
    pq.write_table(pa.table({"t": ["a", "b" * 10, large, ""] * 2}), tmp_path / "x.parquet", compression="zstd")
    lengths = []
    for batch in read_dataset(str(tmp_path), batch=3):
        lengths += tf.strings.length(batch["t"]).numpy().tolist()
    assert lengths == [1, 10, 100_000_000, 0] * 2


def test_ten_thousand_columns_in_a_matrix(tmp_path: Path) -> None:
    columns = {f"c{number}": np.full(20, number, np.float32) for number in range(10_000)}
    pq.write_table(pa.table(columns), tmp_path / "x.parquet", row_group_size=10)
    dataset = read_dataset(str(tmp_path), batch=8, columns=(), pack={"m": tuple(columns)})
    assert dataset.element_spec == {"m": tf.TensorSpec([None, 10_000], tf.float32)}
    found = np.concatenate([batch["m"] for batch in dataset.as_numpy_iterator()])
    assert (found == np.arange(10_000, dtype=np.float32)).all()
    assert len(found) == 20
