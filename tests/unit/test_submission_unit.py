"""What of a submission needs no Ray: the folder that travels, the command that runs there, errors in one line."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest

from cluster.errors import SpecError
from cluster.ray_jobs import _first_line
from cluster.spec import JobSpec, load, parse
from cluster.travelling import travelling


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A job's folder, with much that need not travel."""
    for name in ("train.py", "data/a.parquet", "runs/old/result.json", ".git/HEAD", ".venv/bin/python", "deep/runs/x"):
        path = tmp_path / "job" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    (tmp_path / "job" / "job.yaml").write_text("entrypoint: train.py:train\n")
    (tmp_path / "job" / "link.py").symlink_to("train.py")
    return tmp_path / "job"


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir())


@pytest.mark.parametrize("kind", [str, Path])
def test_a_spec_files_own_folder_travels_as_it_is(folder: Path, kind: Any) -> None:
    job = load(folder / "job.yaml")
    with travelling(job, kind(folder / "job.yaml"), folder) as (where, command):
        assert where == folder
        assert command == ["tfcluster", "run", "job.yaml"]


def test_a_spec_file_may_lie_deeper(folder: Path) -> None:
    (folder / "specs").mkdir()
    spec = folder / "specs" / "my job.yaml"
    spec.write_text("entrypoint: train.py:train\n")
    with travelling(load(spec), spec, folder) as (where, command):
        assert where == folder
        assert command == ["tfcluster", "run", "specs/my job.yaml"]


def test_a_relative_spec_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    with travelling(load(Path("job.yaml")), "job.yaml", folder) as (_, command):
        assert command == ["tfcluster", "run", "job.yaml"]


def test_a_spec_file_outside_the_folder(folder: Path) -> None:
    other = folder / "data"
    with (
        pytest.raises(SpecError, match="the spec lies outside the folder that travels"),
        travelling(load(folder / "job.yaml"), folder / "job.yaml", other),
    ):
        pass


def test_a_spec_of_python_travels_in_a_copy(folder: Path) -> None:
    job = parse({"name": "flights", "entrypoint": "train.py:train", "args": {"epochs": 3}})
    with travelling(job, {"any": "mapping"}, folder) as (where, command):
        assert where != folder
        assert names(where) == ["data/a.parquet", "job.yaml", "link.py", "tfcluster-job.json", "train.py"]
        assert (where / "link.py").is_symlink()
        assert load(where / "tfcluster-job.json") == job
        assert command == ["tfcluster", "run", "tfcluster-job.json"]
    assert not where.exists()
    assert "tfcluster-job.json" not in names(folder)


def make_function() -> Any:
    step = 7

    def train(ctx: Any) -> int:
        return step

    return train


def test_a_function_travels_with_its_spec(folder: Path) -> None:
    job = JobSpec(entrypoint=make_function(), strategy="none")
    with travelling(job, job, folder) as (where, command):
        assert command == ["tfcluster", "run", "tfcluster-job.json", "--code", "tfcluster-entrypoint.pkl"]
        assert pickle.loads((where / "tfcluster-entrypoint.pkl").read_bytes())(None) == 7
        document = json.loads((where / "tfcluster-job.json").read_text())
        assert document["strategy"] == "none"
        assert document["entrypoint"] == "pickled:entrypoint"


def test_the_spec_of_a_local_function_is_read_again_where_it_runs(folder: Path) -> None:
    """`tfcluster run --code` first loads the spec, whose entrypoint is then replaced."""
    job = JobSpec(entrypoint=make_function())
    with travelling(job, job, folder) as (where, _):
        assert load(where / "tfcluster-job.json").entrypoint is not None


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("\n  first \nsecond"), "first"),
        (ValueError(""), "ValueError"),
        (RuntimeError("x" * 1000), "x" * 300),
    ],
)
def test_an_error_of_ray_in_one_line(error: Exception, line: str) -> None:
    assert _first_line(error) == line
