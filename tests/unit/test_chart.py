"""The picture of the learning curves: well-formed, complete, and drawn to scale."""

from __future__ import annotations

import math
import re
from xml.etree import ElementTree

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cluster.chart import Axis, draw, short
from cluster.curves import Points

SVG = "{http://www.w3.org/2000/svg}"
values = st.floats(allow_nan=True, allow_infinity=True, width=64)


def paths(svg: str) -> list[tuple[str, str]]:
    return [(str(p.get("class")), str(p.get("d"))) for p in ElementTree.fromstring(svg).iter(f"{SVG}path")]


def texts(svg: str) -> list[str]:
    return ["".join(text.itertext()) for text in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def test_metrics_of_one_kind_share_a_panel() -> None:
    line: Points = [(1, 1.0), (2, 2.0)]
    svg = draw({"steps_per_second": line, "loss": line, "val_loss": line, "evaluator/loss": line, "mae": line})
    titles = [text for text in texts(svg) if any(word in text for word in ("loss", "mae", "second"))]
    assert titles == ["loss 2 · val_loss 2 · evaluator/loss 2", "mae 2", "steps_per_second 2"]
    assert [kind for kind, _ in paths(svg)] == ["training", "validation", "evaluation", "training", "training"]


def test_points_lie_where_their_values_say() -> None:
    ((_, path),) = paths(draw({"loss": [(0, 0.0), (50, 10.0), (100, 5.0)]}))
    numbers = [float(number) for number in re.findall(r"[-\d.]+", path.replace("h0", ""))]
    (left, bottom), (middle, top), (right, between) = zip(numbers[::2], numbers[1::2], strict=True)
    assert middle - left == pytest.approx(right - middle)
    assert bottom - top == pytest.approx(2 * (bottom - between))
    assert bottom > top


def test_a_wide_range_is_drawn_on_a_logarithmic_axis() -> None:
    axis = Axis.over([1e-4, 1.0], 0.0, 100.0, may_be_log=True)
    assert axis.place(1e-2) == pytest.approx(50.0)
    assert [label for _, label in axis.labels()] == ["0.0001", "0.001", "0.01", "0.1", "1"]
    assert not Axis.over([0.0, 1.0], 0.0, 100.0, may_be_log=True).log


def test_labels_tell_ticks_apart() -> None:
    assert [label for _, label in Axis.over([3.0, 3.0001], 0, 1).labels()][-2:] == ["3.00008", "3.0001"]
    assert [label for _, label in Axis.over([1, 3], 0, 1, whole=True).labels()] == ["1", "2", "3"]


def test_a_value_that_is_no_number_interrupts_the_line() -> None:
    ((_, path),) = paths(draw({"loss": [(1, 1.0), (2, 2.0), (3, math.nan), (4, 1.0), (5, math.inf), (6, 2.0)]}))
    assert path.count("M") == 3
    assert path.count("L") == 1


def test_restarts_are_marked_where_training_went_on() -> None:
    svg = draw({"loss": [(10, 1.0), (100, 2.0)]}, [50, 500])
    marks = [line for line in ElementTree.fromstring(svg).iter(f"{SVG}line") if line.get("class") == "restart"]
    assert len(marks) == 1


def test_names_are_text_whatever_they_hold() -> None:
    assert any("<b>&" in text for text in texts(draw({"<b>&'\"": [(1, 1.0), (2, 1.0)]})))


@pytest.mark.parametrize(
    ("first", "second", "labels"),
    [
        (1e308, 1e308, ["6e+307", "8e+307", "1e+308", "1.2e+308", "1.4e+308"]),
        (1.79e308, 1.79e308, ["1e+308", "1.2e+308", "1.4e+308", "1.6e+308"]),
        (-1e308, 1e308, ["-1e+308", "-5e+307", "5e+307", "1e+308"]),
        (1e200, 1e300, ["1e+200", "1e+217", "1e+234", "1e+251", "1e+268", "1e+285"]),
    ],
)
def test_the_largest_values_are_drawn_to_scale(first: float, second: float, labels: list[str]) -> None:
    svg = draw({"loss": [(0, first), (1, second), (2, math.inf)]})
    ((_, path),) = paths(svg)
    assert (path.count("M"), path.count("L")) == (1, 1)
    assert [label for label in texts(svg) if label in labels] == labels


@example([(0, 1e308), (1, -1e308)])
@example([(0, 1.79e308), (1, -1.79e308)])
@example([(0, 1.79e308), (1, 1.79e308)])
@example([(0, 5e-324), (0, 5e-324)])
@example([(0, 1e-320), (1, 1.0)])
@given(st.lists(st.tuples(st.integers(0, 10**12), values), min_size=1, max_size=30))
def test_any_values_make_a_picture_that_stays_in_its_frame(points: Points) -> None:
    svg = draw({"loss": sorted(points, key=lambda point: point[0])})
    for _, path in paths(svg):
        for number in re.findall(r"[-\d.e+]+", path):
            assert -1 <= float(number) <= 461
    assert "nan" not in re.sub(">[^<]*<", "><", svg).lower()  # only in what is written


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (0.01234, "0.0123"),
        (5000.0, "5000"),
        (12_345.0, "12.3k"),
        (2.5e9, "2.5G"),
        (1e-7, "1e-07"),
        (-3.0, "-3"),
        (1e15, "1e+15"),
        (math.nan, "NaN"),
    ],
)
def test_numbers_are_short(value: float, text: str) -> None:
    assert short(value) == text
