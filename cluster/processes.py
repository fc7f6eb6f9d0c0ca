"""What Linux offers to tie processes together: parent-death signal, pidfd, process groups."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys

from cluster.errors import PreflightError

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def require_linux() -> None:
    """Refuse a platform without parent-death signals and pidfds.

    Raises:
        PreflightError: not Linux, or a kernel older than 5.3.
    """
    if sys.platform != "linux" or not hasattr(os, "pidfd_open"):
        raise PreflightError(
            "tasks run on Linux only", sys.platform, "use Linux (WSL 2 on Windows), or submit to a cluster"
        )


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when `parent`, the process that forked it, is gone.

    Source: prctl(2), PR_SET_PDEATHSIG; it survives execve.
    """
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # gone between fork and prctl
        os._exit(1)


def kill_group(pid: int, number: int) -> None:
    """Send signal `number` to the process group that `pid` leads, if any of it is left."""
    try:
        os.killpg(pid, number)
    except ProcessLookupError:  # none of it is left, or it has not made its group yet
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
    except PermissionError:
        pass


def signal_name(number: int) -> str:
    """`SIGKILL` for 9."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
