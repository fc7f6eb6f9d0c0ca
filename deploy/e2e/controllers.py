"""What of a control plane acts by itself: the controllers of Kubernetes' own objects, and the scheduler of Pods."""

from __future__ import annotations

from deploy.e2e.control_plane import ControlPlane
from deploy.e2e.processes import Starter
from deploy.e2e.programs import path


def start_controllers(plane: ControlPlane, start: Starter) -> None:
    """Start both; they serve nobody."""
    alone = ("--leader-elect=false", "--secure-port=0")
    start("kube-controller-manager", [str(path("kube-controller-manager")), *_controller_manager(plane), *alone])
    user = plane.kubeconfig("scheduler", "system:kube-scheduler")
    start("kube-scheduler", [str(path("kube-scheduler")), f"--kubeconfig={user}", *alone])


def _controller_manager(plane: ControlPlane) -> list[str]:
    certificates = plane.authority.folder
    return [
        f"--kubeconfig={plane.kubeconfig('controllers', 'system:kube-controller-manager')}",
        f"--service-account-private-key-file={certificates / 'service-accounts.key'}",
        f"--root-ca-file={plane.authority.certificate}",
        "--use-service-account-credentials=true",
    ]
