"""The launcher's side of captures: have tasks trace themselves over the same time, bring the traces together, judge.

Sources: where TensorBoard's profile plugin looks for traces, `<logdir>/plugins/profile/<time>/<host>.xplane.pb`, and
that it takes the file's name for the host's: https://github.com/openxla/xprof.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent import futures
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from cluster.advice import About
from cluster.capture import SUFFIX, Capture, asked_for, chosen, folder_name
from cluster.errors import StorageError
from cluster.events import Event
from cluster.judging import StoppedError, UnjudgedError, judge_apart
from cluster.pulls import pull
from cluster.storage import RunDirectory
from cluster.tasks import Task

#: Where captures end up in a run directory.
FOLDER = "tensorboard/plugins/profile"
#: Seconds between the order and the moment at which all tasks begin: it reaches the last of them in less.
LEAD = 0.3
#: Seconds after its end in which a capture must have come together.
PATIENCE = 90.0
#: Share of the seconds asked for from which on a capture does not count as cut short.
_NEARLY = 0.9

Tell = Callable[[Task, dict[str, Any]], None]


class Captures:
    """The captures of one run, one at a time; the traces of earlier ones are judged meanwhile, which may take minutes.

    Args:
        directory: where they end up.
        strategy: of the job, for the verdict.
        tell: sends a command to a task.
        emit: tells of a capture.
        script: whether the job is one, for the verdict.
    """

    def __init__(
        self,
        directory: RunDirectory,
        strategy: str,
        tell: Tell,
        emit: Callable[[dict[str, Any]], None],
        *,
        script: bool = False,
    ) -> None:
        self._directory, self._strategy, self._tell, self._emit = directory, strategy, tell, emit
        self._script = script
        self._now: Capture | None = None
        self._leader: Task | None = None
        self._began = self._deadline = 0.0
        self._pool = ThreadPoolExecutor(4, thread_name_prefix="tfcluster-pull")
        self._pulls: dict[Future[int], Task] = {}
        self._judges = ThreadPoolExecutor(1, thread_name_prefix="tfcluster-verdict")
        self._verdicts: dict[Future[dict[str, Any]], Capture] = {}
        self._stopped = threading.Event()  # what a verdict looks at
        self.came_to_steps = False  # whether training came to those that the spec wants traced
        self._steps_done: set[tuple[int, ...]] = set()
        self._over: set[str] = set()

    @property
    def busy(self) -> bool:
        """Whether a capture goes on."""
        return self._now is not None

    @property
    def settling(self) -> bool:
        """Whether every task is done with the capture that goes on, and only its files are not in place yet."""
        return self._now is not None and not self._now.awaited

    def request(self, capture: str, asked: Mapping[str, Any], running: Sequence[Task]) -> None:
        """Do what is asked for from outside, see `cluster.capture.asked_for`, or refuse it."""
        try:
            seconds, tasks = asked_for(asked)
        except ValueError as wrong:
            self.refuse(capture, f"request {capture}: {wrong}")
        else:
            self._begin(capture, tasks, running, seconds=seconds)

    def refuse(self, capture: str, why: str) -> None:
        """Say that there will be no such capture: to who asked for it, and on the run's console."""
        self._emit({"id": capture, "status": "refused", "reason": why})

    def take(self, event: Event, worker: Any, running: Sequence[Task], of_steps: Collection[str] | None) -> None:
        """A `profile` message of a task: the leader wants a capture or its end, or the task is so far with one.

        Args:
            event: the message, from a task.
            worker: the task's supervisor, which its file is pulled from.
            running: tasks that could be traced.
            of_steps: names of those that the spec wants traced by steps.
        """
        assert event.task is not None
        task, data = event.task, event.data
        status = data["status"]
        if status == "wanted":
            self._wanted(task, data, running, of_steps)
        elif self._now is None or data["id"] != self._now.id or (status != "enough" and task not in self._now.awaited):
            self._too_late(task, data)
        elif status == "enough":
            self.end()
        elif status == "tracing":
            self._now.recording.add(task)
            self._let_go()
        elif status == "traced":
            target = self._staging(self._now.id) / f"{task}{SUFFIX}"
            self._now.note(task, data.get("notes", ()))
            self._pulls[self._pool.submit(_fetch, worker, data["path"], target)] = task
        else:
            self.gone(task, str(data.get("reason", status)))

    def gone(self, task: Task, why: str) -> None:
        """Nothing is to be expected of `task` any more."""
        if self._now is not None and task in self._now.awaited and task not in self._pulls.values():
            self._now.missing[task] = why
            self._let_go()

    def cut(self, why: str) -> None:
        """Have every task end the capture that goes on before its time, and say so in what it says."""
        if self._now is not None:
            self._note_cut(self._now, why, LEAD)
            self.end()

    def _note_cut(self, capture: Capture, why: str, lead: float = 0.0) -> None:
        """Note that a capture ends now, if that is before its time; it began `lead` seconds after it was asked for."""
        took, asked = max(0.0, time.monotonic() - self._began - lead), capture.seconds
        if asked is not None and took < _NEARLY * asked and not capture.cut:
            capture.cut = f"it was cut short after {took:.1f} s of {asked:g} s: {why}"

    def end(self) -> None:
        """Have every task end the capture that goes on."""
        if self._now is not None:
            self._deadline = min(self._deadline, time.monotonic() + PATIENCE)
            for task in self._now.awaited:
                self._tell(task, {"kind": "trace_end", "id": self._now.id})

    def give_up(self, why: str) -> None:
        """Do without the traces that are not here yet."""
        if self._now is not None:
            for task in self._now.awaited:
                if task not in self._pulls.values():
                    self._now.missing[task] = why

    def tick(self) -> None:
        """See what has come together; call it often."""
        if self._now is not None:
            self._gather(self._now)
        for done in [future for future in self._verdicts if future.done()]:
            self._judged(self._verdicts.pop(done), done)

    def finish(self, patience: float) -> None:
        """The run is over: keep the traces that are here, and wait `patience` seconds for what they say."""
        self.tick()
        if self._now is not None:
            self._now.missing |= dict.fromkeys(self._now.awaited, "the run ended")
            self._settle(self._now)
        with contextlib.suppress(KeyboardInterrupt):  # who has no more patience
            futures.wait(self._verdicts, patience)
        self.tick()
        for capture in self._verdicts.values():
            self._say(capture, "no verdict yet: the run ended before; tfcluster profile RUN makes it")
        self._verdicts.clear()

    def close(self) -> None:
        """Keep no thread."""
        self._stopped.set()
        for pool in (self._pool, self._judges):
            pool.shutdown(wait=False, cancel_futures=True)

    def _wanted(
        self, leader: Task, data: Mapping[str, Any], running: Sequence[Task], of_steps: Collection[str] | None
    ) -> None:
        steps = tuple(data["steps"]) if data.get("steps") else None
        self.came_to_steps = self.came_to_steps or steps is not None
        if steps in self._steps_done or data["id"] in self._over:  # by an earlier attempt; without it, meanwhile
            self._go(leader, data["id"])
        elif self._begin(data["id"], of_steps if steps else data.get("tasks"), running, held=leader):
            self._steps_done |= {steps} if steps else set()

    def _too_late(self, task: Task, data: Mapping[str, Any]) -> None:
        """A message on a capture that nobody waits for, any more or yet."""
        if data["status"] == "enough":
            self._over.add(data["id"])
        elif data["status"] == "traced":
            self._taken(task, data["id"])

    def _begin(
        self,
        capture: str,
        wanted: Collection[str] | None,
        running: Sequence[Task],
        *,
        seconds: float | None = None,
        held: Task | None = None,
    ) -> bool:
        """Order a capture; or say why not, and let nobody wait for it."""
        try:
            if self._now is not None:
                raise ValueError(f"capture {self._now.id} goes on; try again when it is done")
            tasks = chosen(wanted, running)
        except ValueError as refused:
            self.refuse(capture, str(refused))
            if held is not None:
                self._go(held, capture)
            return False
        self._now = Capture(capture, tasks, seconds, held is not None)
        self._leader = held
        self._began = time.monotonic()
        self._deadline = self._began + (seconds or 3600.0) + PATIENCE
        at = 0.0 if held else time.time() + LEAD
        for task in tasks:
            self._tell(task, {"kind": "trace", "id": capture, "at": at, "seconds": seconds})
        self._emit(self._now.document("tracing"))
        return True

    def _let_go(self) -> None:
        """Have the leader go on when every task records."""
        if self._now is not None and self._now.held and self._now.begun and self._leader is not None:
            self._now.held = False
            self._go(self._leader, self._now.id)

    def _go(self, leader: Task, capture: str) -> None:
        self._tell(leader, {"kind": "trace_go", "id": capture})

    def _taken(self, task: Task, capture: str) -> None:
        """Have the task keep its trace no longer."""
        self._tell(task, {"kind": "trace_taken", "id": capture})

    def _staging(self, capture: str) -> Path:
        """Where traces come together: nothing that an upload copies half."""
        local = self._directory.local
        return local / f".capture-{capture}" if self._directory.is_local else Path(f"{local}.capture-{capture}")

    def _gather(self, capture: Capture) -> None:
        """See which traces have come, and put them in their place with the last of them."""
        for done in [future for future in self._pulls if future.done()]:
            task, error = self._pulls.pop(done), done.exception()
            self._taken(task, capture.id)
            if error is None:
                capture.sizes[task] = done.result()
            else:
                capture.missing[task] = f"its trace could not be fetched ({type(error).__name__})"
        if time.monotonic() > self._deadline:
            self.give_up("it did not answer in time")
        if not self._pulls and not capture.awaited:
            self._settle(capture)

    def _settle(self, capture: Capture) -> None:
        """Put the traces that are here in their place, and have them judged there: nothing takes them away again."""
        self._now = None
        self._pulls.clear()
        staging = self._staging(capture.id)
        document = capture.document("failed", reason=capture.nothing)
        if capture.sizes:
            self._note_cut(capture, "its tasks ended")
            names = [f"{task}{SUFFIX}" for task in capture.sizes]
            try:
                capture.folder = f"{FOLDER}/{_place(staging, names, self._directory.local / FOLDER)}"
                document = capture.document("collected")
            except OSError as error:
                document = capture.document("failed", reason=f"the traces could not be put in place: {error}")
        shutil.rmtree(staging, ignore_errors=True)
        if capture.folder:
            folder = self._directory.local / capture.folder
            how = (self._strategy, self._script, self._stopped.is_set)
            self._verdicts[self._judges.submit(_verdict, folder, capture, *how)] = capture
        self._emit(document)

    def _judged(self, capture: Capture, judging: Future[dict[str, Any]]) -> None:
        lacking = judging.exception()
        if lacking is not None:  # nothing is kept, so that it can be made elsewhere
            self._say(capture, f"no verdict: {lacking}; tfcluster profile RUN makes it, where there is more memory")
            return
        verdict = judging.result()
        said = str(verdict.get("sentence", ""))
        try:
            self._directory.write(f"{capture.folder}/verdict.json", json.dumps(verdict, indent=2) + "\n")
        except StorageError as error:
            said = f"{said} (not kept: {error.seen})"
        self._say(capture, said)

    def _say(self, capture: Capture, verdict: str) -> None:
        self._emit(capture.document("done", verdict=verdict))


