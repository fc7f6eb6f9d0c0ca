"""Looking for nodes that are being drained: only the gang's, once an attempt, not too often, and Ray may be away."""

from __future__ import annotations

import time

import pytest

from cluster.drains import EVERY, LATER, Drains
from cluster.supervisor import Landing
from cluster.tasks import Task
from cluster.workers import Gang


def gang(**nodes: str) -> Gang:
    """A gang whose tasks `worker_0`, … are on these nodes."""
    tasks = {Task("worker", int(name.rpartition("_")[2])): node for name, node in nodes.items()}
    landings = {task: Landing(node, 1, node, "/", (), 1) for task, node in tasks.items()}
    return Gang(None, {}, {}, landings, {node: f"10.0.0.{node}" for node in nodes.values()}, {})


class Look:
    """Drains over a Ray whose answers a test sets."""

    def __init__(self) -> None:
        self.now, self.looks = 100.0, 0
        self.answer: dict[str, float | None] | Exception = {}
        self.drains = Drains(self.look, lambda: self.now)

    def look(self) -> dict[str, float | None]:
        self.looks += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def after(self, seconds: float, gang: Gang | None, attempt: int = 1) -> list[tuple[object, ...]]:
        self.now += seconds
        return [(event.attempt, *event.data.values()) for event in self.drains.news(gang, attempt)]


TWO = gang(worker_0="1", worker_1="2", worker_2="2")


def test_a_node_of_the_gang_is_told_of_once_an_attempt() -> None:
    ray = Look()
    ray.answer = {"2": None, "7": None}
    assert ray.after(0, TWO) == [(1, "10.0.0.2", ["worker-1", "worker-2"], None)]
    assert ray.after(EVERY, TWO) == []
    ray.answer = {"2": None, "1": None}
    assert ray.after(EVERY, TWO) == [(1, "10.0.0.1", ["worker-0"], None)]
    assert ray.after(EVERY, TWO, 2) == [
        (2, "10.0.0.2", ["worker-1", "worker-2"], None),
        (2, "10.0.0.1", ["worker-0"], None),
    ]


@pytest.mark.parametrize(("ends", "seconds"), [(30.0, 30.0), (-5.0, 0.0)])
def test_the_time_that_is_left(ends: float, seconds: float) -> None:
    ray = Look()
    ray.answer = {"1": time.time() + ends}
    ((*_, left),) = ray.after(0, TWO)
    assert left == pytest.approx(seconds, abs=5)


def test_it_does_not_look_too_often_nor_where_nothing_is_placed() -> None:
    ray = Look()
    assert ray.after(0, None) == []
    assert ray.looks == 0
    for _ in range(10):
        ray.after(EVERY / 4, TWO)
    assert ray.looks == 3


def test_a_ray_that_does_not_answer_is_asked_again_later() -> None:
    ray = Look()
    ray.answer = RuntimeError("Deadline Exceeded")
    assert ray.after(0, TWO) == []
    ray.answer = {"1": None}
    assert ray.after(LATER / 2, TWO) == []
    assert ray.after(LATER / 2, TWO) == [(1, "10.0.0.1", ["worker-0"], None)]
