"""The error tree: documented, picklable, one exit code each."""

from __future__ import annotations

import functools
import pickle
import re
from collections.abc import Callable

import pytest

from cluster import errors
from cluster.errors import SpecError, TfClusterError, tree
from cluster.findings import Finding


def documented_codes() -> dict[str, int]:
    """The table in the module's docstring."""
    rows = re.findall(r"^[ │├└─]*(\w+Error) +(\d+)", errors.__doc__ or "", re.MULTILINE)
    return {name: int(code) for name, code in rows}


def test_the_documented_tree_is_the_real_one() -> None:
    assert documented_codes() == {name: error.exit_code for name, error in tree().items()}


def test_each_class_has_an_exit_code_of_its_own_and_none_means_success() -> None:
    codes = [error.exit_code for error in tree().values()]
    assert len(set(codes)) == len(codes)
    assert all(0 < code < 256 for code in codes)


@pytest.mark.parametrize("error", tree().values(), ids=lambda error: error.__name__)
def test_errors_survive_pickling(error: type[TfClusterError]) -> None:
    before = error("storage is full", "/data", "free some space")
    after = pickle.loads(pickle.dumps(before))
    assert type(after) is error
    assert (after.happened, after.seen, after.todo) == ("storage is full", "/data", "free some space")
    assert str(after) == str(before)


@pytest.mark.parametrize("said", [SpecError, functools.partial(Finding, "error")])
def test_no_error_and_no_finding_holds_a_password(said: Callable[[str, str, str], SpecError | Finding]) -> None:
    uri = "s3://key:hush@bucket/runs"
    text = repr(said(f"{uri} broke", uri, f"mend {uri}"))
    assert text.count("s3://key:***@bucket/runs") == 3
    assert "hush" not in text


@pytest.mark.parametrize(
    ("parts", "text"),
    [
        (("it broke", 3, "mend it"), "it broke · 3 · mend it"),
        (("it broke", 0, ""), "it broke · 0"),
        (("it broke", None, "mend it"), "it broke · mend it"),
        (("it broke",), "it broke"),
    ],
)
def test_an_error_reads_happened_seen_todo(parts: tuple[str, ...], text: str) -> None:
    assert str(SpecError(*parts)) == text
