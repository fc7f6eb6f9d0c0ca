"""Which groups of worker Pods a job gets: those of the settings, or one Pod for each of its tasks. Pure."""

from __future__ import annotations

import json
import math
import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial

from cluster.capacity import capacity_findings
from cluster.errors import PreflightError, SpecError
from cluster.findings import Finding
from cluster.kube_settings import Pod, Quantity, Resources, Settings, Workers
from cluster.placement import Group as Bundles
from cluster.placement import Node, grains
from cluster.plan import bundle_of
from cluster.spec import JobSpec
from cluster.spec_parts import ROLE_ORDER, RoleName

#: Memory of a task whose role says nothing, and what Ray's own processes take beside a task's.
TASK_MEMORY, RAY_MEMORY = 4 << 30, 1 << 30
#: Where all tasks share one Pod, its group.
TOGETHER = "tasks"

_UNITS: dict[str, Fraction | int] = {
    "": 1, "n": Fraction(1, 10**9), "u": Fraction(1, 10**6), "m": Fraction(1, 1000),
    "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "P": 10**15, "E": 10**18,
    "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "Pi": 2**50, "Ei": 2**60,
}  # fmt: skip
_QUANTITY = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:([numkMGTPE]|[KMGTPE]i)|[eE]([-+]?[0-9]{1,2}))?")


@dataclass(frozen=True)
class Group:
    """Worker Pods that are alike.

    Attributes:
        name: in KubeRay, and as a label of its Pods.
        pod: their settings, with resources.
        fewest, replicas, most: how many.
    """

    name: str
    pod: Pod
    fewest: int
    replicas: int
    most: int


def groups_of(spec: JobSpec, settings: Settings) -> tuple[Group, ...]:
    """The groups of workers, on which the job has room.

    Groups of the settings that have resources are taken as they are, with more Pods than `replicas` where the job needs
    them. Otherwise each task gets a Pod of its own, those of a role in one group; what the settings say of a group with
    the role's name, or of `gpu` and `cpu`, is said of it too.

    Raises:
        SpecError: the settings' groups contradict themselves.
        PreflightError: the job has no room on them.
    """
    given = {name: group for name, group in settings.workerGroups.items() if group is not None}
    found = tuple(_given(given) if any(group.resources for group in given.values()) else _derived(spec, given))
    for group in found:
        _check(group)
    found = _enough(spec, found)
    _check_room(spec, found)
    return found


def _given(groups: Mapping[str, Workers]) -> Iterator[Group]:
    for name, group in groups.items():
        if group.resources is None or not {"cpu", "memory"} <= set(group.resources.limits):
            todo = "Ray offers its tasks what the limits say: give cpu and memory, or no group any resources"
            raise SpecError("a group of workers has no limits", f"workerGroups.{name}", todo)
        replicas = max(1, group.minReplicas or 0) if group.replicas is None else group.replicas
        fewest = replicas if group.minReplicas is None else group.minReplicas
        most = replicas if group.maxReplicas is None else group.maxReplicas
        yield Group(name, group, fewest, replicas, most)


