"""TFRecord files and Examples against TensorFlow's own writer, reader and parser."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.errors import DataError
from pipelines.example_writer import example_of, examples_of, sequence_example_of
from pipelines.examples import check, infer, mismatch_in, parse, refused
from pipelines.features import STORED_AS, Feature, Features, unfitting
from pipelines.layout import Request
from pipelines.records import records_of
from pipelines.tfrecord import TFRecordSource
from pipelines.tfrecord_writer import write_records
from pipelines.wire import read_record

pytestmark = pytest.mark.timeout(120)

COMPRESSIONS = (None, "GZIP", "ZLIB")
ROWS = 500


def feature(value: Any) -> tf.train.Feature:
    """As the guides of TensorFlow write it."""
    if isinstance(value[0], bytes):
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=value))
    if isinstance(value[0], float):
        return tf.train.Feature(float_list=tf.train.FloatList(value=value))
    return tf.train.Feature(int64_list=tf.train.Int64List(value=value))


def features(row: dict[str, Any]) -> tf.train.Features:
    return tf.train.Features(feature={name: feature(value) for name, value in row.items()})


def example(row: dict[str, Any]) -> bytes:
    serialised: bytes = tf.train.Example(features=features(row)).SerializeToString()
    return serialised


def sequence_example(context: dict[str, Any], steps: dict[str, list[Any]]) -> bytes:
    lists = {name: tf.train.FeatureList(feature=[feature(step) for step in some]) for name, some in steps.items()}
    serialised: bytes = tf.train.SequenceExample(
        context=features(context), feature_lists=tf.train.FeatureLists(feature_list=lists)
    ).SerializeToString()
    return serialised


def row(number: int) -> dict[str, Any]:
    """Every kind of feature; `seldom` is missing in most rows."""
    made = {
        "id": [number],
        "vector": [number * 0.5, -1.0, 1e30],
        "text": [f"Zürich {number}".encode()],
        "tags": [b"t%d" % tag for tag in range(1 + number % 4)],
        "numbers": [(-1) ** number * 2 ** (number % 62)] * (1 + number % 3),
    }
    return made | ({"seldom": [number / 4]} if number % 3 == 0 else {})


@pytest.fixture(scope="module")
def records() -> list[bytes]:
    return [example(row(number)) for number in range(ROWS)]


@pytest.fixture(scope="module")
def sequences() -> list[bytes]:
    return [
        sequence_example(
            {"id": [number], "score": [number / 2]},
            {
                "token": [[step] for step in range(number % 5)],
                "frame": [[step * 0.5, -1.0] for step in range(number % 3)],
                "words": [[b"w"] * (1 + step) for step in range(1 + number % 2)],
            },
        )
        for number in range(ROWS)
    ]


def write_with_tensorflow(path: Path, records: Iterable[bytes], compression: str | None) -> None:
    with tf.io.TFRecordWriter(str(path), compression or "") as writer:
        for record in records:
            writer.write(record)


def ours_of(path: Path) -> list[bytes]:
    source = TFRecordSource(pafs.LocalFileSystem(), [str(path)])
    return [record for unit in source.units for record in source.read(unit)["record"].to_pylist()]


def same(ours: Any, theirs: Any) -> None:
    """Equal dtype, values and, if ragged, partitions."""
    if isinstance(theirs, tf.RaggedTensor):
        assert ours.dtype == theirs.dtype
        assert ours.to_list() == theirs.to_list()
        assert [splits.dtype for splits in ours.nested_row_splits] == [tf.int64] * len(ours.nested_row_splits)
    else:
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy(), strict=True)


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_reads_what_tensorflow_wrote(tmp_path: Path, records: list[bytes], compression: str | None) -> None:
    path = tmp_path / "data"
    write_with_tensorflow(path, [*records, b"", bytes(9 << 20), b"last"], compression)
    theirs = tf.data.TFRecordDataset(str(path), compression or "")
    assert ours_of(path) == list(theirs.as_numpy_iterator())


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_tensorflow_reads_what_we_wrote(tmp_path: Path, records: list[bytes], compression: str | None) -> None:
    some = [*records, b"", bytes(9 << 20), b"last"]
    write_records(str(tmp_path / "data"), some, compression)
    theirs = tf.data.TFRecordDataset(str(tmp_path / "data"), compression or "")
    assert list(theirs.as_numpy_iterator()) == some


def test_same_plain_file_as_tensorflow(tmp_path: Path, records: list[bytes]) -> None:
    write_with_tensorflow(tmp_path / "theirs", records, None)
    write_records(str(tmp_path / "ours"), records)
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()


def test_tensorflow_finds_the_same_damage(tmp_path: Path, records: list[bytes]) -> None:
    path = tmp_path / "data"
    write_records(str(path), records)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 8
    path.write_bytes(data)
    with pytest.raises(tf.errors.DataLossError) as theirs:
        list(tf.data.TFRecordDataset(str(path)))
    with pytest.raises(DataError) as ours:
        ours_of(path)
    offset = ours.value.seen.rsplit(" ", 1)[1]
    assert f"at {offset}" in str(theirs.value)


def test_examples_parsed_like_by_hand(tmp_path: Path, records: list[bytes]) -> None:
    write_with_tensorflow(tmp_path / "data", records, None)
    inferred = infer(records[:50])
    assert inferred == Features.from_dict(
        {
            "id": "int64",
            "numbers": "ragged int64",
            "seldom": "ragged float32",
            "tags": "ragged string",
            "text": "string",
            "vector": {"dtype": "float32", "shape": [3]},
        }
    )
    by_hand = {
        "id": tf.io.FixedLenFeature([], tf.int64),
        "numbers": tf.io.RaggedFeature(tf.int64, row_splits_dtype=tf.int64),
        "seldom": tf.io.RaggedFeature(tf.float32, row_splits_dtype=tf.int64),
        "tags": tf.io.RaggedFeature(tf.string, row_splits_dtype=tf.int64),
        "text": tf.io.FixedLenFeature([], tf.string),
        "vector": tf.io.FixedLenFeature([3], tf.float32),
    }
    theirs = (
        tf.data.TFRecordDataset(str(tmp_path / "data")).batch(64).map(lambda batch: tf.io.parse_example(batch, by_hand))
    )
    read = ours_of(tmp_path / "data")
    ours = tf.data.Dataset.from_tensor_slices(read).batch(64).map(lambda batch: parse(inferred, batch))
    assert ours.element_spec == theirs.element_spec
    for our_batch, their_batch in zip(ours, theirs, strict=True):
        assert list(our_batch) == list(inferred.names)
        for name in by_hand:
            same(our_batch[name], their_batch[name])
    check(inferred, read)


def test_sequence_examples_parsed_like_by_hand(sequences: list[bytes]) -> None:
    inferred = infer(sequences[:50])
    assert inferred == Features.from_dict(
        {
            "context": {"id": "int64", "score": "float32"},
            "sequence": {"frame": {"dtype": "float32", "shape": [2]}, "token": "int64", "words": "ragged string"},
        }
    )
    check(inferred, sequences)
    ours = parse(inferred, tf.constant(sequences))
    context, steps, lengths = tf.io.parse_sequence_example(
        tf.constant(sequences),
        {"id": tf.io.FixedLenFeature([], tf.int64), "score": tf.io.FixedLenFeature([], tf.float32)},
        {
            "frame": tf.io.FixedLenSequenceFeature([2], tf.float32),
            "token": tf.io.FixedLenSequenceFeature([], tf.int64),
            "words": tf.io.RaggedFeature(tf.string, row_splits_dtype=tf.int64),
        },
    )
    same(ours["id"], context["id"])
    same(ours["score"], context["score"])
    same(ours["token"], tf.RaggedTensor.from_tensor(steps["token"], lengths["token"]))
    same(ours["frame"], tf.RaggedTensor.from_tensor(steps["frame"], lengths["frame"]))
    same(ours["words"], steps["words"])
    assert ours["frame"].shape == (ROWS, None, 2)
    graph = next(iter(tf.data.Dataset.from_tensors(sequences).map(lambda batch: parse(inferred, batch))))
    for name in inferred.names:
        same(graph[name], ours[name])


def test_casts_defaults_and_shapes() -> None:
    described = Features.from_dict(
        {
            "flag": "bool",
            "small": {"dtype": "int8", "default": -1},
            "half": {"dtype": "bfloat16", "shape": [2, 2]},
            "name": {"dtype": "string", "default": "none"},
            "list": {"dtype": "float64", "shape": [2], "default": 1},
            "ids": "ragged int32",
        }
    )
    full = {"flag": 1, "small": 5, "half": [1.0, 2.0, 3.0, 4.0], "name": "x", "list": [0.5, 1.5], "ids": [1, 2]}
    parsed = parse(described, tf.constant([example_of(full), example_of({"flag": 0, "half": [0.0] * 4})]))
    assert {name: tensor.dtype.name for name, tensor in parsed.items()} == {
        "flag": "bool",
        "small": "int8",
        "half": "bfloat16",
        "name": "string",
        "list": "float64",
        "ids": "int32",
    }
    assert parsed["half"].shape == (2, 2, 2)
    assert parsed["flag"].numpy().tolist() == [True, False]
    assert parsed["small"].numpy().tolist() == [5, -1]
    assert parsed["name"].numpy().tolist() == [b"x", b"none"]
    assert parsed["list"].numpy().tolist() == [[0.5, 1.5], [1, 1]]
    assert parsed["ids"].to_list() == [[1, 2], []]


CASTS = ("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32")
EDGES = [0, 1, -1, 2, 127, 128, 255, 256, 2047, 2049, 65504, 65520, 2**24 + 1, 2**31 - 1, 2**31, 2**53 + 1, -(2**63)]
FLOATS = [*map(float, EDGES), 0.5, 65519.0, 3.39e38, 3.4e38, float("inf"), float("-inf"), float("nan")]


@pytest.mark.parametrize("last", [*CASTS, "float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("first", [*CASTS, "float16", "bfloat16", "float32", "float64"])
def test_both_refuse_the_same_values(first: str, last: str) -> None:
    """TensorFlow's graph, and Python's search for the record that it refused."""
    described = Features({"x": replace(Feature(first), cast=last)})
    stored = STORED_AS[first]
    for value in EDGES if stored == "int64" else FLOATS:
        record = example_of({"x": [value]})
        wrong = unfitting(np.array([value], stored), described.context["x"].casts)
        assert refused(described, [record]) == (wrong is not None), (value, wrong)


def test_a_cast_keeps_what_it_lets_through() -> None:
    features = {"n": replace(Feature("int64", ragged=True), cast="int8"), "x": Feature("float16", (2,), cast="bool")}
    parsed = parse(Features(features), tf.constant([example_of({"n": [1, -128], "x": [0.0, 1.0]})]))
    assert parsed["n"].dtype == tf.int8
    assert parsed["n"].to_list() == [[1, -128]]
    assert parsed["x"].numpy().tolist() == [[False, True]]
    assert parse(Features(features), tf.constant([], tf.string))["n"].shape == (0, None)


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("seldom", "id"), "seldom is float32, id is int64"),
        (("vector", "vector"), "vector is float32\\[3\\]"),
        (("tags", "tags"), "tags is ragged string"),
    ],
)
def test_only_what_makes_a_matrix_is_packed(
    tmp_path: Path, records: list[bytes], names: tuple[str, ...], said: str
) -> None:
    write_records(str(tmp_path / "x.tfrecord"), records)
    source = TFRecordSource(pafs.LocalFileSystem(), [str(tmp_path / "x.tfrecord")])
    with pytest.raises(DataError, match=f"pack m needs .* · {said}"):
        records_of(source, source.units, Request(pack={"m": names}, fill={"seldom": 0}), None)
    cast = records_of(
        source, source.units, Request(pack={"m": ("seldom", "id")}, fill={"seldom": 0}, casts={"id": "float32"}), None
    )
    assert cast.tensors(tf.constant(records[:7]))["m"].shape == (7, 2)


def test_empty_batch(records: list[bytes]) -> None:
    assert parse(infer(records), tf.constant([], tf.string))["vector"].shape == (0, 3)


@pytest.mark.parametrize(
    ("described", "words"),
    [
        ({"id": "float32"}, "feature id holds int64, not float32"),
        ({"vector": {"dtype": "float32", "shape": [2]}}, "feature vector has 3 values, not 2"),
        ({"seldom": "float32"}, "feature seldom is missing"),
        ({"other": "int64"}, "feature other is missing"),
        ({"tags": "ragged int64"}, "feature tags holds string, not int64"),
    ],
)
def test_mismatch(records: list[bytes], described: Any, words: str) -> None:
    """Eagerly it is found out what is wrong with which record; in a graph TensorFlow's words name the feature."""
    wrong = Features.from_dict(described)
    with pytest.raises(DataError) as caught:
        parse(wrong, tf.constant(records[:8]))
    assert words in caught.value.happened
    record = int(caught.value.seen.removeprefix("the batch, record "))
    with pytest.raises(DataError):
        check(wrong, records[record : record + 1])
    names = tf.constant([f"part-1, record {number}" for number in range(8)])
    dataset = tf.data.Dataset.from_tensors(records[:8])
    for given_names, seen in [(None, "feature "), (names, f"part-1, record {record}, feature ")]:
        with pytest.raises(tf.errors.InvalidArgumentError) as theirs:
            list(dataset.map(lambda batch, some=given_names: parse(wrong, batch, some)))
        found = mismatch_in(theirs.value)
        assert found is not None
        assert found.seen.startswith(seen + next(iter(described)) + ":")


