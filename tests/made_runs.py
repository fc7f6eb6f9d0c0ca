"""Run directories as they would lie there after, or during, runs of every kind; for tests that read them."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from cluster.events import Event
from cluster.log_times import mark
from cluster.storage import RunDirectory
from cluster.tasks import Task

#: When they began, in seconds since the Unix epoch.
BEGAN = 1_790_000_000.0
#: What no page may show as anything but text.
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&{{ 7*7 }}"
SPEC = """name: flights
entrypoint: train.py:train
strategy: multi_worker_mirrored
roles:
  worker: {replicas: 3, env: {HF_TOKEN: '***'}}
storage: s3://key:***@bucket/runs
"""
VERSIONS = {"ray-tfcluster": "0.1.0", "python": "3.11.7", "tensorflow": "2.17.1", "keras": "3.15.1", "ray": "2.60.0"}


class Made:
    """A run directory that is being made: `event` and `log` at so many seconds after its begin."""

    def __init__(
        self,
        folder: Path,
        name: str,
        *,
        alive: bool = False,
        began: float = BEGAN,
        spec: str = SPEC,
        versions: Mapping[str, str] = VERSIONS,
    ) -> None:
        self.began = began
        self.directory = RunDirectory(str(folder / name))
        self.directory.create()
        self.directory.write("job.yaml", spec)
        pid = os.getpid() if alive else 0
        about: dict[str, Any] = {"run_dir": self.uri, "pid": pid, "hostname": os.uname().nodename}
        self.event(0.0, "run_started", **about, versions=dict(versions))

    @property
    def uri(self) -> str:
        return self.directory.uri

    def event(self, at: float, kind: Any, attempt: int = 1, task: Task | None = None, **data: Any) -> None:
        self.directory.append("events.jsonl", Event(kind, attempt, task, data, self.began + at).to_line())

    def log(self, at: float, task: Task, text: str) -> None:
        self.directory.append(f"logs/{task}.times", mark(self.directory.size(f"logs/{task}.log"), self.began + at))
        self.directory.append(f"logs/{task}.log", text + "\n")

    def start(self, at: float, tasks: Iterable[Task], attempt: int = 1, *, placing: float = 6.0) -> float:
        """An attempt begins, and its tasks start; returns when the last of them is ready."""
        tasks = list(tasks)
        nodes = {str(task): f"10.0.0.{1 + number % 4}" for number, task in enumerate(tasks)}
        self.event(at, "attempt_started", attempt)
        self.event(at + placing, "placed", attempt, nodes=nodes, supervisors={})
        for number, task in enumerate(tasks):
            self.event(at + placing + 0.2 + number % 5 * 0.1, "task_started", attempt, task, pid=100, how="forked")
            self.event(at + placing + 4.0 + number % 7 * 0.3, "task_ready", attempt, task)
        return at + placing + 6.0

    def train(
        self,
        at: float,
        until: float,
        tasks: Iterable[Task],
        attempt: int = 1,
        *,
        first: int = 0,
        every: float = 5.0,
        slow: float = 1.0,
    ) -> int:
        """Steps of all `tasks`, twenty a second, which learn so many times as slowly; returns the last."""
        step, now = first, at
        while now < until:
            step, now = step + int(20 * every), now + every
            for task in tasks:
                done = step / slow
                metrics = {"loss": 3.0 * math.exp(-done / 900) + 0.2, "accuracy": 1 - 0.8 * math.exp(-done / 1200)}
                data: dict[str, Any] = {"metrics": metrics if task.index == 0 else {}, "epoch": 1 + step // 800}
                data |= {"epochs": 5, "steps": 800, "batch": 1024, "input_busy": 0.4}
                self.event(now, "step", attempt, task, step=step, **data)
            if step % 800 < 100:
                leader, validation = next(iter(tasks)), {"val_loss": 3.1 * math.exp(-step / slow / 900) + 0.3}
                self.event(now, "step", attempt, leader, step=step, metrics=validation)
                self.event(now + 0.5, "checkpoint", attempt, leader, step=step, path="…")
        return step

    def use(self, at: float, until: float, tasks: Iterable[Task], *, every: float = 30.0) -> None:
        """Samples of the machines."""
        count = int((until - at) / every)
        for number in range(count):
            wave = 0.5 + 0.4 * math.sin(number / 3)
            samples = {str(t): {"cpus": round(1.2 + wave, 2), "memory": int(1.5e9 + 2e8 * wave)} for t in tasks}
            self.event(at + every * number, "usage", tasks=samples)

    def end(self, at: float, status: str, **result: Any) -> None:
        self.event(at, "run_ended", status=status, exit_code=0 if status == "succeeded" else 10)
        document = {"status": status, "seconds": at, "error": "", **result}
        self.directory.write("result.json", json.dumps(document))


WORKERS = [Task("worker", index) for index in range(3)]
EVALUATOR = Task("evaluator", 0)


def succeeded(folder: Path) -> Made:
    """Three workers and an evaluator that trained to the end, with a capture of traces and its verdict."""
    run = Made(folder, "flights-20260921-140000-beef")
    ready = run.start(0.0, [*WORKERS, EVALUATOR])
    for task in WORKERS:
        run.log(ready, task, "2026-03-01 14:05:59.123456: W tensorflow/core/framework/dataset.cc:993] not optimized")
        run.log(ready + 1, task, f"hello from {task}")
    run.train(ready, 212.0, WORKERS)
    run.use(ready, 212.0, WORKERS, every=10.0)
    for step in (800, 1600, 2400):
        run.event(40.0 + step / 20, "evaluated", 1, EVALUATOR, step=step, metrics={"loss": 2.0 / (step / 400)})
    capture(run, 100.0)
    for task in [*WORKERS, EVALUATOR]:
        run.event(215.0, "finished", 1, task, value=None)
    run.end(216.0, "succeeded", steps=4000, metrics={"loss": 0.24})
    return run


def several(folder: Path, count: int = 3) -> list[Made]:
    """Runs of one job that differ in arguments, versions, what they learn and their end; the second was traced."""
    made = []
    for number in range(count):
        spec = SPEC.replace("roles:", f"args: {{rate: {0.1 / 2**number}, api_key: 'sk-12345678{number}'}}\nroles:")
        versions = VERSIONS if number else {**VERSIONS, "keras": "3.14.0"}
        began = BEGAN + 86_400 * number
        name = f"flights-{time.strftime('%Y%m%d-%H%M%S', time.gmtime(began))}-{number:04x}"
        run = Made(folder, name, began=began, spec=spec, versions=versions)
        ready = run.start(0.0, WORKERS)
        last = number == count - 1
        run.train(ready, 60.0 if last else 120.0 + 20.0 * number, WORKERS, slow=1.0 + 0.5 * number)
        if number == 1:
            capture(run, 100.0)
        error = {"error": f"worker-0 failed: ValueError: {HOSTILE}"} if last else {}
        run.end(62.0 if last else 125.0 + 20.0 * number, "failed" if last else "succeeded", **error)
        made.append(run)
    return made


def capture(run: Made, at: float, name: str = "2026_09_21_14_01_40", number: str = "c1") -> None:
    """A capture of traces, and what was found in it."""
    folder = f"tensorboard/plugins/profile/{name}"
    verdict = verdict_document()
    run.directory.write(f"{folder}/verdict.json", json.dumps(verdict))
    run.event(at, "profile", id=number, status="tracing", tasks={"worker-0": {}, "worker-1": {}, "worker-2": {}})
    done = {"status": "done", "folder": folder, "seconds": 3.0, "verdict": verdict["sentence"]}
    traces = {"worker-0": {"bytes": 1_200_000}, "worker-1": {"bytes": 900_000}, "worker-2": {}}
    run.event(at + 6.0, "profile", id=number, **done, tasks=traces, missing={"worker-2": "it ended"})


def cost(kind: str, name: str, seconds: float, calls: float, *, moves_data: bool = False) -> dict[str, Any]:
    """A row of a verdict's tables."""
    return {"type": kind, "name": name, "seconds": seconds, "calls": calls, "moves_data": moves_data}


