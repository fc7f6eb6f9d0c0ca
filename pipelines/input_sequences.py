"""TFRecord files of `tf.train.SequenceExample`s as an `Input`, to look at: record by record, and only a few of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs

from pipelines.errors import DataError
from pipelines.examples import check, infer
from pipelines.features import Feature, Features
from pipelines.files import File
from pipelines.input_tfrecord import TFRecordInput, is_text
from pipelines.inputs import Options, check_columns
from pipelines.tfrecord import TFRecordSource
from pipelines.wire import Record, Values, read_record

#: Files, and records of each, that are looked at to infer the features: as many as `ctx.dataset` looks at.
_FILES, _RECORDS = 8, 512


@dataclass(frozen=True)
class SequenceInput(TFRecordInput):
    """See `pipelines.inputs.Input`: a column for each feature, lists of steps for those of the sequence.

    Attributes:
        features: of the records.
    """

    features: Features = field(default_factory=lambda: Features({}))

    def part_of(self, name: str) -> str:
        """`sequence` or `context`, whichever has the feature of that name."""
        return "sequence" if name in (self.features.sequence or {}) else "context"

    def _rows(self, records: pa.Array, path: str, first: int) -> pa.RecordBatch:
        serialized = records.to_pylist()
        check(self.features, serialized, path, first)
        read = [read_record(record) for record in serialized]
        columns = [
            pa.array([self._value(record, column.name) for record in read], column.type) for column in self.schema
        ]
        return pa.RecordBatch.from_arrays(columns, schema=self.schema)

    def _value(self, record: Record, name: str) -> Any:
        if (steps := (self.features.sequence or {}).get(name)) is not None:
            return [_of_one(steps, values) for values in (record.sequence or {}).get(name, [])]
        return _of_one(self.features.context[name], record.context.get(name))


def open_sequences(
    filesystem: pafs.FileSystem, files: tuple[File, ...], options: Options, source: TFRecordSource
) -> SequenceInput:
    """The records of TFRecord `files` of SequenceExamples, with the features that `ctx.dataset` would infer.

    Args:
        filesystem: where the files lie.
        files: the files.
        options: how to read; types cannot be given.
        source: of the files.

    Raises:
        DataError: a record is neither Example nor SequenceExample, or contradicts the others.
    """
    if options.types:
        seen = ", ".join(f"{name}={text}" for name, text in options.types)
        raise DataError("SequenceExamples take no types", seen, "leave out --type")
    records: list[bytes] = []
    for file in files[:: -(-len(files) // _FILES)]:
        records += source.read(source.index_of(file.path).units[0])["record"].slice(0, _RECORDS).to_pylist()
    features = infer(records, files[0].path)
    schema = pa.schema(_fields(features, [read_record(record) for record in records]))
    names = schema.names if options.columns is None else list(options.columns)
    check_columns(schema.names, names, files[0].path)
    return SequenceInput(
        filesystem=filesystem,
        files=files,
        schema=pa.schema([schema.field(name) for name in names]),
        indexes=tuple(source.index_of(file.path) for file in files),
        complete=False,
        features=features.only(names),
    )


def _fields(features: Features, records: Sequence[Record]) -> Iterator[tuple[str, pa.DataType]]:
    """The columns, in the order of the features; strings are binary where some of these records have no text."""
    for name, one in features.context.items():
        yield name, _type(one, [record.context[name] for record in records if name in record.context])
    for name, one in (features.sequence or {}).items():
        yield name, pa.list_(_type(one, [step for record in records for step in (record.sequence or {}).get(name, [])]))


def _type(feature: Feature, values: Sequence[Values]) -> pa.DataType:
    """The Arrow type of a row, or a step, of a feature that has these values."""
    item = {"string": pa.string(), "float32": pa.float32(), "int64": pa.int64()}[feature.dtype]
    if feature.dtype == "string" and not is_text(
        pa.array([one for some in values for one in some.values], pa.binary())
    ):
        item = pa.binary()
    if feature.ragged:
        return pa.list_(item)
    return pa.list_(item, feature.size) if feature.shape else item


def _of_one(feature: Feature, values: Values | None) -> Any:
    """The values of a feature in a row, or a step; of one that is missing none."""
    found = [] if values is None else list(values.values)
    return found if feature.ragged or feature.shape else found[0]
