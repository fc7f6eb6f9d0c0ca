"""TensorBoard's scalars without TensorFlow, as TensorBoard's own code reads them; and how the launcher writes them."""

from __future__ import annotations

import contextlib
import math
import struct
from pathlib import Path
from typing import Any, cast
from xml.etree import ElementTree

import pytest

from cluster.board_scalars import MAX_SHOWN
from cluster.curves import MAX_METRICS, MAX_POINTS
from cluster.errors import StorageError
from cluster.events import Event
from cluster.instruments import Instruments
from cluster.samples import FIRST
from cluster.scalars import event_file, header, scalars
from cluster.storage import RunDirectory
from cluster.tasks import Task

LEADER = Task("worker", 0)


def events_in(path: Path) -> list[Any]:
    """The events of a file, by TensorBoard's own reader of TFRecord files, which looks at checksums."""
    from tensorboard.compat.proto.event_pb2 import Event as TensorBoardEvent
    from tensorboard.compat.tensorflow_stub.errors import OutOfRangeError
    from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import PyRecordReader_New

    reader, found = PyRecordReader_New(str(path)), []
    with contextlib.suppress(OutOfRangeError):
        while True:
            reader.GetNext()
            found.append(TensorBoardEvent.FromString(reader.record()))
    return found


def test_tensorboard_reads_what_is_written(tmp_path: Path) -> None:
    path = tmp_path / event_file(1e9)
    assert "tfevents" in path.name
    path.write_bytes(header(1e9) + scalars(1e9 + 0.5, 0, {"a": 1.5}) + scalars(1e9 + 1, 300, {"a": -2.0, "ü/b": 3e9}))
    first, *rest = events_in(path)
    assert first.file_version == "brain.Event:2"
    assert first.wall_time == 1e9
    seen = [(e.wall_time, e.step, {v.tag: v.simple_value for v in e.summary.value}) for e in rest]
    large = struct.unpack("<f", struct.pack("<f", 3e9))[0]
    assert seen == [(1e9 + 0.5, 0, {"a": 1.5}), (1e9 + 1, 300, {"a": -2.0, "ü/b": large})]


def test_what_no_float32_holds_is_infinite(tmp_path: Path) -> None:
    path = tmp_path / event_file(1e9)
    path.write_bytes(header(1e9) + scalars(1e9, 1, {"high": 1e300, "low": -1e300, "nan": math.nan}))
    values = {value.tag: value.simple_value for value in events_in(path)[1].summary.value}
    assert (values["high"], values["low"]) == (math.inf, -math.inf)
    assert math.isnan(values["nan"])


@pytest.fixture
def directory(tmp_path: Path) -> RunDirectory:
    found = RunDirectory(f"{tmp_path}/runs/flights-1")
    found.create()
    return found


def test_use_becomes_events_and_a_run_of_tensorboard_for_each_task(directory: RunDirectory) -> None:
    instruments = Instruments(LEADER, (LEADER, Task("ps", 0)), directory)
    sample = {"cpus": 1.5, "memory": 3 << 30, "seconds": 5.0}
    instruments.sample(Event("usage", 1, LEADER, sample))
    assert instruments.due(1) == []  # others may be about to tell
    (event,) = instruments.rest(1)
    assert event.data == {"tasks": {"worker-0": {"cpus": 1.5, "memory": 3 << 30}}}
    assert instruments.rest(1) == []
    for _ in range(2):
        instruments.take(event)
    (folder,) = (directory.local / "tensorboard" / "system").iterdir()
    assert folder.name == "worker-0"
    (file,) = folder.iterdir()
    _, *points = events_in(file)
    tags = [{value.tag: value.simple_value for value in point.summary.value} for point in points]
    assert tags == [{"system/cpus": 1.5, "system/memory_gib": 3.0}] * 2
    assert FIRST > 0


def test_tensorboard_is_not_given_a_run_for_each_of_a_thousand_tasks(directory: RunDirectory) -> None:
    tasks = (*(Task("worker", index) for index in range(1000)), Task("ps", 0), Task("chief", 0))
    instruments = Instruments(LEADER, tasks, directory)
    sample = {"cpus": 1.0, "memory": 1}
    instruments.take(Event("usage", 1, data={"tasks": {str(task): sample for task in tasks}}))
    shown = {path.name for path in (directory.local / "tensorboard" / "system").iterdir()}
    assert len(shown) == MAX_SHOWN
    assert {"worker-0", "ps-0", "chief-0"} <= shown


def board(directory: RunDirectory) -> dict[str, dict[str, list[tuple[int, float]]]]:
    """Steps and values by run and tag, as TensorBoard's own back end has them."""
    from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
    from tensorboard.util.tensor_util import make_ndarray

    multiplexer = EventMultiplexer().AddRunsFromDirectory(str(directory.local / "tensorboard"))
    multiplexer.Reload()
    return {
        run: {
            tag: [(point.step, float(make_ndarray(point.tensor_proto))) for point in multiplexer.Tensors(run, tag)]
            for tag in tags["tensors"]
        }
        for run, tags in multiplexer.Runs().items()
    }


def reported(step: int, at: float, task: Task = LEADER, attempt: int = 1, **metrics: object) -> Event:
    return Event("step", attempt, task, {"step": step, "metrics": metrics, "batch": 64}, at)


