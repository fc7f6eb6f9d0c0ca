"""A real TensorBoard, asked over HTTP: of one run and of many, beside a job, and how it starts and ends."""

from __future__ import annotations

import gzip
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

import pytest

from cluster.board_views import RunView
from cluster.errors import PreflightError
from cluster.events import Event
from cluster.locations import join
from cluster.scalars import event_file, header, scalars
from cluster.spec_parts import TensorBoardSpec
from cluster.storage import RunDirectory, upload_folder
from cluster.tensorboard import Beside, Server, announcement

TRACES = Path(__file__).parents[1] / "data" / "traces"
pytestmark = [pytest.mark.timeout(120), pytest.mark.usefixtures("no_leaks")]


def make_run(storage: Path, name: str, losses: list[float]) -> Path:
    """A run directory with the learning curve `loss`; returns its event file."""
    folder = storage / name
    RunDirectory(str(folder)).create()
    (folder / "events.jsonl").write_text(Event("run_started").to_line())
    (folder / "job.yaml").write_text("name: job\n")
    file = folder / "tensorboard" / "train" / event_file(1000.0)
    file.parent.mkdir()
    file.write_bytes(header(1000.0))
    for step, loss in enumerate(losses):
        add(file, step, loss)
    return file


def add(file: Path, step: int, loss: float) -> None:
    with open(file, "ab") as stream:
        stream.write(scalars(1000.0 + step, step, {"loss": loss}))


def ask(address: str, path: str, **arguments: object) -> Any:
    with urllib.request.urlopen(f"{address}data/{path}?{urllib.parse.urlencode(arguments)}", timeout=60) as answer:
        body, packed = answer.read(), answer.headers.get("Content-Encoding") == "gzip"
    return json.loads(gzip.decompress(body) if packed else body)


def curve(address: str, run: str, length: int) -> list[float]:
    """The values of `loss`, once TensorBoard has read that many; it looks for new ones every few seconds."""
    pause = threading.Event()
    while True:
        tags = ask(address, "plugin/scalars/tags")
        if "loss" in tags.get(run, {}):
            points = ask(address, "plugin/scalars/scalars", run=run, tag="loss")
            if len(points) >= length:
                return [round(value, 3) for _, _, value in points]
        pause.wait(0.2)


