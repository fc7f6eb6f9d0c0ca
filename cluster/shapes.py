"""Whether what was read from a run directory has the shape that readers rely on: events, and a result. Pure."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

from cluster.events import Event
from cluster.spec_parts import ROLE_ORDER
from cluster.tasks import Task, task_named

Check = Callable[[Any], bool]


def _number(value: Any) -> bool:
    """Whether a float holds it, and it is finite."""
    return isinstance(value, int | float) and abs(value) <= sys.float_info.max


def _number_or_none(value: Any) -> bool:
    return value is None or _number(value)


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _mapping(value: Any) -> bool:
    return isinstance(value, Mapping)


def _list(value: Any) -> bool:
    """Of names."""
    return isinstance(value, list | tuple) and all(map(_text, value))


def _metrics(value: Any) -> bool:
    """Of numbers, also those that are not finite; one may be text, such as `NaN`."""
    return isinstance(value, Mapping) and all(map(_floats, value.values()))


def _floats(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError, OverflowError):
        return False
    return True


def _task(task: Task) -> bool:
    return task.role in ROLE_ORDER and isinstance(task.index, int)


def _of_tasks(value: Any) -> bool:
    """A mapping whose keys are names of tasks."""
    try:
        return isinstance(value, Mapping) and all(_task(task_named(name)) for name in value)
    except (AttributeError, TypeError, ValueError):
        return False


def _samples(value: Any) -> bool:
    return _of_tasks(value) and all(
        _mapping(part) and _number(part.get("cpus")) and _number(part.get("memory")) for part in value.values()
    )


#: What a value must be, by kind of event and key, where it is there; and keys that must be there.
_VALUES: Mapping[str, Mapping[str, Check]] = {
    "attempt_started": {"within": _number_or_none},
    "placed": {"nodes": _of_tasks},
    "step": {
        "step": _number, "metrics": _metrics, "input_busy": _number, "batch": _number_or_none,
        "total": _number_or_none, "steps": _number_or_none, "epochs": _number_or_none,
    },
    "evaluated": {"step": _number, "metrics": _metrics},
    "checkpoint": {"step": _number},
    "usage": {"tasks": _samples},
    "profile": {"tasks": _mapping, "folder": _text},
    "hang": {"tasks": _list},
    "node_draining": {"tasks": _list, "seconds": _number_or_none},
    "restarting": {"after": _number},
    "run_ended": {"status": _text},
}  # fmt: skip
_NEEDED = {
    "placed": "nodes",
    "step": "step",
    "evaluated": "step",
    "checkpoint": "step",
    "run_ended": "status",
    "profile": "status",
}
_RESULT: Mapping[str, Check] = {
    "status": _text, "seconds": _number, "attempts": _number, "steps": _number, "metrics": _metrics,
}  # fmt: skip


def is_event(event: Event) -> bool:
    """Whether an event that a line told can be one of ours; kinds that are not known are taken."""
    data = event.data
    if not (_text(event.kind) and _number(event.at) and isinstance(event.attempt, int)):
        return False
    if event.task is not None and not _task(event.task):
        return False
    needed = _NEEDED.get(event.kind)
    return (needed is None or needed in data) and _fit(data, _VALUES.get(event.kind, {}))


def is_result(document: object) -> bool:
    """Whether the document in `result.json` can be a run's result."""
    return isinstance(document, Mapping) and _fit(document, _RESULT)


def _fit(document: Mapping[str, Any], checks: Mapping[str, Check]) -> bool:
    return all(check(document[key]) for key, check in checks.items() if key in document)
