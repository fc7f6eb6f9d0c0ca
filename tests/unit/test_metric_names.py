"""Names of metrics that can be shown anywhere."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.metric_names import LONGEST, metric_name


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("val_loss", "val_loss"),
        ("Präzision 精度/🙂", "Präzision 精度/🙂"),
        ("bad\udc80", r"bad\udc80"),
        ("two\nlines\r\t", r"two\nlines\r\t"),
        ("\x1b[31mred", r"\x1b[31mred"),
        ("right\u202eleft", r"right\u202eleft"),
        ("x" * LONGEST, "x" * LONGEST),
        ("x" * 10_000, "x" * (LONGEST - 1) + "…"),
        ("\n" * LONGEST, r"\n" * (LONGEST // 2 - 1) + "\\…"),
    ],
)
def test_a_name_can_be_shown(text: str, shown: str) -> None:
    assert metric_name(text) == shown


@given(st.text(st.characters(exclude_categories=())))
def test_every_name_fits_on_a_line_and_into_a_file(text: str) -> None:
    shown = metric_name(text)
    assert shown.encode().decode() == shown
    assert len(shown.splitlines()) == bool(shown)
    assert len(shown) <= LONGEST
    assert metric_name(shown) == shown
