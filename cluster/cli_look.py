"""`tfcluster status` and `logs`: look at a run while it goes on, and after its cluster is gone."""

from __future__ import annotations

import io
import os
import re
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Literal, TextIO, cast

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
    print_rows,
    submitted,
)  # fmt: skip
from cluster.errors import SpecError
from cluster.locations import shown
from cluster.units import parse_duration

if TYPE_CHECKING:
    from cluster.job_lines import JobLines
    from cluster.kubernetes import SubmittedRayJob
    from cluster.log_folding import FoldedLine
    from cluster.log_stream import Wanted

#: Colours of lines, and of the names before them by role.
LEVEL_COLOURS = {"warning": "yellow", "error": "red"}
ROLE_COLOURS = {"chief": "cyan", "worker": "green", "ps": "magenta", "evaluator": "yellow"}


def status(
    run: RunName = "latest",
    address: Address = None,
    kubernetes: Kubernetes = False,
    namespace: Namespace = None,
    context: Context = None,
    storage: Storage = "./runs",
    as_json: Json = False,
) -> None:
    """Say how a run is doing, or how it ended: tasks, speed, checkpoints, failures."""
    settings = kubernetes_settings(kubernetes, namespace, context)
    if settings is not None:
        from cluster.kubernetes import find_ray_job

        _show_ray_job(find_ray_job(run, settings), as_json=as_json)
        return
    job = submitted(run, address)
    if job is not None:
        document = {"id": job.id, "status": job.status(), "message": job.message()}
        if as_json:
            print_json(document)
        else:
            typer.echo(f"{job.id}: {document['status']} · {document['message']}")
            typer.echo(f"next: tfcluster {_after(str(document['status']))} {job.id} {job.options}")
        return
    from cluster.run_text import run_document, run_rows, task_lines
    from cluster.runs import find_run, read_run

    found = read_run(find_run(run, storage), every_step=False)
    if as_json:
        print_json(run_document(found, time.time()))
        return
    print_rows(run_rows(found, time.time()))
    typer.echo("\n" + "\n".join(task_lines(found)))
    if found.result.get("error"):
        typer.echo(f"\nerror: {str(found.result['error']).strip()}")
    todo = {"running": "stop", "unknown": "logs"}.get(found.status, "report")
    typer.echo(f"\nnext: tfcluster {todo} {shown(found.uri)}")


def _show_ray_job(job: SubmittedRayJob, *, as_json: bool) -> None:
    """What Kubernetes knows of a job: its state, its Pods, what keeps them, and what befell them."""
    from cluster.kube_pending import findings, state_of, troubles
    from cluster.kube_text import job_document, job_rows

    sight = job.sight()
    if as_json:
        print_json(job_document(sight))
        return
    print_rows(job_rows(sight))
    for finding in findings(sight):
        typer.echo(f"\n{finding.level}: {finding}")
    events = troubles(sight.events)
    if events:
        typer.echo("\nwarnings of the cluster:\n" + "\n".join(f"  {line}" for line in events))
    typer.echo(f"\nnext: tfcluster {_after(state_of(sight.job))} {job.id} {job.options}")


def _after(status: str) -> str:
    """The command that a person wants who has seen the status of a submitted job."""
    return {"PENDING": "logs --follow", "RUNNING": "top"}.get(status, "logs")


def logs(
    run: RunName = "latest",
    follow: Annotated[bool, typer.Option("--follow", "-f", help="go on until the run ends")] = False,
    task: Annotated[
        list[str] | None, typer.Option(help="only this task or role, such as worker-0 or ps; may be repeated")
    ] = None,
    grep: Annotated[
        str | None, typer.Option("--grep", "-e", help="only lines in which this expression is found")
    ] = None,
    level: Annotated[
        Literal["info", "warning", "error"] | None, typer.Option(help="only lines that are at least so bad")
    ] = None,
    since: Annotated[str | None, typer.Option(help="only lines that arrived so long ago or later, such as 10m")] = None,
    tail: Annotated[
        int | None, typer.Option("--tail", "-n", min=0, help="only so many lines of each task, the last ones")
    ] = None,
    fold: Annotated[
        bool, typer.Option("--fold", help="equal lines of several tasks at about the same time as one line")
    ] = False,
    address: Address = None,
    kubernetes: Kubernetes = False,
    namespace: Namespace = None,
    context: Context = None,
    storage: Storage = "./runs",
    as_json: Annotated[bool, typer.Option("--json", help="one JSON document a line")] = False,
) -> None:
    """Print the tasks' output in the order in which it arrived, each line with its task's name."""
    wanted = _wanted(task, grep, level, since, tail)
    job = submitted(run, address, kubernetes_settings(kubernetes, namespace, context))
    if job is not None:
        _print_job(job, wanted, follow=follow, fold=fold, as_json=as_json)
        return
    from cluster.log_stream import folded, stream
    from cluster.runs import find_run

    uri = find_run(run, storage)
    _refuse_unknown(uri, wanted, follow)
    lines = folded(stream(uri, wanted, follow=follow), fold=fold)
    printed = _print_lines(lines, as_json=as_json, flush=follow)
    if not printed and not as_json:
        typer.echo(f"no such lines in {shown(uri)}", err=True)