def verdict_document() -> dict[str, Any]:
    """What `verdict.json` of a job with a straggler holds."""
    parts = ("input", "compute", "communication", "runtime", "other")
    shares = {"worker-0": (0.03, 0.55, 0.34, 0.05, 0.03), "worker-1": (0.02, 0.61, 0.05, 0.04, 0.28)}
    tasks = [
        {
            "task": task,
            "traced": 3.0,
            "steps": {"count": 58, "mean": 0.0512, "median": 0.051, "p95": 0.0603},
            "compared": True,
            "own": 0.031 if task == "worker-0" else 0.0487,
            "shares": dict(zip(parts, values, strict=True)),
            "feed": 0.4,
            "eager": 0,
            "gpus": [],
        }
        for task, values in shares.items()
    ]
    operations = [
        cost("MatMul", "model/dense_1/MatMul", 0.0181, 3.0),
        cost("CollectiveReduceV2", "CollectiveReduceV2", 0.0174, 4.0, moves_data=True),
        cost("Relu", f"model/{HOSTILE}/Relu", 0.0021, 2.0),
    ]
    return {
        "sentence": "worker-1 holds the others up: 48.7 ms of its own a step, the others 31 ms",
        "limit": "straggler",
        "step": 0.0512,
        "at_best": 0.0338,
        "stragglers": [{"task": "worker-1", "own": 0.0487, "others": 0.031}],
        "notes": ["worker-2 left no trace: it ended"],
        "advice": ["look at what else runs on worker-1's node"],
        "tasks": tasks,
        "operations": operations,
        "stages": [cost("ParallelMap", "Iterator::ParallelMap", 0.004, 1.0)],
        "missing": {"worker-2": "it ended"},
    }


