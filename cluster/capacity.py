"""Whether a job's bundles fit on the nodes, ever or now, and what is missing. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from cluster.findings import Finding, count_text
from cluster.placement import (
    GRAINS,
    LOCAL,
    Group,
    Node,
    asked,
    could_hold_all,
    grains,
    place,
    room,
    strict_spread_shortfall,
)
from cluster.spec import JobSpec
from cluster.units import format_duration, format_size


def capacity_findings(
    spec: JobSpec, groups: Sequence[Group], nodes: Sequence[Node], *, autoscaling: bool
) -> Iterator[Finding]:
    """What speaks against placing `groups` on `nodes`; only a warning where `autoscaling` may add nodes."""
    if not nodes:
        yield Finding("note", "no cluster is known, so resources were not compared", "", "")
        return
    yield from _oversubscription(groups, nodes)
    nodes = with_logical_cpus(nodes, groups)
    impossible = list(_impossible(spec, groups, nodes))
    if autoscaling:
        impossible = [Finding("warning", f.happened, f.seen, "the autoscaler must add nodes first") for f in impossible]
    yield from impossible or _waiting(spec, groups, nodes)


def _oversubscription(groups: Sequence[Group], nodes: Sequence[Node]) -> Iterator[Finding]:
    needed = asked(groups).get("CPU", 0)
    for node in nodes:
        cores = grains(node.total).get("CPU", 0)
        if node.id == LOCAL and needed > cores:
            yield Finding(
                "note",
                "the job asks for more CPUs than this machine has, so its tasks share them",
                f"asked {needed / GRAINS:g}, here {cores / GRAINS:g}",
                "fine for a trial; expect no speed-up",
            )


def _impossible(spec: JobSpec, groups: Sequence[Group], nodes: Sequence[Node]) -> Iterator[Finding]:
    """Why the job could never be placed on these nodes, even idle ones."""
    totals = [grains(node.total) for node in nodes]
    short = list(_short(groups, nodes))
    too_large = list(_too_large(groups, nodes, totals))
    yield from too_large + short or _strict(spec, groups, nodes, totals) or _fragmented(groups, totals)


def _too_large(
    groups: Sequence[Group], nodes: Sequence[Node], totals: Sequence[Mapping[str, int]]
) -> Iterator[Finding]:
    """Bundles for which all nodes together have enough, but no single one has."""
    together = {name: total for name, (_, _, total) in totals_of(groups, nodes).items()}
    for group in groups:
        if room(group.bundle, together) and not any(room(group.bundle, node) for node in totals):
            yield Finding(
                "error",
                f"one {group.name} is larger than any node",
                f"asks for {resource_text(group.bundle)}; {_nearest_node(group, nodes, totals)}",
                f"ask for less under roles.{group.name}, or add a larger node",
            )


def _nearest_node(group: Group, nodes: Sequence[Node], totals: Sequence[Mapping[str, int]]) -> str:
    """The node that lacks least of one bundle, and what it lacks."""
    covered = [min(node.get(name, 0) / amount for name, amount in group.bundle.items() if amount) for node in totals]
    best = max(range(len(nodes)), key=lambda n: covered[n])
    lacking = [name for name, amount in group.bundle.items() if totals[best].get(name, 0) < amount]
    has = ", ".join(f"{name} {amount_text(name, totals[best].get(name, 0))}" for name in lacking)
    return f"the nearest node ({nodes[best].address}) has only {has}"


def _short(groups: Sequence[Group], nodes: Sequence[Node]) -> Iterator[Finding]:
    for name, (needed, available, total) in totals_of(groups, nodes).items():
        if needed > total:
            yield Finding(
                "error",
                f"the job asks for more {name} than the cluster has",
                f"asked {amount_text(name, needed)}, available {amount_text(name, available)}, "
                f"total {amount_text(name, total)}",
                "ask for less under roles, or add nodes",
            )


def totals_of(groups: Sequence[Group], nodes: Sequence[Node]) -> dict[str, tuple[int, int, int]]:
    """Asked, available and total, in grains, of every resource that is asked for."""
    free = [grains(node.available) for node in nodes]
    full = [grains(node.total) for node in nodes]
    return {
        name: (needed, sum(node.get(name, 0) for node in free), sum(node.get(name, 0) for node in full))
        for name, needed in asked(groups).items()
    }


def _fragmented(groups: Sequence[Group], totals: Sequence[Mapping[str, int]]) -> Iterator[Finding]:
    for group in groups:
        fitting = sum(room(group.bundle, node) for node in totals)
        if fitting < group.count:
            yield Finding(
                "error",
                f"the nodes have room for {fitting} of {group.count} {group.name} tasks, each of which needs one node",
                f"each asks for {resource_text(group.bundle)}",
                f"ask for less under roles.{group.name}, or add nodes",
            )


def _strict(
    spec: JobSpec, groups: Sequence[Group], nodes: Sequence[Node], totals: Sequence[Mapping[str, int]]
) -> list[Finding]:
    """What strict_pack or strict_spread, which are the harder to please, cannot have."""
    if spec.placement == "strict_pack" and not could_hold_all(groups, totals):
        together = Group("job", asked(groups), 1)
        seen = f"asked {resource_text(together.bundle)}; {_nearest_node(together, nodes, totals)}"
        happened = "placement strict_pack needs one node that holds every task"
        return [Finding("error", happened, seen, "use placement: pack, or add a larger node")]
    if spec.placement == "strict_spread" and (shortfall := strict_spread_shortfall(groups, totals)):
        roles, bundles, fitting = shortfall
        seen = f"{count_text(bundles, 'task')} ({roles}), {count_text(fitting, 'node')} with room for one"
        happened = "placement strict_spread needs a node for every task"
        return [Finding("error", happened, seen, "use placement: spread, or add nodes")]
    return []


def _waiting(spec: JobSpec, groups: Sequence[Group], nodes: Sequence[Node]) -> Iterator[Finding]:
    if _all_placed(spec, groups, [grains(node.available) for node in nodes]):
        return
    if not _all_placed(spec, groups, [grains(node.total) for node in nodes]):
        yield Finding(
            "warning",
            "no way was found to fit all tasks on the nodes together; Ray may not find one either",
            _numbers(groups, nodes),
            "ask for less under roles, or add nodes",
        )
        return
    yield Finding(
        "warning",
        "the job will wait for resources that others use",
        _numbers(groups, nodes),
        f"it gives up after timeouts.placement ({format_duration(spec.timeouts.placement)})",
    )


def _all_placed(spec: JobSpec, groups: Sequence[Group], free: Sequence[Mapping[str, int]]) -> bool:
    return all(node is not None for where in place(groups, free, spec.placement) for node in where)


def _numbers(groups: Sequence[Group], nodes: Sequence[Node]) -> str:
    return "; ".join(
        f"{name}: asked {amount_text(name, needed)}, available {amount_text(name, free)} of {amount_text(name, total)}"
        for name, (needed, free, total) in totals_of(groups, nodes).items()
    )


def with_logical_cpus(nodes: Sequence[Node], groups: Sequence[Group]) -> list[Node]:
    """`nodes` as they will be: a Ray of our own gets as many logical CPUs as the job asks for."""
    cpus = asked(groups).get("CPU", 0) / GRAINS
    return [_raise_cpus(node, cpus) if node.id == LOCAL else node for node in nodes]


def _raise_cpus(node: Node, cpus: float) -> Node:
    return Node(
        node.id,
        node.address,
        {**node.total, "CPU": max(node.total.get("CPU", 0.0), cpus)},
        {**node.available, "CPU": max(node.available.get("CPU", 0.0), cpus)},
    )


def resource_text(amounts: Mapping[str, int]) -> str:
    """`CPU 4, GPU 1, memory 2.0 GiB` of amounts in grains."""
    return ", ".join(f"{name} {amount_text(name, amount)}" for name, amount in amounts.items() if amount) or "nothing"


def asked_text(name: str, amount: float) -> str:
    """One amount, as Ray counts it, as a person reads it."""
    return amount_text(name, round(amount * GRAINS))


def amount_text(name: str, amount: int) -> str:
    """One amount, given in grains, as a person reads it."""
    return format_size(amount / GRAINS) if name == "memory" else f"{amount / GRAINS:g}"
