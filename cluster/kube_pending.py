"""Why a job on Kubernetes does not run yet, or what befell its Pods: from objects and events to sentences. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from cluster.findings import Finding

Document = Mapping[str, Any]

#: Seconds after which somebody should have taken up a new object.
_PATIENCE = 30.0
_OPERATOR = "kubectl get pods --all-namespaces --selector app.kubernetes.io/name=kuberay-operator"
#: Why an image does not come.
_IMAGE = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "RegistryUnavailable")
#: Events that tell of trouble, and the newest that are shown.
_MOST_EVENTS = 8
_SCHEDULER = re.compile(
    r"^(?:running [^:]*: )?(?:\d+/\d+|all) nodes are (?:un)?available: (.*?)(?:\.? *preemption: .*)?$", re.DOTALL
)
#: What the scheduler of Kubernetes 1.34 says each time.
_CLAIMS = re.compile(r"no new claims to deallocate")
_QUOTA = re.compile(r"exceeded quota: ([^,]+), requested: (.*?), used: (.*?), limited: (.*)$", re.DOTALL)
#: What the scheduler says of nodes, what that means, and what to do.
_REASONS = (
    (r"Insufficient (?P<what>\S+)", "no node has enough {what} left", "ask for less, or wait for others to end"),
    (r"untolerated taint(?:\(s\))? ?\{?(?P<what>[^}]*)\}?", "nodes are kept free by taint {what}", "add tolerations"),
    (r"didn't match (?:Pod's )?node affinity/selector", "no node matches its selector or affinity", "correct them"),
    (r"(?:unbound immediate PersistentVolumeClaims|persistentvolumeclaim \"(?P<what>[^\"]*)\" not found)",
     "its claim {what} is not there or not bound", "see: kubectl -n {namespace} get pvc"),
    (r"volume node affinity conflict", "its volume is bound elsewhere", "take a storage class that all nodes reach"),
    (r"topology spread constraints", "topologySpreadConstraints cannot be kept", "loosen them"),
    (r"were unschedulable", "nodes are cordoned", "uncordon them, or wait"),
    (r"Too many pods", "nodes hold no more Pods", "wait, or add nodes"),
)  # fmt: skip
#: What Volcano and the coscheduling plugin say of Pods that start together, and of which one of them they say it.
_GANG = re.compile(
    r"tasks in gang unschedulable|once minAvailable is satisfied|once resource is released|enough sibling pods"
)
_ONE_OF_IT = re.compile(r"Pod \S+ can possibly be assi?gn?ed to \S+, |pre-filter pod \S+ ")


@dataclass(frozen=True)
class Sight:
    """What the API server knows of one job.

    Attributes:
        job: the RayJob.
        cluster: its RayCluster, or None.
        pods: of Ray and of the submitter.
        events: of all of them.
        workload: Kueue's, or None.
        now: seconds since the Unix epoch.
    """

    job: Document
    cluster: Document | None = None
    pods: Sequence[Document] = ()
    events: Sequence[Document] = ()
    workload: Document | None = None
    now: float = 0.0


def state_of(job: Document) -> str:
    """PENDING, RUNNING, SUCCEEDED, FAILED or STOPPED, in Ray's words."""
    status = job.get("status") or {}
    deployment, said = str(status.get("jobDeploymentStatus") or ""), str(status.get("jobStatus") or "")
    if deployment in ("Failed", "ValidationFailed"):
        return "FAILED"
    if deployment in ("Suspending", "Suspended", "Retrying"):
        return "PENDING"
    if said in ("SUCCEEDED", "STOPPED"):
        return said
    if said == "FAILED":  # KubeRay may be about to try again
        return "FAILED" if deployment == "Complete" else "RUNNING"
    if deployment == "Complete":
        return "SUCCEEDED"
    return "RUNNING" if said == "RUNNING" else "PENDING"


def is_over(job: Document) -> bool:
    """Whether KubeRay, too, is done with the job."""
    return (job.get("status") or {}).get("jobDeploymentStatus") in ("Complete", "Failed", "ValidationFailed")


def exit_code_of(job: Document) -> int | None:
    """The launcher's exit code as Ray's message tells it; None before the end, and where it tells none."""
    state = state_of(job)
    if state == "SUCCEEDED":
        return 0
    if state == "STOPPED":
        return 130
    found = re.search(r"exit code (\d+)", str((job.get("status") or {}).get("message") or ""))
    return int(found[1]) if state == "FAILED" and found else None


