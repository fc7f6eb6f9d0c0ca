"""File systems by URI: what is missing where one cannot be opened, and what is in a file."""

from __future__ import annotations

from pathlib import Path

import pytest
from pyarrow import fs

from pipelines.file_systems import CannotOpenError, content, open_file_system


@pytest.mark.parametrize("scheme", ["hdfs", "viewfs"])
def test_hadoop_without_its_library_names_what_it_needs(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("JAVA_HOME", "HADOOP_HOME", "CLASSPATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ARROW_LIBHDFS_DIR", "/nowhere")
    with pytest.raises(CannotOpenError) as raised:
        open_file_system(f"{scheme}://namenode:9000/data")
    text = str(raised.value)
    assert all(name in text for name in ("JAVA_HOME", "ARROW_LIBHDFS_DIR", "CLASSPATH"))
    assert "\n" not in text


def test_another_scheme_is_not_told_of_java() -> None:
    with pytest.raises(CannotOpenError, match="ftp") as raised:
        open_file_system("ftp://host/data")
    assert "JAVA_HOME" not in str(raised.value)


@pytest.mark.parametrize("uri", ["s3://", "gs://", "s3://?region=eu-1"])
def test_an_object_store_without_a_bucket(uri: str) -> None:
    with pytest.raises(CannotOpenError, match=f"it names no bucket: write {uri[:2]}://BUCKET/FOLDER"):
        open_file_system(uri)


def test_a_file_system_and_the_path_there(tmp_path: Path) -> None:
    found, path = open_file_system(tmp_path.as_uri())
    assert (found.type_name, path) == ("local", str(tmp_path))


def test_what_is_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"\x00bytes")
    here = fs.LocalFileSystem()
    assert content(here, str(tmp_path / "file")) == b"\x00bytes"
    assert content(here, str(tmp_path / "none")) is None
    assert content(here, str(tmp_path / "file" / "below")) is None


def test_what_cannot_be_read_is_an_error_not_nothing(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="directory"):
        content(fs.LocalFileSystem(), str(tmp_path))
