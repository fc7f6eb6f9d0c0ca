"""Brings a file from a task's node to the launcher, piece by piece through its supervisor: no shared disk is needed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

#: Bytes that travel at once.
PIECE = 8 << 20


def pull(worker: Any, path: str, target: Path) -> int:
    """Copy the file `path` of a supervisor's node to the local `target`, which appears whole or not at all.

    Args:
        worker: the handle of a `cluster.supervisor.Worker`.
        path: there.
        target: here; its folder exists.

    Returns:
        Its size in bytes.

    Raises:
        OSError: it cannot be read there, or not written here.
        ray.exceptions.RayError: the supervisor is gone.
    """
    import ray

    temporary = target.with_name(f".{target.name}")
    try:
        with open(temporary, "wb") as file:
            while piece := ray.get(worker.read_file.remote(path, file.tell(), PIECE)):
                file.write(piece)
            size = file.tell()
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
    return size
