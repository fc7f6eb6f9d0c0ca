"""Events as lines of `events.jsonl`, and back; JSON that every reader takes."""

from __future__ import annotations

import json
import math
import time
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.events import Event, Kind, to_json
from cluster.spec_parts import ROLE_ORDER
from cluster.tasks import Task

OWN = ("at", "kind", "attempt", "role", "index")
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda parts: st.lists(parts, max_size=3) | st.dictionaries(st.text(), parts, max_size=3),
    max_leaves=8,
)
EVENTS = st.builds(
    Event,
    st.sampled_from(get_args(Kind)),
    st.integers(0, 9),
    st.none() | st.builds(Task, st.sampled_from(ROLE_ORDER), st.integers(0, 2000)),
    st.dictionaries(st.text().filter(lambda name: name not in OWN), PLAIN, max_size=4),
    st.floats(0, 4e9).map(lambda seconds: round(seconds, 3)),
)


def strict(text: str) -> Any:
    """JSON by its standard: no NaN, no Infinity."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"not JSON: {constant}")

    return json.loads(text, parse_constant=refuse)


@given(EVENTS)
def test_an_event_survives_its_line(event: Event) -> None:
    line = event.to_line()
    assert line.endswith("\n")
    assert line.count("\n") == 1
    assert line.isascii()
    assert Event.from_line(line) == event


def test_a_line_reads_from_left_to_right() -> None:
    event = Event("step", 2, Task("worker", 1), {"step": 5, "metrics": {"loss": 0.5}}, at=1700000000.12345)
    assert event.to_line() == (
        '{"at": 1700000000.123, "kind": "step", "attempt": 2, "role": "worker", "index": 1, '
        '"step": 5, "metrics": {"loss": 0.5}}\n'
    )


def test_an_event_of_the_whole_job_has_no_task() -> None:
    line = Event("placed", 1, data={"nodes": {"worker-0": "10.0.0.1"}}).to_line()
    assert set(json.loads(line)) == {"at", "kind", "attempt", "nodes"}
    assert Event.from_line(line).task is None


def test_an_event_is_of_now() -> None:
    before = time.time()
    assert before <= Event("notice").at <= time.time()


def test_data_does_not_hide_whose_event_it_is() -> None:
    data = {"kind": "lost", "attempt": 7, "at": 0, "role": "ps", "index": 3, "text": "hello"}
    event = Event.from_line(Event("notice", 1, Task("worker", 0), data, at=5.0).to_line())
    assert event == Event("notice", 1, Task("worker", 0), {"text": "hello"}, at=5.0)


def test_what_json_cannot_hold_is_text() -> None:
    document = json.loads(
        Event(
            "notice",
            data={
                "path": {
                    1,
                },
                "value": complex(1, 2),
            },
        ).to_line()
    )
    assert document["path"] == "{1}"
    assert document["value"] == "(1+2j)"


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_no_number_is_still_json(number: float) -> None:
    line = Event("step", 1, Task("worker", 0), {"step": 5, "metrics": {"loss": number, "all": [number, (1, number)]}})
    metrics = strict(line.to_line())["metrics"]
    assert repr(float(metrics["loss"])) == repr(number)
    assert [repr(float(part)) for part in (metrics["all"][0], metrics["all"][1][1])] == [repr(number)] * 2


@given(PLAIN)
def test_documents_are_the_same_as_json_writes_them(document: Any) -> None:
    assert strict(to_json(document)) == json.loads(json.dumps(document))


@pytest.mark.parametrize(
    "line",
    [
        "",
        "\n",
        '{"at": 1.0, "kind": "step", "att',  # cut while it was written
        "[1, 2]",
        "[]",
        "3",
        "null",
        '"step"',
        "{}",
        '{"kind": "step", "attempt": 1}',
        '{"at": 1.0, "kind": "step", "attempt": 1, "role": "worker"}',
    ],
)
def test_what_is_not_an_event(line: str) -> None:
    with pytest.raises(ValueError, match=r"not an event|Expecting|Unterminated"):
        Event.from_line(line)
