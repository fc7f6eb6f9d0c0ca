"""Which part of the step, and which task, limits a traced job. Pure.

Tasks that keep in step have the same step time, whoever causes it: the others wait for the slowest in communication.
So they are compared by their own part of the step, without communication; the task with the largest waits for nobody,
and what it spends on communication is what communication takes. An input pipeline that never rests is its task's own
part, too, though the task may be seen waiting in communication, for another one that waits for its input just then.

Workers of parameter servers do not wait for each other, but for the coordinator to hand them a step.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from cluster.trace_shares import PARTS, Shares

Limit = Literal["input", "compute", "communication", "runtime", "python", "coordinator", "unknown"]

#: A task whose own part of a step is this much of the step longer than that of the others holds them up.
STRAGGLES = 0.25
#: An input pipeline that works, or waits for files, this share of the time sets the pace of its task.
NEVER_RESTS = 0.9
#: Share of the steps from which on waiting for input limits them, whatever else is larger.
_MUCH_INPUT = 0.25
#: The same where the pipeline of every task hardly rests.
_SOME_INPUT = 0.15
_HARDLY_RESTS = 0.8
#: Roles with steps that are not the training's, the likeliest to be asked about first; a parameter server makes none.
_OTHERS = ("chief", "evaluator")


class Straggler(NamedTuple):
    """A task that the others wait for: seconds of a step that it needs itself, that the others need, and for what."""

    task: str
    own: float
    others: float
    limit: Limit


@dataclass(frozen=True)
class Bottleneck:
    """What limits a job.

    Attributes:
        limit: the part of the step; python is what is in no other part, without parameter servers.
        served: whether parameter servers hold the variables.
        compared: the tasks that make the steps of the training; where none of those has any, one other that has steps.
        alone: whether it is such another one.
        pace: the one of them that sets the pace.
        parts: seconds of a step, by part, that it goes into.
        at_best: seconds a step would take without that limit, at best; None where a trace cannot tell.
        stragglers: tasks that hold the others up, the worst first.
    """

    limit: Limit = "unknown"
    served: bool = False
    compared: tuple[Shares, ...] = ()
    alone: bool = False
    pace: Shares | None = None
    parts: Mapping[str, float] = field(default_factory=dict)
    at_best: float | None = None
    stragglers: tuple[Straggler, ...] = ()

    @property
    def coordinates(self) -> bool:
        """Whether the steps are those of a coordinator, which has workers make them."""
        return self.alone and self.served and self.pace is not None and _role(self.pace) == "chief"

    @property
    def step(self) -> float:
        """Seconds of a step."""
        return self.pace.steps.mean if self.pace else 0.0


def find_bottleneck(tasks: Sequence[Shares], strategy: str) -> Bottleneck:
    """What limits the job of `tasks`, of which each has a role's name before its last `-`."""
    served = strategy == "parameter_server" or any(_role(t) == "ps" for t in tasks)
    roles = ("worker",) if served else ("chief", "worker")
    compared = tuple(t for t in tasks if _role(t) in roles and t.steps.count)
    if not compared:
        return _alone(tasks, served)
    pace = max(compared, key=lambda t: own(t, served))
    stragglers = _stragglers(compared, served)
    if stragglers:
        slow = next(t for t in compared if t.task == stragglers[0].task)
        parts = {part: slow.seconds(part) for part in PARTS}
        at_best = slow.steps.mean - (stragglers[0].own - stragglers[0].others)
        return Bottleneck(stragglers[0].limit, served, compared, False, slow, parts, at_best, stragglers)
    parts = {part: statistics.fmean(t.seconds(part) for t in compared) for part in PARTS}
    parts["communication"] = pace.seconds("communication")
    limit = _limit(compared, parts, served)
    return Bottleneck(limit, served, compared, False, pace, parts, _at_best(compared, limit))


def _alone(tasks: Sequence[Shares], served: bool) -> Bottleneck:
    """What limits the steps of a coordinator or an evaluator, where no other task has any; they wait for nobody."""
    for task in (t for role in _OTHERS for t in tasks if _role(t) == role and t.steps.count):
        parts = {part: task.seconds(part) for part in PARTS}
        limit = _limit([task], parts, served=False)
        return Bottleneck(limit, served, (task,), True, task, parts, _at_best([task], limit))
    return Bottleneck(served=served)


def own(task: Shares, served: bool) -> float:
    """Seconds of a step that `task` needs itself, and does not wait for others."""
    if served:
        return task.steps.mean * (1 - task.parts["other"])
    feed = task.feed if task.feed > NEVER_RESTS else 0.0
    return task.steps.mean * max(1 - task.parts["communication"], feed)


def _role(task: Shares) -> str:
    return task.task.rpartition("-")[0]


def _stragglers(tasks: Sequence[Shares], served: bool) -> tuple[Straggler, ...]:
    found = []
    for task in tasks:
        rest = [t for t in tasks if t is not task]
        if not rest:
            return ()
        others = statistics.median(own(t, served) for t in rest)
        if own(task, served) - others > STRAGGLES * task.steps.mean:
            found.append(Straggler(task.task, own(task, served), others, _excess(task, rest, served)))
    return tuple(sorted(found, key=lambda s: -s.own))


def _excess(task: Shares, rest: Sequence[Shares], served: bool) -> Limit:
    """For what `task` needs longer than the others."""
    parts = {p: task.seconds(p) - statistics.median(t.seconds(p) for t in rest) for p in PARTS}
    if not served:
        del parts["communication"]
    if task.feed > NEVER_RESTS and all(t.feed < NEVER_RESTS for t in rest):
        return "input"
    return _name(max(parts, key=lambda part: parts[part]), served)


def _limit(tasks: Sequence[Shares], parts: Mapping[str, float], served: bool) -> Limit:
    waits = max(t.parts["input"] for t in tasks)
    starved = waits > _SOME_INPUT and all(t.feed > _HARDLY_RESTS for t in tasks)
    much = parts["input"] > _MUCH_INPUT * statistics.fmean(t.steps.mean for t in tasks)
    return "input" if starved or much else _name(max(parts, key=lambda part: parts[part]), served)


def _name(part: str, served: bool) -> Limit:
    names: dict[str, Limit] = {
        "compute": "compute",
        "input": "input",
        "communication": "communication",
        "runtime": "runtime",
        "other": "coordinator" if served else "python",
    }
    return names[part]


def _at_best(tasks: Sequence[Shares], limit: Limit) -> float | None:
    """Seconds of a step without that limit, where a trace can tell."""
    return _without_input(tasks) if limit == "input" else None


def _without_input(tasks: Sequence[Shares]) -> float:
    """Seconds of a step if no task ever waited for input: what else they do, and the communication that none avoids."""
    busy = max(sum(t.seconds(part) for part in ("compute", "runtime", "other")) for t in tasks)
    return busy + min(t.seconds("communication") for t in tasks)
