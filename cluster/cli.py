"""The command `tfcluster`: each command reads its arguments, calls one function, and says what to do next."""

from __future__ import annotations

import io
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cluster import cli_data, cli_jobs, cli_look, cli_profile, cli_report, cli_watch
from cluster.cli_jobs import SpecFile
from cluster.cli_options import Json, metrics_text, print_json, print_rows
from cluster.errors import PreflightError, TfClusterError
from cluster.locations import join, shown

if TYPE_CHECKING:
    from cluster.launcher import Result
    from cluster.plan import Plan

app = typer.Typer(
    name="tfcluster",
    help="One spec becomes a working TensorFlow 2 cluster on Ray.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(cli_data.app, name="data")


def main() -> None:
    """Run the command line; a user's mistake is one sentence and an exit code, never a traceback."""
    _write_what_can_be()
    try:
        app()
    except TfClusterError as error:
        typer.echo(typer.style(f"error: {error}", fg="red") if _colours() else f"error: {error}", err=True)
        if error.run_dir:
            typer.echo(f"run directory: {shown(error.run_dir)}\nnext: tfcluster logs {shown(error.run_dir)}", err=True)
        raise SystemExit(error.exit_code) from None
    except KeyboardInterrupt:
        typer.echo("interrupted", err=True)
        raise SystemExit(130) from None
    except BrokenPipeError:  # `tfcluster logs RUN | head`
        raise SystemExit(1) from None
    finally:
        _flush_what_is_read()


def _write_what_can_be() -> None:
    """Have `?` written for what the terminal's encoding lacks, as in a metric's name: it must not end a command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors in ("strict", "surrogateescape"):
            stream.reconfigure(errors="replace")


def _flush_what_is_read() -> None:
    """Flush standard output, or let it go where nobody reads it: Python would end with a code of its own, 120."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _colours() -> bool:
    return sys.stderr.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


@app.command()
def run(
    spec: SpecFile,
    resume: Annotated[
        str | None,
        typer.Option(help="go on from the last checkpoint of this run: directory, name, or latest", metavar="RUN"),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="show no task output, only progress")] = False,
    code: Annotated[Path | None, typer.Option(hidden=True, help="the entrypoint, pickled by submit()")] = None,
    archive: Annotated[str | None, typer.Option(hidden=True, help="the job's folder, packed by submit()")] = None,
    as_json: Json = False,
) -> None:
    """Run a job here: on a Ray of its own, or on the cluster of RAY_ADDRESS."""
    if archive is None:
        _run(spec, resume, quiet, code, as_json)
        return
    from cluster.kube_code import unpacked

    with unpacked(archive) as folder:
        _run(folder / spec, resume, quiet, folder / code if code else None, as_json)


def _run(spec: Path, resume: str | None, quiet: bool, code: Path | None, as_json: bool) -> None:
    from cluster.attempts import status_of
    from cluster.console import SilentConsole, make_console
    from cluster.launcher import run as run_job
    from cluster.spec import load

    job = load(spec)
    if resume is not None:
        job = job.model_copy(update={"resume": resume})
    if code is not None:
        import cloudpickle

        job = job.model_copy(update={"entrypoint": cloudpickle.loads(code.read_bytes())})
    observer = SilentConsole() if as_json else make_console(logs=not quiet)
    try:
        result = run_job(job, directory=spec.resolve().parent, observer=observer)
    except TfClusterError as error:
        if not as_json:
            raise
        print_json(
            {"status": status_of(error), "error": str(error), "exit_code": error.exit_code, "run_dir": error.run_dir}
        )
        raise SystemExit(error.exit_code) from None
    if as_json:
        print_json(vars(result))
    else:
        _show_result(result)


def _show_result(result: Result) -> None:
    from cluster.events import to_json
    from cluster.units import format_duration

    steps = f" · {result.steps} steps" if result.steps else ""  # of a script nobody knows them
    restarts = f" · {result.attempts} attempts" if result.attempts > 1 else ""
    rows = [("status", f"{result.status} in {format_duration(result.seconds)}{steps}{restarts}")]
    if result.metrics:
        rows.append(("metrics", metrics_text(result.metrics)))
    if isinstance(result.value, dict):
        rows.append(("returned", to_json(result.value)))
    rows.append(("run directory", shown(result.run_dir)))
    for name in ("checkpoints", "tensorboard", "export", "logs"):
        folder = Path(result.run_dir, name)
        if "://" in result.run_dir or (folder.is_dir() and any(folder.iterdir())):
            rows.append((f"  {name}", shown(join(result.run_dir, name))))
    print_rows([*rows, ("next", f"tfcluster logs {shown(result.run_dir)}")])


@app.command()
def plan(
    spec: SpecFile,
    as_json: Json = False,
) -> None:
    """Show what a job would take and every problem found; starts nothing, needs no TensorFlow."""
    from cluster.plan import make_plan
    from cluster.preflight import gather, local_node, nodes_from_ray
    from cluster.spec import load

    job = load(spec)
    if os.environ.get("RAY_ADDRESS"):
        from cluster.connection import connect

        with connect(job, str(spec.resolve().parent)):
            nodes, facts = nodes_from_ray(), gather(job, spec.resolve().parent, prepared=False)
    else:
        nodes, facts = [local_node()], gather(job, spec.resolve().parent, prepared=False)
    made = make_plan(job, nodes, facts)
    if as_json:
        print_json(made.to_document(), indent=2)
    else:
        _show_plan(made, spec)
    if made.errors:
        raise SystemExit(PreflightError.exit_code)


def _show_plan(made: Plan, spec: Path) -> None:
    from cluster.capacity import asked_text

    rows = []
    for task in made.tasks:
        bundle = " ".join(f"{name} {asked_text(name, amount)}" for name, amount in task.bundle.items() if amount)
        rows.append((str(task.task), f"{bundle} on {task.node or 'no node'}"))
        rows.append(("  TF_CONFIG", json.dumps(task.tf_config) if task.tf_config else "none: it trains alone"))
    print_rows(rows)
    typer.echo(f"\n{made.keras.reason}")
    for finding in made.findings:
        typer.echo(f"{finding.level}: {finding}")
    if not made.errors:
        typer.echo(f"next: tfcluster run {spec}")


@app.command()
def schema() -> None:
    """Print the JSON Schema of a spec."""
    from cluster.spec import json_schema

    typer.echo(json.dumps(json_schema(), indent=2))


app.command()(cli_jobs.submit)
app.command()(cli_jobs.stop)
app.command("list")(cli_jobs.list_jobs)
app.command()(cli_look.status)
app.command()(cli_look.logs)
app.command()(cli_report.report)
app.command()(cli_profile.profile)
app.command()(cli_watch.tensorboard)
app.command()(cli_watch.top)


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="print the version and exit")] = False,
) -> None:
    if version:
        from cluster import __version__

        typer.echo(__version__)
        raise typer.Exit
