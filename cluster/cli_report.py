"""`tfcluster report`: one page about a run, or one on which several stand side by side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cluster.cli_options import (
    Address,
    Context,
    Kubernetes,
    Namespace,
    RemoteJob,
    Storage,
    kubernetes_settings,
    say,
    submitted,
)  # fmt: skip
from cluster.errors import SpecError

if TYPE_CHECKING:
    from cluster.chosen import Chosen
    from cluster.kube_settings import Settings

_RUNS = "run directories, starts of their names, 'latest', a folder of many, or a job's id; several stand side by side"
_OUTPUT = "where to, or - for standard output; default: report.html in the run directory; of several comparison.html"


def report(
    runs: Annotated[list[str] | None, typer.Argument(help=f"{_RUNS}; default: latest", metavar="RUN")] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help=_OUTPUT)] = None,
    show: Annotated[bool, typer.Option("--open", help="show it in a browser")] = False,
    address: Address = None,
    kubernetes: Kubernetes = False,
    namespace: Namespace = None,
    context: Context = None,
    storage: Storage = "./runs",
) -> None:
    """Write one HTML page, which needs no network, about a run or with several side by side."""
    from cluster.chosen import choose

    names = runs or ["latest"]
    settings = kubernetes_settings(kubernetes, namespace, context)
    if len(names) > 1:
        _refuse_jobs(names, address, settings)
    job = submitted(names[0], address, settings)
    if job is not None:
        _of_job(job, output, show=show)
        return
    chosen = choose(names, storage)
    if len(chosen.uris) > 1:
        _of_several(chosen, output, show=show)
    else:
        _of_one(chosen.uris[0], output, show=show)


def _refuse_jobs(names: list[str], address: str | None, settings: Settings | None) -> None:
    """Several runs are compared where all of their directories can be read; a job's may be on its cluster alone."""
    jobs = [name for name in names if name.startswith("raysubmit_")]
    seen = [option for option, given in (("--address", address), ("--kubernetes", settings)) if given is not None]
    if jobs or seen:
        todo = "name their run directories, such as s3://bucket/runs/flights-1; or write a page of one job at a time"
        raise SpecError("jobs on a cluster are not compared from here", ", ".join([*jobs, *seen]), todo)


def _of_one(uri: str, output: Path | None, *, show: bool) -> None:
    from cluster.page import page_of, write_page

    if output == Path("-"):
        typer.echo(page_of(uri), nl=False)
        return
    _tell(write_page(uri, output), show=show)


def _of_job(job: RemoteJob, output: Path | None, *, show: bool) -> None:
    from cluster.page import keep

    with job.on_cluster() as ray:
        page = ray.report()
    if output == Path("-"):
        typer.echo(page, nl=False)
        return
    _tell(keep(page, output or Path(f"{job.id}.html")), show=show)


def _of_several(chosen: Chosen, output: Path | None, *, show: bool) -> None:
    from cluster.comparing import next_command
    from cluster.comparison import FILE, read_runs, render
    from cluster.page import keep

    if chosen.left_out:
        say(f"the newest {len(chosen.uris)} runs, without {chosen.left_out} older; name runs to compare others")
    found = read_runs(chosen.uris)
    page = render(found, left_out=chosen.left_out)
    if output == Path("-"):
        typer.echo(page, nl=False)
        return
    _tell(keep(page, output or FILE), show=show)
    typer.echo(f"next: {next_command(found)}")


def _tell(file: Path, *, show: bool) -> None:
    """Say where the page is, and show it if that is wanted."""
    typer.echo(f"wrote {file}")
    if show:
        import webbrowser

        if not webbrowser.open(file.resolve().as_uri()):
            typer.echo("no browser here: copy the file to where there is one", err=True)
