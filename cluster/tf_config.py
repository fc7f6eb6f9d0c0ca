"""A task and the addresses of all tasks → its `TF_CONFIG`, and back; a host and a port → an address, and back."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from ipaddress import IPv6Address
from typing import Any, TypedDict, TypeGuard

from cluster.errors import SpecError
from cluster.spec_parts import ROLE_ORDER, RoleName, StrategyName
from cluster.tasks import Task

#: These train in one process and start no TensorFlow server, so nothing has an address.
_WITHOUT_SERVERS: tuple[StrategyName, ...] = ("none", "mirrored")
_TODO = 'write it like {"cluster": {"worker": ["host:port", …]}, "task": {"type": "worker", "index": 0}}'


class TaskEntry(TypedDict):
    """Whose TF_CONFIG it is."""

    type: RoleName
    index: int


class TfConfig(TypedDict):
    """What TensorFlow reads from the environment variable TF_CONFIG, as JSON."""

    cluster: dict[RoleName, list[str]]
    task: TaskEntry


def make_tf_config(task: Task, addresses: Mapping[Task, str], strategy: StrategyName) -> TfConfig | None:
    """The TF_CONFIG of `task`, or None for one that trains alone.

    Args:
        task: whose it is.
        addresses: `host:port` of every task that has one, see `join_address`.
        strategy: with `none` and `mirrored` the only training task gets no TF_CONFIG, as Kubeflow does it: scripts
            take its presence for a cluster.

    Raises:
        SpecError: `task` or a trainer has no address, indices of a role have holes, or two tasks share an address.
    """
    return make_tf_configs([task], addresses, strategy)[task]


def make_tf_configs(
    tasks: Iterable[Task], addresses: Mapping[Task, str], strategy: StrategyName
) -> dict[Task, TfConfig | None]:
    """`make_tf_config` of each of `tasks`, which share the one cluster in memory.

    Raises:
        SpecError: as `make_tf_config`.
    """
    if strategy in _WITHOUT_SERVERS:
        return {task: _config(task, {}, addresses) if task.role == "evaluator" else None for task in tasks}
    cluster = training_cluster(addresses)
    return {task: _config(task, cluster, addresses) for task in tasks}


def _config(task: Task, cluster: dict[RoleName, list[str]], addresses: Mapping[Task, str]) -> TfConfig:
    """The TF_CONFIG of `task` in `cluster`.

    The evaluator belongs to no training cluster (one in it makes the coordinator wait for ever), but must learn its
    role from its own TF_CONFIG, also beside a task that trains alone. It sees the training cluster, as TensorFlow's
    documents have it, and its own address, if it has one: without that its `MultiWorkerMirroredStrategy()` raises
    KeyError('evaluator'), with it it is a cluster of one (seen on TensorFlow 2.17.1).
    """
    if task.role == "evaluator":
        own: dict[RoleName, list[str]] = {"evaluator": [addresses[task]]} if task in addresses else {}
        cluster = cluster | own
    elif task.index >= len(cluster.get(task.role, ())):
        raise SpecError("a task has no address", task, "give the address of every task that trains or serves")
    return {"cluster": cluster, "task": {"type": task.role, "index": task.index}}


def training_cluster(addresses: Mapping[Task, str]) -> dict[RoleName, list[str]]:
    """Addresses by role, in the order of the indices, without the evaluator's.

    Raises:
        SpecError: indices of a role have holes, two tasks share an address, or none of them trains.
    """
    members = {task: address for task, address in addresses.items() if task.role != "evaluator"}
    cluster: dict[RoleName, list[str]] = {}
    for role in ROLE_ORDER:
        indices = sorted(task.index for task in members if task.role == role)
        if indices != list(range(len(indices))):
            raise SpecError(f"the indices of role {role} have holes", indices, "number them from 0")
        if indices:
            cluster[role] = [members[Task(role, index)] for index in indices]
    _check_cluster(cluster)
    return cluster


def read_tf_config(text: str) -> tuple[Task, dict[Task, str]]:
    """The task and all addresses of a TF_CONFIG; the inverse of `make_tf_config`.

    Raises:
        SpecError: not JSON, not of TF_CONFIG's form, or a cluster that TensorFlow would hang or fail on.
    """
    try:
        document = json.loads(text)
    except ValueError as error:
        raise SpecError("TF_CONFIG is not valid JSON", text, str(error)) from None
    if not isinstance(document, dict) or not isinstance(document.get("cluster"), dict):
        raise SpecError("TF_CONFIG has no cluster", text, _TODO)
    task = _read_task(document.get("task"))
    addresses: dict[Task, str] = {}
    for role, hosts in document["cluster"].items():
        addresses |= _read_role(role, hosts)
    _check_membership(task, addresses)
    return task, addresses


def join_address(host: str, port: int) -> str:
    """`host:port`; an IPv6 host stands in brackets, without which TensorFlow hangs (seen on 2.17.1).

    Raises:
        SpecError: `host` is not an IP address or host name, or `port` not in 1 to 65535.
    """
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not _is_host(bare):
        raise SpecError("not a host", repr(host), "give an IP address or a host name")
    if not 1 <= port <= 65535:
        raise SpecError("not a port", port, "give a number from 1 to 65535")
    return f"[{bare}]:{port}" if ":" in bare else f"{bare}:{port}"


def split_address(address: str) -> tuple[str, int]:
    """Host, without brackets, and port of `host:port`.

    Raises:
        SpecError: not an address.
    """
    host, _, port = address.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    bracketed = bare != host
    if not _is_host(bare) or (":" in bare) != bracketed or not (port.isascii() and port.isdigit() and len(port) <= 5):
        raise SpecError("not an address", repr(address), "write it host:port, or [host]:port for IPv6")
    join_address(bare, int(port))
    return bare, int(port)


def _is_host(text: str) -> bool:
    if ":" not in text:
        return bool(text) and text.isprintable() and not any(c.isspace() or c in "[]/@," for c in text)
    try:
        IPv6Address(text)
    except ValueError:
        return False
    return True


def _check_cluster(cluster: Mapping[RoleName, list[str]]) -> None:
    """Refuse a cluster on which TensorFlow's servers would clash or that has nobody to train."""
    if len(cluster.get("chief", ())) > 1:
        raise SpecError("a cluster has at most one chief", ", ".join(cluster["chief"]), "make the others workers")
    if not cluster.get("chief") and not cluster.get("worker"):
        raise SpecError("the cluster has no training task", dict(cluster), "give it a chief or a worker")
    _check_distinct(address for hosts in cluster.values() for address in hosts)


