"""What the commands of `tfcluster` share: options, how results are printed, and which run a name means."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from cluster.errors import SpecError

if TYPE_CHECKING:
    from cluster.submission import SubmittedJob

RunName = Annotated[str, typer.Argument(help="a run directory, the start of its name, 'latest', or a Ray job's id")]
Address = Annotated[
    str | None,
    typer.Option(help="the Ray dashboard of a submitted job, such as http://head:8265; or RAY_API_SERVER_ADDRESS"),
]
Storage = Annotated[str, typer.Option(help="where run directories are")]
Json = Annotated[bool, typer.Option("--json", help="print one JSON document")]


def print_json(document: object, indent: int | None = None) -> None:
    """Print a document for a program."""
    from cluster.events import to_json

    typer.echo(to_json(document, indent))


def metrics_text(metrics: Mapping[str, float]) -> str:
    """`loss 0.25 · mae 0.1`."""
    return " · ".join(f"{name} {value:.5g}" for name, value in metrics.items())


def print_rows(rows: list[tuple[str, str]]) -> None:
    """Names and values in two columns; values are not cut, so that paths can be copied."""
    width = max(len(name) for name, _ in rows)
    typer.echo("")
    for name, value in rows:
        typer.echo(f"{name:<{width}}  {value}")


def submitted(name: str, address: str | None) -> SubmittedJob | None:
    """The Ray job that `name` means, if it means one: an address was given, or it looks like Ray's ids."""
    if address is None and not name.startswith("raysubmit_"):
        return None
    if name == "latest":
        raise SpecError("which job?", f"--address {address}", "name the job's id, as tfcluster submit printed it")
    from cluster.submission import find

    return find(name, address)
