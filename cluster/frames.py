"""Byte strings over a stream socket, each with its length before it."""

from __future__ import annotations

import socket
import struct

_LENGTH = struct.Struct("!Q")


def send(connection: socket.socket, frame: bytes) -> None:
    """Write `frame` to `connection` (blocking)."""
    connection.sendall(_LENGTH.pack(len(frame)) + frame)


def receive(connection: socket.socket) -> bytes:
    """Read one frame from `connection` (blocking).

    Raises:
        EOFError: the other side went away first.
    """
    (length,) = _LENGTH.unpack(_exactly(connection, _LENGTH.size))
    return _exactly(connection, length)


def _exactly(connection: socket.socket, count: int) -> bytes:
    parts = bytearray()
    while len(parts) < count:
        part = connection.recv(min(count - len(parts), 1 << 20))
        if not part:
            raise EOFError("the supervisor closed the connection")
        parts += part
    return bytes(parts)