def findings(sight: Sight) -> list[Finding]:
    """What keeps the job from running, and what befell its Pods; equal things once."""
    if state_of(sight.job) in ("SUCCEEDED", "STOPPED"):
        return []
    found = [*_of_the_job(sight), *_of_the_queue(sight), *_of_the_cluster(sight), *_of_pods(sight)]
    return list(dict.fromkeys(found))


def _of_the_job(sight: Sight) -> Iterator[Finding]:
    status, metadata = sight.job.get("status") or {}, sight.job.get("metadata") or {}
    deployment, message = str(status.get("jobDeploymentStatus") or ""), str(status.get("message") or "")
    if metadata.get("deletionTimestamp"):
        yield Finding("note", "the RayJob is being deleted", str(metadata.get("name")))
    if deployment == "ValidationFailed":
        yield Finding("error", "KubeRay's operator refuses the RayJob", message, "correct it, and submit it again")
    if deployment == "Failed":
        reason = str(status.get("reason") or "Failed")
        yield Finding("error", _FAILED.get(reason, f"the RayJob has failed ({reason})"), _gist(message))
    if deployment == "Retrying":
        yield Finding("warning", "the job failed, and KubeRay makes a new cluster for it", _gist(message))
    age = sight.now - seconds(metadata.get("creationTimestamp"), sight.now)
    if not deployment and not _suspended(sight.job) and age > _PATIENCE:
        todo = f"is it running, and does it watch this namespace? {_OPERATOR}"
        yield Finding("error", "KubeRay's operator has not taken up the job", str(metadata.get("name")), todo)


_FAILED = {
    "SubmissionFailed": "the job could not be handed to Ray",
    "DeadlineExceeded": "the job took longer than rayJob.activeDeadlineSeconds",
    "PreRunningDeadlineExceeded": "the job did not begin within rayJob.preRunningDeadlineSeconds",
    "AppFailed": "the job has failed",
    "JobStatusCheckTimeoutExceeded": "Ray's head did not answer KubeRay any more",
}


def _suspended(job: Document) -> bool:
    return bool((job.get("spec") or {}).get("suspend"))


def _of_the_queue(sight: Sight) -> Iterator[Finding]:
    if not _suspended(sight.job):
        return
    metadata = sight.job.get("metadata") or {}
    queue = (metadata.get("labels") or {}).get("kueue.x-k8s.io/queue-name")
    name, namespace = metadata.get("name"), metadata.get("namespace")
    if not queue:
        todo = f'kubectl -n {namespace} patch rayjob {name} --type merge -p \'{{"spec":{{"suspend":false}}}}\''
        yield Finding("note", "the job is suspended", str(name), todo)
        return
    conditions = {c.get("type"): c for c in ((sight.workload or {}).get("status") or {}).get("conditions") or []}
    if not sight.workload:
        yield Finding("warning", "the job waits in a queue", f"queue {queue}", "is Kueue there, and the LocalQueue?")
        return
    said: Document = next(
        (
            conditions[c]
            for c in ("Evicted", "QuotaReserved", "Admitted")
            if c in conditions and _says(conditions[c], c)
        ),
        {},
    )
    yield Finding("note", "the job waits in a queue", f"queue {queue}: {said.get('message') or 'not admitted yet'}")


def _says(condition: Document, kind: str) -> bool:
    """Whether a Workload's condition tells why it waits."""
    return bool(condition.get("status") == ("True" if kind == "Evicted" else "False"))


def _of_the_cluster(sight: Sight) -> Iterator[Finding]:
    """What KubeRay could not make, such as Pods beyond a quota."""
    conditions = ((sight.cluster or {}).get("status") or {}).get("conditions") or []
    for condition in conditions:
        if condition.get("type") == "ReplicaFailure" and condition.get("status") == "True":
            yield _not_made(str(condition.get("message") or condition.get("reason")))
    for event in newest(sight.events):
        if str(event.get("reason", "")).startswith(("FailedToCreate", "FailedCreate")) and _recent(event, sight.now):
            yield _not_made(str(event.get("message")))


def _not_made(message: str) -> Finding:
    quota = _QUOTA.search(message)
    if quota:
        name, requested, used, limited = (part.strip() for part in quota.groups())
        seen = f"quota {name}: asked {requested}, used {used}, at most {limited}"
        todo = "wait for others to end, ask for less under roles, or ask for a larger quota"
        return Finding("error", "the namespace's quota is used up", seen, todo)
    what = re.search(r'violates PodSecurity "([^"]*)": (.*)$', message, re.DOTALL)
    if what:
        return Finding("error", "the namespace's Pod Security Standard refuses the Pods", f"{what[1]}: {what[2]}")
    return Finding("error", "KubeRay cannot make what the job needs", _short(message))


