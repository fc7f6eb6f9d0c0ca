"""`SubmittedRayJob`: a job on Kubernetes as a RayJob of KubeRay's."""

from __future__ import annotations

import base64
import contextlib
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TextIO

from cluster.errors import PreflightError, RunNotFoundError, SubmissionError, TfClusterError
from cluster.kube_api import Api
from cluster.kube_forward import Forward
from cluster.kube_found import FoundRayJob, cluster_of
from cluster.kube_logs import Cursor
from cluster.kube_output import EVERY, News, Output
from cluster.kube_pending import Sight, exit_code_of, findings, state_of
from cluster.ray_jobs import FINISHED, SubmittedJob

Document = dict[str, Any]
Tell = Callable[[str], None]

#: Ray's dashboard in the head's Pod.
DASHBOARD = 8265
#: Key of Ray's token in its Secret.
_TOKEN_KEY = "auth_token"
#: Seconds for TensorBoard to start on the head.
_BOARD = 120.0
#: Seconds that KubeRay may take to let a deleted RayJob go.
_DELETION = 30.0
_RUN_DIRECTORY = re.compile(r"run directory: (\S.*)")


def _to_stderr(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


@dataclass(frozen=True)
class SubmittedRayJob:
    """A job on Kubernetes, by the name of its RayJob. Once its end was seen that is known, also when it is deleted.

    Attributes:
        id: the RayJob's name.
        namespace: that it is in.
        context: of the kubeconfig, or ''.
        api: the connection.
    """

    id: str
    namespace: str
    context: str = ""
    api: Api = field(default_factory=Api, repr=False, compare=False)
    _found: FoundRayJob = field(init=False, repr=False, compare=False)
    _output: Output = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_found", FoundRayJob(self.id, self.namespace, self.api))
        object.__setattr__(self, "_output", Output(self._found, self.api))

    @property
    def options(self) -> str:
        """What names its cluster to a command."""
        return f"--kubernetes --namespace {self.namespace}{f' --context {self.context}' if self.context else ''}"

    @property
    def address(self) -> str:
        """The API server's."""
        return self.api.server

    def to_document(self) -> dict[str, Any]:
        """What names it, for a program."""
        return {"id": self.id, "namespace": self.namespace, "context": self.context, "address": self.address}

    def status(self) -> str:
        """PENDING, RUNNING, SUCCEEDED, FAILED or STOPPED, as Ray says."""
        return state_of(self._found.job())

    def exit_code(self) -> int | None:
        """The launcher's exit code (see `cluster.errors`), or None before its end, or where Ray does not tell it."""
        return exit_code_of(self._found.job())

    def message(self) -> str:
        """What keeps the job from running, or what Ray says of its state, in one text."""
        sight = self.sight()
        found = findings(sight)
        said = str((sight.job.get("status") or {}).get("message") or "")
        return "\n".join(map(str, found)) or said

    def sight(self) -> Sight:
        """What the API server knows of the job; what one has no right to see is left out."""
        return self._found.sight()

    def logs(self, follow: bool = False, stream: TextIO | None = None, tell: Tell = _to_stderr) -> str:
        """Everything the launcher has written; with `follow`, written to `stream` as it comes until the end.

        While the job does not run yet, `tell` hears what it waits for. When the API server goes away it is waited
        for, and no line is lost or comes twice. A job that is followed may be deleted right after its end.

        Raises:
            RunNotFoundError: the job has ended, and the Pod that had its output is gone; or it was deleted, and its end
                is not known.
            SubmissionError: the connection broke twice before all was read; `tell` hears the lines that have come.
        """
        if not follow:
            return self._output.whole(tell)
        return self._output.follow(stream or sys.stdout, tell, f"tfcluster logs {self.id} {self.options}")

    def stop(self) -> bool:
        """Ask the launcher to end in order; False when the job had ended before.

        A job that has not begun has nothing to end, and is deleted.

        Raises:
            SubmissionError: it has begun, and there is no head to ask.
        """
        job = self._found.job()
        if state_of(job) in FINISHED:
            return False
        said = (job.get("status") or {}).get("jobStatus")
        if not said:
            return self._delete()
        if self._found.head(job) is None:
            todo = f"try again, or give it up: kubectl -n {self.namespace} delete rayjob {self.id}"
            raise SubmissionError("no head runs that could end the job in order", f"{self.id}: {said}", todo)
        with self.on_cluster() as ray:
            return ray.stop()

    def _delete(self) -> bool:
        """Delete the RayJob, and wait a little for KubeRay to let it go."""
        found = self.api.delete("RayJob", self.id)
        deadline = time.monotonic() + _DELETION
        while self.api.find("RayJob", self.id) is not None and time.monotonic() < deadline:
            time.sleep(0.5)
        return found

    def run_dir(self) -> str:
        """The job's run directory, as its launcher has named it.

        Raises:
            RunNotFoundError: it has not, yet.
        """
        for line in self._output.lines(self._found.job(), Cursor(), follow=False):
            found = _RUN_DIRECTORY.search(line)
            if found:
                return found[1].strip()
        raise RunNotFoundError("the job has no run directory yet", self.id, "try again when its tasks are placed")

    def profile(self, seconds: float = 3.0, tasks: Sequence[str] | None = None) -> dict[str, Any]:
        """Trace tasks of the job, see `cluster.profiling`: a small job on its cluster asks for it and waits.

        Raises:
            CaptureError: no task could be traced.
            RunNotFoundError: the job has no run directory yet, or no head any more.
        """
        with self.on_cluster() as job:
            return job.profile(seconds, tasks)

    @contextlib.contextmanager
    def tensorboard(self, port: int = 6006, tell: Tell = _to_stderr, task: str | None = None) -> Iterator[str]:
        """TensorBoard of the job, on its head, and here by a port that is forwarded; yields its address.

        Args:
            port: of this machine; 0 takes a free one.
            tell: hears of connections that fail.
            task: whose dumps Debugger V2 shows; default: the first.

        Raises:
            RunNotFoundError: the job has no run directory yet, or no head any more.
            PreflightError: the port is taken.
            SubmissionError: TensorBoard does not start.
        """
        command = ["tfcluster", "tensorboard", self.run_dir(), "--port", "0", *(["--task", task] if task else [])]
        with self.on_cluster() as ray:
            board = ray.also_run(command, f"TensorBoard of {self.id}")
            try:
                far = _board_port(board)
                with self._forward(self._found.running_head(self._found.job()), far, port, tell) as forward:
                    yield f"http://localhost:{forward.port}/"
            finally:
                with contextlib.suppress(TfClusterError):
                    board.stop()

    @contextlib.contextmanager
    def on_cluster(self) -> Iterator[SubmittedJob]:
        """The job as Ray's Job API on its head knows it, while the context lasts.

        Raises:
            RunNotFoundError: it has no head, not yet or not any more.
        """
        job = self._found.job()
        head = self._found.running_head(job)
        submission = str((job.get("status") or {}).get("jobId") or "")
        with self._forward(head, DASHBOARD, 0, _to_stderr) as forward:
            yield SubmittedJob(submission, f"http://127.0.0.1:{forward.port}", self._token(job))

    def _forward(self, pod: Document, far: int, near: int, tell: Tell) -> Forward:
        name = str(pod["metadata"]["name"])
        try:
            return Forward(lambda: self.api.forward(name, far), near, tell)
        except OSError as error:
            raise PreflightError(
                "the port is taken", f"{near} ({error.strerror})", "take another one: --port"
            ) from None

    def _token(self, job: Document) -> str:
        """Ray's token, from its Secret; '' where the cluster, which may be another's, wants none."""
        cluster = cluster_of(job)
        options = self.api.get("RayCluster", cluster)["spec"].get("authOptions") or {}
        if options.get("mode") != "token":
            return ""
        name = str(options.get("secretName") or _secret_of(cluster))
        return base64.b64decode(self.api.get("Secret", name)["data"][_TOKEN_KEY]).decode()

    def wait(self, timeout: float | None = None, every: float = EVERY, tell: Tell | None = None) -> str:
        """Wait for the end and return the final status.

        Args:
            timeout: seconds.
            every: seconds between two looks.
            tell: hears what the job waits for while it does not run.

        Raises:
            TimeoutError: not ended within `timeout` seconds.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        news = None if tell is None else News(self._found, tell)
        while (status := self.status()) not in FINISHED:
            if deadline is not None and time.monotonic() > deadline:
                raise TimeoutError(f"job {self.id} is still {status} after {timeout:g} s")
            if news is not None:
                news.tell()
            time.sleep(every)
        return status

    def has_head(self) -> bool:
        """Whether the job, and its Ray cluster, are there."""
        return self._found.has_head()


def _secret_of(cluster: str) -> str:
    """What KubeRay calls the Secret with a cluster's token: the end of a long name, beginning with a letter."""
    return re.sub("^[^a-z]", "r", cluster[-50:])


def _board_port(board: SubmittedJob) -> int:
    """The port on which TensorBoard listens on the head.

    Raises:
        SubmissionError: it does not start.
    """
    deadline = time.monotonic() + _BOARD
    while time.monotonic() < deadline:
        said = board.logs()
        found = re.search(r"TensorBoard of .*: http://[^/\s]*:(\d+)", said)
        if found:
            return int(found[1])
        if board.status() in FINISHED:
            break
        time.sleep(1.0)
    lines = [line for line in board.logs().splitlines() if line.strip()]
    raise SubmissionError("TensorBoard does not start on the job's head", lines[-1] if lines else "it wrote nothing")
