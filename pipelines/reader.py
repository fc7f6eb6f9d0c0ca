"""One shard's reading: which pieces an epoch has, and the rows of a piece as a few numpy matrices."""

from __future__ import annotations

import functools
import itertools
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipelines import parquet, shards
from pipelines.parquet import Source

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class ReadPlan:
    """What one shard reads, in plain values, so that another process can read the same.

    `shard_index` is None where the process that reads decides it.
    """

    files: tuple[str, ...]
    columns: tuple[str, ...] | None
    label: str | None
    batch: int
    shuffle: bool
    seed: int
    shard_count: int
    shard_index: int | None
    epoch: int
    skip_batches: int

    def to_json(self) -> str:
        """The plan as text."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> ReadPlan:
        """The plan of `to_json`."""
        values = json.loads(text)
        lists = {key: tuple(value) for key, value in values.items() if isinstance(value, list)}
        return cls(**{**values, **lists})


class Reader:
    """Reads the pieces of a plan; safe to use from several threads.

    Args:
        plan: what to read.
        epoch_now: asked for the epoch whenever an iteration begins; None counts iterations from `plan.epoch`.

    Raises:
        DataError: the files cannot be read as one table, or hold fewer rows than there are shards.
    """

    def __init__(self, plan: ReadPlan, epoch_now: Callable[[], int] | None = None) -> None:
        self.plan = plan
        self.source: Source = parquet.open_source(plan.files, plan.columns, plan.label)
        self.groups = groups_of(self.source.columns)
        self._epochs = itertools.count(plan.epoch)
        self._epoch_now = epoch_now
        # Two epochs, because the next one may begin while the last pieces of this one are read.
        self._blocks = functools.lru_cache(maxsize=2)(self._blocks_of)
        self.batches = shards.batch_count(sum(unit.rows for unit in self.source.units), plan.shard_count, plan.batch)

    def begin(self) -> tuple[Array, Array]:
        """The pieces of the iteration that begins now, `[n, 4]` of int64, and its batch sizes, `[m]` of int64.

        Each row of the first is the arguments of `read`.
        """
        epoch = self._epoch_now() if self._epoch_now else next(self._epochs)
        share = shards.assign(
            self._blocks(epoch),
            shard_count=self.plan.shard_count,
            shard_index=self.plan.shard_index or 0,
            batch=self.plan.batch,
            skip_batches=self.plan.skip_batches if epoch == self.plan.epoch else 0,
        )
        pieces = [(epoch, *piece) for piece in share.pieces]
        return np.array(pieces, np.int64).reshape(-1, 4), np.array(share.batch_sizes or [self.plan.batch], np.int64)

    def read(self, piece: Array) -> list[Array]:
        """The rows of `piece` (epoch, block, start, stop): for each group of columns `[stop - start, columns]`.

        Raises:
            DataError: a row group cannot be read, or holds nulls.
        """
        epoch, index, start, stop = (int(number) for number in piece)
        block = self._blocks(epoch)[index]
        tables = [parquet.read(self.source, unit) for unit in block]
        if not self.plan.shuffle:
            return self._pack(tables[0].slice(start, stop - start))
        rows = shards.row_order(shards.rows_of(block), seed=self.plan.seed, epoch=epoch, block=index)
        return [matrix[rows[start:stop]] for matrix in self._pack(pa.concat_tables(tables))]

    def _blocks_of(self, epoch: int) -> tuple[shards.Block, ...]:
        return shards.blocks_of(self.source.units, shuffle=self.plan.shuffle, seed=self.plan.seed, epoch=epoch)

    def _pack(self, table: pa.Table) -> list[Array]:
        return [
            np.stack([parquet.to_numpy(table[name], dtype) for name in names], axis=1)
            for dtype, names in self.groups.items()
        ]


def groups_of(columns: dict[str, np.dtype[Any]]) -> dict[np.dtype[Any], list[str]]:
    """Columns by dtype: what crosses into TensorFlow as one matrix, since each tensor costs more than its bytes."""
    groups: dict[np.dtype[Any], list[str]] = {}
    for name, dtype in columns.items():
        groups.setdefault(dtype, []).append(name)
    return groups
