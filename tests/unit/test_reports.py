"""How often a task reports its steps, and what goes with them."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest

from cluster.channel import Channel
from cluster.errors import SpecError
from cluster.reports import OTHERS, Reports, metrics_of, step_of, total_of
from cluster.scalars import MOST_STEPS
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


@pytest.mark.parametrize(
    "value", [0.5, 1, True, np.float32(0.5), np.array(3), np.array([2.0]), float("nan"), float("inf")]
)
@pytest.mark.filterwarnings("ignore:Conversion of an array")
def test_a_metric_is_any_number(value: Any) -> None:
    found = metrics_of({"loss": value})["loss"]
    assert type(found) is float
    assert repr(found) == repr(float(value))


@pytest.mark.parametrize(
    ("value", "seen"),
    [
        (None, "None"),
        ("x", "'x'"),
        (np.ones(3), "array([1., 1., 1.])"),
        (np.ones((2, 2)), "array([[1., 1.], [1., 1.]])"),
        ([1], "[1]"),
        (1j, "1j"),
        (10**400, "1" + 98 * "0" + "…"),
        (10**5000, "int of very many digits"),
    ],
    ids=range(8),
)
def test_a_metric_that_is_no_number_is_named(value: Any, seen: str) -> None:
    with pytest.raises(SpecError) as caught:
        metrics_of({"accuracy": 0.5, "lo\nss": value})
    assert str(caught.value).startswith(
        f"a reported metric is one number that a float can hold · lo\\nss={seen} · report one value of "
    )


def test_a_metric_whose_name_breaks_lines_or_files_is_reported_under_one_that_does_not() -> None:
    assert metrics_of({"bad\udc80": 1.0, "a\nb": 2.0}) == {r"bad\udc80": 1.0, r"a\nb": 2.0}


@pytest.mark.parametrize("value", [0, 7, np.int64(7), np.array(7), 7.0, MOST_STEPS])
def test_a_step_is_any_whole_number(value: Any) -> None:
    assert type(step_of(value)) is int
    assert step_of(value) == value


@pytest.mark.parametrize("value", [-5, -1, "a", None, [1], float("nan"), float("inf"), MOST_STEPS + 1])
def test_a_step_that_is_none(value: Any) -> None:
    with pytest.raises(SpecError) as caught:
        step_of(value)
    assert str(caught.value).startswith(f"a reported step is a whole number, 0 or more · {value!r} · report the steps ")


def test_a_task_that_reads_tells_how_busy_that_is(line: Line) -> None:
    found = reports(line)
    with reads:
        found.send(1, {})
    assert 0.0 < line.sent[0]["input_busy"] <= 1.0


def test_many_tasks_report_no_more_often_together_than_a_few_do(line: Line) -> None:
    assert reports(line, leader=False, tasks=OTHERS).every(0.5) == 0.5
    assert reports(line, leader=False, tasks=1000).every(0.5) == pytest.approx(0.5 * 1000 / OTHERS)
    assert reports(line, leader=True, tasks=1000).every(0.5) == 0.5
