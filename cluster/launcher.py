"""`run(spec) -> Result`: prepares, connects, and performs what `cluster.lifecycle` decides."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from cluster import __version__, warm_client
from cluster.attempts import Attempts, status_of
from cluster.connection import Connection, connect, wants_embedded
from cluster.environment import import_environment
from cluster.errors import PreflightError, StorageError, TfClusterError
from cluster.events import Event
from cluster.findings import Facts
from cluster.locations import join
from cluster.plan import Plan, make_plan
from cluster.preflight import gather, local_node
from cluster.processes import require_linux
from cluster.recorder import Recorder
from cluster.resuming import bring, origin_of
from cluster.runs import started_at
from cluster.spec import JobSpec
from cluster.storage import RunDirectory, resolve
from cluster.tasks import Task, tasks_of
from cluster.tensorboard import Beside


class Observer(Protocol):
    """Is shown a run while it goes on, see `cluster.console`."""

    def plan(self, plan: Plan) -> None:
        """The job is about to start."""

    def event(self, event: Event) -> None:
        """Something happened."""

    def log(self, task: Task, text: str) -> None:
        """A task has written whole lines."""


@dataclass(frozen=True)
class Result:
    """How a run ended, and what it left.

    Attributes:
        status: `succeeded`, `failed` or `interrupted`.
        run_dir: path or URI of the run directory.
        seconds: from the call to the end.
        attempts: 1 and one more for every restart of the whole job.
        steps: the last step that the leader reported.
        metrics: the last value of each metric that the leader or the evaluator reported.
        checkpoint: step of the last checkpoint, or None.
        value: what the entrypoint returned on the leader, as JSON values.
        steps_per_second: while steps were made, evaluation and saving included; None without two reports of steps.
        examples_per_second: rows of all tasks; None where the leader reads no dataset of the spec.
        input_busy: share of the time in which tasks were reading their dataset; None as above.
        restarts: of the whole job, and of tasks in their place.
        usage: by role, of a task: mean `cpus` and `gpu` (utilisation, 0 to 1), most `memory` and `gpu_memory` (bytes).
        curve: name of the learning curves' picture in the run directory, or None.
        error: the error in one text, or ''.
        exit_code: 0, or the one of `cluster.errors`.
    """

    status: str
    run_dir: str
    seconds: float
    attempts: int
    steps: int
    metrics: Mapping[str, float]
    checkpoint: int | None
    value: Any
    steps_per_second: float | None
    examples_per_second: float | None
    input_busy: float | None
    restarts: int
    usage: Mapping[str, Mapping[str, float]]
    curve: str | None
    error: str
    exit_code: int


def run(
    spec: JobSpec | Mapping[str, Any] | str | Path,
    *,
    directory: str | Path | None = None,
    observer: Observer | None = None,
) -> Result:
    """Run one job to its end, on the Ray at hand or on one of its own.

    Args:
        spec: a `JobSpec`, a mapping, or the path of a YAML or JSON file.
        directory: what relative paths in the spec are relative to; default: the spec file's folder, or the
            current one.
        observer: is shown the run; default: progress on standard output.

    Raises:
        SpecError, PreflightError: before any resource is taken.
        TfClusterError: any other of its kinds, once the run directory is complete; its `run_dir` says where.
        InterruptedRunError: after an orderly end, when Ctrl-C was pressed or SIGTERM came.
    """
    started = time.time()
    require_linux()
    where = _directory(spec, directory)
    job = JobSpec.of(spec)
    watcher = observer if observer is not None else _default_observer()
    with contextlib.ExitStack() as stack:
        prepare(job, where)
        warming = _warm_up(job, where) if wants_embedded(job) else None
        connection = stack.enter_context(connect(job, where))
        signals = stack.enter_context(_terminable())  # after Ray, which installs a handler of its own
        if warming is not None:
            warming.join()
        facts = gather(job, Path(where))
        plan = make_plan(job, connection.nodes, facts)
        plan.raise_for_errors()
        storage = _storage(job, where, connection)
        origin = origin_of(job.resume, job.name, storage, where)
        recorder = Recorder(RunDirectory(_run_uri(job, storage)), plan)
        if origin is not None:
            bring(origin, recorder.directory.uri)
        recorder.begin()
        shown = (watcher.plan, watcher.event, watcher.log)
        board = stack.enter_context(_board(job, recorder))
        attempts = Attempts(plan, recorder, *shown, connection, where, payload_code(spec), board, origin)
        error = attempts.run(_about(connection, recorder, facts), signals)
        result = _result(attempts, error, time.time() - started)
        try:
            recorder.result(vars(result))
        except StorageError as unstored:
            error = error or unstored
    if error is not None:
        error.run_dir = result.run_dir
        raise error
    return result


def _directory(spec: object, directory: str | Path | None) -> str:
    if directory is None:
        directory = Path(spec).parent if isinstance(spec, str | Path) else Path.cwd()
    return str(Path(directory).resolve())


def _default_observer() -> Observer:
    from cluster.console import make_console

    return make_console()


@contextlib.contextmanager
def _terminable() -> Iterator[list[str]]:
    """SIGTERM ends a run as Ctrl-C does; in the list are the signals that came, for Ray raises Ctrl-C anew."""
    came: list[str] = []
    if threading.current_thread() is not threading.main_thread():
        yield came
        return

    def interrupt(number: int, frame: object) -> None:
        came.append(signal.Signals(number).name)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield came
    finally:
        signal.signal(signal.SIGTERM, before)


def prepare(spec: JobSpec, directory: str) -> None:
    """Run the spec's `prepare` function in a process of its own, which sees what the user would.

    What it prints goes where errors go: the output may be a document that a program reads.

    Raises:
        PreflightError: it failed; its own traceback stands above.
    """
    if spec.prepare is None:
        return
    command = [sys.executable, "-m", "cluster.prepare", spec.prepare]
    done = subprocess.run(command, cwd=directory, check=False, stdout=2)  # sys.stderr of a notebook is no file
    if done.returncode < 0:
        raise KeyboardInterrupt
    if done.returncode:
        raise PreflightError("prepare failed", spec.prepare, "see its traceback above")


def _warm_up(spec: JobSpec, directory: str) -> threading.Thread | None:
    """Check the spec against this machine; start its warm process while Ray itself starts."""
    plan = make_plan(spec, [local_node()], gather(spec, Path(directory)))
    plan.raise_for_errors()
    if not spec.warm:
        return None
    keras = plan.keras.major
    env = import_environment(spec, keras) | spec.role(tasks_of(spec)[0].role).env

    def start() -> None:
        with contextlib.suppress(OSError, subprocess.CalledProcessError):  # the supervisors will say what is wrong
            warm_client.connect(keras, env, os.getpid()).close()

    thread = threading.Thread(target=start, name="tfcluster-warm-up")
    thread.start()
    return thread


@contextlib.contextmanager
def _board(spec: JobSpec, recorder: Recorder) -> Iterator[Beside | None]:
    """TensorBoard beside the job, where the spec asks for one."""
    if spec.tensorboard is None:
        yield None
        return
    with contextlib.closing(Beside(spec.tensorboard, recorder.directory.uri, debug=spec.debug is not None)) as board:
        yield board


def _storage(spec: JobSpec, directory: str, connection: Connection) -> str:
    """Where run directories are; inside a Ray job a relative storage is below the home directory.

    Ray deletes a job's working directory, and with it what was written there.
    """
    inside = bool(connection.job_id and connection.shipped and directory.startswith(connection.shipped))
    return resolve(spec.storage, str(Path.home()) if inside else directory)


def _run_uri(spec: JobSpec, storage: str) -> str:
    """`<storage>/<name>-<time>-<random>`."""
    return join(storage, f"{spec.name}-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}")


def payload_code(spec: object) -> bytes | None:
    """The entrypoint as cloudpickle bytes, where it was given as a function."""
    entrypoint = getattr(spec, "entrypoint", None) or (spec.get("entrypoint") if isinstance(spec, Mapping) else None)
    if not callable(entrypoint):
        return None
    import cloudpickle

    code: bytes = cloudpickle.dumps(entrypoint)
    return code


def _about(connection: Connection, recorder: Recorder, facts: Facts) -> dict[str, Any]:
    """What `tfcluster status` and `stop` need to find this run again, and what it ran with."""
    versions = {"ray-tfcluster": __version__, "python": facts.python, **facts.versions}
    return {
        "run_dir": recorder.directory.uri,
        "pid": os.getpid(),
        "pid_started": started_at(os.getpid()),
        "hostname": os.uname().nodename,
        "job_id": connection.job_id,
        "embedded": connection.embedded,
        "versions": {name: version for name, version in versions.items() if version},
    }


def _result(attempts: Attempts, error: TfClusterError | None, seconds: float) -> Result:
    progress = attempts.progress
    return Result(
        status=status_of(error),
        run_dir=attempts.recorder.directory.uri,
        seconds=round(seconds, 3),
        attempts=attempts.state.attempt,
        steps=progress.step,
        metrics=progress.metrics,
        checkpoint=attempts.state.checkpoint,
        value=progress.value,
        **attempts.instruments.result(),
        error="" if error is None else str(error),
        exit_code=0 if error is None else error.exit_code,
    )
