"""`tfcluster profile`: why is a step slow? Traces of every task over the same time, and a verdict."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from cluster.capture import traced_bytes
from cluster.cli_options import (
    Address,
    Context,
    Json,
    Kubernetes,
    Namespace,
    RunName,
    Storage,
    kubernetes_settings,
    print_json,
    submitted,
)  # fmt: skip
from cluster.errors import CaptureError
from cluster.events import Event
from cluster.locations import shown


def profile(
    run: RunName = "latest",
    seconds: Annotated[float, typer.Option(help="how long tasks are traced, up to 120")] = 3.0,
    tasks: Annotated[
        str | None, typer.Option(help="tasks or roles, such as worker-0,ps; default: some of each role, 16 in all")
    ] = None,
    address: Address = None,
    kubernetes: Kubernetes = False,
    namespace: Namespace = None,
    context: Context = None,
    storage: Storage = "./runs",
    as_json: Json = False,
) -> None:
    """Trace tasks of a running job, and say what its steps wait for; of a run that has ended, what was said before."""
    named = None if tasks is None else [name.strip() for name in tasks.split(",") if name.strip()]
    job = submitted(run, address, kubernetes_settings(kubernetes, namespace, context))
    # The run directory of a submitted job is the cluster's, which this machine may not see.
    document = job.profile(seconds, named) if job else _profile(run, storage, seconds, named, quiet=as_json)
    if as_json:
        print_json(document)
    else:
        _show(document, local=job is None)


def _profile(name: str, storage: str, seconds: float, tasks: list[str] | None, *, quiet: bool) -> dict[str, Any]:
    from cluster import profiling
    from cluster.runs import find_run, read_run

    run = read_run(find_run(name, storage), every_step=False)
    if run.status == "running":
        return profiling.profile(run.uri, seconds, tasks, _silent if quiet else _say)
    verdict = profiling.last_verdict(run)
    if verdict is None:
        todo = "profile a running job, or put profile: {steps: [100, 110]} into the spec"
        raise CaptureError("the run has ended, and none of its tasks was traced", shown(run.uri), todo)
    if not quiet:
        typer.echo(f"the run has ended ({run.status}); its last capture said:")
    return verdict


def _silent(event: Event) -> None:
    """Where only one document is to be printed."""


def _say(event: Event) -> None:
    if event.data["status"] == "waiting":
        typer.echo(f"{event.data['reason']} …")
    if event.data["status"] == "collected":
        typer.echo(f"reading {traced_bytes(event.data) / 1e6:.1f} MB of traces …")
    if event.data["status"] == "tracing":
        names = [*event.data["tasks"]]
        shown_names = ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
        typer.echo(f"tracing {shown_names} for {event.data['seconds']:g} s …")


def _show(document: dict[str, Any], *, local: bool) -> None:
    from rich.console import Console

    from cluster.console_verdict import show

    show(document, Console(file=sys.stdout))
    folder = shown(str(document.get("folder", "")))
    typer.echo(f"traces  {folder}{'' if local else ' (on the cluster)'}")
    typer.echo(f"next: tfcluster tensorboard {folder.partition('/tensorboard/plugins/')[0]}")
