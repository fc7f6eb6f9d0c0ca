"""When a run directory is copied to remote storage."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.copying import EVERY, TIMES, Copying, pause_after
from cluster.errors import StorageError
from cluster.storage import RunDirectory


@pytest.mark.parametrize(
    ("took", "pause"), [(0.0, EVERY), (0.5, EVERY), (EVERY / TIMES, EVERY), (9.0, 180.0), (60.0, 1200.0)]
)
def test_no_more_than_a_twentieth_of_the_time_goes_into_copying(took: float, pause: float) -> None:
    assert pause_after(took) == pause


class Slow(RunDirectory):
    """A run directory whose copies take as long as the test says, on a clock of its own."""

    def __init__(self, folder: Path) -> None:
        super().__init__(str(folder))
        self.time, self.takes, self.copies, self.refuses = 0.0, 0.0, 0, False

    def clock(self) -> float:
        return self.time

    def upload(self) -> None:
        self.time += self.takes
        self.copies += 1
        if self.refuses:
            raise StorageError("a file could not be stored", "events.jsonl", "no answer")


def test_after_a_long_copy_the_next_is_later(tmp_path: Path) -> None:
    directory, told = Slow(tmp_path), list[str]()
    copying = Copying(directory, told.append, directory.clock)
    copying.if_due()
    assert directory.copies == 0
    directory.time, directory.takes = EVERY, 9.0
    copying.if_due()
    assert directory.copies == 1
    directory.time += 179.0
    copying.if_due()
    assert directory.copies == 1
    copying.now()  # asked for
    assert directory.copies == 2
    directory.time += 180.0
    directory.refuses = True
    copying.if_due()
    assert directory.copies == 3
    assert told == ["not uploaded yet: a file could not be stored · events.jsonl · no answer"]
