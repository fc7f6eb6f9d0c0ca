"""The rules of a job's life: a table of single events, stories of several, and any order of them at all."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.errors import (
    HangError,
    InterruptedRunError,
    PlacementError,
    StartupError,
    TfClusterError,
)
from cluster.events import Event, Kind
from cluster.lifecycle import (
    SETTLE_SECONDS,
    Action,
    Drain,
    End,
    Finish,
    Move,
    Place,
    Release,
    Restart,
    Save,
    Start,
    State,
    Wake,
    begin,
    group_failures,
    step,
)
from cluster.spec import JobSpec, parse
from cluster.tasks import Task, tasks_of

ALL = {"chief": 1, "worker": 2, "ps": 1, "evaluator": 1}
FUNCTION: dict[str, Any] = {"entrypoint": "train.py:train"}
SCRIPT: dict[str, Any] = {"script": ["train.py"]}
KINDS: dict[str, dict[str, Any]] = {
    "none": {**FUNCTION, "strategy": "none", "roles": {"worker": 1, "evaluator": 1}},
    "mirrored": {**FUNCTION, "strategy": "mirrored", "roles": {"worker": 1, "evaluator": 1}},
    "multi worker": {**FUNCTION, "strategy": "multi_worker_mirrored", "roles": {"worker": 2, "evaluator": 1}},
    "with chief": {
        **FUNCTION,
        "strategy": "multi_worker_mirrored",
        "roles": {"chief": 1, "worker": 2, "evaluator": 1},
    },
    "multi worker script": {**SCRIPT, "strategy": "multi_worker_mirrored", "roles": {"worker": 2, "evaluator": 1}},
    "ps function": {**FUNCTION, "strategy": "parameter_server", "roles": ALL},
    "ps script": {**SCRIPT, "strategy": "parameter_server", "roles": ALL},
    "custom": {**FUNCTION, "strategy": "custom", "roles": ALL},
    "custom script": {**SCRIPT, "strategy": "custom", "roles": ALL},
}


def spec_of(kind: str = "multi worker", **more: Any) -> JobSpec:
    document = {**KINDS[kind], **more}
    document["roles"] = {**KINDS[kind]["roles"], **more.get("roles", {})}
    return parse(document)


def task_of(name: str) -> Task:
    role, index = name.split("-")
    return Task(role, int(index))  # type: ignore[arg-type]


def event_of(words: str, attempt: int = 1) -> Event:
    """`lost worker-1`, `node lost worker-1`, `draining ps-0`, `failed worker-0 KeyError`, `checkpoint 7`, `settled`."""
    match words.split():
        case ["node", "lost", name]:
            return Event("lost", attempt, task_of(name), {"reason": "its node was lost", "node_alive": False})
        case ["lost", name]:
            return Event("lost", attempt, task_of(name), {"reason": "its process was ended by SIGKILL"})
        case ["failed", name, *kind]:
            told = {"type": (kind or ["ValueError"])[0], "message": "too large", "traceback": "Traceback …"}
            return Event("failed", attempt, task_of(name), {**told, "peer": False})
        case ["unreachable", name]:
            why: dict[str, Any] = {"type": "UnreachableDataError", "message": "no data · x.parquet", "passing": True}
            return Event("failed", attempt, task_of(name), why)
        case ["echo", name]:
            data = {"type": "UnavailableError", "message": "connection reset", "traceback": "Traceback …", "peer": True}
            return Event("failed", attempt, task_of(name), data)
        case ["checkpoint", number]:
            return Event("checkpoint", attempt, Task("worker", 0), {"step": int(number)})
        case ["hang", *names]:
            return Event("hang", attempt, data={"tasks": names})
        case ["draining", *names]:
            return Event("node_draining", attempt, data={"node": "10.0.0.7", "tasks": names, "seconds": 29.5})
        case ["placement_failed" | "startup_failed" as kind]:
            return Event(kind, attempt, data={"happened": "it did not come", "seen": "2 of 3", "todo": "wait"})
        case ["interrupted"]:
            return Event("interrupted", 0, data={"reason": "Ctrl-C"})
        case [kind, name]:
            return Event(kind, attempt, task_of(name))  # type: ignore[arg-type]
        case [kind]:
            return Event(kind, attempt)  # type: ignore[arg-type]
    raise AssertionError(words)


def words_of(action: Action) -> str:
    match action:
        case Place(attempt, after):
            return f"place {attempt}" + (f" after {after:g}" if after else "")
        case Restart(task):
            return f"restart {task}"
        case Wake(after):
            return "settle" if after == SETTLE_SECONDS else f"wake {after:g}"
        case Drain(_, checkpoint):
            return f"drain {checkpoint}"
        case Save(tasks):
            return " ".join(["save", *map(str, tasks)])
        case Finish(error):
            return f"finish {'well' if error is None else type(error).__name__}"
        case Start() | Release() | End() | Move():
            return type(action).__name__.lower()


class Job:
    """A job whose events are given in words, and what it did upon the last of them."""

    def __init__(self, spec: JobSpec) -> None:
        self.state, first = begin(spec)
        self.actions: list[Action] = list(first)
        self.last = self.words(first)

    @staticmethod
    def words(actions: tuple[Action, ...]) -> str:
        return ", ".join(map(words_of, actions))

    def on(self, *events: str) -> str:
        """What happens upon the last of `events`."""
        for event in events:
            self.state, actions = step(self.state, event_of(event, self.state.attempt))
            self.actions += actions
            self.last = self.words(actions)
        return self.last

    @property
    def error(self) -> TfClusterError | None:
        (finish,) = [action for action in self.actions if isinstance(action, Finish)]
        return finish.error

    @property
    def ended(self) -> list[End]:
        return [action for action in self.actions if isinstance(action, End)]


def running(kind: str = "multi worker", **more: Any) -> Job:
    job = Job(spec_of(kind, **more))
    assert job.last == "place 1"
    assert job.on("placed") == "start"
    return job


# One event in a running job: what happens, by strategy and role

AGAIN = "end, place 2 after 1"
FAILS = "end, finish UserCodeError"
IN_PLACE = "restart"
WAITS = "wake 10"  # for the other trainers, as long as timeouts.stop
DRAINS = "drain None"
NOTHING = ""

TABLE = [
    # kind, task, finished, failed, failed for a lost peer, process lost, node lost
    ("none", "worker-0", DRAINS, FAILS, AGAIN, AGAIN, AGAIN),
    ("none", "evaluator-0", NOTHING, FAILS, AGAIN, IN_PLACE, AGAIN),
    ("mirrored", "worker-0", DRAINS, FAILS, AGAIN, AGAIN, AGAIN),
    ("mirrored", "evaluator-0", NOTHING, FAILS, AGAIN, IN_PLACE, AGAIN),
    ("multi worker", "worker-0", WAITS, FAILS, AGAIN, AGAIN, AGAIN),
    ("multi worker", "worker-1", NOTHING, FAILS, AGAIN, AGAIN, AGAIN),
    ("multi worker", "evaluator-0", NOTHING, FAILS, AGAIN, IN_PLACE, AGAIN),
    ("with chief", "chief-0", WAITS, FAILS, AGAIN, AGAIN, AGAIN),
    ("with chief", "worker-0", NOTHING, FAILS, AGAIN, AGAIN, AGAIN),
    ("with chief", "worker-1", NOTHING, FAILS, AGAIN, AGAIN, AGAIN),
    ("with chief", "evaluator-0", NOTHING, FAILS, AGAIN, IN_PLACE, AGAIN),
    ("multi worker script", "worker-0", WAITS, FAILS, AGAIN, AGAIN, AGAIN),
    ("multi worker script", "worker-1", NOTHING, FAILS, AGAIN, AGAIN, AGAIN),
    ("multi worker script", "evaluator-0", NOTHING, FAILS, AGAIN, IN_PLACE, AGAIN),
    ("ps function", "chief-0", DRAINS, FAILS, AGAIN, AGAIN, AGAIN),
    # TensorFlow's server fails there, not the user's code
    ("ps function", "worker-1", NOTHING, AGAIN, AGAIN, IN_PLACE, AGAIN),
    ("ps function", "ps-0", NOTHING, AGAIN, AGAIN, AGAIN, AGAIN),
    ("ps function", "evaluator-0", NOTHING, FAILS, AGAIN, IN_PLACE, AGAIN),
    ("ps script", "chief-0", DRAINS, FAILS, AGAIN, AGAIN, AGAIN),
    ("ps script", "worker-1", NOTHING, FAILS, AGAIN, IN_PLACE, AGAIN),
    ("ps script", "ps-0", NOTHING, FAILS, AGAIN, AGAIN, AGAIN),
    ("ps script", "evaluator-0", NOTHING, FAILS, AGAIN, IN_PLACE, AGAIN),
    ("custom", "chief-0", WAITS, FAILS, AGAIN, AGAIN, AGAIN),
    ("custom", "worker-1", NOTHING, FAILS, AGAIN, AGAIN, AGAIN),
    ("custom", "ps-0", NOTHING, FAILS, AGAIN, AGAIN, AGAIN),
    ("custom", "evaluator-0", NOTHING, FAILS, AGAIN, IN_PLACE, AGAIN),
    ("custom script", "chief-0", WAITS, FAILS, AGAIN, AGAIN, AGAIN),
    ("custom script", "worker-1", NOTHING, FAILS, AGAIN, AGAIN, AGAIN),
    ("custom script", "ps-0", NOTHING, FAILS, AGAIN, AGAIN, AGAIN),
    ("custom script", "evaluator-0", NOTHING, FAILS, AGAIN, IN_PLACE, AGAIN),
]
COLUMNS = ("finished", "failed", "echo", "lost", "node lost")


CELLS = [
    (kind, name, happening, f"restart {name}" if result == IN_PLACE else result)
    for kind, name, *results in TABLE
    for happening, result in zip(COLUMNS, results, strict=True)
]


@pytest.mark.parametrize(("kind", "name", "happening", "result"), CELLS)
def test_what_one_event_does_to_a_running_job(kind: str, name: str, happening: str, result: str) -> None:
    job = running(kind)
    seen = job.on(f"{happening} {name}")
    if seen == "settle":  # failures are collected for a while before they are judged
        seen = job.on("settled")
    assert seen == result


def test_the_table_has_every_task_of_every_kind() -> None:
    indices = {"multi worker", "with chief", "multi worker script"}
    expected = {
        (kind, str(task))
        for kind in KINDS
        for task in tasks_of(spec_of(kind))
        if kind in indices or task != Task("worker", 0) or spec_of(kind).replicas("worker") == 1
    }
    assert {(kind, name) for kind, name, *_ in TABLE} == expected


# Success


@pytest.mark.parametrize("kind", ["none", "mirrored"])
def test_a_job_of_one_task_succeeds_when_it_is_done(kind: str) -> None:
    job = running(kind, roles={"evaluator": 0})
    assert job.on("finished worker-0") == "release, finish well"
    assert job.error is None


def test_multi_worker_succeeds_when_all_are_done() -> None:
    job = running(roles={"evaluator": 0})
    assert job.on("finished worker-0") == "wake 10"
    assert job.on("finished worker-1") == "release, finish well"


def test_multi_worker_does_not_wait_for_ever_for_those_after_the_leader() -> None:
    job = running(roles={"worker": 3, "evaluator": 0}, timeouts={"stop": "3s"})
    assert job.on("finished worker-2") == ""
    assert job.on("finished worker-0") == "wake 3"
    assert job.on("settled") == "release, finish well"


def test_a_worker_may_finish_before_the_leader() -> None:
    job = running(roles={"evaluator": 0})
    assert job.on("finished worker-1") == ""
    assert job.on("finished worker-0") == "release, finish well"


@pytest.mark.parametrize("kind", ["ps function", "ps script"])
def test_the_coordinators_end_ends_a_parameter_server_job(kind: str) -> None:
    job = running(kind, roles={"evaluator": 0})
    assert job.on("finished chief-0") == "release, finish well"  # release stops ps and workers


def test_all_workers_by_spec() -> None:
    job = running(success="all_workers", roles={"worker": 3, "evaluator": 0})
    assert job.on("finished worker-0") == ""
    assert job.on("finished worker-2") == ""
    assert job.on("finished worker-1") == "release, finish well"


def test_all_workers_counts_the_chief() -> None:
    job = running("with chief", success="all_workers", roles={"evaluator": 0})
    assert job.on("finished worker-0", "finished worker-1") == ""
    assert job.on("finished chief-0") == "release, finish well"


def test_all_workers_is_not_reached_while_one_fails() -> None:
    job = running(success="all_workers", roles={"evaluator": 0})
    assert job.on("finished worker-0", "lost worker-1") == "settle"
    assert job.on("settled") == AGAIN


def test_the_evaluator_must_have_seen_the_last_checkpoint() -> None:
    job = running("with chief")
    assert job.on("checkpoint 5", "checkpoint 10") == ""
    assert job.on("finished worker-0", "finished worker-1", "finished chief-0") == "drain 10"
    assert job.on("finished evaluator-0") == "release, finish well"


def test_the_evaluator_hears_of_the_last_checkpoint_after_waiting_for_the_workers() -> None:
    job = running()
    assert job.on("checkpoint 5", "finished worker-0") == "wake 10"
    assert job.on("checkpoint 6", "settled") == "drain 6"


def test_an_evaluator_that_ended_early_is_not_waited_for() -> None:
    job = running("none")
    assert job.on("finished evaluator-0") == ""
    assert job.on("finished worker-0") == "release, finish well"


def test_only_the_evaluators_end_ends_the_drain() -> None:
    job = running("custom", timeouts={"stop": "1s"})
    assert job.on("finished chief-0", "settled") == "drain None"
    assert job.on("finished worker-1") == ""
    assert job.on("finished ps-0") == ""
    assert job.on("finished evaluator-0") == "release, finish well"


# Restarts in place


def test_a_parameter_server_worker_comes_back_until_its_limit_then_the_whole_job_restarts() -> None:
    job = running("ps function", roles={"worker": {"replicas": 2, "max_restarts": 2}})
    assert job.on("lost worker-1") == "restart worker-1"
    assert job.on("lost worker-1") == "restart worker-1"
    assert job.on("lost worker-0") == "restart worker-0"  # each has its own count
    assert job.on("lost worker-1") == "settle"
    assert job.on("settled") == AGAIN
    assert job.on("placed", "lost worker-1") == "restart worker-1"  # a new attempt, a new count


def test_the_limit_in_place_is_the_jobs_where_the_role_has_none() -> None:
    job = running("ps function", failure={"max_restarts": 1})
    assert job.on("lost worker-0") == "restart worker-0"
    assert job.on("lost worker-0", "settled") == AGAIN


def test_no_restart_in_place_by_spec() -> None:
    job = running("ps function", roles={"worker": {"replicas": 2, "max_restarts": 0}})
    assert job.on("lost worker-0") == "settle"


def test_a_restart_tells_why() -> None:
    job = running("ps function")
    job.on("lost worker-0")
    assert job.actions[-1] == Restart(Task("worker", 0), "its process was ended by SIGKILL")


def test_a_ps_and_a_worker_lost_together_restart_everything_once() -> None:
    job = running("ps function")
    assert job.on("lost worker-0") == "restart worker-0"
    assert job.on("lost ps-0") == "settle"
    assert job.on("lost worker-1") == ""  # no restart in an attempt that is about to end
    assert job.on("echo chief-0") == ""
    assert job.on("settled") == AGAIN
    assert len(job.ended[0].failures) == 3


def test_a_task_that_cannot_come_back_in_place_restarts_everything() -> None:
    """What `attempts` sends where the supervisor's place is gone too."""
    job = running("ps function")
    assert job.on("lost worker-0") == "restart worker-0"
    assert job.on("node lost worker-0", "settled") == AGAIN


