"""Which Ray cluster a run uses: the one it is in, the one of RAY_ADDRESS, or one of its own on this machine."""

from __future__ import annotations

import functools
import json
import os
import socket
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
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
        embedded: whether this process started the cluster.
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


@dataclass
class _Opened:
    """What this process has opened itself.

    Attributes:
        address: of the cluster's control store; a Ray that the user opened later has another.
        embedded: whether this process started the cluster; it stays for the next run, and ends with the process.
        cpus: logical CPUs of an embedded one.
        inherited: environment variables and runtime environment that its workers start with.
        runs: how many runs use it now.
    """

    address: str = ""
    embedded: bool = False
    cpus: int = 0
    inherited: tuple[Mapping[str, str], Mapping[str, Any]] = ({}, {})
    runs: int = 0


_opened = _Opened()
_lock = threading.RLock()


def wants_embedded(spec: JobSpec) -> bool:
    """Whether a run of `spec` started now would start a Ray of its own: there is none yet, or none that fits."""
    if os.environ.get("RAY_ADDRESS") or os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR"):
        return False
    with _lock:
        if not _connected():
            return True
        fits = _opened.cpus >= _cpus(spec) and _opened.inherited == _inherited(spec.runtime_env)
        return _is_ours() and _opened.embedded and not _opened.runs and not fits


def _connected() -> bool:
    ray = sys.modules.get("ray")  # whoever has not imported it is not connected
    return ray is not None and ray.is_initialized()


def _is_ours() -> bool:
    """Whether the connected Ray is the one that this process has opened, and not one that the user opened since."""
    import ray

    return bool(_opened.address) and ray.get_runtime_context().gcs_address == _opened.address


def _cpus(spec: JobSpec) -> int:
    """Logical CPUs of an embedded Ray: as many as the spec asks for, or the machine has."""
    asked = sum(spec.role(task.role).cpus for task in tasks_of(spec))
    return max(os.cpu_count() or 1, int(asked + 0.999))


def _inherited(runtime_env: Mapping[str, Any]) -> tuple[Mapping[str, str], Mapping[str, Any]]:
    return {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}, dict(runtime_env)


@contextmanager
def connect(spec: JobSpec, directory: str) -> Iterator[Connection]:
    """A connected Ray, left as it was found; one that had to be started stays for the next run of this process.

    On several machines the job's `directory` travels to each node, unless the user or the Ray job sees to it: Ray
    takes a local folder only when a process connects, so the connection is made anew with it.

    Raises:
        PreflightError: no Ray at the given address.
        StartupError: an embedded Ray did not start.
    """
    # Under `uv run` Ray would start its workers through uv again and ship the working directory with them.
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    of_the_job = _runtime_env_of_the_job()
    runtime_env = {k: v for k, v in spec.runtime_env.items() if k not in of_the_job}
    with _lock:
        if wants_embedded(spec):
            _start(_cpus(spec), runtime_env)
        elif not _connected():
            runtime_env = _join(spec, directory, runtime_env, travels="working_dir" not in of_the_job)
        ours = _is_ours()
        _opened.runs += ours
        alone = ours and _opened.embedded and _opened.runs == 1
        given = ours and _opened.inherited[1] == runtime_env
    shipped = os.getcwd() if "working_dir" in of_the_job else runtime_env.get("working_dir")
    try:
        nodes = nodes_from_ray()
        if alone:  # so everything is free, also what the last run had: Ray takes a moment to see that it has ended
            nodes = [replace(node, available=node.total) for node in nodes]
        yield Connection(
            embedded=ours and _opened.embedded,
            nodes=tuple(nodes),
            shipped=shipped,
            runtime_env={} if given else spec.runtime_env,
            job_id=os.environ.get("RAY_JOB_SUBMISSION_ID", ""),
        )
    finally:
        with _lock:
            _opened.runs -= ours
            if ours and not _opened.embedded and not _opened.runs:
                _close()


