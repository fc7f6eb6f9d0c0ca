"""What several runs tell beside each other: short names, figures, and keys of their specs that differ. Pure."""

from __future__ import annotations

import itertools
import json
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cluster import run_text
from cluster.curves import Points
from cluster.locations import shown
from cluster.runs import Run
from cluster.secrets import without_secrets
from cluster.units import format_duration

#: Metrics among the figures, pictures of curves, and characters of a spec's value that are shown, at most.
MOST_METRICS, MOST_CURVES, _MOST_TEXT = 12, 40, 300
#: Keys of a spec that are compared, at most.
_MOST_KEYS = 2000
#: A returned whole number that is as large is no figure of a table, and more than a float can hold.
_MOST_WHOLE = 10**300
#: Words in a metric's name from which it is known which way is better; of several the last one counts.
_LOWER = {"loss", "error", "mae", "mse", "rmse", "mape", "msle", "nll", "perplexity", "crossentropy", "entropy", "wer"}
_HIGHER = {"accuracy", "acc", "auc", "precision", "recall", "f1", "iou", "dice", "r2", "bleu", "rouge", "reward"}
#: The curve of the pace, which is no metric.
PACE = "steps_per_second"


@dataclass(frozen=True)
class Row:
    """One thing that is told of each run.

    Attributes:
        label: what it is.
        cells: of each run, '' where it has none.
        best: places of the best, where it is known which way is better and one run differs from another.
    """

    label: str
    cells: tuple[str, ...]
    best: frozenset[int] = frozenset()


def labels(uris: Sequence[str]) -> list[str]:
    """A short name of each run: the end of its place, as long as it is another one for each; what all share is cut."""
    paths = [uri.partition("?")[0].rstrip("/").split("/") for uri in uris]
    longest = max(len(path) for path in paths)
    for count in range(1, longest + 1):
        names = ["/".join(path[-count:]) for path in paths]
        if len(set(names)) == len(names):
            break
    if len(names) < 2 or count > 1:
        return names
    words = [name.split("-") for name in names]
    shared = sum(1 for _ in itertools.takewhile(lambda word: len(set(word)) == 1, zip(*words, strict=False)))
    cut = min(shared, *(len(word) - 1 for word in words))
    return ["-".join(word[cut:]) for word in words]


def figures(runs: Sequence[Run], now: float) -> list[Row]:
    """What the runs came to, in numbers; rows that no run fills are left out."""
    speeds = [run.meters.steps_per_second(now) if run.status == "running" else run.meters.pace.average for run in runs]
    examples = [run.meters.examples(speed) for run, speed in zip(runs, speeds, strict=True)]
    rows = [
        Row("status", tuple(run.status for run in runs)),
        Row("duration", tuple(_duration_of(run) for run in runs)),
        Row("steps", tuple(_steps_of(run) for run in runs)),
        _numbers("steps a second", speeds, higher=True),
        _numbers("examples a second", examples, higher=True),
        *_metrics(runs),
        *_returned(runs),
        Row("input busy", tuple("" if (busy := run.meters.input_busy) is None else f"{busy:.0%}" for run in runs)),
        Row("restarts", tuple(run_text.restarts_text(run) if run.live.restarts else "0" for run in runs)),
        Row("tasks", tuple(run_text.roles_text(run) for run in runs)),
    ]
    return [row for row in rows if any(row.cells)]


def _duration_of(run: Run) -> str:
    """'' of a run that has told nothing."""
    return "" if run.status == "unknown" else format_duration(run_text.seconds_of(run))


def _steps_of(run: Run) -> str:
    """`480 of 720`, or '' of a run that told of none, such as a script's."""
    return f"{run.step:,}{f' of {run.live.total:,}' if run.live.total else ''}" if run.stepped else ""


def _numbers(label: str, values: Sequence[float | None], *, higher: bool | None) -> Row:
    cells = tuple("" if value is None else run_text.count(value) for value in values)
    return Row(label, cells, best_places(values, higher=higher))


def _metrics(runs: Sequence[Run]) -> Iterator[Row]:
    """Of each metric its last value and, where it is known which way is better, its best one and the step of that."""
    curves = [{name: curve.points for name, curve in run.meters.curves.by_name.items()} for run in runs]
    for name in metric_names(runs)[:MOST_METRICS]:
        higher = higher_is_better(name)
        last = [run.meters.metrics.get(name) for run in runs]
        yield Row(name, tuple("" if v is None else f"{v:.5g}" for v in last), best_places(last, higher=higher))
        if higher is not None:
            tops = [best_point(of_run.get(name, []), higher=higher) for of_run in curves]
            cells = tuple("" if top is None else f"{top[1]:.5g} at {top[0]:,}" for top in tops)
            values = [None if top is None else top[1] for top in tops]
            yield Row(f"{name}, best", cells, best_places(values, higher=higher))


def _returned(runs: Sequence[Run]) -> Iterator[Row]:
    """The numbers that the train functions returned, by their names there; which way is better nobody knows."""
    values = [_numbers_in(run.result.get("value")) for run in runs]
    for name in list(dict.fromkeys(itertools.chain.from_iterable(values)))[:MOST_METRICS]:
        yield Row(f"returned {name}", tuple(f"{found[name]:.5g}" if name in found else "" for found in values))


