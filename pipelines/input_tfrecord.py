"""TFRecord files of `tf.train.Example`s as an `Input`: counted in records, read without TensorFlow."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs

from pipelines.errors import DataError
from pipelines.example_columns import Feature, MalformedError, features_of, scalars
from pipelines.files import File
from pipelines.inputs import Format, Options, Segment, check_columns
from pipelines.manifest import read_manifest
from pipelines.storage import from_examples, tfrecord_schema
from pipelines.tfrecord import TFRecordSource
from pipelines.tfrecord_index import FileIndex
from pipelines.wire import read_record

#: Records and files that are looked at to infer the columns.
_SAMPLE, _SAMPLED_FILES = 4096, 16
#: Records that are decoded at once: what is made on the way is several times as large as they are.
_TOGETHER = 8192


class SequenceExamplesError(DataError):
    """A record is a SequenceExample, not an Example."""


@dataclass(frozen=True)
class TFRecordInput:
    """See `pipelines.inputs.Input`.

    Attributes:
        indexes: where the records of each file lie.
        complete: whether a feature that is not in the schema is an error.
    """

    filesystem: pafs.FileSystem
    files: tuple[File, ...]
    schema: pa.Schema
    indexes: tuple[FileIndex, ...]
    complete: bool

    format: Format = "tfrecord"

    def __getstate__(self) -> dict[str, Any]:
        """The fields: what has been made of them, such as an open source, does not travel."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    @cached_property
    def lengths(self) -> tuple[int, ...]:
        """Records of each file."""
        return tuple(sum(index.rows) for index in self.indexes)

    @property
    def rows(self) -> int:
        """Of all files."""
        return sum(self.lengths)

    def marks(self, index: int) -> Sequence[int]:
        """Where runs of records begin that are read at once; of a compressed file only its ends."""
        ends = list(itertools.accumulate(self.indexes[index].rows, initial=0))
        return [0, ends[-1]] if self.indexes[index].compression else ends

    def can_cut(self, index: int) -> bool:
        """Not if it is compressed: all that lies before would have to be decompressed, too."""
        return not self.indexes[index].compression

    @cached_property
    def _source(self) -> TFRecordSource:
        return source_of(self.filesystem, self.files, self.indexes)

    @cached_property
    def _index(self) -> dict[str, FileIndex]:
        return {index.path: index for index in self.indexes}

    def read(self, segment: Segment) -> Iterator[pa.RecordBatch]:
        """The records of `segment` in order.

        Raises:
            DataError: with file, record and column.
        """
        begin = 0
        for unit in self._index[segment.path].units:
            start, stop = max(segment.start - begin, 0), min(segment.stop - begin, unit.rows)
            if start < stop:
                records = self._source.read(unit)["record"].combine_chunks()
                for first in range(start, stop, _TOGETHER):
                    some = _array(records).slice(first, min(_TOGETHER, stop - first))
                    yield self._rows(some, segment.path, begin + first)
            begin += unit.rows

    def _rows(self, records: pa.Array, path: str, first: int) -> pa.RecordBatch:
        found = _features(records, path, first)
        unknown = [name for name in found if name not in self._names]
        if unknown and self.complete:
            todo = f"name its type, --type {unknown[0]}=…, or choose columns with --columns"
            raise DataError(
                f"feature {unknown[0]} is not in the first records", _at(path, first, found[unknown[0]]), todo
            )
        columns = [
            _column(found.get(field.name), stored.type, field, len(records), path, first)
            for field, stored in zip(self.schema, self._stored, strict=True)
        ]
        return pa.RecordBatch.from_arrays(columns, schema=self.schema)

    @cached_property
    def _stored(self) -> pa.Schema:
        return tfrecord_schema(self.schema, self.files[0].path)

    @cached_property
    def _names(self) -> frozenset[str]:
        return frozenset(self.schema.names)


def open_tfrecord(
    filesystem: pafs.FileSystem, files: tuple[File, ...], options: Options, source: TFRecordSource
) -> TFRecordInput:
    """The rows of TFRecord `files`, of which `source` is.

    Columns and types are those that are given, those that `tfcluster data convert` wrote down beside the files, or
    those of the first records of up to 16 files: a feature that has one value in each of them is a plain column, others
    are lists.

    Raises:
        DataError: the records are no Examples.
        SequenceExamplesError: they are SequenceExamples.
    """
    manifest = read_manifest(filesystem, files)
    if manifest is not None and manifest.format == "tfrecord":
        known = {field.name: field.type for field in manifest.schema}
    else:
        known = _inferred(source, files)
    given = {name: _type_named(name, text) for name, text in options.types}
    types = {**known, **given}
    names = list(types) if options.columns is None else list(options.columns)
    check_columns(list(types), names, files[0].path)
    schema = pa.schema([(name, types[name]) for name in names])
    tfrecord_schema(schema, files[0].path)
    return TFRecordInput(
        filesystem=filesystem,
        files=files,
        schema=schema,
        indexes=tuple(source.index_of(file.path) for file in files),
        complete=options.columns is None,
    )


