"""What the footers of Parquet files say, read in parallel, and kept so that unchanged files are not asked again."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from pipelines.errors import DataError
from pipelines.files import File, first_line

_THREADS = 16
#: Fewer files than this are read anew: that is as quick as looking them up.
_WORTH_KEEPING = 64
_VERSION = 1


class Footer(NamedTuple):
    """A file's rows and bytes by row group, and which schema it has."""

    rows: list[int]
    bytes: list[int]
    schema: str


@dataclass
class Footers:
    """The footers of files in their order, and each of their schemas by its fingerprint."""

    by_file: dict[str, Footer]
    schemas: dict[str, pa.Schema]


def read_footers(
    filesystem: pafs.FileSystem,
    files: Sequence[File],
    cache: Path | None = None,
    on_error: Callable[[str, DataError], None] | None = None,
) -> Footers:
    """The footers of `files`, of which only those are read that are new or have changed since they were kept.

    Args:
        filesystem: where the files are.
        files: with their sizes and times of change.
        cache: folder in which footers are kept, one JSON file for a set of files; None keeps none.
        on_error: is told of a file without a readable footer, which is then left out; None raises the error.

    Raises:
        DataError: a file is not there, or has no readable footer; with its name.
    """
    store = cache / _name(files) if cache is not None and len(files) >= _WORTH_KEEPING else None
    kept, schemas = _load(store)
    known = {file.path: Footer(*kept[file.path][2:]) for file in files if _same(kept.get(file.path), file, schemas)}
    new = [file for file in files if file.path not in known]
    if new:
        known.update(_read(filesystem, new, schemas, on_error))
        _save(store, [file for file in files if file.path in known], known, schemas)
    return Footers({file.path: known[file.path] for file in files if file.path in known}, schemas)


def read_footer(filesystem: pafs.FileSystem, path: str) -> pq.FileMetaData:
    """The whole footer of one file.

    Raises:
        DataError: the file is not there, or its footer cannot be read.
    """
    try:
        return pq.read_metadata(path, filesystem=filesystem)
    except FileNotFoundError:
        raise DataError("a data file is not there", path, "check the path") from None
    except (pa.ArrowException, OSError) as error:
        raise DataError("cannot read the footer of a Parquet file", path, first_line(error)) from None


def cache_folder() -> Path:
    """Where footers are kept: `ray-tfcluster/footers` below the user's cache folder (XDG Base Directory)."""
    root = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(root, "ray-tfcluster", "footers")


def _read(
    filesystem: pafs.FileSystem,
    files: Sequence[File],
    schemas: dict[str, pa.Schema],
    on_error: Callable[[str, DataError], None] | None,
) -> dict[str, Footer]:
    def read(file: File) -> tuple[str, Footer, pa.Schema] | None:
        try:
            metadata = read_footer(filesystem, file.path)
        except DataError as error:
            if on_error is None:
                raise
            on_error(file.path, error)
            return None
        groups = [metadata.row_group(index) for index in range(metadata.num_row_groups)]
        schema = metadata.schema.to_arrow_schema().remove_metadata()
        rows = [group.num_rows for group in groups]
        return file.path, Footer(rows, [group.total_byte_size for group in groups], _fingerprint(schema)), schema

    with ThreadPoolExecutor(_THREADS) as pool:
        found = [footer for footer in pool.map(read, files) if footer is not None]
    schemas.update((footer.schema, schema) for _, footer, schema in found)
    return {path: footer for path, footer, _ in found}


def _fingerprint(schema: pa.Schema) -> str:
    return hashlib.blake2b(schema.serialize().to_pybytes(), digest_size=12).hexdigest()


def _name(files: Sequence[File]) -> str:
    names = "\n".join(file.path for file in files)
    return hashlib.blake2b(names.encode(), digest_size=16).hexdigest() + ".json"


def _same(kept: Any, file: File, schemas: dict[str, pa.Schema]) -> bool:
    """Whether what was kept is whole and still so; a file system that tells no times is not trusted."""
    whole = isinstance(kept, list) and len(kept) == 5 and kept[4] in schemas
    return whole and file.changed > 0 and kept[0] == file.size and kept[1] == file.changed


def _load(store: Path | None) -> tuple[dict[str, list[Any]], dict[str, pa.Schema]]:
    """What was kept by path: size, time of change, and the fields of its footer.

    Nothing where that cannot be read, for it can be had again.
    """
    if store is None:
        return {}, {}
    with suppress(OSError, ValueError, KeyError, TypeError, AttributeError, pa.ArrowException):
        values = json.loads(store.read_bytes())
        if values["version"] == _VERSION:
            return {**values["files"]}, {key: _schema(text) for key, text in values["schemas"].items()}
    return {}, {}


def _schema(text: str) -> pa.Schema:
    return pa.ipc.read_schema(pa.py_buffer(base64.b64decode(text)))


def _save(store: Path | None, files: Sequence[File], footers: dict[str, Footer], schemas: dict[str, pa.Schema]) -> None:
    """Keep the footers, whole or not at all; a folder that cannot be written is no reason to fail."""
    if store is None:
        return
    values: dict[str, Any] = {
        "version": _VERSION,
        "schemas": {key: base64.b64encode(schema.serialize().to_pybytes()).decode() for key, schema in schemas.items()},
        "files": {file.path: [file.size, file.changed, *footers[file.path]] for file in files},
    }
    with suppress(OSError):
        store.parent.mkdir(parents=True, exist_ok=True)
        descriptor, part = tempfile.mkstemp(dir=store.parent)
        try:
            with open(descriptor, "w") as file:
                json.dump(values, file)
            os.replace(part, store)
        except OSError:
            os.unlink(part)