def test_reports_and_evaluations_are_runs_of_tensorboard(directory: RunDirectory) -> None:
    evaluator = Task("evaluator", 0)
    instruments = Instruments(LEADER, (LEADER, Task("worker", 1), evaluator), directory)
    for event in (
        reported(10, 100.0, loss=2.0),
        reported(999, 100.5, Task("worker", 1), loss=9.0),
        reported(20, 101.0, loss="NaN", name="not a number"),
        reported(30, 102.0, loss=0.5, accuracy=0.75),
        reported(-1, 103.0, loss=0.5),
        Event("evaluated", 1, evaluator, {"step": 20, "metrics": {"loss": 3.0}}, 104.0),
        Event("evaluated", 1, evaluator, {"step": 30, "metrics": {}}, 105.0),
    ):
        instruments.take(event)
    seen = board(directory)
    assert set(seen) == {"reports", "evaluator"}
    assert set(seen["reports"]) == {"loss", "accuracy", "steps_per_second", "examples_per_second"}
    assert [(step, value) for step, value in seen["reports"]["loss"] if step != 20] == [(10, 2.0), (30, 0.5)]
    assert math.isnan(dict(seen["reports"]["loss"])[20])
    assert seen["reports"]["steps_per_second"] == [(20, 10.0), (30, 10.0)]
    assert seen["reports"]["examples_per_second"] == [(20, 640.0), (30, 640.0)]
    assert seen["evaluator"] == {"loss": [(20, 3.0)]}


def test_steps_that_are_made_again_after_a_restart_are_shown_once(directory: RunDirectory) -> None:
    instruments = Instruments(LEADER, (LEADER,), directory)
    for event in (
        *(reported(step, float(step), loss=1.0) for step in (10, 20, 30)),
        Event("attempt_started", 2, at=40.0),
        *(reported(step, 50.0 + step, attempt=2, loss=2.0) for step in (20, 40)),
    ):
        instruments.take(event)
    assert board(directory)["reports"]["loss"] == [(10, 1.0), (20, 2.0), (40, 2.0)]


def test_of_very_many_names_of_metrics_the_first_are_shown(directory: RunDirectory) -> None:
    instruments = Instruments(LEADER, (LEADER,), directory)
    for number in range(3 * MAX_METRICS):
        instruments.take(reported(number, float(number), **cast("Any", {f"loss_{number}": 1.0})))
    assert len(board(directory)["reports"]) == MAX_METRICS


def test_nothing_that_a_metric_is_called_or_worth_ends_the_run(directory: RunDirectory) -> None:
    instruments = Instruments(LEADER, (LEADER, Task("evaluator", 0)), directory)
    odd = {"bad\udc80": 1.0, "two\nlines": 1.0, "\x1b[1m": 1e308, "x" * 10_000: 1.0, "huge": 10**400, "loss": 0.5}
    for number in (1, 2, 2**70):
        instruments.take(reported(number, float(number), **cast("Any", odd)))
        instruments.take(Event("evaluated", 1, Task("evaluator", 0), {"step": number, "metrics": odd}, float(number)))
    seen = board(directory)
    assert seen["reports"]["loss"] == [(1, 0.5), (2, 0.5)]
    names = {r"bad\udc80", r"two\nlines", r"\x1b[1m", "x" * 199 + "…", "loss"}
    assert set(seen["evaluator"]) == names
    assert set(seen["reports"]) == names | {"steps_per_second", "examples_per_second"}
    assert instruments.result()["curve"] == "curve.svg"
    drawn = "".join(ElementTree.parse(directory.local / "curve.svg").getroot().itertext())
    assert r"bad\udc80" in drawn


def test_a_tag_that_is_no_text_is_written(tmp_path: Path) -> None:
    path = tmp_path / event_file(1e9)
    path.write_bytes(header(1e9) + scalars(1e9, 1, {"bad\udc80": 1.0}))
    assert [value.tag for value in events_in(path)[1].summary.value] == ["bad?"]


def test_the_result_tells_of_the_curves(directory: RunDirectory) -> None:
    instruments = Instruments(LEADER, (LEADER,), directory)
    for number in range(3 * MAX_POINTS):
        data = {"step": number, "metrics": {"loss": 1 / (number + 1)}, "batch": 32}
        instruments.take(Event("step", 1, LEADER, data, at=number / 100))
    result = instruments.result()
    assert result["steps_per_second"] == 100.0
    assert result["examples_per_second"] == 3200.0
    assert result["curve"] == "curve.svg"
    assert "loss" in (directory.local / "curve.svg").read_text()


def test_a_run_without_steps_has_no_curve(directory: RunDirectory) -> None:
    result = Instruments(LEADER, (LEADER,), directory).result()
    assert result["curve"] is None
    assert result["steps_per_second"] is None
    assert not (directory.local / "curve.svg").exists()


def test_a_full_disk_costs_the_picture_only(small_disk: Path) -> None:
    directory = RunDirectory(f"{small_disk}/flights-1")
    directory.create()
    instruments = Instruments(LEADER, (LEADER,), directory)
    for number in range(900):
        instruments.take(Event("step", 1, LEADER, {"step": number, "metrics": {"loss": 1.0}}, at=float(number)))
    with contextlib.suppress(OSError):
        (small_disk / "ballast").write_bytes(bytes(1 << 20))
    with pytest.raises(StorageError):
        directory.append("logs/x", "x" * 1_000_000)
    assert instruments.result()["curve"] is None
