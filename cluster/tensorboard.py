"""Starts TensorBoard in a process of its own, for a command or beside a job, and ends it with them."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from cluster.board_views import RunView, View
from cluster.errors import PreflightError, StorageError
from cluster.events import Event
from cluster.notices import Notices
from cluster.spec_parts import TensorBoardSpec

#: Seconds between two looks for new runs and files.
REFRESH = 10.0
#: Seconds that its process gets to end by itself.
PATIENCE = 3.0
#: Addresses that mean all of a machine's.
_WILDCARDS = ("0.0.0.0", "::", "")
#: … and those that mean itself.
LOCAL = ("localhost", "127.0.0.1", "::1")
#: Set in a launcher that was submitted to a Ray cluster, and in a shell on another machine.
_ELSEWHERE = ("RAY_JOB_SUBMISSION_ID", "SSH_CONNECTION")
#: What brings TensorBoard without TensorFlow, with the plugin for traces.
EXTRA = "pip install 'ray-tfcluster[profile]'"


class Server:
    """TensorBoard over a folder; its process ends with `close`, or with this process.

    Args:
        view: what is served.
        host: address to listen on.
        port: 0 for any that is free.
        tensorflow: whether it needs TensorFlow, as Debugger V2 does.
    """

    def __init__(self, view: View, host: str, port: int, *, tensorflow: bool = False) -> None:
        self._host, self._port = host, port
        order = {"logdir": str(view.folder), "host": host, "port": port, "title": view.title, "tensorflow": tensorflow}
        self._words = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `close`
        self._process = subprocess.Popen(
            [sys.executable, "-m", "cluster.tensorboard_server", json.dumps(order)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._words,
            env=_environment(),
            cwd=view.folder,  # a user's folder may hold a tensorboard of its own
            start_new_session=True,  # Ctrl-C is for the process that started it
        )

    def address(self) -> str:
        """Wait until it serves; its address as seen from this machine, or from others where it listens for them.

        Raises:
            PreflightError: it is not installed, its port is taken, or it did not start.
        """
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        answer: dict[str, Any] = json.loads(line) if line else {"error": self._last_words()}
        if answer.get("taken"):
            raise PortTakenError("TensorBoard's port is taken", f"{self._host}:{self._port}", "give another, or 0")
        if answer.get("address") is False:
            seen = f"it cannot listen on {self._host}:{self._port} ({self._last_words()})"
            todo = "give a name or an address of this machine, such as localhost, and a port that its user may open"
            raise PreflightError("TensorBoard did not start", seen, todo)
        if "port" not in answer:
            missing = "No module named" in answer["error"]
            happened = "TensorBoard is not installed" if missing else "TensorBoard did not start"
            raise PreflightError(happened, answer["error"], EXTRA if missing else "")
        return f"http://{_reachable(self._host)}:{answer['port']}/"

    def wait(self, seconds: float) -> bool:
        """Whether it ended by itself within `seconds`."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
        return self._process.returncode is not None

    def end(self) -> None:
        """End its process, also one that is still starting."""
        self._process.terminate()
        if not self.wait(PATIENCE):
            self._process.kill()
            self._process.wait()

    def close(self) -> None:
        """End it, and forget what it wrote."""
        self.end()
        pipes: tuple[IO[bytes] | None, ...] = (self._process.stdin, self._process.stdout)
        for pipe in pipes:
            if pipe is not None:
                pipe.close()
        self._words.close()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _last_words(self) -> str:
        self._process.wait()
        self._words.seek(0)
        lines = self._words.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"exit code {self._process.returncode}"


class PortTakenError(PreflightError):
    """The port that TensorBoard was to listen on is another program's."""


def _environment() -> dict[str, str]:
    """This process' variables; TensorBoard takes no GPU from a job, and keeps TensorFlow's greetings to itself."""
    paths = [str(Path(__file__).resolve().parents[1]), os.environ.get("PYTHONPATH", "")]
    return {
        **os.environ,
        "CUDA_VISIBLE_DEVICES": "",
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
    }


def _reachable(host: str) -> str:
    """`host` in an address that others can open."""
    if host in _WILDCARDS:
        host = own_address()
    return f"[{host}]" if ":" in host else host


def own_address() -> str:
    """The address of this machine from which it reaches others; no packet is sent."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))
        return str(probe.getsockname()[0])
    return socket.gethostname()


def announcement(address: str, host: str, node: str, variables: Mapping[str, str]) -> str:
    """What to say of a TensorBoard beside a job: where, and how to come to it from another machine.

    Args:
        address: of TensorBoard.
        host: that it listens on.
        node: the machine, or Pod, of this process.
        variables: of this process; they tell whether who reads this is likely to sit elsewhere.
    """
    if host not in LOCAL:
        return f"TensorBoard: {address}"
    port = address.rstrip("/").rpartition(":")[2]
    if "KUBERNETES_SERVICE_HOST" in variables:
        return f"TensorBoard: {address} in {node}; from your own machine: kubectl port-forward {node} {port}"
    if any(variables.get(name) for name in _ELSEWHERE):
        return f"TensorBoard: {address} on {node}; {forwarded(port, node)}"
    return f"TensorBoard: {address}"


def forwarded(port: str, node: str) -> str:
    """How to come to a port of `node` that listens to that machine only."""
    return f"from your own machine: ssh -L {port}:localhost:{port} {node}"


class Beside:
    """TensorBoard as long as a job runs; what there is to tell the user of it comes as events.

    Nothing that goes wrong with it ends the job.

    Args:
        spec: its host and port.
        run_uri: the run directory.
        debug: whether the job makes dumps.
    """

    def __init__(self, spec: TensorBoardSpec, run_uri: str, *, debug: bool) -> None:
        self._spec, self._uri, self._debug = spec, run_uri, debug
        self._news = Notices()
        self._ended = threading.Event()
        self._folder = Path(tempfile.mkdtemp(prefix="tfcluster-tensorboard-"))
        self._server: Server | None = None
        self._thread = threading.Thread(target=self._run, name="tfcluster-tensorboard", daemon=True)
        self._thread.start()

    def news(self) -> list[Event]:
        """Notices since the last call."""
        return self._news.take()

    def close(self) -> None:
        """End it, and forget its folder."""
        self._ended.set()
        if self._server is not None:
            self._server.end()
        self._thread.join()
        if self._server is not None:
            self._server.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _run(self) -> None:
        view = RunView(self._uri, self._folder)
        try:
            self._serve(view)
        except PreflightError as error:
            if not self._ended.is_set():
                self._say(f"no TensorBoard: {error}")
            return
        while not self._ended.wait(REFRESH):
            self._refresh(view)

    def _serve(self, view: RunView) -> None:
        """Start it; without a port in the spec, TensorBoard's own or, where that is taken, any other."""
        self._refresh(view)
        ports = [self._spec.port] if "port" in self._spec.model_fields_set else [self._spec.port, 0]
        for port in ports:
            if self._ended.is_set():
                return
            self._server = Server(view, self._spec.host, port, tensorflow=self._debug)
            try:
                address = self._server.address()
            except PortTakenError:
                if port == ports[-1]:
                    raise
                self._server.close()
                continue
            text = announcement(address, self._spec.host, os.uname().nodename, os.environ)
            self._say(text, tensorboard=address)
            return

    def _refresh(self, view: RunView) -> None:
        with contextlib.suppress(StorageError, OSError):  # the next one tries again
            view.refresh()

    def _say(self, text: str, **more: str) -> None:
        self._news.say(text, **more)
