"""`Worker`: the small Ray actor that holds a task's port and owns its one child process."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
from dataclasses import dataclass
from typing import Any

from cluster import frames, warm_client
from cluster.processes import signal_name
from cluster.prometheus import Gauges, run_label
from cluster.usage import Sample, Sampler

#: A message to the launcher: an event's kind and data, or `log` with text.
Message = tuple[str, dict[str, Any]]

#: Bytes of output kept for a launcher that is slow to fetch them; then the task has to wait.
MAX_KEPT = 64 << 20
#: Longest part of a line that waits for its end; a progress bar that only returns the carriage never ends one.
MAX_LINE = 1 << 16
#: Seconds between two samples of what the task takes of its machine, and from its start to the first.
SAMPLE_SECONDS, FIRST_SAMPLE = 5.0, 2.0


@dataclass(frozen=True)
class Landing:
    """Where a supervisor landed."""

    node: str
    port: int
    hostname: str
    directory: str
    gpus: tuple[str, ...]
    pid: int


class Worker:
    """Supervises one child process for one task; knows nothing of TensorFlow.

    An asyncio actor: `next` waits for messages while `start`, `tell` and `stop` come in between.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._held: socket.socket | None = None
        self._control: socket.socket | None = None
        self._channel: socket.socket | None = None
        self._output = -1
        self._stacks = -1
        self._partial = b""
        self._channel_partial = b""
        self._messages: list[Message] = []
        self._kept = 0
        self._pid = 0
        self._queued: list[bytes] | None = []  # commands for a task that has not been sent its order yet
        self._news = asyncio.Event()
        self._exited = asyncio.Event()
        self._watching: asyncio.Task[None] | None = None
        self._gpus: tuple[str, ...] = ()
        self._gauges = Gauges({})
        self._step: dict[str, Any] = {}  # the data of the task's last `step`
        self._ended = False  # whether the task itself said how it ended

    async def land(self, port: int = 0) -> Landing:
        """Reserve a port on this node (`port`, or any) and say where this is.

        The socket stays bound, not listening, with SO_REUSEPORT, so nobody else gets the port, and
        TensorFlow, told by TF_GRPC_REUSE_PORT, can still bind it (socket(7)).
        """
        import ray
        from ray.util import get_node_ip_address

        self._gpus = tuple(sorted(map(str, ray.get_gpu_ids()), key=lambda gpu: (len(gpu), gpu)))  # Ray gives a set
        self._hold(":" in get_node_ip_address(), port)
        assert self._held is not None
        return Landing(
            node=ray.get_runtime_context().get_node_id(),
            port=self._held.getsockname()[1],
            hostname=socket.gethostname(),
            directory=os.getcwd(),
            gpus=self._gpus,
            pid=os.getpid(),
        )

    def _hold(self, ipv6: bool, port: int) -> None:
        if self._held is not None:
            self._held.close()
        held = socket.socket(socket.AF_INET6 if ipv6 else socket.AF_INET)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind(("", port))
        self._held = held

    async def start(self, payload: bytes, env: dict[str, str], preload: str) -> None:
        """Start the task's process; the answers of the warm process come as messages.

        Args:
            payload: a pickled `cluster.launch.Launch`, for the task alone.
            env: the task's variables over those of this actor.
            preload: what the warm process has imported, see `cluster.warm`; with `none` the task is a new Python.
        """
        self._forget()
        self._ended = False
        self._queued = []
        self._exited.clear()
        labels = {"run": run_label(env.get("TFCLUSTER_RUN_DIR", "")), "role": self.name.rpartition("-")[0]}
        self._gauges = Gauges({**labels, "task": self.name})
        try:
            await self._start(payload, env, preload)
        except OSError as error:
            self._forget()
            self._exited.set()
            self._say("lost", reason=f"its process could not be started: {error}")

    async def _start(self, payload: bytes, env: dict[str, str], preload: str) -> None:
        loop = asyncio.get_running_loop()
        lifeline = os.getppid() if os.getppid() > 1 else os.getpid()
        self._control = await loop.run_in_executor(None, warm_client.connect, preload, env, lifeline)
        self._output, output = os.pipe()
        self._stacks = os.memfd_create(f"stacks-{self.name}")
        self._channel, channel = socket.socketpair()
        how = "spawn" if preload == "none" else "fork"
        warm_client.send_start(self._control, how, (output, channel.fileno(), self._stacks))
        os.close(output)
        channel.close()
        inherited = {k: v for k, v in os.environ.items() if k != "TF_CONFIG"}
        for frame in (json.dumps({**inherited, **env}).encode(), payload):
            await loop.run_in_executor(None, frames.send, self._channel, frame)
        for fd in (self._output, self._channel.fileno(), self._control.fileno()):
            os.set_blocking(fd, False)
        loop.add_reader(self._output, self._read_output)
        loop.add_reader(self._channel.fileno(), self._read_channel)
        loop.add_reader(self._control.fileno(), self._read_control)
        queued, self._queued = self._queued or [], None
        for line in queued:
            self._channel.sendall(line)

    async def next(self, patience: float = 10.0) -> list[Message]:
        """The messages since the last call, waiting up to `patience` seconds for one."""
        if not self._messages:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._news.wait(), patience)
        messages, self._messages, self._kept = self._messages, [], 0
        self._news.clear()
        return messages

    async def nudge(self) -> None:
        """Have a waiting `next` return what there is."""
        self._news.set()

    async def tell(self, command: dict[str, Any]) -> None:
        """Send a command to the task, see `cluster.channel`."""
        line = (json.dumps(command) + "\n").encode()
        if self._queued is not None:
            self._queued.append(line)
        elif self._channel is not None:
            with contextlib.suppress(OSError):
                self._channel.sendall(line)

    async def stop(self, grace: float) -> None:
        """End the task: SIGTERM, then SIGKILL after `grace` seconds, to its whole process group."""
        for number, patience in ((15, grace), (9, 10.0)):
            if self._control is None or self._exited.is_set():
                return
            self._signal(number)
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._exited.wait(), patience)

    async def wait_exit(self, patience: float) -> bool:
        """Whether the task ended by itself within `patience` seconds."""
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._exited.wait(), patience)
        return self._exited.is_set() or self._control is None

    async def stacks(self) -> str:
        """The Python stacks of the task's threads, written by faulthandler on SIGUSR1."""
        if self._control is None or self._exited.is_set():
            return ""
        before = os.fstat(self._stacks).st_size
        self._signal(10)
        for _ in range(20):  # the handler runs between two bytecodes at once, but nothing announces its end
            await asyncio.sleep(0.05)
            size = os.fstat(self._stacks).st_size
            if size > before and size == os.fstat(self._stacks).st_size:
                break
        return os.pread(self._stacks, 1 << 20, before).decode(errors="replace")

    async def read_file(self, path: str, start: int, size: int) -> bytes:
        """Up to `size` bytes of a file of this node, from byte `start` on; none at its end."""

        def read() -> bytes:
            with open(path, "rb") as file:
                file.seek(start)
                return file.read(size)

        return await asyncio.get_running_loop().run_in_executor(None, read)

    async def _watch(self, pid: int) -> None:
        """Sample what the task takes of this machine; the samples go with whatever message is next."""
        loop = asyncio.get_running_loop()
        sampler = await loop.run_in_executor(None, Sampler, pid, self._gpus)
        await asyncio.sleep(FIRST_SAMPLE)
        while await self._sample(sampler):
            await asyncio.sleep(SAMPLE_SECONDS)

    async def _sample(self, sampler: Sampler) -> bool:
        """Take and tell a sample; whether the task still runs."""
        sample = await asyncio.get_running_loop().run_in_executor(None, sampler.sample)
        if sample is not None:
            self._messages.append(("usage", sample))
            self._publish(sample)
        return sample is not None

    def _publish(self, sample: Sample) -> None:
        numbers = {
            "step": self._step.get("step"),
            "input_busy": self._step.get("input_busy"),
            "cpus": sample["cpus"],
            "memory_bytes": sample["memory"],
            "gpu_utilization": sample.get("gpu"),
            "gpu_memory_bytes": sample.get("gpu_memory"),
        }
        for name, value in numbers.items():
            self._gauges.set(f"tfcluster_task_{name}", value)

    def _signal(self, number: int) -> None:
        if self._control is not None:
            with contextlib.suppress(OSError):
                self._control.send(json.dumps({"signal": number}).encode())

    def _say(self, kind: str, **data: Any) -> None:
        self._messages.append((kind, data))
        self._news.set()

    def _pause(self) -> None:
        """Let the pipe fill up until the launcher has fetched what is there."""
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._output)
        loop.call_later(0.1, self._resume)

    def _resume(self) -> None:
        if self._output < 0:
            return
        if self._kept > MAX_KEPT:
            self._pause()
        else:
            asyncio.get_running_loop().add_reader(self._output, self._read_output)

    def _read_output(self) -> bool:
        """Take what the task has written; False when nothing is left to read."""
        try:
            data = os.read(self._output, 1 << 16)
        except BlockingIOError:
            return False
        if not data:
            asyncio.get_running_loop().remove_reader(self._output)
            return False
        whole, newline, self._partial = (self._partial + data).rpartition(b"\n")
        if len(self._partial) > MAX_LINE:
            whole, newline, self._partial = whole + newline + self._partial, b"\n", b""
        if newline:
            self._say("log", text=whole.decode(errors="replace"))
            self._kept += len(whole)
        if self._kept > MAX_KEPT:
            self._pause()
        return True

    def _read_channel(self) -> bool:
        assert self._channel is not None
        try:
            data = self._channel.recv(1 << 16)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if not data:
            asyncio.get_running_loop().remove_reader(self._channel.fileno())
            return False
        *lines, self._channel_partial = (self._channel_partial + data).split(b"\n")
        for line in lines:
            message = json.loads(line)
            self._ended = self._ended or message["kind"] in ("finished", "failed")
            if message["kind"] == "step":
                self._step = message
            self._say(message.pop("kind"), **message)
        return True

    def _read_control(self) -> None:
        """An answer of the warm process, or its end."""
        assert self._control is not None
        try:
            data = self._control.recv(1 << 16)
        except OSError:
            data = b""
        answer = json.loads(data) if data else {"exited": None}
        if "started" in answer:
            self._pid = int(answer["started"] or 0)
            self._say("task_started", pid=self._pid, how=answer["how"], reason=answer["reason"])
            self._watching = asyncio.get_running_loop().create_task(self._watch(self._pid))
        elif "refused" in answer:
            self._say("lost", reason=answer["refused"])
        else:
            self._process_ended(answer["exited"])

    def _process_ended(self, code: int | None) -> None:
        if code is None and self._pid:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._pid, 9)  # the warm process, which does so otherwise, is gone
        while self._read_output():
            pass
        while self._read_channel():
            pass
        if self._partial:
            self._say("log", text=self._partial.decode(errors="replace"))
        if not self._ended:
            kind, data = exit_message(code)
            self._say(kind, **data)
        self._forget()
        self._exited.set()

    def _forget(self) -> None:
        """Close what belongs to the last process; the port stays held."""
        loop = asyncio.get_running_loop()
        if self._watching is not None:
            self._watching.cancel()
            self._watching = None
        self._step = {}
        for connection in (self._control, self._channel):
            if connection is not None:
                loop.remove_reader(connection.fileno())
                connection.close()
        for fd in (self._output, self._stacks):
            if fd >= 0:
                loop.remove_reader(fd)
                os.close(fd)
        self._control = self._channel = None
        self._output = self._stacks = -1
        self._partial = self._channel_partial = b""


def exit_message(code: int | None) -> Message:
    """What the end of a process means that did not say itself how it ended.

    Args:
        code: exit code, minus the signal's number, or None when the warm process is gone.
    """
    if code is None:
        return "lost", {"reason": "the warm process that it was forked from is gone"}
    if code == 0:
        return "finished", {"value": None}
    if code < 0:
        return "lost", {"reason": f"its process was ended by {signal_name(-code)}"}
    return "failed", {"type": "exit", "message": f"the process ended with exit code {code}", "exit_code": code}
