"""Conversions without Ray: the same rows in every direction, whole or not at all, and nothing done twice."""

from __future__ import annotations

import datetime
import decimal
import itertools
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
import pytest

from pipelines.convert import Progress, Request, Result, convert, convert_piece
from pipelines.errors import DataError
from pipelines.inputs import Options, read
from pipelines.manifest import NAME, manifest_in
from pipelines.open_input import open_input
from pipelines.outputs import COMPRESSIONS, Target
from pipelines.staging import place
from pipelines.storage import from_examples, tfrecord_schema, to_examples
from tests.nested import random_table

FORMATS = ("parquet", "csv", "tfrecord")


class Killed(BaseException):
    """As if the process had ended here."""


def here(function: Callable[[Any, Any], Any], shared: Any, items: Sequence[Any]) -> Iterator[Any]:
    for item in items:
        yield function(shared, item)


def only(count: int) -> Callable[..., Iterator[Any]]:
    """Calls the function for `count` items, and is killed at the next."""

    def run(function: Callable[[Any, Any], Any], shared: Any, items: Sequence[Any]) -> Iterator[Any]:
        for item in items[:count]:
            yield function(shared, item)
        if len(items) > count:
            raise Killed

    return run


def never(function: Callable[[Any, Any], Any], shared: Any, items: Sequence[Any]) -> Iterator[Any]:
    assert not items, f"done again: {items}"
    return iter(())


def every_type(rows: int) -> pa.Table:
    rng = np.random.default_rng(0)

    def some(values: Sequence[Any]) -> list[Any]:
        return [None if index % 7 == 3 else value for index, value in enumerate(values)]

    day = datetime.date(2020, 1, 1)
    return pa.table(
        {
            "long": pa.array(some(rng.integers(-(2**62), 2**62, rows).tolist())),
            "byte": pa.array(some(rng.integers(-9, 9, rows).tolist()), pa.int8()),
            "unsigned": pa.array(some(rng.integers(0, 2**62, rows).tolist()), pa.uint64()),
            "float": pa.array(some(rng.normal(size=rows).tolist()), pa.float32()),
            "half": pa.array(rng.normal(size=rows).astype(np.float16)),
            "double": pa.array(some([index / 8 for index in range(rows)])),
            "flag": pa.array(some([index % 3 == 0 for index in range(rows)])),
            "text": pa.array(some([["", "NA", 'a "b", c', "é\t", f"{i}"][i % 5] for i in range(rows)])),
            "large": pa.array(some([f"x{i}" for i in range(rows)]), pa.large_string()),
            "raw": pa.array(some([f"{i} é".encode() for i in range(rows)])),
            "fixed": pa.array(some([f"{i % 1000:03d}".encode() for i in range(rows)]), pa.binary(3)),
            "price": pa.array(some([decimal.Decimal(i) / 4 for i in range(rows)]), pa.decimal128(9, 2)),
            "day": pa.array(some([day + datetime.timedelta(i) for i in range(rows)])),
            "when": pa.array(some(list(range(rows))), pa.timestamp("us", "Europe/Paris")),
            "naive": pa.array(some(list(range(rows))), pa.timestamp("ns")),
            "clock": pa.array(some(list(range(rows))), pa.time64("us")),
            "lapse": pa.array(some(list(range(rows))), pa.duration("ms")),
            "kind": pa.array(some([f"k{i % 3}" for i in range(rows)])).dictionary_encode(),
        }
    )


def lists(rows: int) -> pa.Table:
    return pa.table(
        {
            "ints": pa.array([[None, [], [1], [-1, 2]][i % 4] for i in range(rows)], pa.list_(pa.int16())),
            "texts": pa.array([[[], ["a", ""], None][i % 3] for i in range(rows)], pa.large_list(pa.string())),
            "pair": pa.array([[i + 0.5, 2.5] for i in range(rows)], pa.list_(pa.float32(), 2)),
        }
    )


def table_of(path: object) -> pa.Table:
    source = open_input(str(path))
    batches = [pa.Table.from_batches([batch]) for batch in read(source, 0, sum(source.lengths))]
    return pa.concat_tables([source.schema.empty_table(), *batches]).unify_dictionaries().combine_chunks()


