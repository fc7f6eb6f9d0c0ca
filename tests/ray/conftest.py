"""One Ray for all tests of this folder, jobs run in threads, and a look at what each test leaves behind."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from cluster.errors import TfClusterError
from cluster.events import Event
from cluster.launcher import Result, run
from cluster.plan import Plan
from cluster.tasks import Task

JOBS = Path(__file__).parent / "jobs"
#: No single thing that a test waits for takes longer, even on two busy cores.
PATIENCE = 120.0


@pytest.fixture(scope="session")
def ray_address() -> Iterator[str]:
    """A Ray with room for every test, two of its GPUs being logical; its address, for other processes to join."""
    import ray

    context = ray.init(
        address="local",
        num_cpus=16,
        num_gpus=2,
        resources={"rare": 1},
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
    )
    yield context.address_info["gcs_address"]
    ray.shutdown()


@dataclass
class Job:
    """A run in a thread, whose events a test can wait for; also the run's observer."""

    events: list[Event] = field(default_factory=list)
    lines: dict[str, list[str]] = field(default_factory=dict)
    result: Result | None = None
    error: BaseException | None = None
    plan_seen: Plan | None = None
    _news: queue.Queue[Event | None] = field(default_factory=queue.Queue)
    _thread: threading.Thread | None = None

    def plan(self, plan: Plan) -> None:
        self.plan_seen = plan

    def event(self, event: Event) -> None:
        self.events.append(event)
        self._news.put(event)

    def log(self, task: Task, text: str) -> None:
        self.lines.setdefault(str(task), []).extend(text.split("\n"))

    def start(self, document: dict[str, Any], directory: Path) -> None:
        def target() -> None:
            try:
                self.result = run(document, directory=directory, observer=self)
            except BaseException as error:
                self.error = error
            self._news.put(None)

        self._thread = threading.Thread(target=target, name="job")
        self._thread.start()

    def wait_for(self, kind: str, matches: Callable[[Event], bool] = lambda event: True) -> Event:
        """The next event of that kind that matches; fails when the run ends first."""
        while True:
            event = self._news.get(timeout=PATIENCE)
            if event is None:
                raise AssertionError(f"the run ended before {kind}: {self.error} {self.events[-5:]}")
            if event.kind == kind and matches(event):
                return event

    def join(self) -> Result:
        """Wait for the end; raises the run's error."""
        assert self._thread is not None
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive(), f"the run did not end: {self.events[-5:]}"
        if self.error is not None:
            raise self.error
        assert self.result is not None
        return self.result

    def failure(self) -> TfClusterError:
        """Wait for the end, which must be an error of ours, and return it."""
        with pytest.raises(TfClusterError) as caught:
            self.join()
        return caught.value

    def pid(self, task: str) -> int:
        """Process id of the newest process of `task`."""
        started = (e for e in reversed(self.events) if e.kind == "task_started" and str(e.task) == task)
        return int(next(started).data["pid"])

    def wait_for_supervisor(self, task: str) -> int:
        """Process id of the actor that supervises `task`."""
        placed = next(e for e in reversed(self.events) if e.kind == "placed")
        return int(placed.data["supervisors"][task])

    def kinds(self, task: str | None = None) -> list[str]:
        """Kinds of all events, or of those of one task, in order."""
        return [e.kind for e in self.events if task is None or str(e.task) == task]


@pytest.fixture
def start(ray_address: str, tmp_path: Path) -> Iterator[Callable[..., Job]]:
    """Start a job of tests/ray/jobs with `storage` below tmp_path; every job is joined at the end."""
    jobs: list[Job] = []

    def begin(**document: Any) -> Job:
        document.setdefault("storage", str(tmp_path / "runs"))
        document.setdefault("timeouts", {"placement": "60s", "startup": "90s", "stop": "3s"})
        job = Job()
        jobs.append(job)
        job.start(document, JOBS)
        return job

    yield begin
    for job in jobs:
        if job._thread is not None:
            job._thread.join(PATIENCE)
            assert not job._thread.is_alive()