@contextmanager
def command(*words: object, **variables: str) -> Iterator[subprocess.Popen[str]]:
    """`tfcluster tensorboard`, which is killed if it has not ended by itself; what it then leaves is removed."""
    line = [sys.executable, "-m", "cluster", "tensorboard", *map(str, words)]
    env = {name: value for name, value in os.environ.items() if name != "SSH_CONNECTION"} | variables
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        env |= {"TMPDIR": scratch}
        with subprocess.Popen(line, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            try:
                yield process
            finally:
                process.kill()


def served(output: IO[str] | None) -> tuple[list[str], str]:
    """What the command says until it serves, and its address."""
    assert output is not None
    lines = []
    for line in output:
        lines.append(line.rstrip())
        if line == "Ctrl-C ends it\n":
            break
    return lines, lines[0].rpartition(" ")[2]


# The command


def test_a_run_that_grows_is_served_until_ctrl_c(tmp_path: Path) -> None:
    file = make_run(tmp_path, "flights-1", [0.5, 0.25])
    with command(file.parents[2], "--port", 0) as process:
        lines, address = served(process.stdout)
        assert lines == [f"TensorBoard of flights-1: {address}", "Ctrl-C ends it"]
        assert address.startswith("http://localhost:")
        assert curve(address, "train", 2) == [0.5, 0.25]
        add(file, 2, 0.125)
        assert curve(address, "train", 3) == [0.5, 0.25, 0.125]
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
        assert process.stderr.read() == ""


def test_all_runs_of_a_remote_storage(tmp_path: Path, s3: str) -> None:
    for place, name in enumerate(("flights-1", "digits-1")):
        make_run(tmp_path, name, [0.5, float(place)])
    upload_folder(tmp_path, s3)
    with command(s3, "--port", 0) as process:
        lines, address = served(process.stdout)
        assert lines[0].startswith("TensorBoard of runs: ")
        assert curve(address, "flights-1/train", 2) == [0.5, 0.0]
        assert curve(address, "digits-1/train", 2) == [0.5, 1.0]


@pytest.mark.skipif(find_spec("xprof") is None, reason="xprof shows traces")
def test_traces_of_every_run_of_a_storage(tmp_path: Path) -> None:
    at = "2026_11_23_14_05_59"
    for name, recorded in (("flights-1", "straggler"), ("digits-1", "compute")):
        folder = make_run(tmp_path, name, [0.5]).parents[1] / "plugins" / "profile" / at
        folder.mkdir(parents=True)
        for trace in (TRACES / recorded).glob("*.gz"):
            (folder / trace.stem).write_bytes(gzip.decompress(trace.read_bytes()))
    with command(tmp_path, "--port", 0) as process:
        _, address = served(process.stdout)
        runs = ask(address, "plugin/profile/runs")
        assert sorted(runs) == [f"digits-1/{at}", f"flights-1/{at}"]
        hosts = ask(address, "plugin/profile/hosts", run=f"flights-1/{at}", tag="trace_viewer@")
        assert sorted(host["hostname"] for host in hosts) == ["worker-0", "worker-1"]


def test_a_port_of_another_program(tmp_path: Path) -> None:
    make_run(tmp_path, "flights-1", [0.5])
    with closing(socket.create_server(("localhost", 0))) as other:
        port = other.getsockname()[1]
        with command("latest", "--storage", tmp_path, "--port", port) as process:
            assert process.wait(60) == PreflightError.exit_code
            wanted = f"error: TensorBoard's port is taken · localhost:{port} · give another, or 0\n"
            assert process.stderr.read() == wanted


def test_tensorboard_is_not_installed(tmp_path: Path) -> None:
    make_run(tmp_path, "flights-1", [0.5])
    hidden = tmp_path / "hidden" / "tensorboard"
    hidden.mkdir(parents=True)
    (hidden / "__init__.py").write_text("raise ModuleNotFoundError(\"No module named 'tensorboard'\")\n")
    with command("flights", "--storage", tmp_path, PYTHONPATH=f"{hidden.parent}{os.pathsep}{os.getcwd()}") as process:
        assert process.wait(60) == PreflightError.exit_code
        text = process.stderr.read()
    assert "TensorBoard is not installed" in text
    assert "pip install 'ray-tfcluster[profile]'" in text
    assert "Traceback" not in text


def test_no_such_run_and_no_such_dumps(tmp_path: Path) -> None:
    file = make_run(tmp_path, "flights-1", [0.5])
    for words, sentence in [
        (["boats", "--storage", tmp_path], "no such run"),
        ([file.parents[2], "--task", "worker-1"], "no dumps of that task · worker-1 · dumps are of: none"),
    ]:
        with command(*words) as process:
            assert process.wait(60) == 7
            assert sentence in process.stderr.read()


def test_a_person_on_another_machine_is_told_of_ssh_and_sigterm_ends_it_too(tmp_path: Path) -> None:
    make_run(tmp_path, "flights-1", [0.5])
    with command("latest", "--storage", tmp_path, "--port", 0, SSH_CONNECTION="10.0.0.1 1 10.0.0.2 22") as process:
        lines, address = served(process.stdout)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    port = address.rstrip("/").rpartition(":")[2]
    assert f"from your own machine: ssh -L {port}:localhost:{port} {os.uname().nodename}" in lines


def test_it_dies_with_who_started_it(tmp_path: Path) -> None:
    make_run(tmp_path, "flights-1", [0.5])
    with command("latest", "--storage", tmp_path, "--port", 0) as process:
        served(process.stdout)
        process.kill()  # which it cannot see; `no_leaks` waits for its end, and that of its data server


# Its process


def test_every_address_of_the_machine_is_told_as_one_that_others_can_open(tmp_path: Path) -> None:
    view = RunView(str(make_run(tmp_path, "flights-1", [0.5]).parents[2]), tmp_path / "board")
    view.folder.mkdir()
    view.refresh()
    with Server(view, "0.0.0.0", 0) as server:
        address = server.address()
        assert "0.0.0.0" not in address
        assert curve(address, "train", 1) == [0.5]


def test_what_kept_it_from_starting_is_told(tmp_path: Path) -> None:
    view = RunView(str(tmp_path), tmp_path)
    for host in ("192.0.2.7", "nohost.invalid"):
        seen = rf"TensorBoard did not start · it cannot listen on {host}:0 \(.+\) · give a name or an address of this "
        with Server(view, host, 0) as server, pytest.raises(PreflightError, match=seen):
            server.address()


# Beside a job


def notice(board: Beside) -> Event:
    """The next thing that it tells."""
    pause = threading.Event()
    while not (found := board.news()):
        pause.wait(0.05)
    (event,) = found
    return event


@pytest.mark.parametrize(
    ("host", "variables", "text"),
    [
        ("localhost", {}, "TensorBoard: http://localhost:6007/"),
        ("0.0.0.0", {"SSH_CONNECTION": "x"}, "TensorBoard: http://localhost:6007/"),
        (
            "localhost",
            {"RAY_JOB_SUBMISSION_ID": "raysubmit_1"},
            "TensorBoard: http://localhost:6007/ on node-7; from your own machine: ssh -L 6007:localhost:6007 node-7",
        ),
        (
            "127.0.0.1",
            {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "RAY_JOB_SUBMISSION_ID": "raysubmit_1"},
            "TensorBoard: http://localhost:6007/ in node-7; from your own machine: kubectl port-forward node-7 6007",
        ),
    ],
)
def test_where_it_serves_and_how_to_come_to_it(host: str, variables: dict[str, str], text: str) -> None:
    assert announcement("http://localhost:6007/", host, "node-7", variables) == text


def test_beside_a_job_on_a_cluster_the_node_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setenv("RAY_JOB_SUBMISSION_ID", "raysubmit_1")
    make_run(tmp_path, "flights-1", [0.5])
    with closing(Beside(TensorBoardSpec(port=0), str(tmp_path / "flights-1"), debug=False)) as board:
        told = notice(board).data
    assert f"{told['tensorboard']} on {os.uname().nodename}; from your own machine: ssh -L " in told["text"]


def test_beside_a_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("KUBERNETES_SERVICE_HOST", "RAY_JOB_SUBMISSION_ID", "SSH_CONNECTION"):
        monkeypatch.delenv(name, raising=False)
    file = make_run(tmp_path, "flights-1", [0.5])
    with closing(Beside(TensorBoardSpec(port=0), str(file.parents[2]), debug=False)) as board:
        told = notice(board)
        address = told.data["tensorboard"]
        assert (told.kind, told.data["text"]) == ("notice", f"TensorBoard: {address}")
        assert curve(address, "train", 1) == [0.5]
        add(file, 1, 0.25)
        assert curve(address, "train", 2) == [0.5, 0.25]
        assert board.news() == []


def test_beside_a_job_on_remote_storage(tmp_path: Path, s3: str) -> None:
    make_run(tmp_path, "flights-1", [0.5])
    upload_folder(tmp_path, s3)
    with closing(Beside(TensorBoardSpec(port=0), join(s3, "flights-1"), debug=False)) as board:
        assert curve(notice(board).data["tensorboard"], "train", 1) == [0.5]


def test_a_job_without_a_port_of_its_own_takes_any(tmp_path: Path) -> None:
    make_run(tmp_path, "flights-1", [0.5])
    spec = TensorBoardSpec()
    with (
        closing(_holding("localhost", spec.port)),
        closing(Beside(spec, str(tmp_path / "flights-1"), debug=False)) as board,
    ):
        assert f":{spec.port}/" not in notice(board).data["tensorboard"]


def _holding(host: str, port: int) -> socket.socket:
    """A socket that listens there, or one that does not where another program does."""
    try:
        return socket.create_server((host, port))
    except OSError:
        return socket.socket()


def test_a_job_whose_port_is_taken_goes_on_without_it(tmp_path: Path) -> None:
    with closing(socket.create_server(("localhost", 0))) as other:
        port = other.getsockname()[1]
        with closing(Beside(TensorBoardSpec(port=port), str(tmp_path), debug=False)) as board:
            told = notice(board).data
    assert told == {"text": f"no TensorBoard: TensorBoard's port is taken · localhost:{port} · give another, or 0"}


def test_a_job_that_ends_at_once_does_not_wait_for_it(tmp_path: Path) -> None:
    begun = time.monotonic()
    Beside(TensorBoardSpec(port=0), str(tmp_path), debug=False).close()
    assert time.monotonic() - begun < 3