def request(source: object, out: object, to: str = "parquet", size: int = 20_000, **more: Any) -> Request:
    target = Target(to, **{key: more.pop(key) for key in ("compression", "row_group", "rounding") if key in more})  # type: ignore[arg-type]
    return Request((str(source),), str(out), target, size, **more)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "data.parquet"
    pq.write_table(every_type(1000), path, row_group_size=300)
    return path


def test_every_type_survives_every_direction(data: Path, tmp_path: Path) -> None:
    whole = table_of(data)
    for first, second in itertools.product(FORMATS, FORMATS):
        out = tmp_path / f"{first}-{second}"
        convert(request(data, tmp_path / first, first), here)
        convert(request(tmp_path / first, out, second), here)
        assert len(names(out)) > 3
        assert table_of(out).equals(whole), (first, second)
    assert pq.read_table(tmp_path / "parquet-parquet").combine_chunks().equals(pq.read_table(data).combine_chunks())


@pytest.mark.parametrize("to", FORMATS)
def test_every_compression_is_read_again(to: str, data: Path, tmp_path: Path) -> None:
    for compression in COMPRESSIONS[to]:  # type: ignore[index]
        out = tmp_path / compression
        convert(request(data, out, to, compression=compression), here)
        assert table_of(out).equals(table_of(data)), compression
    if to == "parquet":
        codec = pq.read_metadata(next((tmp_path / "zstd").glob("*.parquet"))).row_group(0).column(0).compression
        assert codec == "ZSTD"


def test_lists_go_through_tfrecord(tmp_path: Path) -> None:
    pq.write_table(lists(500), tmp_path / "lists.parquet")
    convert(request(tmp_path / "lists.parquet", tmp_path / "records", "tfrecord"), here)
    convert(request(tmp_path / "records", tmp_path / "back"), here)
    assert table_of(tmp_path / "back").equals(lists(500))


def test_a_list_of_a_fixed_size_may_be_null() -> None:
    """Parquet files with such lists are beyond what pyarrow reads, but TFRecord can hold them."""
    pairs = pa.array([[1.5, 2.5], None, [3.5, 4.5]], pa.list_(pa.float32(), 2))
    batch = pa.record_batch({"pair": pairs})
    stored = to_examples(batch, tfrecord_schema(batch.schema, ""), "", rounding=False)
    assert from_examples(stored.column(0), pairs.type).equals(pairs)


