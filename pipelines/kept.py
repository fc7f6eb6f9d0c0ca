"""What was learned of files, kept in the user's cache folder, so that unchanged files need not be looked at again.

A document holds what was learned of the files behind a path, a directory, a glob or a list of these: a row a file, with
its size and time of change. A row is believed while both are still the same; a file system that tells no times is not.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.files import File

#: Documents of a kind that were not used for longest go when all of them together have more bytes.
MOST_BYTES = 256 << 20
_DIGEST = 16
_FILE = [pa.field("path", pa.string()), pa.field("size", pa.int64()), pa.field("changed", pa.int64())]


def document(kind: str, patterns: Sequence[str]) -> Path:
    """Where the documents of a kind are kept: below TFCLUSTER_CACHE, which machines may share.

    Else `ray-tfcluster/KIND` in the user's cache folder (XDG Base Directory).
    """
    user = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    root = os.environ.get("TFCLUSTER_CACHE") or os.path.join(user, "ray-tfcluster")
    places = [pattern if "://" in pattern else os.path.abspath(os.path.expanduser(pattern)) for pattern in patterns]
    name = hashlib.blake2b(json.dumps(places).encode(errors="surrogatepass"), digest_size=16).hexdigest()
    return Path(root, kind, f"{name}.arrow")


def recall(kept: Path | None, files: Sequence[File], learned: pa.Schema) -> tuple[pa.Table, list[int]]:
    """What is known of `files`: a table with their `path`, `size`, `changed` and what was `learned`, in their order.

    Returns:
        The rows of the files that are known and have not changed, and the indices in `files` of the others.
    """
    schema = pa.schema([*_FILE, *learned])
    known = _load(kept, schema)
    now = listed(files)
    if not len(known) or not files:
        return known.slice(0, 0), [*range(len(files))]
    rows = pc.index_in(now["path"].combine_chunks(), known["path"].combine_chunks())
    before = known.take(rows)
    same = pc.and_(pc.equal(before["size"], now["size"]), pc.equal(before["changed"], now["changed"]))
    same = pc.fill_null(pc.and_(same, pc.greater(now["changed"], 0)), False)
    if pc.all(same).as_py():
        return before, []
    return before.filter(same), pc.indices_nonzero(pc.invert(same)).to_pylist()


def listed(files: Sequence[File]) -> pa.Table:
    """The first columns of a document."""
    columns = zip(*((file.path, file.size, file.changed) for file in files), strict=True) if files else ([], [], [])
    return pa.table(
        [pa.array(values, field.type) for values, field in zip(columns, _FILE, strict=True)], schema=pa.schema(_FILE)
    )


def keep(kept: Path | None, known: pa.Table) -> None:
    """Write a document, whole or not at all; a folder that cannot be written is no reason to fail."""
    if kept is None:
        return
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, known.schema) as writer:
        writer.write_table(known)
    content = sink.getvalue()
    with suppress(OSError):
        kept.parent.mkdir(parents=True, exist_ok=True)
        descriptor, part = tempfile.mkstemp(dir=kept.parent)
        try:
            with open(descriptor, "wb") as file:
                file.write(_digest(content))
                file.write(content)
            os.replace(part, kept)
        except OSError:
            os.unlink(part)
            raise
        _forget(kept.parent)


def _load(kept: Path | None, schema: pa.Schema) -> pa.Table:
    """A document; nothing where it is not there or not as it was written, for it can be had again."""
    if kept is not None:
        with suppress(OSError, pa.ArrowException):
            content = kept.read_bytes()
            body = pa.py_buffer(content).slice(min(_DIGEST, len(content)))
            if content[:_DIGEST] == _digest(body):
                table = pa.ipc.open_stream(body).read_all()
                if table.schema == schema:
                    os.utime(kept)
                    return table
    return schema.empty_table()


def _digest(content: pa.Buffer) -> bytes:
    return hashlib.blake2b(content, digest_size=_DIGEST).digest()


def _forget(folder: Path) -> None:
    """Delete what was not used for longest of what is too much; the newest stays in any case."""
    with os.scandir(folder) as entries:
        found = sorted(
            ((entry.stat(), entry.path) for entry in entries), key=lambda of: of[0].st_mtime_ns, reverse=True
        )
    size = 0
    for number, (status, path) in enumerate(found):
        size += status.st_size
        if number and size > MOST_BYTES:
            with suppress(FileNotFoundError):
                os.unlink(path)