@pytest.mark.parametrize("name", ["worker-1", "evaluator-0"])
def test_before_all_are_placed_nothing_restarts_in_place(name: str) -> None:
    job = Job(spec_of("ps function"))
    assert job.on(f"lost {name}") == "settle"
    assert job.on("placed") == ""  # too late: this attempt is given up
    assert job.on("settled") == AGAIN
    assert job.on("placed") == "start"


def test_before_all_are_placed_nothing_has_finished() -> None:
    job = Job(spec_of("none", roles={"evaluator": 0}))
    assert job.on("finished worker-0") == ""
    assert job.on("placed", "finished worker-0") == "release, finish well"


# A lost evaluator


def test_a_restarted_evaluator_is_told_again_that_training_is_over() -> None:
    job = running("none")
    assert job.on("checkpoint 8", "finished worker-0") == "drain 8"
    assert job.on("lost evaluator-0") == "restart evaluator-0"
    assert job.on("task_ready evaluator-0") == "drain 8"
    assert job.on("finished evaluator-0") == "release, finish well"


def test_an_evaluator_lost_while_the_workers_end_is_told_too() -> None:
    job = running(roles={"worker": 3})
    assert job.on("checkpoint 8", "finished worker-0") == "wake 10"
    assert job.on("lost evaluator-0") == "restart evaluator-0"
    assert job.on("task_ready evaluator-0") == ""
    assert job.on("settled") == "drain 8"


