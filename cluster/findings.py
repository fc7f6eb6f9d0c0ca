"""Every problem that can be seen before a job starts, from the spec, the nodes and the preflight's facts. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

from cluster.keras_choice import versions_fit
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
from cluster.spec import DataSpec, JobSpec
from cluster.tasks import tasks_of, trains
from cluster.units import format_duration, format_size

Level = Literal["error", "warning", "note"]
#: The worst first.
LEVELS: tuple[Level, ...] = get_args(Level)

#: Keys of a Ray runtime environment that give tasks packages, or a Python, other than this process has.
_OTHER_ENVIRONMENT = ("pip", "uv", "conda", "container", "image_uri", "py_executable")


@dataclass(frozen=True)
class Finding:
    """One thing the preflight has to say, in the words of `cluster.errors`."""

    level: Level
    happened: str
    seen: str = ""
    todo: str = ""

    def __str__(self) -> str:
        return " · ".join(part for part in (self.happened, self.seen, self.todo) if part)


@dataclass(frozen=True)
class DataFacts:
    """What one dataset of the spec holds.

    Attributes:
        files: number of files found.
        row_groups: of all files; None where there were too many files to open.
        rows: of all files; None likewise.
        problem: why it cannot be read, or None.
    """

    files: int = 0
    row_groups: int | None = None
    rows: int | None = None
    problem: Finding | None = None


@dataclass(frozen=True)
class Facts:
    """What `cluster.preflight` observed.

    Attributes:
        code: problems of the entrypoint, script or prepare function.
        storage: why the storage cannot be written, or None.
        data: by dataset.
        versions: installed version, or None, of tensorflow, keras, tf-keras, tensorflow-io and ray.
        python: version of this interpreter.
        addresses: IP addresses of this machine.
        prepared: whether the spec's `prepare` has run, so that its data must be there.
        autoscaling: whether the cluster adds nodes by itself.
    """

    code: tuple[Finding, ...] = ()
    storage: Finding | None = None
    data: Mapping[str, DataFacts] = field(default_factory=dict)
    versions: Mapping[str, str | None] = field(default_factory=dict)
    python: str = ""
    addresses: frozenset[str] = frozenset()
    prepared: bool = True
    autoscaling: bool = False


def findings_of(spec: JobSpec, groups: Sequence[Group], nodes: Sequence[Node], facts: Facts) -> Iterator[Finding]:
    """Every finding: code, storage, data, versions, resources.

    Args:
        spec: the job.
        groups: its bundles, a group a role.
        nodes: the cluster's, or none when it is not known.
        facts: what preflight saw.
    """
    yield from facts.code
    yield from _storage_findings(spec, nodes, facts)
    for name, data in spec.data.items():
        yield from _data_findings(spec, name, facts.data.get(name), facts)
        yield from _batch_findings(spec, name, data)
    yield from _version_findings(spec, nodes, facts)
    yield from _resource_findings(spec, groups, nodes, facts)


def resource_text(amounts: Mapping[str, int]) -> str:
    """`CPU 4, GPU 1, memory 2.0 GiB` of amounts in grains."""
    return ", ".join(f"{name} {amount_text(name, amount)}" for name, amount in amounts.items() if amount) or "nothing"


def amount_text(name: str, amount: int) -> str:
    """One amount, given in grains, as a person reads it."""
    return format_size(amount / GRAINS) if name == "memory" else f"{amount / GRAINS:g}"


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


def _storage_findings(spec: JobSpec, nodes: Sequence[Node], facts: Facts) -> Iterator[Finding]:
    if facts.storage is not None:
        yield facts.storage
    machines = {node.address for node in nodes}
    if len(machines) > 1 and ("://" not in spec.storage or spec.storage.startswith("file://")):
        yield Finding(
            "warning",
            f"storage is a path, and the cluster has {len(machines)} machines",
            spec.storage,
            "use a directory that all of them share, or s3://, gs://, hdfs://",
        )


def _data_findings(spec: JobSpec, name: str, data: DataFacts | None, facts: Facts) -> Iterator[Finding]:
    if data is None:
        return
    if data.problem is not None:
        yield data.problem if facts.prepared else _until_prepared(spec, name, data.problem)
        return
    readers = _readers(spec)
    if data.rows is not None and data.rows < readers:
        yield Finding(
            "error" if spec.strategy == "multi_worker_mirrored" or not data.rows else "warning",
            f"data.{name} has fewer rows than there are workers, so some of them would read none",
            f"{_count(data.rows, 'row')} in {_count(data.files, 'file')}, {_count(readers, 'worker')}",
            "give files that hold more rows, or use fewer workers",
        )
    elif data.row_groups is not None and data.row_groups < readers:
        yield Finding(
            "warning",
            f"data.{name} has fewer row groups than there are workers, so several of them read the same one",
            f"{_count(data.row_groups, 'row group')} in {_count(data.files, 'file')}, {readers} workers",
            "smaller row groups would save reading; the rows are divided evenly either way",
        )
    elif data.files < readers:
        groups = "" if data.row_groups is None else f" ({_count(data.row_groups, 'row group')})"
        yield Finding(
            "note",
            f"data.{name} has fewer files than there are workers, which divide them by row group",
            f"{_count(data.files, 'file')}{groups}, {readers} workers",
            "nothing to do",
        )


def _until_prepared(spec: JobSpec, name: str, problem: Finding) -> Finding:
    return Finding("note", f"data.{name} is not there yet", problem.seen, f"prepare ({spec.prepare}) makes it")


def _readers(spec: JobSpec) -> int:
    """Number of tasks among which a dataset's rows are divided."""
    if spec.strategy == "parameter_server":
        return spec.replicas("worker")
    return sum(trains(task, spec.strategy) for task in tasks_of(spec))


