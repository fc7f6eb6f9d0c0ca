"""What the commands of `tfcluster` share: options, how results are printed, and which run a name means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol, TextIO

import typer

from cluster.errors import SpecError

if TYPE_CHECKING:
    from cluster.kube_settings import Settings
    from cluster.ray_jobs import SubmittedJob


class RemoteJob(Protocol):
    """A job that runs elsewhere: `cluster.ray_jobs.SubmittedJob` or `cluster.kube_submitted.SubmittedRayJob`."""

    @property
    def id(self) -> str:
        """Its name there."""

    @property
    def address(self) -> str:
        """Where it is."""

    @property
    def options(self) -> str:
        """What names its cluster to a command."""

    def to_document(self) -> dict[str, Any]:
        """What names it, for a program."""

    def status(self) -> str:
        """PENDING, RUNNING, SUCCEEDED, FAILED or STOPPED."""

    def exit_code(self) -> int | None:
        """The launcher's, or None."""

    def message(self) -> str:
        """What there is to say of its state."""

    def logs(self, follow: bool = False, stream: TextIO | None = None) -> str:
        """What the launcher has written."""

    def stop(self) -> bool:
        """Ask it to end."""

    def profile(self, seconds: float = 3.0, tasks: Sequence[str] | None = None) -> dict[str, Any]:
        """Trace tasks."""

    def wait(self, timeout: float | None = None, every: float = 1.0) -> str:
        """Wait for its end."""

    def on_cluster(self) -> AbstractContextManager[SubmittedJob]:
        """The job as Ray's Job API knows it, while the context lasts."""


RunName = Annotated[str, typer.Argument(help="a run directory, the start of its name, 'latest', or a job's id")]
Address = Annotated[
    str | None,
    typer.Option(help="the Ray dashboard of a submitted job, such as http://head:8265; or RAY_API_SERVER_ADDRESS"),
]
Kubernetes = Annotated[bool, typer.Option("--kubernetes", "-k", help="the job is a RayJob on Kubernetes")]
Namespace = Annotated[str | None, typer.Option(help="on Kubernetes; default: the context's")]
Context = Annotated[str | None, typer.Option(help="of the kubeconfig; default: its current one")]
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


def say(text: str) -> None:
    """Tell a person something that is no result."""
    typer.echo(text, err=True)


def kubernetes_settings(
    kubernetes: bool,
    namespace: str | None,
    context: str | None,
    platform: Path | None = None,
    image: str | None = None,
    values: Sequence[str] = (),
) -> Settings | None:
    """The settings that the options make, the file of the platform below them; None where no option is given."""
    given = [option for option in (namespace, context, platform, image) if option is not None]
    if not kubernetes and not given and not values:
        return None
    from cluster.kube_settings import merged, parse, read_platform, with_values

    options = {"namespace": namespace, "context": context, "image": image}
    document = with_values(read_platform(platform), values)
    return parse(merged(document, {key: value for key, value in options.items() if value is not None}))


def submitted(name: str, address: str | None, settings: Settings | None = None) -> RemoteJob | None:
    """The job that `name` means, if it is one that runs elsewhere: an address was given, or Kubernetes is meant."""
    if settings is not None:
        if address is not None:
            raise SpecError("a job is in one place", f"--address {address} and --kubernetes", "leave one of them out")
        from cluster.kubernetes import find_ray_job

        return find_ray_job(name, settings)
    if address is None and not name.startswith("raysubmit_"):
        return None
    if name == "latest":
        raise SpecError("which job?", f"--address {address}", "name the job's id, as tfcluster submit printed it")
    from cluster.ray_jobs import find

    return find(name, address)