def test_only_an_evaluator_in_the_drain_is_told() -> None:
    job = running("none")
    assert job.on("task_ready evaluator-0", "task_ready worker-0") == ""
    job.on("finished worker-0")
    assert job.on("task_ready worker-0") == ""


def test_an_evaluator_lost_too_often_restarts_the_job_and_in_the_end_is_its_own_error() -> None:
    job = running("none", failure={"max_restarts": 1}, roles={"evaluator": {"replicas": 1, "max_restarts": 0}})
    assert job.on("checkpoint 8", "finished worker-0") == "drain 8"
    assert job.on("lost evaluator-0", "settled") == AGAIN
    assert job.on("placed", "finished worker-0") == "drain 8"
    assert job.on("lost evaluator-0", "settled") == "end, finish EvaluatorError"
    assert "training succeeded, but evaluator-0 lost" in str(job.error)
    assert "SIGKILL (attempt 2 of 2)" in str(job.error)


def test_an_evaluators_own_error_is_the_users() -> None:
    job = running("none")
    assert job.on("finished worker-0", "failed evaluator-0", "settled") == FAILS
    assert "evaluator-0 failed: ValueError" in str(job.error)


def test_a_late_evaluator() -> None:
    job = running("none", timeouts={"evaluator": "3s"})
    assert job.on("checkpoint 8", "finished worker-0") == "drain 8"
    assert job.on("evaluator_late") == "end, finish EvaluatorError"
    assert "checkpoint 8 after 3 s" in str(job.error)