def test_structs_are_taken_apart_in_tfrecord(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": [{"b": 1, "c": {"d": "x"}}, None]}), tmp_path / "1.parquet")
    convert(request(tmp_path / "1.parquet", tmp_path / "records", "tfrecord"), here)
    assert table_of(tmp_path / "records").to_pydict() == {"a.b": [1, None], "a.c.d": ["x", None]}


def test_lists_of_structs_and_maps_are_taken_apart_in_tfrecord(tmp_path: Path) -> None:
    items = pa.array([[{"a": 1, "b": {"c": "x"}}, {"a": 2, "b": {"c": ""}}], None, []])
    pairs = pa.array([[("k", 1.5)], [], None], pa.map_(pa.string(), pa.float32()))
    views = pa.array([[{"a": 1}], [], None], pa.list_view(pa.struct({"a": pa.int64()})))
    pq.write_table(pa.table({"l": items, "m": pairs, "v": views}), tmp_path / "1.parquet")
    convert(request(tmp_path / "1.parquet", tmp_path / "records", "tfrecord"), here)
    convert(request(tmp_path / "records", tmp_path / "back", "parquet"), here)
    for folder in ("records", "back"):
        assert table_of(tmp_path / folder).to_pydict() == {
            "l.a": [[1, 2], None, []],
            "l.b.c": [["x", ""], None, []],
            "m.key": [["k"], [], None],
            "m.value": [[1.5], [], None],
            "v.a": [[1], [], None],
        }


def test_what_tfrecord_and_csv_have_no_room_for_within_lists(tmp_path: Path) -> None:
    deep, holed = [[{"a": [1], "b": 1}]], [[{"b": 1}, None]]
    for column, message in (
        (deep, "column l.a does not fit into TFRecord"),
        (holed, "a list of column l.b holds a null"),
    ):
        pq.write_table(pa.table({"l": column}), tmp_path / "1.parquet")
        with pytest.raises(DataError, match=message):
            convert(request(tmp_path / "1.parquet", tmp_path / "records", "tfrecord"), here)
        with pytest.raises(DataError, match="column l does not fit into CSV"):
            convert(request(tmp_path / "1.parquet", tmp_path / "csv", "csv"), here)


@pytest.mark.parametrize("seed", range(5))
def test_nested_columns_stay_as_they_are_in_parquet(tmp_path: Path, seed: int) -> None:
    table = random_table(seed, 200)
    pq.write_table(table, tmp_path / "1.parquet", row_group_size=30)
    convert(request(tmp_path / "1.parquet", tmp_path / "out", size=4000), here)
    assert table_of(tmp_path / "out").equals(table)


def test_values_of_several_lines_survive_csv(tmp_path: Path) -> None:
    rows = pa.table({"n": range(3000), "text": ["two\nlines", 'a "quote"\r\n', "one"] * 1000})
    pq.write_table(rows, tmp_path / "1.parquet")
    convert(request(tmp_path / "1.parquet", tmp_path / "csv", "csv"), here)
    assert not open_input(str(tmp_path / "csv")).can_cut(0)
    assert table_of(tmp_path / "csv").equals(rows)


def test_a_column_of_nulls_survives_csv(tmp_path: Path) -> None:
    rows = pa.table({"n": range(3000), "nothing": pa.nulls(3000)})
    pq.write_table(rows, tmp_path / "1.parquet")
    convert(request(tmp_path / "1.parquet", tmp_path / "csv", "csv"), here)
    assert table_of(tmp_path / "csv").equals(rows)


def test_a_file_of_no_rows_becomes_one(tmp_path: Path) -> None:
    pq.write_table(every_type(8).slice(0, 0), tmp_path / "1.parquet")
    for to in ("parquet", "csv"):
        assert convert(request(tmp_path / "1.parquet", tmp_path / to, to), here).rows == 0
        assert table_of(tmp_path / to).equals(table_of(tmp_path / "1.parquet"))


def test_files_and_row_groups_have_the_size_that_is_asked_for(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pq.write_table(pa.table({f"c{i}": rng.normal(size=50_000) for i in range(4)}), tmp_path / "1.parquet")
    convert(request(tmp_path / "1.parquet", tmp_path / "out", size=200_000, row_group=1000), here)
    sizes = [path.stat().st_size for path in (tmp_path / "out").glob("*.parquet")]
    assert 100_000 < min(sizes) <= max(sizes) < 220_000
    footer = pq.read_metadata(min((tmp_path / "out").glob("*.parquet")))
    assert {footer.row_group(i).num_rows for i in range(footer.num_row_groups - 1)} == {1000}


def test_columns_are_chosen_and_put_in_order(data: Path, tmp_path: Path) -> None:
    convert(request(data, tmp_path / "out", options=Options(columns=("text", "long"))), here)
    assert table_of(tmp_path / "out").equals(table_of(data).select(["text", "long"]))


def test_what_is_finished_is_not_done_again(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(Killed):
        convert(request(data, out), only(3))
    assert not out.exists()
    said: list[str] = []
    seen: list[Progress] = []
    result = convert(request(data, out), here, say=said.append, progress=seen.append)
    assert result.reused == 3
    assert said == [f"3 of {result.files} files are there from an earlier call"]
    assert seen[0].pieces_done == 3
    assert seen[-1] == Progress(result.files, result.files, 1000)
    assert table_of(out).equals(table_of(data))
    assert convert(request(data, out), never) == Result(str(out), result.files, 1000, result.bytes, result.files)


def test_killed_anywhere_it_is_whole_or_not_there(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed at each change of the disk in turn; a reader sees nothing, or everything, and the next call finishes."""
    whole, out = table_of(data), tmp_path / "out"
    filesystem = Dying()
    monkeypatch.setattr("pipelines.convert.place", lambda uri: (filesystem.handle, uri))
    for last in itertools.count():
        filesystem.left = last
        try:
            convert(request(data, out, size=60_000), here)
            break
        except Killed:
            pass
        if out.exists():
            assert table_of(out).equals(whole)
        filesystem.left = None
        if last % 2:  # the next call finishes; without it, the next is killed in what this one began
            convert(request(data, out, size=60_000), here)
            assert table_of(out).equals(whole)
            pafs.LocalFileSystem().delete_dir(str(out))
    assert last > 15
    assert table_of(out).equals(whole)
    assert names(tmp_path) == ["data.parquet", "out"]
    assert not [name for name in names(out) if name.startswith((".", "_")) and name != NAME]


class Dying:
    """A local file system that is killed when it has made so many changes; None lives on."""

    def __init__(self) -> None:
        self.left: int | None = None
        self.handle = _Counted(self)

    def change(self) -> None:
        if self.left is not None:
            if self.left == 0:
                raise Killed
            self.left -= 1


class _Counted:
    """Counts the calls that change something."""

    def __init__(self, dying: Dying) -> None:
        self._dying, self._real = dying, pafs.LocalFileSystem()

    def __getattr__(self, name: str) -> Any:
        if name in ("move", "delete_file", "delete_dir", "create_dir", "open_output_stream"):
            self._dying.change()
        return getattr(self._real, name)


def test_a_changed_input_is_noticed(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(Killed):
        convert(request(data, out), only(2))
    pq.write_table(every_type(1100), data)
    said: list[str] = []
    assert convert(request(data, out), here, say=said.append).reused == 0
    assert said == [f"starting over: {data} has changed"]
    assert table_of(out).num_rows == 1100
    os.utime(data, (1, 1))
    with pytest.raises(DataError, match=r"holds another conversion .*data.parquet has changed .*--overwrite"):
        convert(request(data, out), here)
    assert convert(request(data, out, overwrite=True), here).reused == 0
    with pytest.raises(DataError, match="format is tfrecord, was parquet"):
        convert(request(data, out, "tfrecord"), here)
    assert convert(request(data, out, "tfrecord", overwrite=True), here).reused == 0
    assert table_of(out).num_rows == 1100
    assert not list(out.glob("*.parquet"))
    assert names(tmp_path) == ["data.parquet", "out"]


def test_what_is_there_is_not_mixed_with(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    assert convert(request(data, out), here).rows == 1000
    other = tmp_path / "other"
    other.mkdir()
    (other / "mine.txt").write_text("x")
    with pytest.raises(DataError, match=r"folder is not empty .*mine.txt"):
        convert(request(data, other), here)
    with pytest.raises(DataError, match="this is a file"):
        convert(request(data, other / "mine.txt"), here)
    assert names(other) == ["mine.txt"]


def test_a_file_that_was_cut_off_is_made_again(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(Killed):
        convert(request(data, out), only(2))
    broken = tmp_path / ".out.unfinished" / next(n for n in names(tmp_path / ".out.unfinished") if n.startswith("part"))
    broken.write_bytes(broken.read_bytes()[:100])
    assert convert(request(data, out), here).reused == 1
    assert table_of(out).equals(table_of(data))


def test_a_full_disk_is_said_and_leaves_no_half_file(data: Path, small_disk: Path) -> None:
    pq.write_table(pa.table({"x": np.random.default_rng(0).normal(size=400_000)}), data)
    with pytest.raises(DataError, match=r"cannot write .*[Nn]o space"):
        convert(request(data, small_disk / "out", size=300_000), here)
    assert names(small_disk) == [".out.unfinished"]
    assert not [name for name in names(small_disk / ".out.unfinished") if name.startswith(".")]


@pytest.mark.parametrize(
    ("column", "to", "message"),
    [
        (pa.array([[1], [2]]), "csv", r"column x does not fit into CSV .*1.parquet, list"),
        (pa.array([b"\xff", b"x"]), "csv", "column x does not fit into CSV .*1.parquet"),
        (pa.array([[[1]], []]), "tfrecord", r"column x does not fit into TFRecord .*1.parquet, list"),
        (pa.array([0.1, 0.2]), "tfrecord", r"column x has more digits than the float32 .*1.parquet.*--float32"),
        (pa.array([2**63, 1], pa.uint64()), "tfrecord", "column x does not fit into the int64"),
        (pa.array([[1, None], []]), "tfrecord", "a list of column x holds a null"),
    ],
)
def test_what_does_not_fit_is_named(column: pa.Array, to: str, message: str, tmp_path: Path) -> None:
    pq.write_table(pa.table({"x": column}), tmp_path / "1.parquet")
    with pytest.raises(DataError, match=message):
        convert(request(tmp_path / "1.parquet", tmp_path / "out", to), here)
    assert not (tmp_path / "out").exists()


def test_rounding_is_asked_for(tmp_path: Path) -> None:
    pq.write_table(pa.table({"x": [0.1, float("nan"), None]}), tmp_path / "1.parquet")
    convert(request(tmp_path / "1.parquet", tmp_path / "out", "tfrecord", rounding=True), here)
    assert table_of(tmp_path / "out")["x"].to_pylist()[0] == pytest.approx(0.1, rel=1e-6)


def test_a_wrong_compression_is_named_first(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"csv has no such compression · snappy · choose one of none, gzip"):
        convert(request(tmp_path / "nothing", tmp_path / "out", "csv", compression="snappy"), here)


def test_the_manifest_says_what_was_made(data: Path, tmp_path: Path) -> None:
    convert(request(data, tmp_path / "out", "csv"), here)
    document = json.loads((tmp_path / "out" / NAME).read_text())
    assert document["rows"] == 1000
    assert document["columns"]["when"] == "timestamp[us, tz=Europe/Paris]"
    assert [entry["name"] for entry in document["files"]] == [n for n in names(tmp_path / "out") if n != NAME]
    (tmp_path / "out" / NAME).write_text("")  # as Spark and Hadoop leave it
    assert manifest_in(pafs.LocalFileSystem(), str(tmp_path / "out")) is None
    assert open_input(str(tmp_path / "out")).schema.field("byte").type == pa.int64()


def test_a_manifest_is_not_believed_about_other_files(data: Path, tmp_path: Path) -> None:
    convert(request(data, tmp_path / "out", "csv"), here)
    (tmp_path / "out" / "more.csv").write_text((tmp_path / "out" / names(tmp_path / "out")[1]).read_text())
    assert open_input(str(tmp_path / "out")).schema.field("byte").type == pa.int64()


def test_object_stores_hold_it_too(data: Path, s3: str, tmp_path: Path) -> None:
    bucket, _, query = s3.partition("?")
    out = f"{bucket}/out?{query}"
    with pytest.raises(Killed):
        convert(request(data, out), only(2))
    filesystem, path = place(out)
    unfinished = filesystem.get_file_info(pafs.FileSelector(path))
    assert [info.base_name for info in unfinished] == ["_unfinished"]
    result = convert(request(data, out), here)
    assert result.reused == 2
    assert convert(request(data, out), never).reused == result.files
    left = sorted(info.base_name for info in filesystem.get_file_info(pafs.FileSelector(path, recursive=True)))
    assert left == [NAME, *sorted(f"part-{i:05d}-of-{result.files:05d}.parquet" for i in range(result.files))]
    assert table_of(out).equals(table_of(data))


def test_a_piece_that_two_tasks_write_is_whole(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray may start a task again while the first still runs: the later rename replaces the same file."""

    def twice(function: Callable[[Any, Any], Any], shared: Any, items: Sequence[Any]) -> Iterator[Any]:
        for item in items:
            function(shared, item)
            yield function(shared, item)

    convert(request(data, tmp_path / "out"), twice)
    assert table_of(tmp_path / "out").equals(table_of(data))
    assert convert_piece.__module__ == "pipelines.convert"
