"""How well are rows mixed, against a full shuffle and against tf.data's shuffle of the same memory?

    python -m benchmarks.shuffle [--quick] [--json FILE]

The rows are sorted by label, which is the worst case: each of ten labels is one run of rows. Of one epoch in batches of
1,024 rows it measures

- label imbalance: how far the labels of a batch are from those of all rows, as half the sum of the differences between
  their shares, on average over the batches: 0 is equal, 0.9 is one label a batch;
- neighbours together: how often two rows that follow each other in the files are in one batch;
- order kept: how far the old order can still be seen, as the rank correlation of old and new positions, without sign.

All are means over several epochs; a full shuffle is not 0 either, because a batch is a sample. `shuffle(n)` is
tf.data's own, row by row, with a buffer of as many rows as ours holds at the same time.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

BATCH, LABELS = 1_024, 10
ROW_GROUPS = (1_024, 8_192, 65_536)
MEASURES = ("label imbalance", "neighbours together", "order kept")
Order = npt.NDArray[np.int64]


def measures(order: Order) -> list[float]:
    """The three measures of an epoch's order: `[rows]`, the old position of each row in its new order."""
    return [label_imbalance(order), neighbours_together(order), order_kept(order)]


def label_imbalance(order: Order) -> float:
    """Mean distance of a batch's labels from those of all rows."""
    whole = order[: len(order) // BATCH * BATCH].reshape(-1, BATCH)
    labels = whole * LABELS // len(order)
    shares = np.stack([(labels == label).mean(1) for label in range(LABELS)], 1)
    return float(np.abs(shares - 1 / LABELS).sum(1).mean() / 2)


def neighbours_together(order: Order) -> float:
    """Share of neighbours in the files that are in one batch."""
    batch = np.empty(len(order), np.int64)
    batch[order] = np.arange(len(order)) // BATCH
    return float((batch[1:] == batch[:-1]).mean())


def order_kept(order: Order) -> float:
    """Absolute rank correlation of old and new positions."""
    return float(abs(np.corrcoef(order, np.arange(len(order)))[0, 1]))


def full(rows: int, epoch: int) -> Order:
    """Every order is as likely."""
    return np.random.default_rng(epoch).permutation(rows)


def buffered(rows: int, epoch: int, buffer: int) -> Order:
    """tf.data's shuffle of rows in the order of the files."""
    import tensorflow as tf

    dataset = tf.data.Dataset.range(rows).shuffle(buffer, seed=epoch).batch(65_536)
    return np.concatenate([*dataset.as_numpy_iterator()])


def ours(path: Path, epoch: int) -> Order:
    """ray-tfcluster's, as a user gets it."""
    from pipelines.dataset import read_dataset

    dataset = read_dataset(str(path), batch=65_536, shuffle=True, seed=1, epoch=epoch)
    return np.concatenate([batch["id"] for batch in dataset.as_numpy_iterator()])


def orders(rows: int, folder: Path) -> Iterator[tuple[str, Callable[[int], Order]]]:
    """Each system, and what gives its order of an epoch."""
    from pipelines.reader import AHEAD
    from pipelines.shards import MIX_ROWS, MIX_UNITS

    # What ours has in memory with the smallest row groups, and with the largest.
    held = [rows * (2 + AHEAD) for rows in (MIX_ROWS, MIX_UNITS * max(ROW_GROUPS))]
    yield "full shuffle", lambda epoch: full(rows, epoch)
    for size in ROW_GROUPS:
        path = folder / f"{rows}-{size}.parquet"
        if not path.exists():
            pq.write_table(pa.table({"id": np.arange(rows)}), path, row_group_size=size)
        yield f"ours, row groups of {size:,}", lambda epoch, path=path: ours(path, epoch)  # type: ignore[misc]
    for buffer in held:
        yield f"shuffle({buffer:,})", lambda epoch, buffer=buffer: buffered(rows, epoch, buffer)  # type: ignore[misc]
    yield "none", lambda epoch: np.arange(rows)


def compare(rows: int, epochs: int, folder: Path) -> list[dict[str, Any]]:
    """The measures of every system, and their ratios to those of a full shuffle."""
    found = {}
    for system, order in orders(rows, folder):
        print(f"{time.strftime('%X')} {system}", file=sys.stderr, flush=True)
        seen = [order(epoch) for epoch in range(epochs)]
        if any(not np.array_equal(np.sort(one), np.arange(rows)) for one in seen):
            raise RuntimeError(f"{system} lost or repeated a row")
        found[system] = np.mean([measures(one) for one in seen], axis=0)
    return [
        {"case": case, "system": system, "value": round(float(values[at]), 4), "unit": "share",
         "reference": "full shuffle", "ratio": round(float(values[at] / found["full shuffle"][at]), 1)}
        for system, values in found.items()
        for at, case in enumerate(MEASURES)
    ]  # fmt: skip


def show(rows: list[dict[str, Any]], count: int, epochs: int) -> None:
    """Print the table that the docs show."""
    table = Table("system", *MEASURES, title=f"{count:,} rows, sorted by label, batches of {BATCH:,}, {epochs} epochs")
    values = {(row["system"], row["case"]): row["value"] for row in rows}
    for system in dict.fromkeys(row["system"] for row in rows):
        table.add_row(system, *(f"{values[system, case]:.4f}" for case in MEASURES))
    Console(width=120).print(table)


def main() -> None:
    """Measure, print the table, write the JSON file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a quarter of the rows, and two epochs")
    parser.add_argument("--json", type=Path, help="write the rows there")
    parser.add_argument("--data", type=Path, default=Path(tempfile.gettempdir(), "ray-tfcluster-shuffle"))
    options = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    options.data.mkdir(parents=True, exist_ok=True)
    rows, epochs = (2**20, 2) if options.quick else (2**22, 5)
    found = compare(rows, epochs, options.data)
    show(found, rows, epochs)
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