def test_an_evaluator_is_late_only_after_training() -> None:
    job = running("none")
    assert job.on("evaluator_late") == ""
    assert job.on("finished worker-0", "finished evaluator-0") == "release, finish well"


# Whole-job restarts


def test_back_off_doubles_up_to_its_longest() -> None:
    job = running(failure={"max_restarts": 5, "backoff": "2s", "max_backoff": "9s"})
    waits = []
    for _ in range(5):
        job.on("lost worker-1", "settled", "placed")
        waits += [action.after for action in job.actions[-2:-1] if isinstance(action, Place)]
    assert waits == [2, 4, 8, 9, 9]


def test_a_restart_without_back_off_is_one_all_the_same() -> None:
    job = running(failure={"max_restarts": 1, "backoff": 0})
    job.on("lost worker-1", "settled")
    assert job.actions[-1] == Place(2, 0.0)
    assert begin(job.state.spec)[1] == (Place(1, None),)


def test_back_off_after_very_many_restarts() -> None:
    job = Job(spec_of(failure={"max_restarts": 5000}))
    job.state = dataclasses.replace(job.state, restarts=4999, phase="running")
    assert job.on("lost worker-1", "settled") == "end, place 2 after 60"


def test_no_attempt_beyond_the_limit() -> None:
    job = running(failure={"max_restarts": 1})
    assert job.on("lost worker-1", "settled") == AGAIN
    assert job.on("placed", "node lost worker-0", "settled") == "end, finish TaskLostError"
    assert "worker-0 lost" in str(job.error)
    assert "its node was lost (attempt 2 of 2)" in str(job.error)


def test_a_new_attempt_goes_on_from_the_last_checkpoint() -> None:
    job = running()
    job.on("checkpoint 5", "checkpoint 10", "lost worker-1", "settled")
    assert job.state.attempt == 2
    assert job.state.checkpoint == 10


def test_a_new_attempt_forgets_who_had_finished_and_what_broke() -> None:
    job = running(roles={"evaluator": 0})
    job.on("finished worker-1", "lost worker-0", "settled", "placed")
    assert job.state.failures == ()
    assert job.on("finished worker-0") == "wake 10"


def test_an_attempt_ends_with_what_broke_it() -> None:
    job = running()
    job.on("lost worker-1", "echo worker-0", "settled")
    (end,) = job.ended
    assert end.reason == "worker-1 lost"
    assert [str(failure.task) for failure in end.failures] == ["worker-1", "worker-0"]


# Nodes that are about to be lost

