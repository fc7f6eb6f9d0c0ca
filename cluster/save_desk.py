"""The launcher's word to tasks that are to save together, see `cluster.agreement`: whom it asks, and when again."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

from cluster.agreement import Talk
from cluster.events import Event
from cluster.tasks import Task

#: Seconds until tasks are asked again: where one comes to no stop yet, and where one has not answered.
AGAIN, PATIENCE = 1.0, 5.0


class SaveDesk:
    """Has the trainers of an attempt agree on a stop to save at.

    Args:
        leader: the task whose checkpoint counts; without it the others need not save.
        tell: sends a command to a task.
        clock: that it goes by.
    """

    def __init__(
        self,
        leader: Task,
        tell: Callable[[Task, dict[str, Any]], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._leader, self._tell, self._clock = leader, tell, clock
        self._talk: Talk | None = None
        self._round = 0  # of the last proposal; tasks pass over older ones
        self._said = 0.0

    def ask(self, tasks: Iterable[Task]) -> None:
        """Have `tasks` save as soon as they can."""
        self._say(Talk(frozenset(tasks), self._round + 1))

    def see(self, event: Event) -> None:
        """Note which tasks have ended."""
        if self._talk is None or event.kind not in ("finished", "failed", "lost") or event.task is None:
            return
        if event.task == self._leader:
            self._say(self._talk.ask(), last=True)
        else:
            self._become(self._talk.without(event.task))

    def forget(self) -> None:
        """The attempt has ended."""
        self._talk = None

    def answer(self, event: Event) -> None:
        """A task's answer."""
        if self._talk is not None and event.task is not None:
            self._become(self._talk.take(event.task, event.data["round"], event.data["passed"]))

    def tick(self) -> None:
        """Ask again where that is due; call it often."""
        if self._talk is None or self._talk.agreed:
            return
        if self._clock() - self._said > (AGAIN if self._talk.answered else PATIENCE):
            self._say(self._talk.ask())

    def _become(self, talk: Talk) -> None:
        assert self._talk is not None
        if talk.command != self._talk.command:
            self._say(talk)
        else:
            self._talk = talk

    def _say(self, talk: Talk, *, last: bool = False) -> None:
        self._talk, self._round, self._said = None if last else talk, talk.round, self._clock()
        for task in talk.tasks:
            self._tell(task, talk.command)
