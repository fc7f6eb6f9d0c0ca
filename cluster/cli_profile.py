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
    RemoteJob,
    RunName,
    Storage,
    kubernetes_settings,
    print_json,
    say,
    submitted,
)  # fmt: skip
from cluster.errors import CaptureError
from cluster.events import Event
from cluster.locations import shown


def profile(
    run: RunName = "latest",
    seconds: Annotated[float, typer.Option(help="how long tasks are traced, up to 120")] = 3.0,
    tasks: Annotated[
        str | None,
        typer.Option(help="tasks or roles, such as worker-0,ps; default: some of each role but the evaluator, 16"),
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
    from cluster.profiling import check

    check(seconds, named)
    job = submitted(run, address, kubernetes_settings(kubernetes, namespace, context))
    # The run directory of a submitted job is the cluster's, which this machine may not see.
    document = _of_job(job, seconds, named) if job else _profile(run, storage, seconds, named, quiet=as_json)
    if as_json:
        print_json(document)
    else:
        _show(document, job)


def _of_job(job: RemoteJob, seconds: float, tasks: list[str] | None) -> dict[str, Any]:
    try:
        return job.profile(seconds, tasks)
    except KeyboardInterrupt:
        say(f"what was asked for goes on on the cluster: tfcluster status {job.id} {job.options}")
        raise


def _profile(name: str, storage: str, seconds: float, tasks: list[str] | None, *, quiet: bool) -> dict[str, Any]:
    from cluster import profiling
    from cluster.runs import check_told, find_run, newest_running, read_run

    run = read_run(find_run(name, storage), every_step=False)
    if run.status != "running" and name == "latest" and (running := newest_running(storage)):
        run = read_run(running, every_step=False)
    if run.status == "running":
        return _traced(run.uri, seconds, tasks, quiet=quiet)
    check_told(run)
    verdict = profiling.last_verdict(run)
    if verdict is None:
        by_steps = "" if profiling.is_script(run.uri) else ", or put profile: {steps: [100, 110]} into the spec"
        todo = f"profile a running job{by_steps}"
        raise CaptureError("the run has ended, and none of its tasks was traced", shown(run.uri), todo)
    return {**verdict, "ended": run.status}


def _traced(uri: str, seconds: float, tasks: list[str] | None, *, quiet: bool) -> dict[str, Any]:
    """What a capture of a running job says; who has no patience for it is told what becomes of it."""
    from cluster.profiling import profile

    heard: list[str] = []

    def hear(event: Event) -> None:
        heard.append(str(event.data["status"]))
        if not quiet:
            _say(event)

    try:
        return profile(uri, seconds, tasks, hear)
    except KeyboardInterrupt:
        if went := [status for status in heard if status != "waiting"]:
            more = "goes on for the rest of its seconds" if went[-1] == "tracing" else "is being read"
            say(f"the capture {more}, and will be in the run directory: tfcluster status {shown(uri)}")
        raise


def _say(event: Event) -> None:
    if event.data["status"] == "waiting":
        typer.echo(f"{event.data['reason']} …")
    if event.data["status"] == "collected":
        typer.echo(f"reading {traced_bytes(event.data) / 1e6:.1f} MB of traces …")
    if event.data["status"] == "tracing":
        names = [*event.data["tasks"]]
        shown_names = ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
        typer.echo(f"tracing {shown_names} for {event.data['seconds']:g} s …")


def _show(document: dict[str, Any], job: RemoteJob | None) -> None:
    from rich.console import Console

    from cluster.console_verdict import show

    if "ended" in document:
        typer.echo(f"the run has ended ({document['ended']}); its last capture said:")
    show(document, Console(file=sys.stdout))
    folder = shown(str(document.get("folder", "")))
    where = folder.partition("/tensorboard/plugins/")[0] if job is None else f"{job.id} {job.options}"
    typer.echo(f"traces  {folder}{'' if job is None else ' (on the cluster)'}")
    typer.echo(f"next: tfcluster tensorboard {where}")
