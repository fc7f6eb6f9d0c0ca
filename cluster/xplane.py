"""Reads the file that TensorFlow's profiler writes, an XSpace, with protobuf alone.

The messages are declared here, with the numbers of tsl/profiler/protobuf/xplane.proto, which TensorFlow 2.17 to 2.21
share: neither TensorFlow, whose import takes seconds, nor xprof is needed to read a trace.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from cluster.errors import StorageError

_INT64, _UINT64, _DOUBLE, _STRING, _BYTES = 3, 4, 1, 9, 12
_MESSAGE = 11
_OPTIONAL, _REPEATED = 1, 3
#: Message → its fields: name, number, and a type of protobuf's or the name of a message, which is repeated if it has *.
_SCHEMA: Mapping[str, Sequence[tuple[str, int, int | str]]] = {
    "XSpace": [("planes", 1, "*XPlane")],
    "XPlane": [
        ("name", 2, _STRING),
        ("lines", 3, "*XLine"),
        ("event_metadata", 4, "*EventEntry"),
        ("stat_metadata", 5, "*StatEntry"),
        ("stats", 6, "*XStat"),
    ],
    # The two maps of a plane, as the entries that they are on the wire.
    "EventEntry": [("key", 1, _INT64), ("value", 2, "XEventMetadata")],
    "StatEntry": [("key", 1, _INT64), ("value", 2, "XStatMetadata")],
    "XEventMetadata": [("name", 2, _STRING), ("display_name", 4, _STRING)],
    "XStatMetadata": [("name", 2, _STRING)],
    "XLine": [("id", 1, _INT64), ("name", 2, _STRING), ("timestamp_ns", 3, _INT64), ("events", 4, "*XEvent")],
    "XEvent": [
        ("metadata_id", 1, _INT64),
        ("offset_ps", 2, _INT64),
        ("duration_ps", 3, _INT64),
        ("stats", 4, "*XStat"),
    ],
    "XStat": [
        ("metadata_id", 1, _INT64),
        ("double_value", 2, _DOUBLE),
        ("uint64_value", 3, _UINT64),
        ("int64_value", 4, _INT64),
        ("str_value", 5, _STRING),
        ("bytes_value", 6, _BYTES),
        ("ref_value", 7, _UINT64),
    ],
}


@dataclass(frozen=True)
class Line:
    """What one thread, or one stream of a device, did.

    Attributes:
        name: of the thread; the part after `/` tells threads of one name apart.
        start: picoseconds from the beginning of the trace, to which each event's `offset_ps` is to be added.
        events: XEvent messages with `metadata_id`, `offset_ps`, `duration_ps` and `stats`, by their start.
    """

    name: str
    id: int
    start: int
    events: Sequence[Any]


class Plane:
    """The host, a device, or the profiler's notes about itself.

    Attributes:
        lines: its threads or streams.
        names: of events, and what they are shown as, by `metadata_id`.
    """

    def __init__(self, message: Any) -> None:
        self.name: str = message.name
        self.lines = [Line(m.name, m.id, m.timestamp_ns * 1000, m.events) for m in message.lines]
        self.names = {e.key: (str(e.value.name), str(e.value.display_name)) for e in message.event_metadata}
        self._stat_names = {e.key: str(e.value.name) for e in message.stat_metadata}
        self.stats = self.stats_of(message)

    def stats_of(self, message: Any) -> dict[str, Any]:
        """What an event, or the plane, says of itself, by name."""
        return dict(map(self._stat, message.stats))

    def _stat(self, stat: Any) -> tuple[str, Any]:
        which = stat.WhichOneof("value")
        value = getattr(stat, which) if which else None
        return self._stat_names.get(stat.metadata_id, ""), self._stat_names.get(
            value
        ) if which == "ref_value" else value


def read_planes(path: Path) -> Iterator[Plane]:
    """The planes of the trace in the file `path`.

    Raises:
        StorageError: there is no such file, or it is no trace, or not a whole one.
    """
    try:
        space = message_class("XSpace").FromString(path.read_bytes())
    except OSError as error:
        raise StorageError("cannot read the trace", path, str(error.strerror)) from None
    except DecodeError:
        raise StorageError("the trace is damaged", path, "trace again") from None
    if not space.planes:
        raise StorageError("the file holds no trace", path, "trace again")
    yield from map(Plane, space.planes)


def cut_planes(data: bytes) -> Iterator[tuple[str, bytes]]:
    """The planes of a trace as they are in its file, each with its name, without reading what is in them."""
    for number, begin, start, end in _fields(data, 0, len(data)):
        if number == 1:
            names = (data[a:b] for field, _, a, b in _fields(data, start, end) if field == 2)
            yield next(names, b"").decode(errors="replace"), data[begin:end]


def _fields(data: bytes, at: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Number, beginning, content's beginning and end of each field of a message (protobuf's wire format)."""
    while at < end:
        begin = at
        key, at = _varint(data, at)
        kind = key & 7
        if kind == 2:
            size, at = _varint(data, at)
        elif kind == 0:
            size = _varint(data, at)[1] - at
        else:
            size = {1: 8, 5: 4}[kind]
        yield key >> 3, begin, at, at + size
        at += size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """The number at a place, and where what follows begins."""
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7


@functools.cache
def message_class(name: str) -> Any:
    """The class of one of the messages above, in a pool of its own: TensorFlow may have declared them, too."""
    pool = descriptor_pool.DescriptorPool()
    pool.Add(_file())  # type: ignore[no-untyped-call,unused-ignore]
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"tfcluster.{name}"))  # type: ignore[no-untyped-call,unused-ignore]


def _file() -> Any:
    file = descriptor_pb2.FileDescriptorProto(name="tfcluster/xplane.proto", package="tfcluster", syntax="proto3")
    for name, fields in _SCHEMA.items():
        message = file.message_type.add(name=name)
        for field_name, number, kind in fields:
            many = isinstance(kind, str) and kind.startswith("*")
            field = message.field.add(name=field_name, number=number, label=_REPEATED if many else _OPTIONAL)
            if isinstance(kind, str):
                field.type, field.type_name = _MESSAGE, f".tfcluster.{kind.lstrip('*')}"
            else:
                field.type = kind
        if name == "XStat":
            message.oneof_decl.add(name="value")
            for field in message.field[1:]:
                field.oneof_index = 0
    return file
