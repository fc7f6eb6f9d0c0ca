"""What runs inside a task's process: settle in, run the user's code, tell how it ended."""

from __future__ import annotations

import atexit
import faulthandler
import json
import os
import pickle
import random
import signal
import socket
import sys
import traceback
from pathlib import Path
from typing import Any

from cluster import entrypoint, frames
from cluster.channel import Channel
from cluster.errors import TfClusterError
from cluster.launch import Launch
from cluster.locations import shown
from cluster.tasks import runs_user_code
from cluster.tracing import Tracer


def main(channel_fd: int, stacks_fd: int, scratch: str) -> int:
    """Run the task that the supervisor sends over `channel_fd`; return its exit code.

    Args:
        channel_fd: a connected stream socket, see `cluster.launch` and `cluster.channel`.
        stacks_fd: where SIGUSR1 writes the Python stacks of all threads.
        scratch: a folder of this task's own.
    """
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1, file=stacks_fd, all_threads=True)
    connection = socket.socket(fileno=channel_fd)
    env = json.loads(frames.receive(connection))
    order: Launch = pickle.loads(frames.receive(connection))
    channel = Channel(connection)
    code = _report(order, env, channel, scratch, Tracer(channel, Path(scratch)))
    # Threads of TensorFlow's runtime may wait for peers that are gone: exit handlers run, joins do not.
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    return code


def settle_in(order: Launch, env: dict[str, str]) -> None:
    """Environment, working directory, module path and random state, as a new process would have them."""
    os.environ.clear()
    os.environ.update(env)
    os.makedirs(order.directory, exist_ok=True)
    os.chdir(order.directory)
    sys.path[:0] = [folder for folder in order.sys_path if folder not in sys.path]
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    random.seed()
    if "numpy" in sys.modules:
        import numpy as np

        np.random.seed()


def _report(order: Launch, env: dict[str, str], channel: Channel, scratch: str, tracer: Tracer) -> int:
    """Run the task's code and send how it ended."""
    try:
        settle_in(order, env)
        value = _run(order, channel, scratch)
    except SystemExit as error:
        code = _exit_code(error)
        if code == 0:
            return _finish(channel, tracer, None)
        _tell_failure(
            channel, tracer, type="SystemExit", message=f"the script exited with {error.code}", exit_code=code
        )
        return code
    except BaseException as error:
        return _fail(order, channel, tracer, error)
    return _finish(channel, tracer, value)


def _finish(channel: Channel, tracer: Tracer, value: Any) -> int:
    sys.stdout.flush()
    tracer.finish()
    try:
        channel.send("finished", value=value)
    except (TypeError, ValueError):  # not JSON, for its keys or because it holds itself
        channel.send("finished", value=repr(value))
    # A task that exits early breaks its peers' collectives; the launcher says when nobody needs it any more.
    channel.wait_for_release()
    return 0


def _tell_failure(channel: Channel, tracer: Tracer, **data: Any) -> None:
    """Say at once that the task failed, and then hand over what it has of a capture that goes on."""
    channel.send("failed", **data, **({"tracing": True} if tracer.busy else {}))
    tracer.leave()


def _fail(order: Launch, channel: Channel, tracer: Tracer, error: BaseException) -> int:
    from cluster.parameter_server import is_peer_error
    from pipelines.errors import UnreachableDataError, data_error_in

    error = data_error_in(error) or _mismatch(order, error) or error
    text = shown(user_traceback(error))
    print(text, file=sys.stderr, flush=True)
    data: dict[str, Any] = {"type": type(error).__name__, "message": shown(_first_line(error)), "traceback": text}
    passing = isinstance(error, UnreachableDataError)
    _tell_failure(channel, tracer, **data, peer=is_peer_error(error), passing=passing, exit_code=1)
    return 1


def _mismatch(order: Launch, error: BaseException) -> BaseException | None:
    """The error of a record that does not match its features, if TensorFlow's is of one."""
    from pipelines.examples import is_mismatch

    if not is_mismatch(error):
        return None
    from pipelines import mismatch, remote

    spec = order.spec
    if spec.strategy == "parameter_server" and order.task.role == "chief":
        return mismatch.explained(error, lambda: remote.find_mismatch(spec.replicas("worker")))
    return mismatch.explained(error)


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:500] if lines else ""


def user_traceback(error: BaseException) -> str:
    """The traceback from the user's first frame on; for our own errors, their sentence alone."""
    from pipelines.errors import DataError

    if isinstance(error, TfClusterError | DataError):
        return f"{type(error).__name__}: {error}"
    frames = error.__traceback__
    while frames is not None and _is_ours(frames.tb_frame.f_code.co_filename) and frames.tb_next is not None:
        frames = frames.tb_next
    return "".join(traceback.format_exception(type(error), error, frames)).rstrip()


def _is_ours(filename: str) -> bool:
    return os.path.dirname(os.path.abspath(filename)) == os.path.dirname(__file__) or filename.startswith("<frozen")


def _exit_code(error: SystemExit) -> int:
    if error.code is None:
        return 0
    return error.code if isinstance(error.code, int) else 1


def _run(order: Launch, channel: Channel, scratch: str) -> Any:
    """The task's part of the job; returns the entrypoint's value."""
    spec = order.spec
    from cluster.repairs import repair

    if spec.tensorflow_io:
        import tensorflow_io  # noqa: F401
    if not runs_user_code(order.task, spec.strategy, spec.script is not None):
        from cluster.parameter_server import serve
        from pipelines.remote import serve_reads

        serve_reads(order.task.index, order.secret)
        serve(on_ready=lambda: channel.send("task_ready"))
    from cluster.debug import dumping

    if spec.script is not None:
        repair()
        channel.send("task_ready")
        with dumping(order, channel, scratch):
            return entrypoint.run_script(spec.script, order.directory)
    from cluster.opening import open_context

    context = open_context(order, channel, scratch)
    channel.send("task_ready")
    try:
        with dumping(order, channel, scratch):
            return _function(order)(context, **spec.args)
    finally:
        context.close()


def _function(order: Launch) -> Any:
    if order.code is not None:
        import cloudpickle

        return cloudpickle.loads(order.code)
    return entrypoint.load_function(str(order.spec.entrypoint), order.directory)


if __name__ == "__main__":
    os._exit(main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]))
