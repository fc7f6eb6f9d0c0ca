"""The parts of a spec: roles, datasets, failures, timeouts and the like, and how people may write them."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from cluster.units import Duration, Size

RoleName = Literal["chief", "worker", "ps", "evaluator"]
StrategyName = Literal["none", "mirrored", "multi_worker_mirrored", "parameter_server", "custom"]

#: Task order everywhere: in plans, tables and TF_CONFIG.
ROLE_ORDER: tuple[RoleName, ...] = get_args(RoleName)
#: How a filter compares a column with a value.
FilterOp = Literal["==", "!=", "<", "<=", ">", ">=", "in", "not in"]
#: What the columns of a matrix may be.
Dtype = Literal[
    "float32", "float64", "float16", "int64", "int32", "int16", "int8", "uint64", "uint32", "uint16", "uint8", "bool"
]


class Part(BaseModel):
    """Frozen, and knows no other keys than its own."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class RoleSpec(Part):
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


class DataSpec(Part):
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
    pack: dict[str, Dtype | Annotated[tuple[str, ...], Field(min_length=1)]] = Field(
        {},
        description="features that are matrices, and the columns of one dtype that each is made of; or the dtype "
        "alone, for all columns of it that are read and not used otherwise",
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


class FailureSpec(Part):
    """What is retried, how often, and how fast."""

    max_restarts: int = Field(3, ge=0, description="new attempts of the whole job after lost tasks")
    retry_user_errors: bool = Field(False, description="also retry exceptions of the user's own code")
    backoff: Duration = Field(1.0, description="wait before the first restart; doubles with each")
    max_backoff: Duration = Field(60.0, description="longest wait before a restart")


class TimeoutSpec(Part):
    """How long each phase may take."""

    placement: Duration = Field(600.0, description="for the cluster to grant all bundles")
    startup: Duration = Field(300.0, description="for every task to start")
    hang: Duration = Field(600.0, description="between two steps, once a task has reported one")
    evaluator: Duration = Field(600.0, description="for the evaluator to see the last checkpoint")
    stop: Duration = Field(10.0, description="between SIGTERM and SIGKILL")


class CheckpointSpec(Part):
    """When the callbacks of `ctx.callbacks()` save, and how many checkpoints stay."""

    every: Literal["epoch"] | Annotated[int, Field(ge=1)] = Field("epoch", description="'epoch', or a number of steps")
    keep: int = Field(3, ge=1, description="checkpoints kept, the newest first")


class PartitionSpec(Part):
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


class ProfileSpec(Part):
    """Which steps TensorFlow's profiler traces, and on which tasks."""

    steps: tuple[int, int] = Field(description="first and last step that is traced, counted as in ctx.report")
    tasks: tuple[str, ...] | None = Field(
        None, min_length=1, description="tasks or roles, such as worker-0 or ps; default: up to 16 of all"
    )

    @model_validator(mode="after")
    def _in_order(self) -> ProfileSpec:
        first, last = self.steps
        if not 1 <= first <= last:
            raise ValueError(f"steps should be a first and a last step, from 1 on (seen: {first}, {last})")
        return self


class DebugSpec(Part):
    """What TensorBoard's Debugger V2 is given: `tf.debugging.experimental.enable_dump_debug_info`."""

    mode: Literal["NO_TENSOR", "CURT_HEALTH", "CONCISE_HEALTH", "FULL_HEALTH", "SHAPE", "FULL_TENSOR"] = Field(
        "FULL_HEALTH", description="how much is kept of each tensor (tensor_debug_mode)"
    )
    ops: str | None = Field(None, description="regular expression of the op types that are kept; default: all")
    buffer: int = Field(1000, ge=0, description="tensors a task that are kept, the newest; 0 keeps all")

    @field_validator("ops")
    @classmethod
    def _regular(cls, value: str | None) -> str | None:
        try:
            re.compile(value or "")
        except re.error as error:
            raise ValueError(f"{value!r} is no regular expression: {error}") from None
        return value


class TensorBoardSpec(Part):
    """A TensorBoard that runs beside the job, on the launcher's machine, as long as the job does."""

    host: str = Field("localhost", description="address it listens on; TensorBoard asks nobody for a password")
    port: int = Field(6006, ge=0, le=65535, description="port; 0 takes a free one")


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


def _switch(value: object) -> object:
    return {} if value is True else None if value is False else value


Debug = Annotated[
    DebugSpec | None,
    BeforeValidator(_switch, json_schema_input_type=bool | DebugSpec | None),
]
TensorBoard = Annotated[
    TensorBoardSpec | None,
    BeforeValidator(_switch, json_schema_input_type=bool | TensorBoardSpec | None),
]
