"""Where bundles could go, against a slow but exact search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product

from hypothesis import given
from hypothesis import strategies as st

from cluster.placement import Group, Mode, asked, could_hold_all, place, room, strict_spread_shortfall

Free = dict[str, int]
bundles = st.fixed_dictionaries({"CPU": st.integers(0, 3)}, optional={"GPU": st.integers(0, 2)})
nodes = st.lists(st.fixed_dictionaries({"CPU": st.integers(0, 5), "GPU": st.integers(0, 2)}), min_size=1, max_size=3)
groups = st.lists(
    st.builds(Group, st.sampled_from(["worker", "ps"]), bundles.filter(lambda b: any(b.values())), st.integers(1, 3)),
    min_size=1,
    max_size=2,
)
modes = st.sampled_from(["pack", "spread", "strict_pack", "strict_spread"])


def is_valid(where: Sequence[int], wanted: Sequence[Mapping[str, int]], free: Sequence[Free], mode: Mode) -> bool:
    """Whether bundles `wanted` on nodes `where` exceed no node and obey `mode`."""
    left = [dict(node) for node in free]
    for n, bundle in zip(where, wanted, strict=True):
        for name, amount in bundle.items():
            left[n][name] = left[n].get(name, 0) - amount
    fits = all(amount >= 0 for node in left for amount in node.values())
    distinct = len(set(where))
    return fits and (mode != "strict_pack" or distinct <= 1) and (mode != "strict_spread" or distinct == len(where))


def is_possible(wanted: Sequence[Mapping[str, int]], free: Sequence[Free], mode: Mode) -> bool:
    """Whether any assignment at all is valid."""
    return any(is_valid(where, wanted, free, mode) for where in product(range(len(free)), repeat=len(wanted)))


def each(groups: Sequence[Group]) -> list[Mapping[str, int]]:
    return [group.bundle for group in groups for _ in range(group.count)]


@given(groups, nodes, modes)
def test_what_is_placed_is_placed_rightly(groups: list[Group], free: list[Free], mode: Mode) -> None:
    placed = place(groups, free, mode)
    assert [len(where) for where in placed] == [group.count for group in groups]
    flat = [n for where in placed for n in where]
    here = [(n, bundle) for n, bundle in zip(flat, each(groups), strict=True) if n is not None]
    assert is_valid([n for n, _ in here], [bundle for _, bundle in here], free, mode)


@given(groups, nodes)
def test_strict_pack_is_exact(groups: list[Group], free: list[Free]) -> None:
    possible = is_possible(each(groups), free, "strict_pack")
    assert could_hold_all(groups, free) == possible
    assert all(n is not None for where in place(groups, free, "strict_pack") for n in where) == possible


@given(groups, nodes)
def test_the_strict_spread_shortfall_is_exact(groups: list[Group], free: list[Free]) -> None:
    assert (strict_spread_shortfall(groups, free) is None) == is_possible(each(groups), free, "strict_spread")


@given(bundles.filter(lambda b: any(b.values())), st.integers(1, 4), nodes)
def test_equal_bundles_find_all_the_room_there_is(bundle: Free, count: int, free: list[Free]) -> None:
    group = Group("worker", bundle, count)
    fitting = min(count, sum(room(bundle, node) for node in free))
    modes: tuple[Mode, ...] = ("pack", "spread")
    for mode in modes:
        assert sum(n is not None for n in place([group], free, mode)[0]) == fitting


WORKERS = Group("worker", {"CPU": 2}, 4)
PS = Group("ps", {"CPU": 1}, 1)


def test_pack_uses_one_node_where_it_can() -> None:
    assert place([WORKERS, PS], [{"CPU": 4}, {"CPU": 16}, {"CPU": 16}], "pack") == [[1, 1, 1, 1], [1]]


def test_pack_fills_the_largest_nodes_first() -> None:
    assert place([WORKERS, PS], [{"CPU": 2}, {"CPU": 5}, {"CPU": 7}], "pack") == [[2, 2, 2, 1], [1]]


def test_spread_takes_turns() -> None:
    assert place([WORKERS, PS], [{"CPU": 9}, {"CPU": 9}, {"CPU": 9}], "spread") == [[0, 1, 2, 0], [1]]


def test_spread_shares_nodes_when_there_are_too_few() -> None:
    assert place([WORKERS], [{"CPU": 2}, {"CPU": 6}], "spread") == [[0, 1, 1, 1]]


def test_strict_spread_gives_each_its_own() -> None:
    assert place([WORKERS, PS], [{"CPU": 2}] * 5, "strict_spread") == [[0, 1, 2, 3], [4]]


def test_strict_spread_places_the_larger_bundles_first() -> None:
    small = Group("ps", {"CPU": 1}, 2)
    large = Group("worker", {"CPU": 4}, 1)
    assert place([small, large], [{"CPU": 4}, {"CPU": 1}, {"CPU": 1}], "strict_spread") == [[1, 2], [0]]


def test_bundles_without_room_stay_unplaced() -> None:
    assert place([WORKERS], [{"CPU": 3}, {"CPU": 2}], "pack") == [[0, 1, None, None]]
    assert place([WORKERS], [{"CPU": 3}, {"CPU": 2}], "strict_pack") == [[None] * 4]
    assert place([WORKERS], [], "spread") == [[None] * 4]


def test_a_resource_that_no_node_has_is_no_room() -> None:
    assert room({"CPU": 1, "disk": 1}, {"CPU": 4}) == 0
    assert room({"CPU": 1, "GPU": 0}, {"CPU": 4}) == 4


def test_asked_adds_up() -> None:
    assert asked([WORKERS, PS, Group("evaluator", {"GPU": 1}, 2)]) == {"CPU": 9, "GPU": 2}
