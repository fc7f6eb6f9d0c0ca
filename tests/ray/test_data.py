"""The spec's datasets inside real jobs: each row on one worker, and on parameter servers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.errors import UserCodeError

pytestmark = pytest.mark.timeout(240)


@pytest.fixture
def parquet(tmp_path) -> Path:
    """1,001 rows in three files of unequal row groups."""
    folder = Path(tmp_path, "data")
    folder.mkdir()
    ids = np.arange(1001)
    for number, part in enumerate(np.split(ids, [100, 700])):
        table = pa.table({"id": part, "x": part.astype(np.float32) / 1001, "y": part.astype(np.float32)})
        pq.write_table(table, folder / f"part-{number}.parquet", row_group_size=90)
    return folder


@pytest.mark.parametrize("shuffle", [False, True])
def test_each_row_is_on_exactly_one_worker_and_all_have_as_many_batches(start, parquet, shuffle):
    job = start(
        entrypoint="train.py:rows_seen",
        strategy="multi_worker_mirrored",
        roles={"worker": 3},
        success="all_workers",
        data={"train": {"files": str(parquet), "batch": 96, "shuffle": shuffle}},
    )
    job.join()
    values = [e.data["value"] for e in job.events if e.kind == "finished"]
    assert sorted(value["shard"] for value in values) == [0, 1, 2]
    assert len({len(value["batches"]) for value in values}) == 1
    assert max(len(batch) for value in values for batch in value["batches"]) <= 32
    assert sorted(i for value in values for batch in value["batches"] for i in batch) == list(range(1001))


def test_tf_keras_fits_on_parameter_servers_with_partitioned_variables(start, parquet):
    job = start(
        entrypoint="train.py:fit_on_servers",
        strategy="parameter_server",
        roles={"worker": 2, "ps": 2},
        partition={"shards": 2},
        data={"train": {"files": str(parquet), "batch": 32, "label": "y"}},
    )
    result = job.join()
    assert job.plan_seen.keras.major == "2"
    assert result.value["iterations"] == 16
    assert "Sharded" in result.value["kernel"]
    assert result.checkpoint == 16


def test_keras_3_fit_on_parameter_servers_says_what_to_use(start, parquet):
    job = start(
        entrypoint="train.py:fit_on_servers",
        strategy="parameter_server",
        roles={"worker": 1, "ps": 1},
        keras="3",
        data={"train": {"files": str(parquet), "batch": 32, "label": "y"}},
    )
    error = job.failure()
    assert isinstance(error, UserCodeError)
    assert "keras: 2" in str(error)
    assert "ctx.coordinator" in str(error)
    assert "Traceback" not in str(error)


def test_a_batch_that_the_workers_cannot_share_is_refused(start, parquet):
    job = start(
        entrypoint="train.py:rows_seen",
        strategy="multi_worker_mirrored",
        roles={"worker": 3},
        data={"train": {"files": str(parquet), "batch": 100}},
    )
    assert job.failure().exit_code == 3
    assert job.events == []
