"""`JobSpec`: what the user asks for, loaded from YAML, JSON or Python and checked as a whole."""

from __future__ import annotations

import contextlib
import difflib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from cluster.errors import SpecError
from cluster.locations import shown
from cluster.units import Duration, Size
from pipelines.tfio_limits import refused

RoleName = Literal["chief", "worker", "ps", "evaluator"]
StrategyName = Literal["none", "mirrored", "multi_worker_mirrored", "parameter_server", "custom"]

#: Task order everywhere: in plans, tables and TF_CONFIG.
ROLE_ORDER: tuple[RoleName, ...] = get_args(RoleName)
#: How a filter compares a column with a value.
FilterOp = Literal["==", "!=", "<", "<=", ">", ">=", "in", "not in"]
#: Set for every task by ray-tfcluster; a value of the user's would contradict the plan.
RESERVED_ENV = ("TF_CONFIG", "CUDA_VISIBLE_DEVICES", "TF_USE_LEGACY_KERAS", "TF_GRPC_REUSE_PORT")


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class RoleSpec(_Model):
    """How many tasks of one role, and what each of them gets."""

    replicas: int = Field(1, ge=0, description="number of tasks")
    cpus: float = Field(1, ge=0, description="CPUs a task")
    gpus: float = Field(0, ge=0, description="GPUs a task; a fraction below 1 shares one")
    memory: Size | None = Field(None, description="memory a task, reserved with Ray's scheduler")
    resources: dict[str, Annotated[float, Field(ge=0)]] = Field({}, description="custom Ray resources a task")
    env: dict[str, str] = Field({}, description="environment variables of each task")
    max_restarts: int | None = Field(
        None, ge=0, description="in-place restarts of a parameter-server worker or evaluator; default: failure's"
    )


class DataSpec(_Model):
    """One named dataset, read by `ctx.dataset(name)`."""

    files: str | Annotated[tuple[str, ...], Field(min_length=1)] = Field(
        description="Parquet or TFRecord files: a path, directory, glob, or list of them"
    )
    format: Literal["auto", "parquet", "tfrecord"] = Field("auto", description="by default, by the files' names")
    features: dict[str, Any] | None = Field(
        None, description="of the records in TFRecord files, by name; default: inferred from some of the records"
    )
    batch: int = Field(
        1024,
        ge=1,
        description="global batch: rows of one step over all workers; with parameter servers, of one worker's step",
    )
    label: str | None = Field(None, description="column that becomes the second element of (features, label)")
    columns: tuple[str, ...] | None = Field(None, description="columns to read; default: all")
    casts: dict[str, str] = Field({}, description="Arrow type by column, such as float32")
    fill: dict[str, bool | int | float | str] = Field({}, description="what stands for nulls, by column")
    masks: tuple[str, ...] = Field((), description="columns with a feature <column>_present, False where they are null")
    pack: dict[str, Annotated[tuple[str, ...], Field(min_length=1)]] = Field(
        {}, description="features that are matrices, and the columns of one dtype that each is made of"
    )
    structs: Literal["flat", "nested"] = Field(
        "flat", description="fields of structs under dotted names, or as dictionaries in dictionaries"
    )
    filters: tuple[tuple[str, FilterOp, Any], ...] = Field(
        (), description="conditions [column, operator, value] that every row must meet"
    )
    shuffle: bool = Field(False, description="another seeded order each epoch")
    seed: int = Field(0, description="seed of the shuffled order")
    remainder: Literal["keep", "drop"] = Field(
        "keep", description="rows that do not fill a batch on every worker: in smaller last batches, or left out"
    )
    on_error: Literal["raise", "skip_files", "skip_row_groups"] = Field(
        "raise", description="what to do about data that cannot be read; what is skipped is reported"
    )
    deterministic: bool = Field(True, description="false lets what is read first come first")
    engine: Literal["arrow", "tensorflow_io"] = Field(
        "arrow", description="what decodes Parquet: Arrow, or the operations of tensorflow-io"
    )

    @property
    def patterns(self) -> tuple[str, ...]:
        """`files` as a tuple."""
        return (self.files,) if isinstance(self.files, str) else self.files


class FailureSpec(_Model):
    """What is retried, how often, and how fast."""

    max_restarts: int = Field(3, ge=0, description="new attempts of the whole job after lost tasks")
    retry_user_errors: bool = Field(False, description="also retry exceptions of the user's own code")
    backoff: Duration = Field(1.0, description="wait before the first restart; doubles with each")
    max_backoff: Duration = Field(60.0, description="longest wait before a restart")


