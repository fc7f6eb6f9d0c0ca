"""When what happened in a run, and how that is drawn."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from cluster.events import Event
from cluster.log_folding import short_names
from cluster.picture import MOST_ALONE, MOST_ROWS, draw, tick_text
from cluster.runs import read_run
from cluster.tasks import Task
from cluster.timeline import MOST_MARKS, Timeline, read_timeline
from tests.made_runs import BEGAN, WORKERS, failed, lost, running, succeeded, thousand

FIRST, SECOND = Task("worker", 0), Task("worker", 1)


def test_a_run_that_went_well(tmp_path: Path) -> None:
    timeline = read_run(succeeded(tmp_path).uri).timeline
    (attempt,) = timeline.attempts
    assert (attempt.begin, attempt.placed, attempt.end) == (BEGAN, BEGAN + 6.0, BEGAN + 216.0)
    assert attempt.outcome == "succeeded"
    assert [(str(span.task), span.ending, span.node) for span in timeline.spans] == [
        ("worker-0", "finished", "10.0.0.1"),
        ("worker-1", "finished", "10.0.0.2"),
        ("worker-2", "finished", "10.0.0.3"),
        ("evaluator-0", "finished", "10.0.0.4"),
    ]
    assert timeline.failures() == []
    assert timeline.seconds == 216.0
    assert list(timeline.captures) == ["c1"]
    assert timeline.captures["c1"]["status"] == "done"
    assert set(timeline.use.points()) == {"worker: processors", "worker: memory, GiB"}


def test_a_lost_task_a_restart_and_a_failure(tmp_path: Path) -> None:
    timeline = read_run(failed(tmp_path).uri).timeline
    assert [attempt.outcome for attempt in timeline.attempts] == ["restarted", "failed"]
    assert [(str(span.task), span.attempt, span.ending) for span in timeline.spans] == [
        ("worker-0", 1, "stopped"),
        ("worker-1", 1, "lost"),
        ("worker-2", 1, "stopped"),
        ("worker-0", 2, "failed"),
        ("worker-1", 2, "failed"),
        ("worker-2", 2, "stopped"),
    ]
    assert timeline.spans[0].end == BEGAN + 61.2  # with the job, when it was given up
    assert [mark.kind for mark in timeline.failures()] == ["lost", "failed", "failed"]


def test_a_task_that_is_restarted_in_its_place_has_two_processes(tmp_path: Path) -> None:
    timeline = read_run(running(tmp_path).uri).timeline
    spans = [span for span in timeline.spans if span.task == FIRST]
    assert [span.ending for span in spans] == ["lost", ""]
    assert spans[1].end is None
    assert len(timeline.attempts) == 1
    assert timeline.attempts[0].end is None


def test_a_process_that_is_replaced_without_a_word_was_stopped() -> None:
    timeline = read_timeline(
        [
            Event("attempt_started", 1, at=0.0),
            Event("task_started", 1, FIRST, at=1.0),
            Event("task_started", 1, FIRST, at=5.0),
        ]
    )
    assert [(span.begin, span.end, span.ending) for span in timeline.spans] == [(1.0, 5.0, "stopped"), (5.0, None, "")]


def test_what_nobody_was_left_to_see_has_an_unknown_end(tmp_path: Path) -> None:
    timeline = read_run(lost(tmp_path).uri).timeline
    assert {span.ending for span in timeline.spans} == {"unknown"}
    assert timeline.attempts[0].outcome == "lost"
    assert all(span.end == timeline.end for span in timeline.spans)


def test_a_run_that_goes_on_lasts_until_now() -> None:
    timeline = read_timeline([Event("run_started", at=100.0)])
    timeline.finish(running=True, now=160.0)
    assert timeline.seconds == 60.0


def test_nothing_happened() -> None:
    timeline = Timeline()
    timeline.finish(running=False, now=10.0)
    picture = draw(timeline)
    assert picture.rows[0].bars == []
    assert timeline.failures() == []


def test_an_attempt_that_got_no_resources() -> None:
    timeline = read_timeline(
        [
            Event("run_started", at=100.0),
            Event("attempt_started", 1, at=100.0),
            Event("placement_failed", 1, data={"happened": "no room", "seen": "8 CPUs", "todo": "wait"}, at=700.0),
            Event("run_ended", 1, data={"status": "failed"}, at=700.0),
        ]
    )
    timeline.finish(running=False, now=601.0)
    assert [mark.text for mark in timeline.failures()] == ["no room · 8 CPUs · wait"]
    (bar,) = draw(timeline).rows[0].bars
    assert (bar.left, bar.width, bar.kind) == (0.0, 100.0, "job-placing")


# As a picture


def test_every_bar_lies_within_the_picture(tmp_path: Path) -> None:
    for make in (succeeded, failed, running, lost, thousand):
        picture = draw(read_run(make(tmp_path).uri).timeline)
        for row in picture.rows:
            assert all(bar.left >= 0 and bar.left + bar.width <= 100.01 for bar in row.bars), make
            assert all(0 <= point.left <= 100 for point in row.points), make
        assert picture.ticks[0] == (0.0, "0")
        assert 2 <= len(picture.ticks) <= 9


def test_few_tasks_have_a_row_each(tmp_path: Path) -> None:
    picture = draw(read_run(failed(tmp_path).uri).timeline)
    assert [row.label for row in picture.rows] == ["job", "checkpoints", "worker-0", "worker-1", "worker-2"]
    assert len(picture.restarts) == 1
    assert [bar.sign for bar in picture.rows[3].bars] == ["", "✕", "", "✕"]
    assert "ended by SIGKILL" in picture.rows[3].bars[1].title


def test_a_thousand_tasks_share_rows_and_the_odd_one_is_seen(tmp_path: Path) -> None:
    picture = draw(read_run(thousand(tmp_path).uri).timeline)
    labels = [row.label for row in picture.rows]
    assert labels[-1] == "worker-500"
    assert len(labels) == 5
    assert "×868" in labels[2]
    assert picture.left_out == 0


def test_of_too_many_different_tasks_those_in_trouble_are_drawn() -> None:
    count = MOST_ROWS + 30
    events = [Event("attempt_started", 1, at=0.0)]
    for index in range(count):
        events += [Event("task_started", 1, Task("worker", index), at=1.0 + attempt) for attempt in range(index + 1)]
    events.append(Event("lost", 1, Task("worker", count - 1), {"reason": "SIGKILL"}, at=99.0))
    picture = draw(read_timeline(events))
    assert picture.left_out == 30
    assert picture.rows[-1].label == f"worker-{count - 1}"


def test_as_many_tasks_as_have_room_are_not_put_together() -> None:
    events = [Event("attempt_started", 1, at=0.0)]
    events += [Event("task_started", 1, Task("worker", index), at=1.0) for index in range(MOST_ALONE)]
    assert len(draw(read_timeline(events)).rows) == 1 + MOST_ALONE


def test_a_long_run_has_no_more_marks_than_can_be_seen() -> None:
    events = [Event("checkpoint", 1, WORKERS[0], {"step": step}, at=float(step)) for step in range(1, 400)]
    row = draw(read_timeline(events)).rows[1]
    assert 60 <= len(row.points) <= 120
    assert row.points[-1].left == 100.0


def test_of_very_many_marks_the_newest_are_kept_and_the_whole_run_is_covered() -> None:
    count = 5 * MOST_MARKS
    events = [Event("run_started", at=0.0)]
    for step in range(1, count + 1):
        events.append(Event("checkpoint", 1, FIRST, {"step": step}, at=float(step)))
        events.append(Event("lost", 1, SECOND, {"reason": f"loss {step}"}, at=step + 0.5))
    timeline = read_timeline(events)
    saved = [mark for mark in timeline.marks if mark.kind == "checkpoint"]
    assert len(saved) <= 2 * MOST_MARKS
    assert saved[0].text == "checkpoint 1"
    newest = range(count - MOST_MARKS + 1, count + 1)
    assert [mark.text for mark in saved][-len(newest) :] == [f"checkpoint {step}" for step in newest]
    assert timeline.failures()[-1].text == f"loss {count}"
    assert [mark.at for mark in timeline.marks] == sorted(mark.at for mark in timeline.marks)
    row = draw(timeline).rows[1]
    gaps = [after.left - before.left for before, after in itertools.pairwise(row.points)]
    assert len(row.points) == 120
    assert max(gaps) < 2.0


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0"), (45, "45s"), (90, "90s"), (120, "2m"), (3600, "1h"), (5400, "1h30m"), (86400, "1d"), (90000, "25h")],
)
def test_ticks_are_short(seconds: int, text: str) -> None:
    assert tick_text(seconds) == text


def test_names_of_many_tasks_are_cut_at_a_comma() -> None:
    assert short_names(["worker-0", "worker-1", "worker-2"]) == "worker-0…2"
    assert short_names([f"worker-{number}" for number in range(0, 90, 3)]) == "worker-0,3,6,9,12,15,18,…"


def test_a_node_that_drains_and_the_move_are_marked() -> None:
    told = {"node": "10.0.0.7", "tasks": ["worker-1"], "seconds": 29.5}
    moves = {"after": 0.0, "reason": "node 10.0.0.7 of worker-1 is being drained"}
    timeline = read_timeline(
        [
            Event("attempt_started", 1, at=BEGAN),
            Event("node_draining", 1, data=told, at=BEGAN + 5),
            Event("restarting", 2, data=moves, at=BEGAN + 6),
        ]
    )
    assert [mark.text for mark in timeline.marks] == [
        "node 10.0.0.7 of worker-1 is being drained, 29.5s left",
        "everything restarts: node 10.0.0.7 of worker-1 is being drained",
    ]
    assert timeline.failures() == []
    assert timeline.attempts[0].outcome == "restarted"
    (job,) = [row for row in draw(timeline).rows if row.label == "job"]
    assert [point.kind for point in job.points] == ["node_draining"]