def _of_pods(sight: Sight) -> Iterator[Finding]:
    groups: dict[Finding, list[Document]] = {}
    for pod in sight.pods:
        for finding in _of_pod(pod, sight):
            groups.setdefault(finding, []).append(pod)
    for finding, pods in groups.items():
        seen = f"{pods_text(pods)}: {finding.seen}" if finding.seen else pods_text(pods)
        yield Finding(finding.level, finding.happened, seen, finding.todo)


def pods_text(pods: Sequence[Document]) -> str:
    """`Pod x-head`, or `2 Pods of group worker (a, b)`."""
    names = [str(pod["metadata"]["name"]) for pod in pods]
    if len(names) == 1:
        return f"Pod {names[0]}"
    kinds = " and ".join(dict.fromkeys(component_of(pod) for pod in pods))
    return f"{len(names)} Pods of {kinds} ({', '.join(names[:2])}{', …' if len(names) > 2 else ''})"


def component_of(pod: Document) -> str:
    """`head`, `submitter`, or the name of a worker's group."""
    labels = pod["metadata"].get("labels") or {}
    kind = str(labels.get("ray.io/node-type") or labels.get("app.kubernetes.io/component") or "job")
    return str(labels.get("ray.io/group") or kind) if kind == "worker" else kind


def _of_pod(pod: Document, sight: Sight) -> Iterator[Finding]:
    status = pod.get("status") or {}
    conditions = {c.get("type"): c for c in status.get("conditions") or []}
    disrupted = conditions.get("DisruptionTarget") or {}
    if disrupted.get("status") == "True":
        reason = str(disrupted.get("reason"))
        yield Finding(
            "warning",
            _DISRUPTED.get(reason, f"a Pod is taken away ({reason})"),
            _short(str(disrupted.get("message") or "")),
        )
    elif status.get("reason") == "Evicted":
        yield Finding(
            "warning", "a node evicted it", _short(str(status.get("message") or "")), "ask for more memory under roles"
        )
    scheduled = conditions.get("PodScheduled") or {}
    if scheduled.get("status") == "False" and status.get("phase") == "Pending":
        yield from _unscheduled(pod, str(scheduled.get("reason") or ""), str(scheduled.get("message") or ""))
    elif not scheduled and _is_forgotten(pod, sight.now):
        name = (pod.get("spec") or {}).get("schedulerName") or "default-scheduler"
        todo = "is that scheduler there and running, or is its queue full?"
        yield Finding("warning", "its scheduler has said nothing of it", f"schedulerName {name}", todo)
    for container in [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]:
        yield from _of_container(container)
    if status.get("phase") == "Pending" and scheduled.get("status") != "False":
        yield from _unmounted(pod, sight)


def _is_forgotten(pod: Document, now: float) -> bool:
    """Whether a Pod has long been without a node."""
    waits = (pod.get("status") or {}).get("phase") == "Pending" and not (pod.get("spec") or {}).get("nodeName")
    return waits and now - seconds(pod["metadata"].get("creationTimestamp"), now) > _PATIENCE


_DISRUPTED = {
    "PreemptionByScheduler": "a Pod makes room for one of higher priority",
    "DeletionByTaintManager": "a Pod is taken off its node, which is not well",
    "EvictionByEvictionAPI": "a Pod is evicted, as when a node is drained",
    "DeletionByPodGC": "a Pod's node is gone",
    "TerminationByKubelet": "a node ends a Pod, as it lacks resources or shuts down",
}


def _unscheduled(pod: Document, reason: str, message: str) -> Iterator[Finding]:
    if reason == "SchedulingGated":
        yield Finding("note", "its scheduling is held back", "", "the queue or whoever gates it lets it go")
        return
    if _GANG.search(message):
        todo = "ask for fewer or smaller tasks, or wait for others to end"
        yield Finding(
            "warning", "its gang starts together, and has no room yet", _short(_ONE_OF_IT.sub("", message)), todo
        )
        return
    words = _SCHEDULER.match(message)
    said = _CLAIMS.sub("", words[1] if words else message).strip(" .,")
    namespace = pod["metadata"].get("namespace")
    means = [(text.format(what=(match.groupdict().get("what") or "").rstrip(".,: ")), todo.format(namespace=namespace))
             for pattern, text, todo in _REASONS for match in re.finditer(pattern, said)]  # fmt: skip
    if not means:
        yield Finding("warning", "no node takes it", _short(said) or "the scheduler has not said why yet")
        return
    asked = _asks(pod)
    texts = " and ".join(dict.fromkeys(" ".join(text.split()) for text, _ in means))
    todos = "; ".join(dict.fromkeys(todo for _, todo in means))
    yield Finding("warning", texts, f"asks for {asked}; the scheduler: {_short(said)}", todos)


