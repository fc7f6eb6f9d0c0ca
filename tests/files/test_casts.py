"""A cast of columns keeps every value, or says which one it would change."""

from __future__ import annotations

import decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.casts import cast
from pipelines.errors import DataError
from pipelines.layout import Request
from pipelines.reader import Reader, ReadPlan
from pipelines.sources import Files

DAY = 86_400
D = decimal.Decimal


@pytest.mark.parametrize(
    ("column", "arrow", "said"),
    [
        (pa.array([1.0, 1e300]), pa.float32(), "1e+300 would become inf"),
        (pa.array([1.0, -70000.0], pa.float32()), pa.float16(), "-70000.0 would become -inf"),
        (pa.array([1, 2049]), pa.float16(), "2049 would become 2048"),
        (pa.array([None, 70000]), pa.float16(), "70000 would become inf"),
        (pa.array([2**24 + 1]), pa.float32(), "16777217"),
        (pa.array([D("1e60")], pa.decimal256(70, 0)), pa.float32(), "would become inf"),
        (pa.array(["1", "1e300"]), pa.float32(), "1e300 would become inf"),
        (pa.array(["1", "1e300"], pa.string_view()), pa.float32(), "1e300 would become inf"),
        (pa.array([[1.0], None, [2.0, 1e300]]), pa.list_(pa.float32()), "1e+300 would become inf"),
        (pa.array([[1.0, 1e300]], pa.list_(pa.float64(), 2)), pa.list_(pa.float32(), 2), "1e+300 would become inf"),
        (pa.array([1.0, 1e300]).dictionary_encode(), pa.float32(), "1e+300 would become inf"),
        (pa.array([0, 1, 2]), pa.bool_(), "2 would become True"),
        (pa.array([0.0, float("nan")]), pa.bool_(), "nan would become True"),
        (pa.array([1.9]), pa.int64(), "1.9"),
        (pa.array([300]), pa.uint8(), "300"),
        (pa.array([DAY, DAY + 1], pa.timestamp("s")), pa.date32(), "00:00:01 would become 1970-01-02"),
        (pa.array([DAY + 1], pa.timestamp("s")), pa.date64(), "00:00:01 would become 1970-01-02"),
        (pa.array([DAY + 1], pa.timestamp("ns")), pa.date32(), "would become 1970-01-01"),
        (pa.array([1, DAY + 1], pa.timestamp("s")), pa.time32("s"), "would become 00:00:01"),
        (pa.array([0], pa.timestamp("s", "America/New_York")), pa.date32(), "would become 1969-12-31"),
    ],
)
def test_what_would_change_is_refused(column: pa.Array, arrow: pa.DataType, said: str) -> None:
    with pytest.raises(pa.ArrowInvalid) as caught:
        cast(column, arrow)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("column", "arrow", "made"),
    [
        (pa.array([0.1, float("inf"), None]), pa.float32(), [pytest.approx(0.1), float("inf"), None]),
        (pa.array([2048, None, 65504]), pa.float16(), [2048.0, None, 65504.0]),
        (pa.array([None], pa.float64()), pa.float32(), [None]),
        (pa.array([], pa.float64()), pa.float16(), []),
        (pa.array(["inf", "-Infinity", "2.5"]), pa.float32(), [float("inf"), float("-inf"), 2.5]),
        (pa.array([D("1.25")]), pa.float32(), [1.25]),
        (pa.array([1, 0, None]), pa.bool_(), [True, False, None]),
        (pa.array([[1.5], None, []]), pa.list_(pa.float32()), [[1.5], None, []]),
        (pa.array([DAY, None], pa.timestamp("us")).cast(pa.timestamp("ns")), pa.timestamp("us"), None),
        (pa.array([1], pa.timestamp("s")), pa.time64("us"), None),
        (pa.array([5 * 3600], pa.timestamp("s", "America/New_York")), pa.date32(), None),
        (pa.array([DAY * 10**6], pa.timestamp("us")), pa.date32(), None),
    ],
)
def test_what_fits_is_what_arrow_makes(column: pa.Array, arrow: pa.DataType, made: Any) -> None:
    assert cast(column, arrow).equals(column.cast(arrow))
    if made is not None:
        assert cast(column, arrow).to_pylist() == made


@pytest.mark.parametrize(
    ("column", "arrow"),
    [(pa.array([1.0, 1e300]), "float32"), (pa.array([1], pa.timestamp("s")), "date32")],
)
def test_the_error_names_file_row_group_and_column(tmp_path: Path, column: pa.Array, arrow: str) -> None:
    pq.write_table(pa.table({"x": column}), tmp_path / "a.parquet")
    reader = Reader(ReadPlan(Files((str(tmp_path),)), Request(casts={"x": arrow})))
    with pytest.raises(DataError, match=rf"does not fit .* · {tmp_path}/a.parquet, row group 0, column x · .* would"):
        reader.read(reader.begin()[0])
