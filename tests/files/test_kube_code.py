"""A job's folder, packed and unpacked: what is left out, what is added, and where it goes."""

from __future__ import annotations

import io
import os
import random
import zipfile
from pathlib import Path

import pytest

from cluster.environment import EXCLUDED
from cluster.errors import PreflightError, StorageError
from cluster.kube_code import fits, largest, pack, place, unpacked, upload
from cluster.kube_job import LARGEST_CONFIG_MAP

COMMAND = ("tfcluster", "run", "tfcluster-job.json")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A job's folder, with much that need not travel."""
    made = tmp_path / "job"
    for name in ("train.py", "package/part.py", "runs/old/result.json", ".git/HEAD", "data/a.bin", "notes.txt"):
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        (made / name).write_text(name)
    (made / "tool.sh").write_text("#!/bin/sh\n")
    (made / "tool.sh").chmod(0o755)
    (made / ".gitignore").write_text("data/\n")
    return made


def names(archive: bytes) -> set[str]:
    with zipfile.ZipFile(io.BytesIO(archive)) as packed:
        return {name for name in packed.namelist() if not name.endswith("/")}


def test_what_travels(folder: Path) -> None:
    archive = pack(folder, EXCLUDED, {"tfcluster-job.json": b"{}"})
    expected = {"train.py", "package/part.py", "notes.txt", "tool.sh", ".gitignore", "tfcluster-job.json"}
    assert names(archive) == expected
    assert names(pack(folder, [*EXCLUDED, "*.txt"], {})) == expected - {"notes.txt", "tfcluster-job.json"}


def test_the_same_code_is_the_same_archive(folder: Path) -> None:
    before = pack(folder, EXCLUDED, {"b": b"1", "a": b"2"})
    os.utime(folder / "train.py", (0, 0))
    assert pack(folder, EXCLUDED, {"a": b"2", "b": b"1"}) == before
    (folder / "train.py").write_text("other")
    assert pack(folder, EXCLUDED, {"a": b"2", "b": b"1"}) != before


def test_there_and_back(folder: Path, tmp_path: Path) -> None:
    archive = tmp_path / "code.zip"
    archive.write_bytes(pack(folder, EXCLUDED, {"train.py": b"replaced"}))
    with unpacked(str(archive)) as made:
        assert (made / "train.py").read_text() == "replaced"
        assert (made / "package" / "part.py").read_text() == "package/part.py"
        assert os.access(made / "tool.sh", os.X_OK)
        assert not os.access(made / "notes.txt", os.X_OK) or os.stat(made / "notes.txt").st_mode & 0o111 == 0
    assert not made.exists()


def test_a_file_that_leads_out_of_the_folder(tmp_path: Path) -> None:
    archive = tmp_path / "code.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("../outside", "x")
    with unpacked(str(archive)) as made:
        assert (made / "outside").exists()
        assert not (made.parent / "outside").exists()


@pytest.mark.parametrize("content", [None, b"no archive"])
def test_code_that_cannot_be_fetched(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "code.zip").write_bytes(content)
    with pytest.raises(StorageError, match="the job's code cannot be fetched"), unpacked(str(tmp_path / "code.zip")):
        pass


def test_the_largest_archive_is_the_largest_config_map() -> None:
    import base64

    assert len(base64.b64encode(bytes(largest()))) <= LARGEST_CONFIG_MAP < 2**20
    assert fits(bytes(largest()))
    assert not fits(bytes(largest() + 1))


def large(folder: Path) -> bytes:
    (folder / "table.bin").write_bytes(random.Random(0).randbytes(largest()))
    return pack(folder, EXCLUDED, {})


def test_small_code_goes_into_a_config_map(folder: Path, tmp_path: Path) -> None:
    archive = pack(folder, EXCLUDED, {})
    code = place(archive, COMMAND, "auto", f"file://{tmp_path}/runs")
    assert (code.archive, code.uri) == (archive, "")
    assert not (tmp_path / "runs").exists()


def test_large_code_goes_to_the_storage_of_the_runs(folder: Path, tmp_path: Path) -> None:
    archive = large(folder)
    code = place(archive, COMMAND, "auto", f"file://{tmp_path}/runs")
    assert code.archive is None
    assert code.uri.startswith(f"file://{tmp_path}/runs/.code/code-")
    with unpacked(code.uri) as made:
        assert (made / "table.bin").stat().st_size == largest()


def test_large_code_goes_to_object_storage_whose_uri_has_settings(folder: Path, s3: str) -> None:
    assert "endpoint_override=" in s3
    archive = large(folder)
    code = place(archive, COMMAND, "auto", s3)
    assert "/.code/code-" in code.uri
    assert "endpoint_override=" in code.uri
    with unpacked(code.uri) as made:
        assert (made / "table.bin").stat().st_size == largest()


def test_a_folder_for_code_is_used_for_small_code_too(folder: Path, tmp_path: Path) -> None:
    code = place(pack(folder, EXCLUDED, {}), COMMAND, f"file://{tmp_path}/shelf", "s3://bucket/runs")
    assert code.uri.startswith(f"file://{tmp_path}/shelf/code-")


def test_large_code_without_object_storage(folder: Path) -> None:
    with pytest.raises(PreflightError) as caught:
        place(large(folder), COMMAND, "auto", "/storage")
    assert "too large for a ConfigMap" in str(caught.value)
    assert "the largest: table.bin " in str(caught.value)


def test_the_same_code_is_uploaded_once(folder: Path, tmp_path: Path) -> None:
    archive = pack(folder, EXCLUDED, {})
    first = upload(archive, f"file://{tmp_path}/shelf")
    stored = tmp_path / "shelf" / first.rpartition("/")[2]
    before = stored.stat().st_mtime_ns
    assert upload(archive, f"file://{tmp_path}/shelf") == first
    assert stored.stat().st_mtime_ns == before


def test_storage_that_refuses(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "shelf").write_text("a file")
    with pytest.raises(StorageError):
        upload(pack(folder, EXCLUDED, {}), f"file://{tmp_path}/shelf")
