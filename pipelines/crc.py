"""CRC32C as TFRecord files hold it: masked, of record lengths and of record data.

`google-crc32c` computes it: it has the licence of this project, wheels for x86 and ARM from Python 3.10 on, and lets
other threads run while it sums a megabyte or more. `crc32c` is as fast, under the LGPL.
"""

from __future__ import annotations

import functools
from typing import Any

import google_crc32c
import numpy as np
import numpy.typing as npt

Checksums = npt.NDArray[np.uint32]
_MASK = np.uint32(0xA282EAD8)


def of_lengths(lengths: npt.NDArray[Any]) -> Checksums:
    """Masked checksums of record lengths: `[records]` uint64 in, `[records]` uint32 out, without Python per record."""
    table, of_zero = _tables()
    found = np.full(len(lengths), of_zero, np.uint32)
    rest = lengths.astype(np.uint64)
    for position in range(8):
        if not rest.any():  # the higher bytes are zeros, which the first line has counted
            break
        found ^= table[position][(rest & np.uint64(0xFF)).astype(np.uint8)]
        rest >>= np.uint64(8)
    return _masked(found)


def of_data(data: bytes, starts: npt.NDArray[np.int64], stops: npt.NDArray[np.int64]) -> Checksums:
    """Masked checksums of `data[starts[i]:stops[i]]`: `[records]` uint32, by one C call a record."""
    value = google_crc32c.value
    pairs = zip(starts.tolist(), stops.tolist(), strict=True)
    return _masked(np.fromiter((value(data[start:stop]) for start, stop in pairs), np.uint32, len(starts)))


def _masked(sums: Checksums) -> Checksums:
    """The rotation and the constant by which a checksum of bytes that hold a checksum stays a good one."""
    return ((sums >> np.uint32(15)) | (sums << np.uint32(17))) + _MASK


@functools.cache
def _tables() -> tuple[Checksums, np.uint32]:
    """What each value of each byte of a length adds to the checksum of eight zero bytes, and that checksum.

    A CRC is linear: the checksum of a length is the sum (xor) of what its bytes add.
    """
    of_zero = google_crc32c.value(bytes(8))
    rows = [
        [google_crc32c.value((value << 8 * place).to_bytes(8, "little")) ^ of_zero for value in range(256)]
        for place in range(8)
    ]
    return np.array(rows, np.uint32), np.uint32(of_zero)
