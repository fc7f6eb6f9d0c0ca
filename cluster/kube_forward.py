"""`Forward`: a port of a Pod as a port of this machine, for as long as it is open."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from typing import Any

#: Bytes that are passed on at once.
_PIECE = 1 << 16


class Forward:
    """Listens on the loopback address, and passes each connection on to the Pod.

    Args:
        connect: gives a socket to the Pod's port; raises `ConnectionError` where it cannot.
        port: of this machine; 0 takes a free one.
        tell: is told when a connection cannot be passed on.

    Raises:
        OSError: the port is taken.
    """

    def __init__(self, connect: Callable[[], Any], port: int, tell: Callable[[str], None]) -> None:
        self._connect, self._tell = connect, tell
        self._listener = socket.create_server(("127.0.0.1", port))
        self.port = int(self._listener.getsockname()[1])
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._accept, name="tfcluster-forward", daemon=True)

    def __enter__(self) -> Forward:
        self._thread.start()
        return self

    def __exit__(self, *of: object) -> None:
        self._ended.set()
        with contextlib.suppress(OSError):  # wakes up accept, which close alone does not
            socket.create_connection(("127.0.0.1", self.port), timeout=1.0).close()
        self._thread.join(5.0)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            near, _ = self._listener.accept()
            if self._ended.is_set():
                near.close()
                return
            threading.Thread(target=self._pass_on, args=(near,), name="tfcluster-forwarded", daemon=True).start()

    def _pass_on(self, near: socket.socket) -> None:
        """Both ways, until either side ends."""
        try:
            far = self._connect()
        except ConnectionError as error:
            near.close()
            self._tell(f"a connection to the cluster failed: {error}")
            return
        back = threading.Thread(target=_copy, args=(far, near), name="tfcluster-forwarded-back", daemon=True)
        back.start()
        _copy(near, far)
        back.join()
        for end in (near, far):
            with contextlib.suppress(OSError):
                end.close()


def _copy(source: Any, target: Any) -> None:
    """Pass on what `source` sends until it ends; then tell both sides that nothing more comes."""
    with contextlib.suppress(OSError):
        while data := source.recv(_PIECE):
            target.sendall(data)
    for end in (source, target):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
