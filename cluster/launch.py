"""`Launch`: all that a task's process needs to know, sent to it when it starts."""

from __future__ import annotations

from dataclasses import dataclass

from cluster.spec import JobSpec
from cluster.tasks import Task


@dataclass(frozen=True)
class Launch:
    """One task of one attempt; pickled by the launcher, opaque to the supervisor.

    Attributes:
        task: role and index.
        attempt: counts from 1; travels with every event.
        spec: the job, its entrypoint as text.
        code: the entrypoint as cloudpickle bytes, or None when the spec names it.
        directory: the task's working directory; entrypoint, script and data are relative to it.
        run_dir: the run directory, a path or URI.
        keras: major version that the process uses, "2" (tf-keras) or "3".
        workers: number of tasks that train on shards of the data.
        leader: whether it is the task that saves checkpoints.
        secret: that the tasks of the job share; it opens what they tell each other.
        checkpoint: step of the newest checkpoint when the attempt began, or None.
        sys_path: folders to find the user's modules in, before the installed ones.
    """

    task: Task
    attempt: int
    spec: JobSpec
    code: bytes | None
    directory: str
    run_dir: str
    keras: str
    workers: int
    leader: bool
    secret: bytes
    checkpoint: int | None
    sys_path: tuple[str, ...] = ()