def source_of(filesystem: pafs.FileSystem, files: Sequence[File], indexes: Sequence[FileIndex] = ()) -> TFRecordSource:
    """The records of `files`, of which some indexes may be there already.

    Raises:
        DataError: a file is no TFRecord file.
    """
    known = {index.path: index for index in indexes}
    return TFRecordSource(filesystem, [(file.path, file.size) for file in files], indexes=known)


def _array(column: Any) -> pa.Array:
    return pa.concat_arrays(column.chunks) if isinstance(column, pa.ChunkedArray) else column


def _features(records: pa.Array, path: str, first: int) -> dict[str, Feature]:
    try:
        return features_of(records)
    except MalformedError as error:
        if _is_sequence(records[error.record].as_py()):
            todo = "ctx.dataset reads them, and tfcluster data inspect shows what they hold"
            what = "a record is a SequenceExample, which convert and analyze do not take"
            raise SequenceExamplesError(what, f"{path}, record {first + error.record}", todo) from None
        todo = "the file is damaged, or was not written as tf.train.Example"
        raise DataError(
            f"a record is no Example: {error.why}", f"{path}, record {first + error.record}", todo
        ) from None


def _is_sequence(record: bytes) -> bool:
    try:
        return read_record(record).sequence is not None
    except ValueError:
        return False


def _inferred(source: TFRecordSource, files: Sequence[File]) -> dict[str, pa.DataType]:
    """The columns of the sampled records, by name."""
    found: dict[str, list[Feature]] = {}
    for file in files[:: -(-len(files) // _SAMPLED_FILES)]:
        first = source.index_of(file.path).units[0]
        records = _array(source.read(first)["record"].combine_chunks()).slice(0, _SAMPLE)
        for name, feature in _features(records, file.path, 0).items():
            found.setdefault(name, []).append(feature)
    types = {}
    for name, features in sorted(found.items()):
        kinds = {feature.lists.type.value_type for feature in features}
        if len(kinds) > 1:
            seen = f"{name} is {' in one file and '.join(map(str, kinds))} in another"
            raise DataError(
                "a feature is not of one kind", seen, "leave it out with --columns, or write the files again"
            )
        item = kinds.pop()
        if pa.types.is_large_binary(item):
            item = pa.string() if all(is_text(feature.lists.flatten()) for feature in features) else pa.binary()
        plain = all(scalars(feature.lists) is not None for feature in features)
        types[name] = item if plain else pa.list_(item)
    return types


def is_text(values: pa.Array) -> bool:
    """Whether binary values are UTF-8."""
    try:
        values.cast(pa.large_string())
    except pa.ArrowInvalid:
        return False
    return True


def _type_named(name: str, text: str) -> pa.DataType:
    """`int64`, `string`, or `list<int64>` as a type."""
    inner = re.fullmatch(r"list<(.+)>", text)
    try:
        return pa.list_(pa.type_for_alias(inner[1])) if inner else pa.type_for_alias(text)
    except ValueError:
        todo = "write it like int64, float32, string, binary, list<int64>"
        raise DataError("there is no such Arrow type", f"{name}={text}", todo) from None


def _column(
    feature: Feature | None, stored: pa.DataType, field: pa.Field, rows: int, path: str, first: int
) -> pa.Array:
    """One column: `stored` is how an Example keeps it, `field` what it becomes."""
    if feature is None:
        return pa.nulls(rows, field.type)
    array: Any = feature.lists
    listed = pa.types.is_large_list(stored)
    item = stored.value_type if listed else stored
    if array.type.value_type != item:
        seen = f"{_at(path, first, feature)}, {array.type.value_type} instead of {item}"
        raise DataError(f"feature {field.name} is not of one kind", seen, "leave it out, or write the files again")
    if not listed:
        array = scalars(array)
        if array is None:
            lengths = pc.list_value_length(feature.lists).fill_null(1).to_numpy(zero_copy_only=False)
            record = int(np.flatnonzero(lengths != 1)[0])
            seen = f"{path}, record {first + record}: {lengths[record]} values"
            todo = f"name its type: --type {field.name}=list<{'string' if pa.types.is_large_binary(item) else item}>"
            raise DataError(f"feature {field.name} has not always one value", seen, todo)
    try:
        return from_examples(array, field.type)
    except pa.ArrowInvalid as error:
        todo = f"name another type: --type {field.name}=binary"
        raise DataError(
            f"feature {field.name} is no {field.type}", f"{path}, near record {first}", f"{error}; {todo}"
        ) from None


def _at(path: str, first: int, feature: Feature) -> str:
    return f"{path}, record {first + int(np.argmax(feature.there))}"