def failed(folder: Path) -> Made:
    """A run that lost a task, began anew, had another restarted in its place, and failed on its own code."""
    run = Made(folder, "flights-20260921-150000-dead")
    ready = run.start(0.0, WORKERS)
    step = run.train(ready, 60.0, WORKERS)
    run.event(61.0, "lost", 1, WORKERS[1], reason="its process was ended by SIGKILL", node_alive=True)
    run.event(61.2, "restarting", 1, after=1.0)
    ready = run.start(62.2, WORKERS, 2, placing=1.0)
    step = run.train(ready, 120.0, WORKERS, 2, first=step - 100)
    error = f"ValueError: bad phase {HOSTILE}"
    for task in WORKERS:
        lines = [f"step {number} \x1b[1mbold\x1b[0m" for number in range(200)]
        run.log(110.0, task, "\n".join(lines))
        run.log(121.0, task, f'Traceback (most recent call last):\n  File "train.py", line 3, in train\n{error}')
    for number, task in enumerate(WORKERS[:2]):
        why = {"type": "ValueError", "message": f"bad phase {HOSTILE}", "traceback": error, "peer": False}
        run.event(121.0 + number / 100, "failed", 2, task, **why)
    run.directory.write("failures/1/worker-0.stacks", "Thread 1: in an attempt before")
    run.directory.write("failures/2/worker-2.stacks", f'File "train.py", line 9 in {HOSTILE}')
    run.end(122.0, "failed", error=f"worker-0, worker-1 failed: {error}\nTraceback …", steps=step)
    return run


def running(folder: Path) -> Made:
    """A run of parameter servers that goes on: this process stands for its launcher."""
    run = Made(folder, "servers-20260921-160000-cafe", alive=True, began=time.time() - 41.0)
    tasks = [Task("chief", 0), Task("worker", 0), Task("worker", 1), Task("ps", 0)]
    ready = run.start(0.0, tasks)
    run.train(ready, 40.0, tasks[:1])
    run.event(30.0, "lost", 1, tasks[1], reason="its process was ended by SIGKILL", node_alive=True)
    run.event(30.1, "restarting", 1, tasks[1], reason="its process was ended by SIGKILL")
    run.event(30.5, "task_started", 1, tasks[1], pid=7, how="forked")
    run.event(33.0, "task_ready", 1, tasks[1])
    run.log(35.0, tasks[1], "WARNING:tensorflow:back again")
    return run


def lost(folder: Path) -> Made:
    """A run whose launcher was killed."""
    run = Made(folder, "flights-20260921-170000-gone")
    ready = run.start(0.0, WORKERS)
    run.train(ready, 50.0, WORKERS)
    return run


def own_loop(folder: Path, *, alive: bool = False) -> Made:
    """A run of a loop of its own, which says its total, and began anew from step 300."""
    made = Made(folder, "loop-1", alive=alive)
    for attempt, begin, steps in ((1, 0.0, (0, 300, 330)), (2, 100.0, (300, 480))):
        ready = made.start(begin, WORKERS[:1], attempt)
        for number, step in enumerate(steps):
            data = {"step": step, "metrics": {}, "total": 720}
            made.event(ready + 60.0 * number, "step", attempt, WORKERS[0], **data)
    return made


def thousand(folder: Path) -> Made:
    """A thousand workers, of which one is lost twice and one failed while starting."""
    run = Made(folder, "large-20260921-180000-0001")
    tasks = [Task("worker", index) for index in range(1000)]
    ready = run.start(0.0, tasks, placing=40.0)
    run.train(ready, 100.0, tasks[:4], every=10.0)
    run.event(101.0, "lost", 1, tasks[500], reason="its node was lost", node_alive=False)
    run.event(101.5, "restarting", 1, after=1.0)
    ready = run.start(103.0, tasks, 2, placing=20.0)
    run.train(ready, 200.0, tasks[:4], 2, first=900, every=10.0)
    run.use(ready, 200.0, tasks, every=15.0)
    for task in tasks[7:400:3]:
        run.event(201.0, "failed", 2, task, type="InternalError", message="collective timed out", peer=True)
        run.log(201.0, task, "tensorflow.python.framework.errors_impl.InternalError: collective timed out")
    run.event(201.0, "lost", 2, tasks[500], reason="its node was lost", node_alive=False)
    run.end(203.0, "failed", error="worker-500 was lost more often than failure.max_restarts")
    return run


ALL = {"succeeded": succeeded, "failed": failed, "running": running, "lost": lost, "thousand": thousand}
