"""The spec's datasets inside real jobs: each row on one worker, and on parameter servers."""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.checkpoints import positions
from cluster.errors import TaskLostError, UserCodeError
from tests.ray.conftest import kill

pytestmark = pytest.mark.timeout(240)


@pytest.fixture
def parquet(tmp_path) -> Path:
    """1,001 rows in three files of unequal row groups."""
    folder = Path(tmp_path, "data")
    folder.mkdir()
    ids = np.arange(1001)
    for number, part in enumerate(np.split(ids, [100, 700])):
        table = pa.table({"id": part, "x": part.astype(np.float32) / 1001, "y": part.astype(np.float32)})
        pq.write_table(table, folder / f"part-{number}.parquet", row_group_size=90)
    return folder


@pytest.mark.parametrize("shuffle", [False, True])
def test_each_row_is_on_exactly_one_worker_and_all_have_as_many_batches(start, parquet, shuffle):
    job = start(
        entrypoint="train.py:rows_seen",
        strategy="multi_worker_mirrored",
        roles={"worker": 3},
        success="all_workers",
        data={"train": {"files": str(parquet), "batch": 96, "shuffle": shuffle}},
    )
    job.join()
    values = [e.data["value"] for e in job.events if e.kind == "finished"]
    assert sorted(value["shard"] for value in values) == [0, 1, 2]
    assert len({len(value["batches"]) for value in values}) == 1
    assert max(len(batch) for value in values for batch in value["batches"]) <= 32
    assert sorted(i for value in values for batch in value["batches"] for i in batch) == list(range(1001))


def test_workers_that_see_other_files_are_refused(start, tmp_path, monkeypatch):
    for home, parts in enumerate((3, 2)):
        folder = tmp_path / str(home) / "data"
        folder.mkdir(parents=True)
        for part in range(parts):
            pq.write_table(pa.table({"id": range(100)}), folder / f"part-{part}.parquet")
    monkeypatch.setenv("HOME", str(tmp_path / "0"))
    job = start(
        entrypoint="train.py:rows_of_own_home",
        args={"homes": str(tmp_path)},
        strategy="multi_worker_mirrored",
        roles={"worker": 2},
        success="all_workers",
        data={"train": {"files": "~/data", "batch": 32}},
    )
    error = job.failure()
    assert isinstance(error, UserCodeError)
    assert "data.train is not the same on all tasks · worker-0: 300 rows in 3 files; worker-1: 200 rows" in str(error)
    assert "Traceback" not in str(error)


def test_data_in_memory_is_shared_out_too(start):
    job = start(
        entrypoint="train.py:rows_shared",
        strategy="multi_worker_mirrored",
        roles={"worker": 3},
        success="all_workers",
    )
    job.join()
    values = [e.data["value"] for e in job.events if e.kind == "finished"]
    assert sorted(tuple(row) for value in values for row in value["arrays"]) == [(i, i / 2) for i in range(1001)]
    assert sorted(i for value in values for i in value["rows"]) == list(range(1001))
    assert {value["steps"] for value in values} == {11}


def test_tf_keras_fits_on_parameter_servers_with_partitioned_variables(start, parquet):
    job = start(
        entrypoint="train.py:fit_on_servers",
        strategy="parameter_server",
        roles={"worker": 2, "ps": 2},
        partition={"shards": 2},
        data={"train": {"files": str(parquet), "batch": 32, "label": "y"}},
    )
    result = job.join()
    assert job.plan_seen.keras.major == "2"
    assert result.value["iterations"] == 16
    assert "Sharded" in result.value["kernel"]
    assert result.checkpoint == 16
    assert {e.data["batch"] for e in job.events if e.kind == "step"} == {32}


def test_keras_3_fit_on_parameter_servers_says_what_to_use(start, parquet):
    job = start(
        entrypoint="train.py:fit_on_servers",
        strategy="parameter_server",
        roles={"worker": 1, "ps": 1},
        keras="3",
        data={"train": {"files": str(parquet), "batch": 32, "label": "y"}},
    )
    error = job.failure()
    assert isinstance(error, UserCodeError)
    assert "keras: 2" in str(error)
    assert "ctx.coordinator" in str(error)
    assert "Traceback" not in str(error)


def test_a_batch_that_the_workers_cannot_share_is_refused(start, parquet):
    job = start(
        entrypoint="train.py:rows_seen",
        strategy="multi_worker_mirrored",
        roles={"worker": 3},
        data={"train": {"files": str(parquet), "batch": 100}},
    )
    assert job.failure().exit_code == 3
    assert job.events == []