SAVERS = [
    ("none", "worker-0", "save worker-0"),
    ("mirrored", "worker-0", "save worker-0"),
    ("multi worker", "worker-1", "save worker-0 worker-1"),
    ("multi worker", "evaluator-0", "save worker-0 worker-1"),
    ("with chief", "worker-0", "save chief-0 worker-0 worker-1"),
    ("multi worker script", "worker-1", NOTHING),  # a script cannot be asked
    ("ps function", "chief-0", "save chief-0"),
    ("ps function", "worker-1", "save chief-0"),
    ("ps function", "ps-0", "save chief-0"),
    ("ps script", "ps-0", NOTHING),
    ("custom", "ps-0", "save chief-0 worker-0 worker-1"),
    ("custom script", "worker-0", NOTHING),
]


@pytest.mark.parametrize(("kind", "name", "result"), SAVERS)
def test_who_is_to_save_before_a_node_is_lost(kind: str, name: str, result: str) -> None:
    assert running(kind).on(f"draining {name}") == result


@pytest.mark.parametrize("kind", [kind for kind in KINDS if "script" not in kind])
def test_once_it_has_saved_the_job_goes_on_elsewhere(kind: str) -> None:
    job = running(kind)
    leader = str(job.state.leader)
    job.on("checkpoint 5", f"draining {leader}")
    assert job.on("checkpoint 7") == "move, place 2"
    assert job.actions[-2] == Move(f"node 10.0.0.7 of {leader} is being drained")
    assert (job.state.checkpoint, job.state.restarts) == (7, 0)
    assert job.on("placed") == "start"
    assert job.on("checkpoint 9") == ""  # that was the attempt before


def test_a_move_uses_up_no_restart() -> None:
    job = running(failure={"max_restarts": 1})
    for _ in range(5):
        assert job.on("draining worker-1", "checkpoint 7").startswith("move, place")
        job.on("placed")
    assert job.on("lost worker-0", "settled") == "end, place 7 after 1"
    assert job.on("placed", "lost worker-0", "settled") == "end, finish TaskLostError"
    assert "(attempt 2 of 2)" in str(job.error)


def test_what_could_not_save_in_time_is_lost_as_ever() -> None:
    job = running()
    assert job.on("draining worker-1") == "save worker-0 worker-1"
    assert job.on("node lost worker-1") == "settle"
    assert job.on("checkpoint 7") == ""  # too late: this attempt is given up
    assert job.on("settled") == AGAIN
    assert job.on("placed", "checkpoint 9") == ""


def test_several_nodes_are_left_at_once() -> None:
    job = running()
    assert job.on("draining worker-1") == "save worker-0 worker-1"
    assert job.on("draining worker-0") == ""
    assert job.on("checkpoint 7") == "move, place 2"


@pytest.mark.parametrize(
    ("before", "name"),
    [
        (["lost worker-0"], "worker-1"),  # about to be judged
        (["finished worker-1"], "worker-1"),  # what has done its part may go
        (["finished worker-0"], "worker-1"),  # training is over
        (["finished worker-0", "finished worker-1"], "evaluator-0"),
    ],
)
def test_a_node_whose_loss_is_no_matter(before: list[str], name: str) -> None:
    job = running()
    job.on(*before)
    assert job.on(f"draining {name}") == ""


def test_only_those_that_still_train_are_to_save() -> None:
    job = running(success="all_workers", roles={"worker": 3})
    assert job.on("finished worker-1", "draining worker-2") == "save worker-0 worker-2"
    job = running(success="all_workers", roles={"worker": 3})
    assert job.on("finished worker-0", "draining worker-2") == ""  # nobody is left whose checkpoint would count


# Whose error it is


def test_users_errors_are_not_retried() -> None:
    job = running(failure={"max_restarts": 9})
    assert job.on("failed worker-1", "settled") == FAILS


def test_users_errors_are_retried_on_request_until_the_limit() -> None:
    job = running(failure={"max_restarts": 1, "retry_user_errors": True})
    assert job.on("failed worker-1", "settled") == AGAIN
    assert job.on("placed", "failed worker-1", "settled") == FAILS


def test_the_users_error_beats_the_losses_it_causes() -> None:
    job = running()
    assert job.on("failed worker-1", "echo worker-0", "lost evaluator-0") == ""
    assert job.on("settled") == FAILS
    assert "worker-1 failed: ValueError: too large" in str(job.error)
    assert "Traceback …" in str(job.error)


def test_an_echo_that_comes_before_the_loss_does_not_hide_it() -> None:
    job = running(failure={"max_restarts": 0})
    assert job.on("echo worker-0", "lost worker-1") == ""
    assert job.on("settled") == "end, finish TaskLostError"
    assert "worker-1 lost" in str(job.error)
    assert "UnavailableError" not in str(job.error)


@pytest.mark.parametrize("kind", ["multi worker", "ps function"])
def test_a_storage_that_gives_no_data_is_a_loss_and_told_as_it_is(kind: str) -> None:
    job = running(kind)
    task = "chief-0" if kind == "ps function" else "worker-1"
    assert job.on(f"unreachable {task}", "settled") == AGAIN
    job = running(kind, failure={"max_restarts": 0})
    assert job.on(f"unreachable {task}", "settled") == "end, finish TaskLostError"
    assert f"{task} lost · UnreachableDataError: no data · x.parquet (attempt 1 of 1)" in str(job.error)


