"""Which runs several names mean: run directories, names of runs, `latest`, and folders of many; each run once."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cluster.errors import SpecError
from cluster.locations import join
from cluster.runs import find_run, is_run, run_names
from cluster.storage import open_filesystem

#: Runs that fit beside each other: columns of a table, and colours that can be told apart.
MOST = 12


@dataclass(frozen=True)
class Chosen:
    """Run directories in the order in which they were named, and how many older ones of folders were left out."""

    uris: tuple[str, ...]
    left_out: int = 0


def choose(names: Sequence[str], storage: str) -> Chosen:
    """The runs that `names` mean; of a folder of many the newest `MOST`.

    Args:
        names: each as `cluster.runs.find_run` takes it, or a folder or URI of run directories.
        storage: where runs are looked for by name.

    Raises:
        RunNotFoundError: one means no run.
        SpecError: they mean more runs than fit beside each other.
        StorageError: a folder cannot be listed.
    """
    found: dict[str, str] = {}
    left_out = 0
    for name in names:
        runs = _within(name)
        left_out += max(0, len(runs) - MOST)
        for uri in runs[-MOST:] or [find_run(name, storage)]:
            found.setdefault(_place(uri), uri)
    if len(found) > MOST:
        raise SpecError(f"at most {MOST} runs fit beside each other", f"{len(found)} runs", "name fewer of them")
    return Chosen(tuple(found.values()), left_out)


def _within(name: str) -> list[str]:
    """The runs in the folder `name`, the oldest first; none where it is a run itself, or no folder."""
    if name == "latest" or not ("://" in name or Path(name).is_dir()) or is_run(name):
        return []
    return [join(name, run) for run in run_names(name)]


def _place(uri: str) -> str:
    """What is the same for every way to write where a run is."""
    filesystem, path = open_filesystem(uri)
    return os.path.realpath(path) if filesystem.type_name == "local" else uri.rstrip("/")
