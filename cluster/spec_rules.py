"""What contradicts itself in a spec: every impossible combination, one sentence each."""

from __future__ import annotations

import contextlib
import difflib
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from cluster.spec_parts import ROLE_ORDER, RoleName
from pipelines.tfio_limits import refused

if TYPE_CHECKING:
    from cluster.spec import JobSpec

#: Set for every task by ray-tfcluster; a value of the user's would contradict the plan.
RESERVED_ENV = ("TF_CONFIG", "CUDA_VISIBLE_DEVICES", "TF_USE_LEGACY_KERAS", "TF_GRPC_REUSE_PORT")
#: Ray's own resources, and the field of a role that asks for each.
_OWN_FIELD = {"CPU": "cpus", "GPU": "gpus", "memory": "memory"}
#: Tasks of a role that a mistyped name is compared with.
_NAMED = 16
_ENTRYPOINT = re.compile(r"(?:[^:]+\.py|[A-Za-z_][\w.]*):[A-Za-z_][\w.]*")
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")


def contradictions(spec: JobSpec) -> Iterator[str]:
    """Every impossible combination in `spec`, one sentence each."""
    for rule in _RULES:
        with contextlib.suppress(WrongKeyError):
            yield from rule(spec)


class WrongKeyError(Exception):
    """A rule asked for a key that is wrong itself, see `_Draft`."""


def _code_problems(spec: JobSpec) -> Iterator[str]:
    if (spec.entrypoint is None) == (spec.script is None):
        seen = "both" if spec.script is not None else "neither"
        yield f"give either entrypoint or script (seen: {seen})"


def _entrypoint_problems(spec: JobSpec) -> Iterator[str]:
    if isinstance(spec.entrypoint, str) and not _ENTRYPOINT.fullmatch(spec.entrypoint):
        yield f"entrypoint {spec.entrypoint!r} is not path.py:function or package.module:function"


def _prepare_problems(spec: JobSpec) -> Iterator[str]:
    if spec.prepare is not None and not _ENTRYPOINT.fullmatch(spec.prepare):
        yield f"prepare {spec.prepare!r} is not path.py:function or package.module:function"


def _script_problems(spec: JobSpec) -> Iterator[str]:
    if spec.script is None:
        return
    if not spec.script or spec.script == ("-m",):
        yield "script is empty; write it like [train.py, --epochs, '3']"
    for key, sentence in _NOT_FOR_SCRIPTS.items():
        if key in spec.model_fields_set and getattr(spec, key):
            yield sentence


#: Keys that only an entrypoint's context carries out, and what a script does instead.
_NOT_FOR_SCRIPTS = {
    "args": "args are an entrypoint's keyword arguments; put a script's arguments into script itself",
    "partition": "partition cannot reach a script, which builds its own strategy; pass variable_partitioner there",
    "precision": "precision cannot reach a script; call keras.mixed_precision.set_global_policy there",
    "checkpoint": "checkpoint cannot reach a script; save below TFCLUSTER_CHECKPOINT_DIR there",
    "data": "data cannot reach a script; read the files there",
    "profile": "profile cannot reach a script, whose steps nobody counts; call tfcluster profile RUN while it runs",
}


def _replica_problems(spec: JobSpec) -> Iterator[str]:
    singles: tuple[RoleName, ...] = ("chief", "evaluator")
    for role in singles:
        if role in spec.roles and spec.roles[role].replicas > 1:
            yield f"roles.{role}.replicas is {spec.roles[role].replicas}; a job has at most one {role}"


def _role_problems(spec: JobSpec) -> Iterator[str]:
    count = {role: spec.replicas(role) for role in ROLE_ORDER}
    trainers = count["chief"] + count["worker"]
    if spec.strategy == "parameter_server":
        for role in ("ps", "worker"):
            if count[role] < 1:
                yield f"strategy parameter_server needs at least one {role}; add roles.{role}"
        if count["chief"] < 1:
            yield "strategy parameter_server needs its coordinator; leave roles.chief out or give it one replica"
    elif count["ps"] and spec.strategy != "custom":
        yield (
            f"roles.ps asks for {count['ps']} parameter servers, which strategy {spec.strategy} would never use; "
            "use strategy: parameter_server (or custom)"
        )
    if spec.strategy in ("none", "mirrored") and trainers > 1:
        yield (
            f"strategy {spec.strategy} trains in one process, but roles ask for {trainers} training tasks; "
            "use strategy: multi_worker_mirrored"
        )
    if trainers < 1:
        yield "no training task: give roles.worker or roles.chief at least one replica"


def _engine_problems(spec: JobSpec) -> Iterator[str]:
    for name, data in spec.data.items():
        if data.engine == "tensorflow_io":
            asked = refused(data.patterns, data.format, features=data.features is not None, on_error=data.on_error)
            yield from (f"data.{name}.engine: tensorflow_io {limit}; use engine: arrow" for limit in asked)


