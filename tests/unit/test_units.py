"""Sizes and durations, there and back."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.units import (
    _DURATION_PATTERN,
    _SIZE_PATTERN,
    format_duration,
    format_size,
    parse_duration,
    parse_size,
)

SIZE_UNITS = {
    "": 1, "B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
    "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40,
    "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40,
    "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40,
}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "count"),
    [
        (0, 0),
        (17, 17),
        ("17", 17),
        ("512MB", 512_000_000),
        ("4GiB", 4 * 2**30),
        ("4G", 4 * 2**30),
        ("4Gi", 4 * 2**30),
        (" 1.5 gib ", 3 * 2**29),
        ("0.1kB", 100),
        ("9007199254740993", 9007199254740993),  # 2**53 + 1, which a float cannot hold
    ],
)
def test_sizes(text: object, count: int) -> None:
    assert parse_size(text) == count


@pytest.mark.parametrize(
    "bad", ["", "GiB", "4 gigs", "-1GB", -1, 1.5, "1.5", "1.5B", "1e3", True, None, [], "4GiB4", "4,5GB"]
)
def test_what_is_no_size(bad: object) -> None:
    with pytest.raises(ValueError, match=r"is not a size; write it like 512MB or 4GiB"):
        parse_size(bad)


@given(st.integers(0, 2**60), st.sampled_from(sorted(SIZE_UNITS)), st.sampled_from(["", " "]))
def test_whole_sizes_are_exact_in_any_case(number: int, unit: str, space: str) -> None:
    expected = number * SIZE_UNITS[unit]
    for text in (f"{number}{space}{unit}", f"{number}{space}{unit.lower()}", f"{number}{space}{unit.upper()}"):
        assert parse_size(text) == expected
        assert re.search(_SIZE_PATTERN, text)


@given(st.integers(0, 2**45))
def test_a_formatted_size_reads_back_within_its_last_digit(count: int) -> None:
    text = format_size(count)
    unit = SIZE_UNITS[text.split()[1]]
    assert abs(parse_size(text) - count) <= 0.051 * unit
    assert float(text.split()[0]) < 1024 or unit == 2**40


@given(st.text(alphabet="0123456789.kKmMgGtTiIbB xe-\n", max_size=8))
def test_the_schema_and_the_parser_agree_on_sizes(text: str) -> None:
    try:
        parse_size(text)
    except ValueError:
        assert not re.search(_SIZE_PATTERN, text)
    else:
        assert re.search(_SIZE_PATTERN, text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (0, 0.0),
        (90, 90.0),
        (0.5, 0.5),
        ("30s", 30.0),
        ("10m", 600.0),
        ("250ms", 0.25),
        ("1h30m", 5400.0),
        ("1.5h", 5400.0),
        (" 1H 30M ", 5400.0),
        ("2d", 172800.0),
        ("1m500ms", 60.5),
    ],
)
def test_durations(text: object, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "bad", ["", "10", "m", "10 min", "-5s", -1, "1:30", True, None, float("nan"), "1h 30", "1..5s"]
)
def test_what_is_no_duration(bad: object) -> None:
    with pytest.raises(ValueError, match=r"is not a duration; write it like 30s, 10m or 1h30m"):
        parse_duration(bad)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.85, "850ms"),
        (4.2, "4.2s"),
        (185, "3m05s"),
        (7620, "2h07m"),
        (0.9996, "1.0s"),
        (59.96, "1m00s"),
        (3599.7, "1h00m"),
    ],
)
def test_formatted_durations(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@given(st.floats(0.0005, 10**7))
def test_a_formatted_duration_reads_back_within_its_last_digit(seconds: float) -> None:
    text = format_duration(seconds)
    last_digit = 0.0006 if text.endswith("ms") else 0.051 if "." in text else 0.51 if text.endswith("s") else 61
    assert abs(parse_duration(text) - seconds) <= last_digit


@given(st.text(alphabet="0123456789.mshd MSHD-", max_size=8))
def test_the_schema_and_the_parser_agree_on_durations(text: str) -> None:
    try:
        parse_duration(text)
    except ValueError:
        assert not re.search(_DURATION_PATTERN, text)
    else:
        assert re.search(_DURATION_PATTERN, text)
