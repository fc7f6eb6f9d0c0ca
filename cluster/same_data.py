"""Whether all tasks that share the rows of a dataset see the same rows, from what each tells the launcher. Pure.

Each task lists and opens the files by itself: a file that lands meanwhile, or one that a single task cannot read, would
give it other rows and another number of batches, and the others would wait for it without end.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cluster.events import Event
from pipelines.errors import DataError
from pipelines.listing import counts, difference, digest, packed

if TYPE_CHECKING:
    from pipelines.reader import Reader


def told(name: str, nth: int, reader: Reader) -> dict[str, Any]:
    """What a task tells of a dataset that it shares with others: the data of a `data_listed` event.

    Args:
        name: of the dataset, as errors have it.
        nth: how many of that name the task has made before.
        reader: of the task's share.
    """
    plan, units = reader.plan, reader.units
    order = f"{plan.shuffle} {plan.seed} {plan.sharding}"
    return {
        "name": name,
        "nth": nth,
        "digest": f"{digest(units)} {order}",
        "counts": counts(units),
        "order": order,
        "files": packed(units),
        "skipped": str(reader.skipped) if reader.skipped else "",
    }


@dataclass
class SameData:
    """What was told first in this attempt of each dataset."""

    first: dict[tuple[str, int], Event] = field(default_factory=dict)

    def take(self, event: Event) -> list[Event]:
        """Compare what a task tells with what another told first; where they differ, the failure of the task."""
        first = self.first.setdefault((event.data["name"], event.data["nth"]), event)
        if first.data["digest"] == event.data["digest"]:
            return []
        message = str(_refusal(first, event))
        failure = {"type": "DataError", "message": message, "traceback": f"DataError: {message}", "exit_code": 1}
        return [Event("failed", event.attempt, event.task, failure)]

    def forget(self) -> None:
        """The attempt is over."""
        self.first.clear()


def _refusal(first: Event, event: Event) -> DataError:
    pair = sorted((first, event), key=lambda one: str(one.task))
    differs = difference(*(str(one.data["files"]) for one in pair))
    seen = [f"{one.task}: {one.data['counts']}" for one in pair]
    seen.append(f"first difference: {differs}" if differs else f"orders: {' and '.join(o.data['order'] for o in pair)}")
    seen += [f"{one.task}: {one.data['skipped']}" for one in pair if one.data["skipped"]]
    todo = "run again when the files no longer change and every task can read all of them"
    return DataError(f"{event.data['name']} is not the same on all tasks", "; ".join(seen), todo)
