"""Nodes that are about to be lost: the job saves, leaves, and goes on elsewhere; no step is made twice, no row lost."""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.checkpoints import positions
from tests.ray.conftest import Job, OtherNode, other_node

pytestmark = pytest.mark.timeout(300)

ROWS, STEPS = 1001, 63  # a step takes 16 rows of each epoch


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With the data, a place for what the tasks write down, and the pipe at which they wait."""
    (tmp_path / "data").mkdir()
    ids = np.arange(ROWS)
    columns = {"id": ids, "x": ids.astype(np.float32) / ROWS, "y": ids.astype(np.float32)}
    pq.write_table(pa.table(columns), tmp_path / "data" / "part.parquet", row_group_size=90)
    os.mkfifo(tmp_path / "go")
    return tmp_path


def sigterm(node: OtherNode) -> None:
    """What Kubernetes does to a Pod that is evicted, preempted, drained or scaled down."""
    node.process.send_signal(signal.SIGTERM)


def ray_drains(node: OtherNode) -> None:
    """What Ray's autoscaler does, and `ray drain-node`."""
    from ray._private.worker import global_worker
    from ray.core.generated.autoscaler_pb2 import DrainNodeReason

    reason = DrainNodeReason.DRAIN_NODE_REASON_PREEMPTION
    assert global_worker.gcs_client.drain_node(node.id(), reason, "for a test", 0)[0]


def drained_at_its_stop(job: Job, folder: Path, node: OtherNode, drain=sigterm) -> None:
    """Have `node` drained while a step of the job waits, and let it go on."""
    job.wait_for("notice", lambda e: e.data.get("text") == "stopped")
    drain(node)
    told = job.wait_for("node_draining").data
    assert told["node"] == node.host
    assert (told["seconds"] is None) == (drain is ray_drains)
    (folder / "go").write_text("")


def lines(folder: Path, attempt: int) -> Iterator[list]:
    """What the tasks of an attempt wrote down: what, epoch, step, ids."""
    for path in folder.glob(f"{attempt}-*.jsonl"):
        yield from map(json.loads, path.read_text().splitlines())


def check_moved(job: Job, folder: Path) -> int:
    """Nothing failed, and two attempts made each step once, on each row of each epoch; where the second one began."""
    assert not {"lost", "failed", "hang"} & set(job.kinds())
    kinds = [kind for kind in job.kinds() if kind in ("node_draining", "checkpoint", "restarting")]
    assert kinds[kinds.index("node_draining") :][:3] == ["node_draining", "checkpoint", "restarting"]
    saved = [e.data["step"] for e in job.events if e.kind == "checkpoint" and e.attempt == 1][-1]
    starts = {step for what, _, step, _ in lines(folder, 2) if what == "start"}
    assert starts == {saved}
    trained = [line for attempt in (1, 2) for line in lines(folder, attempt) if line[0] == "train"]
    assert max(step for what, _, step, _ in lines(folder, 1) if what == "train") == saved - 1
    assert Counter(step for _, _, step, _ in trained) == Counter(dict.fromkeys(range(3 * STEPS), 2))  # by two workers
    for epoch in range(3):
        here = [ids for _, _, step, ids in trained if epoch * STEPS <= step < (epoch + 1) * STEPS]
        assert Counter(row for ids in here for row in ids) == Counter(range(ROWS)), f"epoch {epoch}"
    return int(saved)


@pytest.mark.parametrize(("keras", "drain"), [("3", sigterm), ("2", ray_drains)])
def test_a_fit_saves_and_moves_before_its_node_is_lost(start, second_node, folder, keras, drain):
    job = start(
        entrypoint="moved.py:fit",
        args={"folder": str(folder)},
        strategy="multi_worker_mirrored",
        roles={"worker": 2},
        keras=keras,
        placement="spread",
        failure={"max_restarts": 0},  # a move is not counted
        data={"train": {"files": str(folder / "data"), "batch": 16, "label": "y", "shuffle": True}},
    )
    drained_at_its_stop(job, folder, second_node, drain)
    result = job.join()
    assert (result.attempts, result.value["iterations"]) == (2, 3 * STEPS)
    saved = check_moved(job, folder)
    assert STEPS < saved < 2 * STEPS  # within an epoch, of which the next periodic checkpoint is the end
    before, after = [set(e.data["nodes"].values()) for e in job.events if e.kind == "placed"]
    assert after == before - {second_node.host}
    assert not [*Path(result.run_dir, "failures").glob("*")]  # a move leaves no post-mortem


def test_a_loop_waits_for_another_node_where_there_is_no_room(start, second_node, folder, ray_address):
    job = start(
        entrypoint="moved.py:loop",
        args={"folder": str(folder)},
        strategy="multi_worker_mirrored",
        roles={"worker": {"replicas": 2, "resources": {"second": 2}}},
        failure={"max_restarts": 0},
        data={"train": {"files": str(folder / "data"), "batch": 16, "label": "y", "shuffle": True}},
    )
    drained_at_its_stop(job, folder, second_node)
    waiting = job.wait_for("notice", lambda e: "waiting for resources" in e.data.get("text", ""))
    assert waiting.attempt == 2
    with other_node(ray_address, "127.0.0.3", "second"):
        assert job.join().value == {"iterations": 3 * STEPS}
    check_moved(job, folder)
    assert set([e for e in job.events if e.kind == "placed"][-1].data["nodes"].values()) == {"127.0.0.3"}


def test_parameter_servers_move_too_and_lose_no_row(start, second_node, folder):
    job = start(
        entrypoint="servers.py:fit",
        args={"folder": str(folder), "steps": 200},
        strategy="parameter_server",
        roles={"worker": 2, "ps": 1},
        placement="spread",
        failure={"max_restarts": 0},
        data={"train": {"files": str(folder / "data"), "batch": 32, "label": "y"}},
    )
    drained_at_its_stop(job, folder, second_node)
    result = job.join()
    assert (result.attempts, result.value["steps"]) == (2, 600)
    saved = [e.data["step"] for e in job.events if e.kind == "checkpoint" and e.attempt == 1]
    assert saved[0] == 200
    assert 217 <= saved[-1] < 400  # it waits after 217 steps; the next periodic checkpoint is after 400
    assert second_node.host not in [e for e in job.events if e.kind == "placed"][-1].data["nodes"].values()
    position = positions(Path(result.run_dir, "checkpoints"))[-1].data["train"]
    waiting = Counter(row for _, start, stop in position["line"] for row in range(start, stop))
    epochs = Counter(dict.fromkeys(range(ROWS), position["epoch"]))
    assert Counter(dict(enumerate(result.value["seen"]))) + waiting == epochs


def test_a_job_that_cannot_save_goes_on_until_its_node_is_lost(start, ray_address):
    with other_node(ray_address, "127.0.0.2", "second", notice=3) as node:
        job = start(
            entrypoint="moved.py:waits",
            strategy="custom",
            roles={"worker": 2},
            placement="spread",
            failure={"max_restarts": 1, "backoff": "10ms"},
        )
        job.wait_for("step")
        assert node.host in next(e for e in job.events if e.kind == "placed").data["nodes"].values()
        sigterm(node)
        job.wait_for("node_draining")
        lost = job.wait_for("lost")
        assert lost.data["node_alive"] is False
        assert job.join().attempts == 2
        (again,) = [e for e in job.events if e.kind == "restarting"]
        assert "reason" not in again.data  # a loss like any other
