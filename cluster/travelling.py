"""What travels with a submitted job: the folder, and the command that runs in it."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from cluster.environment import EXCLUDED
from cluster.errors import SpecError
from cluster.spec import JobSpec

#: Names of the files that are added to a folder: the spec, and a function.
SPEC_FILE, CODE_FILE = "tfcluster-job.json", "tfcluster-entrypoint.pkl"


def added_files(job: JobSpec) -> dict[str, bytes]:
    """What a folder must hold beside the user's files, so that the job can run from it."""
    document = job.to_document()
    if not callable(job.entrypoint):
        return {SPEC_FILE: json.dumps(document).encode()}
    import cloudpickle

    document["entrypoint"] = "pickled:entrypoint"  # the real name, such as f.<locals>.g, may not be one to import
    return {SPEC_FILE: json.dumps(document).encode(), CODE_FILE: cloudpickle.dumps(job.entrypoint)}


def command_of(job: JobSpec, inside: str = ".") -> list[str]:
    """The command that runs the added files, which lie in the folder `inside`."""
    spec, code = (str(PurePosixPath(inside, name)) for name in (SPEC_FILE, CODE_FILE))
    return ["tfcluster", "run", spec, *(["--code", code] if callable(job.entrypoint) else [])]


@contextmanager
def travelling(job: JobSpec, spec: object, directory: Path) -> Iterator[tuple[Path, list[str]]]:
    """The folder to ship and the command to run in it; a copy where files must be added to it."""
    if isinstance(spec, str | Path):
        yield directory, ["tfcluster", "run", below(spec, directory)]
        return
    with tempfile.TemporaryDirectory(prefix="tfcluster-submit-") as staging:
        copy = Path(staging, "job")
        shutil.copytree(directory, copy, ignore=shutil.ignore_patterns(*EXCLUDED), symlinks=True)
        for name, content in added_files(job).items():
            (copy / name).write_bytes(content)
        yield copy, command_of(job)


def below(spec: str | Path, directory: Path) -> str:
    """The spec file's path in the folder that travels.

    Raises:
        SpecError: it lies outside.
    """
    file = Path(spec).resolve()
    if not file.is_relative_to(directory):
        raise SpecError("the spec lies outside the folder that travels", file, f"put it below {directory}")
    return str(file.relative_to(directory))
