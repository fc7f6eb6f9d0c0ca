"""Run directories on a local disk, a full disk and an S3 server; what a kill in the middle leaves."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from pyarrow import fs

from cluster.errors import StorageError
from cluster.locations import join, shown
from cluster.storage import (
    FOLDERS,
    RunDirectory,
    copy_up,
    download_folder,
    open_filesystem,
    read_text,
    resolve,
    upload_folder,
)


def files(uri: str) -> dict[str, str]:
    """Every file below `uri` with its text."""
    filesystem, base = open_filesystem(uri)
    found = {}
    for info in filesystem.get_file_info(fs.FileSelector(base, recursive=True, allow_not_found=True)):
        if info.type == fs.FileType.File:
            with filesystem.open_input_stream(info.path) as stream:
                found[info.path.removeprefix(base).lstrip("/")] = stream.read().decode()
    return found


# Names


@pytest.mark.parametrize(
    ("storage", "resolved"),
    [
        ("runs", "/job/runs"),
        ("./runs", "/job/runs"),
        ("../runs", "/runs"),
        ("/data/runs", "/data/runs"),
        ("s3://bucket/runs", "s3://bucket/runs"),
        ("file:///data", "file:///data"),
    ],
)
def test_storage_is_relative_to_the_job(storage: str, resolved: str) -> None:
    assert resolve(storage, "/job") == resolved


def test_storage_below_the_home_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    assert resolve("~/runs", "/job") == "/home/ada/runs"


@pytest.mark.parametrize(
    ("uri", "joined"),
    [
        ("/data/runs", "/data/runs/a/b"),
        ("/data/runs/", "/data/runs/a/b"),
        ("/", "/a/b"),
        ("/what?/runs", "/what?/runs/a/b"),
        ("s3://bucket", "s3://bucket/a/b"),
        ("file:///", "file:///a/b"),
        ("s3://bucket/runs?region=eu-1&scheme=http", "s3://bucket/runs/a/b?region=eu-1&scheme=http"),
    ],
)
def test_what_lies_below(uri: str, joined: str) -> None:
    assert join(uri, "a", "b") == joined


@pytest.mark.parametrize(
    ("uri", "text"),
    [
        ("/data/runs:old@home", "/data/runs:old@home"),
        ("s3://bucket/a:b@c", "s3://bucket/a:b@c"),
        ("s3://key:hush@bucket/runs", "s3://key:***@bucket/runs"),
        ("failed for s3://key:hush@bucket/runs?region=x", "failed for s3://key:***@bucket/runs?region=x"),
        ("hdfs://ada@node:9000/runs", "hdfs://ada@node:9000/runs"),
        ("s3://key:hu/sh@bucket/runs", "s3://key:***@bucket/runs"),  # its / was not written as %2F
        ("http://head:8265/a@b", "http://head:8265/a@b"),
        ("at s3://a:b@c and s3://d:e@f", "at s3://a:***@c and s3://d:***@f"),
        ("abfs://:hush@store/x?client_secret=hush&tenant_id=t", "abfs://:***@store/x?client_secret=***&tenant_id=t"),
    ],
)
def test_secrets_are_not_shown(uri: str, text: str) -> None:
    assert shown(uri) == text


@pytest.mark.parametrize(
    "uri", ["ftp://key:hush@host/x", "file://host/x", "gs://bucket/x?colour=red", "hdfs://nowhere:9000/x"]
)
def test_a_storage_that_cannot_be_opened_is_one_sentence(uri: str) -> None:
    with pytest.raises(StorageError, match="the storage cannot be opened") as caught:
        open_filesystem(uri)
    assert "\n" not in str(caught.value)
    assert "hush" not in str(caught.value)


# A local directory


def test_a_new_run_directory_has_its_folders(tmp_path: Path) -> None:
    directory = RunDirectory(f"{tmp_path}/runs/job-1")
    directory.create()
    assert sorted(path.name for path in (tmp_path / "runs" / "job-1").iterdir()) == sorted(FOLDERS)
    directory.create()  # again does no harm


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_a_local_directory_is_written_in_its_place(tmp_path: Path, scheme: str) -> None:
    directory = RunDirectory(f"{scheme}{tmp_path}/job-1")
    directory.append("logs/worker-0.log", "one\n")
    directory.append("logs/worker-0.log", "zwölf\n")
    directory.write("result.json", "{}")
    directory.upload()
    directory.close()
    assert files(f"{tmp_path}/job-1") == {"logs/worker-0.log": "one\nzwölf\n", "result.json": "{}"}
    assert read_text(directory.uri, "logs/worker-0.log") == "one\nzwölf\n"
    assert read_text(directory.uri, "logs/worker-9.log") is None
    assert read_text(f"{directory.uri}/nowhere", "result.json") is None


def test_text_that_utf8_cannot_hold_is_written_all_the_same(tmp_path: Path) -> None:
    directory = RunDirectory(str(tmp_path))
    directory.append("events.jsonl", "half \ud83d a pair\n")
    assert read_text(directory.uri, "events.jsonl") == "half ? a pair\n"


def test_what_is_no_file_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "result.json").mkdir()
    with pytest.raises(StorageError, match=r"result\.json cannot be read"):
        read_text(str(tmp_path), "result.json")


@pytest.mark.parametrize("action", ["create", "append", "write"])
def test_a_folder_in_a_files_place(tmp_path: Path, action: str) -> None:
    (tmp_path / "job-1").write_text("I am a file")
    directory = RunDirectory(f"{tmp_path}/job-1")
    arguments = () if action == "create" else ("logs/a.log", "text")
    with pytest.raises(StorageError, match="the run directory cannot be") as caught:
        getattr(directory, action)(*arguments)
    assert "job-1" in str(caught.value)


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    directory = RunDirectory(str(tmp_path))
    directory.write("result.json", "old")
    with open(tmp_path / "result.json") as reader:
        directory.write("result.json", "new")
        assert reader.read() == "old"  # who reads meanwhile is not disturbed
    assert files(str(tmp_path)) == {"result.json": "new"}


KILLED = """
import os, signal, sys
from cluster.storage import RunDirectory

