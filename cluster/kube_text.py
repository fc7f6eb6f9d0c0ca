"""A job on Kubernetes in words: for `tfcluster status` and `list`. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from cluster.kube_pending import Sight, component_of, exit_code_of, findings, seconds, state_of, troubles
from cluster.units import format_duration

Document = Mapping[str, Any]


def job_document(sight: Sight) -> dict[str, Any]:
    """All of it, for a program."""
    metadata, status = sight.job["metadata"], sight.job.get("status") or {}
    return {
        "id": metadata["name"],
        "namespace": metadata["namespace"],
        "status": state_of(sight.job),
        "exit_code": exit_code_of(sight.job),
        "message": str(status.get("message") or ""),
        "findings": [
            {"level": f.level, "happened": f.happened, "seen": f.seen, "todo": f.todo} for f in findings(sight)
        ],
        "ray_cluster": status.get("rayClusterName"),
        "pods": [_pod_document(pod) for pod in sight.pods],
        "events": troubles(sight.events),
    }


def _pod_document(pod: Document) -> dict[str, Any]:
    return {
        "name": pod["metadata"]["name"],
        "component": component_of(pod),
        "phase": phase_of(pod),
        "node": (pod.get("spec") or {}).get("nodeName"),
        "restarts": sum(int(c.get("restartCount") or 0) for c in _containers(pod)),
    }


def phase_of(pod: Document) -> str:
    """`running` where all containers are ready, else what the Pod is at."""
    if pod["metadata"].get("deletionTimestamp"):
        return "ending"
    phase = str((pod.get("status") or {}).get("phase") or "Pending")
    if phase == "Running" and not all(container.get("ready") for container in _containers(pod)):
        return "starting"
    return phase.lower()


def _containers(pod: Document) -> list[Document]:
    return list((pod.get("status") or {}).get("containerStatuses") or [])


def job_rows(sight: Sight) -> list[tuple[str, str]]:
    """Names and values, the most important first."""
    metadata, status = sight.job["metadata"], sight.job.get("status") or {}
    rows = [("job", f"{metadata['name']} in namespace {metadata['namespace']}"), ("status", _status_text(sight))]
    if status.get("rayClusterName"):
        rows.append(("Ray cluster", str(status["rayClusterName"])))
    by_component: dict[str, list[Document]] = {}
    for pod in sight.pods:
        by_component.setdefault(component_of(pod), []).append(pod)
    for component in sorted(by_component, key=lambda name: (name != "head", name == "submitter", name)):
        rows.append((component, _pods_text(by_component[component])))
    return rows


def _status_text(sight: Sight) -> str:
    state, status = state_of(sight.job), sight.job.get("status") or {}
    begun = seconds(status.get("startTime") or sight.job["metadata"].get("creationTimestamp"), sight.now)
    info = status.get("rayJobInfo") or {}
    begun = seconds(info.get("startTime"), begun)
    ended = seconds(info.get("endTime") or status.get("endTime"), sight.now)
    code = exit_code_of(sight.job)
    took = format_duration(max(0.0, (ended if state not in ("PENDING", "RUNNING") else sight.now) - begun))
    return f"{state} {'for' if state in ('PENDING', 'RUNNING') else 'after'} {took}" + (
        f", exit code {code}" if code else ""
    )


def _pods_text(pods: Sequence[Document]) -> str:
    """`2 running on node-1, node-2 · 1 pending`."""
    phases: dict[str, list[str]] = {}
    for pod in pods:
        phases.setdefault(phase_of(pod), []).append(str((pod.get("spec") or {}).get("nodeName") or ""))
    parts = []
    for phase, nodes in phases.items():
        where = sorted({node for node in nodes if node})
        places = f" on {', '.join(where[:3])}{', …' if len(where) > 3 else ''}" if where and phase == "running" else ""
        parts.append(f"{len(nodes)} {phase}{places}")
    restarts = sum(int(c.get("restartCount") or 0) for pod in pods for c in _containers(pod))
    return " · ".join([*parts, *([f"{restarts} restarts"] if restarts else [])])


def list_rows(jobs: Iterable[Document], now: float) -> list[dict[str, Any]]:
    """One row a job."""
    return [
        {
            "id": job["metadata"]["name"],
            "status": state_of(job),
            "exit_code": exit_code_of(job),
            "age": max(0.0, now - seconds(job["metadata"].get("creationTimestamp"), now)),
        }
        for job in jobs
    ]
