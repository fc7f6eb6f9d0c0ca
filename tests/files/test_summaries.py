"""Summaries of columns: parts merged in any way give what the whole gives, and the sketches keep their promises."""

from __future__ import annotations

import base64
import datetime
import decimal
import functools
import json
import math
import random
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.moments import Moments, moments_of
from pipelines.quantiles import Quantiles, quantiles_of
from pipelines.summary import LONGEST_VALUE, merge, summarize
from pipelines.vocabulary import Vocabulary, vocabulary_of

finite = st.floats(-1e9, 1e9, allow_nan=False)
fractions = [0.0, 0.01, 0.25, 0.5, 0.75, 0.99, 1.0]


def cut(values: list[Any], rng: random.Random) -> list[list[Any]]:
    """`values` in parts of any size, some empty, in any order."""
    cuts = sorted(rng.randint(0, len(values)) for _ in range(rng.randint(0, 6)))
    parts = [values[a:b] for a, b in zip([0, *cuts], [*cuts, len(values)], strict=True)]
    rng.shuffle(parts)
    return parts


def in_any_tree(parts: list[Any], rng: random.Random) -> Any:
    """`parts` merged two at a time, whichever two."""
    while len(parts) > 1:
        left, right = (parts.pop(rng.randrange(len(parts))) for _ in range(2))
        parts.append(left.merge(right))
    return parts[0]


@given(st.lists(finite), st.randoms(use_true_random=False))
def test_moments_of_parts_are_those_of_the_whole(values: list[float], rng: random.Random) -> None:
    merged = in_any_tree([moments_of(np.array(part, float)) for part in cut(values, rng)], rng)
    assert merged.count == len(values)
    assert (merged.low, merged.high) == ((min(values), max(values)) if values else (None, None))
    if values:
        scale = max(map(abs, values)) or 1.0
        assert merged.mean == pytest.approx(math.fsum(values) / len(values), abs=1e-12 * scale * len(values))
        assert merged.variance == pytest.approx(np.var(values), rel=1e-9, abs=1e-9 * scale * scale)


def test_a_large_mean_does_not_hide_the_variance() -> None:
    values = np.array([1e9 + 4, 1e9 + 7, 1e9 + 13, 1e9 + 16])
    merged = functools.reduce(Moments.merge, (moments_of(values[i : i + 1]) for i in range(4)))
    assert merged.variance == 22.5


def test_extremes_of_integers_are_exact() -> None:
    found = moments_of(np.array([2**63 - 1, -(2**63)], np.int64))
    assert (found.low, found.high) == (-(2**63), 2**63 - 1)
    assert moments_of(np.array([2**64 - 1], np.uint64)).high == 2**64 - 1


@given(st.lists(st.integers(-1000, 1000), max_size=300), st.integers(2, 20), st.randoms(use_true_random=False))
def test_quantiles_are_off_by_their_error_at_most(values: list[int], samples: int, rng: random.Random) -> None:
    parts = [quantiles_of(np.array(part, np.int64), samples) for part in cut(values, rng)]
    merged = in_any_tree(parts, rng)
    assert merged.count == len(values)
    assert all(len(level) <= samples for level in merged.levels)
    ordered = np.sort(np.array(values, np.int64))
    for fraction, found in zip(fractions, merged.at(fractions), strict=False):
        place = math.floor(fraction * (len(values) - 1))
        low, high = np.searchsorted(ordered, found, "left"), np.searchsorted(ordered, found, "right") - 1
        assert low - merged.error <= place <= high + merged.error
    if len(values) <= samples:
        assert merged.error == 0


def test_exact_quantiles_are_those_of_arrow() -> None:
    values = np.random.default_rng(0).normal(size=4096)
    found = quantiles_of(values)
    assert found.error == 0
    assert found.at(fractions) == pc.quantile(pa.array(values), q=fractions, interpolation="lower").to_pylist()


