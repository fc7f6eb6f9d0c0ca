"""A namespace, in which a test plays the operator, the scheduler and the kubelet by writing what they would write."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from deploy.e2e.control_plane import ControlPlane

Document = dict[str, Any]
#: Settings that let a job of these tests be submitted.
STORAGE: Document = {"storage": {"uri": "s3://bucket/runs", "secretName": "s3-keys"}}


#: The status of a Pod that runs.
READY: Document = {
    "phase": "Running",
    "containerStatuses": [
        {"name": "x", "image": "x", "imageID": "x", "ready": True, "restartCount": 0, "state": {"running": {}}}
    ],
}


def now() -> str:
    """The time as Kubernetes writes it."""
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True)
class Space:
    """One namespace of an API server."""

    plane: ControlPlane
    name: str
    folder: Path

    def kubectl(self, *arguments: str, text: str | None = None) -> str:
        return self.plane.kubectl("--namespace", self.name, *arguments, text=text)

    def get(self, kind: str, name: str) -> Document:
        document: Document = json.loads(self.kubectl("get", kind, name, "--show-managed-fields", "--output", "json"))
        return document

    def names(self, kind: str) -> list[str]:
        return [item["metadata"]["name"] for item in json.loads(self.kubectl("get", kind, "-o", "json"))["items"]]

    def create(self, document: Mapping[str, Any]) -> None:
        self.kubectl("create", "--filename", "-", text=json.dumps(document))

    def set_status(self, kind: str, name: str, **status: Any) -> None:
        patch = json.dumps({"status": status})
        self.kubectl("patch", kind, name, "--subresource=status", "--type=merge", "--patch", patch)

    def user(self, name: str, rules: list[Document], groups: list[str] | None = None) -> Path:
        """The kubeconfig of one who may do what the rules allow in this namespace."""
        role = {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "Role",
            "metadata": {"name": name},
            "rules": rules,
        }
        self.create(role)
        self.kubectl("create", "rolebinding", name, f"--role={name}", f"--user={name}")
        return self.plane.kubeconfig(f"{name}-{self.name}", name, groups or [], self.name)

    def take_up(self, job: str, **status: Any) -> str:
        """Play the operator that makes a RayCluster; returns its name."""
        cluster = f"{job}-abcde"
        spec = self.get("rayjob", job)["spec"]["rayClusterSpec"]
        self.create({"apiVersion": "ray.io/v1", "kind": "RayCluster", "metadata": {"name": cluster}, "spec": spec})
        begun = {"jobDeploymentStatus": "Initializing", "rayClusterName": cluster, "jobId": f"{job}-xyz"}
        self.set_status("rayjob", job, **{**begun, "startTime": now(), **status})
        return cluster

    def pod(self, job: str, component: str, number: int = 0, **status: Any) -> str:
        """Play the operator that makes a Pod of the job, and whoever gives it a status; returns its name."""
        spec = self.get("rayjob", job)["spec"]
        name = f"{job}-{component}-{number}"
        if component == "submitter":
            return self.make_pod(name, spec["submitterPodTemplate"], {"job-name": job}, **status)
        return self.ray_pod(name, f"{job}-abcde", spec["rayClusterSpec"], component, **status)

    def ray_pod(self, name: str, cluster: str, spec: Document, component: str, **status: Any) -> str:
        """Play the operator that makes a Pod of a RayCluster: its head, or a worker of the group `component`."""
        if component == "head":
            template, kind, group = spec["headGroupSpec"]["template"], "head", "headgroup"
        else:
            template = next(g for g in spec["workerGroupSpecs"] if g["groupName"] == component)["template"]
            kind, group = "worker", component
        known = {"ray.io/cluster": cluster, "ray.io/node-type": kind, "ray.io/group": group}
        return self.make_pod(name, template, known, **status)

    def make_pod(self, name: str, template: Document, labels: Mapping[str, str], **status: Any) -> str:
        """A Pod of a template, with more labels, perhaps on a `node`, and with a status."""
        metadata = {"name": name, "labels": {**template["metadata"]["labels"], **labels}}
        node = {"nodeName": status.pop("node")} if "node" in status else {}
        self.create({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {**template["spec"], **node}})
        if status:
            self.set_status("pod", name, **status)
        return name

    def event(self, kind: str, name: str, reason: str, message: str, level: str = "Warning") -> None:
        about = {"kind": kind, "name": name, "namespace": self.name}
        self.create({
            "apiVersion": "v1", "kind": "Event", "metadata": {"generateName": f"{name}."}, "involvedObject": about,
            "reason": reason, "message": message, "type": level, "lastTimestamp": now(), "count": 1,
        })  # fmt: skip


def unschedulable(message: str) -> Document:
    """The status of a Pod that the scheduler finds no node for."""
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    return {"phase": "Pending", "conditions": [condition]}


def waiting(reason: str, message: str, image: str = "ray-tfcluster:0.1.0") -> Document:
    """The status of a Pod whose container waits."""
    container = {
        "name": "ray-worker", "image": image, "imageID": "", "ready": False, "restartCount": 0,
        "state": {"waiting": {"reason": reason, "message": message}},
    }  # fmt: skip
    scheduled = {"type": "PodScheduled", "status": "True"}
    return {"phase": "Pending", "conditions": [scheduled], "containerStatuses": [container]}


#: API servers that were started again, to be ended with the session.
started_again: list[subprocess.Popen[bytes]] = []


@contextlib.contextmanager
def away(space: Space) -> Iterator[None]:
    """Kill the API server, and start it again when the block ends."""
    port = f"--secure-port={space.plane.port}".encode()
    pid, command = next(found for found in _processes() if port in found[1])
    os.kill(pid, signal.SIGKILL)
    try:
        yield
    finally:
        with (space.plane.folder / "kube-apiserver.log").open("ab") as log:
            started_again.append(subprocess.Popen([word.decode() for word in command], stdout=log, stderr=log))


def _processes() -> Iterator[tuple[int, list[bytes]]]:
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # ended meanwhile
            yield int(entry.name), [word for word in (entry / "cmdline").read_bytes().split(b"\0") if word]
