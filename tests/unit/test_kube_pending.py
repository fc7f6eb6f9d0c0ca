# ruff: noqa: E501 - in the tables a line is a case
"""What objects and events of a job mean: its state, exit code, and why it does not run."""

from __future__ import annotations

from typing import Any

import pytest

from cluster.kube_pending import Sight, exit_code_of, findings, newest, pods_text, seconds, state_of, troubles
from cluster.kube_text import job_document, job_rows, list_rows

NOW = seconds("2026-11-23T20:00:00Z", 0.0)


def job(spec: dict[str, Any] | None = None, labels: dict[str, str] | None = None, **status: Any) -> dict[str, Any]:
    metadata = {"name": "flights-1", "namespace": "ml", "creationTimestamp": "2026-11-23T19:58:00Z", "uid": "u"}
    return {"metadata": {**metadata, "labels": labels or {}}, "spec": spec or {}, "status": status}


def pod(name: str = "p", group: str = "worker", **status: Any) -> dict[str, Any]:
    labels = {"ray.io/node-type": "worker", "ray.io/group": group}
    containers = [{"name": "ray-worker", "resources": {"requests": {"cpu": "8", "nvidia.com/gpu": 4}}}]
    metadata = {"name": name, "namespace": "ml", "labels": labels}
    return {"metadata": metadata, "spec": {"containers": containers}, "status": status}


def unscheduled(message: str, name: str = "p", reason: str = "Unschedulable") -> dict[str, Any]:
    condition = {"type": "PodScheduled", "status": "False", "reason": reason, "message": message}
    return pod(name, phase="Pending", conditions=[condition])


def container(**more: Any) -> dict[str, Any]:
    return {"name": "ray-worker", "image": "registry/ray:1", **more}


def event(
    reason: str, message: str, kind: str = "Pod", name: str = "p", at: str = "19:59:50", **more: Any
) -> dict[str, Any]:
    about = {"kind": kind, "name": name}
    time = f"2026-11-23T{at}Z"
    return {
        "reason": reason,
        "message": message,
        "type": "Warning",
        "involvedObject": about,
        "lastTimestamp": time,
        **more,
    }


def said(*pods: dict[str, Any], of: dict[str, Any] | None = None, **more: Any) -> str:
    known = of or job(jobDeploymentStatus="Initializing")
    return "\n".join(map(str, findings(Sight(known, pods=pods, now=NOW, **more))))


@pytest.mark.parametrize(
    ("deployment", "status", "state"),
    [
        ("", "", "PENDING"),
        ("Initializing", "", "PENDING"),
        ("Running", "", "PENDING"),
        ("Running", "PENDING", "PENDING"),
        ("Running", "RUNNING", "RUNNING"),
        ("Running", "SUCCEEDED", "SUCCEEDED"),  # the submitter has yet to end
        ("Complete", "SUCCEEDED", "SUCCEEDED"),
        ("Complete", "STOPPED", "STOPPED"),
        ("Running", "FAILED", "RUNNING"),  # it may be tried again
        ("Retrying", "FAILED", "PENDING"),
        ("Failed", "FAILED", "FAILED"),
        ("Failed", "RUNNING", "FAILED"),  # a deadline
        ("ValidationFailed", "", "FAILED"),
        ("Suspending", "RUNNING", "PENDING"),
        ("Suspended", "", "PENDING"),
    ],
)
def test_states(deployment: str, status: str, state: str) -> None:
    assert state_of(job(jobDeploymentStatus=deployment, jobStatus=status)) == state


@pytest.mark.parametrize(
    ("deployment", "status", "message", "code"),
    [
        ("Complete", "SUCCEEDED", "Job finished successfully.", 0),
        ("Complete", "STOPPED", "", 130),
        ("Failed", "FAILED", "Job entrypoint command failed with exit code 11, last available logs\nexit code 3", 11),
        ("Failed", "FAILED", "Unexpected error occurred: the head is gone", None),
        ("Running", "RUNNING", "exit code 3", None),
    ],
)
def test_exit_codes(deployment: str, status: str, message: str, code: int | None) -> None:
    assert exit_code_of(job(jobDeploymentStatus=deployment, jobStatus=status, message=message)) == code


