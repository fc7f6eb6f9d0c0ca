"""Inside the namespaces: the control plane, a kubelet with containerd, and what a cluster has beside them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from deploy.e2e import containers, host_environment, images, machine
from deploy.e2e.addons import install_addons
from deploy.e2e.control_plane import ControlPlane, control_plane
from deploy.e2e.controllers import start_controllers
from deploy.e2e.errors import E2EError
from deploy.e2e.processes import Starter, answers, wait_until
from deploy.e2e.programs import installed, path

NODE = "e2e"
POD_RANGE = "10.98.0.0/16"
DNS_ADDRESS = "10.96.0.10"
#: Names of nodes are known to nobody.
_API_FLAGS = ("--kubelet-preferred-address-types=InternalIP",)
#: Images → the one program in them.
_OWN_IMAGES = {
    images.PAUSE: "pause",
    "localhost/coredns:e2e": "coredns",
    "localhost/kuberay-operator:e2e": "kuberay-operator",
}
#: Written when all is up; until then, what went wrong.
READY, FAILED = "ready", "failed"


@dataclass(frozen=True)
class Settings:
    """What the node is told from outside."""

    folder: str
    cgroup: str
    python: str
    archives: tuple[str, ...]

    def command(self) -> list[str]:
        """What runs it."""
        return [sys.executable, "-m", "deploy.e2e.node", json.dumps(asdict(self))]


def main(arguments: Sequence[str]) -> int:
    """Be the first process of the node."""
    settings = Settings(**json.loads(arguments[0]))
    folder = Path(settings.folder)
    try:
        with contextlib.ExitStack() as stack:
            _start(settings, stack)
            (folder / READY).touch()
            _reap()
    except E2EError as error:
        (folder / FAILED).write_text(str(error))
        return 1
    return 0


def _start(settings: Settings, stack: contextlib.ExitStack) -> None:
    folder = Path(settings.folder)
    machine.inside(folder)
    _write_resolver()
    plane = stack.enter_context(control_plane(folder, address=machine.NODE_ADDRESS, port=6443, flags=_API_FLAGS))
    start = Starter(folder, stack)

    spec = None
    if settings.python:
        default = _output("ctr", "oci", "spec")
        spec = host_environment.base_spec(default, Path(settings.python))
    config = containers.write_config(folder / "containerd", spec)
    containerd = start("containerd", [installed("containerd", "containerd"), "--config", str(config)])
    socket = containers.socket(folder / "containerd")
    wait_until(lambda: containers.serves(socket), "containerd", folder / "containerd.log", containerd)
    for archive in _archives(settings):
        containers.import_image(socket, archive)

    start_controllers(plane, start)
    start("kube-proxy", [str(path("kube-proxy")), *_proxy(plane)])
    kubelet = start("kubelet", [str(path("kubelet")), *_kubelet(plane, settings.cgroup, socket)])
    wait_until(lambda: answers("http://127.0.0.1:10248/healthz"), "the kubelet", folder / "kubelet.log", kubelet)
    install_addons(plane, DNS_ADDRESS)


def _write_resolver() -> None:
    """Programs of the node find Services by name, as Pods do."""
    resolver = Path("/etc/resolv.conf")
    resolver.unlink(missing_ok=True)
    resolver.write_text("# Pods have the cluster's own\n")


def _archives(settings: Settings) -> list[Path]:
    """The images: those that we make first."""
    folder = Path(settings.folder) / "images"
    folder.mkdir()
    for image, program in _OWN_IMAGES.items():
        images.write_image(folder / f"{program}.tar", image, {f"/{program}": path(program)}, entrypoint=[f"/{program}"])
    if settings.python:
        host_environment.write_host_image(folder / "host.tar", Path(settings.python))
    return [*sorted(folder.iterdir()), *(Path(archive) for archive in settings.archives)]


def _proxy(plane: ControlPlane) -> list[str]:
    installed("nft", "nftables")
    config = {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "clusterCIDR": POD_RANGE,
        "hostnameOverride": NODE,
        "clientConnection": {"kubeconfig": str(plane.kubeconfig("proxy", "system:kube-proxy"))},
        "conntrack": {"maxPerCore": 0, "min": 0},  # it is the machine's
        "oomScoreAdj": 0,
    }
    file = plane.folder / "kube-proxy.json"
    file.write_text(json.dumps(config))
    return [f"--config={file}"]


def _kubelet(plane: ControlPlane, cgroup: str, socket: Path) -> list[str]:
    config = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "containerRuntimeEndpoint": f"unix://{socket}",
        "authentication": {
            "x509": {"clientCAFile": str(plane.authority.certificate)},
            "webhook": {"enabled": False},
            "anonymous": {"enabled": False},
        },
        "authorization": {"mode": "AlwaysAllow"},
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": cgroup,
        "clusterDNS": [DNS_ADDRESS],
        "clusterDomain": "cluster.local",
        "failSwapOn": False,
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        "imageGCHighThresholdPercent": 100,
        "oomScoreAdj": int(Path("/proc/self/oom_score_adj").read_text()),  # as it is: to lower it takes a right
        "resolvConf": "/etc/resolv.conf",
    }
    file = plane.folder / "kubelet.json"
    file.write_text(json.dumps(config))
    user = plane.kubeconfig("node", f"system:node:{NODE}", ["system:nodes"])
    return [
        f"--config={file}",
        f"--kubeconfig={user}",
        f"--root-dir={plane.folder / 'kubelet'}",
        f"--cert-dir={plane.folder / 'kubelet-certificates'}",
        f"--hostname-override={NODE}",
        f"--node-ip={machine.NODE_ADDRESS}",
    ]


def _output(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise E2EError(f"{' '.join(command)} failed · {done.stderr.strip()} · see the message")
    return done.stdout


def _reap() -> None:
    """Wait until we are ended, and see off those processes whose parents ended before them."""
    waiting = {signal.SIGTERM, signal.SIGINT, signal.SIGCHLD}
    signal.pthread_sigmask(signal.SIG_BLOCK, waiting)
    while signal.sigwait(waiting) == signal.SIGCHLD:
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
