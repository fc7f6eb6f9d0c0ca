"""Hold a checkpoint while it is evaluated: training goes on meanwhile, and prunes those that are old."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from cluster.checkpoints import PREFIX, fetch_newest


@contextlib.contextmanager
def held(source: Path, step: int, scratch: Path) -> Iterator[str | None]:
    """The prefix of a checkpoint of the folder `source` that stays for the time of the block; None if it was pruned.

    Its files are linked in a hidden folder beside it; where the file system has no links, or lets this task write
    nothing there, they are copied below `scratch`.
    """
    with _cleared(source / ".evaluated") as beside:
        if (path := _taken(source, step, beside, os.link)) is not None:
            yield path
            return
    with _cleared(scratch / "evaluated") as apart:
        yield _taken(source, step, apart, shutil.copyfile)


@contextlib.contextmanager
def fetched(remote: str, step: int, scratch: Path) -> Iterator[str | None]:
    """Like `held`, for a run whose storage is `remote`: its checkpoints are copied anyway."""
    with _cleared(scratch / "evaluated") as apart:
        fetch_newest(remote, apart, step)
        yield _whole(apart, step)


@contextlib.contextmanager
def _cleared(folder: Path) -> Iterator[Path]:
    """A folder without what an earlier attempt, which was killed, had left; removed in the end."""
    shutil.rmtree(folder, ignore_errors=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _taken(source: Path, step: int, folder: Path, take: Callable[[Path, Path], object]) -> str | None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path in source.glob(f"{PREFIX}-{step}.*"):
            take(path, folder / path.name)
    except OSError:  # pruned in this moment, or not possible there
        return None
    return _whole(folder, step)


def _whole(folder: Path, step: int) -> str | None:
    """The prefix of checkpoint `step` in `folder`; None where one of its files is not there.

    TensorFlow names them `ckpt-7.index` and `ckpt-7.data-00000-of-00002`, the last number being how many there are.
    """
    prefix = folder / f"{PREFIX}-{step}"
    shards = [path.name for path in folder.glob(f"{prefix.name}.data-*")]
    whole = prefix.with_suffix(".index").exists() and shards and len(shards) == int(shards[0].rpartition("-")[2])
    return os.fspath(prefix) if whole else None
