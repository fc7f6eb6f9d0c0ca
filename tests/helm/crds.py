"""KubeRay's CRDs, and schemas as JSON Schema validators take them, and closed: a field they do not know is wrong."""

from __future__ import annotations

import hashlib
import os
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

VERSION = "v1.7.0"
SOURCE = "https://raw.githubusercontent.com/ray-project/kuberay/{version}/helm-chart/kuberay-operator/crds/{name}"
#: SHA-256 of the CRDs of that version.
CRDS = {
    "ray.io_rayclusters.yaml": "c44704442eef0c6721ad40c1d66782c8bd3fdab9d3344306a5820910a679baa1",
    "ray.io_rayjobs.yaml": "01a5cf3b17c1769fda44af7e82debcd98722f0c27b9ab84d084681c6649121f5",
    "ray.io_raycronjobs.yaml": "31c2c753bba01f7e8e89cb8e8c504131b58ee42090ca536d87f5ac27605a568e",
}
#: What the API server allows beside a schema's own fields.
_TYPE = {"apiVersion": {"type": "string"}, "kind": {"type": "string"}}


def strict(schema: dict[str, Any]) -> dict[str, Any]:
    """An openAPIV3Schema of a whole object, closed."""
    closed = _closed(schema)
    closed["properties"] |= {**_TYPE, "metadata": {"type": "object"}}
    closed["required"] = [*closed.get("required", ()), "apiVersion", "kind", "metadata"]
    return closed


def _closed(schema: dict[str, Any]) -> dict[str, Any]:
    made = {key: value for key, value in schema.items() if not key.startswith("x-")}
    if schema.get("x-kubernetes-int-or-string"):
        made["type"] = ["integer", "string"]
        made.pop("anyOf", None)
    if made.pop("nullable", False) and isinstance(made.get("type"), str):
        made["type"] = [made["type"], "null"]
    if "items" in schema:
        made["items"] = _closed(schema["items"])
    if isinstance(schema.get("additionalProperties"), dict):
        made["additionalProperties"] = _closed(schema["additionalProperties"])
    if "properties" in schema:
        made["properties"] = {name: _closed(part) for name, part in schema["properties"].items()}
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            made["additionalProperties"] = False
    return made


def crd_files() -> list[Path]:
    """The files of KubeRay's CRDs: those of TFCLUSTER_KUBERAY_CRDS, or those of a cache, fetched if need be."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = Path(os.environ.get("TFCLUSTER_KUBERAY_CRDS") or cache / "ray-tfcluster" / f"kuberay-{VERSION}")
    for name, digest in CRDS.items():
        _present(folder / name, digest)
    return [folder / name for name in CRDS]


def _present(path: Path, digest: str) -> None:
    """Have the file `path`, fetched from KubeRay's repository if it is not there; skip the test where it cannot be."""
    if not path.exists():
        url = SOURCE.format(version=VERSION, name=path.name)
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                content: bytes = answer.read()
        except (urllib.error.URLError, OSError) as error:
            pytest.skip(
                f"no CRDs of KubeRay: {url}: {error}; a folder with them may be named in TFCLUSTER_KUBERAY_CRDS"
            )
        if hashlib.sha256(content).hexdigest() == digest:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    else:
        content = path.read_bytes()
    assert hashlib.sha256(content).hexdigest() == digest, f"{path.name} is not that of KubeRay {VERSION}"
