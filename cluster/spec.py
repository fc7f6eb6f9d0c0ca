"""`JobSpec`: what the user asks for, loaded from YAML, JSON or Python and checked as a whole."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationError, model_validator

from cluster.errors import SpecError
from cluster.locations import passwords, shown
from cluster.secrets import Mask, option_values, secret_values, without_secrets
from cluster.spec_parts import (
    CheckpointSpec,
    DataSpec,
    Debug,
    FailureSpec,
    KerasVersion,
    Part,
    PartitionSpec,
    ProfileSpec,
    Role,
    RoleName,
    RoleSpec,
    Script,
    StrategyName,
    TensorBoard,
    TimeoutSpec,
)
from cluster.spec_rules import WrongKeyError, contradictions
from cluster.spec_wording import near, problems_in


class JobSpec(Part):
    """One TensorFlow job: its code, strategy, roles, storage and failure rules.

    Raises:
        SpecError: from `JobSpec.of`, `load` and `parse`; naming every problem of the spec at once.
        pydantic.ValidationError: from the constructor, the same problems.
    """

    name: str = Field("job", description="first part of the run directory's name")
    entrypoint: str | Callable[..., Any] | None = Field(
        None, description="path.py:function or package.module:function; in Python also the function itself"
    )
    script: Script | None = Field(
        None, description="an unmodified script and its arguments: [train.py, --epochs, '3'] or [-m, package.train]"
    )
    args: dict[str, Any] = Field({}, description="keyword arguments of the entrypoint, after ctx")
    prepare: str | None = Field(
        None, description="path.py:function run once before the preflight, to make the data; it takes no argument"
    )
    strategy: StrategyName = Field("none", description="the tf.distribute strategy")
    roles: dict[RoleName, Role] = Field({}, description="tasks by role; `worker: 2` is short for replicas")
    placement: Literal["pack", "spread", "strict_pack", "strict_spread"] = Field(
        "pack", description="Ray placement-group strategy"
    )
    storage: str = Field("./runs", description="where run directories go: a path, s3://, gs://, hdfs://")
    resume: str | None = Field(
        None, description="an earlier run to go on from: its directory, its name in storage, or latest"
    )
    data: dict[str, DataSpec] = Field({}, description="datasets by name")
    keras: KerasVersion = Field("auto", description="2 is tf-keras, 3 is Keras 3")
    precision: Literal["float32", "mixed_float16", "mixed_bfloat16"] = Field(
        "float32", description="Keras dtype policy"
    )
    tensorflow_io: bool = Field(False, description="import tensorflow-io in each task: its file systems and ops")
    partition: PartitionSpec | None = Field(None, description="split of variables over parameter servers")
    success: Literal["chief", "all_workers"] = Field("chief", description="whose end ends the job")
    checkpoint: CheckpointSpec = CheckpointSpec()
    failure: FailureSpec = FailureSpec()
    profile: ProfileSpec | None = Field(None, description="trace these steps with TensorFlow's profiler")
    debug: Debug = Field(None, description="dump tensors for TensorBoard's debugger: true, or how; costs much time")
    tensorboard: TensorBoard = Field(None, description="run TensorBoard beside the job: true, or its host and port")
    timeouts: TimeoutSpec = TimeoutSpec()
    warm: bool = Field(True, description="fork tasks from a process that has imported TensorFlow")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "warning", description="TensorFlow's own log level, in C++ and Python"
    )
    runtime_env: dict[str, Any] = Field({}, description="Ray runtime environment of the tasks, handed over unchanged")

    @model_validator(mode="after")
    def _consistent(self) -> JobSpec:
        problems = list(contradictions(self))
        if problems:
            raise ValueError("\n".join(problems))
        return self

    @classmethod
    def of(cls, value: JobSpec | Mapping[str, Any] | str | Path) -> JobSpec:
        """A spec from a spec, a mapping, or the path of a YAML or JSON file."""
        if isinstance(value, JobSpec):
            return value
        if isinstance(value, Mapping):
            return parse(dict(value))
        return load(Path(value))

    def replicas(self, role: RoleName) -> int:
        """Number of tasks of `role`, with the implied coordinator and single worker."""
        if role in self.roles:
            return self.roles[role].replicas
        if role == "chief":
            return 1 if self.strategy == "parameter_server" else 0
        trains = any(self.roles[r].replicas for r in ("chief", "worker") if r in self.roles)
        return 1 if role == "worker" and not trains and self.strategy != "parameter_server" else 0

    def role(self, role: RoleName) -> RoleSpec:
        """The settings of `role`, defaults where the spec says nothing."""
        return self.roles.get(role, RoleSpec())

    def to_document(self) -> dict[str, Any]:
        """What the user set, as plain JSON values; what JSON cannot hold is written as text.

        A function is written as `module:name`.
        """
        set_by_user = self.model_dump(exclude_unset=True, exclude={"entrypoint"})
        document: dict[str, Any] = json.loads(json.dumps(set_by_user, default=str))
        if self.entrypoint is not None:
            document["entrypoint"] = entrypoint_name(self.entrypoint)
        return document


def entrypoint_name(entrypoint: str | Callable[..., Any]) -> str:
    """`entrypoint` as text."""
    if isinstance(entrypoint, str):
        return entrypoint
    module = getattr(entrypoint, "__module__", "?")
    return f"{module}:{getattr(entrypoint, '__qualname__', repr(entrypoint))}"


def shown_document(spec: JobSpec) -> dict[str, Any]:
    """What the user set, as others may see it: secret variables, arguments and options, and passwords, are `***`."""
    document = spec.to_document()
    if spec.script is not None:
        document["script"] = Mask.over(option_values(spec.script)).data(document["script"])
    for named in _named_values(document):
        named.update(without_secrets(named))
    clean: dict[str, Any] = _without_passwords(document)
    return clean


def mask_of(spec: JobSpec, environ: Mapping[str, str]) -> Mask:
    """A mask over the secrets of the job's variables, arguments and options, of `environ`, and of passwords in URIs."""
    document = spec.to_document()
    named = secret_values([environ, *_named_values(document)])
    return Mask.over([*named, *option_values(spec.script or ()), *_passwords([document, dict(environ)])])


