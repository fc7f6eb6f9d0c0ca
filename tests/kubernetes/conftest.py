"""A real API server for the session, a namespace for each test, and a job's folder."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.e2e import programs
from deploy.e2e.control_plane import ControlPlane, control_plane
from tests.helm.conftest import helm as helm
from tests.helm.crds import crd_files
from tests.kubernetes.space import Space, started_again

#: What an API server needs, and what tests talk to it with.
PROGRAMS = ("etcd", "kube-apiserver", "kubectl")
TRAIN = "def train(ctx, epochs=1):\n    print('hello')\n"
JOB = """\
name: flights
entrypoint: train.py:train
strategy: multi_worker_mirrored
roles: {worker: {replicas: 2, cpus: 2}}
"""


def _need_programs() -> None:
    missing = [name for name in PROGRAMS if not list((programs.CACHE / "bin").glob(f"{name}*"))]
    if missing:
        pytest.skip(f"there is no {', '.join(missing)} in {programs.CACHE}/bin: deploy/e2e makes them")


@pytest.fixture(scope="session")
def bare() -> Iterator[ControlPlane]:
    """An API server that knows nothing of KubeRay."""
    _need_programs()
    with control_plane() as plane:
        yield plane


@pytest.fixture(scope="session")
def plane() -> Iterator[ControlPlane]:
    """An API server with KubeRay's CRDs."""
    _need_programs()
    files = crd_files()
    with control_plane() as plane:
        plane.install_crds(files)
        yield plane
        for process in started_again:
            process.terminate()
            process.wait(20)


@pytest.fixture
def space(plane: ControlPlane, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Space:
    """A namespace of its own; KUBECONFIG is that of its admin."""
    return make_space(plane, monkeypatch, tmp_path)


def make_space(plane: ControlPlane, monkeypatch: pytest.MonkeyPatch, folder: Path) -> Space:
    """A new namespace, whose admin the environment names."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    plane.kubectl("create", "namespace", name)
    monkeypatch.setenv("KUBECONFIG", str(plane.kubeconfig(f"admin-{name}", "tester", ["system:masters"], name)))
    monkeypatch.delenv("TFCLUSTER_PLATFORM", raising=False)
    return Space(plane, name, folder)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small job."""
    made = tmp_path / "job"
    made.mkdir()
    (made / "train.py").write_text(TRAIN)
    (made / "job.yaml").write_text(JOB)
    return made