def _batch_findings(spec: JobSpec, name: str, data: DataSpec) -> Iterator[Finding]:
    if spec.strategy not in ("mirrored", "multi_worker_mirrored"):
        return
    workers = _readers(spec)
    role = spec.role("chief") if spec.replicas("chief") else spec.role("worker")
    replicas = workers * max(1, int(role.gpus))
    if data.batch % workers:
        yield Finding(
            "error",
            f"data.{name}.batch, the global batch, cannot be divided among the workers",
            f"{data.batch} rows, {workers} workers",
            _nearest_batches(data.batch, replicas),
        )
    elif data.batch % replicas:
        yield Finding(
            "warning",
            f"data.{name}.batch, the global batch, cannot be divided evenly among the replicas",
            f"{data.batch} rows, {replicas} GPUs",
            _nearest_batches(data.batch, replicas),
        )


def _nearest_batches(batch: int, parts: int) -> str:
    below = batch // parts * parts
    return f"use {below} or {below + parts}" if below else f"use {parts}"


def _version_findings(spec: JobSpec, nodes: Sequence[Node], facts: Facts) -> Iterator[Finding]:
    """What is installed here; an error only where this environment is the tasks' own for certain."""
    other = next((key for key in _OTHER_ENVIRONMENT if spec.runtime_env.get(key)), None)
    ours = other is None and any(node.id == LOCAL for node in nodes)
    here = other is None and bool(nodes) and all(node.address in facts.addresses for node in nodes)
    level: Level = "error" if ours else "warning" if here else "note"
    tensorflow = facts.versions.get("tensorflow")
    if tensorflow is None:
        yield Finding(
            level,
            "TensorFlow is not installed here",
            f"Python {facts.python}",
            "pip install 'ray-tfcluster[tensorflow]'"
            if ours
            else f"runtime_env.{other} must bring it"
            if other is not None
            else "the Ray nodes must have it",
        )
        return
    for problem in versions_fit(tensorflow, facts.versions.get("tf-keras"), facts.versions.get("tensorflow-io"), spec):
        yield Finding(level, problem)


def _resource_findings(
    spec: JobSpec, groups: Sequence[Group], nodes: Sequence[Node], facts: Facts
) -> Iterator[Finding]:
    if not nodes:
        yield Finding("note", "no cluster is known, so resources were not compared", "", "")
        return
    yield from _oversubscription(groups, nodes)
    nodes = with_logical_cpus(nodes, groups)
    impossible = list(_impossible(spec, groups, nodes))
    if facts.autoscaling:
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
    too_large = [group for group in groups if not any(room(group.bundle, node) for node in totals)]
    for group in too_large:
        yield Finding(
            "error",
            f"one {group.name} is larger than any node",
            f"asks for {resource_text(group.bundle)}; {_nearest_node(group, nodes, totals)}",
            f"ask for less under roles.{group.name}, or add a larger node",
        )
    short = list(_short(groups, nodes))
    yield from short
    if too_large or short:
        return
    yield from _fragmented(groups, totals)
    yield from _strict(spec, groups, nodes, totals)


def _nearest_node(group: Group, nodes: Sequence[Node], totals: Sequence[Mapping[str, int]]) -> str:
    """The node that lacks least of one bundle, in the resources that the bundle asks for."""
    covered = [min(node.get(name, 0) / amount for name, amount in group.bundle.items() if amount) for node in totals]
    best = max(range(len(nodes)), key=lambda n: covered[n])
    has = ", ".join(f"{name} {amount_text(name, totals[best].get(name, 0))}" for name in group.bundle)
    return f"the nearest node ({nodes[best].address}) has {has}"


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
) -> Iterator[Finding]:
    if spec.placement == "strict_pack" and not could_hold_all(groups, totals):
        together = Group("job", asked(groups), 1)
        yield Finding(
            "error",
            "placement strict_pack needs one node that holds every task",
            f"asked {resource_text(together.bundle)}; {_nearest_node(together, nodes, totals)}",
            "use placement: pack, or add a larger node",
        )
    if spec.placement == "strict_spread" and (shortfall := strict_spread_shortfall(groups, totals)):
        roles, bundles, fitting = shortfall
        yield Finding(
            "error",
            "placement strict_spread needs a node for every task",
            f"{_count(bundles, 'task')} ({roles}), {_count(fitting, 'node')} with room for one",
            "use placement: spread, or add nodes",
        )


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


def _count(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
