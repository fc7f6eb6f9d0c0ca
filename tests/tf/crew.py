"""Real tasks of one test: forked with their TF_CONFIG, listened to, killed, and always cleaned up."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing.connection import Connection, Listener, wait
from pathlib import Path
from typing import Any

from tests.tf.forge import Order


class TaskError(AssertionError):
    """A task raised; carries the type, the message and the traceback it printed."""

    def __init__(self, task: str, kind: str, message: str, trace: str) -> None:
        super().__init__(f"{task} raised {kind}: {message}\n{trace}")
        self.kind = kind
        self.message = message


class Forge:
    """The TensorFlow process that forks tasks, and the listener they report to."""

    def __init__(self, keras: str, directory: Path) -> None:
        self.keras = keras
        self.directory = directory
        address = str(directory / "forge.sock")
        self._listener = Listener(address, family="AF_UNIX")
        env = {**os.environ, "TF_USE_LEGACY_KERAS": "1" if keras == "2" else "0", "TF_CPP_MIN_LOG_LEVEL": "1"}
        env["CUDA_VISIBLE_DEVICES"] = ""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.tf.forge", address, keras], env=env, stdin=subprocess.DEVNULL
        )
        self.control = self._listener.accept()
        self.control.recv()
        self.exits: dict[int, int] = {}
        self._crews = self._tasks = 0

    def start(self, tasks: Mapping[str, tuple[str, Mapping[str, Any]]], env: Mapping[str, Mapping[str, str]]) -> Crew:
        """Fork one task a name; `tasks` maps it to (`module:function`, keyword arguments)."""
        self._crews += 1
        directory = self.directory / f"crew-{self._crews}"
        directory.mkdir()
        orders = {}
        for name, (function, kwargs) in tasks.items():
            orders[name] = Order(0, dict(env[name]), function, dict(kwargs), directory / f"{name}.log")
        return Crew(self, orders)

    def fork(self, orders: Sequence[Order]) -> list[tuple[int, int, Connection]]:
        """Fork tasks; returns the number, process id and connection of each."""
        first = self._tasks
        self._tasks += len(orders)
        for number, order in enumerate(orders, first):
            self.control.send(order._replace(number=number))
        found = {}
        for _ in orders:
            line = self._listener.accept()
            _, number, pid = line.recv()
            found[number] = (number, pid, line)
        return [found[number] for number in sorted(found)]

    def close(self) -> None:
        """End the process, and with it every task it forked."""
        self.control.close()
        self._listener.close()
        self._process.wait(timeout=10)


class Crew:
    """The running tasks of one test."""

    def __init__(self, forge: Forge, orders: Mapping[str, Order]) -> None:
        self.names = list(orders)
        self.pids: dict[str, int] = {}
        self.events: dict[str, list[Any]] = {name: [] for name in orders}
        self.outcomes: dict[str, tuple[Any, ...]] = {}
        self._forge = forge
        self._orders = orders
        self._numbers: dict[str, int] = {}
        self._lines: dict[str, Connection] = {}
        self._fork(self.names)

    def _fork(self, names: Sequence[str]) -> None:
        for name, (number, pid, line) in zip(names, self._forge.fork([self._orders[n] for n in names]), strict=True):
            self._numbers[name], self.pids[name], self._lines[name] = number, pid, line

    @property
    def exits(self) -> dict[str, int]:
        """The exit codes of the tasks that have ended, negative for a signal."""
        ended = self._forge.exits
        return {name: ended[number] for name, number in self._numbers.items() if number in ended}

    def start_again(self, name: str) -> None:
        """Fork a task anew that has ended, with the same TF_CONFIG."""
        self.exit(name)
        self._fork([name])

    def results(self, timeout: float = 90) -> dict[str, Any]:
        """Every task's return value; raises the first task's error."""
        self.until(lambda: len(self.outcomes) + len(self.exits) >= len(self.names), timeout)
        for name in self.names:
            self.result(name)
        return {name: self.outcomes[name][1] for name in self.names}

    def result(self, name: str, timeout: float = 90) -> Any:
        """The return value of one task."""
        self.until(lambda: name in self.outcomes or name in self.exits, timeout)
        if name not in self.outcomes:
            raise AssertionError(f"{name} ended with {self.exits[name]}:\n{self.log(name)[-4000:]}")
        outcome = self.outcomes[name]
        if outcome[0] == "error":
            raise TaskError(name, *outcome[1:])
        return outcome[1]

    def event(self, name: str, wanted: Callable[[Any], bool] = bool, timeout: float = 60) -> Any:
        """The first event of `name` that is `wanted`."""
        self.until(lambda: any(map(wanted, self.events[name])) or name in self.outcomes or name in self.exits, timeout)
        found = [value for value in self.events[name] if wanted(value)]
        if not found:
            self.result(name, 0)
            raise AssertionError(f"{name} ended without the event; seen: {self.events[name]}")
        return found[0]

    def kill(self, name: str, number: int = signal.SIGKILL) -> None:
        """Send a signal to one task."""
        os.kill(self.pids[name], number)

    def exit(self, name: str, timeout: float = 60) -> int:
        """The exit code of one task, negative for a signal; it must end by itself or by `kill`."""
        self.until(lambda: name in self.exits, timeout)
        return self.exits[name]

    def release(self, name: str) -> None:
        """Let one task end."""
        with contextlib.suppress(OSError):
            self._lines[name].send("leave")

    def log(self, name: str) -> str:
        """What one task wrote to stdout and stderr."""
        return self._orders[name].log.read_text(errors="replace")

    def close(self) -> None:
        """Let the tasks leave, kill who stays."""
        for name in self.names:
            if name in self.outcomes:
                self.release(name)
            elif name not in self.exits:
                self.kill(name)
        with contextlib.suppress(TimeoutError):
            self.until(lambda: len(self.exits) == len(self.names), 5)
        for name in self.names:
            if name not in self.exits:
                self.kill(name)
        self.until(lambda: len(self.exits) == len(self.names), 10)
        for line in self._lines.values():
            line.close()

    def until(self, done: Callable[[], bool], timeout: float) -> None:
        """Take messages in until `done()`.

        Raises:
            TimeoutError: with the tail of every task's log.
        """
        end = time.monotonic() + timeout
        while not done():
            ready = wait([self._forge.control, *self._lines.values()], max(0.0, end - time.monotonic()))
            if not ready:
                tails = "\n".join(f"--- {name}\n{self.log(name)[-1500:]}" for name in self.names)
                raise TimeoutError(f"nothing for {timeout} s; outcomes {self.outcomes}, exits {self.exits}\n{tails}")
            for line in ready:
                self._take(line)

    def _take(self, line: Any) -> None:
        if line is self._forge.control:
            _, number, status = line.recv()
            self._forge.exits[number] = status
            return
        name = next(name for name, known in self._lines.items() if known is line)
        try:
            kind, *rest = line.recv()
        except (EOFError, ConnectionResetError):
            del self._lines[name]
            return
        if kind == "event":
            self.events[name].append(rest[0])
        else:
            self.outcomes[name] = (kind, *rest)


@contextlib.contextmanager
def held_ports(count: int) -> Iterator[list[int]]:
    """Free ports of 127.0.0.1, held with SO_REUSEPORT while the tasks bind them."""
    with contextlib.ExitStack() as stack:
        ports = []
        for _ in range(count):
            held = stack.enter_context(socket.socket())
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            held.bind(("127.0.0.1", 0))
            ports.append(held.getsockname()[1])
        yield ports


@contextlib.contextmanager
def cluster(forge: Forge, jobs: Mapping[str, tuple[str, Mapping[str, Any]]]) -> Iterator[Crew]:
    """Start `jobs`, named `role-index`, as one TensorFlow cluster; each gets its TF_CONFIG."""
    with held_ports(len(jobs)) as ports:
        address = {name: f"127.0.0.1:{port}" for name, port in zip(jobs, ports, strict=True)}
        members: dict[str, list[str]] = {}
        for name in jobs:
            members.setdefault(name.rpartition("-")[0], []).append(address[name])
        env = {name: {**TASK_ENV, "TF_CONFIG": tf_config(members, name)} for name in jobs}
        crew = forge.start(jobs, env)
        try:
            yield crew
        finally:
            crew.close()


#: What every task gets beside its TF_CONFIG.
TASK_ENV = {"TF_GRPC_REUSE_PORT": "true", "GRPC_FAIL_FAST": "use_caller"}


def tf_config(members: Mapping[str, list[str]], name: str) -> str:
    """TF_CONFIG of the task `role-index`."""
    role, _, index = name.rpartition("-")
    return json.dumps({"cluster": members, "task": {"type": role, "index": int(index)}})
