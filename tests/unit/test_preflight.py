"""The world as preflight sees it: real files, real folders, this very machine."""

from __future__ import annotations

import compileall
import os
import platform
import subprocess
import sys
import threading
import time
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import fs

from cluster import preflight
from cluster.placement import LOCAL
from cluster.plan import DataFacts, make_plan
from cluster.preflight import gather, local_node
from cluster.spec import JobSpec, parse
from pipelines.example_writer import example_of
from pipelines.tfrecord_writer import write_records


def job(**spec: Any) -> JobSpec:
    return parse({"entrypoint": "train.py:train", **spec})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A job with code and data: `data/` holds 3 files of 4 row groups of 5 rows."""
    (tmp_path / "train.py").write_text("def train(ctx): ...\n")
    (tmp_path / "data" / "deep").mkdir(parents=True)
    table = pa.table({"x": pa.array(range(20), pa.float32()), "y": pa.array(range(20), pa.int64())})
    for name in ("a.parquet", "b.parquet", "deep/c.parquet"):
        pq.write_table(table, tmp_path / "data" / name, row_group_size=5)
    (tmp_path / "data" / "_metadata").write_text("not data")
    (tmp_path / "broken.parquet").write_text("PAR1, but not quite")
    return tmp_path


def data_facts(folder: Path, **data: Any) -> DataFacts:
    return gather(job(data={"train": data}), folder).data["train"]


@pytest.mark.parametrize(
    ("files", "count"),
    [
        ("data", 3),
        ("data/", 3),
        ("data/a.parquet", 1),
        ("data/*.parquet", 2),
        ("data/**/*.parquet", 3),
        (["data/a.parquet", "data/deep"], 2),
        (["data/a.parquet", "data/*.parquet"], 2),
    ],
)
def test_files_row_groups_and_rows_are_counted(folder: Path, files: Any, count: int) -> None:
    assert data_facts(folder, files=files) == DataFacts(files=count, row_groups=4 * count, rows=20 * count)


def test_paths_may_be_absolute_or_uris(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    spec = job(data={"a": {"files": f"{folder}/data"}, "b": {"files": f"file://{folder}/data/*.parquet"}})
    assert {name: facts.files for name, facts in gather(spec, elsewhere).data.items()} == {"a": 3, "b": 2}


def test_paths_are_relative_to_the_spec_and_not_to_the_process(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    facts = gather(job(data={"train": {"files": "data/*.parquet"}}, storage="runs"), folder)
    assert facts.code == ()
    assert facts.data["train"].files == 2
    assert facts.storage is None
    monkeypatch.chdir(folder)
    assert gather(job(data={"train": {"files": "data/*.parquet"}}), Path()).data["train"].files == 2


@pytest.mark.parametrize(
    ("data", "culprit"),
    [
        ({"files": "nothing"}, "nothing"),
        ({"files": "data/*.csv"}, "data/*.csv"),
        ({"files": ["data/a.parquet", "nothing/*.parquet"]}, "nothing/*.parquet"),
        ({"files": "broken.parquet"}, "broken.parquet"),
        ({"files": "data", "columns": ["z"]}, "column z"),
        ({"files": "data", "columns": ["x"], "label": "z"}, "column z"),
        ({"files": "data", "label": "z"}, "data.train: there is no column z for the label"),
        ({"files": "foo://bucket/data"}, "foo://bucket/data"),
    ],
)
def test_data_that_cannot_be_read(folder: Path, data: dict[str, Any], culprit: str) -> None:
    problem = data_facts(folder, **data).problem
    assert problem is not None
    assert problem.level == "error"
    assert str(problem).startswith("data.train")
    assert culprit in str(problem)
    assert problem.seen
    assert problem.todo
    assert "\n" not in str(problem)


def test_a_label_need_not_be_among_the_columns(folder: Path) -> None:
    assert data_facts(folder, files="data", columns=["x"], label="y").problem is None


def test_nulls_that_nothing_stands_for_are_seen_in_the_footers(folder: Path) -> None:
    table = pa.table({"x": [1.0, None, 3.0, 4.0], "s": [{"a": 1}, {"a": 2}, None, {"a": 4}], "l": [[], [1], [2], [3]]})
    pq.write_table(table, folder / "holes.parquet", row_group_size=2)
    pq.write_table(table, folder / "silent.parquet", write_statistics=False)

    def told(**data: Any) -> str:
        return str(data_facts(folder, **{"files": "holes.parquet", **data}).problem)

    problem = data_facts(folder, files="holes.parquet").problem
    assert problem is not None
    assert (problem.level, problem.happened) == (
        "error",
        "data.train: column x holds 1 nulls, which a tensor cannot hold",
    )
    assert problem.seen.endswith("holes.parquet, row group 0, column x")
    assert "row group 1, column s.a" in told(columns=["s"])
    for fine in (
        {"columns": ["l"]},
        {"fill": {"x": 0}, "masks": ["s"]},
        {"filters": [["x", ">", 0]]},
        {"files": "silent.parquet"},
    ):
        assert told(**fine) == "None"


def test_of_very_many_files_only_a_few_are_looked_at(folder: Path) -> None:
    many = folder / "many"
    many.mkdir()
    table = pa.table({"x": [1.0, 2.0], "y": [1, 2]})
    for i in range(preflight.MOST_FOOTERS + 1):
        path = many / f"k={i % 2}{'' if i else 'a'}" / f"{i:03}.parquet"
        path.parent.mkdir(exist_ok=True)
        path.write_text("a footer that nobody reads")
    for path in sorted(many.rglob("*.parquet"))[::26]:
        pq.write_table(table, path)
    found = DataFacts(files=preflight.MOST_FOOTERS + 1)
    assert data_facts(folder, files="many", filters=[["k", "==", "0a"], ["x", ">", 0]]) == found
    for on_error in ("raise", "skip_files"):
        assert "there is no column z" in str(data_facts(folder, files="many", columns=["z"], on_error=on_error).problem)
        assert "no column: z" in str(data_facts(folder, files="many", filters=[["z", ">", 0]]).problem)


def test_what_a_few_of_very_many_files_cannot_tell_is_no_problem(folder: Path) -> None:
    paths = [folder / "many" / f"{i:03}.parquet" for i in range(preflight.MOST_FOOTERS + 1)]
    paths[0].parent.mkdir()
    for path in paths:
        path.write_text("damaged")
    found = DataFacts(files=len(paths))
    for on_error in ("skip_files", "skip_row_groups"):
        assert data_facts(folder, files="many", on_error=on_error) == found
    assert "cannot read the footer" in str(data_facts(folder, files="many").problem)
    pq.write_table(pa.table({"z": [1.0]}), paths[0])
    assert data_facts(folder, files="many", columns=["x"], on_error="skip_files") == found
    for path in paths[::26]:
        pq.write_table(pa.table({"x": pa.nulls(2)}), path)
    assert data_facts(folder, files="many", fill={"x": 0.0}) == found, "other files may have values"


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        ({"filters": [["z", ">", 0]]}, "a filter names no column: z"),
        ({"filters": [["x", ">", "many"]]}, "column x is float, with which 'many' cannot be compared"),
        ({"filters": [["y", "in", "12"]]}, "column y is int64, with which '12' cannot be compared"),
        ({"casts": {"x": "date32"}}, "column x cannot be cast to date32"),
        ({"columns": ["z"]}, "there is no column z"),
        ({"pack": {"m": "float16"}}, "pack m has no columns: none is float16"),
    ],
    ids=str,
)
@pytest.mark.parametrize("on_error", ["raise", "skip_files", "skip_row_groups"])
def test_what_columns_cannot_give_is_found_without_reading_them(
    folder: Path, data: dict[str, Any], problem: str, on_error: str
) -> None:
    for path in (folder / "data").rglob("*.parquet"):
        content = bytearray(path.read_bytes())
        footer = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
        content[4:footer] = bytes(footer - 4)  # in the place of all pages
        path.write_bytes(content)
    assert data_facts(folder, files="data", filters=[["x", ">", 1]]).problem is None
    assert problem in str(data_facts(folder, files="data", on_error=on_error, **data).problem)


def test_features_that_records_contradict_are_found(folder: Path) -> None:
    for name, value in (("a", [1]), ("b", [1.5])):
        write_records(str(folder / f"{name}.tfrecord"), [example_of({"x": [1]}), example_of({"x": value})])
    right, wrong = {"files": "a.tfrecord"}, {"files": ["a.tfrecord", "b.tfrecord"]}
    assert data_facts(folder, **right, features={"x": "int64"}).problem is None
    problem = str(data_facts(folder, **wrong, features={"x": "int64"}).problem)
    assert "feature x holds float32, not int64" in problem
    assert "b.tfrecord, record 1" in problem
    assert data_facts(folder, **wrong, features={"x": "int64"}, on_error="skip_files").problem is None


def everything_below(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.mark.parametrize("storage", ["runs", "deep/er/runs", "data", "{}/absolute/runs", "file://{}/uri/runs"])
def test_storage_is_tried_and_left_as_it_was(folder: Path, storage: str) -> None:
    before = everything_below(folder)
    assert gather(job(storage=storage.format(folder)), folder).storage is None
    assert everything_below(folder) == before


def test_a_folder_that_others_fill_meanwhile_stays(tmp_path: Path) -> None:
    (tmp_path / "made" / "used").mkdir(parents=True)
    (tmp_path / "made" / "used" / "file").write_text("")
    preflight._remove_empty(fs.LocalFileSystem(), [str(tmp_path / "made" / "used"), str(tmp_path / "made")])
    assert everything_below(tmp_path) == {"made", "made/used", "made/used/file"}


def test_made_folders_are_removed_on_other_file_systems_too() -> None:
    memory = fs._MockFileSystem()
    memory.create_dir("old")
    made = preflight._missing_folders(memory, "old/new/runs")
    assert made == ["old/new/runs", "old/new"]
    memory.create_dir("old/new/runs")
    preflight._remove_empty(memory, made)
    assert memory.get_file_info("old").type == fs.FileType.Directory
    assert memory.get_file_info("old/new").type == fs.FileType.NotFound


@pytest.mark.parametrize(
    ("storage", "sentence"),
    [
        ("train.py", "the storage cannot be written · train.py · "),
        ("train.py/runs", "the storage cannot be written · train.py/runs · "),
        ("/proc/nowhere", "the storage cannot be written · /proc/nowhere · "),
        ("foo://bucket", "the storage cannot be opened · foo://bucket · "),
        ("abfs://container/runs", "the storage cannot be opened · abfs://container/runs · "),
    ],
)
def test_storage_that_cannot_be_written(folder: Path, storage: str, sentence: str) -> None:
    before = everything_below(folder)
    problem = gather(job(storage=storage), folder).storage
    assert problem is not None
    assert problem.level == "error"
    assert str(problem).startswith(sentence)
    assert problem.todo
    assert "\n" not in str(problem)
    assert everything_below(folder) == before


def test_a_silent_file_system_is_not_waited_for() -> None:
    never = threading.Event()
    started = time.monotonic()
    with pytest.raises(FutureTimeout):
        preflight._within(0.05, never.wait)
    assert time.monotonic() - started < 5
    never.set()


def test_what_remote_work_returns_or_raises_comes_back() -> None:
    def fail() -> None:
        raise OSError("no route")

    assert preflight._within(10, lambda: 3) == 3
    with pytest.raises(OSError, match="no route"):
        preflight._within(10, fail)


def test_versions_of_this_environment(folder: Path) -> None:
    facts = gather(job(), folder)
    assert facts.versions["ray"] == metadata.version("ray")
    assert set(facts.versions) == {"tensorflow", "keras", "tf-keras", "tensorflow-io", "tensorboard", "ray"}
    assert facts.python == platform.python_version()
    assert preflight._version(("no-such-distribution", "pyarrow")) == pa.__version__
    assert preflight._version(("no-such-distribution",)) is None


def test_code_is_checked_relative_to_the_spec(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    assert gather(job(), folder).code == ()
    (problem,) = gather(job(), tmp_path_factory.mktemp("empty")).code
    assert problem.happened == "there is no such file"


def test_prepared_is_what_the_caller_says(folder: Path) -> None:
    with_prepare = job(prepare="train.py:train")
    assert gather(with_prepare, folder).prepared
    assert not gather(with_prepare, folder, prepared=False).prepared
    assert gather(job(), folder, prepared=False).prepared  # nothing to prepare


@pytest.mark.parametrize(
    ("storage", "shared"), [("runs", True), (".", True), ("../elsewhere", False), ("s3://bucket/runs", False)]
)
def test_who_makes_the_pods_says_what_they_share(
    folder: Path, storage: str, shared: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflight, "PATIENCE", 0.1)
    assert not gather(job(storage=storage), folder).shared
    monkeypatch.setenv("TFCLUSTER_SHARED_FOLDERS", f"/data:{folder}/")
    assert gather(job(storage=storage), folder).shared == shared


@pytest.mark.parametrize(("files", "shared"), [("data", True), (["data", "/elsewhere/x"], False)])
def test_data_in_what_they_share(folder: Path, files: Any, shared: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = job(data={"train": {"files": files, "label": "y"}})
    assert not gather(spec, folder).data["train"].shared
    monkeypatch.setenv("TFCLUSTER_SHARED_FOLDERS", str(folder))
    assert gather(spec, folder).data["train"].shared == shared


@pytest.mark.parametrize(
    ("visible", "count"), [(None, 2), ("", 0), ("1", 1), ("0,1,2", 2), ("GPU-aaaa", 1), ("NoDevFiles", 0)]
)
def test_gpus_of_this_machine_are_those_that_ray_would_find(
    visible: str | None, count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the driver lists none as files, its program does."""
    if os.path.exists("/proc/driver/nvidia/gpus"):
        pytest.skip("the machine has GPUs of its own")
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'GPU 0: A (UUID: GPU-aaaa)'\necho 'GPU 1: A (UUID: GPU-bbbb)'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert local_node().total.get("GPU", 0) == count


