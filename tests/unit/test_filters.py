"""What filters compare a column with, without files."""

from __future__ import annotations

import itertools
from fractions import Fraction
from operator import eq, ge, gt, le, lt, ne

from pipelines.literals import in_units


def test_what_filters_compare_whole_numbers_with() -> None:
    """All operators, numbers and fractions within and beyond a range of whole numbers, against the plain comparison."""
    operators = {"==": eq, "!=": ne, "<": lt, "<=": le, ">": gt, ">=": ge}
    for op, (low, high), halves in itertools.product(operators, [(-3, 3), (0, 4)], range(-12, 13)):
        wanted = [number for number in range(low, high + 1) if operators[op](number, halves / 2)]
        found = in_units(op, Fraction(halves, 2), low, high)
        if isinstance(found, bool):
            assert wanted == ([*range(low, high + 1)] if found else [])
        else:
            assert low <= found[1] <= high
            assert wanted == [number for number in range(low, high + 1) if operators[found[0]](number, found[1])]
