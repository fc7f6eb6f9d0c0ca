"""The file system of a URI, through pyarrow, and what is missing where it cannot be opened."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

#: What Arrow loads when it opens a file system of this scheme, and does not bring along.
_NEEDS = (
    "Hadoop's file system needs on every node a Java runtime (JAVA_HOME), Hadoop's libhdfs.so (HADOOP_HOME, or its "
    "folder in ARROW_LIBHDFS_DIR) and CLASSPATH as `hadoop classpath --glob` prints it"
)
NEEDS = {"hdfs": _NEEDS, "viewfs": _NEEDS}


class CannotOpenError(Exception):
    """A file system cannot be opened; its text says why, in one line."""


def open_file_system(uri: str) -> tuple[FileSystem, str]:
    """The file system of `uri`, and the path there.

    Raises:
        CannotOpenError: an unknown scheme, no bucket, or one whose file system does not answer or lacks something here.
    """
    import pyarrow as pa
    from pyarrow import fs

    try:
        found: tuple[FileSystem, str] = fs.FileSystem.from_uri(uri)
    except (pa.ArrowException, OSError, ValueError) as error:
        said = (str(error).strip() or type(error).__name__).splitlines()[0]
        needs = NEEDS.get(uri.partition("://")[0])
        raise CannotOpenError(f"{said}; {needs}" if needs else said) from None
    if found[0].type_name in ("s3", "gcs", "abfs") and not found[1].strip("/"):
        raise CannotOpenError(f"it names no bucket: write {uri.partition('://')[0]}://BUCKET/FOLDER")
    return found


def content(filesystem: FileSystem, path: str) -> bytes | None:
    """What is in a file, or None where it is not.

    Raises:
        OSError: it is there and cannot be read, or the file system does not answer.
    """
    from pyarrow import fs

    # Hadoop's client writes a page of Java to stderr when it is to open a file that is not there.
    if filesystem.type_name == "hdfs" and filesystem.get_file_info(path).type == fs.FileType.NotFound:
        return None
    try:
        with filesystem.open_input_stream(path) as stream:
            return bytes(stream.read())
    except (FileNotFoundError, NotADirectoryError):
        return None
