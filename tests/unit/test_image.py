"""The image: it installs what uv.lock says, and runs as the chart expects; what it cuts, and how it is built."""

from __future__ import annotations

import importlib.metadata
import re
import shlex
import subprocess
import sys
from fnmatch import fnmatch
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from cluster.spec import JobSpec

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
IMAGE = ROOT / "deploy/image"


def _load(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    spec = spec_from_loader(name, SourceFileLoader(name, str(IMAGE / name)))
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def build(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    return _load("build", monkeypatch)


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return _load("install.py", monkeypatch)


@pytest.fixture(scope="module")
def instructions() -> list[tuple[str, str]]:
    """Name and rest of each instruction of the Dockerfile, continued lines joined."""
    text = (IMAGE / "Dockerfile").read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(name, rest.strip()) for name, _, rest in (line.partition(" ") for line in lines)]


@pytest.fixture(scope="module")
def lock() -> dict[str, set[str]]:
    """Versions in uv.lock, by package."""
    found: dict[str, set[str]] = {}
    for package in tomllib.loads((ROOT / "uv.lock").read_text("utf-8"))["package"]:
        found.setdefault(package["name"], set()).add(package.get("version", ""))
    return found


@pytest.fixture(scope="module")
def values() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((ROOT / "deploy/helm/tfcluster/values.yaml").read_text("utf-8"))
    return document


def _last(instructions: list[tuple[str, str]], name: str) -> str:
    return [rest for found, rest in instructions if found == name][-1]


def _requirements(file: str) -> dict[str, tuple[str, int]]:
    """Version and number of hashes of each package of a requirements file."""
    text = (IMAGE / file).read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    pairs = [(re.match(r"([\w.-]+)==([\w.]+)", line), line.count("--hash=sha256:")) for line in lines]
    return {match[1]: (match[2], hashes) for match, hashes in pairs if match}


def test_every_stage_is_made_from_the_base_and_the_base_has_a_version(instructions: list[tuple[str, str]]) -> None:
    stages: set[str] = set()
    for name, rest in instructions:
        if name == "FROM":
            source, *alias = rest.split()
            assert source in stages | {"${BASE}"}
            stages.update(alias[1:])
    bases = {rest.removeprefix("BASE=") for name, rest in instructions if name == "ARG" and rest.startswith("BASE=")}
    assert len(bases) == 1, "one default, said twice"
    version = re.fullmatch(r"docker\.io/library/python:3\.(\d+)-slim-\w+", bases.pop())
    assert version
    assert 10 <= int(version[1]) <= 13


def test_all_that_is_installed_is_pinned(instructions: list[tuple[str, str]], install: ModuleType) -> None:
    assert "--frozen" in install.sync_command(["tensorflow"], gpu=False)
    installs = [rest for name, rest in instructions if name == "RUN" and "pip install" in rest]
    assert installs
    assert all("--require-hashes" in rest or "--offline" in rest for rest in installs)
    for file in ("tools.txt", "tensorflow-cpu.txt"):
        assert all(hashes for _, hashes in _requirements(file).values())


def test_tensorflow_cpu_is_the_tensorflow_of_the_lock(lock: dict[str, set[str]]) -> None:
    newest = max(lock["tensorflow"], key=lambda version: [int(part) for part in version.split(".")])
    assert {name: version for name, (version, _) in _requirements("tensorflow-cpu.txt").items()} == {
        "tensorflow-cpu": newest
    }


def test_the_tools_can_read_the_lock_and_build_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    tools = {name: tuple(map(int, version.split(".")[:2])) for name, (version, _) in _requirements("tools.txt").items()}
    for requirement in (f"uv{project['tool']['uv']['required-version']}", *project["build-system"]["requires"]):
        match = re.fullmatch(r"(\w+)>=(\d+)\.(\d+)", requirement)
        assert match, requirement
        assert tools[match[1]] >= (int(match[2]), int(match[3]))


def test_ray_is_the_version_that_the_chart_names(lock: dict[str, set[str]], values: dict[str, Any]) -> None:
    assert lock["ray"] == {values["rayVersion"]}


def test_it_runs_as_the_charts_pods_do(instructions: list[tuple[str, str]], values: dict[str, Any]) -> None:
    pods = values["podSecurityContext"]
    assert _last(instructions, "USER") == f"{pods['runAsUser']}:{pods['runAsGroup']}"
    assert _last(instructions, "WORKDIR") == values["home"]
    environment = dict(item.split("=", 1) for item in shlex.split(_last(instructions, "ENV")))
    assert environment["HOME"] == values["home"]
    passwd = f"tfcluster:x:{pods['runAsUser']}:{pods['runAsGroup']}:tfcluster:{values['home']}:/bin/bash"
    assert any(passwd in rest for name, rest in instructions if name == "RUN")


def test_what_is_copied_is_there_and_reaches_the_build(instructions: list[tuple[str, str]]) -> None:
    ignored = (IMAGE / "Dockerfile.dockerignore").read_text().splitlines()
    assert "*" in ignored
    kept = [line[1:] for line in ignored if line.startswith("!")]
    copied = [rest.split()[:-1] for name, rest in instructions if name == "COPY" and not rest.startswith("--from")]
    sources = {source for sources in copied for source in sources}
    assert sources >= {"uv.lock", "cluster", "pipelines"}
    for source in sources:
        assert (ROOT / source).exists(), source
        assert any(fnmatch(source, pattern) for pattern in kept), f"{source} is ignored"


def test_nothing_of_the_stages_that_build_is_left(instructions: list[tuple[str, str]]) -> None:
    final = max(i for i, (name, _) in enumerate(instructions) if name == "FROM")
    assert not any("apt-get" in rest or "pip install" in rest for _, rest in instructions[final:])
    copies = [rest for name, rest in instructions[final:] if name == "COPY"]
    assert copies == ["--from=packages /opt/tfcluster /opt/tfcluster", "--from=project /project /opt/tfcluster"]


@pytest.mark.parametrize(
    ("extras", "gpu", "replaced"),
    [
        (["tensorflow", "profile"], False, True),
        (["tensorflow", "profile"], True, False),
        (["tensorflow", "tensorflow-io"], False, False),
        (["profile"], False, False),
        ([], True, False),
    ],
)
def test_the_small_tensorflow_where_it_fits(install: ModuleType, extras: list[str], gpu: bool, replaced: bool) -> None:
    command = install.sync_command(extras, gpu)
    assert install.replaces_tensorflow(extras, gpu) is replaced
    assert ("--no-install-package=tensorflow" in command) is replaced
    assert ("--extra=gpu" in command) is gpu
    assert all(f"--extra={extra}" in command for extra in extras)


def test_the_small_tensorflow_counts_as_tensorflow(install: ModuleType, tmp_path: Path) -> None:
    provider = tmp_path / "tensorflow_cpu-2.21.0.dist-info"
    provider.mkdir()
    (provider / "METADATA").write_text("Metadata-Version: 2.4\nName: tensorflow_cpu\nVersion: 2.21.0\n\nText\n")
    install.stand_in(tmp_path)
    (found,) = importlib.metadata.distributions(name="tensorflow", path=[str(tmp_path)])
    assert found.version == "2.21.0"
    assert found.requires == ["tensorflow-cpu==2.21.0"]
    assert sorted(map(str, found.files or [])) == [
        f"tensorflow-2.21.0.dist-info/{name}" for name in ("INSTALLER", "METADATA", "RECORD")
    ]


def test_cuts_what_it_names_and_nothing_else(install: ModuleType, tmp_path: Path) -> None:
    gone = (
        "tensorflow/include/a.h",
        "ray/jars/ray.jar",
        "numpy/linalg/tests/test_a.py",
        "nvidia/cuda_runtime/lib/libcudart_static.a",
        "nvidia/cuda_nvrtc/lib/libnvrtc.alt.so.12",
        "nvidia/cuda_nvrtc/lib/libnvrtc-builtins.alt.so.12.9",
    )
    stay = ("tensorflow/python/a.py", "numpy/testing/a.py", "nvidia/cuda_nvrtc/lib/libnvrtc.so.12", "keras/tests/a.py")
    for name in (*gone, *stay):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"12345")
    freed = dict(install.cut(tmp_path))
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()) == sorted(stay)
    assert freed == dict.fromkeys(install.CUT, 0) | {
        "tensorflow/include": 5,
        "ray/jars": 5,
        "numpy/**/tests": 5,
        "nvidia/**/*.a": 5,
        "nvidia/*/lib/libnvrtc*.alt.so*": 10,
    }


