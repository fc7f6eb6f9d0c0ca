"""`tfcluster data` on Ray: exact in every direction, goes on after a kill, leaves nothing behind."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from pipelines.analyze import analyze, load
from pipelines.convert import Request, convert
from pipelines.errors import DataError
from pipelines.files import expand
from pipelines.inputs import FORMATS, Options, read
from pipelines.open_input import open_input
from pipelines.outputs import Target
from pipelines.quantiles import SAMPLES
from pipelines.ray_tasks import reduce, run
from tests.ray.conftest import JOBS, busy_resources, wait_until

pytestmark = pytest.mark.timeout(240)


def command(*words) -> list[str]:
    return [sys.executable, "-m", "cluster", "data", *map(str, words)]


def environment(address: str | None) -> dict[str, str]:
    env = {**os.environ, "PYTHONPATH": str(JOBS.parents[2])}
    env.pop("RAY_ADDRESS", None)
    return {**env, "RAY_ADDRESS": address} if address else env


def tfcluster(*words, address: str | None = None) -> subprocess.CompletedProcess[str]:
    env = environment(address)
    return subprocess.run(command(*words), env=env, capture_output=True, text=True, timeout=200, check=False)


def rows(count: int, seed: int = 0) -> pa.Table:
    rng = np.random.default_rng(seed)
    missing = rng.random(count) < 0.1
    return pa.table(
        {
            "id": np.arange(count),
            "delay": pa.array(rng.normal(10, 40, count).astype(np.float32), mask=missing),
            "distance": pa.array(rng.integers(50, 5000, count), pa.int32()),
            "carrier": pa.array(rng.choice(["AA", "B6", "DL", "NA", ""], count), mask=missing),
            "when": pa.array(np.arange(count) * 1000, pa.timestamp("ms")),
            "ok": pa.array(rng.random(count) < 0.5),
        }
    )


def table_of(path: object) -> pa.Table:
    source = open_input(str(path))
    batches = read(source, 0, sum(source.lengths))
    return pa.Table.from_batches(batches, schema=source.schema).combine_chunks()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    for index in range(3):
        pq.write_table(rows(4000, index), folder / f"{index}.parquet", row_group_size=1500)
    return folder


def test_every_direction_gives_the_same_rows(ray_address, data, tmp_path):
    whole = table_of(data)
    for first, second in itertools.product(FORMATS, FORMATS):
        for source, out, to in (
            (data, tmp_path / first, first),
            (tmp_path / first, tmp_path / f"{first}-{second}", second),
        ):
            done = convert(Request((str(source),), str(out), Target(to), shard_bytes=100_000), run)
            assert done.rows == 12_000
            assert done.files > 1
            assert table_of(out).equals(whole), (first, second)


def test_the_command_converts_and_says_what_is_next(ray_address, data, tmp_path):
    out = tmp_path / "out"
    done = tfcluster("convert", data, out, "--to", "csv", "--shard-size", "200kB", address=ray_address)
    assert done.returncode == 0, done.stderr
    assert f"{out}: 12,000 rows in" in done.stdout
    assert f"next: tfcluster data inspect {out}" in done.stdout
    assert table_of(out).equals(table_of(data))
    again = tfcluster("convert", data, out, "--to", "csv", "--shard-size", "200kB", "--json")
    assert json.loads(again.stdout)["reused"] == json.loads(again.stdout)["files"]


def begin(data: Path, out: Path, address: str) -> subprocess.Popen[str]:
    """A conversion of many small files, one after the other, of which at least one is finished."""
    words = command("convert", data, out, "--to", "csv", "--shard-size", "8kB", "--parallel", "1")
    process = subprocess.Popen(
        words, env=environment(address), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    finished = out.with_name(f".{out.name}.unfinished") / "_done"
    wait_until(lambda: finished.is_dir() and any(finished.glob("part-*")), "no file was finished", 60)
    return process


def test_killed_in_the_middle_it_goes_on_with_what_is_left(ray_address, data, tmp_path):
    out = tmp_path / "out"
    process = begin(data, out, ray_address)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    assert not out.exists()
    with pytest.raises(DataError, match="no data file is there"):
        expand(str(tmp_path), (".csv",))
    words = ("convert", data, out, "--to", "csv", "--shard-size", "8kB", "--parallel", "3")
    done = tfcluster(*words, "--json", address=ray_address)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert 1 <= result["reused"] < result["files"]
    assert table_of(out).equals(table_of(data))


def test_ctrl_c_says_how_to_go_on(ray_address, data, tmp_path):
    process = begin(data, tmp_path / "out", ray_address)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "what is finished stays; go on with the same command: tfcluster data convert" in errors
    assert "Traceback" not in errors
    assert not (tmp_path / "out").exists()


def test_bad_data_is_exit_code_3_and_names_the_line(ray_address, tmp_path):
    lines = [f"{row},{row}" for row in range(20_000)]
    lines[15_000] = "15000,oops"
    (tmp_path / "bad.csv").write_text("a,b\n" + "\n".join(lines) + "\n")
    words = ("convert", tmp_path / "bad.csv", tmp_path / "out", "--shard-size", "50kB", "--type", "b=int64")
    done = tfcluster(*words, "--parallel", 2, address=ray_address)
    assert done.returncode == 3
    assert f"invalid value 'oops' · {tmp_path}/bad.csv, line 15002, column b" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_analysis_says_what_arrow_says_of_the_whole(ray_address, data):
    whole = table_of(data)
    found = analyze([str(data)], Options(), reduce)
    again = analyze([str(data)], Options(), reduce)
    assert found == again
    assert found["rows"] == 12_000
    assert list(found["columns"]) == whole.column_names
    for name in ("id", "delay", "distance"):
        column, values = found["columns"][name], whole[name]
        assert (column["count"], column["missing"]) == (pc.count(values).as_py(), values.null_count)
        assert (column["min"], column["max"]) == tuple(pc.min_max(values).as_py().values())
        assert column["mean"] == pytest.approx(pc.mean(values.cast(pa.float64())).as_py(), rel=1e-12)
        assert column["variance"] == pytest.approx(pc.variance(values.cast(pa.float64())).as_py(), rel=1e-9)
        quantiles = column["quantiles"]
        ordered = np.sort(values.drop_null().to_numpy())
        wanted = np.floor(np.arange(101) / 100 * (len(ordered) - 1)).astype(int)
        low = np.searchsorted(ordered, quantiles["values"], "left")
        high = np.searchsorted(ordered, quantiles["values"], "right") - 1
        assert quantiles["rank_error"] <= 12_000 / SAMPLES * 4
        assert (low - quantiles["rank_error"] <= wanted).all()
        assert (wanted <= high + quantiles["rank_error"]).all()
    words = found["columns"]["carrier"]
    counts = {entry["values"]: entry["counts"] for entry in pc.value_counts(whole["carrier"].drop_null()).to_pylist()}
    assert dict(zip(words["vocabulary"]["values"], words["vocabulary"]["counts"], strict=True)) == counts
    assert words["vocabulary"]["count_error"] == 0
    assert words["lengths"]["mean"] == pytest.approx(pc.mean(pc.binary_length(whole["carrier"])).as_py())
    assert found["columns"]["ok"]["mean"] == pytest.approx(pc.mean(whole["ok"].cast(pa.int8())).as_py())


@pytest.mark.usefixtures("no_leaks")
def test_on_a_ray_of_its_own_the_command_leaves_nothing_but_the_document(data, tmp_path):
    done = tfcluster("analyze", data, "--out", tmp_path / "out" / "analysis.json", "--columns", "delay,carrier")
    assert done.returncode == 0, done.stderr
    assert f"12,000 rows of 3 files: {tmp_path}/out/analysis.json" in done.stdout
    assert list(load(str(tmp_path / "out" / "analysis.json"))["columns"]) == ["delay", "carrier"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "out"]


def die_once(folder: Path, item: int) -> int:
    """Ends its process the first time that it is asked for item 3."""
    if item == 3:
        try:
            (folder / "died").touch(exist_ok=False)
        except FileExistsError:
            return item
        os.kill(os.getpid(), signal.SIGKILL)
    return item


def leave_a_mark(folder: Path, item: int) -> int:
    (folder / str(item)).touch()
    return item


def refuse(folder: Path, item: int) -> int:
    raise DataError("cannot read", f"{folder}, item {item}", "write it again")


def add(left: int, right: int) -> int:
    return left + right


def test_a_task_whose_process_dies_is_done_again(ray_address, tmp_path):
    assert sorted(run(die_once, tmp_path, range(8), parallel=2)) == list(range(8))
    assert (tmp_path / "died").exists()
    (tmp_path / "died").unlink()
    seen: list[None] = []
    assert reduce(die_once, tmp_path, range(40), add, done=lambda: seen.append(None)) == sum(range(40))
    assert len(seen) == 40


def test_an_error_of_a_task_is_raised_as_it_was(ray_address, tmp_path):
    with pytest.raises(DataError, match=f"cannot read · {tmp_path}, item 5 · write it again"):
        list(run(refuse, tmp_path, [5]))
    with pytest.raises(DataError, match="item 5"):
        reduce(refuse, tmp_path, [5, 5], add)


def test_whoever_stops_listening_has_no_more_tasks_begun(ray_address, tmp_path):
    results = run(leave_a_mark, tmp_path, range(100), parallel=2)
    next(results)
    del results
    wait_until(lambda: not busy_resources(), "tasks run on", 60)
    assert 1 <= len(list(tmp_path.iterdir())) <= 3
