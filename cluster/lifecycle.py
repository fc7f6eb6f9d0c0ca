"""The life of a job: `step(state, event) -> (state, actions)`, pure, holding every restart and success rule."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from cluster.errors import (
    EvaluatorError,
    HangError,
    InterruptedRunError,
    PlacementError,
    StartupError,
    TaskLostError,
    TfClusterError,
    UserCodeError,
)
from cluster.events import Event
from cluster.spec import JobSpec
from cluster.spec_parts import ROLE_ORDER
from cluster.tasks import Task, leader_of, runs_user_code, tasks_of, trains

#: Seconds in which further failures are collected before one is judged: the peers of a lost task
#: report their broken connection at about the time its own loss is seen.
SETTLE_SECONDS = 1.5
#: Doublings of the back-off after which it is at its longest anyway, and a float still holds it.
MAX_DOUBLINGS = 60
#: What to do about a run that was stopped, where it has a checkpoint.
_GO_ON = "its checkpoints are in the run directory: --resume goes on from the last one"

Phase = Literal["placing", "running", "settling", "finishing", "draining", "done"]


@dataclass(frozen=True)
class Place:
    """Build the gang of `attempt`, `after` seconds from now; None where nothing has failed before."""

    attempt: int
    after: float | None = None


@dataclass(frozen=True)
class Start:
    """Start every task of the gang."""


@dataclass(frozen=True)
class Restart:
    """Start one task again, on the address it had."""

    task: Task
    reason: str


@dataclass(frozen=True)
class Wake:
    """Send a `settled` event, `after` seconds from now."""

    after: float


@dataclass(frozen=True)
class Save:
    """Have `tasks` save as soon as they can, all after the same step."""

    tasks: tuple[Task, ...]


@dataclass(frozen=True)
class Move:
    """End the attempt everywhere, although nothing has failed, to go on elsewhere."""

    reason: str


@dataclass(frozen=True)
class Drain:
    """Tell the evaluator that `checkpoint` (a step, or None) is the last."""

    task: Task
    checkpoint: int | None


@dataclass(frozen=True)
class Release:
    """Let every task go: finished ones exit by themselves, servers are stopped."""


@dataclass(frozen=True)
class End:
    """End the attempt everywhere at once, and keep a post-mortem of `failures`; without any it was only stopped."""

    reason: str
    failures: tuple[Event, ...] = ()


@dataclass(frozen=True)
class Finish:
    """The job is over; `error` is None when it succeeded."""

    error: TfClusterError | None = None


Action = Place | Start | Restart | Wake | Save | Move | Drain | Release | End | Finish


@dataclass(frozen=True)
class State:
    """What the rules need to know of a job, and nothing else."""

    spec: JobSpec
    tasks: tuple[Task, ...]
    phase: Phase = "placing"
    attempt: int = 1
    restarts: int = 0
    task_restarts: Mapping[Task, int] = field(default_factory=dict)
    finished: frozenset[Task] = frozenset()
    failures: tuple[Event, ...] = ()
    checkpoint: int | None = None
    leaving: str = ""  # why the attempt is to end at its next checkpoint

    @property
    def leader(self) -> Task:
        """The task whose end ends the job."""
        return leader_of(self.tasks)

    @property
    def evaluator(self) -> Task | None:
        """The evaluator, if the job has one."""
        return next((t for t in self.tasks if t.role == "evaluator"), None)

    @property
    def trainers(self) -> frozenset[Task]:
        """Tasks that make steps of their own."""
        return frozenset(t for t in self.tasks if trains(t, self.spec.strategy))

    @property
    def trained(self) -> bool:
        """Whether training is over, so that its tasks owe nothing more."""
        led = self.spec.success == "chief" and self.leader in self.finished
        return led or self.trainers <= self.finished


def begin(spec: JobSpec, checkpoint: int | None = None) -> tuple[State, tuple[Action, ...]]:
    """The state before anything happened, and the first action; `checkpoint` is one that is there already."""
    return State(spec, tasks_of(spec), checkpoint=checkpoint), (Place(1),)


def step(state: State, event: Event) -> tuple[State, tuple[Action, ...]]:
    """The state after `event`, and what to do. Events of an earlier attempt change nothing."""
    if state.phase == "done" or event.attempt not in (0, state.attempt):
        return state, ()
    handler = _HANDLERS.get(event.kind)
    return handler(state, event) if handler else (state, ())


_Next = tuple[State, tuple[Action, ...]]


def _placed(state: State, event: Event) -> _Next:
    return (replace(state, phase="running"), (Start(),)) if state.phase == "placing" else (state, ())


def _ready(state: State, event: Event) -> _Next:
    """An evaluator that starts, or starts again, after the end of training has not heard of it."""
    evaluator = state.evaluator
    if evaluator is None or event.task != evaluator or state.phase != "draining":
        return state, ()
    return state, (Drain(evaluator, state.checkpoint),)


def _node_draining(state: State, event: Event) -> _Next:
    """Tasks will be lost with their node. What is saved before costs nothing; without, it is a loss like any other."""
    lost = [name for name in event.data["tasks"] if name not in map(str, state.finished)]
    if state.phase != "running" or state.leaving or not lost or state.leader in state.finished:
        return state, ()
    state = replace(state, leaving=f"node {event.data['node']} of {_some(lost)} is being drained")
    savers = tuple(task for task in state.tasks if task in state.trainers - state.finished)
    return state, () if state.spec.script is not None else (Save(savers),)


def _checkpoint(state: State, event: Event) -> _Next:
    """A periodic checkpoint will do as well to leave at as the one that was asked for."""
    state = replace(state, checkpoint=event.data["step"])
    if not state.leaving or state.phase != "running":
        return state, ()
    again = _next_attempt(state)
    return again, (Move(state.leaving), Place(again.attempt))


def _next_attempt(state: State) -> State:
    return replace(
        state,
        phase="placing",
        attempt=state.attempt + 1,
        task_restarts={},
        finished=frozenset(),
        failures=(),
        leaving="",
    )


def _finished(state: State, event: Event) -> _Next:
    if event.task is None or state.phase == "placing":
        return state, ()
    state = replace(state, finished=state.finished | {event.task})
    if state.phase == "settling":
        return state, ()  # judged, with the failures, when they are all here
    if state.phase == "draining":
        return _succeed(state) if event.task == state.evaluator else (state, ())
    if state.trainers <= state.finished:
        return _trained(state)
    if state.trained and state.phase == "running":
        # The others are about to end too; the leader stays, for it hosts TensorFlow's coordination service.
        return replace(state, phase="finishing"), (Wake(state.spec.timeouts.stop),)
    return state, ()


def _trained(state: State) -> _Next:
    evaluator = state.evaluator
    if evaluator is None or evaluator in state.finished:
        return _succeed(state)
    return replace(state, phase="draining"), (Drain(evaluator, state.checkpoint),)


def _succeed(state: State) -> _Next:
    return replace(state, phase="done"), (Release(), Finish())


def _broken(state: State, event: Event) -> _Next:
    """A task failed, or is lost."""
    if event.task is None or event.task in state.finished:
        return state, ()  # what has done its part may go
    if state.phase == "settling":
        return replace(state, failures=(*state.failures, event)), ()
    if state.trained and event.task != state.evaluator:
        return state, ()
    if _restarts_in_place(state, event):
        used = {**state.task_restarts, event.task: state.task_restarts.get(event.task, 0) + 1}
        return replace(state, task_restarts=used), (Restart(event.task, str(event.data.get("reason", "lost"))),)
    return replace(state, phase="settling", failures=(event,)), (Wake(SETTLE_SECONDS),)


def _restarts_in_place(state: State, event: Event) -> bool:
    """Whether a lost task can come back at its old address while the others go on.

    True for workers of a parameter-server job, which TensorFlow's coordinator reconnects to, and for the
    evaluator, which nobody connects to. Before all are placed there is no address to come back to.
    """
    task = event.task
    if task is None or event.kind != "lost" or state.phase == "placing" or not event.data.get("node_alive", True):
        return False
    served = task.role == "worker" and state.spec.strategy == "parameter_server"
    limit = state.spec.role(task.role).max_restarts
    limit = state.spec.failure.max_restarts if limit is None else limit
    return (served or task.role == "evaluator") and state.task_restarts.get(task, 0) < limit


def _hang(state: State, event: Event) -> _Next:
    if state.phase != "running":
        return state, ()
    return _again_or_fail(replace(state, failures=(event,)))


def _settled(state: State, event: Event) -> _Next:
    if state.phase == "finishing":
        return _trained(state)
    if state.phase != "settling":
        return state, ()
    if state.trained:  # the leader ended while failures were collected: who is lost is no longer needed
        own = user_failures(state)
        state = replace(state, failures=tuple(f for f in state.failures if f in own or f.task == state.evaluator))
    return _again_or_fail(state) if state.failures else _trained(state)


def _again_or_fail(state: State) -> _Next:
    """A new attempt where the rules allow one, else the end."""
    own = user_failures(state)
    failure = state.spec.failure
    if (own and not failure.retry_user_errors) or state.restarts >= failure.max_restarts:
        return _fail(state, error_of(state))
    wait = min(failure.backoff * 2.0 ** min(state.restarts, MAX_DOUBLINGS), failure.max_backoff)
    again = replace(_next_attempt(state), restarts=state.restarts + 1)
    return again, (End(error_of(state).happened, state.failures), Place(again.attempt, wait))


def _fail(state: State, error: TfClusterError) -> _Next:
    return replace(state, phase="done"), (End(error.happened, state.failures), Finish(error))


def _placement_failed(state: State, event: Event) -> _Next:
    if state.phase != "placing":
        return state, ()
    return _fail(state, PlacementError(event.data["happened"], event.data["seen"], event.data["todo"]))


def _startup_failed(state: State, event: Event) -> _Next:
    if state.phase not in ("placing", "running"):
        return state, ()  # training is done, or the attempt is about to be judged by its failures
    error = StartupError(event.data["happened"], event.data["seen"], event.data["todo"])
    return _fail(replace(state, failures=(event,)), error)


def _evaluator_late(state: State, event: Event) -> _Next:
    if state.phase != "draining":
        return state, ()
    if state.spec.script is not None:
        return _succeed(state)  # it cannot be told that training is over; it has had its time
    seen = f"checkpoint {state.checkpoint} after {state.spec.timeouts.evaluator:g} s"
    error = EvaluatorError(
        "training succeeded, but the evaluator did not see its last checkpoint in time",
        seen,
        "raise timeouts.evaluator, or evaluate less; the checkpoints are in the run directory",
    )
    return _fail(replace(state, failures=(event,)), error)


def _interrupted(state: State, event: Event) -> _Next:
    return _fail(state, stopped(state, str(event.data.get("reason", "interrupted"))))


def stopped(state: State, why: str) -> InterruptedRunError:
    """The error of a run that was stopped from outside."""
    return InterruptedRunError("the run was stopped", why, "" if state.checkpoint is None else _GO_ON)


_HANDLERS = {
    "placed": _placed,
    "task_ready": _ready,
    "checkpoint": _checkpoint,
    "finished": _finished,
    "failed": _broken,
    "lost": _broken,
    "node_draining": _node_draining,
    "hang": _hang,
    "settled": _settled,
    "placement_failed": _placement_failed,
    "startup_failed": _startup_failed,
    "evaluator_late": _evaluator_late,
    "interrupted": _interrupted,
}


def user_failures(state: State) -> tuple[Event, ...]:
    """Those failures that are the user's own errors: of their code, not an echo of another task's loss, nor passing."""
    script = state.spec.script is not None
    raised = (f for f in state.failures if f.kind == "failed" and not is_echo(f) and not is_passing(f))
    return tuple(f for f in raised if f.task and runs_user_code(f.task, state.spec.strategy, script))


def is_echo(failure: Event) -> bool:
    """Whether a task only tells that another one is gone."""
    return failure.kind == "failed" and bool(failure.data.get("peer"))


def is_passing(failure: Event) -> bool:
    """Whether a task failed for what may be over in the next attempt, as a storage that gives no answer."""
    return failure.kind == "failed" and bool(failure.data.get("passing"))


def group_failures(failures: tuple[Event, ...]) -> list[tuple[Event, list[Task]]]:
    """Equal errors of several tasks as one, each with the tasks that had it, in task order."""
    groups: dict[tuple[str, str], tuple[Event, set[Task]]] = {}
    for failure in failures:
        groups.setdefault(_what(failure), (failure, set()))[1].update([failure.task] if failure.task else [])
    return [(first, sorted(tasks, key=_order)) for first, tasks in groups.values()]


def _what(failure: Event) -> tuple[str, str]:
    data = failure.data
    return str(data.get("type", failure.kind)), str(data.get("message", data.get("reason")))


def _order(task: Task) -> tuple[int, int]:
    return ROLE_ORDER.index(task.role), task.index


def error_of(state: State) -> TfClusterError:
    """The error that `state.failures` amount to: the user's own first, then losses, then their echoes."""
    own = user_failures(state)
    if own:
        first, tasks = group_failures(own)[0]
        what = f"{first.data.get('type')}: {first.data.get('message')}"
        traceback = str(first.data.get("traceback", "")).strip()
        if traceback == what:  # an error of ours, which says itself what to do
            return UserCodeError(f"{_names(tasks)} failed: {what}")
        seen = f"\n{traceback}\n" if traceback else ""
        return UserCodeError(f"{_names(tasks)} failed: {what}", seen, "mend the code and run again")
    if state.failures[0].kind == "hang":
        return HangError(
            "no step was made in time",
            f"{', '.join(state.failures[0].data['tasks'])} for {state.spec.timeouts.hang:g} s",
            "see the stacks in the run directory's failures/; raise timeouts.hang if a step may take that long",
        )
    return _loss_of(state)


def _loss_of(state: State) -> TfClusterError:
    lost = tuple(f for f in state.failures if not is_echo(f))
    groups = group_failures(lost or state.failures)
    tasks = sorted({task for _, names in groups for task in names}, key=_order)
    if len(groups) == 1:
        reason = _reason(groups[0][0])
    else:
        reason = "; ".join(f"{_names(names)}: {_reason(first)}" for first, names in groups[:3])
    what = f"{_names(tasks)} lost" if lost else f"{_names(tasks)} lost the connection to other tasks"
    seen = f"{reason} (attempt {state.restarts + 1} of {state.spec.failure.max_restarts + 1})"
    if state.trained:
        todo = "the checkpoints are in the run directory; see its failures/, or raise failure.max_restarts"
        return EvaluatorError(f"training succeeded, but {what}", seen, todo)
    return TaskLostError(what, seen, "see the run directory's failures/, or raise failure.max_restarts")


def _reason(failure: Event) -> str:
    data = failure.data
    return str(data.get("reason") or f"{data.get('type')}: {data.get('message')}")


def _names(tasks: list[Task]) -> str:
    return _some([str(task) for task in tasks])


def _some(names: list[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