@pytest.mark.parametrize(
    ("name", "full"),
    [
        ("ray-tfcluster:0.1.0", "docker.io/library/ray-tfcluster:0.1.0"),
        ("team/ray-tfcluster", "docker.io/team/ray-tfcluster:latest"),
        ("registry.example.com/a/b:1", "registry.example.com/a/b:1"),
        ("registry:5000/b", "registry:5000/b:latest"),
        ("localhost/b:1", "localhost/b:1"),
    ],
)
def test_archives_name_the_image_as_a_container_runtime_does(build: ModuleType, name: str, full: str) -> None:
    assert build.reference(name) == full


@pytest.mark.parametrize("engine", ["docker", "buildah"])
def test_the_engines_get_the_same_build(build: ModuleType, engine: str) -> None:
    base = "docker.io/library/python:3.12-slim-bookworm@sha256:" + "0" * 64
    options = build.parse(["--gpu", "--extras", "tensorflow", "--base", base, "--certificates", "/ca.pem"])
    assert options.tag == f"ray-tfcluster:{build.version()}-gpu"
    command = build.build_command(engine, options)
    assert command[:2] == ["docker", "build"] if engine == "docker" else ["buildah", "build"]
    for argument in (
        "--file=deploy/image/Dockerfile",
        f"--tag={options.tag}",
        "--build-arg=EXTRAS=tensorflow",
        "--build-arg=GPU=1",
        f"--build-arg=BASE={base}",
        f"--build-arg=VERSION={build.version()}",
        "--secret=id=certificates,src=/ca.pem",
    ):
        assert argument in command
    assert any(build.epoch() in argument for argument in command), "files get the time of the commit"


def test_without_a_base_the_dockerfiles_own_is_used(build: ModuleType) -> None:
    command = build.build_command("docker", build.parse([]))
    assert not any("BASE=" in argument or "secret" in argument for argument in command)
    assert "--build-arg=GPU=" in command


def test_says_what_is_missing(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, str(IMAGE / "build")], env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=False
    )
    assert run.returncode == 1
    assert run.stderr.startswith("build: nothing here builds images · ")


def test_the_job_that_is_tried_is_a_good_one() -> None:
    spec = JobSpec.model_validate(yaml.safe_load((IMAGE / "try/job.yaml").read_text()))
    assert spec.roles["worker"].replicas == 2
    subprocess.run(["bash", "-n", str(IMAGE / "try/try.sh")], check=True)