@pytest.mark.parametrize(
    ("message", "sentence"),
    [
        ("0/3 nodes are available: 3 Insufficient cpu.", "no node has enough cpu left"),
        ("0/3 nodes are available: 1 Insufficient memory, 2 Insufficient nvidia.com/gpu. preemption: 0/3 nodes are available: 3 No preemption victims found for incoming pod.", "no node has enough memory left and no node has enough nvidia.com/gpu left"),
        ("0/3 nodes are available: 3 node(s) had untolerated taint {nvidia.com/gpu: present}.", "nodes are kept free by taint nvidia.com/gpu: present"),
        ("0/3 nodes are available: 3 node(s) had untolerated taint(s). preemption: 0/3", "nodes are kept free by taint"),
        ("0/3 nodes are available: 3 node(s) didn't match Pod's node affinity/selector.", "no node matches its selector or affinity"),
        ("0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims. preemption: 0/1", "its claim is not there or not bound"),
        ('0/1 nodes are available: persistentvolumeclaim "runs" not found. not found', "its claim runs is not there or not bound"),
        ('0/1 nodes are available: persistentvolumeclaim "runs" not found.', "see: kubectl -n ml get pvc"),
        ("0/2 nodes are available: 2 node(s) were unschedulable.", "nodes are cordoned"),
        ("0/2 nodes are available: 2 Too many pods.", "nodes hold no more Pods"),
        ("0/2 nodes are available: 2 node(s) didn't satisfy the moon.", "no node takes it"),
        ("", "no node takes it · Pod p: the scheduler has not said why yet"),
    ],
)  # fmt: skip
def test_unschedulable(message: str, sentence: str) -> None:
    assert sentence in said(unscheduled(message))


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("3/3 tasks in gang unschedulable: pod group is not ready, 3 Pending, 3 minAvailable", "3/3 tasks in gang unschedulable: pod group is not ready, 3 Pending, 3 minAvailable"),
        ("Pod ml/{name} can possibly be assigned to node-1, once minAvailable is satisfied", "once minAvailable is satisfied"),
        ("0/3 nodes are available: 3 pre-filter pod {name} cannot find enough sibling pods, current pods number: 2, minMember of group: 3.", "0/3 nodes are available: 3 cannot find enough sibling pods, current pods number: 2, minMember of group: 3."),
    ],
)  # fmt: skip
def test_a_gang_that_waits(message: str, shown: str) -> None:
    pods = [unscheduled(message.format(name=name), name) for name in ("a", "b")]
    text = said(*pods)
    assert text.startswith("its gang starts together, and has no room yet · 2 Pods of worker (a, b): " + shown)
    assert "cordoned" not in text


def test_a_pod_of_a_gang_that_has_no_room() -> None:
    """Volcano's words for what is not the gang's, but this Pod's own."""
    text = said(unscheduled("0/3 nodes are unavailable: 3 Insufficient nvidia.com/gpu."))
    assert "no node has enough nvidia.com/gpu left" in text
    assert "the scheduler: 3 Insufficient nvidia.com/gpu" in text


def forgotten(created: str, **spec: str) -> dict[str, Any]:
    made = pod(phase="Pending")
    made["metadata"]["creationTimestamp"] = created
    made["spec"] |= spec
    return made


def test_a_scheduler_that_is_not_there() -> None:
    expected = "its scheduler has said nothing of it · Pod p: schedulerName volcano · is that scheduler there"
    assert expected in said(forgotten("2026-11-23T19:59:29Z", schedulerName="volcano"))
    assert "schedulerName default-scheduler" in said(forgotten("2026-11-23T19:59:29Z"))
    assert not said(forgotten("2026-11-23T19:59:31Z", schedulerName="volcano"))
    assert not said(forgotten("2026-11-23T19:59:29Z", nodeName="node-1"))


def test_a_finding_that_stays_is_the_same_later() -> None:
    """Who follows a job is told once."""
    known = job()
    first, later = (findings(Sight(known, now=NOW + seconds)) for seconds in (0.0, 2.0))
    assert first
    assert first == later


def test_what_a_pod_asks_for_is_told() -> None:
    text = said(unscheduled("0/3 nodes are available: 3 Insufficient nvidia.com/gpu."))
    assert "asks for cpu 8, nvidia.com/gpu 4; the scheduler: 3 Insufficient nvidia.com/gpu" in text


def test_the_words_of_a_newer_scheduler() -> None:
    message = "0/1 nodes are available: 1 Insufficient cpu. no new claims to deallocate, preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling."
    assert "the scheduler: 1 Insufficient cpu · ask" in said(unscheduled(message))


def test_pods_that_wait_for_the_same_are_one_finding() -> None:
    pods = [unscheduled("0/3 nodes are available: 3 Insufficient cpu.", name) for name in ("a", "b", "c")]
    assert len(said(*pods).splitlines()) == 1
    assert "3 Pods of worker (a, b, …)" in said(*pods)


def test_gates() -> None:
    assert "its scheduling is held back" in said(unscheduled("gated", reason="SchedulingGated"))


