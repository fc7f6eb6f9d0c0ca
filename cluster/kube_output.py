"""What a job on Kubernetes says: what it waits for, and its launcher's output from the logs of the Pods that ran it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any, TextIO

from cluster.errors import RunNotFoundError, SubmissionError
from cluster.findings import Finding
from cluster.kube_api import Api, NoLogError
from cluster.kube_errors import is_passing
from cluster.kube_found import FoundRayJob, runs
from cluster.kube_logs import Cursor
from cluster.kube_pending import findings, is_over, state_of
from cluster.ray_jobs import FINISHED

Document = dict[str, Any]
Tell = Callable[[str], None]

#: Seconds between two looks at a job that is waited for.
EVERY = 2.0
#: How often a log that breaks off after the job's end is asked for again.
_BREAKS = 3
_SUBMITTER = "ray-job-submitter"
#: Label of a submitter's Pod with the uid of its Job; KubeRay makes another one when it starts a RayJob anew.
_OF_JOB = "batch.kubernetes.io/controller-uid"


class News:
    """Tells what a job that does not run yet waits for, each thing once."""

    def __init__(self, found: FoundRayJob, tell: Tell) -> None:
        self._found, self._tell = found, tell
        self._told: set[Finding] = set()

    def tell(self) -> None:
        """Look again, and tell what is new."""
        sight = self._found.sight()
        for finding in findings(sight) if state_of(sight.job) == "PENDING" else ():
            if finding not in self._told:
                self._told.add(finding)
                self._tell(f"{finding.level}: {finding}")


class Output:
    """The launcher's output of one job."""

    def __init__(self, found: FoundRayJob, api: Api) -> None:
        self._found, self._api = found, api

    def whole(self, tell: Tell) -> str:
        """All of it so far; where the connection breaks twice, `tell` hears what has come.

        Raises:
            RunNotFoundError: the job has ended, and the Pod that had its output is gone.
            SubmissionError: the connection broke twice.
        """
        lines: list[str] = []
        try:
            for line in self.lines(self._job_with_output(), Cursor(), follow=False):
                lines.append(f"{line}\n")
        except SubmissionError:
            if lines:
                tell("".join(lines).rstrip("\n"))
            raise
        return "".join(lines)

    def follow(self, stream: TextIO, tell: Tell, again: str) -> str:
        """Write it to `stream` as it comes until the job's end; all of it.

        Args:
            stream: takes the lines.
            tell: hears what the job waits for, and what is missing of its end.
            again: the command that would read it once more.
        """
        cursor, news, seen, breaks = Cursor(), News(self._found, tell), list[str](), 0
        while True:
            job = self._found.job_or_its_end(cursor)
            ended = state_of(job) in FINISHED
            for line in self.lines(job, cursor, follow=True):
                seen.append(f"{line}\n")
                stream.write(seen[-1])
                stream.flush()
            breaks += bool(ended and cursor.broken)
            if ended and (not cursor.broken or breaks > _BREAKS) and self._is_over(job):
                self._tell_the_end(job, cursor, tell, again)
                return "".join(seen)
            with contextlib.suppress(RunNotFoundError):  # deleted just now
                news.tell()
            time.sleep(EVERY)

    def _is_over(self, job: Document) -> bool:
        return is_over(job) or not any(map(runs, self._found.submitters(job)))

    def _tell_the_end(self, job: Document, cursor: Cursor, tell: Tell, again: str) -> None:
        if cursor.broken:
            tell(f"the end of the job's log is missing: {cursor.broken}; try again: {again}")
        if self._found.is_gone:
            tell(f"RayJob {self._found.id} was deleted after its end: {state_of(job)}")

    def _job_with_output(self) -> Document:
        job = self._found.job()
        if state_of(job) in FINISHED and not self._found.submitters(job):
            todo = "its run directory has it: tfcluster logs URI"
            raise RunNotFoundError("the Pod that had the job's output is gone", self._found.id, todo)
        return job

    def lines(self, job: Document, cursor: Cursor, *, follow: bool) -> Iterator[str]:
        """The launcher's lines since the cursor, of each Pod that handed it to Ray.

        Ends where the connection does if the log is followed, to be asked for again; else that is tried once more here.
        """
        pods = {str(pod["metadata"]["name"]): pod for pod in self._found.submitters(job) if _has_started(pod)}
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
        yield from cursor.take(self._api.log(name, _SUBMITTER, follow=follow, since=since))


def _has_started(pod: Document) -> bool:
    """Whether the Pod has a log."""
    return (pod.get("status") or {}).get("phase") in ("Running", "Succeeded", "Failed")


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
