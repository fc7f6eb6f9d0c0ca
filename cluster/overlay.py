"""The same metric of several runs in one picture, as SVG: one colour a run, which the page around it sets. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from html import escape

from cluster import chart
from cluster.curves import Points

#: Points of one curve that are drawn, at most: a picture is hardly as many pixels wide.
MOST_POINTS = 400


def overlay(metric: str, curves: Mapping[int, tuple[str, Points]]) -> str:
    """An SVG element.

    Args:
        metric: its name.
        curves: of each run that has it, by the number of its colour, what the run is called, and steps and values.
    """
    drawn = {number: chart.drawable(thinned(points)) for number, (_, points) in curves.items()}
    x, y = chart.axes(list(drawn.values()))
    names = {number: name for number, (name, _) in curves.items()}
    label = escape(f"{metric} by step of {', '.join(names.values())}")
    parts = [f'<svg class="curves" role="img" aria-label="{label}" viewBox="0 0 {chart.WIDTH} {chart.HEIGHT}">']
    parts += chart.frame(x, y)
    for number, points in drawn.items():
        title = escape(f"{names[number]}: {chart.short(curves[number][1][-1][1], 4)} at the end")
        parts.append(f'<path class="run-{number}" d="{chart.path(points, x, y)}"><title>{title}</title></path>')
    parts.append(chart.heading(f'<tspan class="metric">{escape(metric[:48])}</tspan>', y))
    return "\n".join([*parts, "</svg>"])


def thinned(points: Points) -> Points:
    """At most `MOST_POINTS` of `points`, the last one among them."""
    stride = max(1, math.ceil(len(points) / (MOST_POINTS - 1)))
    kept = points[::stride]
    return kept if not points or kept[-1] == points[-1] else [*kept, points[-1]]