def kill(event, arguments):
    if event == "os.rename":  # os.replace tells so before it acts
        os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(kill)
RunDirectory(sys.argv[1]).write("result.json", "new")
"""


def test_a_kill_before_the_rename_leaves_the_old_file(tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text("old")
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert (tmp_path / "result.json").read_text() == "old"
    assert [path.read_text() for path in tmp_path.glob(".result.json.*")] == ["new"]
    RunDirectory(str(tmp_path)).write("result.json", "newest")
    assert (tmp_path / "result.json").read_text() == "newest"


# A full disk


def fill(folder: Path) -> None:
    block = bytes(4096)
    with contextlib.suppress(OSError), open(folder / "ballast", "wb", buffering=0) as file:
        while file.write(block):
            pass
    assert shutil.disk_usage(folder).free == 0


def test_a_full_disk_is_one_sentence_and_no_file_is_half_written(small_disk: Path) -> None:
    directory = RunDirectory(f"{small_disk}/job-1")
    directory.create()
    directory.write("result.json", "old")
    fill(small_disk)
    with pytest.raises(StorageError, match="No space left on device") as caught:
        directory.write("result.json", "new" * 10_000)
    assert "free some space there" in str(caught.value)
    assert (small_disk / "job-1" / "result.json").read_text() == "old"
    assert [path.name for path in (small_disk / "job-1").iterdir() if path.is_file()] == ["result.json"]


def test_a_full_disk_stops_logs_and_events_too(small_disk: Path) -> None:
    directory = RunDirectory(f"{small_disk}/job-1")
    directory.create()
    fill(small_disk)
    with pytest.raises(StorageError, match=r"events\.jsonl: No space left on device"):
        directory.append("events.jsonl", "x" * 10_000)
    (small_disk / "ballast").unlink()
    directory.append("events.jsonl", "goes on\n")
    assert (small_disk / "job-1" / "events.jsonl").read_text().endswith("goes on\n")


def test_a_full_disk_has_no_room_for_what_is_fetched(small_disk: Path, tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "big").write_bytes(bytes(2 << 20))
    with pytest.raises(StorageError, match="files could not be fetched"):
        download_folder(str(tmp_path / "checkpoints"), small_disk / "restored")


# An S3 server


def test_a_remote_run_is_written_here_and_copied_there(s3: str, tmp_path: Path) -> None:
    directory = RunDirectory(join(s3, "job-1"), tmp_path / "spool")
    directory.create()
    directory.append("events.jsonl", "one\n")
    directory.write("job.yaml", "name: job\n")
    assert read_text(directory.uri, "events.jsonl") is None  # no bucket yet
    directory.upload()
    assert files(join(s3, "job-1")) == {"events.jsonl": "one\n", "job.yaml": "name: job\n"}
    assert read_text(directory.uri, "events.jsonl") == "one\n"
    assert read_text(directory.uri, "result.json") is None
    directory.append("events.jsonl", "two\n")
    directory.write("result.json", "{}")
    directory.close()
    assert read_text(directory.uri, "events.jsonl") == "one\ntwo\n"
    assert read_text(directory.uri, "result.json") == "{}"
    assert not directory.local.exists()


def test_a_remote_run_needs_no_folder_of_the_caller(s3: str) -> None:
    directory = RunDirectory(join(s3, "job-1"))
    directory.write("logs/worker-0.log", "hello\n")
    assert directory.local.parent.is_dir()
    directory.close()
    assert files(join(s3, "job-1")) == {"logs/worker-0.log": "hello\n"}
    assert not directory.local.exists()


def test_only_what_changed_is_copied_again(s3: str, tmp_path: Path) -> None:
    directory = RunDirectory(join(s3, "job-1"), tmp_path / "spool")
    directory.append("events.jsonl", "one\n")
    directory.write("job.yaml", "name: job\n")
    directory.upload()
    filesystem, base = open_filesystem(directory.uri)
    for name in ("events.jsonl", "job.yaml"):  # a copy would bring them back
        filesystem.delete_file(f"{base}/{name}")
    directory.append("events.jsonl", "two\n")
    directory.upload()
    assert files(directory.uri) == {"events.jsonl": "one\ntwo\n"}
    directory.write("job.yaml", "name: bob\n")  # as long as before
    directory.upload()
    assert files(directory.uri)["job.yaml"] == "name: bob\n"


def test_a_folder_there_and_back(s3: str, tmp_path: Path) -> None:
    (tmp_path / "here" / "deep").mkdir(parents=True)
    (tmp_path / "here" / "ckpt-5.index").write_text("index")
    (tmp_path / "here" / "deep" / "ümlaut file").write_text("deep")
    (tmp_path / "here" / "large").write_bytes(bytes(range(256)) * (11 << 12))  # more than one part of an upload
    upload_folder(tmp_path / "here", join(s3, "checkpoints"))
    download_folder(join(s3, "checkpoints"), tmp_path / "there")
    for name in ("ckpt-5.index", "deep/ümlaut file", "large"):
        assert (tmp_path / "there" / name).read_bytes() == (tmp_path / "here" / name).read_bytes()
    assert sum(path.is_file() for path in (tmp_path / "there").rglob("*")) == 3


def test_a_folder_is_copied_once(s3: str, tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "a").write_text("a")
    uploaded: dict[str, tuple[int, int]] = {}
    upload_folder(tmp_path / "here", s3, uploaded)
    filesystem, base = open_filesystem(s3)
    filesystem.delete_file(f"{base}/a")
    (tmp_path / "here" / "b").write_text("b")
    upload_folder(tmp_path / "here", s3, uploaded)
    assert files(s3) == {"b": "b"}
    assert set(uploaded) == {"a", "b"}


def test_an_absent_folder_is_an_empty_one(s3: str, tmp_path: Path) -> None:
    download_folder(join(s3, "nothing"), tmp_path / "there")
    download_folder(str(tmp_path / "nothing"), tmp_path / "there")
    assert not (tmp_path / "there").exists()


def test_a_storage_that_refuses_is_one_sentence_and_the_files_stay_here(s3_server: str, tmp_path: Path) -> None:
    refused = f"s3://key:hush-hush@no-such-bucket/runs?scheme=http&endpoint_override={s3_server}&region=us-east-1"
    directory = RunDirectory(join(refused, "job-1"), tmp_path / "spool")
    directory.write("result.json", "{}")
    with pytest.raises(StorageError, match="a file could not be stored") as caught:
        directory.close()
    assert f"the run's files are still in {tmp_path / 'spool'}" in str(caught.value)
    assert "hush" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert (tmp_path / "spool" / "result.json").read_text() == "{}"


def test_what_could_not_be_stored_is_tried_again(s3_server: str, tmp_path: Path) -> None:
    uri = f"s3://key:secret@late-bucket/runs?scheme=http&endpoint_override={s3_server}&region=us-east-1"
    directory = RunDirectory(uri, tmp_path / "spool")
    directory.write("job.yaml", "name: job\n")
    with pytest.raises(StorageError):
        directory.upload()
    making = f"s3://key:secret@late-bucket?scheme=http&endpoint_override={s3_server}&allow_bucket_creation=true"
    filesystem, bucket = open_filesystem(making)
    filesystem.create_dir(bucket)
    directory.upload()
    assert files(uri) == {"job.yaml": "name: job\n"}


def test_on_other_file_systems_a_file_appears_by_its_rename(tmp_path: Path) -> None:
    """HDFS shows a file while it grows, as a local file system does."""
    (tmp_path / "a").write_text("new")
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "a").write_text("old")
    with open(tmp_path / "there" / "a") as reader:
        copy_up(tmp_path / "a", fs.LocalFileSystem(), f"{tmp_path}/there/a")
        assert reader.read() == "old"
    assert os.listdir(tmp_path / "there") == ["a"]
    assert (tmp_path / "there" / "a").read_text() == "new"
