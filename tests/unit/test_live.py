"""How a running job is doing, from its events: states, speed, time left, restarts, use of machines."""

from __future__ import annotations

from typing import Any

import pytest

from cluster.events import Event
from cluster.live import Live, progress_text, states_text
from cluster.tasks import Task

CHIEF, FIRST, SECOND, PS = Task("chief", 0), Task("worker", 0), Task("worker", 1), Task("ps", 0)


def live(*events: Event) -> Live:
    made = Live()
    for event in events:
        made.take(event)
    return made


def placed(*tasks: Task, attempt: int = 1, at: float = 1.0) -> list[Event]:
    nodes = {str(task): f"10.0.0.{place}" for place, task in enumerate(tasks, 1)}
    return [Event("attempt_started", attempt, at=at), Event("placed", attempt, data={"nodes": nodes}, at=at)]


def step(number: int, at: float, task: Task = FIRST, **more: Any) -> Event:
    return Event("step", 1, task, {"step": number, "metrics": {}, **more}, at)


def test_a_task_goes_from_waiting_to_finished() -> None:
    seen = []
    made = Live()
    made.expect([FIRST])
    for event in (
        Event("attempt_started", 1),
        placed(FIRST)[1],
        Event("task_started", 1, FIRST),
        Event("task_ready", 1, FIRST),
        Event("finished", 1, FIRST),
    ):
        made.take(event)
        seen.append((made.phase, made.tasks[FIRST].state))
    assert seen == [
        ("placing", "waiting"), ("starting", "placed"), ("starting", "starting"), ("running", "running"),
        ("running", "finished"),
    ]  # fmt: skip
    assert made.tasks[FIRST].node == "10.0.0.1"


@pytest.mark.parametrize(("tasks", "leader"), [([SECOND, FIRST, PS], FIRST), ([FIRST, CHIEF], CHIEF)])
def test_the_leader_is_the_chief_or_worker_0(tasks: list[Task], leader: Task) -> None:
    assert live(*placed(*tasks)).leader == leader


def test_speed_and_time_left_are_of_the_leader_lately() -> None:
    made = live(*placed(FIRST, SECOND), step(10, 10.0, steps=50, epochs=4, epoch=1), step(7, 11.0, SECOND))
    assert made.rate(11.0) == 0.0
    assert made.left(11.0) is None
    made.take(step(30, 12.0, steps=50, epochs=4, epoch=1))
    assert made.rate(12.0) == pytest.approx(10.0)
    assert made.left(12.0) == pytest.approx(17.0)  # 170 of 200 steps
    assert (made.step, made.total) == (30, 200)


def test_a_loop_of_ones_own_says_how_many_steps_there_will_be() -> None:
    first = [*placed(FIRST, SECOND), step(10, 10.0), step(9, 10.5, SECOND, total=7)]
    assert live(*first).total is None  # the leader's counts
    made = live(*first, step(30, 12.0, total=230))
    assert made.total == 230
    assert made.left(12.0) == pytest.approx(20.0)


def test_what_the_function_says_stands_over_what_fit_knows() -> None:
    """As of several `fit`, or where `fit` knows its steps only when an epoch is over."""
    made = live(*placed(FIRST), step(10, 10.0, steps=50, epochs=1, total=100))
    assert made.total == 100


def test_after_a_restart_the_new_attempt_says_it_anew() -> None:
    made = live(*placed(FIRST), step(100, 10.0, total=200), step(120, 11.0, total=200), *placed(FIRST, attempt=2))
    assert made.total == 200  # until then what the one before said
    for number, at in ((110, 20.0), (120, 21.0)):
        made.take(step(number, at, total=150))
    assert made.total == 150
    assert made.left(21.0) == pytest.approx(3.0)


def test_a_job_that_stands_still_slows_down() -> None:
    made = live(*placed(FIRST), step(10, 10.0), step(20, 11.0))
    assert made.rate(12.0) == pytest.approx(10.0)
    assert made.rate(60.0) < 1.0


def test_a_run_that_is_over_has_no_speed() -> None:
    made = live(*placed(FIRST), step(10, 10.0, steps=50, epochs=4), step(20, 11.0, steps=50, epochs=4))
    made.take(Event("run_ended", 1, data={"status": "interrupted", "exit_code": 130}, at=11.5))
    assert (made.rate(12.0), made.left(12.0)) == (0.0, None)


def test_steps_that_go_back_begin_another_speed() -> None:
    made = live(*placed(FIRST), step(100, 10.0), step(120, 11.0), step(100, 60.0))
    assert made.rate(60.0) == 0.0
    made.take(step(110, 61.0))
    assert made.rate(61.0) == pytest.approx(10.0)


