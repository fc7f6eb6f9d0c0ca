"""Every problem that can be seen before a job starts, from the spec, the nodes and the preflight's facts. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cluster.capacity import capacity_findings
from cluster.errors import PreflightError
from cluster.findings import DataFacts, Facts, Finding, Level, count_text
from cluster.keras_choice import KerasChoice, choose_keras, versions_fit
from cluster.placement import LOCAL, Group, Node
from cluster.spec import JobSpec
from cluster.spec_parts import DataSpec
from cluster.tasks import tasks_of, trains

#: Keys of a Ray runtime environment that give tasks packages, or a Python, other than this process has.
_OTHER_ENVIRONMENT = ("pip", "uv", "conda", "container", "image_uri", "py_executable")


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
        yield from _remainder_findings(spec, name, data, facts.data.get(name))
        yield from _prepared_findings(spec, name, data, nodes, facts)
        yield from _batch_findings(spec, name, data)
        yield from _order_findings(spec, name, data)
    yield from _version_findings(spec, nodes, facts)
    yield from _tensorboard_findings(spec, facts)
    yield from capacity_findings(spec, groups, nodes, autoscaling=facts.autoscaling)


def _storage_findings(spec: JobSpec, nodes: Sequence[Node], facts: Facts) -> Iterator[Finding]:
    if facts.storage is not None:
        yield facts.storage
    machines = _machines(nodes)
    if _is_path(spec.storage) and machines > 1 and not facts.shared:
        yield Finding(
            "warning",
            f"storage is a path, and the cluster has {machines} machines",
            spec.storage,
            "use a directory that all of them share, or s3://, gs://, hdfs://",
        )


def _machines(nodes: Sequence[Node]) -> int:
    return len({node.address for node in nodes})


def _is_path(place: str) -> bool:
    return "://" not in place or place.startswith("file://")


def _prepared_findings(
    spec: JobSpec, name: str, data: DataSpec, nodes: Sequence[Node], facts: Facts
) -> Iterator[Finding]:
    """Files that `prepare` makes are where the launcher is, and do not travel as those of the job's folder do."""
    seen, machines = facts.data.get(name), _machines(nodes)
    paths = [pattern for pattern in data.patterns if _is_path(pattern)]
    if spec.prepare and paths and machines > 1 and not (seen and seen.shared):
        yield Finding(
            "warning",
            f"prepare makes data.{name} on this machine alone, and the cluster has {machines}",
            paths[0],
            "write it where all of them see it: a shared directory, or s3://, gs://, hdfs://",
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
            f"{count_text(data.rows, 'row')} in {count_text(data.files, 'file')}, {count_text(readers, 'worker')}",
            "give files that hold more rows, or use fewer workers",
        )
    elif data.row_groups is not None and data.row_groups < readers:
        yield Finding(
            "warning",
            f"data.{name} has fewer row groups than there are workers, so several of them read the same one",
            f"{count_text(data.row_groups, 'row group')} in {count_text(data.files, 'file')}, {readers} workers",
            "smaller row groups would save reading; the rows are divided evenly either way",
        )
    elif data.files < readers:
        groups = "" if data.row_groups is None else f" ({count_text(data.row_groups, 'row group')})"
        yield Finding(
            "note",
            f"data.{name} has fewer files than there are workers, which divide them by row group",
            f"{count_text(data.files, 'file')}{groups}, {readers} workers",
            "nothing to do",
        )


def _remainder_findings(spec: JobSpec, name: str, data: DataSpec, facts: DataFacts | None) -> Iterator[Finding]:
    """Too few rows for one full batch on every worker, where the rows of smaller ones are left out."""
    from pipelines.errors import DataError
    from pipelines.shards import Sharding, batch_count

    if facts is None or facts.rows is None or facts.rows < _readers(spec) or data.filters:
        return
    parts = _replicas(spec) if spec.strategy in ("multi_worker_mirrored", "custom") else 1
    if data.batch % parts:
        return
    readers = 1 if spec.strategy == "parameter_server" else _readers(spec)
    try:
        batch_count(facts.rows, Sharding(readers, data.batch // parts, data.remainder))
    except DataError as error:
        level: Level = "warning" if spec.strategy == "custom" else "error"
        yield Finding(level, f"data.{name}: {error.happened}", error.seen, f"{error.todo}, or remainder: keep")


def _replicas(spec: JobSpec) -> int:
    """Number of parts of a global batch; `custom` is taken for one replica a task."""
    role = spec.role("chief") if spec.replicas("chief") else spec.role("worker")
    return _readers(spec) * (1 if spec.strategy == "custom" else max(1, int(role.gpus)))


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
    workers, replicas = _readers(spec), _replicas(spec)
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


def _order_findings(spec: JobSpec, name: str, data: DataSpec) -> Iterator[Finding]:
    """Leased rows come in their order whatever the spec says."""
    if not data.deterministic and spec.strategy != "parameter_server":
        yield Finding(
            "note",
            f"a restart repeats an epoch of data.{name} from its start, for its batches come in no known order",
            f"data.{name}.deterministic: false",
            "leave it out where each row is to be trained on once an epoch",
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
    try:
        keras_of(spec, tf_keras_installed=facts.versions.get("tf-keras") is not None)
    except PreflightError as error:
        yield Finding(level, error.happened, error.seen, error.todo)
    if facts.uncompiled and (ours or here):
        yield Finding(
            "warning",
            "TensorFlow is compiled anew at each start, which makes its import more than twice as long",
            f"{facts.uncompiled} has no bytecode, and none is kept",
            f"python -m compileall -q {facts.uncompiled}, once, where it may be written",
        )
    for problem in versions_fit(tensorflow, facts.versions.get("tf-keras"), facts.versions.get("tensorflow-io"), spec):
        yield Finding(level, problem)


def _tensorboard_findings(spec: JobSpec, facts: Facts) -> Iterator[Finding]:
    """It runs beside the launcher, which may be on another machine than this one; and a job goes well without it."""
    if spec.tensorboard is not None and facts.versions.get("tensorboard") is None:
        yield Finding(
            "warning",
            "the spec asks for TensorBoard, which is not installed here",
            "tensorboard",
            "pip install 'ray-tfcluster[profile]' where the job is started",
        )


def keras_of(spec: JobSpec, *, tf_keras_installed: bool) -> KerasChoice:
    """The Keras of the job.

    Raises:
        PreflightError: the spec asks for tf-keras, which is not installed.
    """
    return choose_keras(spec.keras, spec.strategy, spec.script is not None, tf_keras_installed)