def _check_distinct(addresses: Iterable[str]) -> None:
    shared = [address for address, count in Counter(addresses).items() if count > 1]
    if shared:
        raise SpecError("several tasks have the same address", ", ".join(shared), "give each task a port of its own")


def _check_membership(task: Task, addresses: Mapping[Task, str]) -> None:
    evaluators = [t for t in addresses if t.role == "evaluator"]
    if task.role != "evaluator" and evaluators:
        raise SpecError(
            "an evaluator is in the cluster of a training task",
            addresses[evaluators[0]],
            "leave it out: TensorFlow would wait for it for ever",
        )
    if len(evaluators) > 1:
        raise SpecError("a job has at most one evaluator", len(evaluators), "leave the others out")
    if len(addresses) > len(evaluators):
        training_cluster(addresses)
    _check_distinct(addresses.values())
    if task not in addresses and task.role != "evaluator":
        raise SpecError("TF_CONFIG's task is not in its cluster", task, "give its role at least that many addresses")


def _read_task(entry: Any) -> Task:
    if not isinstance(entry, dict) or "type" not in entry:
        raise SpecError("TF_CONFIG has no task", entry, _TODO)
    role, index = entry["type"], entry.get("index")
    if not _is_role(role):
        raise SpecError("TF_CONFIG's task has an unknown type", repr(role), _known_roles(role))
    if not isinstance(index, int) or isinstance(index, bool) or index < 0:
        raise SpecError("TF_CONFIG's task has no index", repr(index), "give a whole number from 0")
    return Task(role, index)


def _read_role(role: Any, hosts: Any) -> dict[Task, str]:
    if not _is_role(role):
        raise SpecError("TF_CONFIG's cluster has an unknown role", repr(role), _known_roles(role))
    if not isinstance(hosts, list) or not all(isinstance(host, str) for host in hosts):
        raise SpecError(f"TF_CONFIG's cluster.{role} is not a list of addresses", json.dumps(hosts), _TODO)
    for host in hosts:
        split_address(host)
    return {Task(role, index): host for index, host in enumerate(hosts)}


def _is_role(value: Any) -> TypeGuard[RoleName]:
    return value in ROLE_ORDER


def _known_roles(role: Any) -> str:
    return "TensorFlow 2 calls it chief" if role == "master" else f"use {', '.join(ROLE_ORDER)}"
