"""`FoundRayJob`: a RayJob and what belongs to it, as the API server tells, and how it was seen last."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

from cluster.errors import RunNotFoundError, SubmissionError
from cluster.kube_api import Api
from cluster.kube_errors import is_closed
from cluster.kube_logs import Cursor
from cluster.kube_pending import Sight, state_of
from cluster.ray_jobs import FINISHED

Document = dict[str, Any]

#: Labels by which KubeRay knows Pods of a RayCluster, and Kubernetes those of a Job.
_OF_CLUSTER, _OF_SUBMITTER = "ray.io/cluster", "job-name"


class FoundRayJob:
    """Looks a RayJob up, also one that was deleted after its end.

    Attributes:
        id: the RayJob's name.
        is_gone: whether it was deleted after its end.
    """

    def __init__(self, id: str, namespace: str, api: Api) -> None:
        self.id, self.is_gone = id, False
        self._namespace, self._api = namespace, api
        self._last: Document | None = None

    def sight(self) -> Sight:
        """What the API server knows of the job; what one has no right to see is left out."""
        job = self.job()
        labels = (job.get("metadata") or {}).get("labels") or {}
        cluster_name = cluster_of(job)
        pods: list[Document] = []
        events: list[Document] = []
        cluster, workload = None, None
        with _as_allowed():
            pods = _once([*self._ray_pods(job), *self.submitters(job)])
        with _as_allowed():
            cluster = self._api.find("RayCluster", cluster_name) if cluster_name else None
        with _as_allowed():
            names = {self.id, cluster_name, *(str(pod["metadata"]["name"]) for pod in pods)}
            seen = self._api.list("Event", fields="type=Warning")
            events = [event for event in seen if (event.get("involvedObject") or {}).get("name") in names]
        if labels.get("kueue.x-k8s.io/queue-name"):
            with _as_allowed():
                workload = next((w for w in self._api.list("Workload") if _owned_by(w, job)), None)
        return Sight(job, cluster, pods, events, workload, time.time())

    def has_head(self) -> bool:
        """Whether the job, and its Ray cluster, are there."""
        job = self._api.find("RayJob", self.id)
        return job is not None and self.head(job) is not None

    def job(self) -> Document:
        """The RayJob; one that was deleted after its end as it was last seen.

        Raises:
            RunNotFoundError: there is none, or it was deleted before its end was seen.
        """
        try:
            self._last = self._api.get("RayJob", self.id)
        except RunNotFoundError:
            if self._last is None:
                raise
            state = state_of(self._last)
            if state not in FINISHED:
                todo = "what it left is in its storage: tfcluster status takes a URI too"
                seen = f"{self.id} in {self._namespace}: {state} when last seen"
                raise RunNotFoundError("the RayJob was deleted before its end was seen", seen, todo) from None
            self.is_gone = True
        return self._last

    def job_or_its_end(self, cursor: Cursor) -> Document:
        """The RayJob; one that was deleted may have ended as Ray's command said in its log."""
        try:
            return self.job()
        except RunNotFoundError:
            if self._last is None or not cursor.end:
                raise
        said = {"jobStatus": cursor.end, "jobDeploymentStatus": "Complete", "message": cursor.message}
        self._last = {**self._last, "status": {**(self._last.get("status") or {}), **said}}
        self.is_gone = True
        return self._last

    def _ray_pods(self, job: Document) -> list[Document]:
        """Pods of the Ray cluster, by the label of KubeRay's: others may say the same of many jobs, or of none."""
        cluster = cluster_of(job)
        return self._api.list("Pod", labels=f"{_OF_CLUSTER}={cluster}") if cluster else []

    def submitters(self, job: Document) -> list[Document]:
        """Pods that hand the job to Ray, the oldest first: those of the Job with its name, or the head itself."""
        if job["spec"].get("submissionMode") == "SidecarMode":
            pods = [pod for pod in self._ray_pods(job) if _is_head(pod)]
        else:
            pods = self._api.list("Pod", labels=f"{_OF_SUBMITTER}={self.id}")
        return sorted(pods, key=began)

    def head(self, job: Document) -> Document | None:
        """The head's Pod, if it runs."""
        return next((pod for pod in self._ray_pods(job) if _is_head(pod) and runs(pod)), None)

    def running_head(self, job: Document) -> Document:
        """The head's Pod.

        Raises:
            RunNotFoundError: none runs.
        """
        head = self.head(job)
        if head is None:
            todo = "what it left is in its storage: tfcluster tensorboard and tfcluster status take a URI too"
            raise RunNotFoundError("the job has no Ray cluster, not yet or not any more", self.id, todo)
        return head


def cluster_of(job: Document) -> str:
    """Name of the RayCluster that the job runs on, or ''."""
    return str((job.get("status") or {}).get("rayClusterName") or "")


def began(document: Document) -> str:
    """When an object was made, as text that sorts."""
    return str(document["metadata"].get("creationTimestamp") or "")


def runs(pod: Document) -> bool:
    """Whether the Pod does, as far as Kubernetes knows."""
    return (pod.get("status") or {}).get("phase") == "Running"


def _is_head(pod: Document) -> bool:
    return bool((pod["metadata"].get("labels") or {}).get("ray.io/node-type") == "head")


def _once(pods: list[Document]) -> list[Document]:
    return list({str(pod["metadata"]["name"]): pod for pod in pods}.values())


def _owned_by(document: Document, owner: Document) -> bool:
    owners = document["metadata"].get("ownerReferences") or []
    return any(reference.get("uid") == owner["metadata"]["uid"] for reference in owners)


@contextlib.contextmanager
def _as_allowed() -> Iterator[None]:
    """What one may not see, or what the cluster does not have, is left out."""
    with contextlib.suppress(RunNotFoundError):
        try:
            yield
        except SubmissionError as error:
            if not is_closed(error):
                raise
