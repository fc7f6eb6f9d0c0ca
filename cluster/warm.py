"""The warm process of a node and environment: it has imported TensorFlow, and forks tasks on request.

One connection is one task. A client connects to the Unix socket (SOCK_SEQPACKET), sends one request with
three file descriptors (output, channel, stacks), and hears `started`, then `exited`. When a connection
closes, its task's whole process group is killed: a task never outlives the supervisor that asked for it.
The process ends when the last Ray node (or launcher) that it was told of is gone, or when it has been idle.

It has one thread and starts no TensorFlow runtime, so a forked task finds nothing half-locked. Where that
cannot be said (a GPU driver is open, a runtime runs), the task becomes a plain new Python process instead.
"""

from __future__ import annotations

import argparse
import array
import contextlib
import fcntl
import gc
import json
import os
import selectors
import shutil
import signal
import socket
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from cluster.processes import die_with_parent, kill_group

#: Seconds between SIGTERM and SIGKILL for the task of a supervisor that vanished.
ORPHAN_GRACE = 2.0
#: Open files, sockets and pipes that a client hands over: output, channel, stacks.
HANDED_OVER = 3


@dataclass
class Forked:
    """One task that this process started, and the connection it belongs to."""

    pid: int
    pidfd: int
    connection: socket.socket | None
    scratch: str
    kill_at: float | None = None


@dataclass
class Warm:
    """All that the warm process knows."""

    listener: socket.socket
    preload: str
    idle_seconds: float
    selector: selectors.BaseSelector = field(default_factory=selectors.DefaultSelector)
    lifelines: dict[int, int] = field(default_factory=dict)  # pid → pidfd of a Ray node or launcher
    tasks: dict[int, Forked] = field(default_factory=dict)  # pid → task
    clients: set[socket.socket] = field(default_factory=set)
    threads: int = 0
    last_used: float = field(default_factory=time.monotonic)


def import_tensorflow(preload: str) -> str:
    """Import what `preload` names (`none`, or TensorFlow with Keras `2` or `3`); return an error or ''."""
    if preload == "none":
        return ""
    try:
        import tensorflow

        if preload == "2":
            import tf_keras  # noqa: F401
        else:
            import keras  # noqa: F401
        import cluster.task
        import pipelines.dataset

        del tensorflow, cluster, pipelines
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    gc.collect()
    gc.freeze()  # keeps the collector from touching, and so copying, every shared page
    return ""


def unsafe_to_fork(threads: int) -> str:
    """Why a fork of this process could hang or crash, or '' when nothing speaks against it."""
    for entry in os.scandir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if os.readlink(entry.path).startswith("/dev/nvidia"):
                return "a GPU is open in the warm process"
    context = sys.modules.get("tensorflow.python.eager.context")
    existing = getattr(context, "_context", None)
    if existing is not None and getattr(existing, "_initialized", False):
        return "a TensorFlow runtime runs in the warm process"
    if len(os.listdir("/proc/self/task")) > threads:
        return "the warm process has started threads"
    return ""


def serve(warm: Warm) -> None:
    """Answer requests until no lifeline is left or nothing was asked for `idle_seconds`."""
    warm.selector.register(warm.listener, selectors.EVENT_READ, ("accept", None))
    while warm.lifelines:
        if not warm.tasks and not warm.clients and time.monotonic() - warm.last_used > warm.idle_seconds:
            break
        for key, _ in warm.selector.select(_timeout(warm)):
            _handle(warm, key)
        _kill_overdue(warm)
    for forked in list(warm.tasks.values()):
        kill_group(forked.pid, signal.SIGKILL)
        _reap(warm, forked)


def _handle(warm: Warm, key: selectors.SelectorKey) -> None:
    what, subject = key.data
    if what == "accept":
        _accept(warm)
    elif what == "client":
        _client(warm, subject)
    elif what == "exit" and subject in warm.tasks:
        _reap(warm, warm.tasks[subject])
    elif what == "lifeline" and subject in warm.lifelines:
        warm.selector.unregister(warm.lifelines[subject])
        os.close(warm.lifelines.pop(subject))


