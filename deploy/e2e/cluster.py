"""The whole cluster from outside: started, waited for, and ended without a trace."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy.e2e import host_environment, node, programs
from deploy.e2e.errors import E2EError
from deploy.e2e.machine import cgroups, own_namespaces
from deploy.e2e.processes import wait_until

#: Every program that a node runs.
PROGRAMS = ("etcd", *programs.KUBERNETES_COMMANDS, "coredns", "pause", "kuberay-operator")
#: Command of the system → its Debian package.
COMMANDS = {
    "openssl": "openssl", "ip": "iproute2", "unshare": "util-linux", "nft": "nftables", "runc": "runc",
    "containerd": "containerd", "ptp": "containernetworking-plugins",
}  # fmt: skip


@dataclass(frozen=True)
class Cluster:
    """A running cluster: its files, how to reach it, and the image with ray-tfcluster in it."""

    folder: Path
    image: str

    @property
    def kubeconfig(self) -> Path:
        """Of one who may do everything."""
        return self.folder / "admin.kubeconfig"


def prepare() -> None:
    """Have all programs.

    Raises:
        E2EError: one can neither be found nor made.
    """
    for command, package in COMMANDS.items():
        programs.installed(command, package)
    for program in PROGRAMS:
        programs.path(program)
    programs.kuberay_config()


@contextlib.contextmanager
def cluster(python: Path | None, archives: Sequence[Path] = (), image: str = "") -> Iterator[Cluster]:
    """A cluster of one node with KubeRay, while the block runs.

    Args:
        python: of an environment with ray-tfcluster, which stands in for an image; None has `image` instead.
        archives: images to import, as docker-archive or OCI.
        image: name of the one with ray-tfcluster in them.

    Raises:
        E2EError: it does not come up.
    """
    if os.geteuid():
        todo = "use sudo, --simulated, whose Pods run nothing, or a cluster of yours by TFCLUSTER_E2E_KUBECONFIG"
        raise E2EError(f"a node needs root · you are not · {todo}")
    prepare()
    with contextlib.ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="tfcluster-e2e-"))
        stack.callback(shutil.rmtree, folder)
        group = stack.enter_context(cgroups())
        settings = node.Settings(str(folder), group, str(python or ""), tuple(str(path.resolve()) for path in archives))
        log = folder / "node.log"
        process = stack.enter_context(own_namespaces(settings.command(), log))

        def up() -> bool:
            if (folder / node.FAILED).exists():
                raise E2EError((folder / node.FAILED).read_text())
            return (folder / node.READY).exists()

        wait_until(up, "the cluster", log, process, limit_s=300)
        yield Cluster(folder, host_environment.IMAGE if python else image)
