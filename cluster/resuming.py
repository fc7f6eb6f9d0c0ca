"""A run that goes on where an earlier one stopped: which one that is, and how its last checkpoint comes along."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from cluster.errors import PreflightError, StorageError
from cluster.locations import join, shown
from cluster.runs import Watch, find_run, read_result, run_names
from cluster.storage import open_filesystem, resolve

#: Whatever run of the job's name was the last, if it has not succeeded.
LATEST = "latest"
_POSITION = re.compile(r"ckpt-(\d+)\.json")
#: What TensorFlow's checkpoint manager reads; source: CheckpointState in checkpoint_state.proto.
_STATE = 'model_checkpoint_path: "ckpt-{step}"\nall_model_checkpoint_paths: "ckpt-{step}"\n'


@dataclass(frozen=True)
class Origin:
    """A checkpoint of an earlier run.

    Attributes:
        run: its run directory, a path or URI.
        step: of the checkpoint.
    """

    run: str
    step: int


def origin_of(resume: str | None, name: str, storage: str, directory: str) -> Origin | None:
    """Where a run begins whose spec says `resume`; None for a fresh start.

    Args:
        resume: a run directory, a name below `storage`, or `latest`: the newest run of the job `name` there, from
            which a fresh start follows if it succeeded, has no checkpoint, or there is none.
        name: the job's.
        storage: where its run directories are, absolute.
        directory: what a relative path is relative to.

    Raises:
        PreflightError: that run goes on, or has no checkpoint.
        RunNotFoundError, StorageError: there is no such run, or it cannot be read.
    """
    if resume is None:
        return None
    if resume == LATEST:
        return _latest(name, storage)
    beside = resolve(resume, directory)
    run = beside if os.path.isfile(join(beside, "events.jsonl")) else find_run(resume, storage)
    _check_ended(run)
    step = last_step(run)
    if step is None:
        todo = "start afresh, without resume"
        raise PreflightError("the run to resume has no checkpoint", shown(run), todo)
    return Origin(run, step)


def _latest(name: str, storage: str) -> Origin | None:
    mine = re.compile(re.escape(name) + r"-\d{8}-\d{6}-[0-9a-f]{4}")  # as `cluster.launcher` names them
    names = [found for found in run_names(storage) if mine.fullmatch(found)]
    for run in (join(storage, found) for found in reversed(names)):
        if read_result(run)[0].get("status") == "succeeded":
            return None
        step = last_step(run)
        if step is not None:  # one that ended before its first checkpoint went on from the one before it, or from none
            _check_ended(run)
            return Origin(run, step)
    return None


def _check_ended(run: str) -> None:
    """Two runs may not go on from one place. A launcher on another machine cannot be seen, and is taken for gone."""
    here = os.uname().nodename
    watch = Watch(run)
    if watch.goes_on() and watch.hostname == here:
        raise PreflightError("the run to resume still goes on", shown(run), f"tfcluster stop {shown(run)}")


def last_step(run: str) -> int | None:
    """The step of the newest complete checkpoint of a run directory, or None.

    Raises:
        StorageError: it cannot be listed.
    """
    names = _names(join(run, "checkpoints"))
    steps = [int(found[1]) for name in names if (found := _POSITION.fullmatch(name))]
    return max((step for step in steps if f"ckpt-{step}.index" in names), default=None)


def bring(origin: Origin, run: str) -> None:
    """Copy the checkpoint of `origin` into the run directory `run`, where it counts once all of it is there.

    Raises:
        StorageError: it cannot be read, or not be written.
    """
    from pyarrow import fs

    source, target = join(origin.run, "checkpoints"), join(run, "checkpoints")
    (filesystem, base), (other, place) = open_filesystem(source), open_filesystem(target)
    parts = sorted(
        (name for name in _names(source) if name.startswith(f"ckpt-{origin.step}.")), key=lambda n: n.endswith(".json")
    )
    try:
        other.create_dir(place, recursive=True)
        for name in parts:
            fs.copy_files(
                f"{base}/{name}", f"{place}/{name}", source_filesystem=filesystem, destination_filesystem=other
            )
        with other.open_output_stream(f"{place}/checkpoint") as stream:
            stream.write(_STATE.format(step=origin.step).encode())
    except OSError as error:
        todo = str(error).splitlines()[0]
        raise StorageError("the checkpoint to resume from cannot be copied", shown(source), todo) from None


def _names(folder: str) -> set[str]:
    from pyarrow import fs

    filesystem, base = open_filesystem(folder)
    try:
        found = filesystem.get_file_info(fs.FileSelector(base, allow_not_found=True))
    except OSError as error:
        raise StorageError("the storage cannot be listed", shown(folder), str(error).splitlines()[0]) from None
    return {str(info.base_name) for info in found if info.type == fs.FileType.File}
