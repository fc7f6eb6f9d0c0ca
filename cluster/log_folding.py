"""Equal lines of several tasks at about the same time become one line. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from cluster.log_lines import LogLine, plain, same_text
from cluster.spec_parts import ROLE_ORDER

#: Seconds within which equal lines are one. Times are exact to a second; tasks start a little apart.
WINDOW = 3.0
#: Longest list of tasks' names where there is little room, in characters.
_LONGEST_NAMES = 24
#: Lines that are held back at most, where they carry no time.
MOST_HELD = 20_000


@dataclass
class FoldedLine:
    """A line, and every task that wrote it."""

    first: LogLine
    tasks: list[str] = field(default_factory=list)


@dataclass
class _Alike:
    """Lines of one text that are held; the nth of one task is the nth of each other."""

    entries: deque[FoldedLine] = field(default_factory=deque)
    released: int = 0
    seen: dict[str, int] = field(default_factory=dict)  # task → how many lines of this text it has written

    def take(self, line: LogLine) -> FoldedLine | None:
        """Add `line`; returns the entry that it began, if it began one."""
        number = max(self.seen.get(line.task, 0), self.released)
        self.seen[line.task] = number + 1
        if number - self.released < len(self.entries):
            self.entries[number - self.released].tasks.append(line.task)
            return None
        self.entries.append(FoldedLine(line, [line.task]))
        return self.entries[-1]


class Folder:
    """Folds lines that come in the order of their times."""

    def __init__(self, window: float = WINDOW) -> None:
        self._window = window
        self._held: deque[FoldedLine] = deque()
        self._alike: dict[str, _Alike] = {}

    def take(self, line: LogLine) -> Iterator[FoldedLine]:
        """Take one line; yields those that no further line can join."""
        yield from self.due(line.at or 0.0)
        entry = self._alike.setdefault(same_text(line.text), _Alike()).take(line)
        if entry is not None:
            self._held.append(entry)
        if len(self._held) > MOST_HELD:
            yield self._release()

    def due(self, now: float) -> Iterator[FoldedLine]:
        """Those that are too old for a line of `now` to join."""
        while self._held and (self._held[0].first.at or 0.0) + self._window < now:
            yield self._release()

    def rest(self) -> Iterator[FoldedLine]:
        """All that are left."""
        while self._held:
            yield self._release()

    def _release(self) -> FoldedLine:
        entry = self._held.popleft()
        text = same_text(entry.first.text)
        alike = self._alike[text]
        alike.entries.popleft()  # the oldest of all is the oldest of its text
        alike.released += 1
        if not alike.entries:
            del self._alike[text]
        return entry


def names_text(tasks: Iterable[str]) -> str:
    """`worker-0…3`, `chief-0 worker-0,2,5…7`: the tasks in one word a role."""
    indexes: dict[str, list[int]] = {}
    for name in tasks:
        role, _, index = name.rpartition("-")
        indexes.setdefault(role, []).append(int(index))
    roles = sorted(indexes, key=lambda role: [*ROLE_ORDER, role].index(role))
    return " ".join(f"{role}-{_ranges(sorted(set(indexes[role])))}" for role in roles)


def short_names(names: Iterable[str]) -> str:
    """`worker-0…3,5`, and `worker-7,10,13,…` where that would be long."""
    text = names_text(names)
    return text if len(text) <= _LONGEST_NAMES else f"{text[:_LONGEST_NAMES].rpartition(',')[0]},…"


def _ranges(numbers: list[int]) -> str:
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ",".join(f"{a}" if a == b else f"{a},{b}" if b == a + 1 else f"{a}…{b}" for a, b in runs)


def tag(tasks: list[str]) -> str:
    """What stands before a line: `worker-0`, or `worker-0…7 ×8`."""
    return tasks[0] if len(tasks) == 1 else f"{names_text(tasks)} ×{len(tasks)}"


def fold(lines: Iterable[LogLine], window: float = WINDOW) -> Iterator[FoldedLine]:
    """All of `lines`, folded."""
    folder = Folder(window)
    for line in lines:
        yield from folder.take(line)
    yield from folder.rest()


def shown_text(line: FoldedLine) -> str:
    """`[worker-0…7 ×8] text`."""
    return f"[{tag(line.tasks)}] {plain(line.first.text)}"
