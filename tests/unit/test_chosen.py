"""Which runs several names mean: directories, names, folders of many; each once, and no more than fit."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cluster.chosen import MOST, Chosen, choose
from cluster.errors import RunNotFoundError, SpecError
from cluster.locations import join
from cluster.storage import RunDirectory, upload_folder


def runs(folder: Path, *names: str) -> list[str]:
    """Run directories that began one after the other."""
    for number, name in enumerate(names):
        directory = RunDirectory(str(folder / name))
        directory.create()
        directory.write("events.jsonl", "")
        directory.write("job.yaml", "")
        os.utime(directory.local / "job.yaml", (1000 + number, 1000 + number))
    return [str(folder / name) for name in names]


def test_names_and_directories_in_the_order_in_which_they_were_given(tmp_path: Path) -> None:
    first, second, third = runs(tmp_path, "flights-1", "flights-2", "servers-1")
    assert choose(["latest", first, "flights-2"], str(tmp_path)).uris == (third, first, second)


def test_a_run_that_is_named_twice_stands_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = runs(tmp_path, "flights-1", "flights-2")
    (tmp_path / "link").symlink_to(first)
    monkeypatch.chdir(tmp_path)
    names = ["flights-1", f"{first}/", "./flights-1", str(tmp_path / "link"), f"file://{first}", second]
    assert choose(names, str(tmp_path)).uris == ("flights-1", second)


def test_a_folder_means_its_newest_runs(tmp_path: Path) -> None:
    found = runs(tmp_path / "many", *(f"flights-{99 - number}" for number in range(MOST + 3)))
    assert choose([str(tmp_path / "many")], "nowhere") == Chosen(tuple(found[3:]), left_out=3)


def test_a_folder_that_is_a_runs_name_too_is_the_run(tmp_path: Path) -> None:
    (run,) = runs(tmp_path, "flights-1")
    runs(tmp_path / "flights-1" / "failures", "inner-1")
    assert choose([run], "nowhere").uris == (run,)


def test_a_folder_of_a_remote_storage(tmp_path: Path, s3: str) -> None:
    for run in runs(tmp_path, "flights-1", "flights-2"):
        upload_folder(Path(run), join(s3, Path(run).name))
    assert set(choose([s3], "nowhere").uris) == {join(s3, "flights-1"), join(s3, "flights-2")}
    assert choose([join(s3, "flights-1"), join(s3, "flights-1")], "nowhere").uris == (join(s3, "flights-1"),)


def test_more_than_fit(tmp_path: Path) -> None:
    found = runs(tmp_path, *(f"flights-{number}" for number in range(MOST + 1)))
    assert len(choose(found[:MOST], "nowhere").uris) == MOST
    with pytest.raises(SpecError, match=r"at most 12 runs fit beside each other · 13 runs · name fewer of them"):
        choose(found, "nowhere")


@pytest.mark.parametrize("name", ["flights-7", "latest", "empty"])
def test_no_such_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RunNotFoundError, match="no such run"):
        choose([name], str(tmp_path))
