"""Where the steps of one task begin, and what each part of them went into. Pure."""

from __future__ import annotations

import itertools
import re
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from cluster.intervals import Cover
from cluster.trace_events import Activity, Mark, Operation

#: What a step's time goes into, in the order in which an instant is counted where several go on at once.
PARTS = ("compute", "input", "communication", "runtime", "other")
#: A step this many times longer than the middle one is a pause, an epoch's end or a checkpoint, unless it is so long
#: because it waits for input for more than half of the time.
PAUSE = 20
#: Calls of a function that make it the step, if nothing is marked as one.
_FEWEST_CALLS = 3
#: Names of steps that do not train, as Keras calls them.
_NOT_TRAINING = ("test", "predict", "evaluate", "valid")
#: Stages of the input pipeline that only wait for another thread.
_WAITING = ("Prefetch", "Root")
_SECOND = 10**12


class StepTimes(NamedTuple):
    """Times of the steps of one task, in seconds, from the start of each to the start of the next.

    Attributes:
        source: how the steps are known, for a person; empty if they are not.
        count: steps in the trace.
        pauses, paused: how many steps took very much longer and are left out of the others, and their time.
    """

    source: str = ""
    count: int = 0  # type: ignore[assignment]  # hides tuple.count, which nobody asks for
    mean: float = 0.0
    median: float = 0.0
    p95: float = 0.0
    longest: float = 0.0
    pauses: int = 0
    paused: float = 0.0


class Cost(NamedTuple):
    """One operation, or one stage of the input pipeline: how often it ran, and for how many seconds, a step."""

    what: Operation
    calls: float
    seconds: float


class Shares(NamedTuple):
    """What one task did with its steps.

    Attributes:
        task: such as `worker-0`.
        traced: seconds of the trace.
        steps: how long the steps took.
        parts: share of the steps' time by part, of `PARTS`; they sum to 1. Without steps, of the whole trace.
        feed: share of the steps' time in which the busiest thread of the input pipeline had work, or waited for it:
            near 1 the pipeline never rests.
        operations: the heaviest first.
        stages: of the input pipeline, the heaviest first, without the time of stages that they read from; none that
            only waits for another thread.
        preparing: operations within the input pipeline, the heaviest first.
        eager: operations a step that Python ran one by one.
        traced_anew: how often each tf.function was traced anew.
        gpus: the GPUs of the task that were traced.
    """

    task: str
    traced: float
    steps: StepTimes
    parts: Mapping[str, float]
    feed: float = 0.0
    operations: Sequence[Cost] = ()
    stages: Sequence[Cost] = ()
    preparing: Sequence[Cost] = ()
    eager: float = 0.0
    traced_anew: Mapping[str, int] = {}
    gpus: Sequence[str] = ()

    def seconds(self, part: str) -> float:
        """Of one part, a step."""
        return self.parts[part] * self.steps.mean


def shares_of(task: str, activity: Activity) -> Shares:
    """What `task` did with its steps."""
    source, thread, marks = find_steps(activity)
    each = _steps_a_mark(marks)
    windows, steps = _windows(source, marks, each, activity.input)
    if not windows:
        windows = Cover([(0, activity.length)])
    count = max(1, steps.count)
    # Operations are counted in the whole trace, in which there are somewhat more steps than whole ones.
    scale = count * max(1.0, (activity.seen - steps.paused * _SECOND) / max(1, windows.length)) if steps.count else 1.0
    return Shares(
        task=task,
        traced=activity.length / _SECOND,
        steps=steps,
        parts=_parts(activity, windows),
        feed=max((feed.within(windows) / max(1, windows.length) for feed in activity.feeds), default=0.0),
        operations=_costs(activity.operations.items(), scale),
        stages=_costs(_stages(activity), scale),
        preparing=_costs(((what, (0, ps)) for what, ps in activity.preparing.items()), scale),
        eager=activity.eager[thread] / scale,
        traced_anew=dict(activity.traced),
        gpus=activity.gpus,
    )


def find_steps(activity: Activity) -> tuple[str, int, list[Mark]]:
    """How the steps are known, on which thread they are, and where they begin; "" and nothing if they are not known."""
    sources = (
        ("marked {}", activity.marks, 2),
        ("calls of {}", activity.calls, _FEWEST_CALLS),
        ("calls of {} by the coordinator", activity.remote, _FEWEST_CALLS),
    )
    for how, candidates, fewest in sources:
        found = {key: marks for key, marks in candidates.items() if len(marks) >= fewest}
        if found:
            key = max(found, key=lambda key: (not _is_test(key[1]), sum(m.end - m.start for m in found[key])))
            return how.format(key[1]), key[0], sorted(found[key])
    return "", 0, []


def _is_test(name: str) -> bool:
    return any(word in name.lower() for word in _NOT_TRAINING)


def _steps_a_mark(marks: Sequence[Mark]) -> int:
    """Steps from a mark to the next: Keras marks those that it executes in one go once."""
    numbers = [b.number - a.number for a, b in itertools.pairwise(marks) if b.number > a.number]
    return round(statistics.median(numbers)) if numbers else 1


def _windows(source: str, marks: Sequence[Mark], each: int, waits: Cover) -> tuple[Cover, StepTimes]:
    """The time of the steps without pauses, and how long they took."""
    spans = [(a.start, b.start) for a, b in itertools.pairwise(marks) if b.start > a.start]
    if not spans:
        return Cover(), StepTimes()
    limit = PAUSE * statistics.median(b - a for a, b in spans)
    kept = [s for s in spans if s[1] - s[0] <= limit or 2 * waits.within(Cover([s])) > s[1] - s[0]]
    paused = [b - a for a, b in set(spans) - set(kept)]
    seconds = np.array([b - a for a, b in kept]) / each / _SECOND
    middle, late = np.quantile(seconds, (0.5, 0.95))
    steps = StepTimes(
        source,
        len(kept) * each,
        float(seconds.mean()),
        float(middle),
        float(late),
        float(seconds.max()),
        len(paused),
        sum(paused) / _SECOND,
    )
    return Cover(kept), steps


def _parts(activity: Activity, windows: Cover) -> dict[str, float]:
    """Each instant goes to the first part of the order that was going on then."""
    whole = max(1, windows.length)
    shares, seen, before = {}, Cover(), 0
    for part in PARTS[:-1]:
        seen = seen | getattr(activity, part)
        now = seen.within(windows)
        shares[part] = (now - before) / whole
        before = now
    return {**shares, PARTS[-1]: 1 - before / whole}


def _costs(rows: Iterable[tuple[Operation, Sequence[int]]], scale: float) -> list[Cost]:
    costs = [Cost(what, calls / scale, ps / _SECOND / scale) for what, (calls, ps) in rows]
    return sorted(costs, key=lambda cost: -cost.seconds)


def _stages(activity: Activity) -> Iterable[tuple[Operation, Sequence[int]]]:
    """Stages by the transformation that they are, `Map` of `Iterator::Root::Prefetch::Map[0]`; equal ones as one."""
    found: dict[Operation, list[int]] = defaultdict(lambda: [0, 0])
    for name, (calls, duration) in activity.stages.items():
        plain = re.sub(r"\[\d+\]", "", name)
        kind = plain.rpartition("::")[2]
        if kind not in _WAITING:
            row = found[Operation(kind, plain)]
            row[:] = row[0] + calls, row[1] + duration
    return found.items()