def _named_values(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """What a spec sets by names that the user chose: arguments, variables of each role and of Ray's environment."""
    if isinstance(document.get("args"), dict):
        yield document["args"]
    for place in (*document.get("roles", {}).values(), document.get("runtime_env", {})):
        for env in (place.get("env"), place.get("env_vars")):
            if isinstance(env, dict):
                yield env


def _passwords(value: Any) -> Iterator[str]:
    if isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _passwords(part)
    elif isinstance(value, str):
        yield from passwords(value)


def _without_passwords(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_passwords(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_without_passwords(part) for part in value]
    return shown(value) if isinstance(value, str) else value


def load(path: Path) -> JobSpec:
    """The spec in the YAML or JSON file `path`.

    Raises:
        SpecError: no such file, not YAML, not a mapping, or not a valid spec.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError("cannot read the spec", path, str(error)) from None
    try:
        document = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except (yaml.YAMLError, json.JSONDecodeError) as error:
        language = "JSON" if path.suffix == ".json" else "YAML"
        raise SpecError(f"the spec is not valid {language}", path, str(error)) from None
    return parse(document, source=str(path))


def parse(document: object, source: str = "") -> JobSpec:
    """A spec from a plain document; `source` names it in errors.

    Raises:
        SpecError: naming every problem at once.
    """
    if not isinstance(document, dict):
        seen = source or type(document).__name__
        raise SpecError("the spec is not a mapping of keys to values", seen, "see tfcluster schema")
    try:
        return JobSpec.model_validate(document)
    except ValidationError as error:
        problems = problems_in(error, JobSpec)
        problems += _further_problems(document, error)
        todo = "; ".join(problems) if len(problems) == 1 else "".join(f"\n  - {p}" for p in problems)
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        raise SpecError(f"the spec has {count}", source, todo) from None


class _Draft(JobSpec):
    """Those keys of a spec that are right by themselves; reading another one ends the rule that does."""

    @model_validator(mode="after")
    def _consistent(self) -> _Draft:
        return self

    def __getattr__(self, name: str) -> Any:
        raise WrongKeyError(name)


def _further_problems(document: dict[Any, Any], error: ValidationError) -> list[str]:
    """Contradictions between the keys that are right, where others are wrong: pydantic looks no further then."""
    wrong = {item["loc"][0] for item in error.errors() if item["loc"]}
    if not wrong:
        return []
    draft = _Draft.model_validate({key: value for key, value in document.items() if key not in wrong})
    meant = {near(key, list(JobSpec.model_fields)) for key in wrong}  # also the key that a mistyped one stands for
    for key in JobSpec.model_fields.keys() & (wrong | meant):
        draft.__dict__.pop(key)
    return list(contradictions(draft))


def json_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of a spec as it is written in YAML or JSON."""
    schema = _JsonSpec.model_json_schema(by_alias=True)
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "JobSpec"
    schema["description"] = "One TensorFlow job: its code, strategy, roles, storage and failure rules."
    return schema


class _JsonSpec(JobSpec):
    """The spec without what only Python can say, for the JSON Schema."""

    entrypoint: str | None = Field(None, description="path.py:function or package.module:function")
