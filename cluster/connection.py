"""Which Ray cluster a run uses: the one it is in, the one of RAY_ADDRESS, or one of its own on this machine."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from cluster.errors import PreflightError, SpecError, StartupError
from cluster.plan import Node
from cluster.preflight import nodes_from_ray
from cluster.spec import JobSpec
from cluster.tasks import tasks_of
from cluster.tf_config import split_address


@dataclass(frozen=True)
class Connection:
    """A connected Ray.

    Attributes:
        embedded: whether this process started the cluster, and ends it.
        nodes: the cluster's nodes.
        working_dir: where Ray has put the job's code on this node, or None when it shipped none.
        job_id: submission id of the Ray job that this process belongs to, or ''.
    """

    embedded: bool
    nodes: tuple[Node, ...]
    working_dir: str | None
    job_id: str


def wants_embedded() -> bool:
    """Whether a run started now would start a Ray of its own."""
    import sys

    ray = sys.modules.get("ray")
    connected = ray is not None and ray.is_initialized()
    return not (connected or os.environ.get("RAY_ADDRESS") or os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR"))


@contextmanager
def connect(spec: JobSpec) -> Iterator[Connection]:
    """A connected Ray; an embedded one is shut down at the end, any other stays as it was.

    Raises:
        PreflightError: no Ray at the given address.
    """
    # Under `uv run` Ray would start its workers through uv again and ship the working directory with them.
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    embedded = wants_embedded()
    import ray

    ours = not ray.is_initialized()
    if embedded:
        _start(spec)
    elif ours:
        _join()
    try:
        yield Connection(embedded, tuple(nodes_from_ray()), _working_dir(), os.environ.get("RAY_JOB_SUBMISSION_ID", ""))
    finally:
        if ours:
            ray.shutdown()


def _start(spec: JobSpec) -> None:
    """A Ray of our own, on the loopback address, with as many logical CPUs as the spec asks for."""
    import ray

    asked = sum(spec.role(task.role).cpus for task in tasks_of(spec))
    settings: dict[str, Any] = {
        "address": "local",
        "num_cpus": max(os.cpu_count() or 1, int(asked + 0.999)),
        "include_dashboard": False,
        "log_to_driver": False,
        "logging_level": "ERROR",
        "_node_ip_address": "127.0.0.1",
    }
    try:
        ray.init(**settings)
    except Exception as first:  # Ray gives its node 30 s, which a busy machine may miss once
        ray.shutdown()
        try:
            ray.init(**settings)
        except Exception as error:
            raise StartupError("Ray did not start on this machine", _first_line(error), _first_line(first)) from None


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__


def _join() -> None:
    import ray

    address = os.environ.get("RAY_ADDRESS") or "auto"
    if address.startswith(("http://", "https://", "ray://")):
        raise PreflightError(
            "a run needs a node of the cluster",
            f"RAY_ADDRESS={address}",
            "submit it instead: tfcluster submit job.yaml --address http://HEAD:8265",
        )
    _knock(address)
    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise PreflightError("no Ray cluster answered", f"RAY_ADDRESS={address}", _first_line(error)) from None


def _knock(address: str) -> None:
    """Look whether anything listens at `host:port`: Ray itself would try for minutes.

    Raises:
        PreflightError: nothing does.
    """
    if address == "auto" or ":" not in address:
        return
    try:
        socket.create_connection(split_address(address), timeout=10.0).close()
    except (OSError, ValueError, SpecError) as error:
        raise PreflightError("no Ray cluster answered", f"RAY_ADDRESS={address}", _first_line(error)) from None


def _working_dir() -> str | None:
    """Ray unpacks a job's working_dir on each node and starts processes in it."""
    import ray

    return os.getcwd() if ray.get_runtime_context().runtime_env.get("working_dir") else None
