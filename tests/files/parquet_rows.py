"""Parquet files that tests write, and the rows that a reader makes of them, without TensorFlow."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.errors import DataError
from pipelines.layout import Request
from pipelines.reader import Reader, ReadPlan
from pipelines.schema import Fixed, Kind, Number, Text
from pipelines.shards import Sharding
from pipelines.sources import Files


def write(path: Path, columns: dict[str, Any] | pa.Table, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(columns if isinstance(columns, pa.Table) else pa.table(columns), path, **options)
    return path


def reader_of(path: Path, batch: int = 8, **request: Any) -> Reader:
    return Reader(ReadPlan(Files((str(path),)), Request(**request), Sharding(1, batch)))


def values(path: Path, batch: int = 8, **request: Any) -> dict[str, list[Any]]:
    """What a reader hands to TensorFlow, put together again: rows by feature."""
    reader = reader_of(path, batch, **request)
    found: dict[str, list[Any]] = {feature.name: [] for feature in reader.layout.features}
    for chunk in reader.begin():
        parts = iter(reader.read(chunk))
        rows = int(chunk[2] - chunk[1])
        for feature in reader.layout.features:
            found[feature.name] += rebuilt(parts, feature.kind, rows)
        assert next(parts, None) is None
    return found


def rebuilt(parts: Iterator[np.ndarray], kind: Kind, rows: int) -> list[Any]:
    """The rows of a column from its parts, which are of the dtypes and lengths that they should be."""
    if isinstance(kind, Number):
        part = next(parts)
        assert (part.dtype, part.shape) == (np.dtype(kind.dtype), (rows,))
        return list(part.tolist())
    if isinstance(kind, Fixed):
        items = rebuilt(parts, kind.item, rows * kind.size)
        return [items[start : start + kind.size] for start in range(0, len(items), kind.size)]
    if isinstance(kind, Text):
        data, offsets = next(parts).item(), next(parts)
        items = data
    else:
        offsets = next(parts)
        items = rebuilt(parts, kind.item, int(offsets[-1]))
    assert (offsets.dtype, len(offsets), offsets[0]) == (np.int64, rows + 1, 0)
    return [items[start:stop] for start, stop in itertools.pairwise(offsets)]


def refusal(path: Path, **request: Any) -> str:
    with pytest.raises(DataError) as caught:
        values(path, **request)
    return str(caught.value)
