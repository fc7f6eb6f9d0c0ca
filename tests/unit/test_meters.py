"""What a run's events say in numbers."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest

from cluster.curves import MAX_METRICS, MAX_POINTS, Curve, Curves
from cluster.events import Event, Kind
from cluster.meters import WINDOW, Meters, Pace
from cluster.tasks import Task

LEADER, OTHER, EVALUATOR = Task("worker", 0), Task("worker", 1), Task("evaluator", 0)


def meters_of(*events: Event) -> Meters:
    meters = Meters(LEADER)
    for event in events:
        meters.take(event)
    return meters


def event(kind: Kind, at: float, task: Task | None = None, attempt: int = 1, **data: Any) -> Event:
    return Event(kind, attempt, task, data, at)


def step(number: int, at: float, task: Task = LEADER, attempt: int = 1, **data: Any) -> Event:
    return event("step", at, task, attempt, step=number, metrics=data.pop("metrics", {}), **data)


def test_the_average_is_of_the_time_in_which_steps_were_made() -> None:
    meters = meters_of(
        event("attempt_started", 0),
        step(1, 100),  # the first step, which may take minutes, only begins
        step(11, 101),
        step(31, 103, batch=64),
        event("lost", 104, OTHER),
        event("restarting", 104, after=2.0),
        event("attempt_started", 110, attempt=2),
        step(21, 200, attempt=2),
        step(41, 202, attempt=2),
    )
    assert meters.pace.average == pytest.approx((30 + 20) / (3 + 2))
    assert meters.summary()["steps_per_second"] == 10.0
    assert meters.summary()["examples_per_second"] == 640.0
    assert (meters.restarts, meters.failures, meters.attempt) == (1, 1, 2)
    assert meters.restarted_at == [21]


def test_the_rate_of_the_moment_is_of_the_last_half_minute() -> None:
    pace = Pace()
    assert pace.now(0) is None
    for number in range(100):
        pace.take(number, float(number))
    for number in range(1, 41):
        pace.take(99 + 10 * number, 99.0 + number)
    assert pace.now(139.0) == pytest.approx(10.0)
    assert pace.average == pytest.approx((99 + 400) / 139)


def test_the_rate_of_the_moment_falls_when_no_step_comes() -> None:
    pace = Pace()
    for number in range(31):
        pace.take(10 * number, float(number))
    assert pace.now(33.0) == pytest.approx(10.0)
    assert pace.now(30.0 + 5 + 30) == pytest.approx(5.0)
    assert (pace.now(1e6) or 0.0) < 0.001


def test_a_job_that_reports_seldom_has_a_rate_too() -> None:
    pace = Pace()
    for number in range(4):
        pace.take(100 * number, 2 * WINDOW * number)
    assert pace.now(6 * WINDOW + 1) == pytest.approx(100 / (2 * WINDOW))


def test_only_the_leader_makes_the_pace_and_the_curves() -> None:
    meters = meters_of(
        step(1, 0, metrics={"loss": 2.0}),
        step(500, 1, OTHER, metrics={"loss": 9.0}),
        step(3, 2, metrics={"loss": 1.0, "why": "not a number"}),
        event("evaluated", 3, EVALUATOR, step=3, metrics={"loss": 1.5}),
        event("evaluated", 4, EVALUATOR, step=4, metrics={"loss": 1.25}),
    )
    assert meters.step == 3
    assert meters.pace.average == 1.0
    assert meters.metrics == {"loss": 1.0, "evaluator/loss": 1.25}
    points = meters.curves.points()
    assert points["loss"] == [(1, 2.0), (3, 1.0)]
    assert points["evaluator/loss"] == [(3, 1.5), (4, 1.25)]
    assert meters.tasks[OTHER].step == 500


def test_reading_is_weighed_by_the_time_that_it_is_of() -> None:
    meters = meters_of(
        step(1, 0, input_busy=1.0),  # of a time that nobody knows
        step(2, 1, input_busy=0.5),
        step(2, 10, OTHER, input_busy=0.2),
        step(3, 13, OTHER, input_busy=0.9),
    )
    assert meters.input_busy == pytest.approx((0.5 * 1 + 0.9 * 3) / 4)
    assert meters.tasks[OTHER].input_busy == 0.9
    assert meters_of(step(1, 0), step(2, 1)).summary()["input_busy"] is None


def test_use_is_told_by_role() -> None:
    gib = 1 << 30
    meters = meters_of(
        event("usage", 0, tasks={"worker-0": {"cpus": 1.0, "memory": gib}, "ps-0": {"cpus": 0.1, "memory": 5}}),
        event(
            "usage",
            30,
            tasks={
                "worker-0": {"cpus": 2.0, "memory": 3 * gib, "gpu": 0.5, "gpu_memory": 7},
                "worker-1": {"cpus": 3.0, "memory": 2 * gib},
            },
        ),
    )
    assert meters.summary()["usage"] == {
        "worker": {"cpus": 2.0, "memory": 3 * gib, "gpu": 0.5, "gpu_memory": 7},
        "ps": {"cpus": 0.1, "memory": 5},
    }
    assert meters.tasks[OTHER].usage == {"cpus": 3.0, "memory": 2 * gib}


def test_of_a_part_of_a_gpu_only_its_memory_is_told() -> None:
    sample = {"cpus": 1.0, "memory": 2, "gpu_memory": 7}
    meters = meters_of(event("usage", 0, tasks={"worker-0": sample}))
    assert meters.summary()["usage"] == {"worker": sample}


def test_states_of_tasks_are_those_of_this_attempt() -> None:
    meters = meters_of(
        event("attempt_started", 0),
        event("task_started", 0, LEADER),
        event("task_started", 0, OTHER),
        event("task_ready", 0, LEADER),
        event("finished", 1, LEADER),
    )
    assert meters.states() == {("worker", "finished"): 1, ("worker", "starting"): 1}
    meters.take(event("attempt_started", 2, attempt=2))
    assert meters.states() == {("worker", "waiting"): 2}


def test_what_others_wrote_into_the_events_does_not_confuse() -> None:
    meters = meters_of(
        event("notice", 0, text="x"),
        Event("of a later version", data={"x": 1}),  # type: ignore[arg-type]
        step(1, 0, metrics={"loss": "NaN"}),
        step(2, 1, metrics={"loss": "Infinity"}),
    )
    assert math.isinf(meters.metrics["loss"])
    assert "loss" not in meters.curves.points()


def test_a_curve_of_any_length_keeps_its_shape_and_its_end() -> None:
    curve = Curve()
    for number in range(100_000):
        curve.add(number, float(number % 1000))
        assert len(curve.kept) < MAX_POINTS
    points = curve.points
    assert MAX_POINTS / 2 <= len(points) <= MAX_POINTS
    assert points[0] == (0, 0.0)
    assert points[-1] == (99_999, 999.0)
    gaps = {after[0] - before[0] for before, after in itertools.pairwise(points[:-1])}
    assert gaps == {curve.stride}


def test_what_is_trained_a_second_time_replaces_what_was_there() -> None:
    curve = Curve()
    for number in (1, 2, 3, 4):
        curve.add(number, 0.0)
    for number in (3, 4, 5):
        curve.add(number, 1.0)
    assert curve.points == [(1, 0.0), (2, 0.0), (3, 1.0), (4, 1.0), (5, 1.0)]


def test_no_more_metrics_are_kept_than_fit_a_picture() -> None:
    curves = Curves()
    for number in range(3):
        curves.add(number, {f"metric {name}": 1.0 for name in range(MAX_METRICS + 10)})
    assert len(curves.points()) == MAX_METRICS
