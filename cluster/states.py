"""What state a task is in, by the events of its run: the one rule for whoever shows or counts states. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from cluster.events import Event

State = Literal[
    "waiting",  # for a place
    "placed",  # its supervisor is on a node
    "starting",  # its process exists
    "running",  # its own code runs
    "restarting",  # it was lost, and starts anew in its place
    "finished",
    "failed",
    "lost",
    "stopped",  # with the attempt or the job, which ended for another reason
    "unknown",  # the launcher is gone, and nobody saw its end
]
#: Events of the job that change the state of all its tasks.
FOR_ALL = ("attempt_started", "placed", "restarting", "run_ended")
#: States that nothing changes but another attempt or a restart.
ENDED: tuple[State, ...] = ("finished", "failed", "lost", "stopped")
#: States that a person should see first.
TROUBLE: tuple[State, ...] = ("failed", "lost", "restarting")

_BY_TASK: Mapping[str, State] = {
    "task_started": "starting",
    "task_ready": "running",
    "restarting": "restarting",
    "finished": "finished",
    "failed": "failed",
    "lost": "lost",
}


def state_after(state: State, event: Event) -> State:
    """The state of a task after an event of its own, or of the job (`placed` being of the tasks that it names)."""
    if event.task is not None:
        return _BY_TASK.get(event.kind, state)
    match event.kind:
        case "attempt_started":
            return "waiting"
        case "placed":
            return "placed"
        case "restarting" | "run_ended":  # whatever still ran was stopped before
            return state_at_end(state, seen=True)
    return state


def state_at_end(state: State, *, seen: bool) -> State:
    """The state of a task whose attempt is over, `seen` to its end by its launcher, or not."""
    return state if state in ENDED else "stopped" if seen else "unknown"
