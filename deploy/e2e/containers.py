"""containerd, all of whose files lie in one folder."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from deploy.e2e import images
from deploy.e2e.errors import E2EError
from deploy.e2e.programs import installed

POD_SUBNET = "10.98.0.0/24"


def socket(folder: Path) -> Path:
    """Where containerd listens."""
    return folder / "containerd.sock"


def write_config(folder: Path, spec: dict[str, Any] | None) -> Path:
    """The configuration of a containerd in `folder`; `spec` is what containers start from, None is its own."""
    folder.mkdir()
    installed("runc", "runc")
    plugins = Path(installed("ptp", "containernetworking-plugins")).parent
    network = folder / "cni"
    network.mkdir()
    (network / "10-pods.conflist").write_text(json.dumps(_network(folder)))
    base = ""
    if spec:
        (folder / "base.json").write_text(json.dumps(spec))
        base = f'base_runtime_spec = "{folder / "base.json"}"'
    config = folder / "config.toml"
    config.write_text(f"""\
version = 2
root = "{folder / "root"}"
state = "/run/containerd"
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.devmapper"]
[grpc]
address = "{socket(folder)}"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{images.PAUSE}"
restrict_oom_score_adj = true
disable_apparmor = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{plugins}"
conf_dir = "{network}"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
{base}
""")
    return config


def _network(folder: Path) -> dict[str, Any]:
    """A link from each Pod to the node, so that all traffic is routed, and rules for it are met."""
    addresses = {"type": "host-local", "subnet": POD_SUBNET, "dataDir": str(folder / "addresses")}
    addresses["routes"] = [{"dst": "0.0.0.0/0"}]  # type: ignore[assignment]
    return {"cniVersion": "0.4.0", "name": "pods", "plugins": [{"type": "ptp", "ipMasq": False, "ipam": addresses}]}


def serves(socket: Path) -> bool:
    """Whether containerd answers."""
    return _ctr(socket, "version").returncode == 0


def import_image(socket: Path, archive: Path) -> None:
    """Give Kubernetes the images of an archive.

    Raises:
        E2EError: it cannot be read.
    """
    done = _ctr(socket, "--namespace", "k8s.io", "images", "import", str(archive))
    if done.returncode:
        raise E2EError(
            f"the image cannot be imported · {archive}: {done.stderr.strip()} · give a docker-archive or OCI"
        )


def _ctr(socket: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [installed("ctr", "containerd"), "--address", str(socket), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)
