"""How often a task reports its steps, and what goes with them."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest

from cluster.channel import Channel
from cluster.errors import SpecError
from cluster.reports import OTHERS, Reports, total_of
from pipelines.busy import reads


class Line:
    """What goes through the channel."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []

    def send(self, kind: str, **data: Any) -> None:
        assert kind == "step"
        self.sent.append(data)


@pytest.fixture
def line() -> Line:
    return Line()


def reports(line: Line, *, leader: bool = True, tasks: int = 2, batch: int | None = None) -> Reports:
    return Reports(cast(Channel, line), leader=leader, tasks=tasks, batch=lambda: batch)


def test_of_many_steps_the_first_and_the_last_are_sent(line: Line) -> None:
    found = reports(line)
    for step in range(1, 1001):
        found.keep(step, {"loss": 1 / step})
        found.flush(if_due=True)
    found.flush()
    found.flush()
    steps = [data["step"] for data in line.sent]
    assert steps[0] == 1
    assert steps[-1] == 1000
    assert len(steps) == len(set(steps)) < 100


def test_a_metric_that_is_rarely_reported_is_sent_with_the_next_step(line: Line) -> None:
    found = reports(line)
    for step in range(1, 101):
        found.keep(step, {"loss": 1 / step})
        if step == 50:
            found.keep(step, {"val_loss": 0.25})
        found.flush(if_due=True)
    found.flush()
    assert [data["metrics"]["val_loss"] for data in line.sent if "val_loss" in data["metrics"]] == [0.25]
    assert line.sent[-1]["metrics"]["loss"] == 1 / 100


def test_what_is_taken_is_of_all_reports(line: Line) -> None:
    """As of an evaluator, whose reports about one checkpoint are sent together."""
    found = reports(line)
    found.keep(3, {"loss": 0.5, "accuracy": 0.1})
    found.keep(3, {"accuracy": 0.75})
    assert found.taken() == {"loss": 0.5, "accuracy": 0.75}


def test_what_is_taken_is_not_sent(line: Line) -> None:
    found = reports(line)
    found.keep(3, {"loss": 0.5})
    assert found.taken() == {"loss": 0.5}
    assert found.taken() == {}
    found.flush()
    assert line.sent == []


@pytest.mark.parametrize(("leader", "batch", "told"), [(True, 64, 64), (True, None, None), (False, 64, None)])
def test_the_leader_tells_how_many_rows_a_step_has(
    line: Line, leader: bool, batch: int | None, told: int | None
) -> None:
    reports(line, leader=leader, batch=batch).send(1, {}, epoch=2)
    assert line.sent[0].get("batch") == told
    assert line.sent[0]["epoch"] == 2


@pytest.mark.parametrize(("leader", "told"), [(True, [None, 720, 1440]), (False, [None, None, None])])
def test_the_leader_tells_how_many_steps_there_will_be_once_it_is_said(
    line: Line, leader: bool, told: list[int | None]
) -> None:
    found = reports(line, leader=leader)
    for step, total in enumerate((None, 720, 1440), 1):
        found.total = total
        found.keep(step, {})
        found.flush()
    assert [data.get("total") for data in line.sent] == told


@pytest.mark.parametrize("value", [720, np.int64(720), np.array(720)])
def test_a_total_is_any_whole_number(value: Any) -> None:
    assert type(total_of(value)) is int
    assert total_of(value) == 720


@pytest.mark.parametrize("value", [0, -2, 720.0, np.float32(3), True, "720", None, [720], float("nan")])
def test_a_total_that_is_no_number_of_steps(value: Any) -> None:
    with pytest.raises(SpecError) as caught:
        total_of(value)
    assert str(caught.value).startswith(f"ctx.total_steps is a whole number, 1 or more · {value!r} · set it to ")


def test_a_task_that_reads_tells_how_busy_that_is(line: Line) -> None:
    found = reports(line)
    with reads:
        found.send(1, {})
    assert 0.0 < line.sent[0]["input_busy"] <= 1.0


def test_many_tasks_report_no_more_often_together_than_a_few_do(line: Line) -> None:
    assert reports(line, leader=False, tasks=OTHERS).every(0.5) == 0.5
    assert reports(line, leader=False, tasks=1000).every(0.5) == pytest.approx(0.5 * 1000 / OTHERS)
    assert reports(line, leader=True, tasks=1000).every(0.5) == 0.5
