"""A cluster where no kubelet can run: its Pods are scheduled for real, and run only as far as KWOK says so."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from deploy.e2e import programs
from deploy.e2e.addons import MANIFESTS, install_kinds
from deploy.e2e.cluster import Cluster
from deploy.e2e.control_plane import ControlPlane, control_plane
from deploy.e2e.controllers import start_controllers
from deploy.e2e.processes import Starter, answers, free_ports, wait_until
from deploy.e2e.programs import path

#: Every program that it runs.
PROGRAMS = (
    "etcd", "kube-apiserver", "kubectl", "kube-controller-manager", "kube-scheduler", "kuberay-operator", "kwok",
)  # fmt: skip
#: Nothing pulls it.
IMAGE = "localhost/ray-tfcluster:simulated"
#: Simulated nodes → what they have.
NODES = {
    "cpu": {"cpu": "64", "memory": "256Gi", "pods": "110"},
    "gpu": {"cpu": "64", "memory": "256Gi", "pods": "110", "nvidia.com/gpu": "8"},
}
#: Of Pods; RFC 2544 keeps it for benchmarks, so that nobody is there.
_POD_RANGE = "198.18.0.1/16"
#: No Pod could use an endpoint of the API server. KWOK's watches of Pods count as lists to it, which take a newer etcd.
_API_FLAGS = ("--endpoint-reconciler-type=none", "--feature-gates=WatchList=false")
_OPERATOR = "kuberay-operator"


def prepare() -> None:
    """Have all programs.

    Raises:
        E2EError: one can neither be found nor made.
    """
    programs.installed("openssl", "openssl")
    for program in PROGRAMS:
        programs.path(program)
    programs.kuberay_config()


@contextlib.contextmanager
def simulated() -> Iterator[Cluster]:
    """A cluster of simulated nodes with KubeRay, while the block runs; it takes no root.

    Raises:
        E2EError: it does not come up.
    """
    prepare()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tfcluster-e2e-")))
        plane = stack.enter_context(control_plane(folder, flags=_API_FLAGS))
        start = Starter(folder, stack)
        start_controllers(plane, start)
        start("kwok", [str(path("kwok")), *_kwok(plane)])
        install_kinds(plane)
        nodes = [_node(name, amounts) for name, amounts in NODES.items()]
        plane.kubectl(
            "create", "--filename", "-", text=json.dumps({"apiVersion": "v1", "kind": "List", "items": nodes})
        )
        _start_operator(plane, start)
        plane.kubectl("wait", "--for=condition=Ready", "--timeout=60s", "node", "--all")
        yield Cluster(folder, IMAGE)


def _kwok(plane: ControlPlane) -> list[str]:
    return [
        f"--kubeconfig={plane.kubeconfig('kwok', 'kwok', ['system:masters'])}",
        f"--config={MANIFESTS / 'kwok.yaml'}",
        "--manage-all-nodes=true",
        "--node-lease-duration-seconds=40",
        f"--node-ip={plane.address}",
        f"--cidr={_POD_RANGE}",
    ]


def _node(name: str, amounts: dict[str, str]) -> dict[str, Any]:
    labels = {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": labels},
        "status": {"capacity": amounts, "allocatable": amounts},
    }


def _start_operator(plane: ControlPlane, start: Starter) -> None:
    """With the rights of its ClusterRole, beside the API server and not in a Pod."""
    plane.kubectl("create", "clusterrolebinding", _OPERATOR, f"--clusterrole={_OPERATOR}", f"--user={_OPERATOR}")
    (port,) = free_ports(1)
    command = [
        str(path(_OPERATOR)),
        f"--kubeconfig={plane.kubeconfig('operator', _OPERATOR)}",
        "--feature-gates=RayCronJob=true",
        "--enable-leader-election=false",
        "--metrics-addr=0",
        f"--health-probe-bind-address=127.0.0.1:{port}",
    ]
    nowhere = {
        "HTTP_PROXY": "http://127.0.0.1:9"
    }  # it asks heads that do not run, by names that nobody should be asked
    process = start(_OPERATOR, command, {**os.environ, **nowhere})
    log = plane.folder / f"{_OPERATOR}.log"
    wait_until(lambda: answers(f"http://127.0.0.1:{port}/readyz"), "KubeRay's operator", log, process)
