"""Reads the logs of a run directory, local or remote: from where it is asked to, and each byte once."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cluster.errors import StorageError
from cluster.locations import join, shown
from cluster.log_lines import LevelReader, LogLine
from cluster.log_times import LogTimes
from cluster.spec_parts import ROLE_ORDER
from cluster.storage import open_filesystem

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

#: Bytes that are read of a log at once. A thousand logs are read side by side.
CHUNK = 1 << 17


@dataclass
class LogFile:
    """One task's log, read from `offset` on.

    Attributes:
        task: its name, such as `worker-0`.
        offset: of the first byte that was not read yet, in whole lines.
        times: when its lines arrived, as far as `refresh` has seen.
    """

    filesystem: FileSystem
    folder: str
    task: str
    offset: int = 0
    times: LogTimes = field(default_factory=LogTimes)
    _times_offset: int = 0
    _levels: LevelReader = field(default_factory=LevelReader)

    def refresh(self, times_size: int) -> None:
        """Read the marks that are new in its `.times`, of that size."""
        if times_size > self._times_offset:
            data = self._part(f"{self.task}.times", self._times_offset, times_size)
            whole = data.rfind(b"\n") + 1
            self.times.add(data[:whole].decode(errors="replace"))
            self._times_offset += whole

    def lines(self, size: int) -> Iterator[LogLine]:
        """The whole lines from `offset` to `size`, of which each is then read."""
        end = self.offset  # of what was fetched; the part after the last newline waits for the rest of its line
        rest = b""
        while end < size:
            data = self._part(f"{self.task}.log", end, min(size, end + CHUNK))
            if not data:
                return
            end += len(data)
            *whole, rest = (rest + data).split(b"\n")
            for line in whole:
                text = line.decode(errors="replace")
                yield LogLine(self.task, text, self.times.at(self.offset), self._levels.level(text))
                self.offset += len(line) + 1

    def skip_to_last(self, count: int, size: int) -> None:
        """Go on with the last `count` whole lines, if they begin after `offset`."""
        start, newlines = size, -1  # the newline at the very end ends the last line
        while start > self.offset:
            begin = max(self.offset, start - CHUNK)
            data = self._part(f"{self.task}.log", begin, start)
            newlines += data.count(b"\n")
            if newlines >= count:
                self.offset = begin + _after_newline(data, newlines - count)
                return
            start = begin

    def _part(self, name: str, begin: int, end: int) -> bytes:
        try:
            with self.filesystem.open_input_file(f"{self.folder}/{name}") as file:
                file.seek(min(begin, file.size()))
                data: Any = file.read(end - begin)
        except OSError as error:
            raise StorageError(f"{name} cannot be read", shown(self.folder), str(error).splitlines()[0]) from None
        return bytes(data)


def _after_newline(data: bytes, number: int) -> int:
    """Where the line begins that follows newline `number`, counted from 0."""
    position = 0
    for _ in range(number + 1):
        position = data.index(b"\n", position) + 1
    return position


class Logs:
    """The logs of the run directory `uri`.

    Args:
        uri: a path or URI.
        wanted: which tasks, by name.
    """

    def __init__(self, uri: str, wanted: Callable[[str], bool] = lambda task: True) -> None:
        self._uri, self._wanted = join(uri, "logs"), wanted
        self._filesystem, base = open_filesystem(self._uri)
        self._folder = base.rstrip("/")
        self._files: dict[str, LogFile] = {}
        self._sizes: dict[str, int] = {}

    @property
    def is_local(self) -> bool:
        """Whether they lie on a disk, where to look again costs nothing."""
        return bool(self._filesystem.type_name == "local")

    def look(self) -> list[LogFile]:
        """The logs that there are now, in the order of tasks, with their marks.

        Raises:
            StorageError: the storage does not answer.
        """
        from pyarrow import fs

        try:
            found = self._filesystem.get_file_info(fs.FileSelector(self._folder, allow_not_found=True))
        except OSError as error:
            raise StorageError("the logs cannot be listed", shown(self._uri), str(error).splitlines()[0]) from None
        self._sizes = {info.base_name: info.size or 0 for info in found}
        names = [name.removesuffix(".log") for name in self._sizes if name.endswith(".log")]
        for task in sorted(filter(self._wanted, names), key=task_order):
            file = self._files.setdefault(task, LogFile(self._filesystem, self._folder, task))
            file.refresh(self._sizes.get(f"{task}.times", 0))
        return [self._files[task] for task in sorted(self._files, key=task_order)]

    def size(self, file: LogFile) -> int:
        """Bytes of a log when it was last looked at."""
        return self._sizes.get(f"{file.task}.log", 0)

    def new_lines(
        self, keep: Callable[[LogLine], bool] = lambda line: True, tail: int | None = None
    ) -> Iterator[LogLine]:
        """What was not read yet of the logs as they were at the last `look`, in the order in which it arrived.

        Args:
            keep: which lines.
            tail: only so many of each task, the last ones.
        """
        parts = []
        for file in self._files.values():
            kept = filter(keep, file.lines(self.size(file)))
            parts.append(kept if tail is None else _last(kept, tail))
        return heapq.merge(*parts, key=lambda line: line.at or 0.0)


def _last(lines: Iterable[LogLine], count: int) -> Iterator[LogLine]:
    """The last `count` of `lines`, which are read when the first of them is asked for."""
    yield from deque(lines, maxlen=count)


def task_order(name: str) -> tuple[int, str, int]:
    """Where a task stands in tables: by role, then by number."""
    role, _, index = name.rpartition("-")
    known = [*ROLE_ORDER]
    return (known.index(role) if role in known else len(known)), role, int(index) if index.isdecimal() else 0
