"""Parquet files that the dataset tests read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

ROWS = 1003


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Footers are kept in a folder of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="session")
def table() -> pa.Table:
    """A table of every supported kind of column; `id` numbers its rows."""
    numbers = np.arange(ROWS)
    return pa.table(
        {
            "id": numbers,
            "small": (numbers % 100).astype(np.int8),
            "half": (numbers / 8).astype(np.float16),
            "single": (numbers * 0.5).astype(np.float32),
            "double": numbers * 0.1,
            "flag": numbers % 3 == 0,
            "text": [f"Zürich {n}" for n in numbers],
            "code": pa.array([f"c{n % 5}" for n in numbers]).dictionary_encode(),
            "label": (numbers % 7).astype(np.float32),
        }
    )


@pytest.fixture(scope="session")
def files(table: pa.Table, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`table` in three files of several row groups each, with sizes that nothing divides."""
    folder = tmp_path_factory.mktemp("parquet")
    for index, (start, stop) in enumerate([(0, 400), (400, 417), (417, ROWS)]):
        pq.write_table(table.slice(start, stop - start), folder / f"part-{index}.parquet", row_group_size=97)
    return folder
