"""A kubelet as far as the API server needs one for logs and forwarded ports: it serves what a test says."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import threading
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

from aiohttp import WSMsgType, web

from deploy.e2e.control_plane import ControlPlane
from tests.kubernetes.space import Space


class Kubelet:
    """Logs by Pod, which a test may add to, and ports of this machine that stand for those of a Pod."""

    def __init__(self) -> None:
        self.port = 0
        self.ports: dict[int, int] = {}
        self.anywhere = False
        self.starting: set[str] = set()
        self.asked: list[str] = []
        self._logs: dict[str, list[str]] = {}
        self._ended: set[str] = set()
        self._broken = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="kubelet", daemon=True)
        self._news = asyncio.Event()
        self._ticks = 0

    def write(self, pod: str, *lines: str) -> None:
        """Have a Pod write lines."""

        def add() -> None:
            for line in lines:
                self._ticks += 1
                time = datetime.now(timezone.utc).strftime(f"%Y-%m-%dT%H:%M:%S.{self._ticks:09d}Z")
                self._logs.setdefault(pod, []).append(f"{time} {line}\n")
            self._wake()

        self._loop.call_soon_threadsafe(add)

    def end(self, pod: str) -> None:
        """Have a Pod end, and with it whoever follows its log."""
        self._loop.call_soon_threadsafe(self._ended.add, pod)
        self._loop.call_soon_threadsafe(self._wake)

    def break_connections(self) -> None:
        """End all logs that are followed, as when a connection breaks."""

        def cut() -> None:
            self._broken += 1
            self._wake()

        self._loop.call_soon_threadsafe(cut)

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    async def _log(self, request: web.Request) -> web.StreamResponse:
        pod, follow = request.match_info["pod"], request.query.get("follow") == "true"
        self.asked.append(request.path_qs)
        if pod in self.starting:
            raise web.HTTPBadRequest(text=f'container "x" in pod "{pod}" is waiting to start: ContainerCreating')
        answer = web.StreamResponse()
        await answer.prepare(request)
        sent, broken = 0, self._broken
        while True:
            news, lines = self._news, self._logs.get(pod, [])
            for line in lines[sent:]:
                await answer.write(line.encode())
            sent = len(lines)
            if not follow or pod in self._ended:
                return answer
            await news.wait()
            if self._broken != broken:
                assert request.transport is not None
                request.transport.abort()
                return answer

    def _near(self, number: int) -> int:
        """The port of this machine that stands for one of a Pod; with `anywhere`, the same one."""
        return self.ports.get(number, number) if self.anywhere else self.ports[number]

    async def _forward(self, request: web.Request) -> web.WebSocketResponse:
        number = int(request.query["port"])
        socket = web.WebSocketResponse(protocols=("v4.channel.k8s.io",))
        await socket.prepare(request)
        for channel in (0, 1):
            await socket.send_bytes(bytes([channel]) + number.to_bytes(2, "little"))
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._near(number))
        except (OSError, KeyError) as error:
            await socket.send_bytes(b"\1" + f"nobody listens: {error}".encode())
            return socket

        async def back() -> None:
            while data := await reader.read(65536):
                await socket.send_bytes(b"\0" + data)
            await socket.close()

        task = asyncio.ensure_future(back())
        async for message in socket:
            if message.type == WSMsgType.BINARY and message.data[:1] == b"\0":
                writer.write(message.data[1:])
                await writer.drain()
        task.cancel()
        writer.close()
        return socket

    @contextlib.contextmanager
    def serving(self, certificate: tuple[Path, Path]) -> Iterator[Kubelet]:
        """Serve until the block ends."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(*certificate)
        app = web.Application()
        app.router.add_get("/containerLogs/{namespace}/{pod}/{container}", self._log)
        app.router.add_get("/portForward/{namespace}/{pod}", self._forward)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        self._thread.start()

        async def start() -> int:
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
            await site.start()
            return int(runner.addresses[0][1])

        self.port = asyncio.run_coroutine_threadsafe(start(), self._loop).result(10)
        try:
            yield self
        finally:
            self.break_connections()
            asyncio.run_coroutine_threadsafe(runner.cleanup(), self._loop).result(10)
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(10)
            self._loop.close()


@contextlib.contextmanager
def kubelet(plane: ControlPlane, space: Space, node: str) -> Iterator[Kubelet]:
    """A node of that name, and its kubelet."""
    with Kubelet().serving(plane.authority.sign(node, f"system:node:{node}", hosts=["127.0.0.1"])) as made:
        space.create({"apiVersion": "v1", "kind": "Node", "metadata": {"name": node}})
        addresses = [{"type": "InternalIP", "address": "127.0.0.1"}]
        endpoints = {"kubeletEndpoint": {"Port": made.port}}
        space.set_status("node", node, addresses=addresses, daemonEndpoints=endpoints)
        yield made