def _fetch(worker: Any, path: str, target: Path) -> int:
    target.parent.mkdir(parents=True, exist_ok=True)
    return pull(worker, path, target)


def _verdict(
    folder: Path, capture: Capture, strategy: str, script: bool, stopped: Callable[[], bool]
) -> dict[str, Any]:
    """What the traces say; a trace that cannot be read is no reason to lose the others.

    Raises:
        UnjudgedError, StoppedError: there is none, but may be one elsewhere, or later.
    """
    missing = {str(task): why for task, why in capture.missing.items()}
    try:
        about = About(script=script, cut=bool(capture.cut))
        verdict = judge_apart(folder, strategy=strategy, missing=missing, about=about, stopped=stopped)
        return {**verdict, "notes": [*capture.noted, *verdict["notes"]]}
    except (UnjudgedError, StoppedError):
        raise
    except Exception as error:
        return {"sentence": f"no verdict: {error}", "missing": missing}


def _place(staging: Path, names: Sequence[str], parent: Path) -> str:
    """Move the files `names` of `staging` to a folder of `parent` named by the time, which appears whole; its name."""
    parent.mkdir(parents=True, exist_ok=True)
    whole = staging / "whole"  # without what is still being fetched
    whole.mkdir()
    for name in names:
        os.rename(staging / name, whole / name)
    at = time.time()
    while (parent / (name := folder_name(at))).exists():
        at += 1.0
    os.rename(whole, parent / name)
    return name