@dataclass
class OtherNode:
    """A `ray start --block` on an address of its own that joined the session's Ray."""

    process: subprocess.Popen[bytes]
    host: str

    def raylet(self) -> int:
        """Process id of its raylet."""
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and (entry / "stat").exists():
                words = (entry / "cmdline").read_bytes().split(b"\0")
                if words[0].endswith(b"/raylet") and f"--node_ip_address={self.host}".encode() in words:
                    return int(entry.name)
        raise AssertionError(f"the node {self.host} has no raylet")

    def id(self) -> str:
        """Ray's id of it."""
        import ray

        return str(next(n["NodeID"] for n in ray.nodes() if n["Alive"] and n["NodeManagerAddress"] == self.host))


@contextlib.contextmanager
def other_node(ray_address: str, host: str, resource: str, notice: int = 30) -> Iterator[OtherNode]:
    """A node of 4 processors and 4 of `resource` on an address of this machine.

    Upon SIGTERM it goes on for `notice` seconds, or until nothing runs there any more.
    """
    ray_command = str(Path(sys.executable).with_name("ray"))
    command = [ray_command, "start", f"--address={ray_address}", "--num-cpus=4", "--block", "--disable-usage-stats"]
    command += [f"--node-ip-address={host}", f'--resources={{"{resource}": 4}}']
    env = {**os.environ, "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": str(notice)}
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(command, stdout=quiet, stderr=quiet, env=env, start_new_session=True)
    node = OtherNode(process, host)
    try:
        wait_until(lambda: host in living_hosts(), f"the node {host} did not join", 90)
        yield node
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
        wait_until(lambda: host not in living_hosts(), f"the node {host} did not leave", 90)


def living_hosts() -> set[str]:
    """Addresses of the nodes of the session's Ray."""
    import ray

    return {str(node["NodeManagerAddress"]) for node in ray.nodes() if node["Alive"]}


@pytest.fixture
def second_node(ray_address: str) -> Iterator[OtherNode]:
    """A node on 127.0.0.2 with a resource of its own, `second`."""
    with other_node(ray_address, "127.0.0.2", "second") as node:
        yield node


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    """After each test no task process, no actor and no placement group of its jobs is left."""
    yield
    import ray

    if ray.is_initialized():
        wait_until(lambda: not task_processes(), "task processes are left")
        wait_until(lambda: not busy_resources(), f"resources are still held: {busy_resources()}")


def wait_until(condition: Callable[[], bool], complaint: str, seconds: float = 15.0) -> None:
    """Poll `condition`, for states that nothing announces."""
    pause = threading.Event()
    for _ in range(int(seconds / 0.05)):
        if condition():
            return
        pause.wait(0.05)
    raise AssertionError(complaint)


def task_processes() -> list[int]:
    """Processes of ours that run a task: they carry TFCLUSTER_RUN_DIR, or are children of a warm process."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and is_task(entry):
            found.append(int(entry.name))
    return found


def is_task(process: Path) -> bool:
    """Whether the process is a child of a warm process."""
    try:
        words = (process / "cmdline").read_bytes().split(b"\0")
        parent = (process / "stat").read_text().rsplit(")", 1)[1].split()[1]
        above = Path("/proc", parent, "cmdline").read_bytes().split(b"\0")
    except (OSError, IndexError):
        return False
    if words[0] != sys.executable.encode():  # another environment's
        return False
    return b"cluster.task" in words or (b"cluster.warm" in words and b"cluster.warm" in above)


def busy_resources() -> dict[str, float]:
    """Resources of the session's Ray that something still holds."""
    import ray

    total, free = ray.cluster_resources(), ray.available_resources()
    return {n: total[n] - free.get(n, 0.0) for n in ("CPU", "GPU", "rare") if total.get(n, 0.0) != free.get(n, 0.0)}


def alive(pid: int) -> bool:
    """Whether the process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def kill(pid: int) -> None:
    """SIGKILL."""
    os.kill(pid, 9)
