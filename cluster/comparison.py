"""Writes one HTML page on which several runs stand beside each other, from their run directories alone."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from cluster import comparing, run_text
from cluster.html_page import fill
from cluster.locations import shown
from cluster.overlay import overlay
from cluster.page import PARTS, captures, clock, run_name
from cluster.runs import Run, read_run
from cluster.storage import read_text

#: Where the page is written, if nobody says.
FILE = Path("comparison.html")


def read_runs(uris: Sequence[str]) -> list[Run]:
    """The runs in some directories.

    Raises:
        RunNotFoundError: one is no run directory.
        StorageError: one cannot be read.
    """
    return [read_run(uri) for uri in uris]


def render(runs: Sequence[Run], now: float | None = None, *, left_out: int = 0) -> str:
    """The page, as HTML.

    Args:
        runs: in the order in which they stand.
        now: seconds since the Unix epoch; default: the clock's.
        left_out: how many older runs of a folder are not on it.
    """
    curves = comparing.curves_of(runs)
    names = comparing.labels([run.uri for run in runs])
    view = _view(runs, names, time.time() if now is None else now)
    more = {"left_out": left_out, "curves_left_out": max(0, len(curves) - comparing.MOST_CURVES)}
    styles = ["report.css", "comparison.css"]
    return fill("comparison.html", view | more, styles=styles, curves=_pictures(curves, names))


def _view(runs: Sequence[Run], names: Sequence[str], now: float) -> dict[str, Any]:
    """What the template shows."""
    specs = [_spec(run.uri) for run in runs]
    versions = [run.about.get("versions") or None for run in runs]
    return {
        "runs": [_run(run, name, number, now) for number, (run, name) in enumerate(zip(runs, names, strict=True), 1)],
        "running": sum(run.status == "running" for run in runs),
        "written": clock(now),
        "figures": comparing.figures(runs, now),
        "metrics_left_out": max(0, len(comparing.metric_names(runs)) - comparing.MOST_METRICS),
        "spec": comparing.differences(specs),
        "versions": comparing.differences(versions),
        "unknown_specs": [name for name, spec in zip(names, specs, strict=True) if spec is None],
        "shares": list(_shares(runs)),
        "parts": PARTS,
    }


def _run(run: Run, name: str, number: int, now: float) -> dict[str, Any]:
    """One run as its head on the page shows it; `number` is that of its colour."""
    return {
        "number": number,
        "label": name,
        "name": run_name(run.uri),
        "uri": shown(run.uri),
        "status": run.status,
        "sentence": run_text.status_text(run, now),
        "began": "" if run.status == "unknown" else clock(run.timeline.begin),
        "error": _error(run),
    }


def _error(run: Run) -> str:
    """Why it did not go well, in one line; '' where it did, or nobody knows."""
    if run.status != "failed":
        return ""
    failures = run.timeline.failures()
    return run_text.first_line(str(run.result.get("error") or (failures[-1].text if failures else "")))


def _spec(uri: str) -> Mapping[str, Any] | None:
    """The spec as it was set, without secrets; None where it cannot be read.

    One of ours has no aliases; a few lines with many unfold into more than any memory holds.
    """
    text = read_text(uri, "job.yaml") or ""
    try:
        aliases = any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=yaml.SafeLoader))
        document = None if aliases else yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def _shares(runs: Sequence[Run]) -> Iterator[dict[str, Any]]:
    """Of each run that was traced, where its step goes, by the newest capture that tells."""
    for place, run in enumerate(runs):
        for capture in captures(run):
            shares = comparing.step_shares(capture["verdict"] or {}, list(PARTS))
            if shares:
                found = {key: capture[key] for key in ("when", "sentence")}
                yield found | {"place": place, "shares": shares, "step": capture["verdict"]["step"]}
                break


def _pictures(curves: Mapping[str, Mapping[int, Any]], names: Sequence[str]) -> Iterator[str]:
    """A picture of each metric by step, a curve a run, as SVG."""
    for metric, of_runs in list(curves.items())[: comparing.MOST_CURVES]:
        yield overlay(metric, {place + 1: (names[place], points) for place, points in of_runs.items()})
