"""Write TFRecord files, also compressed, on any pyarrow file system; without TensorFlow."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs

from pipelines import crc
from pipelines.errors import DataError
from pipelines.framing import FOOTER, HEADER, HEADER_TYPE
from pipelines.inflate import WINDOW_BITS, check_compression

#: Records that are framed at once: as many, or fewer if they are larger than this together.
_RECORDS, _BYTES = 16_384, 8 << 20


def write_records(
    path: str,
    records: Iterable[bytes] | pa.Array | pa.ChunkedArray,
    compression: str | None = None,
    *,
    filesystem: pafs.FileSystem | None = None,
) -> int:
    """Write `records` as one TFRecord file, and return how many there were.

    A file that is there is replaced. If writing fails, an unfinished file may be left.

    Args:
        path: the file.
        records: bytes each, or an Arrow array of binary values without nulls, which is written faster.
        compression: GZIP, ZLIB, None, or `auto`: by the ending of `path`, `.gz` or `.zlib`.
        filesystem: where the file lies; None is this machine's.

    Raises:
        DataError: no such compression, the file cannot be written, or a record is not bytes.
    """
    encoder = _encoder(_by_name(path) if compression == "auto" else compression)
    count = 0
    try:
        with (filesystem or pafs.LocalFileSystem()).open_output_stream(path, compression=None) as stream:
            for batch in _batches(records):
                stream.write(encoder.compress(frames(batch)) if encoder else frames(batch))
                count += len(batch)
            if encoder:
                stream.write(encoder.flush())
    except OSError as error:
        raise DataError("the data file cannot be written", f"{path}: {str(error).splitlines()[0]}", "") from None
    return count


def frames(records: pa.LargeBinaryArray) -> pa.Buffer:
    """`records` as they stand in a TFRecord file.

    Raises:
        DataError: one of them is null.
    """
    if records.null_count:
        raise DataError("a record is null", f"{records.null_count} of {len(records)}", "leave such records out")
    offsets, data = spans(records)
    headers = np.empty(len(records), HEADER_TYPE)
    headers["length"] = np.diff(offsets)
    headers["crc"] = crc.of_lengths(headers["length"])
    sums = crc.of_data(data.to_pybytes(), offsets[:-1], offsets[1:])
    parts = [_fixed(headers, HEADER), records, _fixed(sums.astype("<u4"), FOOTER)]
    _, joined = spans(pc.binary_join_element_wise(*parts, pa.scalar(b"", pa.large_binary())))
    return joined


def spans(values: pa.LargeBinaryArray) -> tuple[npt.NDArray[np.int64], pa.Buffer]:
    """The bytes of all values without those around them, and where in these bytes each value lies: `[values + 1]`."""
    _, offsets, data = values.buffers()
    if not len(values) or data is None:
        return np.zeros(len(values) + 1, np.int64), pa.py_buffer(b"")
    found = np.frombuffer(offsets, np.int64, len(values) + 1, values.offset * 8)
    return found - found[0], data[int(found[0]) : int(found[-1])]


def _fixed(values: npt.NDArray[Any], width: int) -> pa.LargeBinaryArray:
    """Each of `values` as its `width` bytes."""
    ends = pa.py_buffer(np.arange(0, (len(values) + 1) * width, width, dtype=np.int64))
    return pa.LargeBinaryArray.from_buffers(
        pa.large_binary(), len(values), [None, ends, pa.py_buffer(values.tobytes())]
    )


def _batches(records: Iterable[bytes] | pa.Array | pa.ChunkedArray) -> Iterator[pa.LargeBinaryArray]:
    """`records` in arrays that are small enough to be held a few times, but for a record that is not."""
    if isinstance(records, pa.ChunkedArray):
        for chunk in records.chunks:
            yield from _batches(chunk)
    elif isinstance(records, pa.Array):
        array = _binary(records)
        start = 0
        while start < len(array):
            offsets, _ = spans(array.slice(start, _RECORDS))
            fitting = max(1, int(np.searchsorted(offsets, _BYTES, side="right")) - 1)
            yield array.slice(start, fitting)
            start += fitting
    else:
        for some in _some(iter(records)):
            yield _binary(some)


def _some(records: Iterator[bytes]) -> Iterator[list[bytes]]:
    """`records` in lists of about `_BYTES`, the number in the next of which the last one tells."""
    count = 1
    while some := list(islice(records, count)):
        yield some
        count = min(_RECORDS, max(1, _BYTES * len(some) // max(1, sum(map(len, some)))))


def _binary(records: list[bytes] | pa.Array) -> pa.LargeBinaryArray:
    if isinstance(records, pa.Array):
        if not (pa.types.is_binary(records.type) or pa.types.is_large_binary(records.type)):
            raise _not_bytes(str(records.type))
        return records.cast(pa.large_binary())
    if kinds := {type(record).__name__ for record in records if not isinstance(record, bytes)}:
        raise _not_bytes(", ".join(sorted(kinds)))
    return pa.array(records, pa.large_binary())


def _not_bytes(seen: str) -> DataError:
    return DataError("the records of a TFRecord file are bytes", seen, "serialise them before")


def _by_name(path: str) -> str | None:
    return "GZIP" if path.endswith(".gz") else "ZLIB" if path.endswith(".zlib") else None


def _encoder(compression: str | None) -> Any:
    check_compression(compression, "auto")
    return None if compression is None else zlib.compressobj(wbits=WINDOW_BITS[compression])
