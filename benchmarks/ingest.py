"""How fast do rows reach TensorFlow, against what any reader must do, and against the other readers there are?

    python -m benchmarks.ingest [--quick] [--json FILE] [--only CASE …] [--without SYSTEM …] [--data FOLDER]

Makes its own data. Each system reads in a process of its own, twice, and the second reading counts; the systems take
turns, `--repeats` times, and medians are compared. The reference of a Parquet case is the slower of two limits: Arrow
alone on one thread, and tf.data alone on tensors that are in memory already. Petastorm needs an older Arrow, and gets
an environment of its own in the data folder. Readers that are known to be slow read fewer rows. All of them have the
allocators' settings of a task of a job, see `cluster.environment`.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.ingest_data import ROWS, make, many
from cluster.environment import ALLOCATORS

READER = Path(__file__).with_name("ingest_reader.py")
#: Systems by case; with the share of the rows that slow ones read.
SYSTEMS: dict[str, dict[str, float]] = {
    "numeric": {
        "scan": 1, "tf_data": 1, "ours": 1, "ours_packed": 1, "ours_stacked": 1, "ours_shuffled": 1,
        "petastorm": 0.1, "petastorm_rebatch": 1,
        "iter_tf_batches": 0.02, "to_tf": 0.25, "tensorflow_io": 0.01,
    },
    "strings": {
        "scan": 1, "tf_data": 1, "ours": 1, "ours_shuffled": 1, "petastorm": 0.1, "petastorm_rebatch": 1,
        "iter_tf_batches": 0.05, "to_tf": 0.1, "tensorflow_io": 0.01,
    },
    "wide": {
        "scan": 1, "tf_data": 1, "ours": 1, "ours_packed": 1, "ours_stacked": 1, "petastorm_rebatch": 0.25,
        "iter_tf_batches": 0.1, "to_tf": 0.1, "tensorflow_io": 0.02,
    },
    "lists": {
        "scan": 1, "tf_data": 1, "ours": 1, "ours_shuffled": 1, "petastorm_rebatch": 0.1,
        "iter_tf_batches": 0.05, "to_tf": 0.05, "tensorflow_io": 0.01,
    },
    "records": {"parse_example": 1, "ours": 1},
}  # fmt: skip
LIMITS = ("scan", "tf_data")
PETASTORM = ("petastorm", "pyarrow==14.*", "tensorflow==2.17.*", "numpy<2", "setuptools<81")


def petastorm_python(folder: Path) -> str:
    """The interpreter of Petastorm's environment."""
    place = folder / "petastorm"
    python = place / "bin" / "python"
    if not python.exists():
        say("installing Petastorm")
        subprocess.run([sys.executable, "-m", "venv", str(place)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *PETASTORM], check=True)
    return str(python)


def say(text: str) -> None:
    """Tell how far it is."""
    print(f"{time.strftime('%X')} {text}", file=sys.stderr, flush=True)


def read(system: str, case: str, path: Path, rows: int, batch: int, folder: Path) -> dict[str, float] | None:
    """What one reader measured; None where it does not run here."""
    python = petastorm_python(folder) if system.startswith("petastorm") else sys.executable
    command = [python, str(READER), system, case, str(path), str(rows), str(batch)]
    env = {**ALLOCATORS, **os.environ}
    if system.startswith("petastorm"):
        env["PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION"] = "python"
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, env=env)
    if done.returncode:
        say(f"{system} does not run here: {(done.stderr.strip().splitlines() or ['no output'])[-1]}")
        return None
    found: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    say(f"{system}: {found['rows_s']:,.0f} rows/s")
    return found


def rates(case: str, batch: int, rows: int, repeats: int, folder: Path, without: list[str]) -> list[dict[str, Any]]:
    """Rows a second of every system of a case, and the ratio to the limit."""
    path = make(folder, case, rows)
    found: dict[str, list[dict[str, float]]] = {}
    for _ in range(repeats):
        for system, share in SYSTEMS[case].items():
            if found.get(system) == [] or system in without:
                continue
            say(f"{case}, batches of {batch}: {system}")
            seen = read(system, case, path, int(rows * share), batch, folder)
            found.setdefault(system, []).extend([seen] if seen else [])
    medians = {system: statistics.median(seen["rows_s"] for seen in runs) for system, runs in found.items() if runs}
    reference = min((limit for limit in LIMITS if limit in medians), key=medians.__getitem__, default="parse_example")
    size = path.stat().st_size / rows
    return [
        {
            "case": f"{case}, batches of {batch}",
            "system": system,
            "value": round(value),
            "unit": "rows/s",
            "reference": reference,
            "ratio": round(value / medians[reference], 3),
            "mb_s": round(value * size / 2**20, 1),
            "peak_mb": round(statistics.median(seen["peak_mb"] for seen in found[system])),
        }
        for system, value in medians.items()
    ]


