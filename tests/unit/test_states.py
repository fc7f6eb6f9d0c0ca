"""A task's state by the events of its run, and that whoever shows one shows the same."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.events import Event, Kind
from cluster.live import Live
from cluster.meters import Meters
from cluster.run_text import run_document
from cluster.runs import summarise
from cluster.states import ENDED, State, state_after, state_at_end
from cluster.tasks import Task
from cluster.timeline import Timeline

FIRST, SECOND, PS = TASKS = (Task("worker", 0), Task("worker", 1), Task("ps", 0))
OF_TASKS: tuple[Kind, ...] = ("task_started", "task_ready", "step", "restarting", "finished", "failed", "lost")
OF_JOB: tuple[Kind, ...] = ("attempt_started", "placed", "usage", "notice", "restarting", "interrupted", "run_ended")


@pytest.mark.parametrize(
    ("kinds", "state"),
    [
        (["task_started"], "starting"),
        (["task_started", "task_ready", "step"], "running"),
        (["task_ready", "finished"], "finished"),
        (["task_ready", "lost", "restarting"], "restarting"),
        (["task_ready", "lost", "restarting", "task_started"], "starting"),
    ],
)
def test_the_states_of_one_task(kinds: list[Kind], state: State) -> None:
    now: State = "placed"
    for kind in kinds:
        now = state_after(now, Event(kind, 1, FIRST))
    assert now == state


@pytest.mark.parametrize(
    ("before", "kind", "state"),
    [
        ("running", "attempt_started", "waiting"),
        ("failed", "attempt_started", "waiting"),
        ("waiting", "placed", "placed"),
        ("running", "restarting", "stopped"),  # everything restarts, in a while
        ("lost", "restarting", "lost"),
        ("running", "run_ended", "stopped"),
        ("restarting", "run_ended", "stopped"),
        ("finished", "run_ended", "finished"),
        ("running", "interrupted", "running"),  # it is still being stopped
        ("running", "usage", "running"),
    ],
)
def test_what_the_job_does_to_its_tasks(before: State, kind: Kind, state: State) -> None:
    assert state_after(before, Event(kind, 1)) == state


def test_nobody_sees_the_end_of_a_task_whose_launcher_is_gone() -> None:
    assert state_at_end("running", seen=False) == "unknown"
    assert [state_at_end(state, seen=False) for state in ENDED] == [*ENDED]


def data(kind: str) -> dict[str, Any]:
    known: dict[str, dict[str, Any]] = {
        "placed": {"nodes": {str(task): "10.0.0.1" for task in TASKS}},
        "step": {"step": 1, "metrics": {}},
        "usage": {"tasks": {"worker-1": {"cpus": 1.0, "memory": 1}}},
        "run_ended": {"status": "failed", "exit_code": 1},
    }
    return known.get(kind, {})


EVENTS = st.one_of(
    st.builds(lambda kind, task: Event(kind, 1, task, data(kind)), st.sampled_from(OF_TASKS), st.sampled_from(TASKS)),
    st.builds(lambda kind: Event(kind, 1, None, data(kind)), st.sampled_from(OF_JOB)),
)
BEGIN = [
    Event("run_started", data={"hostname": "elsewhere"}),
    Event("attempt_started", 1),
    Event("placed", 1, None, data("placed")),
]


@given(st.lists(EVENTS, max_size=30))
def test_all_views_of_a_run_show_the_same_states(events: list[Event]) -> None:
    ends = [place for place, event in enumerate(events) if event.kind == "run_ended"]
    events = [*BEGIN, *(events[: ends[0] + 1] if ends else events)]  # after which there are none
    live, meters, timeline = Live(), Meters(FIRST), Timeline()
    for event in events:
        for view in (live, meters, timeline):
            view.take(event)
    shown = {str(task): life.state for task, life in live.tasks.items()}
    assert {str(task): meter.state for task, meter in meters.tasks.items()} == shown
    document = run_document(summarise("flights-1", events, {}), 0.0)
    assert document["tasks"] == {name: place["state"] for name, place in document["places"].items()}
    assert document["tasks"] == shown
    running = {str(span.task) for span in timeline.spans if span.end is None}
    assert not {name for name in running if shown[name] in ENDED}
