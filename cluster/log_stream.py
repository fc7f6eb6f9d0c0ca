"""The lines of a run's logs that somebody wants to see, once or until the run ends."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from cluster.log_files import LogFile, Logs
from cluster.log_folding import FoldedLine, Folder
from cluster.log_lines import Level, LogLine, at_least
from cluster.runs import Watch

#: Seconds between two looks at logs that are followed: on a disk, and on a storage to which a launcher copies them.
LOCAL_SECONDS, REMOTE_SECONDS = 0.5, 5.0


@dataclass(frozen=True)
class Wanted:
    """Which lines.

    Attributes:
        tasks: names or roles; none means all.
        grep: is found in the line.
        level: at least so bad.
        since: arrived at that time or later, in seconds since the Unix epoch.
        tail: only so many of each task, the last ones.
    """

    tasks: tuple[str, ...] = ()
    grep: re.Pattern[str] | None = None
    level: Level | None = None
    since: float | None = None
    tail: int | None = None

    def task(self, name: str) -> bool:
        """Whether that task's."""
        return not self.tasks or name in self.tasks or name.rpartition("-")[0] in self.tasks

    def line(self, line: LogLine) -> bool:
        """Whether that line of such a task."""
        if self.since is not None and line.at is not None and line.at < self.since - 1.0:
            return False
        if self.level is not None and not at_least(line.level, self.level):
            return False
        return self.grep is None or self.grep.search(line.text) is not None

    @property
    def chooses(self) -> bool:
        """Whether there are lines that are not wanted."""
        return self != Wanted()

    @property
    def every_line(self) -> bool:
        """Whether a line's text does not matter, so that the last ones can be found without reading the rest."""
        return self.grep is None and self.level is None


def stream(
    uri: str, wanted: Wanted, *, follow: bool, wait: Callable[[float], None] = time.sleep
) -> Iterator[LogLine | None]:
    """The wanted lines of all tasks in the order in which they arrived; None where there is none more for now.

    Args:
        uri: the run directory.
        wanted: which lines.
        follow: go on until the run ends.
        wait: sleeps for so many seconds.

    Raises:
        StorageError: the logs cannot be read.
    """
    logs, watch = Logs(uri, wanted.task), Watch(uri)
    goes_on = follow and watch.goes_on()
    for file in logs.look():
        _skip(file, logs.size(file), wanted)
    yield from logs.new_lines(wanted.line, wanted.tail)
    while goes_on:
        yield None
        wait(LOCAL_SECONDS if logs.is_local else REMOTE_SECONDS)
        goes_on = watch.goes_on()  # before the logs, which are whole when the end is written
        logs.look()
        yield from logs.new_lines(wanted.line)


def _skip(file: LogFile, size: int, wanted: Wanted) -> None:
    """Pass over what is older than wanted, without reading it."""
    if wanted.since is not None:
        start = file.times.since(wanted.since)
        file.offset = size if start is None else min(start, size)
    if wanted.tail is not None and wanted.every_line:
        file.skip_to_last(wanted.tail, size)


def last_of_each(lines: Iterable[LogLine], count: int | None) -> list[LogLine]:
    """The last `count` of each task's lines, or all."""
    if count is None:
        return list(lines)
    kept: list[LogLine] = []
    seen: dict[str, int] = {}
    for line in reversed(list(lines)):
        seen[line.task] = seen.get(line.task, 0) + 1
        if seen[line.task] <= count:
            kept.append(line)
    return kept[::-1]


def folded(lines: Iterable[LogLine | None], *, fold: bool) -> Iterator[FoldedLine]:
    """The lines with the tasks that wrote them, equal ones of several tasks as one if `fold`."""
    folder = Folder()
    for line in lines:
        if line is None:
            yield from folder.due(time.time())
        elif fold:
            yield from folder.take(line)
        else:
            yield FoldedLine(line, [line.task])
    yield from folder.rest()
