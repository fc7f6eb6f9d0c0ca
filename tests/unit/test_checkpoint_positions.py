"""Positions beside checkpoints: which checkpoints count, in which order, and what a kill leaves."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.checkpoints import Position, forget_deleted, positions, storing, write_position
from cluster.errors import StorageError

POSITIONS = st.builds(Position, st.integers(0, 10**9), st.integers(0, 1000), st.integers(0, 10**6))


def save(folder: Path, step: int) -> None:
    """What TensorFlow leaves of a checkpoint, as far as it matters here, and its position."""
    (folder / f"ckpt-{step}.index").write_bytes(b"")
    (folder / f"ckpt-{step}.data-00000-of-00001").write_bytes(b"")
    write_position(folder, Position(step, epoch=step // 10))


def test_checkpoints_are_ordered_by_step_not_by_name(tmp_path: Path) -> None:
    for step in (100, 5, 20, 1000):
        save(tmp_path, step)
    assert [position.step for position in positions(tmp_path)] == [5, 20, 100, 1000]
    assert positions(tmp_path)[-1] == Position(1000, epoch=100)


def test_a_folder_without_checkpoints(tmp_path: Path) -> None:
    assert positions(tmp_path) == []
    assert positions(tmp_path / "not there") == []
    forget_deleted(tmp_path)


@pytest.mark.parametrize("sign", ["No space left on device", "Disk quota exceeded", "Read-only file system"])
def test_a_disk_that_takes_no_more_is_a_sentence(tmp_path: Path, sign: str) -> None:
    text = f"{{{{function_node SaveV2}}}} {tmp_path}/ckpt-4_temp; {sign} [Op:SaveV2]"
    with pytest.raises(StorageError, match="checkpoint 4") as caught, storing("checkpoint 4", tmp_path):
        raise RuntimeError(text)
    assert caught.value.seen == f"{tmp_path}: {sign}"


def test_any_other_error_while_saving_is_itself(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="a worker is gone"), storing("checkpoint 4", tmp_path):
        raise RuntimeError("a worker is gone")


@given(position=POSITIONS)
def test_a_position_is_read_as_it_was_written(tmp_path_factory: pytest.TempPathFactory, position: Position) -> None:
    folder = tmp_path_factory.mktemp("checkpoints")
    (folder / f"ckpt-{position.step}.index").write_bytes(b"")
    write_position(folder, position)
    assert positions(folder) == [position]


def test_a_checkpoint_without_its_position_does_not_count(tmp_path: Path) -> None:
    """TensorFlow had saved it, and the task was killed before the position stood beside it."""
    save(tmp_path, 5)
    (tmp_path / "ckpt-10.index").write_bytes(b"")
    assert [position.step for position in positions(tmp_path)] == [5]


def test_a_position_without_its_checkpoint_does_not_count_and_is_removed(tmp_path: Path) -> None:
    save(tmp_path, 5)
    save(tmp_path, 10)
    (tmp_path / "ckpt-5.index").unlink()
    assert [position.step for position in positions(tmp_path)] == [10]
    forget_deleted(tmp_path)
    assert sorted(path.name for path in tmp_path.glob("*.json")) == ["ckpt-10.json"]


def test_a_position_is_replaced(tmp_path: Path) -> None:
    save(tmp_path, 5)
    write_position(tmp_path, Position(5, epoch=1, batch=7))
    assert positions(tmp_path) == [Position(5, epoch=1, batch=7)]


KILLED = """
import os, signal, sys
from pathlib import Path
from cluster.checkpoints import Position, write_position

sys.addaudithook(lambda event, arguments: event == "os.rename" and os.kill(os.getpid(), signal.SIGKILL))
write_position(Path(sys.argv[1]), Position(10))
"""


def test_a_kill_before_the_position_stands_leaves_the_checkpoint_before(tmp_path: Path) -> None:
    save(tmp_path, 5)
    (tmp_path / "ckpt-10.index").write_bytes(b"")
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert [position.step for position in positions(tmp_path)] == [5]
    assert len(list(tmp_path.glob(".ckpt-10.json"))) == 1
    save(tmp_path, 10)
    assert [position.step for position in positions(tmp_path)] == [5, 10]


def test_other_files_do_no_harm(tmp_path: Path) -> None:
    save(tmp_path, 5)
    (tmp_path / "checkpoint").write_text('model_checkpoint_path: "ckpt-5"')
    (tmp_path / "notes.json").write_text("[]")
    assert [position.step for position in positions(tmp_path)] == [5]