def test_quantiles_of_many_numbers_are_small_close_and_the_same_each_time() -> None:
    values = np.random.default_rng(0).normal(size=1_000_000)

    def whole() -> Quantiles:
        return functools.reduce(Quantiles.merge, (quantiles_of(part) for part in np.split(values, 40)))

    found, again = whole(), whole()
    ordered = np.sort(values)
    ranks = np.searchsorted(ordered, found.at(fractions)) / len(values)
    assert found.count == len(values)
    assert 0 < found.error / len(values) < 0.003
    assert np.abs(ranks - fractions).max() <= found.error / len(values) + 1e-6
    assert sum(map(len, found.levels)) < 40_000
    assert found.at(fractions) == again.at(fractions)


@given(st.lists(st.text(max_size=2)), st.integers(1, 8), st.randoms(use_true_random=False))
def test_counts_are_short_by_their_error_at_most(words: list[str], most: int, rng: random.Random) -> None:
    parts = [vocabulary_of(pa.array(part, pa.string()), most) for part in cut(words, rng)]
    merged: Vocabulary = in_any_tree(parts, rng)
    true = {word: words.count(word) for word in words}
    found = dict(zip(*merged.top(10**6), strict=True))
    assert len(found) <= most
    assert all(true[word] - merged.error <= count <= true[word] for word, count in found.items())
    assert all(true[word] <= merged.error for word in true.keys() - found.keys())
    assert merged.error <= len(words) / (most + 1)
    if len(true) <= most:
        assert found == true
        assert merged.distinct == len(true)


def test_equally_frequent_values_come_in_their_own_order() -> None:
    assert vocabulary_of(pa.array(["b", "a", "c", "c"])).top(2) == (["c", "a"], [2, 1])


row = st.fixed_dictionaries(
    {
        "number": st.none() | st.floats(-1e6, 1e6) | st.just(math.nan) | st.just(math.inf),
        "whole": st.none() | st.integers(-(2**63), 2**63 - 1),
        "text": st.none() | st.text(max_size=3),
        "list": st.none() | st.lists(st.none() | st.integers(0, 3), max_size=3),
        "struct": st.none() | st.fixed_dictionaries({"flag": st.none() | st.booleans()}),
    }
)
SCHEMA = pa.schema(
    {
        "number": pa.float64(),
        "whole": pa.int64(),
        "text": pa.string(),
        "list": pa.list_(pa.int8()),
        "struct": pa.struct({"flag": pa.bool_()}),
    }
)


@given(st.lists(row, max_size=30), st.randoms(use_true_random=False))
def test_summaries_of_parts_are_those_of_the_whole(rows: list[dict[str, Any]], rng: random.Random) -> None:
    whole = summarize(pa.Table.from_pylist(rows, SCHEMA))
    parts = [summarize(pa.RecordBatch.from_pylist(part, SCHEMA)) for part in cut(rows, rng)]
    while len(parts) > 1:
        left, right = (parts.pop(rng.randrange(len(parts))) for _ in range(2))
        parts.append(merge(left, right))
    assert list(parts[0]) == ["number", "whole", "text", "list", "list[]", "struct", "struct.flag"]
    for path, expected in whole.items():
        assert_close(parts[0][path].to_document(100), expected.to_document(100))


def assert_close(found: Any, expected: Any) -> None:
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for key in expected:
            assert_close(found[key], expected[key])
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, rel=1e-9, abs=1e-3)
    else:
        assert found == expected