class TimeoutSpec(_Model):
    """How long each phase may take."""

    placement: Duration = Field(600.0, description="for the cluster to grant all bundles")
    startup: Duration = Field(300.0, description="for every task to start")
    hang: Duration = Field(600.0, description="between two steps, once a task has reported one")
    evaluator: Duration = Field(600.0, description="for the evaluator to see the last checkpoint")
    stop: Duration = Field(10.0, description="between SIGTERM and SIGKILL")


class CheckpointSpec(_Model):
    """When the callbacks of `ctx.callbacks()` save, and how many checkpoints stay."""

    every: Literal["epoch"] | Annotated[int, Field(ge=1)] = Field("epoch", description="'epoch', or a number of steps")
    keep: int = Field(3, ge=1, description="checkpoints kept, the newest first")


class PartitionSpec(_Model):
    """How variables are split over parameter servers; one of the three.

    Each is the TensorFlow class of the same idea in `tf.distribute.experimental.partitioners`.
    """

    shards: int | None = Field(None, ge=1, description="FixedShardsPartitioner(num_shards)")
    min_size: Size | None = Field(None, description="MinSizePartitioner(min_shard_bytes)")
    max_size: Size | None = Field(None, description="MaxSizePartitioner(max_shard_bytes)")

    @model_validator(mode="after")
    def _one_of_three(self) -> PartitionSpec:
        given = [name for name in ("shards", "min_size", "max_size") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"give one of shards, min_size, max_size (seen: {', '.join(given) or 'none'})")
        return self


def _role_shorthand(value: object) -> object:
    return {"replicas": value} if isinstance(value, int) and not isinstance(value, bool) else value


def _version_text(value: object) -> object:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _words(value: object) -> object:
    """A script given as one string, and numbers among its arguments, as YAML reads them."""
    words = [value] if isinstance(value, str) else value
    return [str(w) if isinstance(w, int | float) else w for w in words] if isinstance(words, list | tuple) else words


Role = Annotated[
    RoleSpec,
    BeforeValidator(_role_shorthand, json_schema_input_type=Annotated[int, Field(ge=0)] | RoleSpec),
]
KerasVersion = Annotated[
    Literal["auto", "2", "3"],
    BeforeValidator(_version_text, json_schema_input_type=Literal["auto", "2", "3", 2, 3]),
]
Script = Annotated[
    tuple[str, ...],
    BeforeValidator(_words, json_schema_input_type=str | tuple[str | float, ...]),
]


class JobSpec(_Model):
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
    timeouts: TimeoutSpec = TimeoutSpec()
    warm: bool = Field(True, description="fork tasks from a process that has imported TensorFlow")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "warning", description="TensorFlow's own log level, in C++ and Python"
    )
    runtime_env: dict[str, Any] = Field({}, description="Ray runtime environment of the tasks, handed over unchanged")

    @model_validator(mode="after")
    def _consistent(self) -> JobSpec:
        problems = list(_contradictions(self))
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


#: Names of environment variables that hold a secret.
_SECRET = re.compile(r"SECRET|PASSWORD|PASSWD|TOKEN$|_KEY$|CONNECTION_STRING$", re.IGNORECASE)


def shown_document(spec: JobSpec) -> dict[str, Any]:
    """What the user set, as others may see it: secret environment variables and passwords in URIs are `***`."""
    document = spec.to_document()
    for place in (*document.get("roles", {}).values(), document.get("runtime_env", {})):
        for env in (place.get("env"), place.get("env_vars")):
            if isinstance(env, dict):
                env.update((name, "***") for name in env if _SECRET.search(name))
    clean: dict[str, Any] = _without_passwords(document)
    return clean


def _without_passwords(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_passwords(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_without_passwords(part) for part in value]
    return shown(value) if isinstance(value, str) else value


#: Ray's own resources, and the field of a role that asks for each.
_OWN_FIELD = {"CPU": "cpus", "GPU": "gpus", "memory": "memory"}
_ENTRYPOINT = re.compile(r"(?:[^:]+\.py|[A-Za-z_][\w.]*):[A-Za-z_][\w.]*")
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")


def _contradictions(spec: JobSpec) -> Iterator[str]:
    """Every impossible combination in `spec`, one sentence each."""
    for rule in _RULES:
        with contextlib.suppress(_WrongKeyError):
            yield from rule(spec)


class _WrongKeyError(Exception):
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
    _backoff_problems,
    _name_problems,
)


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
        problems = [line for items in _branches(error) for line in _sentences(items)]
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
        raise _WrongKeyError(name)


