"""`submit_ray_job(spec, settings)`: a job goes to Kubernetes; and the jobs that are there."""

from __future__ import annotations

import contextlib
import secrets
import uuid
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from cluster.environment import EXCLUDED
from cluster.errors import RunNotFoundError, TfClusterError
from cluster.kube_api import Api
from cluster.kube_code import pack, place, planned, taken_back
from cluster.kube_errors import Request, taken
from cluster.kube_found import began
from cluster.kube_groups import groups_of
from cluster.kube_job import (
    SPEC_FILE,
    Code,
    check,
    config_map,
    is_of_the_job,
    job_storage,
    name_of,
    needs_config_map,
    owned,
    ray_job,
    service_account,
)  # fmt: skip
from cluster.kube_pods import JOB_FOLDER
from cluster.kube_settings import Settings
from cluster.kube_submitted import SubmittedRayJob as SubmittedRayJob
from cluster.spec import JobSpec
from cluster.travelling import added_files, command_of

Document = dict[str, Any]

#: What `submit` has made.
_MINE = "app.kubernetes.io/managed-by=tfcluster,app.kubernetes.io/component=job"


def submit_ray_job(
    job: JobSpec,
    settings: Settings,
    folder: Path,
    inside: str,
    *,
    name: str | None = None,
    api: Api | None = None,
) -> SubmittedRayJob:
    """Make a RayJob of `job`, with its code.

    Args:
        job: the spec.
        settings: of Pods and cluster.
        folder: what travels.
        inside: the folder within it that the spec's paths are relative to.
        name: of the RayJob; default: the spec's, and something unique.
        api: the connection; default: that of the settings.

    Raises:
        SpecError, PreflightError: before anything is sent.
        SubmissionError: the API server refuses, or does not answer.
        StorageError: the code cannot be uploaded.
    """
    submission = uuid.uuid4().hex
    storage = job_storage(job, settings)
    job = job.model_copy(update={"storage": storage})
    chosen = name or name_of(job, secrets.token_hex(3))
    check(chosen, job, settings)
    groups_of(job, settings)  # raises where the job has no room
    connection = api or Api(settings.context, settings.namespace)
    settings = settings.model_copy(update={"namespace": connection.namespace})
    if name is not None and connection.find("RayJob", chosen) is not None:
        raise taken(Request("create", "RayJob", chosen, connection.namespace, connection.server))
    archive = _archive(job, settings, folder, inside)
    code = _code(job, settings, inside, storage, archive)
    document = ray_job(chosen, submission, job, settings, code)
    mounted = [config_map(chosen, submission, job, settings, code)] if needs_config_map(code) else []
    account = _missing_account(connection, chosen, submission, settings)
    for each in (document, *mounted, *account):
        connection.apply(each, trial=True)  # so that nothing need be taken back of what is refused
    with taken_back(code.uri):
        if code.uri:
            place(archive, code.command, settings.code, storage)
        if settings.serviceAccount.name:  # other jobs have it too, so it goes with none of them
            _apply_all(connection, document, mounted, account)
        else:
            _apply_all(connection, document, [*mounted, *account], [])
    return SubmittedRayJob(chosen, connection.namespace, settings.context, connection)


def _archive(job: JobSpec, settings: Settings, folder: Path, inside: str) -> bytes:
    """The packed folder; nothing where the code is in the image."""
    if settings.code == "image":
        return b""
    added = {str(PurePosixPath(inside, name)): content for name, content in added_files(job).items()}
    return pack(folder, job.runtime_env.get("excludes") or list(EXCLUDED), added)


def _code(job: JobSpec, settings: Settings, inside: str, storage: str, archive: bytes) -> Code:
    """How the code travels."""
    if settings.code == "image":
        return Code(("tfcluster", "run", f"{JOB_FOLDER}/{SPEC_FILE}"))
    return planned(archive, command_of(job, inside), settings.code, storage)


def _missing_account(api: Api, job: str, submission: str, settings: Settings) -> list[Document]:
    """The service account to be made; none where the Pods take one that is there, as it is."""
    account = service_account(job, submission, settings)
    if account is None:
        return []
    found = api.find("ServiceAccount", str(account["metadata"]["name"]))
    return [account] if found is None or is_of_the_job(found, job) else []


def _apply_all(api: Api, job: Document, companions: Sequence[Document], lasting: Sequence[Document]) -> None:
    """Make what the RayJob needs before its Pods start, then the RayJob; what was made goes again when it is refused.

    Args:
        api: the connection.
        job: the RayJob.
        companions: go when the RayJob goes.
        lasting: stay.
    """
    made: list[Document] = []
    try:
        for document in (*companions, *lasting):
            api.apply(document)
            made.append(document)
        owner = api.apply(job)
    except BaseException:  # also Ctrl-C
        for document in made:
            with contextlib.suppress(TfClusterError):
                api.delete(str(document["kind"]), str(document["metadata"]["name"]))
        raise
    for document in companions:
        with contextlib.suppress(TfClusterError):  # the job is there; at worst its ConfigMap stays when it goes
            api.apply(owned(document, owner))


def find_ray_job(name: str, settings: Settings, api: Api | None = None) -> SubmittedRayJob:
    """The RayJob that `name` means: its name, the start of it, or `latest` of those that were submitted from here.

    Raises:
        RunNotFoundError: there is none, or several begin so.
        SubmissionError: see `cluster.kube_errors`.
    """
    connection = api or Api(settings.context, settings.namespace)
    if name == "latest":
        jobs = list_ray_jobs(settings, connection)
        if not jobs:
            todo = "tfcluster submit job.yaml --kubernetes makes one"
            raise RunNotFoundError("there is no job", f"namespace {connection.namespace}", todo)
        return SubmittedRayJob(jobs[0]["metadata"]["name"], connection.namespace, settings.context, connection)
    if connection.find("RayJob", name) is None:
        name = _beginning_with(name, list_ray_jobs(settings, connection), connection.namespace)
    return SubmittedRayJob(name, connection.namespace, settings.context, connection)


def _beginning_with(start: str, jobs: Sequence[Document], namespace: str) -> str:
    names = [str(job["metadata"]["name"]) for job in jobs]
    found = [name for name in names if name.startswith(start)]
    if len(found) == 1:
        return found[0]
    happened = "several jobs begin so" if found else "there is no RayJob of that name"
    todo = f"there are: {', '.join((found or names)[:8]) or 'none'}"
    raise RunNotFoundError(happened, f"{start} in namespace {namespace}", todo)


def list_ray_jobs(settings: Settings, api: Api | None = None) -> list[Document]:
    """The RayJobs that were made by `submit`, the newest first."""
    connection = api or Api(settings.context, settings.namespace)
    return sorted(connection.list("RayJob", labels=_MINE), key=began, reverse=True)