def _success_problems(spec: JobSpec) -> Iterator[str]:
    if spec.success == "all_workers" and spec.strategy == "parameter_server":
        yield "success: all_workers never comes with parameter servers, whose workers serve until stopped; use chief"


def _partition_problems(spec: JobSpec) -> Iterator[str]:
    if spec.partition is not None and spec.strategy != "parameter_server":
        yield f"partition splits variables over parameter servers, but strategy is {spec.strategy}"


def _profile_problems(spec: JobSpec) -> Iterator[str]:
    if spec.profile is None:
        return
    counts: dict[str, int] = {role: spec.replicas(role) for role in ROLE_ORDER if spec.replicas(role)}
    for name in spec.profile.tasks or ():
        role, _, index = name.rpartition("-")
        is_task = index.isdecimal() and str(int(index)) == index and int(index) < counts.get(role, 0)
        if name not in counts and not is_task:
            yield f"profile.tasks: this job has no task or role {name!r}; {_meant(name, counts)}"


def _meant(name: str, counts: Mapping[str, int]) -> str:
    """`did you mean worker?`, or which tasks there are."""
    some = [f"{role}-{index}" for role, count in counts.items() for index in range(min(count, _NAMED))]
    near = [] if name.rpartition("-")[0] in counts else difflib.get_close_matches(name, [*counts, *some], n=1)
    if near:
        return f"did you mean {near[0]}?"
    spans = [f"{role}-0" if count == 1 else f"{role}-0 to {role}-{count - 1}" for role, count in counts.items()]
    return f"it has {', '.join(spans)}"


def _debug_problems(spec: JobSpec) -> Iterator[str]:
    if spec.debug is not None and spec.strategy == "parameter_server":
        yield (
            "debug does not work with parameter servers: the workers run the steps, and what they dump is lost when "
            "they are stopped; to find NaN, call tf.debugging.enable_check_numerics() in the function; "
            "to see tensors, dump the same model with strategy: none"
        )


def _backoff_problems(spec: JobSpec) -> Iterator[str]:
    longest, first = spec.failure.max_backoff, spec.failure.backoff
    if longest < first:
        yield f"failure.max_backoff ({longest:g}s) is shorter than failure.backoff ({first:g}s)"


def _name_problems(spec: JobSpec) -> Iterator[str]:
    if not _NAME.fullmatch(spec.name):
        yield f"name {spec.name!r} cannot name a directory; use 1 to 63 letters, digits, '-', '_' and '.'"


def _gpu_problems(spec: JobSpec) -> Iterator[str]:
    for name, role in spec.roles.items():
        if role.gpus > 1 and role.gpus != int(role.gpus):
            yield f"roles.{name}.gpus is {role.gpus}; above 1 it must be a whole number"
    if spec.strategy == "multi_worker_mirrored" and spec.replicas("chief") and spec.replicas("worker"):
        chief, worker = spec.role("chief").gpus, spec.role("worker").gpus
        if chief != worker:
            yield (
                f"roles.chief.gpus is {chief:g} and roles.worker.gpus is {worker:g}; "
                "a collective strategy needs the same number of GPUs on every training task"
            )


def _resource_problems(spec: JobSpec) -> Iterator[str]:
    for name, role in spec.roles.items():
        for resource, field in _OWN_FIELD.items():
            if resource in role.resources:
                yield f"roles.{name}.resources.{resource} is not a custom resource; use roles.{name}.{field}"


def _env_problems(spec: JobSpec) -> Iterator[str]:
    for name, role in spec.roles.items():
        yield from _reserved(f"roles.{name}.env", role.env)


def _runtime_env_problems(spec: JobSpec) -> Iterator[str]:
    env = spec.runtime_env.get("env_vars")
    if isinstance(env, dict):
        yield from _reserved("runtime_env.env_vars", env)


def _reserved(place: str, env: Mapping[str, Any]) -> Iterator[str]:
    for key in (key for key in RESERVED_ENV if key in env):
        yield f"{place}.{key} is set for each task from the spec; remove it" + _evaluator_hint(key, str(env[key]))


def _evaluator_hint(key: str, value: str) -> str:
    if key == "TF_CONFIG" and "evaluator" in value:
        return (
            "; an evaluator in the cluster spec makes the coordinator wait for ever, roles.evaluator keeps it outside"
        )
    return ""


#: Each reads as few keys as it can: a rule is left out where one of its keys is wrong.
_RULES = (
    _code_problems,
    _entrypoint_problems,
    _prepare_problems,
    _script_problems,
    _replica_problems,
    _role_problems,
    _success_problems,
    _engine_problems,
    _gpu_problems,
    _resource_problems,
    _env_problems,
    _runtime_env_problems,
    _partition_problems,
    _profile_problems,
    _debug_problems,
    _backoff_problems,
    _name_problems,
)
