"""`submit(spec) -> SubmittedJob`: hands a job to a Ray cluster through Ray's Job API."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO, TypeVar

from cluster.code_check import code_findings
from cluster.environment import EXCLUDED
from cluster.errors import CaptureError, PreflightError, RunNotFoundError, SpecError, SubmissionError
from cluster.spec import JobSpec

#: Ray's own variable for the address of its Job API.
ADDRESS_VARIABLE = "RAY_API_SERVER_ADDRESS"
#: How long a head may take, after its dashboard answers, until it has an agent that takes jobs.
AGENT_SECONDS = 90.0
FINISHED = ("SUCCEEDED", "FAILED", "STOPPED")

T = TypeVar("T")


@dataclass(frozen=True)
class SubmittedJob:
    """A job on a Ray cluster, by its submission id.

    Attributes:
        id: Ray's submission id.
        address: the cluster's dashboard, such as http://head:8265.
    """

    id: str
    address: str

    def status(self) -> str:
        """PENDING, RUNNING, SUCCEEDED, FAILED or STOPPED, as Ray says."""
        return str(_ask(self.address, lambda client: client.get_job_status(self.id)).value)

    def exit_code(self) -> int | None:
        """The launcher's exit code (see `cluster.errors`), or None before its end."""
        code = _ask(self.address, lambda client: client.get_job_info(self.id)).driver_exit_code
        return None if code is None else int(code)

    def message(self) -> str:
        """What Ray says of the job's state, in one text."""
        return str(_ask(self.address, lambda client: client.get_job_info(self.id)).message or "")

    def logs(self, follow: bool = False, stream: TextIO | None = None) -> str:
        """Everything the launcher has written; with `follow`, written to `stream` as it comes until the end."""
        if not follow:
            return str(_ask(self.address, lambda client: client.get_job_logs(self.id)))
        return _ask(self.address, lambda client: asyncio.run(_follow(client, self.id, stream or sys.stdout)))

    def stop(self) -> bool:
        """Ask the launcher to end in order; False when the job had ended before."""
        return bool(_ask(self.address, lambda client: client.stop_job(self.id)))

    def run_dir(self) -> str:
        """The job's run directory, as its launcher has named it on the cluster.

        Raises:
            RunNotFoundError: it has not, yet.
        """
        found = re.search(r"run directory: (\S.*)", self.logs())
        if found is None:
            raise RunNotFoundError("the job has no run directory yet", self.id, "try again when its tasks are placed")
        return found.group(1).strip()

    def profile(self, seconds: float = 3.0, tasks: Sequence[str] | None = None) -> dict[str, Any]:
        """Trace tasks of the job, see `cluster.profiling`: a small job on the cluster asks for it and waits.

        Raises:
            CaptureError: no task could be traced.
            RunNotFoundError: the job has no run directory yet.
        """
        command = ["tfcluster", "profile", self.run_dir(), "--json", "--seconds", f"{seconds:g}"]
        command += [] if tasks is None else ["--tasks", ",".join(tasks)]
        metadata = {"name": f"profile of {self.id}", "launcher": "ray-tfcluster"}
        made = _ask(self.address, lambda c: c.submit_job(entrypoint=shlex.join(command), metadata=metadata))
        asking = SubmittedJob(str(made), self.address)
        asking.wait(seconds + 240.0, every=0.2)
        output = asking.logs()
        documents = [line for line in output.splitlines() if line.startswith("{")]
        if asking.exit_code() or not documents:
            seen = output.strip().rpartition("error: ")[2][-1000:]
            raise CaptureError("the job could not be traced", seen, f"see tfcluster status {self.id}")
        return dict(json.loads(documents[-1]))

    def wait(self, timeout: float | None = None, every: float = 1.0) -> str:
        """Wait for the end and return the final status.

        Raises:
            TimeoutError: not ended within `timeout` seconds.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while (status := self.status()) not in FINISHED:
            if deadline is not None and time.monotonic() > deadline:
                raise TimeoutError(f"job {self.id} is still {status} after {timeout:g} s")
            time.sleep(every)
        return status


async def _follow(client: Any, job_id: str, stream: TextIO) -> str:
    seen = []
    async for part in client.tail_job_logs(job_id):
        seen.append(part)
        stream.write(part)
        stream.flush()
    return "".join(seen)


def submit(
    spec: JobSpec | Mapping[str, Any] | str | Path,
    *,
    address: str | None = None,
    directory: str | Path | None = None,
    job_id: str | None = None,
) -> SubmittedJob:
    """Run a job on a Ray cluster: its folder travels there, and `tfcluster run` runs on the head node.

    The cluster's environment must have ray-tfcluster installed (or the spec's `runtime_env` must install it).

    Args:
        spec: a `JobSpec` (its entrypoint may be a function), a mapping, or the path of a YAML or JSON file.
        address: the cluster's dashboard, such as http://head:8265; default: RAY_API_SERVER_ADDRESS.
        directory: the folder that travels; default: the spec file's, or the current one.
        job_id: Ray's submission id; default: one that Ray makes.

    Raises:
        SpecError: the spec is wrong.
        SubmissionError: no head at the address, no valid token, or the job was refused.
    """
    job = JobSpec.of(spec)
    where = default_address(address)
    if "working_dir" in job.runtime_env:
        raise SpecError(
            "the spec's own folder travels with a submitted job",
            "runtime_env.working_dir",
            "remove that key, or use ray job submit",
        )
    if directory is None:
        directory = Path(spec).parent if isinstance(spec, str | Path) else Path.cwd()
    problems = "".join(f"\n  - {finding}" for finding in code_findings(job, Path(directory).resolve()))
    if problems:
        raise PreflightError("the job's code cannot run", str(Path(directory).resolve()), problems)
    with _travelling(job, spec, Path(directory).resolve()) as (folder, command):
        runtime_env = {"excludes": list(EXCLUDED), **job.runtime_env, "working_dir": str(folder)}
        made = _ask(
            where,
            lambda client: client.submit_job(
                entrypoint=shlex.join(command),
                submission_id=job_id,
                runtime_env=runtime_env,
                metadata={"name": job.name, "launcher": "ray-tfcluster"},
            ),
        )
    return SubmittedJob(str(made), where)


@contextmanager
def _travelling(job: JobSpec, spec: object, directory: Path) -> Iterator[tuple[Path, list[str]]]:
    """The folder to ship and the command to run in it; a copy where files must be added to it."""
    if isinstance(spec, str | Path):
        file = Path(spec).resolve()
        if not file.is_relative_to(directory):
            raise SpecError("the spec lies outside the folder that travels", file, f"put it below {directory}")
        yield directory, ["tfcluster", "run", str(file.relative_to(directory))]
        return
    with tempfile.TemporaryDirectory(prefix="tfcluster-submit-") as staging:
        copy = Path(staging, "job")
        shutil.copytree(directory, copy, ignore=shutil.ignore_patterns(*EXCLUDED), symlinks=True)
        document = job.to_document()
        if callable(job.entrypoint):
            document["entrypoint"] = (
                "pickled:entrypoint"  # the real name, such as f.<locals>.g, may not be one to import
            )
        (copy / "tfcluster-job.json").write_text(json.dumps(document))
        command = ["tfcluster", "run", "tfcluster-job.json"]
        if callable(job.entrypoint):
            import cloudpickle

            (copy / "tfcluster-entrypoint.pkl").write_bytes(cloudpickle.dumps(job.entrypoint))
            command += ["--code", "tfcluster-entrypoint.pkl"]
        yield copy, command


def default_address(address: str | None) -> str:
    """`address`, else RAY_API_SERVER_ADDRESS, else a RAY_ADDRESS that is a dashboard's, else this machine's."""
    ray_address = os.environ.get("RAY_ADDRESS", "")
    dashboard = ray_address if ray_address.startswith(("http://", "https://")) else ""
    return address or os.environ.get(ADDRESS_VARIABLE) or dashboard or "http://127.0.0.1:8265"


def find(job_id: str, address: str | None = None) -> SubmittedJob:
    """The job `job_id` of the cluster at `address`.

    Raises:
        SubmissionError: the cluster does not answer, or does not know the job.
    """
    job = SubmittedJob(job_id, default_address(address))
    job.status()
    return job


def _ask(address: str, question: Callable[[Any], T]) -> T:
    """Ask Ray's Job API, with its errors as ours. Ray's client adds the token of RAY_AUTH_MODE=token itself.

    Raises:
        SubmissionError: unreachable, unauthorised, unknown job, or refused.
    """
    from ray.exceptions import AuthenticationError
    from ray.job_submission import JobSubmissionClient

    try:
        return _patiently(lambda: question(JobSubmissionClient(address)))
    except AuthenticationError as error:
        raise SubmissionError(
            "the Ray cluster wants a token",
            f"{address} ({_first_line(error)})",
            "set RAY_AUTH_MODE=token and put the token into RAY_AUTH_TOKEN or ~/.ray/auth_token",
        ) from None
    except ConnectionError as error:
        raise SubmissionError(
            "no Ray head answered",
            f"{address} ({_first_line(error)})",
            "--address is the dashboard's, with its port",
        ) from None
    except (RuntimeError, ValueError) as error:
        raise SubmissionError("the Ray cluster refused", address, _first_line(error)) from None


def _patiently(ask: Callable[[], T]) -> T:
    """Ask again while a head that has just started is still without the agent that takes jobs."""
    deadline = time.monotonic() + AGENT_SECONDS
    while True:
        try:
            return ask()
        except RuntimeError as error:
            if "No available agent" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(1.0)


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:300] if lines else type(error).__name__
