"""Columns of an Arrow table as the few flat numpy arrays ("parts") that cross into TensorFlow, copied only if need be.

Python touches no row: a column of strings crosses as its bytes and the offsets between them, a list as its items and
the offsets between rows. `pipelines.decode` makes tensors of the parts, in TensorFlow's own code.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.schema import Fixed, Kind, Number, Ragged, Text

Array = npt.NDArray[Any]
#: The dtype of a scalar part that holds the bytes of all strings of a column.
BYTES = np.dtype(object)
#: Types whose buffers are what numpy has, too.
_NUMBERS = {
    getattr(pa.lib, f"Type_{name}")
    for name in (
        "INT8",
        "INT16",
        "INT32",
        "INT64",
        "UINT8",
        "UINT16",
        "UINT32",
        "UINT64",
        "HALF_FLOAT",
        "FLOAT",
        "DOUBLE",
    )
}


def part_dtypes(kind: Kind) -> list[np.dtype[Any]]:
    """The dtypes of the parts of a column of this kind, in order."""
    if isinstance(kind, Number):
        return [np.dtype(kind.dtype)]
    if isinstance(kind, Text):
        return [BYTES, np.dtype(np.int64)]
    if isinstance(kind, Ragged):
        return [np.dtype(np.int64), *part_dtypes(kind.item)]
    return part_dtypes(kind.item)


def parts_of(arrow: pa.DataType, kind: Kind) -> Callable[[pa.Array], list[Array]]:
    """What makes the parts of a column of the type `arrow` without nulls: `parts`, or where it can be less, that."""
    if isinstance(kind, Number) and _is_plain(arrow, kind):
        return _as_it_is
    return partial(parts, kind=kind)


def parts(column: pa.Array, kind: Kind) -> list[Array]:
    """The parts of a column without nulls.

    Returns:
        Number: `[rows]`. Text: all bytes as a scalar, and `[rows + 1]` offsets. Ragged: `[rows + 1]` offsets into the
        items, and the parts of the items. Fixed: the parts of the `[rows * size]` items.
    """
    column = plain(column)
    if isinstance(kind, Number):
        return [numbers(column, kind)]
    if isinstance(kind, Text):
        return _text(column)
    if isinstance(kind, Ragged):
        offsets = np.asarray(column.offsets).astype(np.int64)
        items = column.values.slice(offsets[0], offsets[-1] - offsets[0])
        return [offsets - offsets[0], *parts(items, kind.item)]
    items = column.values.slice(column.offset * kind.size, len(column) * kind.size)
    return parts(items, kind.item)


def plain(column: pa.Array) -> pa.Array:
    """The column without dictionary and extension types."""
    if isinstance(column.type, pa.BaseExtensionType):
        column = column.storage
    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column


def numbers(column: pa.Array, kind: Number) -> Array:
    """A column of numbers without nulls as `[rows]` of the kind's dtype; no copy where Arrow has that dtype."""
    if pa.types.is_decimal(column.type):
        column = column.cast(pa.float64())
    elif pa.types.is_temporal(column.type):
        column = column.view(pa.int32() if kind.dtype == "int32" else pa.int64())
    return np.asarray(column.to_numpy(zero_copy_only=False)).astype(kind.dtype, copy=False)


def packed(columns: list[pa.Array], kind: Kind) -> Array:
    """Columns of one kind of number without nulls, side by side: `[rows, columns]`."""
    item = kind.item if isinstance(kind, Fixed) else kind
    assert isinstance(item, Number)
    if all(_is_plain(column.type, item) for column in columns):  # Arrow does it in less time, and lets Python go on
        batch = pa.RecordBatch.from_arrays(columns, [str(place) for place in range(len(columns))])
        return np.asarray(batch.to_tensor(row_major=True).to_numpy())
    return np.stack([numbers(plain(column), item) for column in columns], axis=1)


def _is_plain(arrow: pa.DataType, kind: Number) -> bool:
    """Whether the values of a column lie in memory as those of a numpy array of this kind do."""
    return arrow.id in _NUMBERS and bool(arrow.to_pandas_dtype() == np.dtype(kind.dtype))


def _as_it_is(column: pa.Array) -> list[Array]:
    return [column.to_numpy()]


def _text(column: pa.Array) -> list[Array]:
    """All bytes of a column of strings, `[]`, and where each string ends and the next begins, `[rows + 1]`."""
    if pa.types.is_fixed_size_binary(column.type):
        column = pc.cast(column, pa.binary())
    wide = pa.types.is_large_string(column.type) or pa.types.is_large_binary(column.type)
    offsets = np.frombuffer(column.buffers()[1], np.int64 if wide else np.int32)
    offsets = offsets[column.offset : column.offset + len(column) + 1].astype(np.int64)
    data = column.buffers()[2]
    text = b"" if data is None or not len(offsets) else data[int(offsets[0]) : int(offsets[-1])].to_pybytes()
    if not len(offsets):
        offsets = np.zeros(1, np.int64)
    return [np.array(text, BYTES), offsets - offsets[0]]
