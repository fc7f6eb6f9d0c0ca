"""A launcher with simulated tasks, for `benchmarks.observe`: real messages through Ray, a real run directory."""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from typing import Any

from cluster import workers
from cluster.attempts import Attempts
from cluster.connection import Connection
from cluster.console import PlainConsole
from cluster.events import Event
from cluster.plan import Facts, Node, make_plan
from cluster.recorder import Recorder
from cluster.reports import OTHERS
from cluster.spec import parse
from cluster.storage import RunDirectory
from cluster.supervisor import SAMPLE_SECONDS, Landing
from cluster.tasks import Task

#: Actors that play the tasks between them.
ACTORS = 8
#: Seconds from the last task's start to the beginning of what is measured.
SETTLING = 5.0
#: Seconds between two reports of the leader, see `cluster.callbacks` and `cluster.context`.
LEAST = {"fit": 0.5, "report": 0.1}


class Players:
    """Answers for the supervisors of many tasks, as `cluster.supervisor.Worker` does for one."""

    def __init__(self, tasks: int, least: float) -> None:
        self._tasks, self._least = tasks, least
        self._wakes: dict[int, float] = {}
        self._sampled: dict[int, float] = {}
        self._steps: dict[int, int] = {}

    async def next(self, index: int) -> list[tuple[str, dict[str, Any]]]:
        """Messages of a task, when it has one that the launcher should see at once."""
        now = time.monotonic()
        if index not in self._wakes:
            self._wakes[index], self._sampled[index], self._steps[index] = now, now, 0
            return [("task_started", {"pid": 1, "how": "forked", "reason": ""}), ("task_ready", {})]
        every = self._least if index == 0 else self._least * max(1.0, self._tasks / OTHERS)
        self._wakes[index] += every * (1 if self._steps[index] else (index + 1) / self._tasks)  # not all at once
        await asyncio.sleep(max(0.0, self._wakes[index] - now))
        return [*self._samples(index), ("step", self._step(index))]

    def _step(self, index: int) -> dict[str, Any]:
        self._steps[index] += 1
        metrics = {"loss": 1 / self._steps[index], "accuracy": 0.5, "mae": 0.1} if index == 0 else {}
        known = {"epoch": 1, "epochs": 3, "steps": 100_000, "epoch_done": False, "input_busy": 0.123}
        return {"step": self._steps[index], "metrics": metrics, **known}

    def _samples(self, index: int) -> list[tuple[str, dict[str, float]]]:
        found = []
        while time.monotonic() - self._sampled[index] > SAMPLE_SECONDS:
            self._sampled[index] += SAMPLE_SECONDS
            found.append(("usage", {"cpus": 1.234, "memory": 1_234_567_890, "seconds": SAMPLE_SECONDS}))
        return found

    async def other(self, index: int) -> None:
        """Any other method."""


class Played:
    """In the place of one task's actor handle."""

    def __init__(self, actor: Any, index: int) -> None:
        self._actor, self._index = actor, index

    def __getattr__(self, name: str) -> Any:
        actor, index = self._actor, self._index

        class Method:
            @staticmethod
            def remote(*arguments: object) -> Any:
                return actor.next.remote(index) if name == "next" else actor.other.remote(index)

        return Method


class Watch:
    """The observer of the run: a console that writes to nowhere, and a stop watch."""

    def __init__(self, tasks: int, seconds: float, folder: str) -> None:
        self._tasks, self._seconds, self._folder = tasks, seconds, folder
        self._console = PlainConsole(open(os.devnull, "w"))  # noqa: SIM115  # as long as the run
        self._ready = self._events = 0
        self._settled: float | None = None
        self._first: tuple[float, float, int, int] | None = None
        self.found = (0.0, 0.0, 0.0)
        self.plan, self.log = self._console.plan, self._console.log

    def event(self, event: Event) -> None:
        """Count, and end the run when it was long enough."""
        self._console.event(event)
        self._events += 1
        self._ready += event.kind == "task_ready"
        now = time.monotonic()
        if self._settled is None and self._ready == self._tasks:
            self._settled = now + SETTLING
        if self._first is None and self._settled is not None and now > self._settled:
            self._first = self._now()
        if self._first is not None and now > self._first[0] + self._seconds and not self.found[1]:
            at, cpu, events, size = (after - before for after, before in zip(self._now(), self._first, strict=True))
            self.found = cpu / at, events / at, size / at * 3600 / 1e6
            raise KeyboardInterrupt

    def _now(self) -> tuple[float, float, int, int]:
        size = os.path.getsize(os.path.join(self._folder, "events.jsonl"))
        return time.monotonic(), time.process_time(), self._events, size


def launcher_share(tasks: int, kind: str, seconds: float) -> tuple[float, float, float]:
    """Share of a core that the launcher takes for so many tasks; events a second; megabytes of events an hour."""
    import ray

    if not ray.is_initialized():
        ray.init(address="local", num_cpus=8, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    players = ray.remote(Players).options(num_cpus=0, max_concurrency=2000)
    actors = [players.remote(tasks, LEAST[kind]) for _ in range(ACTORS)]
    spec = parse(
        {"entrypoint": "observe_workload.py:train", "strategy": "multi_worker_mirrored", "roles": {"worker": tasks}}
    )
    plan = make_plan(spec, [Node("node", "10.0.0.1", {"CPU": 2.0 * tasks}, {"CPU": 2.0 * tasks})], Facts())
    names = [Task("worker", index) for index in range(tasks)]
    gang = workers.Gang(
        None,
        {},
        {task: Played(actors[task.index % ACTORS], task.index) for task in names},
        {task: Landing("node", 1000 + task.index, "host", "/", (), 1) for task in names},
        {"node": "10.0.0.1"},
        {},
    )
    workers.build = lambda *arguments: gang
    with tempfile.TemporaryDirectory(prefix="tfcluster-observe-") as folder:
        recorder = Recorder(RunDirectory(f"{folder}/run"), plan)
        recorder.begin()
        watch = Watch(tasks, seconds, f"{folder}/run")
        connection = Connection(embedded=False, nodes=(), shipped=None, runtime_env={}, job_id="")
        Attempts(plan, recorder, watch.plan, watch.event, watch.log, connection, folder, None).run(
            {"run_dir": folder}, ["done"]
        )
    for actor in actors:
        ray.kill(actor)
    return watch.found