def _derived(spec: JobSpec, given: Mapping[str, Workers]) -> Iterator[Group]:
    roles = [role for role in ROLE_ORDER if spec.replicas(role)]
    if spec.placement == "strict_pack":
        yield _one_pod(spec, roles, given)
        return
    for role in roles:
        asked = spec.role(role)
        # Tasks that share a GPU must share a Pod.
        together = math.floor(1 / asked.gpus) if 0 < asked.gpus < 1 else 1
        together = min(together, spec.replicas(role))
        template = given.get(role) or given.get("gpu" if asked.gpus else "cpu") or Workers()
        pod = _sized(spec, {role: together}, template)
        count = -(-spec.replicas(role) // together)
        yield Group(role, pod, count, count, count)


def _one_pod(spec: JobSpec, roles: list[RoleName], given: Mapping[str, Workers]) -> Group:
    kind = "gpu" if any(spec.role(role).gpus for role in roles) else "cpu"
    template = given.get(TOGETHER) or given.get(kind) or Workers()
    return Group(TOGETHER, _sized(spec, {role: spec.replicas(role) for role in roles}, template), 1, 1, 1)


def _sized(spec: JobSpec, tasks: Mapping[RoleName, int], template: Pod) -> Pod:
    """`template` with the resources that so many tasks of each role need."""
    asked = [(spec.role(role), count) for role, count in tasks.items()]
    cpus = sum((Fraction(str(role.cpus)) * count for role, count in asked), Fraction())
    gpus = math.ceil(sum(Fraction(str(role.gpus)) * count for role, count in asked))
    memory = sum((TASK_MEMORY if role.memory is None else role.memory + RAY_MEMORY) * count for role, count in asked)
    amounts: dict[str, Quantity] = {"cpu": _cpu_text(cpus), "memory": _memory_text(memory)}
    custom: dict[str, float] = {}
    for role, count in asked:
        for name, amount in role.resources.items():
            custom[name] = custom.get(name, 0.0) + amount * count
    start = dict(template.rayStartParams)
    if custom and "resources" not in start:
        start["resources"] = json.dumps(json.dumps(custom))  # it passes a shell, so KubeRay wants it quoted
    sized = {"resources": Resources(requests=amounts, limits=amounts), "gpus": gpus, "rayStartParams": start}
    return template.model_copy(update=sized)


def _cpu_text(cpus: Fraction) -> str:
    """CPUs as Kubernetes writes them; a task that asks for none gets a little."""
    millis = max(100, math.ceil(cpus * 1000))
    return f"{millis // 1000}" if millis % 1000 == 0 else f"{millis}m"


def _memory_text(size: int) -> str:
    return f"{-(-size // 2**20)}Mi" if size % 2**30 else f"{size // 2**30}Gi"


def quantity(value: Quantity, place: str = "") -> Fraction:
    """The number that Kubernetes means by `500m`, `32Gi`, 2 or 1e3.

    Raises:
        SpecError: it is none.
    """
    match = _QUANTITY.fullmatch(str(value))
    if match is None:
        seen = f"{place}: {value}" if place else value
        raise SpecError("not a quantity as Kubernetes writes it", seen, "write it like 500m, 2 or 32Gi")
    return Fraction(match[1].rstrip(".")) * _UNITS[match[2] or ""] * Fraction(10) ** int(match[3] or 0)


def resource_problems(settings: Settings) -> Iterator[str]:
    """Containers that ask for more than they may use, which Kubernetes refuses only when it makes their Pods.

    Raises:
        SpecError: an amount is none.
    """
    found = {"head": settings.head.resources, "rayJob.submitter": settings.rayJob.submitter.resources}
    found |= {f"workerGroups.{name}": group.resources for name, group in settings.workerGroups.items() if group}
    for place, resources in found.items():
        if resources is None:
            continue
        asked, most = (
            {name: quantity(value, f"{place}.resources.{kind}.{name}") for name, value in amounts.items()}
            for kind, amounts in (("requests", resources.requests), ("limits", resources.limits))
        )
        for name in asked:
            if name in most and asked[name] > most[name]:
                seen = f"requests.{name} {resources.requests[name]} is above limits.{name} {resources.limits[name]}"
                yield f"{place}.resources: {seen}; what is not given is the chart's; give both"


def _check(group: Group) -> None:
    """What KubeRay would refuse only when the job is there already.

    Raises:
        SpecError: it would.
    """
    place = f"workerGroups.{group.name}"
    if group.name == "head" or not re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,30}[a-z0-9])?", group.name):
        raise SpecError(
            "a group's name is no DNS label of at most 32 characters, or is head", group.name, "use a-z, 0-9 and -"
        )
    if not group.fewest <= group.replicas <= group.most:
        seen = f"minReplicas {group.fewest}, replicas {group.replicas}, maxReplicas {group.most}"
        raise SpecError(
            f"the bounds of {place} contradict each other", seen, "have minReplicas ≤ replicas ≤ maxReplicas"
        )