def test_no_autoscaler_without_ray(folder: Path) -> None:
    assert not gather(job(), folder).autoscaling


def test_the_local_node() -> None:
    node = local_node()
    assert node.id == LOCAL
    assert node.total["CPU"] == os.cpu_count()
    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert 0 < node.total["memory"] <= physical
    assert node.total == node.available


def test_this_machine_is_at_its_own_addresses(folder: Path) -> None:
    assert {"127.0.0.1", "::1"} <= gather(job(), folder).addresses


def test_a_job_that_is_all_right_has_no_findings_here(folder: Path) -> None:
    facts = gather(job(data={"train": {"files": "data", "label": "y"}}, storage="runs"), folder)
    facts = replace(facts, versions={"tensorflow": "2.17.1"})
    assert make_plan(job(data={"train": {"files": "data", "label": "y"}}), [local_node()], facts).findings == ()


def test_importing_costs_neither_pyarrow_nor_ray_nor_tensorflow() -> None:
    code = "import sys, cluster.preflight, cluster.plan; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"pyarrow", "ray", "tensorflow", "keras", "numpy", "rich"} & set(loaded)


def test_looking_costs_neither_ray_nor_tensorflow(folder: Path) -> None:
    code = (
        "import sys, time; started = time.process_time()\n"
        "from pathlib import Path\n"
        "from cluster.plan import make_plan; from cluster.preflight import gather, local_node\n"
        "from cluster.spec import parse\n"
        "spec = parse({'entrypoint': 'train.py:train', 'data': {'train': {'files': 'data'}}})\n"
        "make_plan(spec, [local_node()], gather(spec, Path(sys.argv[1]))).to_document()\n"
        "print(time.process_time() - started, *sys.modules)"
    )
    command = [sys.executable, "-c", code, str(folder)]
    seconds, *loaded = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert not {"ray", "tensorflow", "keras", "train"} & set(loaded)
    assert float(seconds) < 4  # measured: 0.6, on a machine that did nothing else


def test_a_package_that_python_compiles_at_each_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "compiled_by_nobody"
    package.mkdir()
    (package / "__init__.py").write_text("raise AssertionError('it was imported')")
    monkeypatch.syspath_prepend(tmp_path)
    assert preflight._uncompiled("there is no such package") is None
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    assert preflight._uncompiled(package.name) is None
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    assert preflight._uncompiled(package.name) == str(package)
    assert compileall.compile_dir(package, quiet=1)
    assert preflight._uncompiled(package.name) is None