def _wanted(task: list[str] | None, grep: str | None, level: str | None, since: str | None, tail: int | None) -> Wanted:
    from cluster.log_stream import Wanted

    try:
        pattern = None if grep is None else re.compile(grep)
    except re.error as error:
        raise SpecError("--grep is no regular expression", grep, str(error)) from None
    try:
        begin = None if since is None else time.time() - parse_duration(since)
    except ValueError as error:
        raise SpecError("--since is no duration", "", str(error)) from None
    return Wanted(tuple(task or ()), pattern, level, begin, tail)  # type: ignore[arg-type]


def _refuse_unknown(uri: str, wanted: Wanted, follow: bool) -> None:
    """Say which tasks there are, if none is meant; one that is followed may be still to come."""
    from cluster.log_files import Logs
    from cluster.log_folding import names_text

    if follow or not wanted.tasks:
        return
    known = [file.task for file in Logs(uri).look()]
    unknown = [name for name in wanted.tasks if not any(name in (task, task.rpartition("-")[0]) for task in known)]
    if unknown:
        raise SpecError("no such task has a log", ", ".join(unknown), f"there are: {names_text(known) or 'none yet'}")


def _print_job(job: RemoteJob, wanted: Wanted, *, follow: bool, fold: bool, as_json: bool) -> None:
    """Print what a job's launcher has printed: all of it as it is, or the wanted lines of its tasks."""
    if wanted.since is not None:
        todo = "leave --since out, or name the run directory, which the job's first lines tell"
        raise SpecError("when a submitted job's lines arrived is not known here", job.id, todo)
    if follow and wanted.tail is not None:
        raise SpecError("a submitted job is followed from its start", "--tail", "leave --tail out, or --follow")
    if not wanted.chooses and not fold and not as_json:
        text = job.logs(follow=follow)
        if not follow:
            typer.echo(text, nl=False)
        if not follow and not text:
            typer.echo(f"{job.id} has written nothing yet: tfcluster status {job.id} {job.options} says more", err=True)
        return
    from cluster.job_lines import JobLines
    from cluster.log_stream import folded, last_of_each

    lines = JobLines()
    if follow:
        job.logs(follow=True, stream=cast(TextIO, _Chosen(lines, wanted, fold=fold, as_json=as_json)))
        return
    found = [line for line in (*lines.take(job.logs()), *lines.rest()) if wanted.task(line.task) and wanted.line(line)]
    _print_lines(folded(last_of_each(found, wanted.tail), fold=fold), as_json=as_json, flush=False)


class _Chosen(io.TextIOBase):
    """Prints the wanted lines of what is written to it."""

    def __init__(self, lines: JobLines, wanted: Wanted, *, fold: bool, as_json: bool) -> None:
        self._lines, self._wanted, self._fold, self._as_json = lines, wanted, fold, as_json

    def write(self, text: str) -> int:
        from cluster.log_stream import folded

        found = (line for line in self._lines.take(text) if self._wanted.task(line.task) and self._wanted.line(line))
        _print_lines(folded(found, fold=self._fold), as_json=self._as_json, flush=True)
        return len(text)


def _print_lines(lines: Iterator[FoldedLine], *, as_json: bool, flush: bool) -> int:
    """Print them as they come; returns how many they were."""
    from cluster.log_folding import shown_text

    count, colours = 0, _colours()
    for line in lines:
        count += 1
        text = _json_line(line) if as_json else _coloured(line) if colours else shown_text(line)
        print(text, flush=flush)  # typer's echo always flushes: a hundred thousand lines would take seconds more
    return count


def _json_line(line: FoldedLine) -> str:
    from cluster.events import to_json

    first = line.first
    return to_json({"tasks": line.tasks, "at": first.at, "level": first.level, "text": first.text})


def _coloured(line: FoldedLine) -> str:
    from cluster.log_folding import tag
    from cluster.log_lines import plain

    name = typer.style(f"[{tag(line.tasks)}]", fg=ROLE_COLOURS.get(line.tasks[0].rpartition("-")[0]))
    return f"{name} {typer.style(plain(line.first.text), fg=LEVEL_COLOURS.get(line.first.level or ''))}"


def _colours() -> bool:
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
