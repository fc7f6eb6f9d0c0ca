"""200 launches in a row: no port clash, and no process, port, actor or memory is left behind.

Not part of the quick suite: `./dev test tests/soak`.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.ray.conftest import busy_resources, task_processes, wait_until

LAUNCHES = int(os.environ.get("TFCLUSTER_SOAK_LAUNCHES", "200"))

pytestmark = pytest.mark.timeout(3 * 3600)


def listening() -> set[str]:
    """Local ports in state LISTEN, from /proc/net/tcp."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {row[1] for row in rows if row[3] == "0A"}


def resident(pid: int) -> float:
    """Resident memory in MB."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def warm_parent(job) -> int:
    """The warm process that forked the job's first task; the task is still there when it says `task_started`."""
    return int(Path(f"/proc/{job.pid('worker-0')}/stat").read_text().rsplit(")", 1)[1].split()[1])


def test_launches_in_a_row_leak_nothing(start):
    first = start(entrypoint="train.py:fit", strategy="multi_worker_mirrored", roles={"worker": 2})
    first.wait_for("task_started")
    warm = warm_parent(first)
    first.join()
    ports, memory, descriptors = listening(), resident(warm), len(os.listdir(f"/proc/{warm}/fd"))
    for number in range(LAUNCHES):
        job = start(
            entrypoint="train.py:fit", strategy="multi_worker_mirrored", roles={"worker": 2}, args={"epochs": 1}
        )
        result = job.join()
        assert result.attempts == 1, f"launch {number} needed {result.attempts} attempts"
    wait_until(lambda: not task_processes(), "task processes are left")
    wait_until(lambda: not busy_resources(), "resources are still held")
    wait_until(lambda: len(listening() - ports) <= 8, f"ports are left: {len(listening() - ports)}")
    assert len(os.listdir(f"/proc/{warm}/fd")) <= descriptors + 2
    assert resident(warm) < memory * 1.1 + 20