def test_a_restart_of_everything_forgets_where_tasks_were() -> None:
    made = live(
        *placed(FIRST, SECOND),
        Event("usage", 1, data={"tasks": {"worker-0": {"cpus": 1.5, "memory": 7}}}),
        Event("lost", 1, SECOND, {"reason": "SIGKILL"}),
    )
    assert made.tasks[FIRST].use["cpus"] == 1.5
    assert made.troubled
    made.take(Event("attempt_started", 2))
    assert [(life.state, life.node, life.use) for life in made.tasks.values()] == [("waiting", "", {})] * 2
    assert made.restarts == 1


def test_a_restart_of_one_task_is_counted_there() -> None:
    made = live(*placed(CHIEF, FIRST, PS), Event("restarting", 1, FIRST, {"reason": "lost"}))
    assert made.tasks[FIRST].restarts == made.restarts == 1
    assert made.tasks[FIRST].state == "restarting"
    assert made.phase == "starting"  # the job itself goes on


def test_states_are_counted_by_role() -> None:
    tasks = [CHIEF, *(Task("worker", index) for index in range(3)), PS]
    made = live(
        *placed(*tasks),
        *(Event("task_ready", 1, task) for task in tasks),
        Event("lost", 1, SECOND),
        Event("restarting", 1, SECOND),
    )
    assert states_text(made) == "chief 1 running · worker 1 restarting, 2 running · ps 1 running · 1 restart"


def test_tasks_in_trouble_come_first_then_the_leader() -> None:
    tasks = [FIRST, SECOND, Task("worker", 10), Task("worker", 2), PS, CHIEF]
    made = live(*placed(*tasks), Event("lost", 1, Task("worker", 10)))
    assert [str(task) for task, _ in made.in_order()] == [
        "worker-10", "chief-0", "worker-0", "worker-1", "worker-2", "ps-0",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("events", "text"),
    [
        ([step(120, 1.0)], "step 120"),
        ([step(120, 1.0, metrics={"loss": 0.123456, "mae": 1e6})], "step 120 · loss 0.1235 · mae 1e+06"),
        ([step(1, 1.0, metrics={"loss": 0.5}), step(2, 1.0)], "step 2 · loss 0.5"),
        ([step(1, 1.0, metrics={"loss": "NaN"})], "step 1 · loss nan"),  # as events.jsonl has it
        ([step(50, 1.0, epoch=2, epochs=None), step(120, 3.0, epoch=2)], "epoch 2 · step 120 · 35 steps/s"),
        (
            [step(30, 1.0, epoch=2, epochs=3, steps=100), step(120, 10.0, epoch=2, epochs=3, steps=100)],
            "epoch 2/3 · step 120 · 10 steps/s · 18.0s left",
        ),
        ([step(1, 1.0), step(3, 2.0, metrics={"loss": 0.5, "mae": 2.0})], "step 3 · 2 steps/s · loss 0.5 · mae 2"),
        ([step(0, 1.0, total=720), step(480, 11.0, total=720)], "step 480 of 720 · 48 steps/s · 5.0s left"),
        ([step(1, 1.0, epoch=1, total=9)], "epoch 1 · step 1"),
        ([step(1, 1.0, epochs=1, steps=100), step(99, 2.0, epochs=1, steps=100)], "step 99 of 100 · 98 steps/s"),
    ],
)
def test_progress_as_text(events: list[Event], text: str) -> None:
    made = live(*placed(FIRST), *events)
    assert progress_text(made, events[-1].at) == text


def test_of_steps_that_nobody_told_nothing_is_said() -> None:
    made = live(*placed(FIRST, SECOND), Event("task_ready", 1, FIRST))
    assert (made.stepped, progress_text(made, 9.0)) == (False, "")
    made.take(step(5, 3.0, SECOND))
    assert (made.stepped, progress_text(made, 9.0)) == (False, "")  # the leader's count
    made.take(step(0, 4.0))
    assert (made.stepped, progress_text(made, 9.0)) == (True, "step 0")


def test_use_of_a_task_that_is_not_of_this_job_is_passed_over() -> None:
    made = live(*placed(FIRST), Event("usage", 1, data={"tasks": {"worker-7": {"cpus": 1.0, "memory": 1}}}))
    assert list(made.tasks) == [FIRST]


@pytest.mark.parametrize(
    ("event", "phase"),
    [
        (Event("restarting", 1, data={"after": 2.0}), "restarting"),
        (Event("interrupted", 1, data={"reason": "Ctrl-C"}), "stopping"),
        (Event("run_ended", 1, data={"status": "failed", "exit_code": 10}), "failed"),
    ],
)
def test_phases(event: Event, phase: str) -> None:
    made = live(*placed(FIRST), Event("task_ready", 1, FIRST), event)
    assert made.phase == phase
    assert made.ended == (phase == "failed")