def _enough(spec: JobSpec, groups: tuple[Group, ...]) -> tuple[Group, ...]:
    """The groups with the fewest Pods, from `replicas` to `most`, on which the job has room; with most if it has none.

    Nothing scales the cluster of one job: what it needs is there from the start. GPUs are spared first.
    """
    chosen = {group.name: replace(group, replicas=group.most) for group in groups}

    def has_room(group: Group, count: int) -> bool:
        return not any(_problems(spec, {**chosen, group.name: replace(group, replicas=count)}.values()))

    for group in sorted(groups, key=lambda group: -_offered(group)["GPU"]):
        counts = range(group.replicas, group.most)
        count = group.replicas + bisect_left(counts, True, key=partial(has_room, group))
        chosen[group.name] = replace(group, replicas=count)
    return tuple(chosen.values())


def _problems(spec: JobSpec, groups: Iterable[Group]) -> Iterator[Finding]:
    """Why the job has no room on the groups, or may find none."""
    pods = [
        Node(f"{group.name}-{number}", f"a Pod of group {group.name}", offered, offered)
        for group in groups
        for offered in [_offered(group)]
        for number in range(group.replicas)
    ]
    if not pods:
        happened = "there are no workers, and the head runs no tasks"
        yield Finding("error", happened, "workerGroups", "add replicas to a group")
        return
    bundles = [Bundles(role, grains(bundle_of(spec, role)), spec.replicas(role)) for role in ROLE_ORDER]
    wanted = [bundle for bundle in bundles if bundle.count]
    yield from capacity_findings(spec, wanted, pods, autoscaling=False)


def _offered(group: Group) -> dict[str, float]:
    return offered_by(group.pod, f"workerGroups.{group.name}.")


def _check_room(spec: JobSpec, groups: tuple[Group, ...]) -> None:
    findings = [f for f in _problems(spec, groups) if f.level == "error"]
    todo = "raise replicas, resources or gpus of a group in workerGroups"
    if findings:
        problems = "".join(f"\n  - {replace(f, todo=todo)}" for f in findings)
        raise PreflightError("the groups of workers do not hold the job", "", problems)


def offered_by(pod: Pod, place: str = "") -> dict[str, float]:
    """What Ray offers its tasks on one such Pod, as KubeRay starts it.

    Raises:
        SpecError: Ray would not start with such arguments.
    """
    limits = pod.resources.limits if pod.resources else {}

    def said(key: str) -> float | None:
        text = pod.rayStartParams.get(key)
        return _number(text, f"{place}rayStartParams.{key}") if text else None

    cpus, gpus, memory = said("num-cpus"), said("num-gpus"), said("memory")
    return {
        "CPU": float(math.ceil(quantity(limits["cpu"]))) if cpus is None else cpus,
        "GPU": float(pod.gpus or _gpus_in(limits)) if gpus is None else gpus,
        "memory": float(quantity(limits["memory"])) if memory is None else memory,
        **_custom(pod.rayStartParams.get("resources", ""), f"{place}rayStartParams.resources"),
    }


def _number(text: str, place: str) -> float:
    """An amount among Ray's arguments: digits, and perhaps a fraction."""
    if not re.fullmatch(r"[0-9]+(\.[0-9]+)?", text.strip()):
        todo = "write a plain number, such as 4; memory is in bytes"
        raise SpecError("Ray would not start with such an argument", f"{place}: {text}", todo)
    return float(text)


def _custom(text: str, place: str) -> dict[str, float]:
    """Resources of the user's own among Ray's arguments: JSON, quoted for a shell in either way."""
    plain = text.strip()
    try:
        if plain.startswith('"'):
            plain = json.loads(plain)
        found = json.loads(str(plain).strip("'") or "{}")
        return {str(name): float(amount) for name, amount in found.items()}
    except (ValueError, TypeError, AttributeError):
        todo = """write JSON in quotes, such as '{"disk": 2}' with the quotes"""
        raise SpecError("Ray would not start with such resources", f"{place}: {text}", todo) from None


def _gpus_in(limits: Mapping[str, Quantity]) -> float:
    return next((float(quantity(count)) for name, count in limits.items() if re.search("gpu$|/mig-", name)), 0.0)