@pytest.mark.parametrize(
    ("described", "words"),
    [
        ({"context": {"id": "float32"}, "sequence": {"token": "int64"}}, "feature id holds int64"),
        ({"context": {"other": "int64"}, "sequence": {"token": "int64"}}, "feature other is missing"),
        ({"sequence": {"token": "float32"}}, "feature token, step 0, holds int64"),
        ({"sequence": {"frame": "float32"}}, "feature frame, step 0, has 2 values"),
        ({"sequence": {"words": "string"}}, "feature words, step 1, has 2 values"),
    ],
)
def test_sequence_mismatch(sequences: list[bytes], described: Any, words: str) -> None:
    wrong = Features.from_dict(described)
    with pytest.raises(DataError) as caught:
        parse(wrong, tf.constant(sequences[:8]))
    assert words in caught.value.happened
    with pytest.raises(tf.errors.InvalidArgumentError) as theirs:
        list(tf.data.Dataset.from_tensors(sequences[:8]).map(lambda batch: parse(wrong, batch)))
    found = mismatch_in(theirs.value)
    assert found is not None
    assert f"feature {words.split()[1].rstrip(',')}:" in found.seen


def test_not_an_example(records: list[bytes]) -> None:
    inferred, bad = infer(records), [records[0], b"plain text"]
    with pytest.raises(DataError, match=r"no tf.train.Example.*the batch, record 1"):
        parse(inferred, tf.constant(bad))
    with pytest.raises(tf.errors.InvalidArgumentError) as theirs:
        list(tf.data.Dataset.from_tensors(bad).map(lambda batch: parse(inferred, batch)))
    assert "'plain text'" in str(mismatch_in(theirs.value))


