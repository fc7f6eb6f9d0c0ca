"""The lines of tasks in what the launcher of a submitted job has printed. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

from cluster.log_lines import LevelReader, LogLine
from cluster.spec_parts import ROLE_ORDER

#: What the launcher prints of a task, see `cluster.console.PlainConsole`.
_OF_A_TASK = re.compile(rf"\[((?:{'|'.join(ROLE_ORDER)})-\d+)\] ?(.*)")
#: Whose the other lines are.
LAUNCHER = "launcher-0"


class JobLines:
    """Takes the output in parts, as they come."""

    def __init__(self) -> None:
        self._rest = ""
        self._levels: dict[str, LevelReader] = {}

    def take(self, text: str) -> Iterator[LogLine]:
        """The lines that are whole with the next part of the output."""
        *whole, self._rest = (self._rest + text).split("\n")
        for line in whole:
            yield self._line(line)

    def rest(self) -> Iterator[LogLine]:
        """The last line, where it has no end."""
        if self._rest:
            yield self._line(self._rest)
            self._rest = ""

    def _line(self, line: str) -> LogLine:
        match = _OF_A_TASK.fullmatch(line)
        task, text = (match[1], match[2]) if match else (LAUNCHER, line)
        return LogLine(task, text, level=self._levels.setdefault(task, LevelReader()).level(text))
