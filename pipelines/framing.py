"""The frame around each record of a TFRecord file: length and checksum before its data, a checksum behind.

    8 bytes  length of the data      4 bytes  masked CRC32C of the length
    data                             4 bytes  masked CRC32C of the data

All numbers are little-endian. Nothing else is in a file: no magic number, no index, no count of records.
"""

from __future__ import annotations

import struct
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pipelines import crc

HEADER, FOOTER = 12, 4
FRAME = HEADER + FOOTER
HEADER_TYPE = np.dtype([("length", "<u8"), ("crc", "<u4")])

_length_at = struct.Struct("<Q").unpack_from
#: Records in a row of one length after which more of it are looked for at once, and how many are looked at first.
_ALIKE, _FIRST_RUN = 16, 64


class Headers(NamedTuple):
    """Record headers, one after the other in the file.

    `starts` are their offsets in the file (or, if it is compressed, in what it holds): `[records]` int64. `fields` are
    `[records]` of `HEADER_TYPE`. `stop` is where the frame of the last one ends by its length, which may be wrong.
    """

    starts: npt.NDArray[np.int64]
    fields: npt.NDArray[Any]
    stop: int

    def first_bad(self) -> int | None:
        """The first header whose length does not match its checksum."""
        bad = np.flatnonzero(crc.of_lengths(self.fields["length"]) != self.fields["crc"])
        return int(bad[0]) if len(bad) else None


def hop(data: bytes, offset: int, base: int = 0) -> Headers:
    """All headers that lie in `data` as a whole, from the one at `data[offset]` on.

    From each header its length leads to the next; lengths are not checked, so a wrong one leads astray and what follows
    it is worthless. Runs of records of one length are found without Python per record.

    Args:
        data: bytes of a file.
        offset: where in them the first header begins.
        base: where in the file they begin, which is added to what is returned.
    """
    runs: list[npt.NDArray[np.int64]] = []
    singles: list[int] = []
    last, previous, alike = len(data) - HEADER, -1, 0
    while offset <= last:
        (length,) = _length_at(data, offset)
        singles.append(offset)
        stride = length + FRAME
        offset += stride
        alike = alike + 1 if length == previous else 1
        previous = length
        if alike == _ALIKE and offset <= last:
            count = _same_length(data, offset, length)
            runs += [np.array(singles, np.int64), offset + stride * np.arange(count, dtype=np.int64)]
            singles = []
            offset += count * stride
    starts = np.concatenate([*runs, np.array(singles, np.int64)])
    return Headers(starts + base, _at(data, starts, HEADER_TYPE), offset + base)


def footers(data: bytes, stops: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
    """The checksums behind the data of records whose data end at `stops`: `[records]` uint32."""
    return _at(data, stops, np.dtype("<u4"))


def _at(data: bytes, offsets: npt.NDArray[np.int64], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """The values of `dtype` that begin at `offsets`, which need not be aligned."""
    if not len(offsets):
        return np.empty(0, dtype)
    everywhere: npt.NDArray[Any] = np.ndarray((len(data) - dtype.itemsize + 1,), dtype, data, 0, (1,))
    found: npt.NDArray[Any] = everywhere[offsets]
    return found


def _same_length(data: bytes, offset: int, length: int) -> int:
    """How many records in a row from `offset` on have this length, as far as their headers lie in `data`."""
    stride = length + FRAME
    there = (len(data) - HEADER - offset) // stride + 1
    lengths: npt.NDArray[Any] = np.ndarray((there,), "<u8", data, offset, (stride,))
    found, step = 0, _FIRST_RUN
    while found < there:
        same = lengths[found : found + step] == length
        if not same.all():
            return found + int(np.argmin(same))
        found += len(same)
        step *= 8
    return found
