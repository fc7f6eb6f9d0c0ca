"""Data, run directory and checkpoints on Hadoop's file system, where whoever runs the tests names a folder of it."""

from __future__ import annotations

import json
import os
import uuid
from collections import Counter
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.storage import read_text
from pipelines.convert import Request, convert
from pipelines.file_systems import open_file_system
from pipelines.open_input import open_input
from pipelines.outputs import Target
from pipelines.ray_tasks import run
from tests.ray.test_data import diary, survivors
from tests.ray.test_data_commands import tfcluster

PLACE = os.environ.get("TFCLUSTER_TEST_HDFS")
pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(not PLACE, reason="TFCLUSTER_TEST_HDFS names no folder, such as hdfs://namenode:8020/tmp/test"),
]


@pytest.fixture
def folder() -> Iterator[str]:
    """A folder of this test's own."""
    uri = f"{PLACE}/{uuid.uuid4().hex[:8]}"
    filesystem, path = open_file_system(uri)
    filesystem.create_dir(path)
    yield uri
    filesystem.delete_dir(path)


def test_a_killed_job_goes_on_at_the_next_row_from_its_checkpoint_there(start, ray_address, folder, tmp_path):
    ids = np.arange(1001)
    table = pa.table({"id": ids, "x": ids.astype(np.float32) / 1001, "y": ids.astype(np.float32)})
    pq.write_table(table, tmp_path / "in.parquet", row_group_size=90)
    done = convert(Request((str(tmp_path / "in.parquet"),), f"{folder}/data", Target("parquet"), shard_bytes=4000), run)
    assert sum(open_input(f"{folder}/data").lengths) == done.rows == 1001
    assert done.files > 1

    diaries = tmp_path / "diary"
    diaries.mkdir()
    data = {"files": f"{folder}/data", "batch": 64, "label": "y"}
    result = start(
        entrypoint="resume.py:fit",
        args={"folder": str(diaries)},
        strategy="multi_worker_mirrored",
        roles={"worker": 2},
        storage=f"{folder}/runs",
        checkpoint={"every": 3},
        failure={"max_restarts": 2, "backoff": "10ms"},
        data={"train": {**data, "shuffle": True}, "valid": {**data, "batch": 128}},
    ).join()
    assert result.attempts == 3
    trained = survivors(diary(diaries))
    for epoch in range(3):
        assert Counter(row for _, number, _, ids in trained if number == epoch for row in ids) == Counter(range(1001))

    told = tfcluster("inspect", f"{folder}/data", "--json").stdout
    assert json.loads(told[told.index("{") :])["rows"] == 1001  # Java may write to stdout before it, as its log4j says
    assert json.loads(read_text(result.run_dir, "result.json") or "")["status"] == "succeeded"
