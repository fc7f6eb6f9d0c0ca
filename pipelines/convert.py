"""Files of one format become files of another, in parallel; whole or not at all, and begun work is not done twice.

The rows of all files are one long line. It is cut into pieces, each of which becomes one file of about the size that
is asked for. Files are written where no reader looks, see `pipelines.staging`; when all are there, they move to the
folder at once, with `_SUCCESS`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs

from pipelines.errors import DataError
from pipelines.inputs import Input, Options, intervals, read
from pipelines.manifest import Manifest, manifest_in
from pipelines.open_input import open_input
from pipelines.outputs import Target, open_writer
from pipelines.staging import Staging, place
from pipelines.storage import apart_schema, is_bytes

_VERSION = 1
#: Rows, or bytes, that are written for a try at each of three places, to learn how large files become.
_TRY_ROWS, _TRY_BYTES = 65_536, 4 << 20
#: What CSV may grow to when it is unpacked; it is not looked at beforehand.
_UNPACKED = 4.0
#: A cut moves to the end of a row group that is so near, in parts of a file.
_REACH = 0.05


class Run(Protocol):
    """Calls a function for each item, somewhere, and gives the results in any order: `pipelines.ray_tasks.run`."""

    def __call__(self, function: Callable[[Any, Any], Any], shared: Any, items: Sequence[Any]) -> Iterator[Any]:
        """See there."""


@dataclass(frozen=True)
class Request:
    """What is to be done.

    Attributes:
        files: what to read, see `pipelines.open_input`.
        out: the folder to make, a path or URI.
        target: how to write.
        shard_bytes: how large a file should become, about.
        options: how to read.
        overwrite: whether `out` may hold something else, which is then replaced.
    """

    files: tuple[str, ...]
    out: str
    target: Target
    shard_bytes: int = 128 << 20
    options: Options = field(default_factory=Options)
    overwrite: bool = False


@dataclass(frozen=True)
class Result:
    """What there is now.

    Attributes:
        out: the folder.
        files: how many.
        rows: of all files.
        bytes: of all files.
        reused: files that were there from an earlier call.
    """

    out: str
    files: int
    rows: int
    bytes: int
    reused: int


@dataclass(frozen=True)
class Progress:
    """How far it is."""

    pieces_done: int
    pieces: int
    rows_done: int


@dataclass(frozen=True)
class _Job:
    """What a task needs."""

    input: Input
    target: Target
    staging: Staging
    pieces: tuple[tuple[int, int], ...]

    def name(self, index: int) -> str:
        return f"part-{index:05d}-of-{len(self.pieces):05d}{self.target.ending}"


def convert(
    request: Request,
    run: Run,
    *,
    say: Callable[[str], None] = lambda text: None,
    progress: Callable[[Progress], None] = lambda progress: None,
) -> Result:
    """Make the folder `request.out`, or finish it where an earlier call was interrupted.

    Args:
        request: what to do.
        run: how to call a function for many items.
        say: told what a user should know, in whole sentences.
        progress: told how far it is.

    Raises:
        DataError: the input cannot be read or does not fit into the format, or the folder cannot be written.
    """
    request.target.ending  # noqa: B018  # a wrong compression is said before anything is read
    source = open_input(request.files, request.options)
    request.target.stored_schema(source.schema, source.files[0].path)
    staging = Staging(*place(request.out))
    key = _key(request, source)
    done = manifest_in(staging.filesystem, staging.out)
    if done is not None and done.plan == key:
        staging.clear()
        sizes = [file["bytes"] for file in done.files]
        return Result(request.out, len(sizes), sum(file["rows"] for file in done.files), sum(sizes), len(sizes))
    begun = staging.plan()
    resumes = begun is not None and begun["key"] == key
    if done is not None or not resumes:
        _check_empty(staging, done, key, request)
    if begun is not None and not resumes:
        say(f"starting over: {_difference(begun['key'], key)}")
    if begun is None or not resumes:
        begun = {"key": key, "pieces": _pieces(source, request)}
        staging.begin(begun)
    pieces = tuple((start, stop) for start, stop in begun["pieces"])
    job = _Job(source, request.target, staging, pieces)
    receipts = _finished(job)
    reused = len(receipts)
    if reused:
        say(f"{reused} of {len(pieces)} files are there from an earlier call")
    rows = sum(receipt["rows"] for receipt in receipts.values())
    progress(Progress(reused, len(pieces), rows))
    for receipt in run(convert_piece, job, [index for index in range(len(pieces)) if index not in receipts]):
        receipts[receipt["index"]] = receipt
        rows += receipt["rows"]
        progress(Progress(len(receipts), len(pieces), rows))
    if source.rows is not None and rows != source.rows:
        seen = f"{source.rows} rows were there, {rows} were written"
        raise DataError("the input has changed during the conversion", seen, "run the command again")
    staging.publish(_manifest(job, [receipts[index] for index in range(len(pieces))], key))
    return Result(request.out, len(pieces), rows, sum(r["bytes"] for r in receipts.values()), reused)


def convert_piece(job: _Job, index: int) -> dict[str, Any]:
    """Write the file of one piece, and a note that it is whole; runs in a Ray task.

    Raises:
        DataError: a row cannot be read or written.
    """
    start, stop = job.pieces[index]
    name = job.name(index)
    seen = next((file.path for file in job.input.files), "")
    rows, newlines = 0, False
    with job.staging.writing(name) as sink, open_writer(sink, job.input.schema, job.target, seen) as writer:
        for batch in read(job.input, start, stop):
            writer.write(batch)
            rows += batch.num_rows
            newlines = newlines or (job.target.format == "csv" and _has_line_ends(batch))
    return job.staging.note({"index": index, "name": name, "rows": rows, "newlines": newlines})


def _has_line_ends(batch: pa.RecordBatch) -> bool:
    """Whether a value would stand on several lines."""
    for column in batch.columns:
        if pa.types.is_dictionary(column.type):
            column = column.dictionary
        if pa.types.is_fixed_size_binary(column.type):
            column = column.cast(pa.binary())
        if is_bytes(column.type) and pc.any(pc.match_substring_regex(column, "[\r\n]")).as_py():
            return True
    return False


def _key(request: Request, source: Input) -> dict[str, Any]:
    """What must be the same for work from an earlier call to be of use; plain values."""
    return {
        "version": _VERSION,
        "inputs": [[file.path, file.size, file.changed] for file in source.files],
        "read": json.loads(json.dumps(asdict(request.options))),
        "write": {**asdict(request.target), "shard_bytes": request.shard_bytes},
    }


def _difference(old: dict[str, Any], new: dict[str, Any]) -> str:
    """In words what has changed between two keys."""
    before = {path: rest for path, *rest in old.get("inputs", [])}
    after = {path: rest for path, *rest in new["inputs"]}
    for path, rest in after.items():
        if path not in before:
            return f"{path} is new"
        if before[path] != rest:
            return f"{path} has changed"
    for path in before:
        if path not in after:
            return f"{path} is no longer there"
    for part in ("read", "write"):
        for name, value in new[part].items():
            if old.get(part, {}).get(name) != value:
                return f"{name} is {value}, was {old.get(part, {}).get(name)}"
    return "it was made by another version"


def _pieces(source: Input, request: Request) -> list[tuple[int, int]]:
    """Intervals that become files of about `shard_bytes` each."""
    total = sum(source.lengths)
    size = total * _density(source, request.target) if total else 0
    return intervals(source, max(1, math.ceil(size / max(1, request.shard_bytes))), _REACH)


def _density(source: Input, target: Target) -> float:
    """Bytes written for each row, or byte of CSV, that is read: some rows of three places are written for a try."""
    if source.rows is None and not source.can_cut(0):
        return _UNPACKED
    length = written = 0
    parts = intervals(source, 64)
    for start, stop in {parts[0], parts[len(parts) // 2], parts[-1]}:
        stop = min(stop, start + (_TRY_BYTES if source.rows is None else _TRY_ROWS))
        sink = pa.BufferOutputStream()
        rows, held = 0, 0
        with open_writer(sink, source.schema, target, source.files[0].path) as writer:
            for batch in read(source, start, stop):
                writer.write(batch)
                rows, held = rows + batch.num_rows, held + batch.nbytes
                if source.rows is not None and held >= _TRY_BYTES:
                    break
        length += stop - start if source.rows is None else rows
        written += sink.getvalue().size
    return written / max(1, length)


def _check_empty(staging: Staging, done: Manifest | None, key: dict[str, Any], request: Request) -> None:
    """Refuse to mix with what is there.

    Raises:
        DataError: the folder holds something else, and may not be replaced.
    """
    if request.overwrite:
        return
    todo = "name another folder, or replace it with --overwrite"
    if done is not None:
        raise DataError("the folder holds another conversion", f"{request.out}: {_difference(done.plan, key)}", todo)
    filesystem, out = staging.filesystem, staging.out
    info = filesystem.get_file_info(out)
    if info.type == pafs.FileType.File:
        raise DataError("this is a file, not a folder", request.out, "name a folder")
    selector = pafs.FileSelector(out, allow_not_found=True)
    there = [entry.base_name for entry in filesystem.get_file_info(selector) if entry.base_name != "_unfinished"]
    if there:
        raise DataError("the folder is not empty", f"{request.out} has {there[0]}", todo)


def _finished(job: _Job) -> dict[int, dict[str, Any]]:
    """The receipts of pieces whose files are there and whole, by index."""
    found = {receipt["index"]: receipt for receipt in job.staging.receipts() if "index" in receipt}
    return {index: receipt for index, receipt in found.items() if receipt["name"] == job.name(index)}


def _manifest(job: _Job, receipts: list[dict[str, Any]], key: dict[str, Any]) -> Manifest:
    schema = job.input.schema
    return Manifest(
        format=job.target.format,
        schema=apart_schema(schema) if job.target.format == "tfrecord" else schema,
        newlines=any(receipt["newlines"] for receipt in receipts),
        files=tuple({name: receipt[name] for name in ("name", "rows", "bytes")} for receipt in receipts),
        plan=key,
    )
