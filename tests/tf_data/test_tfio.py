"""Datasets whose Parquet files tensorflow-io decodes, against those of Arrow: not a bit may differ."""

from __future__ import annotations

import datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from pipelines.dataset import read_dataset
from pipelines.errors import DataError, data_error_in
from pipelines.layout import Request
from pipelines.reader import Reader, ReadPlan
from pipelines.shards import Sharding, Span
from pipelines.sources import Files
from pipelines.tfio_limits import FITS

pytestmark = pytest.mark.timeout(120)

HERE = any(tf.__version__.startswith(minor) for minor in FITS)
needs = pytest.mark.skipif(not HERE, reason="tensorflow-io loads only with TensorFlow 2.16 and 2.17")
ROWS = 1003


@pytest.mark.skipif(HERE, reason="tensorflow-io goes with this TensorFlow")
def test_says_what_is_installed_and_what_to_install(files: Path) -> None:
    with pytest.raises(DataError) as caught:
        read_dataset(str(files), batch=10, engine="tensorflow_io")
    assert caught.value.happened == (
        "engine: tensorflow_io needs tensorflow-io, which loads only with TensorFlow 2.16 and 2.17"
    )
    assert caught.value.seen == f"TensorFlow {tf.__version__}, no tensorflow-io"
    assert caught.value.todo == (
        "pip install 'ray-tfcluster[tensorflow-io]', which brings TensorFlow 2.17; or use engine: arrow"
    )