def diary(folder):
    """By attempt, the lines that the tasks of `resume.py` wrote: what, epoch, step, ids."""
    found: dict[int, list[list]] = {}
    for path in sorted(folder.glob("*.jsonl")):
        attempt = int(path.stem.split("-")[0])
        found.setdefault(attempt, []).extend(json.loads(line) for line in path.read_text().splitlines())
    return found


def started_at(lines, attempt):
    """The step of the checkpoint that an attempt began with, the same on all its tasks."""
    (step,) = {step for what, _, step, _ in lines[attempt] if what == "start"}
    return step


def survivors(lines):
    """The lines of training that the last attempt's model has seen: up to where the attempt after it began."""
    found = []
    for attempt, written in lines.items():
        end = started_at(lines, attempt + 1) if attempt + 1 in lines else math.inf
        found += [line for line in written if line[0] == "train" and line[2] < end]
    return found


@pytest.mark.parametrize("keras", ["3", "2"])
@pytest.mark.parametrize("shuffle", [False, True])
def test_a_fit_that_is_killed_within_an_epoch_goes_on_at_the_next_row(start, parquet, tmp_path, keras, shuffle):
    folder = tmp_path / "diary"
    folder.mkdir()
    data = {"files": str(parquet), "batch": 64, "label": "y"}
    job = start(
        entrypoint="resume.py:fit",
        args={"folder": str(folder)},
        strategy="multi_worker_mirrored",
        roles={"worker": 2},
        keras=keras,
        checkpoint={"every": 3},
        failure={"max_restarts": 2, "backoff": "10ms"},
        data={"train": {**data, "shuffle": shuffle}, "valid": {**data, "batch": 128}},
    )
    result = job.join()
    assert result.attempts == 3
    lines = diary(folder)
    trained = survivors(lines)
    steps = 16  # 501 rows in batches of 32
    assert result.value["iterations"] == 3 * steps
    assert sorted({step for _, _, step, _ in trained}) == list(range(3 * steps))
    for epoch in range(3):
        rows = Counter(row for _, number, _, ids in trained if number == epoch for row in ids)
        assert rows == Counter(range(1001)), f"epoch {epoch}"
        assert {step for _, number, step, _ in trained if number == epoch} == {*range(epoch * 16, epoch * 16 + 16)}
    # Both kills were within an epoch, three batches after it began.
    assert [started_at(lines, attempt) for attempt in (1, 2, 3)] == [0, 16 + 3, 32 + 3]
    # Every evaluation that ended was on all rows of the other dataset, also those after a resumed epoch.
    tests: dict[tuple[int, int], Counter] = {}
    for attempt, written in lines.items():
        for what, epoch, _, ids in written:
            if what == "test":
                tests.setdefault((attempt, epoch), Counter()).update(ids)
    assert {epoch for _, epoch in tests} == {0, 1, 2}
    assert all(rows == Counter(range(1001)) for rows in tests.values())