def _asks(pod: Document) -> str:
    """`cpu 8, memory 32Gi, nvidia.com/gpu 4` of a Pod's first container, which is Ray's."""
    containers = (pod.get("spec") or {}).get("containers") or [{}]
    requests = (containers[0].get("resources") or {}).get("requests") or {}
    return ", ".join(f"{name} {amount}" for name, amount in requests.items()) or "nothing"


def _of_container(container: Document) -> Iterator[Finding]:
    state = container.get("state") or {}
    waiting, last = state.get("waiting") or {}, (container.get("lastState") or {}).get("terminated") or {}
    reason, message = str(waiting.get("reason") or ""), _short(str(waiting.get("message") or ""))
    if reason in _IMAGE:
        todo = "correct image, push it, or name the registry's Secret in imagePullSecrets"
        yield Finding("error", "its image does not come", f"{container.get('image')}: {message or reason}", todo)
    elif reason in ("CreateContainerConfigError", "CreateContainerError"):
        yield Finding("error", "its container cannot be made", message or reason, "make what it names, or correct it")
    elif reason == "CrashLoopBackOff":
        yield Finding("error", "its container ends again and again", _end_text(last) or message)
    for ended in (state.get("terminated") or {}, last):
        if ended.get("reason") == "OOMKilled":
            yield Finding(
                "error", "it was killed for the memory it took", str(container.get("name")), "raise memory under roles"
            )


def _end_text(ended: Document) -> str:
    if not ended:
        return ""
    return (
        f"exit code {ended.get('exitCode')} ({ended.get('reason')}) {_short(str(ended.get('message') or ''))}".strip()
    )


def _unmounted(pod: Document, sight: Sight) -> Iterator[Finding]:
    for event in newest(sight.events):
        about = event.get("involvedObject") or {}
        if about.get("name") == pod["metadata"]["name"] and event.get("reason") in (
            "FailedMount",
            "FailedAttachVolume",
        ):
            yield Finding("error", "a volume cannot be mounted", _short(str(event.get("message"))))
            return


def troubles(events: Iterable[Document]) -> list[str]:
    """The newest warnings, oldest of them first: `12:00:31 Pod x: FailedScheduling, …`."""
    kept = [event for event in newest(events) if event.get("type") == "Warning"][:_MOST_EVENTS]
    return [_event_text(event) for event in reversed(kept)]


def newest(events: Iterable[Document]) -> list[Document]:
    """Events, the newest first."""
    return sorted(events, key=lambda event: time_of(event), reverse=True)


def _event_text(event: Document) -> str:
    about = event.get("involvedObject") or {}
    times = int(event.get("count") or (event.get("series") or {}).get("count") or 1)
    at = datetime.fromtimestamp(time_of(event), timezone.utc).strftime("%H:%M:%S")
    often = f" ({times} times)" if times > 1 else ""
    message = _short(str(event.get("message")))
    return f"{at}Z {about.get('kind')} {about.get('name')}: {event.get('reason')}{often}: {message}"


def time_of(event: Document) -> float:
    """When an event happened, the last time, in seconds since the Unix epoch."""
    series = (event.get("series") or {}).get("lastObservedTime")
    return seconds(series or event.get("lastTimestamp") or event.get("eventTime") or event.get("firstTimestamp"), 0.0)


def _recent(event: Document, now: float) -> bool:
    return now - time_of(event) < 120.0


def seconds(text: object, otherwise: float) -> float:
    """A time as Kubernetes writes it, in seconds since the Unix epoch."""
    if not isinstance(text, str):
        return otherwise
    plain = re.sub(r"\.(\d+)", lambda digits: f".{digits[1][:6]:0<6}", text.replace("Z", "+00:00"))
    try:
        return datetime.fromisoformat(plain).timestamp()
    except ValueError:
        return otherwise


def _short(text: str) -> str:
    plain = " ".join(text.split())
    return plain if len(plain) <= 400 else f"{plain[:397]}…"


def _gist(message: str) -> str:
    """The launcher's error, if the end of its log in the message has it, else the first line."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return _short([*lines[:1], *errors][-1]) if lines else ""
