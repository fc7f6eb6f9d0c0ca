"""What `inspect` says of files, and when it warns."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.errors import DataError
from pipelines.example_writer import examples_of, sequence_example_of
from pipelines.inputs import Options
from pipelines.inspect import Column, Report, Shares, Spread, findings_of, inspect, spread
from pipelines.open_input import open_input
from pipelines.tfrecord_writer import write_records

GOOD = Report(
    format="parquet",
    files=4,
    file_bytes=Spread(9 << 20, 10 << 20, 11 << 20),
    bytes=40 << 20,
    raw_bytes=80 << 20,
    rows=400_000,
    rows_estimated=False,
    groups=8,
    group_rows=Spread(50_000, 50_000, 50_000),
    group_bytes=Spread(10 << 20, 10 << 20, 10 << 20),
    codecs=("snappy",),
    columns=(Column("a", "int64", "int64", nulls=0),),
    nulls_known=True,
    shares=Shares(4, 1024, 98, 100_000, 0),
)


PACKED = {"format": "tfrecord", "codecs": ("GZIP",), "file_bytes": Spread(1, 1, 100 << 20)}


def words(**changes: object) -> list[str]:
    report = dataclasses.replace(GOOD, **changes)  # type: ignore[arg-type]
    return [f"{finding.level}: {finding}" for finding in findings_of(report)]


def test_good_files_need_no_word() -> None:
    assert words() == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"rows": 0}, "error: there are no rows"),
        (
            {"rows": 3, "shares": Shares(4, 1024, 0, 0, 0)},
            "error: there are fewer rows than workers · 3 rows, 4 workers",
        ),
        (
            {"groups": 1, "group_rows": Spread(2_000_000, 2_000_000, 2_000_000)},
            "warning: a row group is read whole, and held in memory by each worker that reads of it · "
            "1 row group of 2,000,000 rows",
        ),
        ({"group_bytes": Spread(1 << 20, 600 << 20, 700 << 20)}, "warning: a row group is read whole"),
        ({"group_bytes": Spread(1 << 20, 10 << 20, 90 << 20)}, "note: row groups differ in size"),
        ({"groups": 500, "group_rows": Spread(10, 100, 1000)}, "warning: row groups are small"),
        ({"files": 500, "file_bytes": Spread(10, 100, 1000)}, "warning: files are small"),
        ({"groups": 2}, "note: there are fewer row groups than workers"),
        ({"columns": (Column("a", "map", "", "no counterpart"),)}, "warning: no counterpart · a, map"),
        ({"columns": (Column("a", "int64", "int64", nulls=3),)}, "note: columns hold nulls · a 3"),
        ({"nulls_known": False}, "note: nulls are not known"),
        ({"format": "csv", "groups": None}, "warning: ctx.dataset does not read CSV"),
        (
            {**PACKED, "files": 8},
            "note: a compressed TFRecord file can only be read from its start, also to go on within it",
        ),
        (
            {**PACKED, "files": 7},
            "warning: few compressed files are shared out, and each worker unpacks what lies before its rows · "
            "7 files of up to 100.0 MiB for 4 workers · leave them uncompressed: tfcluster data convert",
        ),
        ({**PACKED, "files": 1, "shares": Shares(1, 1024, 98, 100_000, 0)}, "note: a compressed TFRecord file"),
        (
            {"format": "tfrecord", "columns": (Column("a", "string", "string", part="context"),)},
            "note: these are SequenceExamples: ctx.dataset reads them, convert and analyze do not",
        ),
    ],
)
def test_what_is_worth_a_word(changes: dict[str, object], said: str) -> None:
    assert [finding for finding in words(**changes) if finding.startswith(said)]


def test_no_conversion_is_offered_for_sequences() -> None:
    columns = (Column("a", "string", "string", part="sequence"),)
    found = words(**PACKED, columns=columns) + words(files=500, file_bytes=Spread(10, 100, 1000), columns=columns)
    assert any("uncompressed" in text for text in found)
    assert any("fewer, larger files" in text for text in found)
    assert not any("data convert" in text for text in found)


def test_spread() -> None:
    assert spread([3, 1, 2]) == (1, 2, 3)
    assert spread([]) == (0, 0, 0)


@pytest.fixture
def table() -> pa.Table:
    rows = 1000
    return pa.table(
        {
            "n": pa.array([None if i % 10 == 0 else i for i in range(rows)], pa.int32()),
            "s": [f"{'long ' * 40}{i}" for i in range(rows)],
            "l": pa.array([[1.0] * (i % 3) for i in range(rows)], pa.list_(pa.float32())),
            "p": [{"x": i, "y": None} for i in range(rows)],
            "m": pa.array([[("k", 1)]] * rows, pa.map_(pa.string(), pa.int64())),
            "raw": [bytes(100)] * rows,
        }
    )


def test_parquet(table: pa.Table, tmp_path: Path) -> None:
    pq.write_table(table, tmp_path / "1.parquet", row_group_size=300, compression="zstd")
    pq.write_table(table.slice(0, 100), tmp_path / "2.parquet", compression="zstd")
    found = inspect([str(tmp_path)], Options(), workers=3, batch=100)
    assert (found.format, found.files, found.rows, found.groups) == ("parquet", 2, 1100, 5)
    assert found.group_rows == (100, 300, 300)
    assert found.bytes == sum(path.stat().st_size for path in tmp_path.iterdir())
    assert found.codecs == ("zstd",)
    columns = {column.name: column for column in found.columns}
    assert {name: column.tensorflow for name, column in columns.items()} == {
        "n": "int32",
        "s": "string",
        "l": "ragged float32",
        "p.x": "int64",
        "p.y": "",
        "m.key": "ragged string",
        "m.value": "ragged int64",
        "raw": "string",
    }
    assert columns["n"].nulls == 110
    assert "has no type" in columns["p.y"].problem
    assert columns["m.key"].nulls is None
    footers = [pq.read_metadata(path) for path in tmp_path.iterdir()]
    groups = [footer.row_group(index) for footer in footers for index in range(footer.num_row_groups)]
    for place, name in enumerate(["n", "s", "l", "p.x", "p.y", "m.key", "m.value", "raw"]):
        assert columns[name].bytes == sum(group.column(place).total_compressed_size for group in groups), name
    footer = pq.read_metadata(tmp_path / "1.parquet").row_group(0).column(0)
    assert footer.path_in_schema == "n"
    assert (columns["n"].bytes or 0) > footer.total_compressed_size
    assert found.shares == Shares(3, 100, 4, 366, 100)
    assert len(found.sample) == 5
    assert found.sample[1]["n"] == 1
    assert len(found.sample[0]["s"]) == 60
    assert found.sample[0]["raw"] == "100 bytes"
    assert found.next == f"tfcluster data analyze {tmp_path}"
    json.dumps(found.to_document())


def test_tfrecord(tmp_path: Path) -> None:
    rows = pa.table({"a": pa.array(range(500), pa.int64()), "b": [["x"] * (i % 3) for i in range(500)]})
    write_records(f"{tmp_path}/1.tfrecord", examples_of(rows), "GZIP")
    found = inspect([str(tmp_path)], Options(), workers=2, batch=10)
    assert (found.format, found.rows, found.groups, found.codecs) == ("tfrecord", 500, 1, ("GZIP",))
    assert {column.name: column.tensorflow for column in found.columns} == {"a": "int64", "b": "ragged string"}
    assert found.raw_bytes is not None
    assert found.raw_bytes > found.bytes
    assert found.sample[2] == {"a": 2, "b": "['x', 'x']"}


@pytest.fixture
def sequences(tmp_path: Path) -> Path:
    """Two files of SequenceExamples: `token` of one value a step, `frame` of two, `tags` of any number."""
    for number in range(2):
        records = [
            sequence_example_of(
                {"user": f"user {row}", "raw": b"\xff", "y": row, "vector": [0.5, row], "seldom": [row] * (row % 2)},
                {"token": [[1]] * (row % 3), "frame": [[0.5, 1.5]] * 2, "tags": [["a", "b"], []]},
            )
            for row in range(30)
        ]
        write_records(str(tmp_path / f"{number}.tfrecord"), records)
    return tmp_path


def test_sequence_examples(sequences: Path) -> None:
    found = inspect([str(sequences)], Options(), workers=2, batch=10)
    assert (found.format, found.files, found.rows, found.shares.batches) == ("tfrecord", 2, 60, 3)
    assert {column.name: (column.part, column.type, column.tensorflow) for column in found.columns} == {
        "raw": ("context", "binary", "string"),
        "seldom": ("context", "list<item: int64>", "ragged int64"),
        "user": ("context", "string", "string"),
        "vector": ("context", "fixed_size_list<item: float>[2]", "float32[2]"),
        "y": ("context", "int64", "int64"),
        "frame": ("sequence", "list<item: fixed_size_list<item: float>[2]>", "ragged float32[2]"),
        "tags": ("sequence", "list<item: list<item: string>>", "ragged ragged string"),
        "token": ("sequence", "list<item: int64>", "ragged int64"),
    }
    assert found.sample[2] == {
        "raw": r"\xff",
        "seldom": "[]",
        "user": "user 2",
        "vector": "[0.5, 2.0]",
        "y": 2,
        "frame": "[[0.5, 1.5], [0.5, 1.5]]",
        "tags": "[['a', 'b'], []]",
        "token": "[1, 1]",
    }
    assert found.next == ""
    json.dumps(found.to_document())
    assert [column.name for column in inspect([str(sequences)], Options(("token", "y"))).columns] == ["token", "y"]


def test_what_a_look_at_sequence_examples_cannot_do(sequences: Path) -> None:
    with pytest.raises(DataError, match=r"there is no column tokens · .* · did you mean token"):
        inspect([str(sequences)], Options(("tokens",)))
    with pytest.raises(DataError, match="take no types · y=string"):
        inspect([str(sequences)], Options(types=(("y", "string"),)))
    said = (
        "a record is a SequenceExample, which convert and analyze do not take · .*/0.tfrecord, record 0 · ctx.dataset"
    )
    with pytest.raises(DataError, match=said):
        open_input(str(sequences))


@pytest.mark.parametrize("ending", ["csv", "csv.gz"])
def test_csv(ending: str, tmp_path: Path) -> None:
    table = pa.table({"a": range(50_000), "b": np.arange(50_000) / 7})
    with pa.output_stream(tmp_path / f"1.{ending}", compression="detect") as stream:
        pa.csv.write_csv(table, stream)
    found = inspect([str(tmp_path)], Options(), workers=4)
    assert found.rows_estimated
    assert 0.7 * 50_000 < found.rows < 1.3 * 50_000
    assert [column.tensorflow for column in found.columns] == ["int64", "float64"]
    assert found.groups is None
    assert found.next == f"tfcluster data convert {tmp_path} NEW_FOLDER --to parquet"


def test_no_rows_is_an_error_without_a_next_command(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": pa.array([], pa.int64())}), tmp_path / "1.parquet")
    found = inspect([str(tmp_path)], Options())
    assert found.findings[0].level == "error"
    assert found.next == ""
    assert found.sample == ()


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "1.parquet").write_bytes(b"PAR1 nothing")
    with pytest.raises(DataError, match=r"1.parquet"):
        inspect([str(tmp_path)], Options())
