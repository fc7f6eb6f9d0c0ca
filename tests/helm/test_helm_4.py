"""Helm 4 renders what the Helm of the other tests renders, Helm 3, and refuses what it refuses."""

from __future__ import annotations

import pytest

from tests.helm.cases import CASES
from tests.helm.charts import CHART, Helm, RefusedError, Values
from tests.helm.test_refusals import ALLOWED, REFUSED, WRONG

pytestmark = pytest.mark.timeout(300)  # it may have to be fetched first


@pytest.mark.parametrize("case", CASES)
def test_it_renders_the_same(helm: Helm, helm_4: Helm, case: str) -> None:
    assert helm_4.render(CASES[case]) == helm.render(CASES[case])


@pytest.mark.parametrize("case", CASES)
def test_lint(helm_4: Helm, case: str) -> None:
    assert "0 chart(s) failed" in helm_4.run("lint", "--strict", str(CHART), values=CASES[case])


def refusal(helm: Helm, values: Values) -> str:
    """The sentence that it is refused with."""
    with pytest.raises(RefusedError) as refused:
        helm.render(values)
    return str(refused.value).partition("execution error at ")[2].partition("): ")[2].splitlines()[0]


@pytest.mark.parametrize("case", REFUSED)
def test_it_is_refused_with_the_same_sentence(helm: Helm, helm_4: Helm, case: str) -> None:
    values, words = REFUSED[case]
    assert refusal(helm_4, values) == refusal(helm, values)
    assert words in refusal(helm_4, values)


@pytest.mark.parametrize("case", WRONG)
def test_the_schema_finds_it(helm_4: Helm, case: str) -> None:
    values, key = WRONG[case]
    with pytest.raises(RefusedError, match="schema") as refused:
        helm_4.render(values)
    assert key in str(refused.value)


@pytest.mark.parametrize("case", ALLOWED)
def test_it_is_not_refused(helm_4: Helm, case: str) -> None:
    assert helm_4.render(ALLOWED[case])
