"""Learning curves as one SVG picture: a panel for each metric, readable on light and dark, without any library.

A plotting library would be the largest dependency of all, and drawing with it take seconds in a fresh container.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from cluster.curves import Points

#: Size of a panel in pixels with its margins, and panels side by side.
WIDTH, HEIGHT, COLUMNS = 460, 240, 2
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 14, 30, 30
#: Largest value over smallest from which on an axis is logarithmic.
_DECADES = 30.0
#: What is too large to be drawn beside ordinary values.
_LARGE = 1e100
#: Where a metric comes from, by what stands before its name, and its colour's class.
_ORIGINS = (("evaluator/", "evaluation"), ("val_", "validation"), ("", "training"))
_STYLE = """
.curves { background: #fff; font: 12px system-ui, sans-serif; }
.curves text { fill: #555; }
.curves .grid { stroke: #e4e4e4; }
.curves .restart { stroke: #999; stroke-dasharray: 2 3; }
.curves path { fill: none; stroke-width: 1.6; stroke-linejoin: round; stroke-linecap: round; }
.curves .training { stroke: #0072b2; } .curves text .training { stroke: none; fill: #0072b2; }
.curves .validation { stroke: #d55e00; } .curves text .validation { stroke: none; fill: #c25400; }
.curves .evaluation { stroke: #009e73; } .curves text .evaluation { stroke: none; fill: #00805d; }
@media (prefers-color-scheme: dark) {
  .curves { background: #16181d; }
  .curves text { fill: #b4b8c0; }
  .curves .grid { stroke: #30343c; }
  .curves .training { stroke: #56b4e9; } .curves text .training { fill: #56b4e9; }
  .curves .validation { stroke: #f0954f; } .curves text .validation { fill: #f0954f; }
  .curves .evaluation { stroke: #35c99b; } .curves text .evaluation { fill: #35c99b; }
}
"""


def draw(curves: Mapping[str, Points], restarts: Sequence[int] = ()) -> str:
    """An SVG document.

    Args:
        curves: steps and values of each metric, in the order of steps; `val_x` and `evaluator/x` go into the panel
            of `x`.
        restarts: steps from which a new attempt went on; each becomes a dotted line.
    """
    panels = panels_of(curves)
    columns = min(COLUMNS, max(1, len(panels)))
    width, height = columns * WIDTH, max(1, -(-len(panels) // columns)) * HEIGHT
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" class="curves" {size}>'
    parts = [head, "<title>Learning curves by step</title>", f"<style>{_STYLE}</style>"]
    for number, panel in enumerate(panels):
        row, column = divmod(number, columns)
        parts.append(f'<g transform="translate({column * WIDTH} {row * HEIGHT})">')
        parts += _panel(panel, restarts)
        parts.append("</g>")
    return "\n".join([*parts, "</svg>"]) + "\n"


def panels_of(curves: Mapping[str, Points]) -> list[dict[str, Points]]:
    """The curves that belong together, in the order in which they came; the pace of training comes last."""
    found: dict[str, dict[str, Points]] = {}
    for name in sorted(curves, key=lambda name: name == "steps_per_second"):
        prefix = next(prefix for prefix, _ in _ORIGINS if name.startswith(prefix))
        found.setdefault(name.removeprefix(prefix), {})[name] = curves[name]
    return list(found.values())


def _panel(curves: Mapping[str, Points], restarts: Sequence[int]) -> Iterator[str]:
    drawn = {name: drawable(points) for name, points in curves.items()}
    x, y = axes(list(drawn.values()))
    yield from frame(x, y)
    for step in restarts:
        if x.low <= step <= x.high:
            at = x.place(step)
            line = f'x1="{at:.1f}" x2="{at:.1f}" y1="{_TOP}" y2="{HEIGHT - _BOTTOM}"'
            yield f'<line class="restart" {line}><title>restarted before step {step}</title></line>'
    for name, points in drawn.items():
        yield f'<path class="{_origin(name)}" d="{path(points, x, y)}"/>'
    yield heading(_title(curves), y)


def drawable(points: Points) -> Points:
    """`points`, but NaN for values that are too large to be drawn beside others, and 0 for those too small."""
    if not any(abs(value) < _LARGE for _, value in points):  # there are no others
        return points

    def value_of(value: float) -> float:
        return value if 1e-100 < abs(value) < _LARGE else 0.0 if abs(value) < 1 else math.nan

    return [(step, value_of(value)) for step, value in points]


def axes(curves: Sequence[Points]) -> tuple[Axis, Axis]:
    """The axes of steps and of values that all `curves`, which are drawable, lie on within a panel."""
    values = [value for points in curves for _, value in points if math.isfinite(value)]
    steps = [step for points in curves for step, _ in points]
    x = Axis.over(steps, _LEFT, WIDTH - _RIGHT, whole=True)
    return x, Axis.over(values, HEIGHT - _BOTTOM, _TOP, may_be_log=True)


def frame(x: Axis, y: Axis) -> Iterator[str]:
    """The lines of a panel behind its curves, and the numbers beside them."""
    for value, label in y.labels():
        at = y.place(value)
        yield f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>'
        yield f'<text x="{_LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{label}</text>'
    for value, label in x.labels():
        yield f'<text x="{x.place(value):.1f}" y="{HEIGHT - 10}" text-anchor="middle">{label}</text>'


def heading(markup: str, y: Axis) -> str:
    """What stands above a panel."""
    return f'<text x="{_LEFT}" y="18">{markup}{" · log scale" if y.log else ""}</text>'


def _title(curves: Mapping[str, Points]) -> str:
    """The names, each in the colour of its curve, with the last value."""
    names = [
        f'<tspan class="{_origin(name)}" font-weight="600">{escape(name[:48])}</tspan> {short(points[-1][1], 4)}'
        for name, points in curves.items()
    ]
    return " · ".join(names)


def _origin(name: str) -> str:
    return next(origin for prefix, origin in _ORIGINS if name.startswith(prefix))


def path(points: Points, x: Axis, y: Axis) -> str:
    """Lines between the points, interrupted where a value is not finite; one that is alone is a dot."""
    parts, pen = [], "M"
    for step, value in points:
        if math.isfinite(value):
            parts.append(f"{pen}{x.place(step):.1f} {y.place(value):.1f}{'h0' if pen == 'M' else ''}")
            pen = "L"
        else:
            pen = "M"
    return "".join(parts)


@dataclass(frozen=True)
class Axis:
    """Where the values between `low` and `high` lie between the pixels `start` and `stop`.

    `log` makes it logarithmic; `whole` is an axis of whole numbers.
    """

    low: float
    high: float
    start: float
    stop: float
    log: bool = False
    whole: bool = False

    @classmethod
    def over(
        cls, values: Sequence[float], start: float, stop: float, *, may_be_log: bool = False, whole: bool = False
    ) -> Axis:
        """The axis that all `values`, which are finite, lie on."""
        low, high = (min(values), max(values)) if values else (0.0, 1.0)
        if may_be_log and low > 0 and high / low >= _DECADES:
            return cls(low, high, start, stop, log=True)
        if low == high:
            low, high = low - (abs(low) or 1.0) / 2, high + (abs(high) or 1.0) / 2
            low, high = max(low, -sys.float_info.max), min(high, sys.float_info.max)
        return cls(low, high, start, stop, whole=whole)

    def place(self, value: float) -> float:
        """Its pixel."""
        low, high, value = map(math.log10, (self.low, self.high, value)) if self.log else (self.low, self.high, value)
        low, high, value = low / 2, high / 2, value / 2  # no float holds the difference of the largest
        return self.start + (value - low) / (high - low) * (self.stop - self.start)

    def ticks(self) -> list[float]:
        """A few round values on the axis."""
        if self.log:
            first, last = math.ceil(math.log10(self.low)), math.floor(math.log10(self.high))
            stride = max(1, -(-(last - first + 1) // 6))
            return [10.0**power for power in range(first, last + 1, stride)]
        step = _round_step(max(self.high / 5 - self.low / 5, 1.0 if self.whole else 0.0))
        first, last = math.ceil(self.low / step), math.floor(self.high / step)
        return [number * step for number in range(first, last + 1)]

    def labels(self) -> list[tuple[float, str]]:
        """The ticks with what stands beside them, as short as still tells one from the other."""
        ticks = self.ticks()
        for digits in range(3, 9):
            found = [short(value, digits) for value in ticks]
            if len(set(found)) == len(found):
                break
        return list(zip(ticks, found, strict=True))


def _round_step(step: float) -> float:
    """The next 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= step * 0.999)


def short(value: float, digits: int = 3) -> str:
    """A number in a few characters: 0.0123, 12k, 3.4M, 1e-07."""
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "∞" if value > 0 else "-∞"
    size = abs(value)
    if 1000 <= size < 10_000:
        return f"{value:.0f}"
    for scale, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if scale <= size < 1000 * scale:
            return f"{value / scale:.{digits}g}{unit}"
    return f"{value:.{digits}g}"
