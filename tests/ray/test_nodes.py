"""Two Ray nodes with addresses of their own: the job's folder travels, and a lost node is survived."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.ray.conftest import alive, wait_until

pytestmark = pytest.mark.timeout(300)


@dataclass
class SecondNode:
    """A `ray start --block` on 127.0.0.2 that joined the session's Ray."""

    process: subprocess.Popen[bytes]

    def raylet(self) -> int:
        """Process id of its raylet."""
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and (entry / "stat").exists():
                words = (entry / "cmdline").read_bytes().split(b"\0")
                if words[0].endswith(b"/raylet") and b"--node_ip_address=127.0.0.2" in words:
                    return int(entry.name)
        raise AssertionError("the second node has no raylet")


@pytest.fixture
def second_node(ray_address: str) -> Iterator[SecondNode]:
    import ray

    ray_command = str(Path(sys.executable).with_name("ray"))
    command = [ray_command, "start", f"--address={ray_address}", "--num-cpus=4", "--block"]
    command += ["--node-ip-address=127.0.0.2", '--resources={"second": 4}', "--disable-usage-stats"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    wait_until(lambda: "second" in ray.cluster_resources(), "the second node did not join", 90)
    yield SecondNode(process)
    process.send_signal(signal.SIGTERM)
    process.wait(60)
    wait_until(lambda: "second" not in ray.cluster_resources(), "the second node did not leave", 90)


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
