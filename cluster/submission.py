"""`submit(spec)`: hands a job to a Ray cluster through Ray's Job API, or to Kubernetes as a RayJob."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, overload

from cluster.code_check import code_findings
from cluster.environment import EXCLUDED
from cluster.errors import PreflightError, SpecError
from cluster.kube_settings import Settings
from cluster.kubernetes import SubmittedRayJob, submit_ray_job
from cluster.ray_jobs import SubmittedJob as SubmittedJob
from cluster.ray_jobs import ask, default_address
from cluster.spec import JobSpec
from cluster.travelling import below, travelling

Spec = JobSpec | Mapping[str, Any] | str | Path
Platform = Settings | Mapping[str, Any] | str | Path | Literal[True]


@overload
def submit(
    spec: Spec, *, kubernetes: Platform, directory: str | Path | None = None, job_id: str | None = None
) -> SubmittedRayJob: ...


@overload
def submit(
    spec: Spec, *, address: str | None = None, directory: str | Path | None = None, job_id: str | None = None
) -> SubmittedJob: ...


def submit(
    spec: Spec,
    *,
    address: str | None = None,
    kubernetes: Platform | None = None,
    directory: str | Path | None = None,
    job_id: str | None = None,
) -> SubmittedJob | SubmittedRayJob:
    """Run a job on a Ray cluster, or on Kubernetes; its folder travels there, and `tfcluster run` runs on the head.

    The cluster's environment, or the image, must have ray-tfcluster installed (or the spec's `runtime_env` must
    install it).

    Args:
        spec: a `JobSpec` (its entrypoint may be a function), a mapping, or the path of a YAML or JSON file.
        address: the cluster's dashboard, such as http://head:8265; default: RAY_API_SERVER_ADDRESS.
        kubernetes: makes a RayJob instead; settings as a mapping, the path of a YAML file, or True. See
            `cluster.kube_settings`.
        directory: the folder that travels; default: the spec file's, or the current one.
        job_id: Ray's submission id, or the RayJob's name; default: one that is made.

    Raises:
        SpecError: the spec, or the settings, are wrong.
        PreflightError: the job could not run there.
        SubmissionError: nobody at the address, no valid token, no right to, or the job was refused.
        StorageError: the code could not be uploaded.
    """
    job = JobSpec.of(spec)
    if kubernetes is not None and address is not None:
        raise SpecError("a job goes to one place", f"address {address} and kubernetes", "leave one of them out")
    if "working_dir" in job.runtime_env:
        raise SpecError(
            "the spec's own folder travels with a submitted job",
            "runtime_env.working_dir",
            "remove that key, or use ray job submit",
        )
    if directory is None:
        directory = Path(spec).parent if isinstance(spec, str | Path) else Path.cwd()
    folder = Path(directory).resolve()
    if kubernetes is not None:
        settings = Settings.of(kubernetes)
        if settings.code != "image":  # else the code is not here to be looked at
            _check_code(job, folder)
        inside = str(Path(below(spec, folder)).parent) if isinstance(spec, str | Path) else "."
        return submit_ray_job(job, settings, folder, inside, name=job_id)
    _check_code(job, folder)
    return _submit_to_ray(job, spec, default_address(address), folder, job_id)


def _check_code(job: JobSpec, folder: Path) -> None:
    problems = "".join(f"\n  - {finding}" for finding in code_findings(job, folder))
    if problems:
        raise PreflightError("the job's code cannot run", str(folder), problems)


def _submit_to_ray(job: JobSpec, spec: Spec, address: str, directory: Path, job_id: str | None) -> SubmittedJob:
    with travelling(job, spec, directory) as (folder, command):
        runtime_env = {"excludes": list(EXCLUDED), **job.runtime_env, "working_dir": str(folder)}
        made = ask(
            address,
            lambda client: client.submit_job(
                entrypoint=shlex.join(command),
                submission_id=job_id,
                runtime_env=runtime_env,
                metadata={"name": job.name, "launcher": "ray-tfcluster"},
            ),
        )
    return SubmittedJob(str(made), address)