def test_an_error_of_the_users_own_counts_before_a_storage_that_gives_no_data() -> None:
    job = running()
    job.on("unreachable worker-0", "failed worker-1")
    assert job.on("settled") == FAILS


def test_echoes_alone_are_told_as_what_they_are() -> None:
    job = running(failure={"max_restarts": 0})
    assert job.on("echo worker-0", "echo worker-1", "settled") == "end, finish TaskLostError"
    assert "worker-0, worker-1 lost the connection to other tasks" in str(job.error)
    assert "UnavailableError: connection reset" in str(job.error)


def test_several_losses_are_all_named() -> None:
    job = running("with chief", failure={"max_restarts": 0})
    job.on("lost worker-0", "node lost chief-0", "lost worker-1", "settled")
    assert "chief-0, worker-0, worker-1 lost" in str(job.error)
    assert "worker-0, worker-1: its process was ended by SIGKILL; chief-0: its node was lost" in str(job.error)


def test_equal_errors_of_several_workers_are_one_in_task_order() -> None:
    job = running(roles={"worker": 12})
    job.on(*[f"failed worker-{index}" for index in (10, 2, 1)], "settled")
    assert "worker-1, worker-2, worker-10 failed: ValueError: too large" in str(job.error)


def test_many_equal_errors_are_counted() -> None:
    job = running(roles={"worker": 12})
    job.on(*[f"failed worker-{index}" for index in range(12)], "settled")
    assert "worker-0, worker-1, worker-2, worker-3 and 8 more failed" in str(job.error)


def test_different_errors_are_groups_of_their_own_and_no_task_counts_twice() -> None:
    failures = ["failed worker-1", "failed worker-0 KeyError", "failed worker-1", "failed worker-2"]
    groups = group_failures(tuple(event_of(words) for words in failures))
    seen = [(first.data["type"], [str(task) for task in tasks]) for first, tasks in groups]
    assert seen == [("ValueError", ["worker-1", "worker-2"]), ("KeyError", ["worker-0"])]


def test_the_first_error_is_the_one_that_is_told() -> None:
    job = running()
    job.on("failed worker-1 KeyError", "failed worker-0", "settled")
    assert "worker-1 failed: KeyError" in str(job.error)


# After the leader has finished


@pytest.mark.parametrize("happening", ["failed worker-1", "echo worker-1", "lost worker-1", "node lost worker-1"])
def test_what_breaks_after_the_leader_finished_does_not_matter(happening: str) -> None:
    job = running(roles={"evaluator": 0})
    job.on("finished worker-0")
    assert job.on(happening) == ""
    assert job.on("settled") == "release, finish well"


@pytest.mark.parametrize("happening", ["lost worker-1", "lost chief-0", "echo worker-0", "node lost ps-0"])
def test_nor_during_the_drain(happening: str) -> None:
    job = running("ps function")
    assert job.on("finished chief-0") == "drain None"
    assert job.on(happening) == ""
    assert job.on("finished evaluator-0") == "release, finish well"


def test_a_task_that_has_finished_may_be_lost() -> None:
    job = running(success="all_workers", roles={"evaluator": 0})
    assert job.on("finished worker-0", "lost worker-0") == ""
    assert job.on("finished worker-1") == "release, finish well"


def test_a_loss_just_before_the_leader_finishes_is_forgiven() -> None:
    job = running("ps function", roles={"evaluator": 0})
    assert job.on("lost ps-0") == "settle"
    assert job.on("finished chief-0") == ""
    assert job.on("settled") == "release, finish well"


def test_forgiven_with_an_evaluator_that_then_sees_the_last_checkpoint() -> None:
    job = running("ps function")
    assert job.on("checkpoint 3", "lost ps-0", "finished chief-0", "settled") == "drain 3"
    assert job.on("finished evaluator-0") == "release, finish well"


def test_a_users_error_before_the_leader_finishes_is_not_forgiven() -> None:
    job = running(roles={"evaluator": 0})
    assert job.on("failed worker-1", "finished worker-0", "settled") == FAILS


def test_nor_is_the_loss_of_an_evaluator_that_is_still_needed() -> None:
    job = running("none", roles={"evaluator": {"replicas": 1, "max_restarts": 0}})
    assert job.on("lost evaluator-0", "finished worker-0", "settled") == AGAIN


# Hangs, timeouts, interrupts


def test_a_hang_restarts_then_fails() -> None:
    job = running(failure={"max_restarts": 1}, timeouts={"hang": "30s"})
    assert job.on("hang worker-0 worker-1") == AGAIN
    assert job.on("placed", "hang worker-0 worker-1") == "end, finish HangError"
    assert isinstance(job.error, HangError)
    assert "worker-0, worker-1 for 30 s" in str(job.error)


@pytest.mark.parametrize(
    "before", [["lost worker-1"], ["finished worker-0"], ["finished worker-0", "finished worker-1"]]
)
def test_nothing_hangs_that_does_not_train(before: list[str]) -> None:
    job = running()
    job.on(*before)
    assert job.on("hang worker-0") == ""


@pytest.mark.parametrize("ending", ["startup_failed", "hang worker-0", "evaluator_late", "lost worker-0"])
def test_the_post_mortem_of_an_end_is_of_what_caused_it(ending: str) -> None:
    job = running(failure={"max_restarts": 0})
    job.on("checkpoint 5", *(["finished worker-0", "finished worker-1"] if ending == "evaluator_late" else []))
    job.on(ending, "settled")
    (end,) = job.ended
    assert [failure.kind for failure in end.failures] == [ending.split()[0]]


