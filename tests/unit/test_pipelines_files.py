"""Finding data files: paths, directories, globs and lists, partitioned folders, and what is said of nothing."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
import pytest

from pipelines.errors import DataError
from pipelines.example_writer import example_of
from pipelines.files import PART_ENDING, expand, find
from pipelines.hive import in_names
from pipelines.open_input import open_input
from pipelines.sources import Files, find_files
from pipelines.tfrecord_writer import write_records


def write(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"x": [1, 2]}), path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """`a/1.parquet`, `a/b/2.parquet`, `c/3.parquet`, hidden ones and another kind."""
    for name in ("a/1.parquet", "a/b/2.parquet", "c/3.parquet", "a/_temporary/x.parquet", "a/.hidden.parquet"):
        write(tmp_path / name)
    (tmp_path / "a" / "_SUCCESS").touch()
    (tmp_path / "a" / "notes.txt").write_text("notes")
    return tmp_path


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("", ["a/1", "a/b/2", "c/3"]),
        ("a", ["a/1", "a/b/2"]),
        ("a/", ["a/1", "a/b/2"]),
        ("a/1.parquet", ["a/1"]),
        ("*/[0-9].parquet", ["a/1", "c/3"]),
        ("a/*.parquet", ["a/1"]),
        ("a/.*.parquet", ["a/.hidden"]),
        ("a/*", ["a/1", "a/notes.txt"]),
        ("*/_*/*", ["a/_temporary/x"]),
        ("**/*.parquet", ["a/1", "a/b/2", "c/3"]),
        ("**/[123].parquet", ["a/1", "a/b/2", "c/3"]),
        ("**/[!1x].parquet", ["a/b/2", "c/3"]),
        ("**/[!12].parquet", ["c/3"]),
        ("a/_temporary/**/[!12].parquet", ["a/_temporary/x"]),
        ("a[!x]*.parquet", []),
        ("a/**/[0-9x].parquet", ["a/1", "a/b/2"]),
    ],
)
@pytest.mark.parametrize("scheme", ["", "file://"])
def test_paths_directories_and_globs(folder: Path, scheme: str, pattern: str, names: list[str]) -> None:
    if not names:
        with pytest.raises(DataError, match="no data file is there"):
            expand(f"{scheme}{folder}/{pattern}")
        return
    _, paths = expand(f"{scheme}{folder}/{pattern}")
    assert [str(Path(path).relative_to(folder)).removesuffix(".parquet") for path in paths] == names


def test_a_list_keeps_its_order_and_each_file_once(folder: Path) -> None:
    _, paths = expand([f"{folder}/c/3.parquet", f"{folder}/a/1.parquet", f"{folder}/*/3.parquet"])
    assert [Path(path).name for path in paths] == ["3.parquet", "1.parquet"]


def test_a_file_under_several_spellings_is_one(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    spellings = ["c", "./c//", str(folder / "c"), f"file://{folder}/c/3.parquet", "a/../c/*.parquet", "c/3.parquet"]
    for first in spellings:
        _, paths = expand([first, *spellings])
        assert [os.path.abspath(path) for path in paths] == [f"{folder}/c/3.parquet"]


def test_relative_paths(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    assert [Path(path) for path in expand("a")[1]] == [Path("a/1.parquet"), Path("a/b/2.parquet")]
    assert [Path(path) for path in expand("./*/3.parquet")[1]] == [Path("c/3.parquet")]
    assert len(expand(".")[1]) == 3
    assert [Path(path) for path in expand("?/3.parquet")[1]] == [Path("c/3.parquet")]


def test_the_home_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder))
    assert expand("~/c")[1] == [f"{folder}/c/3.parquet"]


def test_a_file_whose_name_looks_like_a_glob(tmp_path: Path) -> None:
    path = write(tmp_path / "day[1].parquet")
    assert expand(str(path))[1] == [str(path)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert expand(f"{tmp_path}/day[[]*.parquet")[1] == [str(path)]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], "no data files are given"),
        ("{tmp}/absent", "no data file is there · {tmp}/absent"),
        ("{tmp}/*.parquet", "no data file is there"),
        ("{tmp}", "no data file is there · {tmp} · check the path; directories are searched for *.parquet"),
        ("nosuch://bucket/x", "cannot open the file system of the data · nosuch://bucket/x"),
    ],
)
def test_nothing_to_read(tmp_path: Path, files: str | list[str], message: str) -> None:
    where = files.format(tmp=tmp_path) if isinstance(files, str) else files
    with pytest.raises(DataError) as caught:
        expand(where)
    assert message.format(tmp=tmp_path) in str(caught.value)


def test_files_on_two_file_systems(folder: Path, s3: str) -> None:
    with pytest.raises(DataError, match="data files lie on different file systems"):
        expand([str(folder), s3])


def test_a_file_tells_its_size_and_when_it_changed(folder: Path) -> None:
    _, files = find(str(folder / "a"))
    assert [(file.size, file.changed) for file in files] == [
        (Path(file.path).stat().st_size, Path(file.path).stat().st_mtime_ns) for file in files
    ]


def test_links_are_followed_but_not_in_a_circle(folder: Path) -> None:
    (folder / "a" / "b" / "up").symlink_to("..")
    (folder / "a" / "itself").symlink_to(".")
    (folder / "c" / "there").symlink_to("../a/b")
    (folder / "c" / "4.parquet").symlink_to("3.parquet")
    (folder / "c" / "nowhere.parquet").symlink_to("nothing")
    _, paths = expand(str(folder))
    found = [str(Path(path).relative_to(folder)).removesuffix(".parquet") for path in paths]
    assert found == ["a/1", "a/b/2", "c/3", "c/4", "c/there/2"]


@pytest.mark.parametrize("pattern", ["{tmp}/d", "{tmp}/d/", "{tmp}//d//", "{tmp}/d/**/*.parquet", "{tmp}/./d"])
def test_what_lies_below_is_told_as_arrow_tells_it(tmp_path: Path, pattern: str) -> None:
    for name in ("k=1/x.parquet", "k=2/l=3/y.parquet", "z.parquet"):
        write(tmp_path / "d" / name)
    _, found = find(pattern.format(tmp=tmp_path))
    infos = pafs.LocalFileSystem().get_file_info(pafs.FileSelector(f"{tmp_path}/d", recursive=True))
    files = sorted((info for info in infos if info.type == pafs.FileType.File), key=lambda info: info.path)
    assert [(Path(file.path), file.size, file.changed) for file in found] == [
        (Path(info.path), info.size, info.mtime_ns) for info in files
    ]
    assert [file.below for file in found] == ["k=1/x.parquet", "k=2/l=3/y.parquet", "z.parquet"]


def test_a_name_that_is_not_utf_8(folder: Path) -> None:
    (folder / "c" / os.fsdecode(b"\xff.txt")).touch()
    assert len(find(str(folder))[1]) == 3
    write(folder / "c" / "x.parquet").rename(folder / "c" / os.fsdecode(b"\xff.parquet"))
    with pytest.raises(DataError, match=r"the name of a data file is not UTF-8 · '.*/c/.udcff.parquet' · "):
        find(str(folder))


def test_what_cannot_be_listed(folder: Path) -> None:
    with pytest.raises(DataError, match=r"cannot list data files · .*1.parquet/\* · .*Not a directory"):
        find(str(folder / "a" / "1.parquet" / "*"))


@pytest.mark.parametrize("pattern", ["", "/year=*", "/*/**/*.parquet"])
def test_the_columns_that_folders_name(tmp_path: Path, pattern: str) -> None:
    write(tmp_path / "year=2013" / "town=New%20York" / "part.parquet")
    write(tmp_path / "year=__HIVE_DEFAULT_PARTITION__" / "town=Z=1" / "part.parquet")
    _, files = find(f"{tmp_path}{pattern}" + ("/*/*.parquet" if pattern == "/year=*" else ""))
    assert [in_names(file.below.rpartition("/")[0]) for file in files] == [
        {"year": "2013", "town": "New York"},
        {"year": None, "town": "Z=1"},
    ]


PARTS = [
    "mnist-train.tfrecord-00000-of-00002",
    "mnist-train.tfrecord-00001-of-00002",
    "x.tfrecord-00000-of-00001.gz",
    "y.tfrecord.gz-00000-of-00001",
    "z-00000-of-00001.tfrecord",
]
BARE = ["train-00000-of-00002", "train-00001-of-00002", "zip-000000-of-100000.gz"]
OTHERS = ["a-0-of-2", "b-00000-of-00002.txt", "c-00000-of-00002-old", "d-of-d", "e-00000-of-00002.crc"]


def names_of(files: Files) -> list[str]:
    return sorted(Path(file.path).name for file in find_files(files)[1])


def test_parts_are_found_by_the_ending_before_their_number(tmp_path: Path) -> None:
    for name in (*PARTS, *BARE, *OTHERS, "x.parquet-00000-of-00001"):
        (tmp_path / name).touch()
    assert names_of(Files((str(tmp_path),))) == sorted([*PARTS, "x.parquet-00000-of-00001"])
    assert names_of(Files((str(tmp_path),), "parquet")) == ["x.parquet-00000-of-00001"]
    assert names_of(Files((str(tmp_path),), "tfrecord")) == sorted([*PARTS, *BARE])
    assert len(expand(str(tmp_path), (PART_ENDING,))[1]) == len(BARE)


def test_parts_are_read_as_what_their_ending_tells(tmp_path: Path) -> None:
    for name in PARTS[:2]:
        write_records(str(tmp_path / name), [example_of({"x": [number]}) for number in (1, 2)])
    assert open_input(str(tmp_path)).rows == 4


def test_format_chooses_among_the_files_of_a_folder(folder: Path) -> None:
    (folder / "a" / "x.tfrecord").touch()
    assert names_of(Files((str(folder),), "parquet")) == ["1.parquet", "2.parquet", "3.parquet"]
    assert names_of(Files((str(folder),), "tfrecord")) == ["x.tfrecord"]