def _further_problems(document: dict[Any, Any], error: ValidationError) -> list[str]:
    """Contradictions between the keys that are right, where others are wrong: pydantic looks no further then."""
    wrong = {item["loc"][0] for item in error.errors() if item["loc"]}
    if not wrong:
        return []
    draft = _Draft.model_validate({key: value for key, value in document.items() if key not in wrong})
    meant = {_near(key, list(JobSpec.model_fields)) for key in wrong}  # also the key that a mistyped one stands for
    for key in JobSpec.model_fields.keys() & (wrong | meant):
        draft.__dict__.pop(key)
    return list(_contradictions(draft))


def _branches(error: ValidationError) -> list[list[dict[str, Any]]]:
    """The errors of pydantic, those of one union together: the branch that got furthest, or else all of them."""
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for item in error.errors():
        tag = next((i for i, part in enumerate(item["loc"]) if part in _UNION_TAGS), None)
        place = item["loc"][:tag]
        clean = {**item, "loc": tuple(part for part in item["loc"] if part not in _UNION_TAGS and part != "[key]")}
        groups.setdefault(place if tag is not None else (*item["loc"], item["type"]), []).append(clean)
    out = []
    for items in groups.values():
        furthest = max(map(_progress, items))
        out.append([item for item in items if _progress(item) == furthest])
    return out


def _progress(item: dict[str, Any]) -> tuple[int, bool]:
    """How near a union's branch came: deeper is nearer, and so is a right type with a wrong value."""
    return len(item["loc"]), not str(item["type"]).endswith("_type")


def _sentences(items: list[dict[str, Any]]) -> list[str]:
    """The errors of one place as sentences a user can act on."""
    item = items[0]
    where = ".".join(str(part) for part in item["loc"])
    if item["type"] == "extra_forbidden":
        return [f"unknown key {where}{_nearest(item['loc'])}"]
    if not where:
        return str(item["msg"]).removeprefix("Value error, ").split("\n")
    wording = " or ".join(dict.fromkeys(map(_wording, items))).replace(" or should be ", " or ")
    return [f"{where}: {wording}{_seen(item)}"]


def _wording(item: dict[str, Any]) -> str:
    if item["type"] == "literal_error":
        return f"should be {item['ctx']['expected']}"
    if item["type"] == "model_type" and item["loc"][0] == "roles":
        return "should be a number of replicas or a mapping of keys to values"
    message = str(item["msg"]).removeprefix("Value error, ").removeprefix("Input ")
    return _WORDING.get(item["type"], message)


def _seen(item: dict[str, Any]) -> str:
    if item["type"] in ("missing", "value_error"):
        return ""  # nothing was seen, or the message tells it
    hint = _did_you_mean(item["input"], _choices(item)) if item["type"] == "literal_error" else ""
    if item["type"] == "string_type" and isinstance(item["input"], int | float):
        hint = "; put it in quotes"
    return f" (seen: {item['input']!r}{hint})"


def _choices(item: dict[str, Any]) -> list[str]:
    return re.findall(r"'([^']*)'", str(item["ctx"]["expected"]))


def _did_you_mean(word: object, known: list[str]) -> str:
    near = _near(word, known)
    return f"; did you mean {near}?" if near else ""


def _near(word: object, known: list[str]) -> str | None:
    return next(iter(difflib.get_close_matches(str(word), known, n=1, cutoff=0.6)), None)


def _nearest(loc: tuple[Any, ...]) -> str:
    """`; did you mean …?` from the keys known where `loc` stands."""
    model = _SECTIONS.get(str(loc[0]), JobSpec) if len(loc) > 1 else JobSpec
    return _did_you_mean(loc[-1], list(model.model_fields)) or f"; known: {', '.join(model.model_fields)}"


_SECTIONS: dict[str, type[BaseModel]] = {
    "roles": RoleSpec,
    "data": DataSpec,
    "failure": FailureSpec,
    "timeouts": TimeoutSpec,
    "checkpoint": CheckpointSpec,
    "partition": PartitionSpec,
}

#: What pydantic puts into a location to say which branch of a union it tried.
_UNION_TAGS = ("str", "callable", "tuple[str, ...]", "literal['epoch']", "constrained-int", "constrained-tuple")
#: pydantic's error types whose own words are about Python, not about the spec.
_WORDING = {
    "missing": "is required",
    "dict_type": "should be a mapping of keys to values",
    "model_type": "should be a mapping of keys to values",
    "tuple_type": "should be a list",
    "string_type": "should be text",
    "bool_parsing": "should be true or false",
    "bool_type": "should be true or false",
    "int_parsing": "should be a whole number",
    "int_type": "should be a whole number",
    "int_from_float": "should be a whole number",
    "float_parsing": "should be a number",
    "float_type": "should be a number",
    "too_short": "should not be empty",
}


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
