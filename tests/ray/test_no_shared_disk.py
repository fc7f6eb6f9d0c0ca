"""A node whose temporary folder no other node sees: what its tasks trace comes to the launcher all the same."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ray.conftest import wait_until

pytestmark = pytest.mark.timeout(300)

UNSHARE = ["unshare", "--mount", "--propagation", "private", "--"]
#: Mounts an empty file system over the folder $1, which only this process and its children see, and runs the rest.
HIDE = 'mount -t tmpfs tmpfs "$1" && shift && exec "$@"'


def may_unshare() -> bool:
    """Whether this user may have a view of the file systems of its own (root, with CAP_SYS_ADMIN)."""
    if not shutil.which("unshare"):
        return False
    return subprocess.run([*UNSHARE, "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True).returncode == 0


@pytest.fixture
def hidden(ray_address: str) -> Iterator[Path]:
    """The temporary folder of a second node; here it stays empty."""
    if not may_unshare():
        pytest.skip("needs the right to mount file systems (root)")
    import ray

    folder = Path(tempfile.mkdtemp(prefix="hidden-"))  # a short name, for sockets are made below it
    command = [str(Path(sys.executable).with_name("ray")), "start", f"--address={ray_address}", "--num-cpus=4"]
    command += ["--node-ip-address=127.0.0.3", '--resources={"apart": 4}', "--disable-usage-stats", "--block"]
    process = subprocess.Popen(
        [*UNSHARE, "sh", "-c", HIDE, "sh", str(folder), *command],
        env={**os.environ, "TMPDIR": str(folder)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    wait_until(lambda: "apart" in ray.cluster_resources(), "the second node did not join", 90)
    yield folder
    process.send_signal(signal.SIGTERM)
    process.wait(60)
    wait_until(lambda: "apart" not in ray.cluster_resources(), "the second node did not leave", 90)
    folder.rmdir()


def test_traces_come_from_a_disk_that_the_launcher_does_not_see(start, hidden, tmp_path):
    job = start(
        entrypoint="profiled.py:fit",
        args={"folder": str(tmp_path)},
        strategy="multi_worker_mirrored",
        roles={"chief": {"replicas": 1}, "worker": {"replicas": 1, "resources": {"apart": 1}}},
        profile={"steps": [5, 30]},
    )
    (tmp_path / "last").write_text("200")
    done = job.wait_for("profile", lambda event: event.data["status"] not in ("tracing", "collected"))
    result = job.join()
    assert done.data["status"] == "done", done.data
    traces = Path(result.run_dir, done.data["folder"])
    assert {path.name for path in traces.glob("*.pb")} == {"chief-0.xplane.pb", "worker-0.xplane.pb"}
    assert f"scratch below {hidden}" in "\n".join(job.lines["worker-0"])
    assert not list(hidden.iterdir())


def test_dumps_come_from_a_machine_that_does_not_see_the_run_directory(start, hidden):
    job = start(
        entrypoint="watched.py:fit",
        strategy="multi_worker_mirrored",
        roles={"chief": {"replicas": 1}, "worker": {"replicas": 1, "resources": {"apart": 1}}},
        debug=True,
        storage=str(hidden / "runs"),  # what the second node sees there is another disk
    )
    result = job.join()
    dumps = Path(result.run_dir, "tensorboard", "debug")
    sizes = {f"{path.parts[-3]} {path.suffix}": path.stat().st_size for path in dumps.glob("*/1/tfdbg_events.*")}
    assert all(sizes[f"{task} .graph_execution_traces"] > 10_000 for task in ("chief-0", "worker-0")), sizes
    shutil.rmtree(hidden / "runs")
