"""Which Ray cluster a run uses: the one it is in, the one of RAY_ADDRESS, or one of its own on this machine."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from cluster.environment import EXCLUDED
from cluster.errors import PreflightError, SpecError, StartupError
from cluster.plan import Node
from cluster.preflight import nodes_from_ray
from cluster.spec import JobSpec
from cluster.storage import resolve
from cluster.tasks import tasks_of
from cluster.tf_config import split_address


@dataclass(frozen=True)
class Connection:
    """A connected Ray.

    Attributes:
        embedded: whether this process started the cluster, and ends it.
        nodes: the cluster's nodes.
        shipped: the folder on this machine that Ray copies to each node and starts processes in, or None.
        runtime_env: what supervisors must ask for themselves, because the connection did not.
        job_id: submission id of the Ray job that this process belongs to, or ''.
    """

    embedded: bool
    nodes: tuple[Node, ...]
    shipped: str | None
    runtime_env: Mapping[str, Any]
    job_id: str


def wants_embedded() -> bool:
    """Whether a run started now would start a Ray of its own."""
    import sys

    ray = sys.modules.get("ray")
    connected = ray is not None and ray.is_initialized()
    return not (connected or os.environ.get("RAY_ADDRESS") or os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR"))


@contextmanager
def connect(spec: JobSpec, directory: str) -> Iterator[Connection]:
    """A connected Ray; an embedded one is shut down at the end, any other stays as it was.

    On several machines the job's `directory` travels to each node, unless the user or the Ray job sees to it: Ray
    takes a local folder only when a process connects, so the connection is made anew with it.

    Raises:
        PreflightError: no Ray at the given address.
        StartupError: an embedded Ray did not start.
    """
    # Under `uv run` Ray would start its workers through uv again and ship the working directory with them.
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    embedded = wants_embedded()
    import ray

    ours = not ray.is_initialized()
    of_the_job = _runtime_env_of_the_job()
    runtime_env = {k: v for k, v in spec.runtime_env.items() if k not in of_the_job}
    if embedded:
        _start(spec, runtime_env)
    elif ours:
        _join(runtime_env)
        if "working_dir" not in {**runtime_env, **of_the_job} and _several_machines():
            runtime_env |= {"working_dir": directory, "excludes": excludes(spec, directory)}
            ray.shutdown()
            _join(runtime_env)
    shipped = os.getcwd() if "working_dir" in of_the_job else runtime_env.get("working_dir")
    try:
        yield Connection(
            embedded=embedded,
            nodes=tuple(nodes_from_ray()),
            shipped=shipped,
            runtime_env={} if ours else spec.runtime_env,
            job_id=os.environ.get("RAY_JOB_SUBMISSION_ID", ""),
        )
    finally:
        if ours:
            ray.shutdown()


def _runtime_env_of_the_job() -> dict[str, Any]:
    """The runtime environment of the Ray job that this process is the driver of; Ray hands it on by itself."""
    config = json.loads(os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR") or "{}")
    return dict(config.get("runtime_env") or {})


def _several_machines() -> bool:
    return len({node.address for node in nodes_from_ray()}) > 1


def excludes(spec: JobSpec, directory: str) -> list[str]:
    """What does not travel with the job's folder: caches, environments, and the job's own results."""
    relative = ".." if "://" in spec.storage else os.path.relpath(resolve(spec.storage, directory), directory)
    return [*EXCLUDED, *([] if relative.startswith("..") else [relative])]


def _start(spec: JobSpec, runtime_env: Mapping[str, Any]) -> None:
    """A Ray of our own, with as many logical CPUs as the spec asks for."""
    import ray

    asked = sum(spec.role(task.role).cpus for task in tasks_of(spec))
    settings: dict[str, Any] = {
        "address": "local",
        "num_cpus": max(os.cpu_count() or 1, int(asked + 0.999)),
        "include_dashboard": False,
        "log_to_driver": False,
        "logging_level": "ERROR",
        "runtime_env": dict(runtime_env) or None,
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


def _join(runtime_env: Mapping[str, Any]) -> None:
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
        ray.init(address=address, log_to_driver=False, logging_level="ERROR", runtime_env=dict(runtime_env) or None)
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
