"""What every cluster has, and what the chart needs: storage, names for Services, and KubeRay with its operator."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from deploy.e2e.control_plane import ControlPlane
from deploy.e2e.programs import HERE, kuberay_config

MANIFESTS = HERE / "manifests"
OPERATOR_NAMESPACE = "kuberay-system"
#: How many claims there can be at once.
_VOLUMES = 32


def install_addons(plane: ControlPlane, dns_address: str) -> None:
    """Install them, and wait until they work.

    Raises:
        E2EError: one does not come up.
    """
    install_kinds(plane)
    for manifest in ("coredns.yaml", "kuberay.yaml"):
        text = (MANIFESTS / manifest).read_text().replace("DNS_ADDRESS", dns_address)
        plane.kubectl("apply", "--server-side", "--filename", "-", text=text)
    plane.kubectl("wait", "--for=condition=Ready", "--timeout=60s", "node", "--all")
    for namespace, name in (("kube-system", "coredns"), (OPERATOR_NAMESPACE, "kuberay-operator")):
        plane.kubectl("rollout", "status", "--timeout=120s", "--namespace", namespace, f"deployment/{name}")


def install_kinds(plane: ControlPlane) -> None:
    """What needs no Pod: storage, KubeRay's CRDs, and its operator's ClusterRole."""
    config = kuberay_config()
    plane.kubectl("create", "--filename", "-", text=json.dumps(_storage(plane.folder / "volumes")))
    plane.install_crds(sorted((config / "crd" / "bases").glob("*.yaml")))
    plane.kubectl("apply", "--server-side", "--filename", str(config / "rbac" / "role.yaml"))


def _storage(folder: Path) -> dict[str, Any]:
    """A default class of storage that all Pods share: folders of this machine."""
    storage_class = {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": "shared", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
        "provisioner": "kubernetes.io/no-provisioner",
    }
    return {"apiVersion": "v1", "kind": "List", "items": [storage_class, *map(_volume, _folders(folder))]}


def _folders(folder: Path) -> list[Path]:
    made = [folder / f"volume-{index}" for index in range(_VOLUMES)]
    for path in made:
        path.mkdir(parents=True)
    return made


def _volume(folder: Path) -> dict[str, Any]:
    here = {"matchExpressions": [{"key": "kubernetes.io/os", "operator": "Exists"}]}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": folder.name},
        "spec": {
            "capacity": {"storage": "100Gi"},
            "accessModes": ["ReadWriteMany"],
            "storageClassName": "shared",
            "local": {"path": str(folder)},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [here]}},
        },
    }