def test_a_document_is_json_and_says_what_arrow_says() -> None:
    rows = {
        "number": pa.array([1.5, None, math.nan, math.inf, -2.0]),
        "text": pa.array(["a", "b", "a", None, "x" * (LONGEST_VALUE + 1)]),
        "raw": pa.array([b"\xff", b"\xff", b"", None, None]),
        "half": pa.array([1.0, 2.0, None, 0.5, 4.0], pa.float16()),
        "price": pa.array([decimal.Decimal("1.25"), None, None, None, decimal.Decimal("0.75")]),
        "day": pa.array([datetime.date(1970, 1, 3)] * 5),
        "when": pa.array([5, 6, 7, 8, None], pa.timestamp("ms", "UTC")),
        "kind": pa.array(["u", "v", "u", None, "u"]).dictionary_encode(),
        "pair": pa.array([[1, 2], [3, 4], None, [5, 6], [7, 8]], pa.list_(pa.int16(), 2)),
        "table": pa.array([[("k", 1)], [], None, [("k", 2), ("l", 3)], []], pa.map_(pa.string(), pa.int32())),
        "deep": pa.array([[[1], []], [], None, [[2, 3]], []], pa.list_(pa.large_list(pa.int8()))),
        "nothing": pa.nulls(5),
    }
    found = {path: summary.to_document(10) for path, summary in summarize(pa.table(rows)).items()}
    json.dumps(found, allow_nan=False)
    assert (found["number"]["count"], found["number"]["missing"]) == (4, 1)
    assert (found["number"]["nan"], found["number"]["infinite"], found["number"]["mean"]) == (1, 1, -0.25)
    assert found["text"]["vocabulary"]["values"] == ["a", "b"]
    assert found["text"]["vocabulary"]["too_long"] == 1
    assert found["text"]["vocabulary"]["distinct"] is None
    assert found["text"]["lengths"]["max"] == LONGEST_VALUE + 1
    assert found["raw"]["vocabulary"]["encoding"] == "base64"
    assert base64.b64decode(found["raw"]["vocabulary"]["values"][0]) == b"\xff"
    assert found["half"]["mean"] == 1.875
    assert found["price"]["max"] == 1.25
    assert found["day"]["min"] == 2
    assert found["when"]["max"] == 8
    assert found["kind"]["vocabulary"]["counts"] == [3, 1]
    assert found["pair"]["lengths"]["mean"] == 2
    assert found["pair[]"]["max"] == 8
    assert found["table"]["lengths"]["max"] == 2
    assert found["table[].key"]["vocabulary"]["values"] == ["k", "l"]
    assert found["deep[][]"]["count"] == 3
    assert found["nothing"] == {"type": "null", "count": 0, "missing": 5}


def test_without_a_vocabulary_none_is_counted() -> None:
    summary = summarize(pa.table({"a": ["x"]}), vocabulary=False)["a"]
    assert summary.vocabulary is None
    assert "vocabulary" not in summary.to_document(0)


VIEW, TEXT = pa.string_view(), pa.string()


@pytest.mark.parametrize(
    ("array", "plain"),
    [
        (pa.array(["a", None, "x" * 30, "a"], VIEW), TEXT),
        (pa.array([b"\xff", None, b"", b"a"], pa.binary_view()), pa.binary()),
        (pa.array([["a", None], None, [], ["b"]], pa.list_(VIEW)), pa.list_(TEXT)),
        (pa.array([["a", None], None, [], ["b"]], pa.list_view(VIEW)), pa.list_(TEXT)),
        (pa.array([["a", None], None, ["c", "d"]], pa.list_(VIEW, 2)), pa.list_(TEXT, 2)),
        (pa.array([{"q": "a"}, None, {"q": None}], pa.struct([("q", VIEW)])), pa.struct([("q", TEXT)])),
        (
            pa.array([[{"q": ["a"]}], None, [{"q": None}]], pa.large_list(pa.struct([("q", pa.list_view(VIEW))]))),
            pa.large_list(pa.struct([("q", pa.list_(TEXT))])),
        ),
        (pa.array([[("k", "v")], None, [("l", None)]], pa.map_(VIEW, VIEW)), pa.map_(TEXT, TEXT)),
        (pa.DictionaryArray.from_arrays([0, 1, None, 0], pa.array(["a", "b"], VIEW)), TEXT),
    ],
    ids=lambda value: str(value) if isinstance(value, pa.DataType) else "",
)
def test_views_are_summarised_as_what_they_show(array: pa.Array, plain: pa.DataType) -> None:
    for rows in (array, array.slice(1), array.slice(0, 0)):
        found = summarize(pa.table({"x": rows}))
        expected = summarize(pa.table({"x": pa.array(rows.to_pylist(), plain)}))
        documents = [{path: one.to_document(9) for path, one in some.items()} for some in (found, expected)]
        assert documents[0] == documents[1]
    assert any("vocabulary" in document for document in documents[0].values())
