"""Readers of other makes inside real jobs, and the name of a record that does not match its features."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
import pytest

from cluster.errors import UserCodeError
from pipelines.example_writer import example_of
from pipelines.tfio_limits import FITS
from pipelines.tfrecord_writer import write_records

pytestmark = pytest.mark.timeout(240)

HERE = metadata.version("tensorflow").startswith(FITS)
needs_tensorflow_io = pytest.mark.skipif(not HERE, reason="tensorflow-io loads only with TensorFlow 2.16 and 2.17")


@pytest.fixture
def parquet(tmp_path: Path) -> Path:
    """1,001 rows in two files of several row groups."""
    folder = tmp_path / "data"
    folder.mkdir()
    for number, part in enumerate(np.split(np.arange(1001), [300])):
        table = pa.table({"id": part, "x": part.astype(np.float32) / 1001, "y": part.astype(np.float32)})
        pq.write_table(table, folder / f"part-{number}.parquet", row_group_size=90)
    return folder


def test_rows_of_an_object_store_are_those_of_this_machine(start, parquet, s3):
    base, _, query = s3.partition("?")
    filesystem, path = pafs.FileSystem.from_uri(f"{base}/data?{query}")
    filesystem.create_dir(path, recursive=True)
    pafs.copy_files(str(parquet), path, pafs.LocalFileSystem(), filesystem)

    def batches(files):
        job = start(
            entrypoint="train.py:rows_seen",
            strategy="multi_worker_mirrored",
            roles={"worker": 2},
            success="all_workers",
            data={"train": {"files": files, "batch": 96, "shuffle": True}},
        )
        job.join()
        return [e.data["value"]["batches"] for e in job.events if e.kind == "finished"]

    found = batches(f"{base}/data/?{query}")
    assert sorted(i for of_task in found for batch in of_task for i in batch) == list(range(1001))
    assert sorted(found) == sorted(batches(str(parquet)))


@needs_tensorflow_io
def test_tensorflow_io_decodes_on_workers(start, parquet):
    job = start(
        entrypoint="train.py:rows_seen",
        strategy="multi_worker_mirrored",
        roles={"worker": 2},
        success="all_workers",
        data={"train": {"files": str(parquet), "batch": 96, "shuffle": True, "engine": "tensorflow_io"}},
    )
    job.join()
    values = [e.data["value"] for e in job.events if e.kind == "finished"]
    assert sorted(i for value in values for batch in value["batches"] for i in batch) == list(range(1001))


@needs_tensorflow_io
def test_tensorflow_io_decodes_on_parameter_server_workers(start, parquet):
    job = start(
        entrypoint="train.py:fit_on_servers",
        strategy="parameter_server",
        roles={"worker": 2, "ps": 1},
        data={"train": {"files": str(parquet), "batch": 32, "label": "y", "engine": "tensorflow_io"}},
    )
    assert job.join().value["iterations"] == 16


@pytest.mark.skipif(HERE, reason="tensorflow-io goes with this TensorFlow")
def test_an_engine_that_is_not_there_is_said_in_the_plan_and_by_the_task(start, parquet):
    job = start(
        entrypoint="train.py:rows_seen",
        data={"train": {"files": str(parquet), "batch": 96, "engine": "tensorflow_io"}},
        failure={"max_restarts": 0},
    )
    failure = job.failure()
    sentence = "engine: tensorflow_io needs tensorflow-io, which loads only with TensorFlow 2.16 and 2.17"
    assert isinstance(failure, UserCodeError)
    assert sentence in str(failure)
    assert job.plan_seen is not None
    assert any(f"data.train.{sentence}" in str(finding) for finding in job.plan_seen.findings)


@needs_tensorflow_io
def test_with_tensorflow_io_tensorflows_own_readers_open_s3(start, s3_server):
    filesystem = pafs.S3FileSystem(
        access_key="key",
        secret_key="hush-hush",
        endpoint_override=s3_server,
        scheme="http",
        region="us-east-1",
        allow_bucket_creation=True,
    )
    filesystem.create_dir("job-bucket")
    write_records("job-bucket/folder/a.tfrecord", [b"one", b"two"], filesystem=filesystem)
    env = {
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "hush-hush",
        "AWS_REGION": "us-east-1",
        "S3_ENDPOINT": f"http://{s3_server}",
    }
    job = start(
        entrypoint="readers.py:own_readers",
        args={"path": "s3://job-bucket/folder/a.tfrecord"},
        roles={"worker": {"replicas": 1, "env": env}},
        tensorflow_io=True,
    )
    assert job.join().value == ["one", "two"]
    assert filesystem.get_file_info("job-bucket/folder/a.tfrecord.copy").is_file


@pytest.mark.parametrize(
    ("strategy", "entrypoint"), [("multi_worker_mirrored", "fit"), ("parameter_server", "loop_on_servers")]
)
def test_a_record_that_does_not_match_is_named(start, tmp_path, strategy, entrypoint):
    folder = tmp_path / "records"
    folder.mkdir()
    for number in range(2):
        records = [example_of({"x": [float(i)], "y": [1.0]}) for i in range(300)]
        if number == 1:
            records[123] = example_of({"x": [b"word"], "y": [1.0]})
        write_records(str(folder / f"part-{number}.tfrecord"), records)
    roles = {"worker": 2, "ps": 1} if strategy == "parameter_server" else {"worker": 2}
    features = {"x": "float32", "y": "float32"}
    data = {"files": str(folder), "batch": 32, "label": "y", "features": features, "shuffle": True}
    job = start(entrypoint=f"readers.py:{entrypoint}", strategy=strategy, roles=roles, data={"train": data})
    failure = job.failure()
    assert isinstance(failure, UserCodeError)
    assert "feature x holds string, not float32" in str(failure)
    assert f"{folder}/part-1.tfrecord, record 123" in str(failure)
