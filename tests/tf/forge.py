"""A process that has imported TensorFlow and forks real tasks from there: `python -m tests.tf.forge ADDRESS`."""

from __future__ import annotations

import ctypes
import importlib
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from multiprocessing.connection import Client, Connection, wait
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

PR_SET_PDEATHSIG = 1
IMPORTS = {"3": ("tensorflow", "keras"), "2": ("tensorflow", "tf_keras")}


class Order(NamedTuple):
    """One task to fork: its number, environment, function `module:name`, arguments and log file."""

    number: int
    env: dict[str, str]
    function: str
    kwargs: dict[str, Any]
    log: Path


def main(address: str, keras: str) -> None:
    """Import TensorFlow, then fork what the control connection orders until it closes."""
    _die_with_parent()
    for name in IMPORTS[keras]:
        importlib.import_module(name)
    control = Client(address, family="AF_UNIX")
    control.send(("forge", os.getpid()))
    running: dict[int, tuple[int, int]] = {}  # read end of a task's pipe → (number, pid)
    while True:
        for ready in wait([control, *running]):
            if ready is control:
                try:
                    order: Order = control.recv()
                except EOFError:
                    return
                end, pid = _fork(order, address, control, list(running))
                running[end] = (order.number, pid)
            else:
                _reap(control, running, ready)


def _fork(order: Order, address: str, control: Connection, ends: list[int]) -> tuple[int, int]:
    read, write = os.pipe()
    pid = os.fork()
    if pid:
        os.close(write)
        return read, pid
    for fd in [control.fileno(), read, *ends]:
        os.close(fd)
    _task(order, address)


def _reap(control: Connection, running: dict[int, tuple[int, int]], end: Any) -> None:
    number, pid = running.pop(end)
    os.close(end)
    _, status = os.waitpid(pid, 0)
    control.send(("exit", number, os.waitstatus_to_exitcode(status)))


def _task(order: Order, address: str) -> NoReturn:
    _die_with_parent()
    os.environ.update(order.env)
    log = os.open(order.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    line = Client(address, family="AF_UNIX")
    lock = threading.Lock()

    def post(*message: Any) -> None:
        with lock:
            line.send(message)

    post("task", order.number, os.getpid())
    try:
        value = _function(order.function)(post=lambda value: post("event", value), **order.kwargs)
        post("result", value)
    except BaseException as error:
        traceback.print_exc()
        post("error", type(error).__module__ + "." + type(error).__name__, str(error), traceback.format_exc())
    line.recv()  # leave together: a task that ends takes its peers' coordination service away
    sys.stdout.flush()
    os._exit(0)


def _function(name: str) -> Callable[..., Any]:
    module, _, attribute = name.partition(":")
    function: Callable[..., Any] = getattr(importlib.import_module(module), attribute)
    return function


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    main(*sys.argv[1:])
