"""The launcher's word to tasks that are to save: whom it tells what, when it asks again, and when it stops asking."""

from __future__ import annotations

from typing import Any

from cluster.events import Event, Kind
from cluster.save_desk import AGAIN, PATIENCE, SaveDesk
from cluster.tasks import Task

FIRST, SECOND = Task("worker", 0), Task("worker", 1)


class Desk:
    """A desk with a clock of its own, and what it has told since one last looked."""

    def __init__(self) -> None:
        self.now = 0.0
        self.told: list[tuple[Task, dict[str, Any]]] = []
        self.desk = SaveDesk(FIRST, lambda *what: self.told.append(what), lambda: self.now)

    def answer(self, task: Task, round: int, passed: int | None) -> None:
        self.desk.answer(Event("stop_answer", 1, task, {"round": round, "passed": passed}))

    def ends(self, task: Task, kind: Kind = "finished") -> None:
        self.desk.see(Event(kind, 1, task, {"reason": "SIGKILL"}))

    def after(self, seconds: float) -> list[str]:
        self.now += seconds
        self.desk.tick()
        return self.heard()

    def heard(self) -> list[str]:
        """What was told, in words, to whom; all hear the same."""
        told, self.told = self.told, []
        return [" ".join([str(task), *map(str, command.values())]) for task, command in sorted(told, key=str)]


def asked(*tasks: Task) -> Desk:
    desk = Desk()
    desk.desk.ask(tasks)
    return desk


def test_both_are_asked_then_proposed_a_stop_then_told_that_both_promised() -> None:
    desk = asked(FIRST, SECOND)
    assert desk.heard() == ["worker-0 stop_proposed 1 0", "worker-1 stop_proposed 1 0"]
    desk.answer(FIRST, 1, 6)
    assert desk.heard() == []
    desk.answer(SECOND, 1, 6)
    assert desk.heard() == ["worker-0 stop_proposed 2 7", "worker-1 stop_proposed 2 7"]
    desk.answer(FIRST, 2, 6)
    desk.answer(SECOND, 2, 6)
    assert desk.heard() == ["worker-0 stop_agreed 2", "worker-1 stop_agreed 2"]
    assert desk.after(1000) == []


def test_a_task_that_comes_to_no_stop_yet_is_asked_again_soon_and_a_silent_one_later() -> None:
    desk = asked(FIRST)
    desk.heard()
    desk.answer(FIRST, 1, None)
    assert desk.after(AGAIN - 0.1) == []
    assert desk.after(0.2) == ["worker-0 stop_proposed 2 0"]
    assert desk.after(AGAIN + 0.1) == []
    assert desk.after(PATIENCE) == ["worker-0 stop_proposed 3 0"]


def test_the_others_are_freed_when_the_leader_has_ended() -> None:
    desk = asked(FIRST, SECOND)
    desk.heard()
    desk.ends(FIRST)
    assert desk.heard() == ["worker-0 stop_proposed 2 0", "worker-1 stop_proposed 2 0"]
    desk.answer(SECOND, 2, 6)
    assert desk.after(1000) == []


def test_another_task_that_has_ended_is_not_waited_for() -> None:
    desk = asked(FIRST, SECOND)
    desk.heard()
    desk.answer(FIRST, 1, 6)
    desk.ends(SECOND)
    assert desk.heard() == ["worker-0 stop_proposed 2 7"]


def test_rounds_go_on_in_the_next_attempt_where_nobody_is_asked_without_a_reason() -> None:
    desk = asked(FIRST)
    desk.answer(FIRST, 1, 6)
    desk.heard()
    desk.desk.forget()
    desk.answer(FIRST, 2, 6)
    desk.ends(FIRST, "lost")
    assert desk.after(1000) == []
    desk.desk.ask([FIRST])
    assert desk.heard() == ["worker-0 stop_proposed 3 0"]
