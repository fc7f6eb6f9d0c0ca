"""What all tests share: a time limit for each kind, and proof that nothing of a test is left running."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import select
import signal
import subprocess
import time
import uuid
from collections.abc import Collection, Iterator
from pathlib import Path

import hypothesis
import pytest

#: Seconds that a test may take, with its fixtures, by the folder it lies in; `@pytest.mark.timeout` says otherwise.
LIMITS = {
    "unit": 30,
    "files": 60,
    "helm": 60,
    "kubernetes": 90,
    "browser": 120,
    "tf": 180,
    "tf_data": 180,
    "ray": 300,
    "e2e": 600,
    "soak": 3600,
}
#: Inherited by every process that a test starts, and so found again however far it went away.
VARIABLE, SESSION = "TFCLUSTER_TEST_SESSION", uuid.uuid4().hex
#: What a Ray cluster keeps running between jobs: its daemons, and workers that have no actor or task.
RAY_ITSELF = (r"/ray/(core|dashboard|_private|autoscaler)/", r"^ray::IDLE", r"default_worker\.py")

os.environ[VARIABLE] = SESSION
# The machine may be shared: an example's time says little. In CI the same examples run each time.
hypothesis.settings.register_profile("tfcluster", deadline=None, derandomize=bool(os.environ.get("CI")))
hypothesis.settings.load_profile("tfcluster")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give each test the time limit of its folder."""
    for item in items:
        if item.get_closest_marker("timeout") is None and item.path.is_relative_to(Path(__file__).parent):
            folder = item.path.relative_to(Path(__file__).parent).parts[0]
            item.add_marker(pytest.mark.timeout(LIMITS.get(folder, LIMITS["unit"])))


def started_by_tests() -> dict[int, str]:
    """Command lines, by process id, of what the tests of this session started and what still runs."""
    found = {}
    token = f"{VARIABLE}={SESSION}".encode()
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # ended meanwhile, or another user's
            if token in (entry / "environ").read_bytes() and int(entry.name) != os.getpid():
                found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return found


def listening_ports() -> set[int]:
    """TCP ports on which this process listens."""
    inodes = set()
    for link in Path("/proc/self/fd").glob("*"):
        with contextlib.suppress(OSError):
            inodes.add(link.readlink().name.removeprefix("socket:[").removesuffix("]"))
    rows = [line.split() for table in ("tcp", "tcp6") for line in _lines(Path("/proc/self/net") / table)]
    return {int(row[1].rpartition(":")[2], 16) for row in rows if row[3] == "0A" and row[9] in inodes}


def _lines(table: Path) -> list[str]:
    return table.read_text().splitlines()[1:] if table.exists() else []


def still_running(allowed: Collection[str], before: Collection[int], seconds: float) -> dict[int, str]:
    """What was started since `before` and runs on after `seconds`, but for command lines that match `allowed`."""
    deadline = time.monotonic() + seconds
    while True:
        left = {
            pid: command
            for pid, command in started_by_tests().items()
            if pid not in before and not any(re.search(pattern, command) for pattern in allowed)
        }
        if not left or time.monotonic() >= deadline:
            return left
        _await_end(next(iter(left)), deadline)


def _await_end(pid: int, deadline: float) -> None:
    with contextlib.suppress(ProcessLookupError):
        descriptor = os.pidfd_open(pid)
        try:
            poll = select.poll()
            poll.register(descriptor, select.POLLIN)
            poll.poll(max(0.0, deadline - time.monotonic()) * 1000)
        finally:
            os.close(descriptor)


@pytest.fixture
def no_leaks() -> Iterator[list[str]]:
    """When the test is over, whatever it started has ended, and this process listens nowhere new.

    Yields:
        Regular expressions of command lines that may stay; Ray's own are in it, and the test may append others.
    """
    allowed = list(RAY_ITSELF)
    processes, ports = set(started_by_tests()), listening_ports()
    yield allowed
    left = still_running(allowed, processes, seconds=10)
    assert not left, f"still running: {left}"
    assert listening_ports() <= ports


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail the session if a process of it runs on when everything is torn down, and kill that process."""
    left = still_running((), (), seconds=30)
    for pid in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    if left:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
        reporter = session.config.pluginmanager.getplugin("terminalreporter")
        assert reporter is not None
        reporter.write_line("")
        for pid, command in left.items():
            reporter.write_line(f"FAILED: still running after the last test, now killed: {pid} {command}", red=True)


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """`host:port` of an S3 server on the loopback address, in a thread of this process."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    yield f"{host}:{port}"
    server.stop()


@pytest.fixture
def s3(s3_server: str) -> str:
    """A storage of this test's own on the S3 server, with its key, secret and options in the URI."""
    options = f"scheme=http&endpoint_override={s3_server}&region=us-east-1&allow_bucket_creation=true"
    return f"s3://key:hush-hush@bucket-{uuid.uuid4().hex[:8]}/runs?{options}"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    if os.getuid() != 0:
        pytest.skip("only root can mount a file system")
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"this root cannot mount a file system: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)