def _open(embedded: bool, cpus: int, runtime_env: Mapping[str, Any], **settings: Any) -> None:
    """`ray.init`, remembered as ours."""
    import ray

    try:
        ray.init(log_to_driver=False, logging_level="ERROR", runtime_env=dict(runtime_env) or None, **settings)
        _opened.address = ray.get_runtime_context().gcs_address
    except BaseException:  # also Ctrl-C
        ray.shutdown()
        raise
    _opened.embedded, _opened.cpus, _opened.inherited = embedded, cpus, _inherited(runtime_env)


def _close() -> None:
    import ray

    ray.shutdown()
    _opened.address = ""


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


def _start(cpus: int, runtime_env: Mapping[str, Any]) -> None:
    """A Ray of our own, in the place of one that does not fit."""
    _close()
    with _apart():
        try:
            _open(True, cpus, runtime_env, address="local", num_cpus=cpus, include_dashboard=False)
        except Exception as first:  # Ray gives its node 30 s, which a busy machine may miss once
            try:
                _open(True, cpus, runtime_env, address="local", num_cpus=cpus, include_dashboard=False)
            except Exception as error:
                what = "Ray did not start on this machine"
                raise StartupError(what, _first_line(error), _first_line(first)) from None


@contextmanager
def _apart() -> Iterator[None]:
    """Have `ray.init` start a node that gets in nobody's way, for which it has no arguments.

    The dashboard agent gets a free port: by default the agents of all Rays of a machine want port 52365, and a head
    whose agent does not get it takes no jobs. The processes get sessions of their own: a signal to the launcher's
    process group, as `timeout` sends it, would end Ray before the launcher can end the run in order.
    """
    from ray._private import parameter, services

    params, popen = parameter.RayParams, services.ConsolePopen
    parameter.RayParams = functools.partial(params, dashboard_agent_listen_port=0)
    services.ConsolePopen = functools.partial(popen, start_new_session=True)
    try:
        yield
    finally:
        parameter.RayParams, services.ConsolePopen = params, popen


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__


def _join(spec: JobSpec, directory: str, runtime_env: dict[str, Any], *, travels: bool) -> dict[str, Any]:
    """Connect to the cluster of RAY_ADDRESS; returns what runs there runs with."""
    address = os.environ.get("RAY_ADDRESS") or "auto"
    if address.startswith(("http://", "https://", "ray://")):
        raise PreflightError(
            "a run needs a node of the cluster",
            f"RAY_ADDRESS={address}",
            "submit it instead: tfcluster submit job.yaml --address http://HEAD:8265",
        )
    _knock(address)
    from ray.exceptions import AuthenticationError

    try:
        _open(False, 0, runtime_env, address=address)
        if travels and "working_dir" not in runtime_env and _several_machines():
            runtime_env = {**runtime_env, "working_dir": directory, "excludes": excludes(spec, directory)}
            _close()
            _open(False, 0, runtime_env, address=address)
    except (ConnectionError, RuntimeError, ValueError, AuthenticationError) as error:
        raise unanswered(address, error, os.environ.get("RAY_AUTH_MODE", "")) from None
    return runtime_env


def unanswered(address: str, error: Exception, auth_mode: str) -> PreflightError:
    """What to tell of a cluster that `ray.init` did not come to.

    Ray itself says the same of one that refuses a token as of one that is gone: that a token is missing or wrong
    stands in lines that its libraries write to standard error only.
    """
    todo = _first_line(error)
    if isinstance(error, ConnectionError):
        given = "look whether that in RAY_AUTH_TOKEN or ~/.ray/auth_token is this cluster's"
        none = "set RAY_AUTH_MODE=token and put it into RAY_AUTH_TOKEN or ~/.ray/auth_token"
        todo += f"; if the cluster wants a token: {given if auth_mode == 'token' else none}"
    return PreflightError("no Ray cluster answered", f"RAY_ADDRESS={address}", todo)


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