def _numbers_in(value: Any) -> dict[str, float]:
    items = value.items() if isinstance(value, Mapping) else ()
    numbers = {name: part for name, part in items if isinstance(part, int | float) and not isinstance(part, bool)}
    return {name: part for name, part in numbers.items() if isinstance(part, float) or abs(part) < _MOST_WHOLE}


def metric_names(runs: Sequence[Run]) -> list[str]:
    """The metrics of all runs, those that most of them have first."""
    counts: dict[str, int] = {}
    for name in itertools.chain.from_iterable(run.meters.metrics for run in runs):
        counts[name] = counts.get(name, 0) + 1
    return sorted(counts, key=lambda name: -counts[name])


def higher_is_better(metric: str) -> bool | None:
    """Whether a larger value of the metric is better; None where its name does not tell."""
    for word in reversed(re.findall(r"[a-z0-9]+", metric.lower())):
        if word in _LOWER or word in _HIGHER:
            return word in _HIGHER
    return None


def best_point(points: Points, *, higher: bool) -> tuple[int, float] | None:
    """Step and value of the best of `points`, the first of equal ones."""
    finite = [point for point in points if math.isfinite(point[1])]
    return min(finite, key=lambda point: -point[1] if higher else point[1], default=None)


def best_places(values: Sequence[float | None], *, higher: bool | None) -> frozenset[int]:
    """Where the best of `values` are; nowhere where all are alike, or nobody knows which way is better."""
    finite = [value for value in values if value is not None and math.isfinite(value)]
    if higher is None or len(set(finite)) < 2:
        return frozenset()
    best = max(finite) if higher else min(finite)
    return frozenset(place for place, value in enumerate(values) if value == best)


def differences(documents: Sequence[Mapping[str, Any] | None]) -> list[Row]:
    """The keys whose values differ between `documents`, secrets being stars; `?` for a document that is not known."""
    flat = [None if one is None else _flat(one) for one in documents]
    keys = dict.fromkeys(itertools.chain.from_iterable(one for one in flat if one is not None))
    rows = []
    for key in keys:
        if len({one.get(key) for one in flat if one is not None}) > 1:
            known = _cut([one.get(key, "–") for one in flat if one is not None])
            cells = iter(known)
            rows.append(Row(key, tuple("?" if one is None else next(cells) for one in flat)))
    return rows


def _flat(document: Mapping[str, Any]) -> dict[str, str]:
    return dict(itertools.islice(_leaves(without_secrets(document)), _MOST_KEYS))


def _leaves(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Keys with dots, such as `roles.worker.replicas`, and their values as text."""
    if isinstance(value, Mapping) and value:
        for name, part in value.items():
            yield from _leaves(part, f"{key}.{name}" if key else str(name))
        return
    text = shown(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str))
    yield key, text


def _cut(texts: Sequence[str]) -> tuple[str, ...]:
    """Long texts from shortly before the first place where they differ, cut to a length that a table can show."""
    if max(map(len, texts)) <= _MOST_TEXT:
        return tuple(texts)
    alike = len(os.path.commonprefix(list(texts)))  # noqa: RUF071  # texts, not paths
    begin = max(0, alike - _MOST_TEXT // 3)
    ends = [text[begin : begin + _MOST_TEXT - 2] for text in texts]
    return tuple(
        f"{'…' if begin and part else ''}{part}{'…' if begin + len(part) < len(text) else ''}"
        for text, part in zip(texts, ends, strict=True)
    )


def curves_of(runs: Sequence[Run]) -> dict[str, dict[int, Points]]:
    """The curves of each metric by the place of the run, those that most runs have first, the pace of training last."""
    found: dict[str, dict[int, Points]] = {}
    for place, run in enumerate(runs):
        for name, points in run.meters.curves.points().items():
            found.setdefault(name, {})[place] = points
    return dict(sorted(found.items(), key=lambda item: (item[0] == PACE, -len(item[1]))))


def step_shares(verdict: Mapping[str, Any], parts: Sequence[str]) -> dict[str, float]:
    """The share of each part of the step, in the mean of the tasks that make the steps."""
    tasks = [task for task in verdict.get("tasks", []) if task["steps"]["count"]]  # a ps makes none
    tasks = [task for task in tasks if task.get("compared")] or tasks
    return {part: sum(task["shares"][part] for task in tasks) / len(tasks) for part in parts} if tasks else {}


def next_command(runs: Sequence[Run]) -> str:
    """The command that a person wants who has compared runs: a look at one that went wrong, or at all curves."""
    wrong = [run for run in runs if run.status in ("failed", "lost")]
    folders = {run.uri.partition("?")[0].rstrip("/").rpartition("/")[0] for run in runs}
    if not wrong and len(folders) == 1 and "" not in folders and "?" not in runs[0].uri:
        return f"tfcluster tensorboard {shown(folders.pop())}"
    return f"tfcluster report {shown((wrong or list(runs))[-1].uri)}"
