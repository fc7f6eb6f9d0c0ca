"""Carries a job through its attempts: feeds events to `cluster.lifecycle` and performs its actions."""

from __future__ import annotations

import contextlib
import pickle
import secrets
import time
from collections.abc import Callable, Sequence
from typing import Any

from cluster import lifecycle, workers
from cluster.capture_desk import CaptureDesk
from cluster.connection import Connection
from cluster.copying import Copying
from cluster.drains import Drains
from cluster.dumps import Dumps
from cluster.environment import task_environment
from cluster.errors import (
    InterruptedRunError,
    PlacementError,
    StartupError,
    StorageError,
    TaskLostError,
    TfClusterError,
)
from cluster.events import Event, Kind
from cluster.inbox import Inbox
from cluster.instruments import Instruments
from cluster.locations import shown
from cluster.order import job_folder, make_order
from cluster.plan import Plan
from cluster.progress import Progress
from cluster.recorder import Recorder
from cluster.resuming import Origin
from cluster.same_data import SameData
from cluster.save_desk import SaveDesk
from cluster.tasks import Task, leader_of, runs_user_code
from cluster.tensorboard import Beside
from cluster.workers import Gang

#: Longest wait for the verdicts on traces at the end of a run, in seconds, and of one that was stopped.
_VERDICTS, _VERDICTS_STOPPED = 120.0, 10.0