def test_tables_become_what_tensorflow_writes() -> None:
    rows = [row(number) for number in range(ROWS)]
    schema = pa.schema(
        {
            "id": pa.list_(pa.int64()),
            "vector": pa.list_(pa.float32(), 3),
            "text": pa.list_(pa.string()),
            "tags": pa.large_list(pa.binary()),
            "numbers": pa.list_(pa.int64()),
            "seldom": pa.list_(pa.float64()),
        }
    )
    table = pa.Table.from_pylist(rows, schema)
    for ours, made in zip(examples_of(table).to_pylist(), rows, strict=True):
        theirs = tf.train.Example.FromString(ours)
        assert theirs == tf.train.Example(features=features(made))
        assert ours == example_of(made)


int64s = st.integers(-(2**63), 2**63 - 1)
floats = st.floats(width=32, allow_nan=False)
values = st.one_of(*(st.lists(kind, min_size=1, max_size=20) for kind in (int64s, floats, st.binary(max_size=9))))
names = st.text(st.characters(exclude_categories=["Cs"]), max_size=4)
rows_of_any_kind = st.dictionaries(names, values, max_size=4)


@settings(max_examples=200)
@given(rows_of_any_kind, st.dictionaries(names, st.lists(values, max_size=3), min_size=1, max_size=3))
def test_same_bytes_mean_the_same(made: dict[str, Any], steps: dict[str, Any]) -> None:
    """What each side writes, the other reads."""
    assert tf.train.Example.FromString(example_of(made)) == tf.train.Example(features=features(made))
    read = read_record(example(made)) if made else None
    assert {name: list(one.values) for name, one in (read.context if read else {}).items()} == made
    ours = tf.train.SequenceExample.FromString(sequence_example_of(made, steps))
    assert ours == tf.train.SequenceExample.FromString(sequence_example(made, steps))
    context, sequence = read_record(sequence_example(made, steps))
    assert {name: list(one.values) for name, one in context.items()} == made
    assert {name: [list(one.values) for one in some] for name, some in (sequence or {}).items()} == steps
