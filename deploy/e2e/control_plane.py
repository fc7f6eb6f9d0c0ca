"""etcd and kube-apiserver: an API server in seconds, which needs neither root nor a node."""

from __future__ import annotations

import contextlib
import functools
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy.e2e import kubeconfig, programs
from deploy.e2e.certificates import Authority, private_key
from deploy.e2e.errors import E2EError
from deploy.e2e.processes import answers, free_ports, server, wait_until

#: Of Services; its first address is the API server's.
SERVICE_RANGE = "10.96.0.0/16"
_NAMES = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local")


@dataclass(frozen=True)
class ControlPlane:
    """A running API server, and who may use it."""

    folder: Path
    address: str
    port: int
    authority: Authority

    @property
    def url(self) -> str:
        """Where it is, such as https://127.0.0.1:41003."""
        return f"https://{self.address}:{self.port}"

    @functools.cached_property
    def admin(self) -> Path:
        """The kubeconfig of one who may do everything."""
        return self.kubeconfig("admin", "admin", ["system:masters"])

    def kubeconfig(self, name: str, user: str, groups: Sequence[str] = (), namespace: str = "default") -> Path:
        """A kubeconfig `NAME.kubeconfig` for a user, who may do what RBAC allows them and their groups."""
        certificate = self.authority.sign(name, user, groups)
        path = self.folder / f"{name}.kubeconfig"
        return kubeconfig.write(path, self.url, self.authority.certificate, certificate, namespace)

    def kubectl(self, *arguments: str, text: str | None = None) -> str:
        """What `kubectl` with these arguments writes, as admin; `text` is its input.

        Raises:
            E2EError: it failed.
        """
        command = [str(programs.path("kubectl")), "--kubeconfig", str(self.admin), *arguments]
        done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
        if done.returncode:
            raise E2EError(f"kubectl failed · {' '.join(arguments)}\n{done.stderr.strip()} · see the message above")
        return done.stdout

    def install_crds(self, paths: Sequence[Path]) -> None:
        """Have these CustomResourceDefinitions, and wait until they are served."""
        for path in paths:  # too large for the annotation of a client-side apply
            self.kubectl("apply", "--server-side", "--filename", str(path))
        for path in paths:
            self.kubectl("wait", "--for=condition=Established", "--timeout=30s", "--filename", str(path))


@contextlib.contextmanager
def control_plane(
    folder: Path | None = None,
    *,
    address: str = "127.0.0.1",
    port: int = 0,
    flags: Sequence[str] = ("--endpoint-reconciler-type=none", "--disable-admission-plugins=ServiceAccount"),
) -> Iterator[ControlPlane]:
    """Etcd and kube-apiserver while the block runs; what they store goes with it.

    Args:
        folder: where certificates, data and logs go, by default a temporary one that is removed.
        address: where the API server listens.
        port: of the API server; 0 is a free one.
        flags: more of its flags. Those by default make Pods without a controller manager, which would make the service
            accounts that they need.

    Raises:
        E2EError: a program is missing or does not start.
    """
    with contextlib.ExitStack() as stack:
        if folder is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tfcluster-e2e-")))
        folder.mkdir(parents=True, exist_ok=True)
        etcd_port, peer_port, chosen = free_ports(3)
        plane = ControlPlane(folder, address, port or chosen, Authority.create(folder / "certificates"))
        etcd_url = f"http://127.0.0.1:{etcd_port}"
        log = folder / "etcd.log"
        process = stack.enter_context(server("etcd", _etcd(folder, etcd_url, peer_port), log))
        wait_until(lambda: answers(f"{etcd_url}/health"), "etcd", log, process)
        log = folder / "kube-apiserver.log"
        process = stack.enter_context(server("kube-apiserver", [*_apiserver(plane, etcd_url), *flags], log))
        admin = plane.authority.sign("probe", "probe", ["system:masters"])
        wait_until(
            lambda: answers(f"{plane.url}/readyz", plane.authority.certificate, admin), "kube-apiserver", log, process
        )
        yield plane


def _etcd(folder: Path, url: str, peer_port: int) -> list[str]:
    peer = f"http://127.0.0.1:{peer_port}"
    return [
        str(programs.path("etcd")),
        f"--data-dir={folder / 'etcd'}",
        f"--listen-client-urls={url}",
        f"--advertise-client-urls={url}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=default={peer}",
        "--unsafe-no-fsync",  # nothing here outlives a loss of power
        "--log-level=warn",
    ]


def _apiserver(plane: ControlPlane, etcd_url: str) -> list[str]:
    folder = plane.authority.folder
    first = SERVICE_RANGE.replace(".0/16", ".1")
    certificate, key = plane.authority.sign("apiserver", "kube-apiserver", hosts=[*_NAMES, plane.address, first])
    client, client_key = plane.authority.sign("apiserver-kubelet", "kube-apiserver", ["system:masters"])
    signer = private_key(folder / "service-accounts.key")
    return [
        str(programs.path("kube-apiserver")),
        f"--etcd-servers={etcd_url}",
        f"--bind-address={plane.address}",
        f"--advertise-address={plane.address}",
        f"--secure-port={plane.port}",
        f"--tls-cert-file={certificate}",
        f"--tls-private-key-file={key}",
        f"--client-ca-file={plane.authority.certificate}",
        f"--kubelet-client-certificate={client}",
        f"--kubelet-client-key={client_key}",
        f"--service-account-key-file={signer}",
        f"--service-account-signing-key-file={signer}",
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        f"--service-cluster-ip-range={SERVICE_RANGE}",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--profiling=false",
    ]