def timed(work: Callable[[], Any]) -> float:
    """Seconds that `work` took, begun when nothing of what went before is at work any longer."""
    gc.collect()
    busy = 0.0
    while time.process_time() - busy > 0.01:
        busy = time.process_time()
        time.sleep(0.2)
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def first_batches(folder: Path, repeats: int) -> list[dict[str, Any]]:
    """Seconds to the first batch: 1,000 new files, 10,000 files whose footers are known, an epoch begun at its end."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from pipelines.dataset import read_dataset
    from pipelines.shards import Span

    path = make(folder, "numeric", ROWS["numeric"][1])
    rows = ROWS["numeric"][1]

    def first(files: Path, **options: Any) -> None:
        next(iter(read_dataset(str(files), batch=1024, label="label", **options)))

    first(path)
    found: dict[str, list[float]] = {}
    for _ in range(repeats):
        for count in (1000, 10_000):
            files = many(folder, count)
            with tempfile.TemporaryDirectory() as cache:
                os.environ["XDG_CACHE_HOME"] = cache
                found.setdefault(f"{count:,} new files", []).append(timed(lambda files=files: first(files)))  # type: ignore[misc]
                found.setdefault(f"{count:,} known files", []).append(timed(lambda files=files: first(files)))  # type: ignore[misc]
        found.setdefault("begin of an epoch", []).append(timed(lambda: first(path)))
        last = (Span(0, rows - 1024, rows),)
        found.setdefault("last batch of an epoch", []).append(timed(lambda last=last: first(path, line=last)))  # type: ignore[misc]
    reference = statistics.median(found["begin of an epoch"])
    return [
        {"case": "first batch", "system": name, "value": round(statistics.median(seconds), 3), "unit": "s",
         "reference": "begin of an epoch", "ratio": round(statistics.median(seconds) / reference, 2)}
        for name, seconds in found.items()
    ]  # fmt: skip


def show(rows: list[dict[str, Any]]) -> None:
    """Print the table that the docs show."""
    import pyarrow
    import tensorflow as tf

    versions = f"Python {platform.python_version()}, TensorFlow {tf.__version__}, Arrow {pyarrow.__version__}"
    table = Table("case", "system", "value", "unit", "ratio", "to", "MB/s of file", "peak MB", title=versions)
    for row in rows:
        value = f"{row['value']:,}" if row["unit"] == "rows/s" else f"{row['value']:g}"
        more = (str(row.get("mb_s", "")), str(row.get("peak_mb", "")))
        table.add_row(row["case"], row["system"], value, row["unit"], f"{row['ratio']:g}", row["reference"], *more)
    Console(width=140).print(f"{os.cpu_count()} cores", table)


def main() -> None:
    """Measure, print the table, write the JSON file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a quarter of the rows and one repeat")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", nargs="*", choices=[*SYSTEMS, "first"], help="cases; default: all")
    parser.add_argument("--without", nargs="*", default=[], help="systems that are left out")
    parser.add_argument("--json", type=Path, help="write the rows there")
    parser.add_argument("--data", type=Path, default=Path(tempfile.gettempdir(), "ray-tfcluster-ingest"))
    options = parser.parse_args()
    options.data.mkdir(parents=True, exist_ok=True)
    repeats = 1 if options.quick else options.repeats
    found: list[dict[str, Any]] = []
    for case in options.only or [*SYSTEMS, "first"]:
        if case == "first":
            found += first_batches(options.data, options.repeats)
            continue
        for batch in (1024, 8192):
            found += rates(case, batch, ROWS[case][int(options.quick)], repeats, options.data, options.without)
    show(found)
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
