"""How a launcher and its tasks agree on one stop at which all of them save, whatever order messages come in. Pure.

A stop is a place between two steps where a task could save; tasks that train in step come to the same ones, and count
them. The launcher proposes one that lies ahead. A task that has not come to it yet promises to wait there, and answers;
it waits until it hears that all have promised, and then saves, or hears of another proposal, and goes on. Of a proposal
that one of them cannot meet any more nobody is told but by the next one, so no task ever saves alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from cluster.tasks import Task

#: How far ahead the first proposal lies, and by how much farther each that came too late.
AHEAD, FARTHER = 1, 4


@dataclass(frozen=True)
class Talk:
    """The launcher's side.

    Attributes:
        tasks: that are to agree.
        round: of the proposal that is open; each replaces the one before it.
        stop: which is proposed, from 1; 0 only asks where the tasks are, and frees them of what they promised.
        answers: of this round, by task: how many stops it has come to, or None where it comes to none now.
        late: proposals so far that came too late.
        agreed: whether all have promised, and are told so; nothing changes that any more.
    """

    tasks: frozenset[Task]
    round: int = 1
    stop: int = 0
    answers: Mapping[Task, int | None] = field(default_factory=dict)
    late: int = 0
    agreed: bool = False

    @property
    def command(self) -> dict[str, Any]:
        """What every task is to be told, once."""
        if self.agreed:
            return {"kind": "stop_agreed", "round": self.round}
        return {"kind": "stop_proposed", "round": self.round, "stop": self.stop}

    @property
    def answered(self) -> bool:
        """Whether all have answered, and one of them comes to no stop now: it is to be asked again later."""
        return not self.agreed and len(self.answers) == len(self.tasks)

    def ask(self, stop: int = 0) -> Talk:
        """Open another round."""
        return replace(self, round=self.round + 1, stop=stop, answers={})

    def take(self, task: Task, round: int, passed: int | None) -> Talk:
        """Take an answer."""
        if self.agreed or round != self.round or task not in self.tasks:
            return self
        return replace(self, answers={**self.answers, task: passed})._judged()

    def without(self, task: Task) -> Talk:
        """Count no more on a task that has ended."""
        answers = {other: passed for other, passed in self.answers.items() if other != task}
        left = replace(self, tasks=self.tasks - {task}, answers=answers)
        return left if left == self or self.agreed or not left.tasks else left._judged()

    def _judged(self) -> Talk:
        if not self.answered:
            return self
        passed = [answer for answer in self.answers.values() if answer is not None]
        if len(passed) < len(self.tasks):
            return self.ask() if self.stop else self
        if max(passed) < self.stop:
            return replace(self, agreed=True)
        late = self.late + (self.stop > 0)
        return replace(self, late=late).ask(max(passed) + AHEAD * FARTHER**late)


@dataclass
class Promise:
    """A task's side.

    Attributes:
        passed: stops that it has come to.
        stop: at which it has promised to wait, or 0.
        round: of the newest proposal heard of.
        agreed: whether all have promised.
        comes: whether it comes to stops at all now.
    """

    passed: int = 0
    stop: int = 0
    round: int = 0
    agreed: bool = False
    comes: bool = False

    def hear(self, round: int, stop: int) -> bool:
        """Take a proposal; whether it is to be answered, as one is that no newer one has overtaken."""
        if round <= self.round:
            return False
        self.round, self.agreed = round, False
        self.stop = stop if self.comes and stop > self.passed else 0
        return True

    @property
    def answer(self) -> int | None:
        """What to answer."""
        return self.passed if self.comes else None

    def agree(self, round: int) -> None:
        """Hear that all have promised."""
        self.agreed = self.agreed or (round == self.round and self.stop > 0)

    @property
    def there(self) -> bool:
        """Whether it is at the stop of its promise."""
        return self.stop == self.passed > 0

    @property
    def waits(self) -> bool:
        """Whether it may neither save nor go on yet."""
        return self.there and not self.agreed

    @property
    def saves(self) -> bool:
        """Whether it is to save now, and to stay."""
        return self.there and self.agreed
