"""The verdict on one capture: what each task did with its steps, what limits them, and what to try."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cluster.advice import ORDINARY, About, advise, plain_type, remarks, sentence_of
from cluster.bottleneck import Bottleneck, find_bottleneck, own
from cluster.capture import SUFFIX
from cluster.errors import StorageError
from cluster.spec_parts import ROLE_ORDER
from cluster.trace_events import Operation, activity_of
from cluster.trace_shares import Cost, Shares, shares_of
from cluster.xplane import read_planes

#: Operations, and stages of the input pipeline, that a verdict lists.
_LISTED = 20


@dataclass(frozen=True)
class Verdict:
    """What one capture says of a job.

    Attributes:
        sentence: the whole in one line.
        bottleneck: what limits the steps.
        notes: what else was seen.
        advice: what to try, the most promising first.
        tasks: what each task did.
        operations, stages: calls and seconds a step, in the mean of the tasks that make the steps; the heaviest first.
        missing: tasks without a trace, and why.
    """

    sentence: str
    bottleneck: Bottleneck = field(default_factory=Bottleneck)
    notes: tuple[str, ...] = ()
    advice: tuple[str, ...] = ()
    tasks: tuple[Shares, ...] = ()
    operations: tuple[Cost, ...] = ()
    stages: tuple[Cost, ...] = ()
    missing: Mapping[str, str] = field(default_factory=dict)

    def to_document(self) -> dict[str, Any]:
        """What verdict.json holds; times in seconds."""
        found = self.bottleneck
        return {
            "sentence": self.sentence,
            "limit": found.limit,
            "step": found.step,
            "at_best": found.at_best,
            "pace": found.pace.task if found.pace else None,
            "parts": dict(found.parts),
            "stragglers": [s._asdict() for s in found.stragglers],
            "notes": list(self.notes),
            "advice": list(self.advice),
            "tasks": [self._task(task) for task in self.tasks],
            "operations": _listed(self.operations),
            "stages": _listed(self.stages),
            "missing": dict(self.missing),
        }

    def _task(self, task: Shares) -> dict[str, Any]:
        compared = task in self.bottleneck.compared
        return {
            "task": task.task,
            "traced": task.traced,
            "steps": task.steps._asdict(),
            "compared": compared,
            "own": own(task, self.bottleneck.served) if compared else None,
            "shares": dict(task.parts),
            "feed": task.feed,
            "eager": task.eager,
            "gpus": list(task.gpus),
        }


def judge_folder(folder: Path, *, strategy: str, missing: Mapping[str, str], about: About = ORDINARY) -> Verdict:
    """The verdict on the traces `<task>.xplane.pb` in `folder`.

    Args:
        folder: of one capture.
        strategy: of the spec: which tasks make steps, and whether they keep in step.
        missing: tasks that were to be traced and left no trace, and why. A trace that cannot be read is added.
        about: the job and its capture.
    """
    tasks, gone = [], dict(missing)
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        task = path.name.removesuffix(SUFFIX)
        try:
            tasks.append(shares_of(task, activity_of(read_planes(path))))
        except StorageError as error:
            gone[task] = error.happened
    return judge(tasks, strategy=strategy, missing=gone, about=about)


def judge(tasks: Iterable[Shares], *, strategy: str, missing: Mapping[str, str], about: About = ORDINARY) -> Verdict:
    """The verdict on what `tasks` did with their steps."""
    ordered = tuple(sorted(tasks, key=lambda t: _place(t.task)))
    found = find_bottleneck(ordered, strategy)
    operations = _together([task.operations for task in found.compared])
    return Verdict(
        sentence=sentence_of(found, ordered, operations, about),
        bottleneck=found,
        notes=(*_of_missing(missing), *remarks(found, ordered, about)),
        advice=tuple(advise(found, ordered, about)),
        tasks=ordered,
        operations=operations,
        stages=_together([task.stages for task in found.compared]),
        missing=dict(sorted(missing.items(), key=lambda item: _place(item[0]))),
    )


def _place(task: str) -> tuple[int, str, float]:
    """Where a task stands in tables: by its role, then by its index."""
    role, _, index = task.rpartition("-")
    roles: Sequence[str] = ROLE_ORDER
    return (roles.index(role) if role in roles else len(roles), role, int(index) if index.isdigit() else math.inf)


def _together(tables: Sequence[Sequence[Cost]]) -> tuple[Cost, ...]:
    """The costs of several tasks, in their mean, each operation by the name that people know."""
    sums: dict[Operation, tuple[float, float]] = defaultdict(lambda: (0.0, 0.0))
    for table in tables:
        for cost in table:
            what = cost.what._replace(type=plain_type(cost.what.type))
            calls, seconds = sums[what]
            sums[what] = (calls + cost.calls, seconds + cost.seconds)
    costs = [Cost(what, calls / len(tables), seconds / len(tables)) for what, (calls, seconds) in sums.items()]
    return tuple(sorted(costs, key=lambda cost: -cost.seconds))


def _listed(costs: Sequence[Cost]) -> list[dict[str, Any]]:
    return [
        {**cost.what._asdict(), "moves_data": cost.what.moves_data, "calls": cost.calls, "seconds": cost.seconds}
        for cost in costs[:_LISTED]
    ]


def _of_missing(missing: Mapping[str, str]) -> list[str]:
    return [f"no trace of {task}: {why}" for task, why in sorted(missing.items(), key=lambda item: _place(item[0]))]
