"""Writes traces as TensorFlow's profiler does, for what no recorded trace of `tests/data/traces` holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cluster.trace_events import Activity, activity_of
from cluster.xplane import Plane, message_class

MS = 10**9
#: Name, start and length in ms, and what the event says of itself; `name:Type` is shown as `Type`.
Event = tuple[str, float, float] | tuple[str, float, float, Mapping[str, Any]]
Lines = Mapping[str, Sequence[Event]]


def space(planes: Mapping[str, Lines], length: float = 1000) -> bytes:
    """A trace of `length` ms with these planes, threads or streams, and events."""
    message = message_class("XSpace")()
    for name, lines in planes.items():
        _add_plane(message, name, lines)
    notes = message.planes.add(name="Task Environment")
    _stats(notes.stats, notes, {"profile_start_time": 10**18, "profile_stop_time": 10**18 + int(length * 10**6)})
    return bytes(message.SerializeToString())


def activity(host: Lines, devices: Mapping[str, Lines] | None = None, length: float = 1000) -> Activity:
    """What a task did whose trace has these threads, and streams of devices."""
    message = message_class("XSpace").FromString(space({"/host:CPU": host, **(devices or {})}, length))
    return activity_of(map(Plane, message.planes))


def _add_plane(message: Any, name: str, lines: Lines) -> None:
    plane = message.planes.add(name=name)
    known: dict[str, int] = {}
    for number, (thread, events) in enumerate(lines.items()):
        line = plane.lines.add(id=number + 1, name=thread, timestamp_ns=1000)
        for event, start, length, *stats in sorted(events, key=lambda e: (e[1], -e[2])):
            if event not in known:
                known[event] = len(known) + 1
                entry = plane.event_metadata.add(key=known[event])
                entry.value.name = event
                entry.value.display_name = event.rpartition(":")[2] if "::" not in event and ": " not in event else ""
            added = line.events.add(metadata_id=known[event])
            added.offset_ps, added.duration_ps = round(start * MS) - 1000 * 1000, round(length * MS)
            _stats(added.stats, plane, stats[0] if stats else {})


def _stats(stats: Any, plane: Any, values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        found = next((e.key for e in plane.stat_metadata if e.value.name == name), 0)
        if not found:
            found = len(plane.stat_metadata) + 1
            plane.stat_metadata.add(key=found).value.name = name
        stat = stats.add(metadata_id=found)
        if isinstance(value, str):
            stat.str_value = value
        else:
            stat.int64_value = value
