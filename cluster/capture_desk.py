"""Between a job and its captures: which tasks can be traced, who asks for it, and that the job's end waits for them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from cluster.captures import Captures, Tell
from cluster.events import Event
from cluster.plan import Plan
from cluster.requests import Request, Requests
from cluster.spec_parts import ROLE_ORDER
from cluster.storage import RunDirectory
from cluster.tasks import Task

#: Seconds more for traces that are on their way.
_ARRIVING = 60.0
#: Why there is no trace of a task that ended, where that is all that is known.
_ENDINGS = {"finished": "it ended", "failed": "its code failed while it was traced", "lost": "it was lost"}


class CaptureDesk:
    """The captures that a job's leader and its users ask for.

    Args:
        plan: of the job.
        directory: its run directory, where requests come in and captures end up.
        tell: sends a command to a task.
        emit: tells of a capture.
    """

    def __init__(self, plan: Plan, directory: RunDirectory, tell: Tell, emit: Callable[[dict[str, Any]], None]) -> None:
        profile = plan.spec.profile
        self._steps = None if profile is None else profile.steps
        self._of_steps = None if profile is None else profile.tasks
        self._captures = Captures(directory, plan.spec.strategy, tell, emit, script=plan.spec.script is not None)
        self._requests = Requests(directory.uri, directory.is_local)
        self._ready: set[Task] = set()  # tasks whose code runs

    def see(self, event: Event) -> None:
        """Note which tasks can be traced."""
        if event.task is None:
            return
        if event.kind == "task_ready":
            self._ready.add(event.task)
        if event.kind in ("finished", "failed", "lost"):
            self._ready.discard(event.task)
            if not event.data.get("tracing"):  # else its last word on the capture is still to come
                self._captures.gone(event.task, str(event.data.get("reason") or _ENDINGS[event.kind]))

    @property
    def _running(self) -> list[Task]:
        """Tasks that can be traced, in the order of the plan."""
        return sorted(self._ready, key=lambda task: (ROLE_ORDER.index(task.role), task.index))

    def message(self, event: Event, worker: Any, *, starting: bool) -> bool:
        """A task's word on a capture; False where it is to come again, for a capture that cannot begin yet.

        Args:
            event: of kind `profile`, from a task.
            worker: the task's supervisor.
            starting: whether tasks are still starting, which could not take part.
        """
        if event.data["status"] == "wanted" and (starting or self._captures.settling):
            return False
        self._captures.take(event, worker, self._running, self._of_steps)
        return True

    def forget(self) -> None:
        """The attempt has ended: none of its tasks can be traced any more."""
        self._ready.clear()

    def tick(self, *, starting: bool) -> None:
        """See what has come together, and take requests; call it often.

        Args:
            starting: whether tasks are still to come: requests then wait where they are, and can be taken back.
        """
        self._captures.tick()
        if not starting and not self._captures.settling:
            for request in self._requests.take():
                self._answer(request)

    def _answer(self, request: Request) -> None:
        if request.wrong:
            self._captures.refuse(request.id, f"request {request.id}: {request.wrong}")
        else:
            self._captures.request(request.id, request.asked, self._running)

    def settle(self, wait: Callable[[], None], why: str, patience: float) -> None:
        """Let a capture that goes on come together while its tasks still live.

        Args:
            wait: takes the messages of tasks, waiting a little for some.
            why: what is said of traces that are not here in time.
            patience: seconds in which they must be.
        """
        self._captures.cut(why)
        deadline = time.monotonic() + patience
        while self._captures.busy and time.monotonic() < deadline + _ARRIVING:
            wait()
            if time.monotonic() > deadline:
                self._captures.give_up(why)
            self._captures.tick()

    def never_came(self, step: int) -> str:
        """What to say at the end of training, after `step`, of steps that were to be traced; '' where they came."""
        if self._steps is None or self._captures.came_to_steps:
            return ""
        first, last = self._steps
        ended = f"at step {step}" if step else "without a step that it told of, by ctx.report or ctx.callbacks"
        return f"profile: steps {first} to {last} never came: the job ended {ended}"

    def finish(self, patience: float) -> None:
        """The run is over: keep what is here of a capture, and wait `patience` seconds for verdicts."""
        self._captures.finish(patience)

    def close(self) -> None:
        """Keep no thread."""
        self._captures.close()