def _timeout(warm: Warm) -> float:
    due = [task.kill_at for task in warm.tasks.values() if task.kill_at is not None]
    now = time.monotonic()
    return max(0.0, min([at - now for at in due] + [warm.idle_seconds + 0.1]))


def add_lifeline(warm: Warm, pid: int) -> None:
    """Stay alive at least as long as process `pid` does."""
    if pid in warm.lifelines:
        return
    with contextlib.suppress(ProcessLookupError):
        pidfd = os.pidfd_open(pid)
        warm.lifelines[pid] = pidfd
        warm.selector.register(pidfd, selectors.EVENT_READ, ("lifeline", pid))


def _accept(warm: Warm) -> None:
    connection, _ = warm.listener.accept()
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    if int.from_bytes(credentials[4:8], sys.byteorder) != os.getuid():
        connection.close()
        return
    warm.clients.add(connection)
    warm.selector.register(connection, selectors.EVENT_READ, ("client", connection))


def _client(warm: Warm, connection: socket.socket) -> None:
    """One request, or the end of a connection."""
    warm.last_used = time.monotonic()
    try:
        message, fds = receive_with_fds(connection)
    except OSError:
        message, fds = b"", []
    if not message:
        _disconnect(warm, connection)
        return
    request = json.loads(message)
    if "lifeline" in request:
        add_lifeline(warm, request["lifeline"])
    if "signal" in request:
        for task in warm.tasks.values():
            if task.connection is connection:
                kill_group(task.pid, request["signal"])
    if "start" in request:
        _start(warm, connection, fork=request["start"] == "fork", fds=fds)


def _disconnect(warm: Warm, connection: socket.socket) -> None:
    """The supervisor is gone: so is its task, gently first."""
    warm.selector.unregister(connection)
    warm.clients.discard(connection)
    connection.close()
    for task in warm.tasks.values():
        if task.connection is connection:
            task.connection = None
            kill_group(task.pid, signal.SIGTERM)
            task.kill_at = time.monotonic() + ORPHAN_GRACE


def _kill_overdue(warm: Warm) -> None:
    for task in warm.tasks.values():
        if task.kill_at is not None and time.monotonic() >= task.kill_at:
            task.kill_at = None
            kill_group(task.pid, signal.SIGKILL)


def _start(warm: Warm, connection: socket.socket, *, fork: bool, fds: list[int]) -> None:
    if len(fds) != HANDED_OVER:
        _reply(connection, {"refused": f"{len(fds)} file descriptors came with the request, not {HANDED_OVER}"})
        return
    try:
        _fork_task(warm, connection, fork, fds)
    except OSError as error:  # no room, or too many files or processes: this task's loss, nobody else's
        _reply(connection, {"refused": f"the node cannot start a task: {error}"})
    for fd in fds:
        os.close(fd)


def _fork_task(warm: Warm, connection: socket.socket, fork: bool, fds: list[int]) -> None:
    reason = unsafe_to_fork(warm.threads) if fork else "the spec asks for a plain process"
    scratch = tempfile.mkdtemp(prefix=f"{os.getpid()}-", dir=os.path.join(runtime_directory(), "scratch"))
    parent = os.getpid()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        _become_task(warm, parent, fds, scratch, in_process=not reason)
    pidfd = os.pidfd_open(pid)
    warm.tasks[pid] = Forked(pid, pidfd, connection, scratch)
    warm.selector.register(pidfd, selectors.EVENT_READ, ("exit", pid))
    how = "spawned" if reason else "forked"
    _reply(connection, {"started": pid, "how": how, "reason": reason if fork else "", "scratch": scratch})


