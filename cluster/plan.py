"""`make_plan(spec, nodes, facts) -> Plan`: tasks, their bundles, nodes and TF_CONFIG, and every problem. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from cluster.capacity import totals_of, with_logical_cpus
from cluster.checks import findings_of, keras_of
from cluster.errors import PreflightError
from cluster.findings import LEVELS
from cluster.findings import DataFacts as DataFacts
from cluster.findings import Facts as Facts
from cluster.findings import Finding as Finding
from cluster.keras_choice import KerasChoice
from cluster.placement import GRAINS, Group, grains, place
from cluster.placement import Node as Node
from cluster.spec import JobSpec, shown_document
from cluster.spec_parts import ROLE_ORDER, RoleName
from cluster.tasks import Task, tasks_of
from cluster.tf_config import TfConfig, make_tf_configs

#: Ray refuses an empty bundle; a task that asks for nothing gets this crumb.
_CRUMB = {"CPU": 0.001}


@dataclass(frozen=True)
class TaskPlan:
    """One task as it would start.

    Attributes:
        task: role and index.
        bundle: resources by Ray's name, without zeros; memory in bytes.
        node: id of the node where it could go, or None where there is none.
        tf_config: its TF_CONFIG, `<port of TASK>` for ports, which exist only after landing; None for a task that
            trains alone.
    """

    task: Task
    bundle: Mapping[str, float]
    node: str | None
    tf_config: TfConfig | None


@dataclass(frozen=True)
class Total:
    """One resource, over all tasks and all nodes."""

    asked: float
    available: float
    total: float


@dataclass(frozen=True)
class Plan:
    """A spec laid out on the nodes at hand.

    Attributes:
        spec: the job.
        tasks: chief, workers, parameter servers, evaluator.
        findings: every problem and remark, errors first.
        keras: the Keras that tasks use, and why.
        totals: by resource that is asked for.
    """

    spec: JobSpec
    tasks: tuple[TaskPlan, ...]
    findings: tuple[Finding, ...]
    keras: KerasChoice
    totals: Mapping[str, Total]

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings that keep the job from running."""
        return tuple(finding for finding in self.findings if finding.level == "error")

    def raise_for_errors(self) -> None:
        """Raise one error that names every problem.

        Raises:
            PreflightError: there are errors among the findings.
        """
        if len(self.errors) == 1:
            only = self.errors[0]
            raise PreflightError(only.happened, only.seen, only.todo)
        if self.errors:
            problems = "".join(f"\n  - {error}" for error in self.errors)
            raise PreflightError(f"the job cannot run here: {len(self.errors)} problems", "", problems)

    def to_document(self) -> dict[str, Any]:
        """The plan as plain JSON values, without secrets."""
        return {
            "spec": shown_document(self.spec),
            "ok": not self.errors,
            "findings": [asdict(finding) for finding in self.findings],
            "keras": self.keras._asdict(),
            "resources": {name: asdict(total) for name, total in self.totals.items()},
            "tasks": [
                {"task": str(t.task), "bundle": dict(t.bundle), "node": t.node, "tf_config": t.tf_config}
                for t in self.tasks
            ],
        }


def make_plan(spec: JobSpec, nodes: Sequence[Node], facts: Facts) -> Plan:
    """Lay `spec` out on `nodes` and say everything that speaks against it.

    Args:
        spec: the job.
        nodes: the Ray nodes at hand, or none when they are not known.
        facts: what `cluster.preflight.gather` saw.
    """
    groups = [Group(role, grains(bundle_of(spec, role)), spec.replicas(role)) for role in ROLE_ORDER]
    groups = [group for group in groups if group.count]
    where = _where(spec, groups, with_logical_cpus(nodes, groups))
    findings = sorted(findings_of(spec, groups, nodes, facts), key=lambda finding: LEVELS.index(finding.level))
    return Plan(
        spec,
        _task_plans(spec, where),
        tuple(findings),
        _keras(spec, facts),
        {name: Total(*(amount / GRAINS for amount in amounts)) for name, amounts in totals_of(groups, nodes).items()},
    )


def _keras(spec: JobSpec, facts: Facts) -> KerasChoice:
    """The Keras of the tasks; where TensorFlow is to come from elsewhere, tf-keras will come with it."""
    elsewhere = facts.versions.get("tensorflow") is None
    installed = facts.versions.get("tf-keras") is not None
    return keras_of(spec, tf_keras_installed=installed or elsewhere or spec.keras == "2")  # its lack is a finding


def bundle_of(spec: JobSpec, role: RoleName) -> dict[str, float]:
    """The placement-group bundle of one task of `role`, by Ray's names."""
    settings = spec.role(role)
    own = {"CPU": settings.cpus, "GPU": settings.gpus, "memory": float(settings.memory or 0)}
    return {name: amount for name, amount in (own | settings.resources).items() if amount} or dict(_CRUMB)


def _where(spec: JobSpec, groups: Sequence[Group], nodes: Sequence[Node]) -> dict[Task, Node | None]:
    """A node for each task: among what is free now, or, where that is too little, among all there is."""
    placed = place(groups, [grains(node.available) for node in nodes], spec.placement)
    if any(n is None for group in placed for n in group):
        placed = place(groups, [grains(node.total) for node in nodes], spec.placement)
    found = [n for group in placed for n in group]
    return {task: None if n is None else nodes[n] for task, n in zip(tasks_of(spec), found, strict=True)}


def _task_plans(spec: JobSpec, where: Mapping[Task, Node | None]) -> tuple[TaskPlan, ...]:
    addresses = {task: _placeholder(task, node) for task, node in where.items()}
    configs = make_tf_configs(where, addresses, spec.strategy)
    bundles = {role: bundle_of(spec, role) for role in ROLE_ORDER}
    return tuple(
        TaskPlan(task, bundles[task.role], None if node is None else node.id, configs[task])
        for task, node in where.items()
    )


def _placeholder(task: Task, node: Node | None) -> str:
    host = "<host>" if node is None else f"[{node.address}]" if ":" in node.address else node.address
    return f"{host}:<port of {task}>"
