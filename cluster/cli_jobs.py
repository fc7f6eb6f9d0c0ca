"""`tfcluster submit`, `stop` and `list`: jobs that run elsewhere, on a Ray cluster or on Kubernetes."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

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
from cluster.errors import RunNotFoundError, SpecError
from cluster.locations import join, shown

SpecFile = Annotated[Path, typer.Argument(help="the job's spec, YAML or JSON", metavar="JOB.YAML")]


def submit(
    spec: SpecFile,
    address: Address = None,
    kubernetes: Kubernetes = False,
    namespace: Namespace = None,
    context: Context = None,
    platform: Annotated[
        Path | None, typer.Option(help="settings for Kubernetes, YAML; or TFCLUSTER_PLATFORM", metavar="FILE")
    ] = None,
    image: Annotated[str | None, typer.Option(help="image of the Pods on Kubernetes")] = None,
    values: Annotated[
        list[str] | None,
        typer.Option("--set", help="a setting for Kubernetes, such as rayJob.suspend=true; may be repeated"),
    ] = None,
    name: Annotated[str | None, typer.Option(help="the job's id; default: one that is made")] = None,
    wait: Annotated[
        bool, typer.Option(help="follow the job's output, with --json on stderr; end with its exit code")
    ] = False,
    as_json: Json = False,
) -> None:
    """Submit a job to a Ray cluster, or to Kubernetes; its folder travels there."""
    from cluster.submission import submit as submit_job

    settings = kubernetes_settings(kubernetes, namespace, context, platform, image, values or [])
    if settings is not None and address is not None:
        raise SpecError("a job goes to one place", f"--address {address} and --kubernetes", "leave one of them out")
    job: RemoteJob
    if settings is not None:
        job = submit_job(spec, kubernetes=settings, job_id=name)
    else:
        job = submit_job(spec, address=address, job_id=name)
    if as_json:
        print_json(job.to_document())
    else:
        typer.echo(f"submitted {job.id} to {job.address}")
    if wait:
        job.logs(follow=True, stream=sys.stderr if as_json else sys.stdout)  # a program reads the JSON, and no more
        raise SystemExit(_job_exit_code(job))
    if not as_json:
        typer.echo(f"next: tfcluster logs {job.id} {job.options} --follow")


def _job_exit_code(job: RemoteJob) -> int:
    status = job.wait()
    if status == "SUCCEEDED":
        return 0
    code = job.exit_code()
    typer.echo(f"job {job.id} {status}: {job.message()}", err=True)
    if code == 127:
        typer.echo("tfcluster is not on the cluster's PATH: install ray-tfcluster there, or by runtime_env", err=True)
    return code or 1


def stop(
    run: RunName = "latest",
    address: Address = None,
    kubernetes: Kubernetes = False,
    namespace: Namespace = None,
    context: Context = None,
    storage: Storage = "./runs",
) -> None:
    """End a running job in order: checkpoints stay, nothing else is left behind."""
    job = submitted(run, address, kubernetes_settings(kubernetes, namespace, context))
    if job is not None:
        _stop(job)
        return
    from cluster.runs import find_run, read_run
    from cluster.runs import stop as stop_run

    found = read_run(find_run(run, storage))
    typer.echo(f"{shown(found.uri)}: {'stopped' if stop_run(found) else f'not running ({found.status})'}")
    typer.echo(f"next: tfcluster status {shown(found.uri)}")


def _stop(job: RemoteJob) -> None:
    asked = job.stop()
    try:
        job.status()
    except RunNotFoundError:
        typer.echo(f"{job.id}: deleted, for it had not begun")
        return
    typer.echo(f"{job.id}: {'stopping' if asked else 'had ended'}")
    typer.echo(f"next: tfcluster status {job.id} {job.options}")


def list_jobs(
    address: Address = None,
    kubernetes: Kubernetes = False,
    namespace: Namespace = None,
    context: Context = None,
    storage: Storage = "./runs",
    most: Annotated[int, typer.Option("--tail", "-n", min=1, help="so many, the newest")] = 20,
    as_json: Json = False,
) -> None:
    """List the runs of a storage, or the jobs of a Ray cluster or a namespace of Kubernetes, the newest first."""
    settings = kubernetes_settings(kubernetes, namespace, context)
    if settings is not None:
        from cluster.kube_api import Api
        from cluster.kube_text import list_rows
        from cluster.kubernetes import list_ray_jobs

        api = Api(settings.context, settings.namespace)
        rows = list_rows(list_ray_jobs(settings, api)[:most], time.time())
        none = f"no job that was submitted by tfcluster in namespace {api.namespace}"
    elif address is not None:
        from cluster.ray_jobs import list_ray_jobs as list_of_ray

        rows = list_of_ray(address)[:most]
        none = f"no job at {shown(address)}"
    else:
        rows = _runs(storage, most)
        none = f"no run in {shown(storage)}"
    if as_json:
        print_json(rows)
    else:
        _print_table(rows, none)


def _runs(storage: str, most: int) -> list[dict[str, Any]]:
    from cluster.runs import glance, run_names
    from cluster.silence import silent_for

    now = time.time()
    found = [(name, glance(join(storage, name))) for name in reversed(run_names(storage)[-most:])]
    return [
        {
            "id": name,
            "status": run.status,
            "exit_code": run.result.get("exit_code"),
            "step": run.step,
            "silent_for": silent_for(run.live, run.about, run.uri, now),
        }
        for name, run in found
    ]


def _print_table(rows: list[dict[str, Any]], none: str) -> None:
    from cluster.units import format_duration

    if not rows:
        say(none)
        return
    width = max(len(str(row["id"])) for row in rows)
    for row in rows:
        code = f" · exit code {row['exit_code']}" if row.get("exit_code") else ""
        age = f" · {format_duration(row['age'])} ago" if row.get("age") is not None else ""
        step = f" · step {row['step']}" if row.get("step") else ""
        silent = f" · no word for {format_duration(row['silent_for'])}" if row.get("silent_for") else ""
        typer.echo(f"{row['id']:<{width}}  {row['status']}{code}{step}{age}{silent}")
