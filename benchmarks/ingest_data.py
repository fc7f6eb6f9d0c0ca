"""Make the files that `benchmarks/ingest.py` reads, once a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

#: Rows of a row group, but for wide tables.
ROW_GROUP = 131_072
#: Rows of each case, and with --quick.
ROWS = {
    "numeric": (8_000_000, 2_000_000),
    "strings": (6_000_000, 2_000_000),
    "wide": (400_000, 50_000),
    "lists": (6_000_000, 500_000),
    "records": (400_000, 100_000),
}


def make(folder: Path, case: str, rows: int) -> Path:
    """The file of `case`, with its label in a column `label`; made when it is not there."""
    path = folder / f"{case}-{rows}.{'tfrecord' if case == 'records' else 'parquet'}"
    if not path.exists():
        random = np.random.default_rng(0)
        if case == "records":
            _write_records(path, _numeric(random, rows))
        else:
            table = {"numeric": _numeric, "strings": _strings, "wide": _wide, "lists": _lists}[case](random, rows)
            pq.write_table(table, path, row_group_size=ROW_GROUP if case != "wide" else 8_192)
    return path


def many(folder: Path, files: int) -> Path:
    """A folder of small files."""
    target = folder / f"files-{files}"
    if not target.exists():
        target.mkdir(parents=True)
        table = _numeric(np.random.default_rng(0), 256)
        for number in range(files):
            pq.write_table(table, target / f"part-{number:05}.parquet")
    return target


def _numeric(random: Any, rows: int) -> pa.Table:
    """20 float32, 5 int64, 1 label."""
    columns: dict[str, Any] = {f"f{i}": random.random(rows, dtype=np.float32) for i in range(20)}
    columns |= {f"i{i}": random.integers(0, 1000, rows) for i in range(5)}
    return pa.table({**columns, "label": random.random(rows, dtype=np.float32)})


def _strings(random: Any, rows: int) -> pa.Table:
    """The numeric table and two columns of strings."""
    users = pa.array([f"user-{number}" for number in random.integers(0, 100_000, rows)])
    kinds = pa.array([f"kind-{number}" for number in random.integers(0, 100, rows)])
    return _numeric(random, rows).append_column("user", users).append_column("kind", kinds)


def _wide(random: Any, rows: int) -> pa.Table:
    """1,000 float32 and a label."""
    columns = {f"f{i}": random.random(rows, dtype=np.float32) for i in range(1000)}
    return pa.table({**columns, "label": random.random(rows, dtype=np.float32)})


def _lists(random: Any, rows: int) -> pa.Table:
    """A list of 0 to 20 int64, 16 float32 of a fixed-size list, a label."""
    offsets = np.concatenate([[0], np.cumsum(random.integers(0, 21, rows))]).astype(np.int32)
    ragged = pa.ListArray.from_arrays(offsets, random.integers(0, 1000, int(offsets[-1])))
    dense = pa.FixedSizeListArray.from_arrays(random.random(rows * 16, dtype=np.float32), 16)
    return pa.table({"ids": ragged, "vector": dense, "label": random.random(rows, dtype=np.float32)})


def _write_records(path: Path, table: pa.Table) -> None:
    """The table as `tf.train.Example` records."""
    import tensorflow as tf

    with tf.io.TFRecordWriter(str(path)) as writer:
        for batch in table.to_batches(8192):
            columns = {name: column.to_numpy() for name, column in zip(table.column_names, batch.columns, strict=True)}
            for row in range(len(batch)):
                feature = {name: _feature(tf, values[row]) for name, values in columns.items()}
                writer.write(tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString())


def _feature(tf: Any, value: Any) -> Any:
    if isinstance(value, np.integer):
        return tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))
    return tf.train.Feature(float_list=tf.train.FloatList(value=[value]))
