"""How a supervisor reaches the warm process of its node, starting it if there is none."""

from __future__ import annotations

import array
import hashlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from cluster.warm import locked, runtime_directory

#: Variables that TensorFlow, Keras or the dynamic loader read once, while they are imported: a task that
#: sets one needs a warm process of its own.
_IMPORT_TIME = (
    "TF_",
    "KERAS_",
    "XLA_",
    "OMP_",
    "MKL_",
    "KMP_",
    "LD_",
    "PYTHON",
    "CUDA_",
    "NCCL_",
    "OPENBLAS_",
)
#: … except those that are read when the runtime starts, in the forked task.
_RUN_TIME = frozenset({"TF_CONFIG", "TF_GRPC_REUSE_PORT", "CUDA_VISIBLE_DEVICES", "TF_FORCE_GPU_ALLOW_GROWTH"})


def import_time_environment(env: Mapping[str, str]) -> dict[str, str]:
    """Those of `env` that must be set before TensorFlow is imported."""
    return {k: v for k, v in env.items() if k.startswith(_IMPORT_TIME) and k not in _RUN_TIME}


def _own() -> dict[str, str]:
    """Variables of this process that its tasks inherit: a Ray `runtime_env` sets them for supervisors alone.

    Only names that Ray itself leaves alone, so that a launcher and its supervisors agree on the key.
    """
    return {k: v for k, v in os.environ.items() if k.startswith(("TF_", "KERAS_", "XLA_"))}


def environment_key(preload: str, env: Mapping[str, str]) -> str:
    """Names the warm process that can serve tasks with `preload` and `env` under this Python.

    The modification time of our own code is part of it, so that an upgrade does not meet an old process.
    """
    here = Path(__file__).parent
    stamps = sorted((p.name, p.stat().st_mtime_ns) for p in here.glob("*.py"))
    identity = [
        sys.executable,
        sys.prefix,
        str(here),
        stamps,
        preload,
        sorted(import_time_environment({**_own(), **env}).items()),
    ]
    return hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:16]


def connect(preload: str, env: Mapping[str, str], lifeline: int) -> socket.socket:
    """A connection to the warm process for `preload` and `env`; starts it where there is none.

    Args:
        preload: `none`, `2` or `3`, see `cluster.warm.import_tensorflow`.
        env: variables that the tasks will get over the caller's own.
        lifeline: pid of the Ray node (or launcher) for whose life the process stays.
    """
    path = os.path.join(runtime_directory(), f"{environment_key(preload, env)}.sock")
    with locked():
        connection = _try(path) or _start(path, preload, env, lifeline)
    connection.send(json.dumps({"lifeline": lifeline}).encode())
    return connection


def _try(path: str) -> socket.socket | None:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        connection.connect(path)
    except OSError:
        connection.close()
        return None
    return connection


def _start(path: str, preload: str, env: Mapping[str, str], lifeline: int) -> socket.socket:
    """Listen first, then start the process with the socket: a client never waits for it to appear."""
    if os.path.exists(path):
        os.unlink(path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener, open(f"{path}.log", "wb") as log:
        listener.bind(path)
        listener.listen(1024)
        command = [sys.executable, "-m", "cluster.warm", "--socket-fd", str(listener.fileno())]
        command += ["--preload", preload, "--lifeline", str(lifeline)]
        root = str(Path(__file__).parent.parent)
        wanted = {**os.environ, **import_time_environment(env)}
        wanted["PYTHONPATH"] = os.pathsep.join(p for p in (root, wanted.get("PYTHONPATH", "")) if p)
        subprocess.run(
            command, check=True, env=wanted, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/",
            pass_fds=(listener.fileno(),),
        )  # fmt: skip
        connection = _try(path)
    if connection is None:
        raise ConnectionError(f"the warm process did not start; see {path}.log")
    return connection


def send_start(connection: socket.socket, how: str, fds: tuple[int, int, int]) -> None:
    """Ask for a task: `how` is `fork` or `spawn`; `fds` are its output, channel and stacks."""
    rights = array.array("i", fds)
    connection.sendmsg([json.dumps({"start": how}).encode()], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
