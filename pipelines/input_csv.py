"""CSV files as an `Input`: counted in bytes, and cut at line ends, so that one file feeds several readers."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.fs as pafs

from pipelines.errors import DataError
from pipelines.files import File, first_line
from pipelines.inputs import Format, Options, Segment, check_columns, vanished
from pipelines.manifest import read_manifest
from pipelines.retries import Steady
from pipelines.storage import csv_type

_THREADS = 16
#: Bytes that are looked at, of so many files, to infer the types of columns.
_SAMPLE, _SAMPLED_FILES = 1 << 20, 16
#: Bytes that are parsed at once.
_BLOCK = 4 << 20
_NOT_UTF8 = "a CSV file is not UTF-8"
_WRITE = "write it as UTF-8, for example: iconv -f {} -t UTF-8 FILE"


@dataclass(frozen=True)
class CsvInput:
    """See `pipelines.inputs.Input`.

    Attributes:
        names: all columns of the files, in their order.
        bodies: where the first row of each file begins, in bytes.
        options: how to read.
    """

    filesystem: pafs.FileSystem
    files: tuple[File, ...]
    schema: pa.Schema
    names: tuple[str, ...]
    bodies: tuple[int, ...]
    options: Options

    format: Format = "csv"
    rows: None = None

    @cached_property
    def lengths(self) -> tuple[int, ...]:
        """Bytes of each file."""
        return tuple(file.size for file in self.files)

    def marks(self, index: int) -> Sequence[int]:
        """Any place is a good one to cut a file, if it can be cut."""
        length = self.lengths[index]
        return [*range(0, length, 1 << 20), length] if self.can_cut(index) else [0, length]

    def can_cut(self, index: int) -> bool:
        """Not if it is compressed, or has values of several lines."""
        return self.files[index].path.endswith(".csv") and not self.options.newlines

    @cached_property
    def _index(self) -> dict[str, int]:
        return {file.path: index for index, file in enumerate(self.files)}

    def read(self, segment: Segment) -> Iterator[pa.RecordBatch]:
        """The rows of the lines that begin in `segment`; those of a file that cannot be cut, if it begins there.

        Raises:
            DataError: with file, line and column.
            UnreachableDataError: the storage does not give them.
        """
        path, index = segment.path, self._index[segment.path]
        body = self.bodies[index]
        try:
            if not self.can_cut(index):
                if segment.start == 0:
                    with _unpacked(self.filesystem, path) as stream:
                        stream.read(body)
                        yield from self._rows(stream, path, body)
                return
            with _steady(self.filesystem, path) as file:
                start, stop = (line_start(file, max(at, body)) for at in (segment.start, segment.stop))
                if start < stop:
                    yield from self._rows(file.get_stream(start, stop - start), path, start)
        except FileNotFoundError:
            raise vanished(path) from None
        except (pa.ArrowException, OSError) as error:
            raise DataError("cannot read a CSV file", path, first_line(error)) from None

    def _rows(self, stream: pa.NativeFile, path: str, start: int) -> Iterator[pa.RecordBatch]:
        stored = {field.name: _read_as(field.type) for field in self.schema}
        try:
            reader = pacsv.open_csv(
                stream,
                read_options=pacsv.ReadOptions(column_names=self.names, block_size=_BLOCK, use_threads=False),
                parse_options=_parse_options(self.options, self.names),
                convert_options=_convert_options(self.options, stored, list(self.schema.names)),
            )
            for batch in reader:
                if batch.num_rows:
                    yield _restored(batch, self.schema)
        except pa.ArrowInvalid as error:
            if "Empty CSV file" not in str(error):
                raise self._bad_row(error, path, start) from None

    def _bad_row(self, error: pa.ArrowInvalid, path: str, start: int) -> DataError:
        """What Arrow says, with the line counted from the start of the file and the column by its name."""
        text = first_line(error)
        row = re.search(r"Row #(\d+)", text)
        column = re.search(r"In CSV column #(\d+)", text)
        line = f", line {self._lines_before(path, start) + int(row[1])}" if row else ""
        what = re.sub(r"^(In CSV column #\d+: |CSV parse error: )?(Row #\d+: )?", "", text)
        if column:
            name = self.schema.names[int(column[1])] if int(column[1]) < len(self.schema.names) else column[1]
            if "UTF8" in text:
                todo = f"{_WRITE.format('LATIN1')}; or keep the bytes: --type {name}=binary"
                return DataError(_NOT_UTF8, f"{path}{line}, column {name}", todo)
            todo = f"correct the line, or name a wider type: --type {name}=string"
            return DataError(what, f"{path}{line}, column {name}", todo)
        todo = "correct the line; where quoted values hold line ends, add --newlines-in-values"
        return DataError(what, f"{path}{line}", todo)

    def _lines_before(self, path: str, start: int) -> int:
        with _unpacked(self.filesystem, path) as stream:
            count = 0
            while start > 0 and (block := stream.read(min(start, _BLOCK))):
                count += block.count(b"\n")
                start -= len(block)
            return count


def open_csv(filesystem: pafs.FileSystem, files: tuple[File, ...], options: Options) -> CsvInput:
    """The rows of CSV `files`, each with a line of column names.

    Types are, in this order: those that are given, those that `tfcluster data convert` wrote down beside the files, and
    those that the first rows of up to 16 files suggest.

    Raises:
        DataError: a file is empty or the files do not have the same columns.
    """
    manifest = read_manifest(filesystem, files)
    known = manifest.schema if manifest is not None and manifest.format == "csv" else None
    if known is not None and manifest is not None and manifest.newlines:
        options = Options(**{**vars(options), "newlines": True})
    heads = _heads(filesystem, files, options)
    names, _ = heads[0]
    for file, (found, _) in zip(files, heads, strict=True):
        if found != names:
            seen = f"{file.path} has {', '.join(found[:20])}; {files[0].path} has {', '.join(names[:20])}"
            raise DataError("CSV files do not have the same columns", seen, "write all files with one line of names")
    wanted = names if options.columns is None else list(options.columns)
    check_columns(names, wanted, files[0].path)
    given = _given(options, names, files[0].path)
    if known is not None and known.names == names:
        schema = pa.schema([pa.field(name, given.get(name, known.field(name).type)) for name in names])
    else:
        schema, newlines = _inferred(filesystem, files, heads, options, given)
        options = Options(**{**vars(options), "newlines": options.newlines or newlines})
    return CsvInput(
        filesystem=filesystem,
        files=files,
        schema=pa.schema([schema.field(name) for name in wanted]),
        names=tuple(names),
        bodies=tuple(body for _, body in heads),
        options=options,
    )


def line_start(file: pa.NativeFile, at: int) -> int:
    """Where the first line begins at `at` or later, in bytes; the end of the file where none does.

    The byte before `at` is a line end, or it is not: so the search begins there.
    """
    size: int = file.size()
    position = max(0, at - 1)
    if at <= 0:
        return 0
    while position < size:
        block = file.read_at(min(1 << 16, size - position), position)
        found: int = block.find(b"\n")
        if found >= 0:
            return min(size, position + found + 1)
        position += len(block)
    return size


def estimated_rows(source: CsvInput) -> int:
    """About how many rows there are, from how many lines the first bytes of up to 16 files hold."""
    lines = seen = 0
    for file in source.files[:: -(-len(source.files) // _SAMPLED_FILES)]:
        with _steady(source.filesystem, file.path) as raw:
            try:
                stream = _unpacking(raw, file.path)  # which closes the file once nobody knows it
                text = stream.read(_SAMPLE)
                lines += text.count(b"\n") - 1
                seen += min(file.size, raw.tell())
            except (pa.ArrowException, OSError) as error:
                raise DataError("cannot read a CSV file", file.path, first_line(error)) from None
    return max(0, round(lines * sum(source.lengths) / max(1, seen)))


def _steady(filesystem: pafs.FileSystem, path: str) -> pa.NativeFile:
    """The open file, whose readings are tried again where the storage fails."""
    return pa.PythonFile(Steady(filesystem, path), mode="r")


def _unpacked(filesystem: pafs.FileSystem, path: str) -> pa.NativeFile:
    """The text of a file, from its beginning."""
    return _unpacking(_steady(filesystem, path), path)


def _unpacking(raw: pa.NativeFile, path: str) -> pa.NativeFile:
    codec = {"gz": "gzip", "bz2": "bz2", "zst": "zstd"}.get(path.rpartition(".")[2])
    return pa.CompressedInputStream(raw, codec) if codec else raw


def _heads(filesystem: pafs.FileSystem, files: Sequence[File], options: Options) -> list[tuple[list[str], int]]:
    """The column names of each file, and where its first row begins."""

    def head(file: File) -> tuple[list[str], int]:
        try:
            with _unpacked(filesystem, file.path) as stream:
                text = b""
                while b"\n" not in text and (more := stream.read(1 << 16)):
                    text += more
        except (pa.ArrowException, OSError) as error:
            raise DataError("cannot read a CSV file", file.path, first_line(error)) from None
        line, end, _ = text.partition(b"\n")
        if not line.strip():
            todo = "the first line must name the columns" if text else "write it again, or leave it out"
            raise DataError(
                "a CSV file is empty" if not text else "a CSV file begins with an empty line", file.path, todo
            )
        _check_encoding(line, file.path)
        try:
            table = pacsv.read_csv(pa.BufferReader(line + b"\n"), parse_options=_parse_options(options, ["", ""]))
        except pa.ArrowInvalid as error:
            raise DataError("cannot read the column names of a CSV file", file.path, first_line(error)) from None
        return list(table.schema.names), len(line) + len(end)

    with ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(head, files))


def _check_encoding(line: bytes, path: str) -> None:
    """Refuse column names that are not UTF-8.

    Raises:
        DataError: they are not, with the encoding that they may be.
    """
    seen = f"{path} begins with {line[:20]!r}"
    if line.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in line:
        raise DataError(_NOT_UTF8, seen, _WRITE.format("UTF-16"))
    try:
        line.decode()
    except UnicodeDecodeError:
        raise DataError(_NOT_UTF8, seen, _WRITE.format("LATIN1")) from None


def _given(options: Options, names: list[str], seen: str) -> dict[str, pa.DataType]:
    check_columns(names, [name for name, _ in options.types], seen)
    given = {}
    for name, text in options.types:
        try:
            given[name] = pa.type_for_alias(text)
        except ValueError:
            todo = "write it like int64, float32, bool, string, binary, date32, timestamp[us]"
            raise DataError("there is no such Arrow type", f"{name}={text}", todo) from None
    return given


def _inferred(
    filesystem: pafs.FileSystem,
    files: Sequence[File],
    heads: Sequence[tuple[list[str], int]],
    options: Options,
    given: dict[str, pa.DataType],
) -> tuple[pa.Schema, bool]:
    """The narrowest types that hold the sampled rows, and whether a value of theirs holds a line end.

    Whole numbers beyond int64 are strings: as floats they would lose digits, and then they are most likely no amounts.
    """
    names = heads[0][0]
    step = -(-len(files) // _SAMPLED_FILES)
    schemas, newlines = [], False
    for file, (_, body) in list(zip(files, heads, strict=True))[::step]:
        try:
            with _unpacked(filesystem, file.path) as stream:
                text = stream.read(body + _SAMPLE)[body:]
        except (pa.ArrowException, OSError) as error:
            raise DataError("cannot read a CSV file", file.path, first_line(error)) from None
        newlines = newlines or any(line.count(b'"') % 2 for line in text.split(b"\n")[:-1])
        if len(text) == _SAMPLE:
            text = text[: text.rfind(b"\n") + 1] or text
        if text:
            schemas.append(_sample_schema(text, names, Options(**{**vars(options), "newlines": newlines}), given))
    if not schemas:
        return pa.schema([(name, given.get(name, pa.string())) for name in names]), newlines
    types = []
    for name in names:
        found = {schema.field(name).type for schema in schemas} - {pa.null()}
        types.append((name, given.get(name) or _widest(found)))
    return pa.schema(types), newlines


def _sample_schema(text: bytes, names: list[str], options: Options, given: dict[str, pa.DataType]) -> pa.Schema:
    types = {name: _read_as(kind) for name, kind in given.items()}
    try:
        schema = _first_rows(text, names, options, types, names).schema
        floats = [field.name for field in schema if pa.types.is_float64(field.type) and field.name not in given]
        as_text = _first_rows(text, names, options, dict.fromkeys(floats, pa.string()), floats) if floats else None
    except (pa.ArrowInvalid, StopIteration):  # what is wrong is said, with its line, when the file is read
        return pa.schema([(name, pa.null()) for name in names])
    whole = {name for name in floats if as_text is not None and _are_whole(as_text[name])}
    # What is not UTF-8 would be binary without a word: whoever wants that has to say it.
    return pa.schema(
        field.with_type(pa.string())
        if field.name in whole or (pa.types.is_binary(field.type) and field.name not in given)
        else field
        for field in schema
    )


def _first_rows(
    text: bytes, names: list[str], options: Options, types: dict[str, pa.DataType], columns: list[str]
) -> pa.RecordBatch:
    """The rows of a sample, which is parsed at once."""
    read = pacsv.ReadOptions(column_names=names, block_size=2 * _SAMPLE, use_threads=False)
    convert = _convert_options(options, types, columns)
    return pacsv.open_csv(pa.BufferReader(text), read, _parse_options(options, names), convert).read_next_batch()


def _are_whole(values: pa.Array) -> bool:
    """Whether all that is there are whole numbers."""
    whole: Any = pc.all(pc.match_substring_regex(values, r"^\s*[+-]?[0-9]+\s*$")).as_py()
    return whole is True


def _widest(found: set[pa.DataType]) -> pa.DataType:
    """One type for all: that of whole numbers and floats is float64, anything else that differs is a string."""
    if len(found) == 1:
        return next(iter(found))
    numbers = all(pa.types.is_integer(kind) or pa.types.is_floating(kind) for kind in found)
    return pa.float64() if found and numbers else pa.string()


def _parse_options(options: Options, names: Sequence[str]) -> pacsv.ParseOptions:
    # In a file of one column an empty line is a null.
    return pacsv.ParseOptions(
        delimiter=options.delimiter, newlines_in_values=options.newlines, ignore_empty_lines=len(names) > 1
    )


def _convert_options(options: Options, types: dict[str, Any], columns: list[str]) -> pacsv.ConvertOptions:
    return pacsv.ConvertOptions(
        column_types=types,
        include_columns=columns,
        null_values=list(options.nulls),
        strings_can_be_null=True,
        quoted_strings_can_be_null=False,
    )


def _read_as(kind: pa.DataType) -> pa.DataType:
    """As what values are read that become `kind`; bytes as they are, whether text or not."""
    return kind if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) else csv_type(kind)


def _cast(column: pa.Array, kind: pa.DataType) -> pa.Array:
    if pa.types.is_null(kind) and column.null_count == len(column):
        return pa.nulls(len(column))
    through_binary = pa.types.is_fixed_size_binary(kind) and not pa.types.is_decimal(kind)
    return (column.cast(pa.binary()) if through_binary else column).cast(kind)


def _restored(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    columns = [
        column if column.type == field.type else _cast(column, field.type)
        for column, field in zip(batch.columns, schema, strict=True)
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)