def test_a_run_that_was_only_stopped_has_no_failure() -> None:
    job = running()
    job.on("interrupted")
    assert job.ended == [End("the run was stopped")]


@pytest.mark.parametrize(("before", "goes_on"), [([], False), (["checkpoint 5"], True)])
def test_a_run_that_was_stopped_goes_on_from_its_last_checkpoint_where_it_has_one(
    before: list[str], goes_on: bool
) -> None:
    job = running()
    job.on(*before, "interrupted")
    assert ("--resume" in str(job.error)) == goes_on


def test_a_placement_that_fails_is_the_end() -> None:
    job = Job(spec_of())
    assert job.on("placement_failed") == "end, finish PlacementError"
    assert str(job.error) == "it did not come · 2 of 3 · wait"
    assert isinstance(job.error, PlacementError)


def test_a_later_placement_that_fails_is_the_end_too() -> None:
    job = running()
    job.on("lost worker-0", "settled")
    assert job.on("placement_failed") == "end, finish PlacementError"


@pytest.mark.parametrize("before", [[], ["placed"]])
def test_a_startup_that_fails_is_the_end(before: list[str]) -> None:
    job = Job(spec_of())
    job.on(*before)
    assert job.on("startup_failed") == "end, finish StartupError"
    assert isinstance(job.error, StartupError)


@pytest.mark.parametrize("before", [["lost worker-1"], ["finished worker-0"], ["finished worker-0", "settled"]])
def test_a_startup_that_nobody_waits_for_any_more(before: list[str]) -> None:
    job = running()
    job.on(*before)
    assert job.on("startup_failed") == ""


@pytest.mark.parametrize(
    "before",
    [
        [],
        ["placed"],
        ["placed", "lost worker-1"],
        ["placed", "lost worker-1", "settled"],
        ["placed", "finished worker-0"],
        ["placed", "finished worker-0", "finished worker-1"],
    ],
    ids=["placing", "running", "settling", "placing again", "finishing", "draining"],
)
def test_an_interrupt_ends_a_job_in_any_phase(before: list[str]) -> None:
    job = Job(spec_of())
    job.on(*before)
    assert job.on("interrupted") == "end, finish InterruptedRunError"
    assert isinstance(job.error, InterruptedRunError)
    assert "Ctrl-C" in str(job.error)


@pytest.mark.parametrize("ending", ["interrupted", "finished worker-0", "failed worker-0"])
def test_after_the_end_nothing_counts(ending: str) -> None:
    job = running("none", roles={"evaluator": 0})
    job.on(ending, "settled")
    state = job.state
    assert state.phase == "done"
    for words in (*GENERAL, "finished worker-0", "lost worker-0", "failed worker-0", "task_ready worker-0"):
        assert job.on(words) == ""
    assert job.state is state


STALE: list[Kind] = ["placed", "finished", "failed", "lost", "task_ready", "settled", "evaluator_late"]


@pytest.mark.parametrize("kind", STALE)
@pytest.mark.parametrize("attempt", [1, 3])
def test_events_of_another_attempt_change_nothing(kind: Kind, attempt: int) -> None:
    job = running()
    job.on("lost worker-0", "settled", "placed")
    state = job.state
    assert state.attempt == 2
    assert step(state, Event(kind, attempt, Task("worker", 0))) == (state, ())


def test_what_is_only_for_people_changes_nothing() -> None:
    job = running()
    state = job.state
    kinds: list[Kind] = ["run_started", "attempt_started", "task_started", "step", "evaluated", "notice", "restarting"]
    for kind in kinds:
        assert step(state, Event(kind, 1, Task("worker", 0), {"step": 3})) == (state, ())


# Any order of events

SPECS = [
    spec_of(kind, failure={"max_restarts": limit, "retry_user_errors": retry}, success=success)
    for kind in KINDS
    for limit, retry in ((0, False), (1, True), (3, False))
    for success in ("chief", "all_workers")
    if success == "chief" or not kind.startswith("ps")
]
History = tuple[JobSpec, list[tuple[str, int]]]
BROKEN = ("failed", "echo", "lost", "node lost")
GENERAL = (
    "placed", "settled", "hang worker-0", "checkpoint 7", "evaluator_late", "startup_failed", "placement_failed",
    "interrupted",
)  # fmt: skip
#: Events that end a job at once; rare, so that most sequences get further.
FATAL = ("startup_failed", "placement_failed", "interrupted", "evaluator_late")


@st.composite
def histories(draw: st.DrawFn) -> History:
    """A spec, and events each with the age of their attempt: 0 the current one, 1 the one before, -1 a later one."""
    spec = draw(st.sampled_from(SPECS))
    names = [str(task) for task in tasks_of(spec)]
    happenings = st.sampled_from([*BROKEN, "finished", "task_ready", "draining"])
    about_a_task = st.builds(lambda what, name: f"{what} {name}", happenings, st.sampled_from(names))
    general = st.sampled_from([words for words in GENERAL if words not in FATAL])
    fatal = st.sampled_from(FATAL) if draw(st.integers(0, 3)) == 0 else general
    words = st.one_of(about_a_task, about_a_task, general, fatal)
    ages = st.sampled_from([0] * 8 + [1, -1])
    return spec, draw(st.lists(st.tuples(words, ages), max_size=40))


