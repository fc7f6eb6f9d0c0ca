"""How a job's folder travels to Kubernetes: packed, into a ConfigMap where it fits, else to object storage."""

from __future__ import annotations

import hashlib
import io
import logging
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from cluster.errors import PreflightError, SpecError, StorageError
from cluster.kube_job import LARGEST_CONFIG_MAP, Code
from cluster.locations import join, shown
from cluster.storage import copy_up, open_filesystem
from cluster.units import format_size

#: Where uploaded code lies below the storage of the runs; a dot hides it from lists of runs.
FOLDER = ".code"
#: All files in an archive are of this time, so that the same code has the same name.
_EPOCH = (1980, 1, 1, 0, 0, 0)


def pack(folder: Path, excludes: Sequence[str], added: Mapping[str, bytes]) -> bytes:
    """The folder as a zip archive that depends on nothing but its files; what is left out is what Ray leaves out.

    Args:
        folder: to be packed.
        excludes: patterns as in `.gitignore`; `.gitignore` and `.rayignore` files count too.
        added: more files, by their paths in the archive.

    Raises:
        SpecError: a file cannot be read.
    """
    from ray._private.runtime_env.packaging import create_package

    with tempfile.TemporaryDirectory(prefix="tfcluster-pack-") as work:
        raw = Path(work, "code.zip")
        try:
            create_package(str(folder), raw, include_gitignore=True, excludes=list(excludes), logger=_silent())
        except OSError as error:
            raise SpecError("the job's folder cannot be packed", folder, str(error)) from None
        return _normal(raw, added)


def _silent() -> logging.Logger:
    logger = logging.getLogger("cluster.kube_code")
    logger.setLevel(logging.ERROR)
    return logger


def _normal(raw: Path, added: Mapping[str, bytes]) -> bytes:
    """The same files and those that are added, compressed, in the order of their names, without times."""
    made = io.BytesIO()
    with zipfile.ZipFile(raw) as before, zipfile.ZipFile(made, "w") as after:
        found = {item.filename: item for item in before.infolist()}
        for name in sorted({*found, *added}):
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.external_attr = found[name].external_attr if name in found else 0o644 << 16  # may it be executed?
            entry.compress_type = zipfile.ZIP_DEFLATED
            after.writestr(entry, added[name] if name in added else before.read(name), compresslevel=9)
    return made.getvalue()


def planned(archive: bytes, command: Sequence[str], where: str, storage: str) -> Code:
    """Where the packed folder will go; nothing is uploaded.

    Args:
        archive: the packed folder.
        command: of the launcher, in that folder.
        where: `auto`, or the URI of a folder to upload to.
        storage: of the job's runs.

    Raises:
        PreflightError: too large for a ConfigMap, and there is no object storage.
    """
    if where == "auto" and fits(archive):
        return Code(tuple(command), archive)
    if where == "auto" and "://" not in storage:
        raise PreflightError(
            "the job's folder is too large for a ConfigMap, and there is no object storage to put it on",
            f"{format_size(len(archive))} packed, at most {format_size(largest())}; {_largest_files(archive)}",
            "leave files out by runtime_env.excludes or .gitignore, name a folder for code by a URI, or put the code "
            "into the image (code: image)",
        )
    return Code(tuple(command), uri=join(_folder(where, storage), _name_of(archive)))


def place(archive: bytes, command: Sequence[str], where: str, storage: str) -> Code:
    """Where the packed folder goes, see `planned`; uploads it unless a ConfigMap holds it.

    Raises:
        PreflightError: too large for a ConfigMap, and there is no object storage.
        StorageError: it cannot be uploaded.
    """
    code = planned(archive, command, where, storage)
    if code.uri:
        upload(archive, _folder(where, storage))
    return code


def _folder(where: str, storage: str) -> str:
    """The URI of the folder that code is uploaded to."""
    return join(storage, FOLDER) if where == "auto" else where


def largest() -> int:
    """Bytes of the largest archive for a ConfigMap, which holds it as base64."""
    return LARGEST_CONFIG_MAP // 4 * 3


def fits(archive: bytes) -> bool:
    """Whether a ConfigMap holds the archive."""
    return len(archive) <= largest()


def _largest_files(archive: bytes) -> str:
    with zipfile.ZipFile(io.BytesIO(archive)) as packed:
        items = sorted(packed.infolist(), key=lambda item: -item.compress_size)[:3]
    return "the largest: " + ", ".join(f"{item.filename} {format_size(item.compress_size)}" for item in items)


def upload(archive: bytes, folder: str) -> str:
    """Put the archive into `folder`, a URI, unless it is there already; returns its URI.

    Raises:
        StorageError: the storage refuses.
    """
    name = _name_of(archive)
    uri = join(folder, name)
    if is_stored(uri):
        return uri
    filesystem, path = open_filesystem(uri)
    with tempfile.TemporaryDirectory(prefix="tfcluster-upload-") as work:
        local = Path(work, name)
        local.write_bytes(archive)
        copy_up(local, filesystem, path)
    return uri


def _name_of(archive: bytes) -> str:
    return f"code-{hashlib.sha256(archive).hexdigest()[:32]}.zip"


def is_stored(uri: str) -> bool:
    """Whether there is such a file.

    Raises:
        StorageError: the storage refuses.
    """
    from pyarrow import fs

    filesystem, path = open_filesystem(uri)
    try:
        return bool(filesystem.get_file_info(path).type == fs.FileType.File)
    except OSError as error:
        raise StorageError("the code cannot be uploaded", shown(uri), str(error).splitlines()[0]) from None


@contextmanager
def taken_back(uri: str) -> Iterator[None]:
    """What is uploaded to `uri` meanwhile is removed where the block fails; '' is nowhere, and what was there stays."""
    was_there = not uri or is_stored(uri)
    try:
        yield
    except BaseException:  # also Ctrl-C
        if not was_there:
            filesystem, path = open_filesystem(uri)
            with suppress(OSError):  # it may not have come so far
                filesystem.delete_file(path)
        raise


@contextmanager
def unpacked(archive: str) -> Iterator[Path]:
    """The folder that the archive, a path or URI, holds; it is there for as long as the context.

    Raises:
        StorageError: there is no such archive, or it cannot be unpacked.
    """
    filesystem, path = open_filesystem(archive)
    with tempfile.TemporaryDirectory(prefix="tfcluster-code-") as folder:
        try:
            with filesystem.open_input_file(path) as file, zipfile.ZipFile(file) as packed:
                for item in packed.infolist():
                    made = packed.extract(item, folder)
                    if not item.is_dir():
                        Path(made).chmod(0o600 | (item.external_attr >> 16 & 0o777))
        except (OSError, ValueError, zipfile.BadZipFile) as error:
            seen = f"{shown(archive)}: {str(error).splitlines()[0] if str(error) else type(error).__name__}"
            raise StorageError("the job's code cannot be fetched", seen, "submit the job again") from None
        yield Path(folder)
