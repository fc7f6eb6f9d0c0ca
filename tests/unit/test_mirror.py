"""A remote folder copied here again and again, and a local one copied there: only what is new travels."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from cluster.errors import StorageError
from cluster.locations import join
from cluster.mirror import Mirror
from cluster.storage import open_filesystem, upload_folder
from cluster.uploads import Uploads

EVENTS = "train/events.out.tfevents.1"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    (folder / "train").mkdir(parents=True)
    (folder / EVENTS).write_bytes(b"one ")
    (folder / "verdict.json").write_text("first")
    return folder


def test_files_come_and_grow_and_change(s3: str, source: Path, tmp_path: Path) -> None:
    copy = Mirror(join(s3, "run", "tensorboard"), tmp_path / "copy")
    copy.refresh()
    assert not (tmp_path / "copy").exists()
    upload_folder(source, copy.uri)
    copy.refresh()
    with open(copy.folder / EVENTS, "rb") as reader:  # as TensorBoard does, from when it first sees the file
        assert reader.read() == b"one "
        with open(source / EVENTS, "ab") as writer:
            writer.write(b"two")
        (source / "verdict.json").write_text("second")
        upload_folder(source, copy.uri)
        copy.refresh()
        assert reader.read() == b"two"
    assert (copy.folder / "verdict.json").read_text() == "second"


def test_what_is_here_is_not_fetched_again(s3: str, source: Path, tmp_path: Path) -> None:
    uri = join(s3, "run")
    upload_folder(source, uri)
    copy = Mirror(uri, tmp_path / "copy")
    copy.refresh()
    (copy.folder / "verdict.json").write_text("kept")
    copy.refresh()
    assert (copy.folder / "verdict.json").read_text() == "kept"


def test_a_file_that_became_shorter_is_another_one(s3: str, source: Path, tmp_path: Path) -> None:
    uri = join(s3, "run")
    upload_folder(source, uri)
    copy = Mirror(uri, tmp_path / "copy")
    copy.refresh()
    (source / EVENTS).write_bytes(b"new")
    upload_folder(source, uri)
    copy.refresh()
    assert (copy.folder / EVENTS).read_bytes() == b"new"


def test_a_copy_that_cannot_be_written_is_a_sentence_without_secrets(s3: str, source: Path, tmp_path: Path) -> None:
    upload_folder(source, s3)
    (tmp_path / "copy").write_text("a file in its place")
    with pytest.raises(StorageError, match="files could not be fetched") as caught:
        Mirror(s3, tmp_path / "copy").refresh()
    assert "hush-hush" not in str(caught.value)


def test_uploads_go_on_until_the_end(s3: str, source: Path) -> None:
    uri = join(s3, "run", "tensorboard")
    uploads = Uploads(source, uri, every=0.05)
    filesystem, path = open_filesystem(uri)
    pause = threading.Event()
    while filesystem.get_file_info(f"{path}/{EVENTS}").size != 4:
        pause.wait(0.02)
    with open(source / EVENTS, "ab") as writer:
        writer.write(b"two")
    uploads.close()
    with filesystem.open_input_stream(f"{path}/{EVENTS}") as stream:
        assert stream.read() == b"one two"
    assert not any(thread.name == "tfcluster-uploads" for thread in threading.enumerate())


def test_an_upload_that_fails_goes_on_and_is_told_of_at_the_end(s3: str, source: Path) -> None:
    refused = s3.replace("&allow_bucket_creation=true", "")
    uploads = Uploads(source, refused, every=0.01)
    with pytest.raises(StorageError):
        uploads.close()
