"""`SubmittedJob`: a job on a Ray cluster, through Ray's Job API."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TextIO, TypeVar

from cluster.errors import CaptureError, RunNotFoundError, SubmissionError

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
        token: of the cluster; '' is whatever Ray's client finds itself.
    """

    id: str
    address: str
    token: str = field(default="", repr=False)

    @property
    def options(self) -> str:
        """What names its cluster to a command."""
        return f"--address {self.address}"

    def to_document(self) -> dict[str, Any]:
        """What names it, for a program."""
        return {"id": self.id, "address": self.address}

    def status(self) -> str:
        """PENDING, RUNNING, SUCCEEDED, FAILED or STOPPED, as Ray says."""
        return str(self._ask(lambda client: client.get_job_status(self.id)).value)

    def exit_code(self) -> int | None:
        """The launcher's exit code (see `cluster.errors`), or None before its end."""
        code = self._ask(lambda client: client.get_job_info(self.id)).driver_exit_code
        return None if code is None else int(code)

    def message(self) -> str:
        """What Ray says of the job's state, in one text."""
        return str(self._ask(lambda client: client.get_job_info(self.id)).message or "")

    def logs(self, follow: bool = False, stream: TextIO | None = None) -> str:
        """Everything the launcher has written; with `follow`, written to `stream` as it comes until the end."""
        if not follow:
            return str(self._ask(lambda client: client.get_job_logs(self.id)))
        return self._ask(lambda client: asyncio.run(_follow(client, self.id, stream or sys.stdout)))

    def stop(self) -> bool:
        """Ask the launcher to end in order; False when the job had ended before."""
        return bool(self._ask(lambda client: client.stop_job(self.id)))

    def run_dir(self) -> str:
        """The job's run directory, as its launcher has named it on the cluster.

        Raises:
            RunNotFoundError: it has not, yet.
        """
        found = re.search(r"run directory: (\S.*)", self.logs())
        if found is None:
            raise RunNotFoundError("the job has no run directory yet", self.id, "try again when its tasks are placed")
        return found.group(1).strip()

    def also_run(self, command: Sequence[str], name: str) -> SubmittedJob:
        """Run a command of ours on the cluster, beside the job."""
        metadata = {"name": name, "beside": self.id}  # `list` names it not: it is nobody's job
        made = self._ask(lambda client: client.submit_job(entrypoint=shlex.join(command), metadata=metadata))
        return SubmittedJob(str(made), self.address, self.token)

    @contextlib.contextmanager
    def on_cluster(self) -> Iterator[SubmittedJob]:
        """This job, as of `cluster.kube_submitted.SubmittedRayJob`."""
        yield self

    def report(self) -> str:
        """The page about the job, as HTML, see `cluster.page`: a small job on the cluster makes it.

        Raises:
            RunNotFoundError: the job has no run directory yet.
            SubmissionError: there is none.
        """
        asking = self.also_run(["tfcluster", "report", self.run_dir(), "--output", "-"], f"report of {self.id}")
        asking.wait(300.0, every=0.2)
        output = asking.logs()
        begin, end = output.find("<!doctype html>"), output.rfind("</html>")
        if begin < 0 or end < 0:
            seen = output.strip().rpartition("error: ")[2][-1000:] or "no output"
            raise SubmissionError("the job's cluster made no page", seen, f"tfcluster logs {asking.id} {self.options}")
        return f"{output[begin:end]}</html>\n"

    def profile(self, seconds: float = 3.0, tasks: Sequence[str] | None = None) -> dict[str, Any]:
        """Trace tasks of the job, see `cluster.profiling`: a small job on the cluster asks for it and waits.

        Raises:
            CaptureError: no task could be traced.
            RunNotFoundError: the job has no run directory yet.
        """
        command = ["tfcluster", "profile", self.run_dir(), "--json", "--seconds", f"{seconds:g}"]
        command += [] if tasks is None else ["--tasks", ",".join(tasks)]
        asking = self.also_run(command, f"profile of {self.id}")
        asking.wait(seconds + 900.0, every=0.2)
        output = asking.logs()
        documents = [line for line in output.splitlines() if line.startswith("{")]
        if asking.exit_code() or not documents:
            seen = output.strip().rpartition("error: ")[2][-1000:]
            raise CaptureError("the job could not be traced", seen, f"see tfcluster status {self.id}")
        return dict(json.loads(documents[-1]))

    def _ask(self, question: Callable[[Any], T]) -> T:
        return ask(self.address, question, self.token)

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


def list_ray_jobs(address: str | None = None) -> list[dict[str, Any]]:
    """The jobs that `submit` has handed to the cluster, the newest first: id, status, exit code, age in seconds.

    Raises:
        SubmissionError: the cluster does not answer.
    """
    found = ask(default_address(address), lambda client: client.list_jobs())
    ours = [job for job in found if (job.metadata or {}).get("launcher") == "ray-tfcluster" and job.submission_id]
    return [
        {
            "id": job.submission_id,
            "status": str(job.status.value),
            "exit_code": job.driver_exit_code,
            "age": max(0.0, time.time() - (job.start_time or 0) / 1000),
        }
        for job in sorted(ours, key=lambda job: job.start_time or 0, reverse=True)
    ]


def ask(address: str, question: Callable[[Any], T], token: str = "") -> T:
    """Ask Ray's Job API, with its errors as ours. Ray's client adds the token of RAY_AUTH_MODE=token itself.

    Raises:
        SubmissionError: unreachable, unauthorised, unknown job, or refused.
    """
    from ray.exceptions import AuthenticationError
    from ray.job_submission import JobSubmissionClient

    try:
        headers = {"Authorization": f"Bearer {token}"} if token else None
        return _patiently(lambda: question(JobSubmissionClient(address, headers=headers)))
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
