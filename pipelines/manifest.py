"""`_SUCCESS`: what `tfcluster data convert` writes beside its files, and what readers take from it."""

from __future__ import annotations

import base64
import json
import posixpath
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs

from pipelines.file_systems import content
from pipelines.files import File

NAME = "_SUCCESS"
VERSION = 1


@dataclass(frozen=True)
class Manifest:
    """Of one finished conversion.

    Attributes:
        format: of the files.
        schema: of their rows, which CSV and TFRecord do not say themselves.
        newlines: whether values of CSV files hold line ends.
        files: name, rows and bytes of each.
        plan: what was converted and how, see `pipelines.convert`.
    """

    format: str
    schema: pa.Schema
    newlines: bool
    files: tuple[dict[str, Any], ...]
    plan: dict[str, Any]

    def to_json(self) -> str:
        """The content of the file."""
        document = {
            "made_by": "ray-tfcluster",
            "version": VERSION,
            "format": self.format,
            "rows": sum(file["rows"] for file in self.files),
            "bytes": sum(file["bytes"] for file in self.files),
            "columns": {field.name: str(field.type) for field in self.schema},
            "arrow_schema": base64.b64encode(self.schema.serialize().to_pybytes()).decode(),
            "newlines_in_values": self.newlines,
            "files": list(self.files),
            "plan": self.plan,
        }
        return json.dumps(document, indent=1)

    @classmethod
    def from_json(cls, text: str | bytes) -> Manifest | None:
        """The manifest of `to_json`; None where the text is something else, such as Spark's empty file."""
        try:
            document = json.loads(text)
            if document["made_by"] != "ray-tfcluster" or document["version"] != VERSION:
                return None
            return cls(
                format=document["format"],
                schema=pa.ipc.read_schema(pa.py_buffer(base64.b64decode(document["arrow_schema"]))),
                newlines=document["newlines_in_values"],
                files=tuple(document["files"]),
                plan=document["plan"],
            )
        except (ValueError, KeyError, TypeError, pa.ArrowException):
            return None


def read_manifest(filesystem: pafs.FileSystem, files: Sequence[File]) -> Manifest | None:
    """The manifest beside `files`, if they lie in one folder, are its files, and have not changed in size."""
    folders = {posixpath.dirname(file.path) for file in files}
    if len(folders) != 1:
        return None
    found = manifest_in(filesystem, folders.pop())
    if found is None:
        return None
    sizes = {file["name"]: file["bytes"] for file in found.files}
    same = all(sizes.get(posixpath.basename(file.path)) == file.size for file in files)
    return found if same else None


def manifest_in(filesystem: pafs.FileSystem, folder: str) -> Manifest | None:
    """The manifest in `folder`, if there is one."""
    try:
        found = content(filesystem, f"{folder}/{NAME}" if folder else NAME)
    except OSError:
        return None
    return None if found is None else Manifest.from_json(found)