class Watched(Job):
    """A job whose every step is held against the rules that no order of events may break."""

    def __init__(self, spec: JobSpec) -> None:
        super().__init__(spec)
        self.wakes = 0

    def take(self, words: str, age: int = 0) -> None:
        before = self.state
        event = event_of(words, before.attempt - age)
        self.state, actions = step(before, event)
        self.actions += actions
        stale = event.attempt not in (0, before.attempt)
        if stale or before.phase == "done":
            assert (self.state, actions) == (before, ())
        self._check(before, actions)
        if words == "settled" and not stale:
            self.wakes -= self.wakes > 0
        if self.state.attempt != before.attempt:
            self.wakes = 0
        self.wakes += sum(isinstance(action, Wake) for action in actions)

    def _check(self, before: State, actions: tuple[Action, ...]) -> None:
        spec = before.spec
        finishes = [action for action in self.actions if isinstance(action, Finish)]
        assert len(finishes) == (self.state.phase == "done")
        places = [action.attempt for action in self.actions if isinstance(action, Place)]
        assert places == list(range(1, len(places) + 1))  # each attempt once, in order
        moves = sum(isinstance(action, Move) for action in self.actions)
        assert places[-1] == self.state.attempt <= spec.failure.max_restarts + 1 + moves
        assert self.state.restarts + moves + 1 == self.state.attempt
        for action in actions:
            self._check_action(before, action, actions)
        if self.state.phase in ("settling", "finishing") and before.phase not in ("settling", "finishing"):
            assert any(isinstance(action, Wake) for action in actions)  # or it would wait for ever

    def _check_action(self, before: State, action: Action, actions: tuple[Action, ...]) -> None:
        match action:
            case Start():
                assert (before.phase, self.state.phase) == ("placing", "running")
            case Restart(task):
                served = task.role == "worker" and before.spec.strategy == "parameter_server"
                assert served or task.role == "evaluator"
                assert before.phase in ("running", "finishing", "draining")
                assert self.state.attempt == before.attempt
            case Place(_, after):
                assert isinstance(actions[0], End | Move)
                assert (after is None) == isinstance(actions[0], Move)
                assert (after or 0.0) <= before.spec.failure.max_backoff
            case Move():
                assert self.state.checkpoint is not None
                assert before.phase == "running"
            case Save(tasks):
                assert before.leader in tasks
                assert not set(tasks) & before.finished
            case Drain(task):
                assert task.role == "evaluator"
                assert self.state.phase == "draining"
            case Release():
                assert actions[-1] == Finish(None)
            case Finish(error):
                assert isinstance(actions[0], Release if error is None else End)
            case _:
                pass


@given(histories())
def test_no_order_of_events_breaks_the_rules(history: History) -> None:
    spec, events = history
    job = Watched(spec)
    for words, age in events:
        job.take(words, age)


@given(histories())
def test_from_any_point_a_job_ends_when_all_goes_well_from_there(history: History) -> None:
    spec, events = history
    job = Watched(spec)
    for words, age in events:
        job.take(words, age)
    failed_before = job.state.phase in ("settling", "done")
    for _ in range(20):
        if job.state.phase == "done":
            break
        _go_well(job)
    assert job.state.phase == "done"
    assert job.error is None or failed_before


def _is_over(job: Job) -> bool:
    """Whether nothing that happens to a training task can matter any more."""
    return job.state.phase == "done" or job.state.trained


def _go_well(job: Watched) -> None:
    """Whatever the job now waits for happens."""
    match job.state.phase:
        case "placing":
            job.take("placed")
        case "settling" | "finishing":
            assert job.wakes > 0
            job.take("settled")
        case "draining":
            job.take("finished evaluator-0")
        case _:
            waiting = sorted(map(str, job.state.trainers - job.state.finished))
            job.take(f"finished {waiting[0]}")


@given(histories(), st.data())
def test_a_bounded_number_of_failures_ends_every_job(history: History, data: st.DataObject) -> None:
    spec, events = history
    job = Watched(spec)
    for words, age in events:
        job.take(words, age)
    names = [str(task) for task in tasks_of(spec)]
    attempts = spec.failure.max_restarts + 1
    in_place = sum(spec.failure.max_restarts for name in names if name.startswith(("worker", "evaluator")))
    failures = 0
    while not _is_over(job):
        job.take("placed")
        left = [name for name in names if task_of(name) not in job.state.finished]
        name = data.draw(st.sampled_from(left))
        job.take(f"{data.draw(st.sampled_from(BROKEN))} {name}")
        job.take("settled")
        failures += 1
        assert failures <= attempts * (1 + in_place)


def test_an_error_of_ours_is_told_once_and_without_advice_to_mend_the_code() -> None:
    sentence = "checkpoint 4 could not be saved · /runs: No space left on device · free some space there"
    data = {"type": "StorageError", "message": sentence, "traceback": f"StorageError: {sentence}"}
    state, _ = begin(parse(FUNCTION))
    for event in (Event("placed", 1), Event("failed", 1, Task("worker", 0), data)):
        state, _ = step(state, event)
    _, actions = step(state, Event("settled", 1))
    finish = next(action for action in actions if isinstance(action, Finish))
    assert str(finish.error) == f"worker-0 failed: StorageError: {sentence}"
