"""A cluster as a person uses it: kubectl, helm and tfcluster, each with its kubeconfig."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy" / "helm" / "tfcluster"
JOBS = Path(__file__).parent / "jobs"
#: No single thing that a test waits for takes longer, even on two busy cores.
PATIENCE_S = 180

Document = dict[str, Any]
Values = Mapping[str, Any]


class FailedError(AssertionError):
    """A command that ended with an error, and what it wrote."""


def claim_settings() -> Document:
    """What claims ask for: the cluster's default class, unless the environment says otherwise."""
    settings: Document = {"accessModes": [os.environ.get("TFCLUSTER_E2E_ACCESS_MODE", "ReadWriteMany")]}
    if os.environ.get("TFCLUSTER_E2E_STORAGE_CLASS"):
        settings["storageClassName"] = os.environ["TFCLUSTER_E2E_STORAGE_CLASS"]
    return settings


@dataclass(frozen=True)
class Space:
    """A namespace of a cluster, and the programs that are used on it."""

    name: str
    kubeconfig: str
    kubectl_binary: str
    helm_binary: str
    chart: Path = CHART

    def kubectl(self, *arguments: str, text: str | None = None) -> str:
        """What kubectl writes, in this namespace."""
        return self._run(self.kubectl_binary, "--namespace", self.name, *arguments, text=text)

    def helm(self, *arguments: str, values: Values | None = None) -> str:
        """What helm writes, in this namespace."""
        given = ["--values", "-"] if values is not None else []
        return self._run(self.helm_binary, "--namespace", self.name, *arguments, *given, text=json.dumps(values or {}))

    def tfcluster(self, *arguments: str, more: Mapping[str, str] | None = None) -> str:
        """What tfcluster writes to its standard output."""
        return self._run(sys.executable, "-m", "cluster", *arguments, more=more)

    def _run(self, *command: str, text: str | None = None, more: Mapping[str, str] | None = None) -> str:
        env = {**os.environ, "KUBECONFIG": self.kubeconfig, **(more or {})}
        done = subprocess.run(command, env=env, input=text, capture_output=True, text=True, timeout=400, check=False)
        if done.returncode:
            raise FailedError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
        return done.stdout

    def get(self, *arguments: str) -> Document:
        """An object."""
        return dict(json.loads(self.kubectl("get", *arguments, "--output", "json")))

    def pods(self, selector: str) -> list[str]:
        """Names of the Pods with these labels that are not about to end."""
        items = self.get("pods", "--selector", selector)["items"]
        return [pod["metadata"]["name"] for pod in items if "deletionTimestamp" not in pod["metadata"]]

    def wait(self, what: str, condition: str, seconds: int = PATIENCE_S) -> None:
        """Until an object that is there, or comes, meets a condition of `kubectl wait`."""
        self.appears(what, seconds)
        self.kubectl("wait", what, f"--for={condition}", f"--timeout={seconds}s")

    def appears(self, what: str, seconds: int = PATIENCE_S) -> None:
        """Until there is such an object."""
        self.kubectl("wait", what, "--for=create", f"--timeout={seconds}s")

    def install(self, name: str, values: Values, *arguments: str) -> None:
        """A release of the chart."""
        self.helm("install", name, str(self.chart), *arguments, values=values)

    def install_job(self, name: str, values: Values) -> None:
        """A release of the chart that runs the jobs' code."""
        files = {path.name: path.read_text() for path in JOBS.glob("*.py")}
        self.install(name, {**values, "mode": "job", "files": files})

    @contextlib.contextmanager
    def following(self, *arguments: str) -> Iterator[Iterator[str]]:
        """The lines that a command of kubectl goes on to write, such as `logs --follow`."""
        command = [self.kubectl_binary, "--kubeconfig", self.kubeconfig, "--namespace", self.name, *arguments]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        try:
            assert process.stdout
            yield (line.rstrip("\n") for line in process.stdout)
        finally:
            process.kill()
            process.wait()
            process.stdout.close()

    def claim(self, name: str) -> None:
        """A claim for runs."""
        size = {"requests": {"storage": "1Gi"}}
        spec = {**claim_settings(), "resources": size}
        self.create({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": spec})

    def create(self, document: Document) -> None:
        """Make an object."""
        self.kubectl("create", "--filename", "-", text=json.dumps(document))

    def read(self, claim: str, command: str, image: str, policy: str) -> str:
        """What a shell command writes in a Pod that sees the claim at /storage."""
        name = f"reader-{uuid.uuid4().hex[:6]}"
        container = {
            "name": "reader",
            "image": image,
            "imagePullPolicy": policy,
            "command": ["sh", "-c", command],
            "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
            "volumeMounts": [{"name": "storage", "mountPath": "/storage"}],
        }
        user = {"runAsNonRoot": True, "runAsUser": 1000, "fsGroup": 1000, "seccompProfile": {"type": "RuntimeDefault"}}
        spec = {
            "restartPolicy": "Never",
            "securityContext": user,
            "containers": [container],
            "volumes": [{"name": "storage", "persistentVolumeClaim": {"claimName": claim}}],
        }
        self.create({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec})
        self.wait(f"pod/{name}", "jsonpath={.status.phase}=Succeeded")
        written = self.kubectl("logs", name)
        self.kubectl("delete", "pod", name)
        return written
