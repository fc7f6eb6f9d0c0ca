"""A checkpoint that is evaluated stays while training prunes it; one that was pruned before is passed over."""

from __future__ import annotations

import random
import threading
from pathlib import Path

import pytest

from cluster.held import fetched, held
from cluster.storage import download_folder


def write(folder: Path, step: int, shards: int = 2) -> None:
    """A checkpoint as TensorFlow names its files, and in its order: with the index it is whole."""
    folder.mkdir(parents=True, exist_ok=True)
    for shard in range(shards):
        (folder / f"ckpt-{step}.data-{shard:05}-of-{shards:05}").write_text(f"shard {shard} of {step}")
    (folder / "index").write_text(f"index of {step}")
    (folder / "index").replace(folder / f"ckpt-{step}.index")


def prune(folder: Path, step: int) -> None:
    """Deletes in TensorFlow's order: the index first."""
    for path in sorted(folder.glob(f"ckpt-{step}.*"), key=lambda path: path.suffix != ".index"):
        path.unlink()


def read(prefix: str | None) -> list[str]:
    """What is in the files of a checkpoint."""
    assert prefix is not None
    return [path.read_text() for path in sorted(Path(prefix).parent.glob(Path(prefix).name + ".*"))]


def test_it_stays_while_it_is_pruned_and_not_longer(tmp_path: Path) -> None:
    source = tmp_path / "checkpoints"
    write(source, 7)
    with held(source, 7, tmp_path / "scratch") as prefix:
        prune(source, 7)
        assert prefix is not None
        assert prefix.rsplit("-", 1)[1] == "7"
        assert read(prefix) == ["shard 0 of 7", "shard 1 of 7", "index of 7"]
    assert list(source.iterdir()) == []


def test_others_of_the_same_beginning_are_not_taken(tmp_path: Path) -> None:
    write(tmp_path, 1)
    write(tmp_path, 12)
    with held(tmp_path, 1, tmp_path / "scratch") as prefix:
        assert prefix is not None
        assert len(list(Path(prefix).parent.iterdir())) == 3


@pytest.mark.parametrize("left", ["", "ckpt-7.index", "ckpt-7.data-00000-of-00002"])
def test_one_that_was_pruned_or_is_being_pruned_is_passed_over(tmp_path: Path, left: str) -> None:
    source = tmp_path / "checkpoints"
    write(source, 7)
    for path in source.iterdir():
        if path.name != left:
            path.unlink()
    with held(source, 7, tmp_path / "scratch") as prefix:
        assert prefix is None
    assert [path.name for path in source.iterdir()] == [left] * bool(left)


def test_where_nothing_can_be_linked_it_is_copied(tmp_path: Path) -> None:
    source = tmp_path / "checkpoints"
    write(source, 7)
    (source / ".evaluated").write_text("a file in the way, as a file system without links or rights would be")
    with held(source, 7, tmp_path / "scratch") as prefix:
        prune(source, 7)
        assert read(prefix)[-1] == "index of 7"
        assert prefix is not None
        assert Path(prefix).is_relative_to(tmp_path / "scratch")
    assert not (tmp_path / "scratch/evaluated").exists()


def test_what_a_killed_evaluator_left_is_cleared(tmp_path: Path) -> None:
    write(tmp_path / ".evaluated", 7)
    write(tmp_path, 8)
    with held(tmp_path, 8, tmp_path / "scratch") as prefix:
        assert read(prefix) == ["shard 0 of 8", "shard 1 of 8", "index of 8"]
        assert not (tmp_path / ".evaluated/ckpt-7.index").exists()


def test_from_a_remote_storage(tmp_path: Path) -> None:
    remote = tmp_path / "remote"
    for step in (7, 8):
        write(remote, step)
        (remote / f"ckpt-{step}.json").write_text("{}")
    with fetched(remote.as_uri(), 7, tmp_path / "scratch") as prefix:
        assert read(prefix) == ["shard 0 of 7", "shard 1 of 7", "index of 7", "{}"]
    prune(remote, 7)
    with fetched(remote.as_uri(), 7, tmp_path / "scratch") as prefix:
        assert prefix is None


def test_files_that_go_while_a_folder_is_fetched_are_left_out(tmp_path: Path) -> None:
    remote, names = tmp_path / "remote", [f"{number:03}" for number in range(300)]
    remote.mkdir()
    for name in names:
        (remote / name).write_text(name)
    order = random.Random(1).sample(names, len(names))

    def wanted(name: str) -> bool:  # is asked after the listing, before each file is opened
        (remote / order.pop()).unlink(missing_ok=True)
        return True

    download_folder(remote.as_uri(), tmp_path / "here", wanted)
    came = {path.name for path in (tmp_path / "here").iterdir()}
    assert 0 < len(came) < len(names)
    assert all((tmp_path / "here" / name).read_text() == name for name in came)


def test_while_training_saves_and_prunes_as_fast_as_it_can(tmp_path: Path) -> None:
    source, done = tmp_path / "checkpoints", threading.Event()

    def train() -> None:
        for step in range(1, 400):
            write(source, step)
            prune(source, step - 2)
        done.set()

    write(source, 0)
    training = threading.Thread(target=train)
    training.start()
    whole = 0
    while not done.is_set():
        newest = max(int(path.stem.rsplit("-", 1)[1]) for path in source.glob("*.index"))
        with held(source, newest, tmp_path / "scratch") as prefix:
            if prefix is not None:
                assert read(prefix) == [f"shard 0 of {newest}", f"shard 1 of {newest}", f"index of {newest}"]
                whole += 1
    training.join()
    assert whole
