"""The agreement on a stop to save at: all save there or none, and nobody waits for ever, in any order of messages."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.agreement import AHEAD, FARTHER, Promise, Talk
from cluster.tasks import Task

FIRST, SECOND, THIRD = (Task("worker", index) for index in range(3))


def talk(*tasks: Task, **more: Any) -> Talk:
    return Talk(frozenset(tasks), **more)


# The launcher's side


def test_it_first_asks_where_the_tasks_are_then_proposes_the_stop_after_the_farthest() -> None:
    said = talk(FIRST, SECOND)
    assert said.command == {"kind": "stop_proposed", "round": 1, "stop": 0}
    said = said.take(FIRST, 1, 7)
    assert said.round == 1
    said = said.take(SECOND, 1, 8)
    assert said.command == {"kind": "stop_proposed", "round": 2, "stop": 8 + AHEAD}


def test_it_agrees_when_all_have_promised() -> None:
    said = talk(FIRST, SECOND, round=2, stop=9).take(SECOND, 2, 8)
    assert not said.agreed
    said = said.take(FIRST, 2, 8)
    assert said.command == {"kind": "stop_agreed", "round": 2}


def test_a_proposal_that_came_too_late_for_one_is_made_again_farther_ahead_each_time() -> None:
    said, stops = talk(FIRST, SECOND, round=2, stop=9), []
    for passed in (9, 30, 90):
        said = said.take(FIRST, said.round, passed - 1).take(SECOND, said.round, passed)
        stops.append(said.stop - passed)
    assert stops == [AHEAD * FARTHER, AHEAD * FARTHER**2, AHEAD * FARTHER**3]
    assert said.round == 5


def test_a_task_that_comes_to_no_stop_is_asked_again_and_the_others_are_freed() -> None:
    said = talk(FIRST, SECOND).take(FIRST, 1, 3).take(SECOND, 1, None)
    assert (said.answered, said.round) == (True, 1)  # nobody has promised anything
    said = talk(FIRST, SECOND, round=2, stop=4).take(FIRST, 2, 3).take(SECOND, 2, None)
    assert said.command == {"kind": "stop_proposed", "round": 3, "stop": 0}


def test_answers_of_another_round_or_task_and_after_the_agreement_change_nothing() -> None:
    said = talk(FIRST, SECOND, round=2, stop=4)
    assert said.take(FIRST, 1, 3) == said
    assert said.take(THIRD, 2, 3) == said
    agreed = said.take(FIRST, 2, 3).take(SECOND, 2, 3)
    assert agreed.take(FIRST, 2, 9) == agreed


def test_a_task_that_has_ended_is_not_waited_for() -> None:
    said = talk(FIRST, SECOND, round=2, stop=4).take(FIRST, 2, 3)
    assert said.without(SECOND).agreed
    assert not said.without(FIRST).agreed
    assert said.without(THIRD) == said
    assert not said.without(SECOND).without(FIRST).tasks


# A task's side


def test_a_task_promises_only_what_is_before_it() -> None:
    promise = Promise(passed=5, comes=True)
    assert promise.hear(1, 5)
    assert (promise.stop, promise.answer) == (0, 5)
    assert promise.hear(2, 6)
    assert (promise.stop, promise.answer) == (6, 5)


def test_a_task_that_comes_to_no_stops_promises_nothing() -> None:
    promise = Promise(passed=5)
    assert promise.hear(1, 6)
    assert (promise.stop, promise.answer) == (0, None)


def test_it_waits_at_its_stop_until_it_hears_more() -> None:
    def at_its_stop() -> Promise:
        promise = Promise(passed=5, comes=True)
        assert promise.hear(3, 6)
        promise.passed += 1
        assert promise.waits
        return promise

    promise = at_its_stop()
    promise.agree(3)
    assert (promise.waits, promise.saves) == (False, True)
    promise = at_its_stop()
    promise.agree(2)
    assert promise.waits  # that was of another round
    assert promise.hear(4, 9)
    assert (promise.waits, promise.saves, promise.stop) == (False, False, 9)


def test_a_proposal_that_was_overtaken_is_not_answered() -> None:
    promise = Promise(passed=5, comes=True)
    assert promise.hear(3, 8)
    assert not promise.hear(2, 6)
    assert promise.stop == 8


# Both sides, with tasks that train in step


@dataclass
class World:
    """Tasks whose every step waits for all of them, a launcher, and messages that arrive whenever they like."""

    count: int
    last: int
    talk: Talk = field(init=False)
    promises: dict[Task, Promise] = field(init=False)
    entered: dict[Task, int] = field(init=False)  # steps that a task has begun
    ended: set[Task] = field(default_factory=set)
    down: list[tuple[Task, dict[str, Any]]] = field(default_factory=list)
    up: list[tuple[Task, int, int | None]] = field(default_factory=list)  # round 0: it has ended

    def __post_init__(self) -> None:
        tasks = [Task("worker", index) for index in range(self.count)]
        self.promises = {task: Promise() for task in tasks}
        self.entered = dict.fromkeys(tasks, 0)
        self.say(talk(*tasks))

    def say(self, said: Talk) -> None:
        if not hasattr(self, "talk") or said.command != self.talk.command:
            self.down += [(task, said.command) for task in said.tasks]
        self.talk = said

    def actions(self) -> list[Callable[[], None]]:
        """Everything that may happen next."""
        messages = [lambda i=i: self.hear(*self.down.pop(i)) for i in range(len(self.down))]
        messages += [lambda i=i: self.take(*self.up.pop(i)) for i in range(len(self.up))]
        return messages + self.moves()

    def moves(self) -> list[Callable[[], None]]:
        found: list[Callable[[], None]] = []
        for task, promise in self.promises.items():
            if task in self.ended:
                continue
            if self.entered[task] < promise.passed:
                if not promise.waits and not promise.saves:
                    found.append(lambda task=task: self.enter(task))  # type: ignore[misc]
            elif all(entered >= promise.passed for entered in self.entered.values()):
                found.append(lambda task=task: self.come(task))  # type: ignore[misc]
        return found

    def enter(self, task: Task) -> None:
        self.entered[task] += 1

    def come(self, task: Task) -> None:
        promise = self.promises[task]
        if promise.passed == self.last:
            promise.comes = False
            self.ended.add(task)
            self.up.append((task, 0, None))
            return
        promise.comes = True
        promise.passed += 1

    def hear(self, task: Task, command: dict[str, Any]) -> None:
        promise = self.promises[task]
        if command["kind"] == "stop_agreed":
            promise.agree(command["round"])
        elif promise.hear(command["round"], command["stop"]):
            self.up.append((task, command["round"], promise.answer))

    def take(self, task: Task, round: int, passed: int | None) -> None:
        self.say(self.talk.take(task, round, passed) if round else self.talk.without(task))

    @property
    def savers(self) -> set[int]:
        """Where tasks save."""
        return {promise.passed for promise in self.promises.values() if promise.saves}

    def check(self) -> None:
        """Nobody saves at another stop than the others, or has gone on from there."""
        assert len(self.savers) <= 1
        for stop in self.savers:
            assert max(promise.passed for promise in self.promises.values()) <= stop
            assert not self.ended

    @property
    def over(self) -> bool:
        return all(p.saves for p in self.promises.values()) or len(self.ended) == self.count


@settings(max_examples=300)
@given(st.integers(1, 4), st.integers(1, 40), st.integers(0, 300), st.integers(0, 10), st.integers())
def test_all_save_at_the_same_stop_or_end_and_nobody_waits_for_ever(
    count: int, last: int, disorder: int, impatience: int, seed: int
) -> None:
    world, chance = World(count, last), random.Random(seed)
    for _ in range(disorder):
        actions = world.actions()
        if not actions or world.over:
            break
        chance.choice(actions)()
        world.check()
        if chance.randrange(100) < impatience and not world.talk.agreed:
            world.say(world.talk.ask())  # an answer takes long
    for _ in range(20 * last):  # from now on messages are faster than steps
        if world.over:
            break
        while world.down or world.up:
            world.actions()[0]()
            world.check()
        moves = world.moves()
        for move in moves:
            move()
            world.check()
        if not moves and not world.down and not world.over:
            assert world.talk.answered
            world.say(world.talk.ask())
        elif world.talk.answered:
            world.say(world.talk.ask())
    assert world.over


@pytest.mark.parametrize("steps", [0, 1, 5, 30])
def test_they_agree_also_where_so_many_steps_are_made_while_a_message_travels(steps: int) -> None:
    world = World(3, 100_000)
    for _ in range(40):
        if world.over:
            break
        down, up, world.down, world.up = world.down, world.up, [], []
        for task, command in down:
            world.hear(task, command)
        for answer in up:
            world.take(*answer)
        for _ in range(steps * 2 * 3 or 2 * 3):
            if moves := world.moves():
                moves[0]()
            world.check()
        if not world.down and not world.up and world.talk.answered:
            world.say(world.talk.ask())
    assert world.over
    assert not world.ended
