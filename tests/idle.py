"""Waits until a reader has nothing more to do."""

from __future__ import annotations

from pipelines.reader import Reader


def until_idle(reader: Reader) -> None:
    """Until all that is being read ahead has been read; its iterations read no further."""
    for iteration in [*reader._iterations.values()]:
        if iteration._pool is not None:
            iteration._pool.shutdown(wait=True)
