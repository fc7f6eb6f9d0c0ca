"""What a task's process is told when it starts, from the plan and what has become of the job."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from cluster.launch import Launch
from cluster.plan import Plan
from cluster.spec import entrypoint_name
from cluster.tasks import Task, leader_of, trains


def make_order(
    plan: Plan,
    task: Task,
    *,
    attempt: int,
    code: bytes | None,
    directory: str,
    run_dir: str,
    secret: bytes,
    checkpoint: int | None,
) -> Launch:
    """The order of `task`; a function of the spec's travels as `code`, and is only named."""
    spec = plan.spec
    if callable(spec.entrypoint):
        spec = spec.model_copy(update={"entrypoint": entrypoint_name(spec.entrypoint)})
    return Launch(
        task=task,
        attempt=attempt,
        spec=spec,
        code=code,
        directory=directory,
        run_dir=run_dir,
        keras=plan.keras.major,
        workers=sum(trains(other.task, spec.strategy) for other in plan.tasks) or 1,
        leader=task == leader_of(tuple(other.task for other in plan.tasks)),
        secret=secret,
        checkpoint=checkpoint,
        sys_path=tuple(path for path in sys.path if path and not _installed(Path(path))),
    )


def job_folder(directory: str, shipped: str | None, landed: str) -> str:
    """The job's folder on a task's node.

    Args:
        directory: the job's folder here.
        shipped: the folder here that Ray has shipped to every node, if it has.
        landed: Ray's copy of it on that node.
    """
    if shipped is None or not Path(directory).is_relative_to(shipped):
        return directory
    return os.path.normpath(os.path.join(landed, os.path.relpath(directory, shipped)))


def _installed(folder: Path) -> bool:
    """Whether a folder of the module path belongs to Python's installation, which each node has its own of."""
    return any(part in ("site-packages", "dist-packages") for part in folder.parts) or folder.is_relative_to(
        Path(os.__file__).parent
    )
