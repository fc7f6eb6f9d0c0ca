"""Arrays in memory as a source, so that they are shared out, shuffled and resumed as files are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipelines.errors import DataError
from pipelines.files import first_line
from pipelines.layout import Request, layout_of
from pipelines.shards import Unit
from pipelines.sources import Opened

#: Rows of a unit, of which several are mixed when shuffled.
_UNIT_ROWS = 8_192


class MemorySource:
    """Arrays of equally many rows as a table of columns `0`, `1`, ….

    Args:
        arrays: `[rows, …]` of numbers, booleans or strings.

    Raises:
        DataError: none, of different lengths, or of a dtype without an Arrow type.
    """

    def __init__(self, arrays: Sequence[npt.ArrayLike]) -> None:
        columns = [_column(np.asarray(array), number) for number, array in enumerate(arrays)]
        lengths = {len(column) for column in columns}
        if len(lengths) != 1 or lengths == {0}:
            seen = ", ".join(str(np.shape(array)) for array in arrays) or "no arrays"
            raise DataError("arrays need equally many rows, and at least one", seen, "give arrays of one length")
        self._table = pa.table({str(number): column for number, column in enumerate(columns)})
        self.schema: pa.Schema = self._table.schema
        rows, size = len(self._table), self._table.nbytes
        starts = range(0, rows, _UNIT_ROWS)
        counts = [min(_UNIT_ROWS, rows - start) for start in starts]
        self.units = tuple(Unit("", number, count, size * count // rows) for number, count in enumerate(counts))

    def read(self, unit: Unit) -> pa.Table:
        """The rows of a unit: `[unit.rows, columns]`."""
        return self._table.slice(unit.row_group * _UNIT_ROWS, unit.rows)


def open_arrays(arrays: Sequence[npt.ArrayLike]) -> Opened:
    """Arrays as `pipelines.sources.open_source` gives files: features `0`, `1`, ….

    Raises:
        DataError: see `MemorySource`.
    """
    source = MemorySource(arrays)
    return Opened(source, layout_of(source.schema, Request(), "arrays"), source.units)


def _column(array: npt.NDArray[Any], number: int) -> pa.Array:
    """An array `[rows, …]` as a column of numbers, strings, or fixed-size lists of them."""
    if array.ndim == 0:
        todo = "give arrays of one length; numbers in a list are one array, those in a tuple an array each"
        raise DataError("an array has no rows", f"array {number} is a scalar, {array!s:.40}", todo)
    if 0 in array.shape[1:]:
        raise DataError("the rows of an array are empty", f"array {number} of shape {array.shape}", "leave it out")
    try:
        column = pa.array(array.reshape(-1).astype(array.dtype.newbyteorder("="), copy=False))
    except (pa.ArrowException, TypeError, ValueError) as error:
        seen = f"array {number} of {array.dtype}: {first_line(error)}"
        todo = "cast it, such as to float32, and what comes out back again with map"
        raise DataError("an array cannot be read", seen, todo) from None
    for size in reversed(array.shape[1:]):
        column = pa.FixedSizeListArray.from_arrays(column, size)
    return column
