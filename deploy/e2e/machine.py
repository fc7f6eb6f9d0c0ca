"""What of this machine a node gets for itself: namespaces, a link to it, cgroups; all of it goes with the node."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from deploy.e2e.errors import E2EError
from deploy.e2e.processes import server, wait_until
from deploy.e2e.programs import installed

#: Of the node's cgroups, its interface on our side, and its host name.
NAME = "tfcluster-e2e"
LINK = "tfe2e"
HOST_ADDRESS, NODE_ADDRESS = "10.97.0.1", "10.97.0.2"
_CGROUPS = Path("/sys/fs/cgroup")
_PRIVATE = ("/etc", "/var")
#: What a kubelet sets for the whole machine; it finds it set, in files of its own.
_SYSCTLS = {
    "vm/overcommit_memory": "1",
    "vm/panic_on_oom": "0",
    "kernel/panic": "10",
    "kernel/panic_on_oops": "1",
    "kernel/keys/root_maxkeys": "1000000",
    "kernel/keys/root_maxbytes": "25000000",
}


@contextlib.contextmanager
def own_namespaces(command: Sequence[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run `command` as the first process of namespaces of its own, with a link from here to it.

    When the block ends, so does every process in there, and with them mounts and interfaces.

    Raises:
        E2EError: another node has the link.
    """
    ip = installed("ip", "iproute2")
    unshare = [installed("unshare", "util-linux"), "--mount", "--net", "--pid", "--uts", "--ipc", "--fork"]
    with server("node", [*unshare, "--kill-child", "--mount-proc", *command], log) as process:
        inside, is_linked = 0, False

        def started() -> bool:
            nonlocal inside
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            inside = int(children[0]) if children else 0
            return bool(inside) and os.readlink(f"/proc/{inside}/ns/net") != os.readlink("/proc/self/ns/net")

        try:
            wait_until(started, "the node", log, process)
            if Path("/sys/class/net", LINK).exists():
                todo = f"end it, or wait until it has ended; a link that was left goes by: ip link delete {LINK}"
                raise E2EError(f"another node runs on this machine, or is about to end · interface {LINK} · {todo}")
            _run(ip, "link", "add", LINK, "type", "veth", "peer", "name", "eth0", "netns", str(inside))
            is_linked = True
            _run(ip, "address", "add", f"{HOST_ADDRESS}/30", "dev", LINK)
            _run(ip, "link", "set", LINK, "up")
            yield process
        finally:
            process.kill()  # its child goes with it, and with that all of the namespace
            process.wait()
            wait_until(lambda: not Path(f"/proc/{inside}").exists(), "the end of the node", log)
            if is_linked:  # connections that were cut may keep the network for a minute more
                subprocess.run([ip, "link", "delete", LINK], capture_output=True, check=False)


def inside(folder: Path) -> None:
    """In the namespaces: private files under /etc, /var and /run, sysctls of its own, and the link."""
    mount, ip = installed("mount", "mount"), installed("ip", "iproute2")
    for place in _PRIVATE:
        upper, work = folder / "private" / place[1:], folder / "private" / f"{place[1:]}.work"
        upper.mkdir(parents=True)
        work.mkdir()
        options = f"lowerdir={place},upperdir={upper},workdir={work}"
        _run(mount, "-t", "overlay", "overlay", place, "-o", options)
    _run(mount, "-t", "tmpfs", "tmpfs", "/run")
    for name, value in _SYSCTLS.items():
        file = folder / "sysctl" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(value + "\n")
        _run(mount, "--bind", str(file), f"/proc/sys/{name}")
    Path("/proc/sys/kernel/hostname").write_text(NAME)
    wait_until(lambda: Path("/sys/class/net/eth0").exists() or _has_link(ip), "the link", folder / "node.log")
    for device in ("lo", "eth0"):
        _run(ip, "link", "set", device, "up")
    _run(ip, "address", "add", f"{NODE_ADDRESS}/30", "dev", "eth0")
    _run(ip, "route", "add", "default", "via", HOST_ADDRESS)
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")


def _has_link(ip: str) -> bool:
    return subprocess.run([ip, "link", "show", "eth0"], capture_output=True, check=False).returncode == 0


@contextlib.contextmanager
def cgroups() -> Iterator[str]:
    """Cgroups for the Pods, removed when the block ends; their path in each hierarchy.

    Raises:
        E2EError: a node is running already.
    """
    made: list[Path] = []
    try:
        for hierarchy in _hierarchies():
            group = hierarchy / NAME
            if group.exists():  # of a node that could not end as it should, or of one that runs
                _remove(group)
            group.mkdir()
            made.append(group)
            for inherited in ("cpuset.cpus", "cpuset.mems"):  # version 1 starts them empty
                if (hierarchy / inherited).exists():
                    (group / inherited).write_text((hierarchy / inherited).read_text())
        yield f"/{NAME}"
    finally:
        for group in made:
            _remove(group)


def _hierarchies() -> list[Path]:
    """Where cgroups are made: in each controller's folder, or in the one of version 2."""
    if (_CGROUPS / "cgroup.controllers").exists():
        (_CGROUPS / "cgroup.subtree_control").write_text("+cpu +cpuset +memory +pids +io")
        return [_CGROUPS]
    return [
        place for place in sorted(_CGROUPS.iterdir()) if (place / "cgroup.procs").exists() and not place.is_symlink()
    ]


def _remove(group: Path, limit_s: float = 10) -> None:
    """Remove a cgroup and those in it; its last processes may be about to end."""
    end = time.monotonic() + limit_s
    folders = [Path(folder) for folder, _, _ in os.walk(group, topdown=False)]
    while folders:
        with contextlib.suppress(FileNotFoundError):
            try:
                folders[0].rmdir()
            except OSError:
                if time.monotonic() > end:
                    raise E2EError(f"processes are left in a cgroup · {group} · end the node that runs") from None
                time.sleep(0.05)
                continue
        folders.pop(0)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise E2EError(f"{command[0]} failed · {' '.join(command)}\n{done.stderr.strip()} · this needs root")
