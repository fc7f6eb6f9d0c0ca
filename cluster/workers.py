"""`Gang`: all the supervisors of an attempt on one placement group; all or nothing, and nothing left behind."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from cluster.capacity import asked_text
from cluster.errors import PlacementError, StartupError
from cluster.plan import Plan
from cluster.preflight import nodes_from_ray
from cluster.supervisor import Landing, Worker
from cluster.tasks import Task
from cluster.tf_config import join_address

#: Seconds of waiting for resources after which the user is told what is missing.
PATIENCE = 5.0


@dataclass
class Gang:
    """The supervisors of one attempt, where they landed, and the placement group that they share.

    `hosts` is the IP address of each Ray node, as Ray knows it.
    """

    group: Any
    bundles: dict[Task, int]
    workers: dict[Task, Any]
    landings: dict[Task, Landing]
    hosts: dict[str, str]
    runtime_env: Mapping[str, Any]

    def host(self, task: Task) -> str:
        """IP address of the node that `task` landed on."""
        return self.hosts[self.landings[task].node]

    def addresses(self) -> dict[Task, str]:
        """`host:port` of every task, each port held by its supervisor."""
        return {task: join_address(self.host(task), landing.port) for task, landing in self.landings.items()}


def build(plan: Plan, runtime_env: Mapping[str, Any], tell: Callable[[str], None]) -> Gang:
    """Place and start one supervisor a task, all or none.

    Args:
        plan: tasks and bundles.
        runtime_env: what each supervisor asks for, beyond what the Ray job has.
        tell: is given a sentence when there is something to wait for.

    Raises:
        PlacementError: the cluster did not grant every bundle within `timeouts.placement`.
        StartupError: a supervisor did not come up within `timeouts.startup`.
        SupervisorLostError: a supervisor, or its node, died meanwhile.
    """
    from ray.util.placement_group import placement_group

    spec = plan.spec
    group = placement_group([ray_bundle(task.bundle) for task in plan.tasks], strategy=spec.placement.upper())
    gang = Gang(group, {task.task: index for index, task in enumerate(plan.tasks)}, {}, {}, {}, runtime_env)
    try:
        _wait_for_bundles(gang, plan, tell)
        for task in plan.tasks:
            gang.workers[task.task] = _supervisor(gang, plan, task.task)
        gang.landings.update(_land(gang, dict.fromkeys(gang.workers, 0), spec.timeouts.startup))
        gang.hosts.update(_hosts())
    except BaseException:
        tear_down(gang, grace=0.0)
        raise
    return gang


def _hosts() -> dict[str, str]:
    """IP address of every node, also of one that has just been lost."""
    import ray

    return {node["NodeID"]: node["NodeManagerAddress"] for node in ray.nodes()}


def ray_bundle(bundle: Mapping[str, float]) -> dict[str, float]:
    """`bundle` as Ray takes it, which refuses an empty one."""
    return {name: amount for name, amount in bundle.items() if amount > 0} or {"CPU": 0.001}


def _wait_for_bundles(gang: Gang, plan: Plan, tell: Callable[[str], None]) -> None:
    limit = plan.spec.timeouts.placement
    deadline = time.monotonic() + limit
    if gang.group.wait(min(PATIENCE, limit)):
        return
    tell(f"waiting for resources: {_needed_and_available(plan)}")
    while time.monotonic() < deadline:
        if gang.group.wait(min(1.0, max(0.01, deadline - time.monotonic()))):
            return
    raise PlacementError(
        f"the cluster did not grant every bundle within {limit:g} s",
        _needed_and_available(plan),
        "ask for less, free or add nodes, or raise timeouts.placement",
    )


def _needed_and_available(plan: Plan) -> str:
    """`CPU: needed 8, free 2 of 4; GPU: …` over the cluster at hand, and the largest bundle."""
    nodes = nodes_from_ray()
    needed: dict[str, float] = {}
    for task in plan.tasks:
        for name, amount in task.bundle.items():
            needed[name] = needed.get(name, 0.0) + amount
    free = {name: sum(node.available.get(name, 0.0) for node in nodes) for name in needed}
    total = {name: sum(node.total.get(name, 0.0) for node in nodes) for name in needed}
    numbers = [
        f"{n} needed {asked_text(n, needed[n])}, available {asked_text(n, free[n])} of {asked_text(n, total[n])}"
        for n in needed
        if needed[n]
    ]
    return "; ".join(numbers) + f" ({len(plan.tasks)} bundles, {plan.spec.placement}, {len(nodes)} nodes)"


def _supervisor(gang: Gang, plan: Plan, task: Task) -> Any:
    import ray
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    bundle = dict(plan.tasks[gang.bundles[task]].bundle)
    options: dict[str, Any] = {
        "num_cpus": bundle.pop("CPU", 0.0),
        "num_gpus": bundle.pop("GPU", 0.0),
        "max_concurrency": 16,
        "scheduling_strategy": PlacementGroupSchedulingStrategy(gang.group, gang.bundles[task]),
    }
    memory = bundle.pop("memory", 0.0)
    if memory:
        options["memory"] = int(memory)
    if bundle:
        options["resources"] = bundle
    if gang.runtime_env:
        options["runtime_env"] = dict(gang.runtime_env)
    return ray.remote(Worker).options(**options).remote(str(task))


def _land(gang: Gang, ports: Mapping[Task, int], limit: float) -> dict[Task, Landing]:
    import ray
    from ray.exceptions import GetTimeoutError, RayError, RuntimeEnvSetupError

    refs = {task: gang.workers[task].land.remote(port) for task, port in ports.items()}
    try:
        return dict(zip(refs, ray.get(list(refs.values()), timeout=limit), strict=True))
    except GetTimeoutError:
        done, _ = ray.wait(list(refs.values()), num_returns=len(refs), timeout=0)
        missing = [str(task) for task, ref in refs.items() if ref not in done]
        raise StartupError(
            f"{len(missing)} supervisors did not come up within {limit:g} s",
            ", ".join(missing[:8]),
            "raise timeouts.startup if a runtime_env is still being installed; see Ray's logs",
        ) from None
    except RuntimeEnvSetupError as error:
        raise StartupError("the runtime environment could not be made", str(error).strip(), "see runtime_env") from None
    except RayError as error:
        raise SupervisorLostError(_first_lost(refs), type(error).__name__) from None


class SupervisorLostError(Exception):
    """A supervisor, or its node, was lost while the gang was built.

    Attributes:
        task: whose it was.
    """

    def __init__(self, task: Task, reason: str) -> None:
        super().__init__(f"its supervisor was lost while it started ({reason})")
        self.task = task


def _first_lost(refs: Mapping[Task, Any]) -> Task:
    """The first task whose call failed."""
    import ray
    from ray.exceptions import RayError

    for task, ref in refs.items():
        try:
            ray.get(ref, timeout=0.0)
        except RayError:
            return task
    return next(iter(refs))


def replace_worker(gang: Gang, plan: Plan, task: Task) -> None:
    """Put a new supervisor in the place of a dead one: same bundle, so same node, and same port.

    Raises:
        StartupError: the node, or the port, is gone.
    """
    import ray

    before = gang.landings[task]
    with contextlib.suppress(Exception):
        ray.kill(gang.workers[task])
    gang.workers[task] = _supervisor(gang, plan, task)
    landing = _land(gang, {task: before.port}, plan.spec.timeouts.startup)[task]
    if (landing.node, landing.port) != (before.node, before.port):
        raise StartupError("a task came back at another address", f"port {landing.port} of node {landing.node}", "")
    gang.landings[task] = landing


def tear_down(gang: Gang, grace: float) -> None:
    """Stop every task, then its supervisor, then give the resources back; never raises."""
    import ray
    from ray.util import remove_placement_group

    with contextlib.suppress(Exception):
        stops = [worker.stop.remote(grace) for worker in gang.workers.values()]
        ray.wait(stops, num_returns=len(stops), timeout=grace + 12.0)
    for worker in gang.workers.values():
        with contextlib.suppress(Exception):
            ray.kill(worker)
    with contextlib.suppress(Exception):
        remove_placement_group(gang.group)
