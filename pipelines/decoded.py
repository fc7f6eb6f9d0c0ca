"""How many bytes the columns of a row group that are read take in memory: an estimate, which bounds what is held.

Values of a fixed width take their width, whatever the file needs for them: a constant column next to nothing. What
strings and lists take, no footer says. So one row group of each schema stands for all of it, the one of the median
bytes a row: there a column has as many values as its footer says, a string is as long as the shortest and the longest
are on average (their statistics), and a column takes what it takes in the file (before compression) at least. Another
row group takes as much a row, or more, if it has more bytes a row in the file. Only the footers of these row groups
are looked at column by column, which would take Python half a microsecond for each column of each row group.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.footers import Footers
from pipelines.leaf_reader import Leaves

#: Bytes of an offset into strings or lists, and of a value of a physical type; of BYTE_ARRAY beside its bytes.
_OFFSET = 4
_WIDTHS = {"BOOLEAN": 1, "INT32": 4, "INT64": 8, "INT96": 8, "FLOAT": 4, "DOUBLE": 8, "BYTE_ARRAY": _OFFSET}
Look = Callable[[str], tuple[pq.FileMetaData, Leaves]]


def decoded_bytes(footers: Footers, columns: Mapping[str, pa.DataType], look: Look) -> npt.NDArray[np.int64]:
    """`[row groups]`, the bytes that these columns take when decoded, about.

    Args:
        footers: of the files.
        columns: the type by leaf, see `pipelines.apart`; those that the files do not have are not counted.
        look: the whole footer of a file, and its leaves.
    """
    widths = {name: width(arrow) for name, arrow in columns.items()}
    found = footers.rows * sum(fixed for fixed in widths.values() if fixed is not None)
    others = [name for name, fixed in widths.items() if fixed is None]
    if not others:
        return found
    density = footers.bytes / np.maximum(footers.rows, 1)
    kinds = np.repeat(footers.kinds, footers.counts)
    for kind in np.unique(kinds[footers.rows > 0]):
        group = _median(density, (kinds == kind) & (footers.rows > 0))
        file = int(np.searchsorted(footers.ends, group, side="right"))
        footer, leaves = look(footers.paths[file])
        index = group - int(footers.ends[file] - footers.counts[file])
        if index >= footer.num_row_groups:  # the file has changed, which whoever reads it will see
            continue
        size = sum(map(partial(_bytes_of, footer, index, leaves), others))
        of_kind = kinds == kind
        denser = np.maximum(density[of_kind] / max(density[group], 1e-9), 1)
        a_row = size / max(footer.row_group(index).num_rows, 1)
        found[of_kind] += np.ceil(footers.rows[of_kind] * a_row * denser).astype(np.int64)
    return found


def width(arrow: pa.DataType) -> int | None:
    """Bytes of a value, None where values differ."""
    if pa.types.is_dictionary(arrow):
        return width(arrow.value_type)
    if isinstance(arrow, pa.BaseExtensionType):
        return width(arrow.storage_type)
    if pa.types.is_fixed_size_list(arrow):
        item = width(arrow.value_type)
        return None if item is None else arrow.list_size * item
    if pa.types.is_null(arrow):
        return 0
    try:
        return int(arrow.bit_width + 7) // 8
    except ValueError:
        return None


def wider(one: pa.DataType, other: pa.DataType) -> pa.DataType:
    """The one of these types whose values take more; `one` where that is not known of it."""
    here, there = width(one), width(other)
    return other if here is not None and (there is None or there > here) else one


def _median(density: npt.NDArray[np.float64], among: npt.NDArray[np.bool_]) -> int:
    """The row group of the median density, the first of them."""
    groups = np.flatnonzero(among)
    return int(groups[np.argsort(density[groups], kind="stable")[len(groups) // 2]])


def _bytes_of(footer: pq.FileMetaData, index: int, leaves: Leaves, name: str) -> int:
    """The bytes of a column of strings or lists in a row group, about."""
    group, found = footer.row_group(index), 0
    for place in leaves.places.get(name, ()):
        chunk, stored = group.column(place), footer.schema.column(place)
        value = _WIDTHS.get(chunk.physical_type, stored.length)
        if chunk.physical_type == "BYTE_ARRAY":
            value += _length(chunk)
        lists = group.num_rows * _OFFSET * stored.max_repetition_level
        found += max(chunk.total_uncompressed_size, chunk.num_values * value) + lists
    return found


def _length(chunk: pq.ColumnChunkMetaData) -> int:
    """The mean of the lengths of the shortest and the longest string; 0 where the file does not tell."""
    statistics = chunk.statistics
    if statistics is None or not statistics.has_min_max:
        return 0
    ends = (statistics.min_raw, statistics.max_raw)
    return sum(len(end) for end in ends if isinstance(end, bytes | str)) // 2
