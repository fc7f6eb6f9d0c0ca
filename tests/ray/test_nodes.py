"""Two Ray nodes with addresses of their own: the job's folder travels, and a lost node is survived."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from tests.ray.conftest import alive

pytestmark = pytest.mark.timeout(300)


def test_workers_on_two_nodes_and_one_node_is_lost(start, second_node):
    job = start(
        entrypoint="train.py:fit",
        args={"epochs": 0},
        strategy="multi_worker_mirrored",
        roles={"worker": 2},
        placement="spread",
        failure={"max_restarts": 2, "backoff": "100ms"},
    )
    placed = job.wait_for("placed").data["nodes"]
    first = next(host for host in placed.values() if host != "127.0.0.2")
    assert set(placed.values()) == {first, "127.0.0.2"}
    saved = job.wait_for("checkpoint").data["step"]
    victim = next(task for task, host in placed.items() if host == "127.0.0.2")
    pid = job.pid(victim)
    os.kill(second_node.raylet(), signal.SIGKILL)
    result = job.join()
    assert result.attempts >= 2
    assert not alive(pid)
    # Either its own loss is seen first, or the broken connection of the worker that is left.
    assert any(e.kind == "lost" or e.data.get("peer") for e in job.events if e.attempt == 1)
    assert set([e for e in job.events if e.kind == "placed"][-1].data["nodes"].values()) == {first}
    assert result.value["iterations"] >= saved
    assert json.loads(Path(result.run_dir, "result.json").read_text())["status"] == "succeeded"
