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
from cluster.findings import Finding
from cluster.kube_api import Api, NoLogError
from cluster.kube_errors import is_closed, is_passing
from cluster.kube_forward import Forward
from cluster.kube_logs import Cursor
from cluster.kube_pending import Sight, exit_code_of, findings, is_over, state_of
from cluster.ray_jobs import FINISHED, SubmittedJob

Document = dict[str, Any]
Tell = Callable[[str], None]

#: Ray's dashboard in the head's Pod.
DASHBOARD = 8265
#: Key of Ray's token in its Secret.
_TOKEN_KEY = "auth_token"
#: Seconds between two looks at a job that is waited for.
_EVERY = 2.0
#: How often a log that breaks off after the job's end is asked for again.
_BREAKS = 3
#: Seconds for TensorBoard to start on the head.
_BOARD = 120.0
#: Seconds that KubeRay may take to let a deleted RayJob go.
_DELETION = 30.0
_SUBMITTER = "ray-job-submitter"
#: Label of a submitter's Pod with the uid of its Job; KubeRay makes another one when it starts a RayJob anew.
_OF_JOB = "batch.kubernetes.io/controller-uid"
#: Labels by which KubeRay knows Pods of a RayCluster, and Kubernetes those of a Job.
_OF_CLUSTER, _OF_SUBMITTER = "ray.io/cluster", "job-name"
_RUN_DIRECTORY = re.compile(r"run directory: (\S.*)")