def _become_task(warm: Warm, parent: int, fds: list[int], scratch: str, *, in_process: bool) -> None:
    """In the new process: leave the warm process behind and run the task; never returns."""
    code = 70
    try:
        os.setsid()
        die_with_parent(parent)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        for key in list(warm.selector.get_map().values()):
            os.close(key.fd)
        warm.selector.close()
        output, channel, stacks = fds
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.close(output)
        if not in_process:
            for fd in (channel, stacks):
                os.set_inheritable(fd, True)
            os.execv(sys.executable, [sys.executable, "-m", "cluster.task", str(channel), str(stacks), scratch])
        from cluster import task

        code = task.main(channel, stacks, scratch)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def _reap(warm: Warm, forked: Forked) -> None:
    """Kill what is left of the task's group, take its exit status and tell its supervisor."""
    os.waitid(os.P_PID, forked.pid, os.WEXITED | os.WNOWAIT)  # its pid, and so its group, stays reserved
    kill_group(forked.pid, signal.SIGKILL)
    _, status = os.waitpid(forked.pid, 0)
    warm.selector.unregister(forked.pidfd)
    os.close(forked.pidfd)
    del warm.tasks[forked.pid]
    shutil.rmtree(forked.scratch, ignore_errors=True)
    warm.last_used = time.monotonic()
    if forked.connection is not None:
        _reply(forked.connection, {"exited": os.waitstatus_to_exitcode(status)})


def _reply(connection: socket.socket, message: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):
        connection.send(json.dumps(message).encode())


def receive_with_fds(connection: socket.socket) -> tuple[bytes, list[int]]:
    """One packet and the file descriptors that came with it (SCM_RIGHTS, unix(7))."""
    room = socket.CMSG_LEN(HANDED_OVER * array.array("i").itemsize)
    message, ancillary, _, _ = connection.recvmsg(1 << 16, room)
    fds = array.array("i")
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
    return message, list(fds)


def runtime_directory() -> str:
    """A folder of this user's alone, for sockets, logs and scratch folders.

    Raises:
        PermissionError: somebody else made it.
    """
    path = os.path.join(tempfile.gettempdir(), f"tfcluster-{os.getuid()}")
    os.makedirs(path, mode=0o700, exist_ok=True)
    seen = os.lstat(path)
    if seen.st_uid != os.getuid() or seen.st_mode & 0o077:
        raise PermissionError(f"{path} is not private to this user; remove it")
    os.makedirs(os.path.join(path, "scratch"), mode=0o700, exist_ok=True)
    return path


@contextlib.contextmanager
def locked() -> Iterator[None]:
    """Hold the runtime directory's lock: one process at a time looks for, makes or removes a socket."""
    with open(os.path.join(runtime_directory(), "lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def remove_stale_scratch() -> None:
    """Remove scratch folders of warm processes that were killed."""
    folder = os.path.join(runtime_directory(), "scratch")
    for name in os.listdir(folder):
        pid = name.split("-")[0]
        if not os.path.exists(f"/proc/{pid}"):
            shutil.rmtree(os.path.join(folder, name), ignore_errors=True)


def remove_own_files(path: str, inode: int) -> None:
    """Remove the socket and log that belong to this process, unless a newer one has taken the name."""
    with locked(), contextlib.suppress(OSError):
        if os.stat(path).st_ino == inode:
            os.unlink(path)
            os.unlink(f"{path}.log")


def main() -> None:
    """`python -m cluster.warm --socket-fd N --preload 3 --lifeline PID`, started by `cluster.warm_client`."""
    parser = argparse.ArgumentParser(prog="cluster.warm", description=__doc__)
    parser.add_argument("--socket-fd", type=int, required=True, help="listening socket, inherited")
    parser.add_argument("--preload", choices=("none", "2", "3"), required=True)
    parser.add_argument("--lifeline", type=int, required=True, help="process whose end may end this one")
    parser.add_argument("--idle-seconds", type=float, default=900.0)
    options = parser.parse_args()
    if os.fork():  # leave the family of the Ray worker that started us: Ray kills a worker's children
        os._exit(0)
    os.setsid()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    listener = socket.socket(fileno=options.socket_fd)
    listener.set_inheritable(False)
    warm = Warm(listener, options.preload, options.idle_seconds)
    add_lifeline(warm, options.lifeline)
    remove_stale_scratch()
    problem = import_tensorflow(options.preload)
    if problem:
        print(problem, file=sys.stderr, flush=True)
    warm.threads = len(os.listdir("/proc/self/task"))
    socket_file = os.stat(listener.getsockname()).st_ino
    serve(warm)
    remove_own_files(listener.getsockname(), socket_file)


if __name__ == "__main__":
    main()