def test_a_fit_with_shorter_epochs_than_the_data_goes_on_at_the_next_row(start, parquet, tmp_path):
    folder = tmp_path / "diary"
    folder.mkdir()
    data = {"files": str(parquet), "batch": 64, "label": "y"}
    job = start(
        entrypoint="resume.py:fit",
        args={"folder": str(folder), "epochs": 9, "steps": 7},
        strategy="multi_worker_mirrored",
        roles={"worker": 2},
        keras="3",
        checkpoint={"every": 3},
        failure={"max_restarts": 2, "backoff": "10ms"},
        data={"train": {**data, "shuffle": True}, "valid": {**data, "batch": 128}},
    )
    result = job.join()
    lines = diary(folder)
    trained = survivors(lines)
    steps = 16  # of the data, which are epochs of 7, 7 and 2 of Keras
    assert [started_at(lines, attempt) for attempt in (1, 2, 3)] == [0, 16 + 3, 32 + 3]
    assert result.value["iterations"] == 3 * steps
    for number in range(3):
        rows = Counter(row for _, _, step, ids in trained if step // steps == number for row in ids)
        assert rows == Counter(range(1001)), f"epoch {number} of the data"
    assert [len({step for _, epoch, step, _ in trained if epoch == number}) for number in range(9)] == [7, 7, 2] * 3


@pytest.mark.parametrize("every", [3, 8])
def test_a_loop_that_is_killed_within_an_epoch_goes_on_at_the_next_row(start, parquet, tmp_path, every):
    """With `every` 8, one of the checkpoints is the end of an epoch, of which then nothing is left."""
    folder = tmp_path / "diary"
    folder.mkdir()
    job = start(
        entrypoint="resume.py:loop",
        args={"folder": str(folder), "every": every},
        strategy="multi_worker_mirrored",
        roles={"worker": 2},
        failure={"max_restarts": 2, "backoff": "10ms"},
        data={"train": {"files": str(parquet), "batch": 64, "label": "y", "shuffle": True}},
    )
    result = job.join()
    assert result.attempts == 3
    lines = diary(folder)
    trained = survivors(lines)
    assert [started_at(lines, attempt) for attempt in (1, 2, 3)] == ([0, 21, 36] if every == 3 else [0, 16, 32])
    steps = 16
    assert result.value["iterations"] == 3 * steps
    for epoch in range(3):
        here = [ids for _, _, step, ids in trained if epoch * steps <= step < epoch * steps + steps]
        assert Counter(row for ids in here for row in ids) == Counter(range(1001)), f"epoch {epoch}"


def test_another_run_with_another_number_of_workers_goes_on_at_the_next_row(start, parquet, tmp_path):
    def train(name: str, workers: int, **more):
        folder = tmp_path / name
        folder.mkdir()
        return folder, start(
            name="flights",
            entrypoint="resume.py:loop",
            args={"folder": str(folder), "every": 4},
            strategy="multi_worker_mirrored",
            roles={"worker": workers},
            failure={"max_restarts": 0},
            data={"train": {"files": str(parquet), "batch": 96, "label": "y", "shuffle": True}},
            **more,
        )

    first, job = train("first", 2)
    assert isinstance(job.failure(), TaskLostError)
    stopped = job.events[0].data["run_dir"]
    second, again = train("second", 3, resume="latest")
    result = again.join()
    assert result.value["iterations"] == 33  # 1,001 rows are 11 steps
    assert f"goes on from checkpoint 20 of {stopped}" in [e.data["text"] for e in again.events if e.kind == "notice"]
    trained = [line for line in diary(first)[1] if line[0] == "train" and line[2] < 20]
    trained += [line for line in diary(second)[1] if line[0] == "train"]
    assert {line[2] for line in diary(second)[1] if line[0] == "train"} == set(range(20, 33))
    for epoch in range(3):
        rows = Counter(row for _, _, step, ids in trained if step // 11 == epoch for row in ids)
        assert rows == Counter(range(1001)), f"epoch {epoch}"


def rows_of_line(run_dir, name):
    """How often each row waits in the newest position of a run, and how many epochs had begun then."""
    position = positions(Path(run_dir, "checkpoints"))[-1]
    data = position.data[name]
    return Counter(row for _, start, stop in data["line"] for row in range(start, stop)), data["epoch"]


def test_parameter_servers_lose_no_row_when_a_worker_and_then_a_ps_is_lost(start, parquet, tmp_path):
    os.mkfifo(tmp_path / "go")
    job = start(
        entrypoint="servers.py:loop",
        args={"folder": str(tmp_path)},
        strategy="parameter_server",
        roles={"worker": 2, "ps": 1},
        failure={"max_restarts": 1, "backoff": "10ms"},
        data={"train": {"files": str(parquet), "batch": 32, "columns": ["id"]}},
    )
    job.wait_for("notice", lambda e: e.data["text"] == "stopped")
    kill(job.pid("worker-0"))  # which read ahead of the step that it did last
    job.wait_for("task_started", lambda e: str(e.task) == "worker-0")
    (tmp_path / "go").write_text("")
    job.wait_for("notice", lambda e: e.data["text"] == "stopped")
    kill(job.pid("ps-0"))
    result = job.join()
    assert result.attempts == 2
    waiting, epochs = rows_of_line(result.run_dir, "train")
    assert Counter(dict(enumerate(result.value["seen"]))) + waiting == Counter(dict.fromkeys(range(1001), epochs))
    assert result.value["steps"] == 70
    assert min(result.value["seen"]) >= 1  # 70 steps of 32 rows are two epochs and some


def test_a_tf_keras_fit_on_parameter_servers_goes_on_within_an_epoch_at_the_next_rows(start, parquet, tmp_path):
    os.mkfifo(tmp_path / "go")
    job = start(
        entrypoint="servers.py:fit",
        args={"folder": str(tmp_path)},
        strategy="parameter_server",
        roles={"worker": 2, "ps": 1},
        checkpoint={"every": 7},
        failure={"max_restarts": 1, "backoff": "10ms"},
        data={"train": {"files": str(parquet), "batch": 32, "label": "y"}},
    )
    job.wait_for("notice", lambda e: e.data["text"] == "stopped")
    kill(job.pid("ps-0"))
    result = job.join()
    assert result.attempts == 2
    assert max(e.data["step"] for e in job.events if e.kind == "checkpoint" and e.attempt == 1) == 34
    assert result.value["steps"] == 60
    assert result.value["error"] == 1.0  # on data that are not the spec's, which TensorFlow shares out
    waiting, epochs = rows_of_line(result.run_dir, "train")
    assert Counter(dict(enumerate(result.value["seen"]))) + waiting == Counter(dict.fromkeys(range(1001), epochs))