@needs
def test_says_that_it_is_not_installed(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipelines import tfio

    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)
    tfio.load.cache_clear()
    with pytest.raises(DataError, match="needs tensorflow-io, which is not installed · TensorFlow 2"):
        read_dataset(str(files), batch=10, engine="tensorflow_io")


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every type that it reads, in files of several row groups, one of them empty, in folders that name a column."""
    n = np.arange(ROWS)
    words = [f"Zürich {i}" if i % 7 else "" for i in n]
    table = pa.table(
        {
            "id": n,
            "i8": (n % 200 - 100).astype(np.int8),
            "i16": (n - 500).astype(np.int16),
            "i32": (n * -1000).astype(np.int32),
            "u8": (n % 256).astype(np.uint8),
            "u16": (n + 60_000).astype(np.uint16),
            "u32": (n + 2**31).astype(np.uint32),
            "u64": n.astype(np.uint64) + np.uint64(2**63),
            "f32": (n / 3).astype(np.float32),
            "f64": np.where(n % 5, n / 7, np.nan),
            "flag": n % 3 == 0,
            "text": words,
            "wide": pa.array(words, pa.large_string()),
            "view": pa.array(words, pa.string_view()),
            "data": [bytes([i % 256, 0, 255]) * (i % 3) for i in n],
            "fixed": pa.array([b"%04d" % i for i in n], pa.binary(4)),
            "code": pa.array([f"c{i % 5}" for i in n]).dictionary_encode(),
            "day": pa.array(n.astype(np.int32), pa.date32()),
            "ms": pa.array(n, pa.timestamp("ms")),
            "us": pa.array(n, pa.timestamp("us", "UTC")),
            "ns": pa.array(n, pa.timestamp("ns")),
            "t32": pa.array(n.astype(np.int32), pa.time32("ms")),
            "t64": pa.array(n, pa.time64("us")),
            "took": pa.array(n, pa.duration("s")),
            "place": [{"lat": i / 2, "name": f"p{i}"} for i in n],
            "label": (n % 7).astype(np.float32),
        }
    )
    folder = tmp_path_factory.mktemp("wide")
    for index, (start, stop) in enumerate([(0, 400), (400, 417), (417, ROWS)]):
        (folder / f"part={index}").mkdir()
        with pq.ParquetWriter(folder / f"part={index}" / "a.parquet", table.schema) as writer:
            writer.write_table(table.slice(start, stop - start), row_group_size=97)
            writer.write_table(table.slice(0, 0))
    return folder


def batches(files: Path, engine: Any, **request: Any) -> list[Any]:
    return list(read_dataset(str(files), engine=engine, **request))


def same(ours: Any, theirs: Any) -> None:
    tf.nest.assert_same_structure(ours, theirs)
    for one, other in zip(tf.nest.flatten(ours), tf.nest.flatten(theirs), strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy(), strict=True)


@needs
@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("remainder", ["keep", "drop"])
def test_every_batch_of_every_shard_is_that_of_arrow(wide: Path, shuffle: bool, remainder: Any) -> None:
    for shard in range(3):
        plan: dict[str, Any] = {"batch": 50, "shards": 3, "shard": shard, "shuffle": shuffle, "epoch": 5}
        found, wanted = (
            batches(wide, engine, label="label", remainder=remainder, **plan) for engine in ("tensorflow_io", "arrow")
        )
        assert len(found) == len(wanted) > 5
        for one, other in zip(found, wanted, strict=True):
            same(one, other)


@needs
def test_times_of_several_units_become_numbers_of_one(tmp_path: Path) -> None:
    for name, unit in (("1", "ms"), ("2", "us")):
        pq.write_table(pa.table({"x": pa.array([1, 2], pa.timestamp(unit))}), tmp_path / f"{name}.parquet")
    for engine in ("arrow", "tensorflow_io"):
        (batch,) = batches(tmp_path, engine, batch=4, casts={"x": "int64"})
        assert batch["x"].numpy().tolist() == [1000, 2000, 1, 2]


@needs
def test_goes_on_at_the_next_row(wide: Path) -> None:
    line = (Span(2, 333, 700), Span(2, 801, 1003), Span(3, 0, 1003))
    plan: dict[str, Any] = {"batch": 64, "shards": 2, "shard": 1, "shuffle": True, "line": line, "columns": ("id",)}
    found, wanted = (batches(wide, engine, **plan) for engine in ("tensorflow_io", "arrow"))
    assert sum(len(batch["id"]) for batch in found) == 786
    for one, other in zip(found, wanted, strict=True):
        same(one, other)


REQUESTS: dict[str, dict[str, Any]] = {
    "casts": {"columns": ("id", "text"), "casts": {"id": "float32"}},
    "pack": {"columns": ("id",), "pack": {"dense": ("f32", "label")}},
    "nested": {"columns": ("place",), "nested": True},
    "masks and fill, though there are no nulls": {"columns": ("i8",), "masks": ("i8",), "fill": {"i8": 1}},
    "only what folders tell": {"columns": ("part",)},
    "filters": {"columns": ("id", "part"), "filters": (("id", ">=", 300), ("part", "!=", 1), ("code", "==", "c1"))},
}


@needs
@pytest.mark.parametrize("case", REQUESTS)
def test_requests(wide: Path, case: str) -> None:
    found, wanted = (batches(wide, engine, batch=100, **REQUESTS[case]) for engine in ("tensorflow_io", "arrow"))
    assert found
    for one, other in zip(found, wanted, strict=True):
        same(one, other)


WRITTEN: dict[str, dict[str, Any]] = {
    **{codec: {"compression": codec} for codec in ("none", "snappy", "gzip", "zstd", "brotli", "lz4")},
    "plain": {"use_dictionary": False},
    "pages of version 2": {"data_page_version": "2.0"},
    "small pages": {"data_page_size": 64, "write_batch_size": 8},
    "a dictionary that is given up": {"dictionary_pagesize_limit": 64},
    "deltas": {
        "use_dictionary": False,
        "column_encoding": {"id": "DELTA_BINARY_PACKED", "text": "DELTA_BYTE_ARRAY", "x": "BYTE_STREAM_SPLIT"},
    },
    "checksums": {"write_page_checksum": True},
    "the first version": {"version": "1.0"},
    "without Arrow's schema": {"store_schema": False},
}


@needs
@pytest.mark.parametrize("case", WRITTEN)
def test_files_written_in_other_ways(tmp_path: Path, case: str) -> None:
    n = np.arange(ROWS)
    table = pa.table({"id": n, "x": n / 3, "text": [f"t{i % 90}" for i in n], "small": n.astype(np.int16)})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=400, **WRITTEN[case])
    found, wanted = (batches(tmp_path, engine, batch=100) for engine in ("tensorflow_io", "arrow"))
    for one, other in zip(found, wanted, strict=True):
        same(one, other)


@needs
def test_columns_that_it_could_not_read_do_no_harm_where_they_are_left_out(tmp_path: Path) -> None:
    n = np.arange(ROWS)
    table = pa.table(
        {
            "id": n,
            "nulls": pa.nulls(ROWS, pa.int64()),
            "nothing": pa.nulls(ROWS),
            "lists": [[1]] * ROWS,
            "maps": pa.array([[("a", 1)]] * ROWS, pa.map_(pa.string(), pa.int64())),
            "uuid": pa.array([b"0" * 16] * ROWS, pa.uuid()),
            "json": pa.array(["1"] * ROWS, pa.json_()),
            "old": pa.array(n, pa.timestamp("ns")),
            "when": [datetime.datetime(2020, 1, 1)] * ROWS,
        }
    )
    pq.write_table(table, tmp_path / "a.parquet", use_deprecated_int96_timestamps=True)
    ids = [batch["id"].numpy() for batch in batches(tmp_path, "tensorflow_io", batch=100, columns=("id",))]
    assert np.concatenate(ids).tolist() == n.tolist()


@needs
def test_a_file_that_is_written_anew_in_between_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"id": np.arange(ROWS)}), path, row_group_size=100)
    plan = ReadPlan(Files((str(path),), engine="tensorflow_io"), Request(), Sharding(1, 100))
    reader = Reader(plan)
    *_, last = reader.begin()
    pq.write_table(pa.table({"id": np.arange(ROWS) * 2}), path, row_group_size=100, compression="none")
    with pytest.raises(DataError, match="a data file has changed while it was in use"):
        reader.read(last)
    fresh = np.concatenate([batch["id"].numpy() for batch in batches(path, "tensorflow_io", batch=100)])
    assert fresh.tolist() == [*range(0, 2 * ROWS, 2)]


@needs
def test_a_file_that_vanishes_is_an_error_in_the_graph(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"id": np.arange(ROWS)}), path)
    dataset = read_dataset(str(path), batch=10, engine="tensorflow_io")
    path.unlink()
    with pytest.raises(tf.errors.OpError) as caught:
        list(dataset)
    error = data_error_in(caught.value)
    assert error is not None
    assert str(path) in error.seen
