"""Writers of one file each: Parquet, CSV and TFRecord, of batches of rows, in bounded memory."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from pipelines.errors import DataError
from pipelines.example_writer import examples_of
from pipelines.inputs import Format
from pipelines.storage import csv_schema, tfrecord_schema, to_csv, to_examples
from pipelines.tfrecord_writer import frames

#: What each format can be compressed with, the default first, and what the name of a file then ends in.
COMPRESSIONS: Mapping[Format, Mapping[str, str]] = {
    "parquet": dict.fromkeys(("snappy", "zstd", "gzip", "lz4", "brotli", "none"), ".parquet"),
    "csv": {"none": ".csv", "gzip": ".csv.gz", "zstd": ".csv.zst", "bz2": ".csv.bz2"},
    "tfrecord": {"none": ".tfrecord", "gzip": ".tfrecord.gz"},
}
#: Rows that are held until they fill a row group take no more bytes than this.
_GROUP_BYTES = 64 << 20


@dataclass(frozen=True)
class Target:
    """How files are written.

    Attributes:
        format: of the files.
        compression: one of `COMPRESSIONS`; '' is the default.
        row_group: rows of a Parquet row group, at most.
        rounding: whether float64 may lose digits in TFRecord.
    """

    format: Format
    compression: str = ""
    row_group: int = 65_536
    rounding: bool = False

    @property
    def ending(self) -> str:
        """Of the names of files.

        Raises:
            DataError: the format has no such compression.
        """
        known = COMPRESSIONS[self.format]
        if self.compression and self.compression not in known:
            raise DataError(
                f"{self.format} has no such compression", self.compression, f"choose one of {', '.join(known)}"
            )
        return known[self.compression or next(iter(known))]

    def stored_schema(self, schema: pa.Schema, seen: str) -> pa.Schema:
        """Of rows as they are written.

        Raises:
            DataError: a column does not fit into the format.
        """
        if self.format == "csv":
            return csv_schema(schema, seen)
        return tfrecord_schema(schema, seen) if self.format == "tfrecord" else schema


class Writer(Protocol):
    """Writes one file."""

    def write(self, batch: pa.RecordBatch) -> None:
        """Add rows."""


@contextmanager
def open_writer(sink: Any, schema: pa.Schema, target: Target, seen: str) -> Iterator[Writer]:
    """A writer onto the open file `sink`; at the end of the block everything is written.

    Args:
        sink: a writable pyarrow file.
        schema: of the rows.
        target: how to write.
        seen: where the rows come from, for errors.
    """
    made: _Parquet | _Csv | _Records
    if target.format == "parquet":
        made = _Parquet(sink, schema, target)
    elif target.format == "csv":
        made = _Csv(sink, schema, target, seen)
    else:
        made = _Records(sink, schema, target, seen)
    yield made
    made.finish()


class _Parquet:
    """Gathers rows until they fill a row group."""

    def __init__(self, sink: Any, schema: pa.Schema, target: Target) -> None:
        self._writer = pq.ParquetWriter(sink, schema, compression=target.compression or "snappy")
        self._rows, self._held, self._most = 0, list[pa.RecordBatch](), target.row_group
        self._bytes = 0

    def write(self, batch: pa.RecordBatch) -> None:
        while batch.num_rows:
            part = batch.slice(0, self._most - self._rows)
            batch = batch.slice(part.num_rows)
            self._held.append(part)
            self._rows += part.num_rows
            self._bytes += part.nbytes
            if self._rows == self._most or self._bytes >= _GROUP_BYTES:
                self._flush()

    def _flush(self) -> None:
        if self._held:
            self._writer.write_table(pa.Table.from_batches(self._held), row_group_size=self._rows)
        self._rows, self._held, self._bytes = 0, [], 0

    def finish(self) -> None:
        self._flush()
        self._writer.close()


class _Csv:
    def __init__(self, sink: Any, schema: pa.Schema, target: Target, seen: str) -> None:
        packed = target.compression not in ("", "none")
        self._sink = pa.CompressedOutputStream(sink, target.compression) if packed else None
        self._schema, self._seen = csv_schema(schema, seen), seen
        self._writer = pacsv.CSVWriter(self._sink or sink, self._schema)

    def write(self, batch: pa.RecordBatch) -> None:
        self._writer.write_batch(to_csv(batch, self._schema, self._seen))

    def finish(self) -> None:
        self._writer.close()
        if self._sink is not None:
            self._sink.close()


class _Records:
    def __init__(self, sink: Any, schema: pa.Schema, target: Target, seen: str) -> None:
        self._sink, self._rounding, self._seen = sink, target.rounding, seen
        self._schema = tfrecord_schema(schema, seen)
        self._packer = zlib.compressobj(wbits=31) if target.compression == "gzip" else None

    def write(self, batch: pa.RecordBatch) -> None:
        rows = to_examples(batch, self._schema, self._seen, rounding=self._rounding)
        for chunk in examples_of(rows).chunks:
            framed = frames(chunk)
            self._sink.write(self._packer.compress(framed) if self._packer else framed)

    def finish(self) -> None:
        if self._packer:
            self._sink.write(self._packer.flush())
