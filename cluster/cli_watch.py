"""`tfcluster tensorboard` and `tfcluster top`: look at runs while they go on, and afterwards."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cluster.cli_options import (
    Address,
    Context,
    Kubernetes,
    Namespace,
    RunName,
    Storage,
    kubernetes_settings,
    print_json,
    say,
    submitted,
)  # fmt: skip
from cluster.errors import SpecError, StorageError

if TYPE_CHECKING:
    from cluster.kube_settings import Settings
    from cluster.top import Source
    from cluster.watched import View

RunOrStorage = Annotated[
    str,
    typer.Argument(help="a run directory, the start of its name, 'latest', or a folder or URI of many", metavar="RUN"),
]


def tensorboard(
    run: RunOrStorage = "latest",
    host: Annotated[
        str, typer.Option(help="address to listen on; 0.0.0.0 lets everybody in who reaches it")
    ] = "localhost",
    port: Annotated[int, typer.Option(min=0, max=65535, help="port; 0 takes a free one")] = 6006,
    task: Annotated[str | None, typer.Option(help="whose dumps Debugger V2 shows, such as worker-1")] = None,
    address: Address = None,
    kubernetes: Kubernetes = False,
    namespace: Namespace = None,
    context: Context = None,
    storage: Storage = "./runs",
) -> None:
    """Serve the TensorBoard of one run, or of all runs of a storage; of a job on Kubernetes, by a forwarded port."""
    settings = kubernetes_settings(kubernetes, namespace, context)
    if settings is not None and address is None:
        if host != "localhost":
            todo = "leave it out, and forward the port on: ssh -L 6006:localhost:6006 HOST"
            raise SpecError("a forwarded port is this machine's own, and listens on localhost", f"--host {host}", todo)
        _of_kubernetes(run, settings, port, task)
        return
    from cluster.board_views import RunView, StorageView, open_view
    from cluster.tensorboard import EXTRA, LOCAL, REFRESH, Server, forwarded

    run = _run_of(run, address, settings)
    with tempfile.TemporaryDirectory(prefix="tfcluster-tensorboard-") as folder, _terminable():
        view = open_view(run, storage, Path(folder), task)
        view.refresh()
        tasks = view.dumped_tasks() if isinstance(view, RunView) else []
        if task is not None and task not in tasks:
            raise _no_dumps(task, tasks)
        with Server(view, host, port, tensorflow=bool(tasks)) as server, contextlib.suppress(KeyboardInterrupt):
            served = server.address()
            typer.echo(f"TensorBoard of {view.title}: {served}")
            if isinstance(view, StorageView) and view.is_empty:
                typer.echo("no run is there yet; they are shown when they come")
            if tasks:
                _tell_of_dumps(task or tasks[0], tasks)
            if isinstance(view, RunView) and view.has_traces() and importlib.util.find_spec("xprof") is None:
                typer.echo(f"its traces are not shown without xprof: {EXTRA}")
            if os.environ.get("SSH_CONNECTION") and host in LOCAL:
                typer.echo(forwarded(served.rstrip("/").rpartition(":")[2], os.uname().nodename))
            typer.echo("Ctrl-C ends it")
            sys.stdout.flush()
            while not server.wait(REFRESH):
                with contextlib.suppress(StorageError):  # it may answer again
                    view.refresh()
            raise SystemExit(1)


def _run_of(name: str, address: str | None, settings: Settings | None) -> str:
    """The run directory of the submitted job that is meant; else the name as it is."""
    from urllib.parse import urlsplit

    from cluster.board_views import run_of_job

    job = submitted(name, address, settings)
    if job is None:
        return name
    with job.on_cluster() as ray:
        return run_of_job(job.id, ray.run_dir(), urlsplit(job.address).hostname or "HEAD")


def _of_kubernetes(run: str, settings: Settings, port: int, task: str | None) -> None:
    """Forward the port of a TensorBoard on the job's head, until Ctrl-C or the job's end."""
    from cluster.kubernetes import find_ray_job
    from cluster.ray_jobs import FINISHED

    job = find_ray_job(run, settings)
    with _terminable(), contextlib.suppress(KeyboardInterrupt), job.tensorboard(port, say, task) as address:
        typer.echo(f"TensorBoard of {job.id}: {address}\nCtrl-C ends it")
        sys.stdout.flush()
        while job.status() not in FINISHED:
            time.sleep(5.0)
        typer.echo("the job has ended; its cluster, and TensorBoard with it, goes soon")
        while job.has_head():
            time.sleep(5.0)


def _no_dumps(task: str, tasks: list[str]) -> Exception:
    from cluster.errors import RunNotFoundError

    return RunNotFoundError("no dumps of that task", task, f"dumps are of: {', '.join(tasks) or 'none'}")


def _tell_of_dumps(shown: str, tasks: list[str]) -> None:
    others = f"; of {', '.join(t for t in tasks if t != shown)} with --task" if len(tasks) > 1 else ""
    typer.echo(f"Debugger V2 shows the dumps of {shown}{others}")
    if importlib.util.find_spec("tensorflow") is None:
        typer.echo("dumps are not shown without TensorFlow: pip install 'ray-tfcluster[tensorflow]'")


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM ends the command as Ctrl-C does."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def top(
    run: RunName = "latest",
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="without a terminal: each second until it ends")
    ] = False,
    address: Address = None,
    kubernetes: Kubernetes = False,
    namespace: Namespace = None,
    context: Context = None,
    storage: Storage = "./runs",
    as_json: Annotated[bool, typer.Option("--json", help="one JSON document a line")] = False,
) -> None:
    """Show a running job live: every task's state, step, speed, processors, memory and node; q ends it."""
    from cluster.top import show, tell

    def write(view: View) -> None:
        if as_json:
            print_json(view.to_document())
        else:
            typer.echo(view.text())

    with _source(run, address, kubernetes_settings(kubernetes, namespace, context), storage) as (source, pause):
        if as_json or follow:
            with _terminable(), contextlib.suppress(KeyboardInterrupt):
                tell(source, pause, write, follow=follow)
        else:
            show(source, pause)


@contextlib.contextmanager
def _source(run: str, address: str | None, settings: Settings | None, storage: str) -> Iterator[tuple[Source, float]]:
    """Who tells of the run, its directory or its cluster, and how many seconds to leave between two looks."""
    from cluster.runs import find_run
    from cluster.told import EVERY, told
    from cluster.top import LOOK, LOOK_FAR
    from cluster.watched import Watched

    job = submitted(run, address, settings)
    if job is None:
        uri = find_run(run, storage)
        yield Watched(uri), LOOK_FAR if "://" in uri else LOOK
        return
    with job.on_cluster() as ray, told(ray) as source:
        yield source, EVERY
