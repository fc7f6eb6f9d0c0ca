"""Servers that run beside us: started with a log, waited for until they answer, ended with us at the latest."""

from __future__ import annotations

import contextlib
import ctypes
import signal
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy.e2e.errors import E2EError

_PR_SET_PDEATHSIG = 1


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody listens on now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


@contextlib.contextmanager
def server(
    name: str, command: Sequence[str], log: Path, *, env: Mapping[str, str] | None = None, stop_s: float = 10
) -> Iterator[subprocess.Popen[bytes]]:
    """Run `command` while the block runs, writing to `log`; it ends when this thread's process does, too."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=env, preexec_fn=_end_with_parent
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(stop_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@dataclass(frozen=True)
class Starter:
    """Starts servers that write to `NAME.log` in a folder, and end with a stack."""

    folder: Path
    stack: contextlib.ExitStack

    def __call__(
        self, name: str, command: Sequence[str], env: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """Start one."""
        return self.stack.enter_context(server(name, command, self.folder / f"{name}.log", env=env))


def _end_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def wait_until(
    ready: Callable[[], bool], what: str, log: Path, process: subprocess.Popen[bytes] | None = None, limit_s: float = 60
) -> None:
    """Return once `ready()` is true.

    Raises:
        E2EError: the process ended before, or the time is over; with the last lines of its log.
    """
    end = time.monotonic() + limit_s
    while not ready():
        code = process.poll() if process else None
        if code is not None or time.monotonic() > end:
            happened = (
                f"{what} ended with code {code}" if code is not None else f"{what} is not ready after {limit_s} s"
            )
            raise E2EError(f"{happened} · it wrote:\n{last_lines(log)}\n· all of it is in {log}")
        time.sleep(0.05)


def answers(url: str, ca: Path | None = None, certificate: tuple[Path, Path] | None = None) -> bool:
    """Whether a GET of `url` ends well now."""
    context = None
    if url.startswith("https:"):
        context = ssl.create_default_context(cafile=ca)
        if certificate:
            context.load_cert_chain(*certificate)
    try:
        with urllib.request.urlopen(url, timeout=2, context=context) as answer:
            return int(answer.status) == 200
    except (urllib.error.URLError, OSError):
        return False


def last_lines(log: Path, count: int = 15) -> str:
    """The end of a log that may be missing."""
    return "\n".join(log.read_text("utf-8", "replace").splitlines()[-count:]) if log.exists() else ""
