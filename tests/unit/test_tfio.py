"""What the engine of tensorflow-io is not asked for: found from footers and versions alone."""

from __future__ import annotations

import os
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.errors import DataError
from pipelines.layout import Request
from pipelines.sources import Files, open_source
from pipelines.tfio_limits import misfit

ROWS = 300
IDS = pa.array(range(ROWS))


def look(path: Path, files: dict[str, Any] | None = None, **request: Any) -> Any:
    chosen = Files((str(path),), **{"engine": "tensorflow_io", **(files or {})})
    return open_source(chosen, Request(**request), to_read=False)


def write(path: Path, column: Any, **options: Any) -> Path:
    pq.write_table(pa.table({"id": IDS, "x": column}), path, **{"row_group_size": 100, **options})
    return path


def with_null(at: int) -> pa.Array:
    return pa.array([None if number == at else number for number in range(ROWS)])


REFUSED: dict[str, tuple[Any, dict[str, Any], str]] = {
    "lists": (pa.array([[1]] * ROWS), {}, "is a list"),
    "lists of a fixed size": (pa.array([[1, 2]] * ROWS, pa.list_(pa.int64(), 2)), {}, "is a list"),
    "decimals": (pa.array([Decimal(1)] * ROWS, pa.decimal128(9, 2)), {}, "is of type decimal128(9, 2)"),
    "UUIDs": (pa.array([b"0" * 16] * ROWS, pa.uuid()), {}, "is of type extension<arrow.uuid>"),
    "timestamps in 96 bits": (
        pa.array(range(ROWS), pa.timestamp("ns")),
        {"use_deprecated_int96_timestamps": True},
        "is stored as INT96",
    ),
    "a null in the last row group": (with_null(299), {}, "holds 1 nulls in row group 2"),
    "nulls that nobody counted": (
        IDS,
        {"write_statistics": ["id"]},
        "may hold nulls, for row group 0 does not say how many it holds",
    ),
    "strings in deltas of lengths": (
        pa.array(["a"] * ROWS),
        {"use_dictionary": False, "column_encoding": {"x": "DELTA_LENGTH_BYTE_ARRAY"}},
        "is written with DELTA_LENGTH_BYTE_ARRAY",
    ),
    "integers in split streams": (
        IDS,
        {"use_dictionary": False, "column_encoding": {"x": "BYTE_STREAM_SPLIT"}},
        "is written with BYTE_STREAM_SPLIT",
    ),
    "run lengths of bools": (pa.array([True] * ROWS), {"data_page_version": "2.0"}, "is written with RLE"),
}


def test_a_struct_without_any_value_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "1.parquet", pa.array([{"a": 1}] * ROWS))
    write(tmp_path / "2.parquet", pa.nulls(ROWS))
    with pytest.raises(DataError, match=r"tensorflow-io cannot read column x\.a, which holds no value · .*2\.parquet"):
        look(tmp_path)


@pytest.mark.parametrize("case", REFUSED)
def test_a_column_that_would_end_the_process_is_refused(tmp_path: Path, case: str) -> None:
    column, options, reason = REFUSED[case]
    path = write(tmp_path / "a.parquet", column, **options)
    with pytest.raises(DataError) as caught:
        look(path)
    assert caught.value.happened == f"tensorflow-io cannot read column x, which {reason}"
    assert caught.value.seen == str(path)
    assert look(path, columns=("id",)).units


def test_every_file_is_looked_at(tmp_path: Path) -> None:
    for number in range(5):
        write(tmp_path / f"{number}.parquet", with_null(150 if number == 4 else -1))
    with pytest.raises(DataError, match=r"column x, which holds 1 nulls in row group 1 · .*/4\.parquet"):
        look(tmp_path)


def test_half_floats_keep_the_whole_file_from_being_opened(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", np.zeros(ROWS, np.float16))
    with pytest.raises(DataError, match=r"with a column of type FLOAT16 · .*a\.parquet, column x"):
        look(path, columns=("id",))


def test_required_columns_need_no_count_of_nulls(tmp_path: Path) -> None:
    schema = pa.schema([pa.field("x", pa.int64(), nullable=False)])
    pq.write_table(pa.table({"x": IDS}, schema), tmp_path / "a.parquet", write_statistics=False)
    assert look(tmp_path).units


@pytest.mark.parametrize(
    ("name", "files", "happened"),
    [
        ("a.tfrecord", {}, "engine tensorflow_io reads Parquet only, not TFRecord"),
        ("a.parquet", {"features": {"x": "int64"}}, "engine tensorflow_io reads Parquet only, not TFRecord"),
        (
            "a.parquet",
            {"on_error": "skip_files"},
            "engine tensorflow_io cannot do on_error: skip_files, for data that cannot be read end its process",
        ),
    ],
)
def test_requests_for_files_that_are_refused(tmp_path: Path, name: str, files: dict[str, Any], happened: str) -> None:
    with pytest.raises(DataError) as caught:
        look(write(tmp_path / name, IDS), files)
    assert caught.value.happened == happened


def test_files_elsewhere_are_refused(s3: str) -> None:
    import pyarrow.fs as pafs

    filesystem, path = pafs.FileSystem.from_uri(s3)
    filesystem.create_dir(path)
    pq.write_table(pa.table({"id": IDS}), f"{path}/a.parquet", filesystem=filesystem)
    assert open_source(Files((s3,)), Request()).units
    with pytest.raises(DataError, match="reads files of this machine only, not s3://"):
        open_source(Files((s3,), engine="tensorflow_io"), Request(), to_read=False)


@pytest.mark.parametrize(
    ("tensorflow", "tensorflow_io", "happened"),
    [
        ("2.17.1", "0.37.1", None),
        ("2.16.2", "0.37.1", None),
        ("2.17.1", None, "it needs tensorflow-io, which is not installed"),
        ("2.21.0", "0.37.1", "it needs tensorflow-io, which loads only with TensorFlow 2.16 and 2.17"),
        ("2.21.0", None, "it needs tensorflow-io, which loads only with TensorFlow 2.16 and 2.17"),
    ],
)
def test_which_tensorflow_it_goes_with(tensorflow: str, tensorflow_io: str | None, happened: str | None) -> None:
    found = misfit("it", tensorflow, tensorflow_io)
    if happened is None:
        assert found is None
        return
    assert found is not None
    assert found[0] == happened
    assert found[1] == f"TensorFlow {tensorflow}, {'tensorflow-io 0.37.1' if tensorflow_io else 'no tensorflow-io'}"
    assert "ray-tfcluster[tensorflow-io]" in found[2]


def test_only_looking_needs_no_tensorflow(tmp_path: Path) -> None:
    import subprocess
    import sys

    write(tmp_path / "a.parquet", IDS)
    code = (
        "import sys; from pipelines.sources import *; from pipelines.layout import Request\n"
        f"opened = open_source(Files(({str(tmp_path)!r},), engine='tensorflow_io'), Request(), to_read=False)\n"
        "print(sum(unit.rows for unit in opened.units), 'tensorflow' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ})
    assert done.stdout.split() == [str(ROWS), "False"]