class Attempts:
    """Performs the actions of one job's lifecycle until it is finished."""

    def __init__(
        self,
        plan: Plan,
        recorder: Recorder,
        on_plan: Callable[[Plan], None],
        on_event: Callable[[Event], None],
        on_log: Callable[[Task, str], None],
        connection: Connection,
        directory: str,
        code: bytes | None,
        board: Beside | None = None,
        origin: Origin | None = None,
    ) -> None:
        self.plan = plan
        self.recorder = recorder
        self.progress = Progress()
        self.instruments = Instruments(self.leader, tuple(task.task for task in plan.tasks), recorder.directory)
        self._origin = origin
        self.state, self._first = lifecycle.begin(plan.spec, None if origin is None else origin.step)
        self._on_plan, self._on_event, self._on_log = on_plan, on_event, on_log
        self._connection, self._directory, self._code = connection, directory, code
        self._secret = secrets.token_bytes(32)
        self._gang: Gang | None = None
        self._inbox = Inbox(self._log)
        self._copying = Copying(recorder.directory, self._notice)
        self._error: TfClusterError | None = None
        self._done = False
        self._awaited: set[Task] = set()
        self._captures = CaptureDesk(plan, recorder.directory, self._tell, self._captured)
        self._drains, self._saves = Drains(), SaveDesk(self.leader, self._tell)
        self._same_data = SameData()
        self._board, self._dumps = board, Dumps(recorder.directory.local, self._tell)

    @property
    def leader(self) -> Task:
        """The task whose progress is the job's."""
        return leader_of(tuple(task.task for task in self.plan.tasks))

    def run(self, about: dict[str, Any], signals: Sequence[str]) -> TfClusterError | None:
        """Run to the end; returns the error, or None on success. Leaves no task, actor or bundle behind.

        Args:
            about: what `run_started` tells of the launcher.
            signals: names of the signals that ended it, as they come.
        """
        from ray.exceptions import RayError

        try:
            self._begin(Event("run_started", data=about))
            self._perform(self._first)
            while not self._done:
                for event in self._wait():
                    self._take(event)
        except KeyboardInterrupt:
            self._interrupted(signals[-1] if signals else "Ctrl-C")
        except BrokenPipeError:  # the observer's: what it writes to, such as `| head`, is closed
            self._on_event = self._on_log = _ignore
            self._interrupted("nobody reads its output any more")
        except StorageError as error:
            self._error = error
        except RayError as error:
            self._error = TaskLostError("the Ray cluster no longer answers", str(error).strip(), "see Ray's logs")
        finally:
            if self._gang is not None:
                workers.tear_down(self._gang, grace=0.0)
            self._keep_captures()
            self._dumps.close()
        self._ended()
        return self._error

    def _begin(self, started: Event) -> None:
        self.recorder.event(started)
        self._on_plan(self.plan)
        self._on_event(started)
        if self._origin is not None:
            self._notice(f"goes on from checkpoint {self._origin.step} of {shown(self._origin.run)}")

    def _ended(self) -> None:
        """The last event; a storage that does not even take that has been told of, or is the run's error."""
        code = 0 if self._error is None else self._error.exit_code
        event = Event("run_ended", self.state.attempt, data={"status": status_of(self._error), "exit_code": code})
        try:
            for rest in self.instruments.rest(self.state.attempt):
                self._emit(rest)
            self.recorder.event(event)
        except StorageError as error:
            self._error = self._error or error
        self._on_event(event)

    def _interrupted(self, reason: str) -> None:
        try:
            self._take(Event("interrupted", data={"reason": reason}))
        except StorageError as error:
            self._error = error
        if self._error is None:  # it came while the end was being performed
            self._error = lifecycle.stopped(self.state, reason)

    def _emit(self, event: Event) -> None:
        self.progress.take(event, self.leader)
        self.recorder.event(event)
        self.instruments.take(event)
        self._on_event(event)

    def _take(self, event: Event) -> None:
        """Record `event`, ask the rules, act."""
        if event.attempt not in (0, self.state.attempt):
            return
        event = self.recorder.masked(event)
        if event.kind != "settled":
            self._emit(event)
        if event.kind in ("task_ready", "failed", "lost", "finished") and event.task is not None:
            self._awaited.discard(event.task)
        self._captures.see(event)
        self._saves.see(event)
        if event.kind == "checkpoint":
            self._tell_evaluator({"kind": "checkpoint", "step": event.data["step"]})
        if event.kind == "task_ready" and event.task == self.state.evaluator and self.state.checkpoint is not None:
            self._tell_evaluator({"kind": "checkpoint", "step": self.state.checkpoint})
        self.state, actions = lifecycle.step(self.state, event)
        self._perform(actions)

    def _perform(self, actions: tuple[lifecycle.Action, ...]) -> None:
        for action in actions:
            getattr(self, f"_{type(action).__name__.lower()}")(action)

    # What each action does

    def _place(self, action: lifecycle.Place) -> None:
        if action.after is None:
            self._begin_attempt(action.attempt)
        else:
            self._emit(Event("restarting", action.attempt, data={"after": action.after}))
            self._inbox.after(action.after, Event("attempt_started", action.attempt))

    def _begin_attempt(self, attempt: int) -> None:
        limits = self.plan.spec.timeouts
        self._emit(Event("attempt_started", attempt, data={"within": limits.placement + limits.startup}))
        self.progress.seen.clear()
        if attempt == 1:
            self._copying.now()
        try:
            self._gang = workers.build(self.plan, self._connection.runtime_env, self._waits)
        except (PlacementError, StartupError) as error:
            kind: Kind = "placement_failed" if isinstance(error, PlacementError) else "startup_failed"
            data = {"happened": error.happened, "seen": error.seen, "todo": error.todo}
            self._take(Event(kind, attempt, data=data))
            return
        except workers.SupervisorLostError as error:
            self._take(Event("lost", attempt, error.task, {"reason": str(error), "node_alive": False}))
            return
        nodes = {str(task): self._gang.host(task) for task in self._gang.landings}
        pids = {str(task): landing.pid for task, landing in self._gang.landings.items()}
        self._take(Event("placed", attempt, data={"nodes": nodes, "supervisors": pids}))

    def _start(self, action: lifecycle.Start) -> None:
        assert self._gang is not None
        limit = self.plan.spec.timeouts.startup
        self._awaited = {task.task for task in self.plan.tasks}
        self._inbox.after(limit, Event("notice", self.state.attempt, data={"startup": limit}))
        for task in self.plan.tasks:
            self._start_task(task.task)

    def _start_task(self, task: Task) -> None:
        assert self._gang is not None
        worker = self._gang.workers[task]
        keras = self.plan.keras.major
        env = task_environment(
            self.plan.spec,
            task,
            keras=keras,
            attempt=self.state.attempt,
            run_dir=self.recorder.directory.uri,
            addresses=self._gang.addresses(),
            gpus=self._gang.landings[task].gpus,
        )
        order = make_order(
            self.plan,
            task,
            attempt=self.state.attempt,
            code=self._code,
            directory=job_folder(self._directory, self._connection.shipped, self._gang.landings[task].directory),
            run_dir=self.recorder.directory.uri,
            secret=self._secret,
            checkpoint=self.state.checkpoint,
        )
        begun = worker.start.remote(pickle.dumps(order), env, keras if self.plan.spec.warm else "none")
        self._inbox.listen(self._gang, task, begun)

    def _restart(self, action: lifecycle.Restart) -> None:
        assert self._gang is not None
        self._emit(Event("restarting", self.state.attempt, action.task, {"reason": action.reason}))
        try:
            if action.task in self._gang.workers and not self._alive(action.task):
                workers.replace_worker(self._gang, self.plan, action.task)
        except (StartupError, workers.SupervisorLostError) as error:
            self._take(Event("lost", self.state.attempt, action.task, {"reason": str(error), "node_alive": False}))
            return
        self._start_task(action.task)

    def _alive(self, task: Task) -> bool:
        """Whether the task's supervisor still answers."""
        import ray
        from ray.exceptions import RayError

        assert self._gang is not None
        try:
            ray.get(self._gang.workers[task].stop.remote(0.0), timeout=15.0)
        except RayError:
            return False
        return True

    def _wake(self, action: lifecycle.Wake) -> None:
        self._inbox.after(action.after, Event("settled", self.state.attempt))

    def _save(self, action: lifecycle.Save) -> None:
        self._saves.ask(action.tasks)

    def _move(self, action: lifecycle.Move) -> None:
        """End tasks that have saved, in order: nothing has failed, so there is no post-mortem."""
        assert self._gang is not None
        self._emit(Event("restarting", self.state.attempt, data={"after": 0.0, "reason": action.reason}))
        self._captures.settle(self._wait_for_captures, "the attempt ended", 10.0)
        self._inbox.drain(self._gang)
        self._leave(self.plan.spec.timeouts.stop)

    def _drain(self, action: lifecycle.Drain) -> None:
        self._tell_evaluator({"kind": "drain", "checkpoint": action.checkpoint})
        self._inbox.after(self.plan.spec.timeouts.evaluator, Event("evaluator_late", self.state.attempt))

    def _tell_evaluator(self, command: dict[str, Any]) -> None:
        if self.state.evaluator is not None:
            self._tell(self.state.evaluator, command)

    def _tell(self, task: Task, command: dict[str, Any]) -> None:
        if self._gang is not None:
            self._gang.workers[task].tell.remote(command)

    def _release(self, action: lifecycle.Release) -> None:
        """Let finished tasks exit; servers, which never do, are stopped with the gang."""
        import ray

        assert self._gang is not None
        self._captures.settle(self._wait_for_captures, "the job ended", 60.0)
        spec = self.plan.spec
        own = [t.task for t in self.plan.tasks if runs_user_code(t.task, spec.strategy, spec.script is not None)]
        leaving = [self._gang.workers[task] for task in own if task in self.state.finished]
        for worker in leaving:
            worker.tell.remote({"kind": "release"})
        exits = [worker.wait_exit.remote(spec.timeouts.stop) for worker in leaving]
        with contextlib.suppress(Exception):
            ray.wait(exits, num_returns=len(exits), timeout=spec.timeouts.stop + 2.0)
        self._inbox.drain(self._gang)
        self._leave(spec.timeouts.stop)

    def _end(self, action: lifecycle.End) -> None:
        if self._gang is None:
            return
        interrupted = not action.failures
        self._captures.settle(self._wait_for_captures, "the attempt ended", 10.0)
        failed = {f.task for f in action.failures}
        stacks = {} if interrupted else self._stacks([t for t in self._gang.workers if t not in failed])
        self._inbox.drain(self._gang)
        attempt = action.failures[0].attempt if action.failures else self.state.attempt
        self.recorder.post_mortem(attempt, action.reason, stacks)
        self._leave(self.plan.spec.timeouts.stop if interrupted else 0.0)

    def _stacks(self, tasks: list[Task]) -> dict[Task, str]:
        import ray

        assert self._gang is not None
        refs = {self._gang.workers[task].stacks.remote(): task for task in tasks}
        done, _ = ray.wait(list(refs), num_returns=len(refs), timeout=3.0) if refs else ([], [])
        stacks = {}
        for ref in done:
            with contextlib.suppress(Exception):
                stacks[refs[ref]] = ray.get(ref)
        return stacks

    def _leave(self, grace: float) -> None:
        assert self._gang is not None
        self._inbox.clear()
        self._saves.forget()
        self._same_data.forget()
        self._captures.forget()
        workers.tear_down(self._gang, grace)
        self._gang = None

    def _finish(self, action: lifecycle.Finish) -> None:
        if action.error is None and (missed := self._captures.never_came(self.progress.step)):
            self._notice(missed)
        self._error = action.error
        self._done = True

    # Where events come from

    def _wait(self) -> list[Event]:
        """Events since the last call: messages of tasks, lost supervisors, timers, hangs."""
        events = [e for event in self._inbox.wait(self._gang, self.state.attempt) for e in self._look(event)]
        events += [*self._hang(), *self.instruments.due(self.state.attempt), *self._dumps.news()]
        events += self._drains.news(self._gang, self.state.attempt)
        events += self._board.news() if self._board is not None else []
        self._captures.tick(starting=self._starting)
        self._saves.tick()
        self._copying.if_due()
        return events

    def _look(self, event: Event) -> list[Event]:
        """`event`, or what it means: nothing more, where it is a timer of this class or a word to one of its desks."""
        if event.attempt not in (0, self.state.attempt):
            return []
        if event.kind == "attempt_started":
            self._begin_attempt(event.attempt)
            return []
        if "startup" in event.data:
            return self._late_starters(event.data["startup"])
        if event.kind == "profile" and event.task is not None and self._gang is not None:
            if not self._captures.message(event, self._gang.workers[event.task], starting=self._starting):
                self._inbox.after(0.2, event)
            return []
        if event.kind == "stop_answer":
            self._saves.answer(event)
            return []
        if event.kind == "data_listed":
            return self._same_data.take(event)
        if event.kind == "usage":
            self.instruments.sample(event)
            return []
        if event.kind == "dumps" and event.task is not None and self._gang is not None:
            self._dumps.fetch(event, self._gang.workers[event.task])
            return []
        return [event]

    @property
    def _starting(self) -> bool:
        """Whether tasks are still to come, or the attempt is about to be judged and all of them may start anew."""
        return self.state.phase in ("placing", "settling") or bool(self._awaited)

    def _late_starters(self, limit: float) -> list[Event]:
        if not self._awaited:
            return []
        data = {
            "happened": f"{len(self._awaited)} tasks were not ready within {limit:g} s",
            "seen": ", ".join(sorted(map(str, self._awaited))[:8]),
            "todo": "see their logs in the run directory, or raise timeouts.startup",
        }
        return [Event("startup_failed", self.state.attempt, data=data)]

    def _log(self, task: Task, text: str) -> None:
        text = self.recorder.mask.text(text)
        self.recorder.log(task, text)
        self._on_log(task, text)

    def _captured(self, data: dict[str, Any]) -> None:
        """Tell of a capture, also to who waits for it at another place."""
        self._emit(Event("profile", self.state.attempt, data=data))
        if data["status"] != "tracing":
            self._copying.now()

    def _wait_for_captures(self) -> None:
        """Take messages of tasks at the end of an attempt, when only their traces still matter."""
        for event in self._inbox.wait(self._gang, self.state.attempt):
            if event.kind == "profile":
                self._look(event)
            else:
                self._captures.see(event)

    def _keep_captures(self) -> None:
        """At the end of the run, when no task holds its place any more."""
        patient = self._done and not isinstance(self._error, InterruptedRunError)
        try:
            self._captures.finish(_VERDICTS if patient else _VERDICTS_STOPPED)
        except StorageError as error:
            self._error = self._error or error
        finally:
            self._captures.close()

    def _hang(self) -> list[Event]:
        """A hang is when tasks have made steps, are not done, and none of them makes one any more."""
        limit = self.plan.spec.timeouts.hang
        waiting = {t: at for t, at in self.progress.seen.items() if t not in self.state.finished}
        if self.state.phase != "running" or not waiting or time.monotonic() - max(waiting.values()) < limit:
            return []
        self.progress.seen.clear()
        return [Event("hang", self.state.attempt, data={"tasks": sorted(str(t) for t in waiting)})]

    def _waits(self, text: str) -> None:
        """Tell what the job waits for, also in remote storage: nothing is copied while it waits."""
        self._notice(text)
        self._copying.now()

    def _notice(self, text: str) -> None:
        self._emit(Event("notice", self.state.attempt, data={"text": text}))


def _ignore(*shown: object) -> None:
    """In the place of an observer that is gone."""


def status_of(error: TfClusterError | None) -> str:
    """`succeeded`, `failed` or `interrupted`."""
    if error is None:
        return "succeeded"
    return "interrupted" if isinstance(error, InterruptedRunError) else "failed"
