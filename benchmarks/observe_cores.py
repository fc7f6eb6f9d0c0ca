"""One core for the tasks of a run, and the others for all else of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def first_core_free() -> Iterator[int | None]:
    """Keep this process, and those it starts, off the first core; that one's number, or None if there is no other."""
    first, *others = sorted(os.sched_getaffinity(0))
    if not others:
        yield None
        return
    os.sched_setaffinity(0, others)
    try:
        yield first
    finally:
        os.sched_setaffinity(0, [first, *others])


def keep_to(core: int | None) -> None:
    """Run this thread, and those that it starts, on `core` only, unless that is None."""
    if core is not None:
        os.sched_setaffinity(0, [core])