def _to_stderr(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


@dataclass
class _Seen:
    """A RayJob as it was last seen, and whether it has been deleted since."""

    job: Document | None = None
    is_gone: bool = False


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
    _seen: _Seen = field(default_factory=_Seen, init=False, repr=False, compare=False)

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
        return state_of(self._job())

    def exit_code(self) -> int | None:
        """The launcher's exit code (see `cluster.errors`), or None before its end, or where Ray does not tell it."""
        return exit_code_of(self._job())

    def message(self) -> str:
        """What keeps the job from running, or what Ray says of its state, in one text."""
        sight = self.sight()
        found = findings(sight)
        said = str((sight.job.get("status") or {}).get("message") or "")
        return "\n".join(map(str, found)) or said

    def sight(self) -> Sight:
        """What the API server knows of the job; what one has no right to see is left out."""
        job = self._job()
        labels = (job.get("metadata") or {}).get("labels") or {}
        cluster_name = _cluster_of(job)
        pods: list[Document] = []
        events: list[Document] = []
        cluster, workload = None, None
        with _as_allowed():
            pods = _once([*self._ray_pods(job), *self._submitters(job)])
        with _as_allowed():
            cluster = self.api.find("RayCluster", cluster_name) if cluster_name else None
        with _as_allowed():
            names = {self.id, cluster_name, *(str(pod["metadata"]["name"]) for pod in pods)}
            seen = self.api.list("Event", fields="type=Warning")
            events = [event for event in seen if (event.get("involvedObject") or {}).get("name") in names]
        if labels.get("kueue.x-k8s.io/queue-name"):
            with _as_allowed():
                workload = next((w for w in self.api.list("Workload") if _owned_by(w, job)), None)
        return Sight(job, cluster, pods, events, workload, time.time())

    def logs(self, follow: bool = False, stream: TextIO | None = None, tell: Tell = _to_stderr) -> str:
        """Everything the launcher has written; with `follow`, written to `stream` as it comes until the end.

        While the job does not run yet, `tell` hears what it waits for. When the API server goes away it is waited
        for, and no line is lost or comes twice. A job that is followed may be deleted right after its end.

        Raises:
            RunNotFoundError: the job has ended, and the Pod that had its output is gone; or it was deleted, and its end
                is not known.
            SubmissionError: the connection broke twice before all was read; `tell` hears the lines that have come.
        """
        cursor, out, seen = Cursor(), stream or sys.stdout, []
        if not follow:
            return self._whole_log(tell)
        told: set[Finding] = set()
        breaks = 0
        while True:
            job = self._job_or_its_end(cursor)
            ended = state_of(job) in FINISHED
            for line in self._lines(job, cursor, follow=True):
                seen.append(f"{line}\n")
                out.write(seen[-1])
                out.flush()
            breaks += bool(ended and cursor.broken)
            is_whole = not cursor.broken or breaks > _BREAKS
            if ended and is_whole and (is_over(job) or not any(map(_runs, self._submitters(job)))):
                if cursor.broken:
                    again = f"tfcluster logs {self.id} {self.options}"
                    tell(f"the end of the job's log is missing: {cursor.broken}; try again: {again}")
                if self._seen.is_gone:
                    tell(f"RayJob {self.id} was deleted after its end: {state_of(job)}")
                return "".join(seen)
            with contextlib.suppress(RunNotFoundError):  # deleted just now
                self._tell_news(told, tell)
            time.sleep(_EVERY)

    def _whole_log(self, tell: Tell) -> str:
        lines: list[str] = []
        try:
            for line in self._lines(self._job_with_output(), Cursor(), follow=False):
                lines.append(f"{line}\n")
        except SubmissionError:
            if lines:
                tell("".join(lines).rstrip("\n"))
            raise
        return "".join(lines)

    def _job_with_output(self) -> Document:
        job = self._job()
        if state_of(job) in FINISHED and not self._submitters(job):
            todo = "its run directory has it: tfcluster logs URI"
            raise RunNotFoundError("the Pod that had the job's output is gone", self.id, todo)
        return job

    def _lines(self, job: Document, cursor: Cursor, *, follow: bool) -> Iterator[str]:
        """The launcher's lines since the cursor, of each Pod that handed it to Ray.

        Ends where the connection does if the log is followed, to be asked for again; else that is tried once more here.
        """
        pods = {str(pod["metadata"]["name"]): pod for pod in self._submitters(job) if _has_started(pod)}
        names = list(pods)
        for name in names[names.index(cursor.pod) :] if cursor.pod in names else names:
            goes_on = follow and name == names[-1]
            with _breakable(cursor, follow):
                try:
                    yield from self._lines_of(pods[name], cursor, follow=goes_on)
                except NoLogError:
                    continue
                except ConnectionError:
                    if follow:
                        raise
                    yield from self._lines_of(pods[name], cursor, follow=goes_on)

    def _lines_of(self, pod: Document, cursor: Cursor, *, follow: bool) -> Iterator[str]:
        """The launcher's lines in the log of one Pod since the cursor."""
        name = str(pod["metadata"]["name"])
        since = cursor.age(time.time()) if cursor.pod == name else None
        cursor.begin(name, str((pod["metadata"].get("labels") or {}).get(_OF_JOB, "")))
        yield from cursor.take(self.api.log(name, _SUBMITTER, follow=follow, since=since))

    def stop(self) -> bool:
        """Ask the launcher to end in order; False when the job had ended before.

        A job that has not begun has nothing to end, and is deleted.

        Raises:
            SubmissionError: it has begun, and there is no head to ask.
        """
        job = self._job()
        if state_of(job) in FINISHED:
            return False
        said = (job.get("status") or {}).get("jobStatus")
        if not said:
            return self._delete()
        if self._head(job) is None:
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
        for line in self._lines(self._job(), Cursor(), follow=False):
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
                with self._forward(self._running_head(self._job()), far, port, tell) as forward:
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
        job = self._job()
        head = self._running_head(job)
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
        cluster = _cluster_of(job)
        options = self.api.get("RayCluster", cluster)["spec"].get("authOptions") or {}
        if options.get("mode") != "token":
            return ""
        name = str(options.get("secretName") or _secret_of(cluster))
        return base64.b64decode(self.api.get("Secret", name)["data"][_TOKEN_KEY]).decode()

    def wait(self, timeout: float | None = None, every: float = _EVERY, tell: Tell | None = None) -> str:
        """Wait for the end and return the final status.

        Args:
            timeout: seconds.
            every: seconds between two looks.
            tell: hears what the job waits for while it does not run.

        Raises:
            TimeoutError: not ended within `timeout` seconds.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        told: set[Finding] = set()
        while (status := self.status()) not in FINISHED:
            if deadline is not None and time.monotonic() > deadline:
                raise TimeoutError(f"job {self.id} is still {status} after {timeout:g} s")
            if tell is not None:
                self._tell_news(told, tell)
            time.sleep(every)
        return status

    def _tell_news(self, told: set[Finding], tell: Tell) -> None:
        sight = self.sight()
        if state_of(sight.job) == "PENDING":
            for finding in findings(sight):
                if finding not in told:
                    told.add(finding)
                    tell(f"{finding.level}: {finding}")

    def has_head(self) -> bool:
        """Whether the job, and its Ray cluster, are there."""
        job = self.api.find("RayJob", self.id)
        return job is not None and self._head(job) is not None

    def _job(self) -> Document:
        """The RayJob; one that was deleted after its end as it was last seen.

        Raises:
            RunNotFoundError: there is none, or it was deleted before its end was seen.
        """
        try:
            self._seen.job = self.api.get("RayJob", self.id)
        except RunNotFoundError:
            if self._seen.job is None:
                raise
            state = state_of(self._seen.job)
            if state not in FINISHED:
                todo = "what it left is in its storage: tfcluster status takes a URI too"
                seen = f"{self.id} in {self.namespace}: {state} when last seen"
                raise RunNotFoundError("the RayJob was deleted before its end was seen", seen, todo) from None
            self._seen.is_gone = True
        return self._seen.job

    def _job_or_its_end(self, cursor: Cursor) -> Document:
        """The RayJob; one that was deleted may have ended as Ray's command said in its log."""
        try:
            return self._job()
        except RunNotFoundError:
            if self._seen.job is None or not cursor.end:
                raise
        said = {"jobStatus": cursor.end, "jobDeploymentStatus": "Complete", "message": cursor.message}
        self._seen.job = {**self._seen.job, "status": {**(self._seen.job.get("status") or {}), **said}}
        self._seen.is_gone = True
        return self._seen.job

    def _ray_pods(self, job: Document) -> list[Document]:
        """Pods of the Ray cluster, by the label of KubeRay's: others may say the same of many jobs, or of none."""
        cluster = _cluster_of(job)
        return self.api.list("Pod", labels=f"{_OF_CLUSTER}={cluster}") if cluster else []

    def _submitters(self, job: Document) -> list[Document]:
        """Pods that hand the job to Ray, the oldest first: those of the Job with its name, or the head itself."""
        if job["spec"].get("submissionMode") == "SidecarMode":
            pods = [pod for pod in self._ray_pods(job) if _is_head(pod)]
        else:
            pods = self.api.list("Pod", labels=f"{_OF_SUBMITTER}={self.id}")
        return sorted(pods, key=began)

    def _head(self, job: Document) -> Document | None:
        """The head's Pod, if it runs."""
        return next((pod for pod in self._ray_pods(job) if _is_head(pod) and _runs(pod)), None)

    def _running_head(self, job: Document) -> Document:
        head = self._head(job)
        if head is None:
            todo = "what it left is in its storage: tfcluster tensorboard and tfcluster status take a URI too"
            raise RunNotFoundError("the job has no Ray cluster, not yet or not any more", self.id, todo)
        return head


def _cluster_of(job: Document) -> str:
    """Name of the RayCluster that the job runs on, or ''."""
    return str((job.get("status") or {}).get("rayClusterName") or "")


def _secret_of(cluster: str) -> str:
    """What KubeRay calls the Secret with a cluster's token: the end of a long name, beginning with a letter."""
    return re.sub("^[^a-z]", "r", cluster[-50:])


def _once(pods: list[Document]) -> list[Document]:
    return list({str(pod["metadata"]["name"]): pod for pod in pods}.values())


def _is_head(pod: Document) -> bool:
    return bool((pod["metadata"].get("labels") or {}).get("ray.io/node-type") == "head")


def began(document: Document) -> str:
    """When an object was made, as text that sorts."""
    return str(document["metadata"].get("creationTimestamp") or "")


def _has_started(pod: Document) -> bool:
    """Whether the Pod has a log."""
    return (pod.get("status") or {}).get("phase") in ("Running", "Succeeded", "Failed")


def _runs(pod: Document) -> bool:
    return (pod.get("status") or {}).get("phase") == "Running"


def _owned_by(document: Document, owner: Document) -> bool:
    owners = document["metadata"].get("ownerReferences") or []
    return any(reference.get("uid") == owner["metadata"]["uid"] for reference in owners)


@contextlib.contextmanager
def _breakable(cursor: Cursor, follow: bool) -> Iterator[None]:
    """A log that is followed and breaks off is asked for again later; so is one whose node is away for a while."""
    cursor.broken = ""
    try:
        yield
    except RunNotFoundError:  # the Pod went meanwhile
        pass
    except ConnectionError as error:
        if not follow:
            raise SubmissionError("the job's log broke off twice", str(error), "try again") from None
        cursor.broken = str(error) or type(error).__name__
    except SubmissionError as error:
        if not (follow and is_passing(error)):
            raise
        cursor.broken = error.seen


@contextlib.contextmanager
def _as_allowed() -> Iterator[None]:
    """What one may not see, or what the cluster does not have, is left out."""
    with contextlib.suppress(RunNotFoundError):
        try:
            yield
        except SubmissionError as error:
            if not is_closed(error):
                raise


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