@pytest.mark.parametrize(
    ("state", "sentence"),
    [
        ({"waiting": {"reason": "ImagePullBackOff", "message": "Back-off"}}, "its image does not come · Pod p: registry/ray:1: Back-off"),
        ({"waiting": {"reason": "ErrImagePull", "message": "denied"}}, "its image does not come"),
        ({"waiting": {"reason": "CreateContainerConfigError", "message": 'secret "x" not found'}}, 'its container cannot be made · Pod p: secret "x" not found'),
        ({"terminated": {"reason": "OOMKilled", "exitCode": 137}}, "it was killed for the memory it took · Pod p: ray-worker · raise memory"),
    ],
)  # fmt: skip
def test_containers(state: dict[str, Any], sentence: str) -> None:
    assert sentence in said(pod(phase="Pending", containerStatuses=[container(state=state)]))


def test_a_container_that_ends_again_and_again() -> None:
    last = {"terminated": {"exitCode": 1, "reason": "Error", "message": "no such command"}}
    status = container(state={"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}}, lastState=last)
    assert "ends again and again · Pod p: exit code 1 (Error) no such command" in said(
        pod(phase="Running", containerStatuses=[status])
    )


def test_a_volume_that_cannot_be_mounted() -> None:
    waits = pod(phase="Pending", conditions=[{"type": "PodScheduled", "status": "True"}])
    events = [event("FailedMount", 'configmap "flights-1-job" not found')]
    assert "a volume cannot be mounted · Pod p: configmap" in said(waits, events=events)
    assert said(waits, events=[event("FailedMount", "x", name="other")]) == ""


@pytest.mark.parametrize(
    ("reason", "sentence"),
    [
        ("PreemptionByScheduler", "a Pod makes room for one of higher priority"),
        ("EvictionByEvictionAPI", "as when a node is drained"),
        ("DeletionByTaintManager", "off its node, which is not well"),
        ("Novelty", "a Pod is taken away (Novelty)"),
    ],
)
def test_disruptions(reason: str, sentence: str) -> None:
    condition = {"type": "DisruptionTarget", "status": "True", "reason": reason, "message": "why"}
    assert sentence in said(pod(phase="Running", conditions=[condition]))


def test_eviction() -> None:
    evicted = pod(phase="Failed", reason="Evicted", message="The node was low on resource: memory.")
    assert "a node evicted it · Pod p: The node was low on resource: memory." in said(evicted)


QUOTA = 'pods "x" is forbidden: exceeded quota: team, requested: cpu=8, used: cpu=10, limited: cpu=16'


def test_quota_as_the_operator_tells_it() -> None:
    expected = "the namespace's quota is used up · quota team: asked cpu=8, used cpu=10, at most cpu=16"
    condition = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreateHeadPod", "message": QUOTA}
    assert expected in said(cluster={"status": {"conditions": [condition]}})
    assert expected in said(events=[event("FailedToCreateHeadPod", QUOTA, "RayCluster", "c")])
    assert said(events=[event("FailedToCreateHeadPod", QUOTA, "RayCluster", "c", at="19:50:00")]) == ""


def test_a_pod_security_standard() -> None:
    message = 'Failed to create head Pod ml/x, pods "x" is forbidden: violates PodSecurity "restricted:latest": runAsNonRoot != true'
    text = said(events=[event("FailedToCreateHeadPod", message, "RayCluster", "c")])
    assert "Pod Security Standard refuses the Pods · restricted:latest: runAsNonRoot != true" in text


def test_the_operator_that_is_not_there() -> None:
    assert "operator has not taken up the job · flights-1 · is it running" in said(of=job())
    assert said(of={**job(), "metadata": {**job()["metadata"], "creationTimestamp": "2026-11-23T19:59:50Z"}}) == ""


def test_what_the_operator_says() -> None:
    refused = job(jobDeploymentStatus="ValidationFailed", message="The RayJob spec is invalid: x")
    assert "KubeRay's operator refuses the RayJob · The RayJob spec is invalid: x" in said(of=refused)
    late = job(jobDeploymentStatus="Failed", reason="DeadlineExceeded", message="passed\nmore")
    assert "longer than rayJob.activeDeadlineSeconds · passed" in said(of=late)
    again = job(jobDeploymentStatus="Retrying", jobStatus="FAILED", message="gone")
    assert "KubeRay makes a new cluster for it · gone" in said(of=again)


QUEUED = {"kueue.x-k8s.io/queue-name": "team"}


def workload(*conditions: tuple[str, str, str]) -> dict[str, Any]:
    made = [{"type": kind, "status": status, "message": message} for kind, status, message in conditions]
    return {"status": {"conditions": made}}


@pytest.mark.parametrize(
    ("load", "sentence"),
    [
        (None, "the job waits in a queue · queue team · is Kueue there"),
        (workload(), "queue team: not admitted yet"),
        (workload(("QuotaReserved", "False", "insufficient quota for cpu")), "queue team: insufficient quota for cpu"),
        (workload(("Evicted", "True", "preempted"), ("QuotaReserved", "False", "x")), "queue team: preempted"),
        (workload(("QuotaReserved", "True", "x"), ("Admitted", "False", "checks")), "queue team: checks"),
    ],
)
def test_queues(load: dict[str, Any] | None, sentence: str) -> None:
    waits = job({"suspend": True}, QUEUED, jobDeploymentStatus="Suspended")
    assert sentence in said(of=waits, workload=load)


def test_a_job_that_has_failed_says_why() -> None:
    ended = "Job entrypoint command failed with exit code 3, last available logs (truncated to 20,000 chars):"
    failed: dict[str, Any] = {"jobDeploymentStatus": "Failed", "jobStatus": "FAILED", "reason": "AppFailed"}
    log = f"{ended}\nOSError: read-only\nerror: prepare failed · train.py:make\nnext: tfcluster logs x\n"
    assert "the job has failed · prepare failed · train.py:make" in said(of=job(**failed, message=log))
    assert f"the job has failed · {ended}" in said(of=job(**failed, message=f"{ended}\nKilled\n"))


def test_a_job_that_is_suspended() -> None:
    assert "the job is suspended · flights-1 · kubectl -n ml patch rayjob flights-1" in said(of=job({"suspend": True}))


def test_nothing_is_told_of_a_job_that_has_ended_well() -> None:
    ended = job(jobDeploymentStatus="Complete", jobStatus="SUCCEEDED")
    assert said(unscheduled("0/3 nodes are available: 3 Insufficient cpu."), of=ended) == ""


def test_events_in_order_and_only_warnings() -> None:
    events = [event("B", "second", at="19:59:59", count=3), event("A", "first", at="19:59:58")]
    events.append({**event("C", "fine", at="19:59:57"), "type": "Normal"})
    assert troubles(events) == ["19:59:58Z Pod p: A: first", "19:59:59Z Pod p: B (3 times): second"]
    assert [e["reason"] for e in newest(events)] == ["B", "A", "C"]
    series = {
        "eventTime": "2026-11-23T19:00:00.123456Z",
        "series": {"count": 2, "lastObservedTime": "2026-11-23T20:00:00.5Z"},
    }
    assert newest([*events, {**series, "reason": "D"}])[0]["reason"] == "D"


@pytest.mark.parametrize(
    ("text", "expected"),
    [("2026-11-23T20:00:00Z", 0.0), ("2026-11-23T20:00:00.5Z", 0.5), ("2026-11-23T20:00:00.123456789Z", 0.123456)],
)
def test_times(text: str, expected: float) -> None:
    assert seconds(text, 0.0) - NOW == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("text", [None, "", "soon"])
def test_times_that_are_none(text: object) -> None:
    assert seconds(text, 7.0) == 7.0


def test_pods_in_words() -> None:
    assert pods_text([pod("a")]) == "Pod a"
    assert pods_text([pod("a"), pod("b", "gpu")]) == "2 Pods of worker and gpu (a, b)"


def test_rows_of_status() -> None:
    ready: dict[str, Any] = {"phase": "Running", "containerStatuses": [container(ready=True, restartCount=2)]}
    pods = [pod("a", **ready), pod("b", phase="Pending")]
    pods[0]["spec"]["nodeName"] = "node-1"
    running = job(
        jobDeploymentStatus="Running", jobStatus="RUNNING", rayClusterName="c", startTime="2026-11-23T19:59:00Z"
    )
    sight = Sight(running, pods=pods, now=NOW)
    assert job_rows(sight) == [
        ("job", "flights-1 in namespace ml"),
        ("status", "RUNNING for 1m00s"),
        ("Ray cluster", "c"),
        ("worker", "1 running on node-1 · 1 pending · 2 restarts"),
    ]
    document = job_document(sight)
    assert document["status"] == "RUNNING"
    assert [(p["name"], p["phase"], p["restarts"]) for p in document["pods"]] == [
        ("a", "running", 2),
        ("b", "pending", 0),
    ]


def test_rows_of_list() -> None:
    failed = job(jobDeploymentStatus="Failed", jobStatus="FAILED", message="exit code 10")
    assert list_rows([failed], NOW) == [{"id": "flights-1", "status": "FAILED", "exit_code": 10, "age": 120.0}]
