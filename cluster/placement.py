"""Where bundles could go: pack, spread and their strict forms over the nodes at hand, as Ray would place them. Pure.

Bundles come in groups of equal ones, a group a role, so the work grows with tasks + groups x nodes.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

Mode = Literal["pack", "spread", "strict_pack", "strict_spread"]
#: Ray counts resources in ten-thousandths; whole numbers of them add up without rounding errors.
GRAINS = 10_000


@dataclass(frozen=True)
class Node:
    """One Ray node, or this machine before Ray runs.

    Attributes:
        id: Ray's node id, or `LOCAL`.
        address: IP address, as Ray knows it.
        total: resources by Ray's name (CPU, GPU, memory in bytes, custom ones).
        available: what other jobs have left of them.
    """

    id: str
    address: str
    total: Mapping[str, float]
    available: Mapping[str, float]


#: Id of the only node where no Ray runs yet: a run would start its own, with as many logical CPUs as it asks for.
LOCAL = "this machine"


@dataclass(frozen=True)
class Group:
    """`count` bundles that ask for the same; amounts in grains."""

    name: str
    bundle: Mapping[str, int]
    count: int


def grains(resources: Mapping[str, float]) -> dict[str, int]:
    """`resources` in whole grains."""
    return {name: round(amount * GRAINS) for name, amount in resources.items()}


def room(bundle: Mapping[str, int], free: Mapping[str, int]) -> int:
    """How many of `bundle` fit into `free`."""
    return min((max(free.get(name, 0), 0) // amount for name, amount in bundle.items() if amount), default=10**9)


def asked(groups: Sequence[Group]) -> dict[str, int]:
    """All bundles together."""
    out: dict[str, int] = {}
    for group in groups:
        for name, amount in group.bundle.items():
            out[name] = out.get(name, 0) + amount * group.count
    return out


def place(groups: Sequence[Group], free: Sequence[Mapping[str, int]], mode: Mode) -> list[list[int | None]]:
    """For each group the node index of each of its bundles; None for a bundle that found no room.

    A greedy simulation: what it places could be placed so; what it leaves may still fit otherwise.

    Args:
        groups: what to place.
        free: free resources of each node, in grains.
        mode: the placement group's strategy.
    """
    left = [dict(node) for node in free]
    out: list[list[int | None]] = [[None] * group.count for group in groups]
    largest_first = sorted(range(len(groups)), key=lambda g: _share(groups[g].bundle, left), reverse=True)
    used = [0] * len(left)
    only = _node_for_all(groups, left) if mode in ("pack", "strict_pack") else None
    if only is not None:
        return [[only] * group.count for group in groups]
    if mode == "strict_pack":
        return out
    for g in largest_first:
        where = _packed(groups[g], left, used) if mode == "pack" else _spread(groups[g], left, used, mode)
        out[g][: len(where)] = where
    return out


def could_hold_all(groups: Sequence[Group], totals: Sequence[Mapping[str, int]]) -> bool:
    """Whether one node holds everything, as strict_pack needs it."""
    return _node_for_all(groups, totals) is not None


def strict_spread_shortfall(
    groups: Sequence[Group], totals: Sequence[Mapping[str, int]]
) -> tuple[str, int, int] | None:
    """Roles that cannot each have a node of their own: their names, bundles and fitting nodes; None where they can.

    By Hall's theorem it is enough that every set of groups has as many fitting nodes as bundles.
    """
    fits = [{n for n, node in enumerate(totals) if room(group.bundle, node)} for group in groups]
    for size in range(1, len(groups) + 1):
        for chosen in combinations(range(len(groups)), size):
            bundles = sum(groups[g].count for g in chosen)
            nodes = len(set().union(*(fits[g] for g in chosen)))
            if bundles > nodes:
                return " and ".join(groups[g].name for g in chosen), bundles, nodes
    return None


def _share(bundle: Mapping[str, int], free: Sequence[Mapping[str, int]]) -> tuple[int, float]:
    """How hard `bundle` is to place: GPUs first, then its largest share of the largest node."""
    best = {name: max((node.get(name, 0) for node in free), default=0) for name in bundle}
    return bundle.get("GPU", 0), max((amount / (best[name] or 1) for name, amount in bundle.items()), default=0.0)


def _node_for_all(groups: Sequence[Group], free: Sequence[Mapping[str, int]]) -> int | None:
    everything = asked(groups)
    return next((n for n, node in enumerate(free) if room(everything, node)), None)


def _packed(group: Group, left: list[dict[str, int]], used: list[int]) -> list[int | None]:
    """Fill nodes one after the other: those already used, then those with the most room."""
    rooms = [min(room(group.bundle, node), group.count) for node in left]
    order = sorted((n for n, count in enumerate(rooms) if count), key=lambda n: (not used[n], -rooms[n], n))
    out: list[int | None] = []
    for n in order:
        count = min(rooms[n], group.count - len(out))
        _take(group.bundle, left[n], count)
        used[n] += count
        out += [n] * count
    return out


def _spread(group: Group, left: list[dict[str, int]], used: list[int], mode: Mode) -> list[int | None]:
    """Always the node with the fewest bundles; under strict_spread one that has none."""
    heap = [(used[n], n) for n in range(len(left)) if not (mode == "strict_spread" and used[n])]
    heapq.heapify(heap)
    out: list[int | None] = []
    while heap and len(out) < group.count:
        _, n = heapq.heappop(heap)
        if not room(group.bundle, left[n]):
            continue
        _take(group.bundle, left[n], 1)
        used[n] += 1
        out.append(n)
        if mode == "spread":
            heapq.heappush(heap, (used[n], n))
    return out


def _take(bundle: Mapping[str, int], node: dict[str, int], count: int) -> None:
    for name, amount in bundle.items():
        if amount:
            node[name] = node.get(name, 0) - amount * count
