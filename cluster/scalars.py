"""TensorBoard's scalars, written without TensorFlow: the launcher has none.

An event file is a TFRecord file of `tensorflow.Event` messages, of which five fields are needed here; their numbers
have not changed since 2015. tensorboardX would bring protobuf, of which each TensorFlow wants another version.
"""

from __future__ import annotations

import math
import os
import socket
import struct
from collections.abc import Mapping

import numpy as np

from pipelines import crc

#: The largest step that an event file can hold.
MOST_STEPS = 2**63 - 1


def event_file(at: float) -> str:
    """The name of an event file that begins at `at` (seconds since the Unix epoch), by which TensorBoard knows one."""
    return f"events.out.tfevents.{int(at):010d}.{socket.gethostname()}.{os.getpid()}.tfcluster"


def header(at: float) -> bytes:
    """What every event file begins with."""
    return _framed(_double(1, at) + _bytes(3, b"brain.Event:2"))


def scalars(at: float, step: int, values: Mapping[str, float]) -> bytes:
    """One point of each of some scalars, by tag.

    Args:
        at: seconds since the Unix epoch.
        step: on TensorBoard's horizontal axis; not negative.
        values: by tag.
    """
    found = b"".join(
        _bytes(1, _bytes(1, tag.encode(errors="replace")) + _float(2, value)) for tag, value in values.items()
    )
    return _framed(_double(1, at) + _varint(2 << 3) + _varint(step) + _bytes(5, found))


def start(at: float, step: int) -> bytes:
    """That an attempt begins with `step`; TensorBoard forgets the points from there on that one before has written."""
    status = _varint(1 << 3) + _varint(1)  # SessionLog.status is START
    return _framed(_double(1, at) + _varint(2 << 3) + _varint(step) + _bytes(7, status))


def _framed(record: bytes) -> bytes:
    """The record as it stands in a TFRecord file, see `pipelines.framing`."""
    # Not by pipelines.tfrecord_writer: Arrow imports pandas for it, which keeps the launcher for seconds.
    length = struct.pack("<Q", len(record))
    sums = crc.of_data(length + record, np.array([0, 8]), np.array([8, 8 + len(record)])).astype("<u4")
    return length + sums[:1].tobytes() + record + sums[1:].tobytes()


def _double(field: int, value: float) -> bytes:
    return _varint(field << 3 | 1) + struct.pack("<d", value)


def _float(field: int, value: float) -> bytes:
    try:
        packed = struct.pack("<f", value)
    except OverflowError:  # a double that no float32 can hold
        packed = struct.pack("<f", math.copysign(math.inf, value))
    return _varint(field << 3 | 5) + packed


def _bytes(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*found, value])
