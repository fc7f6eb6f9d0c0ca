"""Real jobs of which it is known what holds them back, traced; their verdicts, and TensorBoard's own plugin."""

from __future__ import annotations

import gzip
import json
import shutil
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from cluster.tensorboard import Server
from cluster.verdict import Verdict, judge_folder
from cluster.xplane import read_planes
from tests.tf import traced
from tests.tf.crew import Forge, cluster

pytestmark = pytest.mark.timeout(180)

#: Name of each capture's folder.
TIME = "2026_11_23_10_00_00"


class Capture(NamedTuple):
    """A capture of a real job: its verdict, and the step time in seconds that each task measured itself."""

    verdict: Verdict
    measured: Mapping[str, float]


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of runs, as TensorBoard is given it."""
    return tmp_path_factory.mktemp("logs")


def capture(
    forge: Forge, folder: Path, run: Path, jobs: Mapping[str, tuple[str, Mapping[str, Any]]], strategy: str
) -> Capture:
    """Start `jobs`, wait until all run steadily, and trace them over the same time."""
    scratch = folder / "scratch"
    scratch.mkdir(exist_ok=True)
    orders = {
        name: (function, {"folder": str(scratch), "task": name, **kwargs}) for name, (function, kwargs) in jobs.items()
    }
    target = run / "plugins" / "profile" / TIME
    target.mkdir(parents=True)
    measured = {}
    with traced.pipes(scratch, [*jobs]) as begin, cluster(forge, orders) as crew:
        for name in jobs:
            crew.event(name, lambda event: event in ("steady", "ready"))
        begin()
        for name in jobs:
            _, path, measured[name] = crew.event(name, lambda event: event[0] == "trace")
            shutil.copyfile(path, target / f"{name}.xplane.pb")
    return Capture(judge_folder(target, strategy=strategy, missing={}), measured)


def fits(forge: Forge, folder: Path, run: Path, kind: str) -> Capture:
    """Two workers that fit a model."""
    job = ("tests.tf.traced:fit", {"kind": kind})
    return capture(forge, folder, run, {"worker-0": job, "worker-1": job}, "multi_worker_mirrored")


def check_step_times(found: Capture) -> None:
    """The verdict's step times are those that the tasks measured."""
    for task in found.verdict.bottleneck.compared:
        assert task.steps.mean == pytest.approx(found.measured[task.task], rel=0.2), task.task


def test_an_input_bound_job(keras3: Forge, tmp_path: Path, logs: Path) -> None:
    found = fits(keras3, tmp_path, logs / "input", "input")
    verdict = found.verdict
    assert verdict.sentence.startswith("input-bound: ")
    assert verdict.bottleneck.stragglers == ()
    assert verdict.stages[0].what.type == "Map"
    assert any("py_function" in text for text in verdict.advice)
    assert 0.04 < verdict.bottleneck.step < 0.12
    assert verdict.to_document()["at_best"] < 0.75 * verdict.bottleneck.step
    check_step_times(found)


def test_a_compute_bound_job(keras3: Forge, tmp_path: Path, logs: Path) -> None:
    found = fits(keras3, tmp_path, logs / "compute", "compute")
    assert found.verdict.sentence.startswith("compute-bound: ")
    assert found.verdict.bottleneck.stragglers == ()
    assert "MatMul" in next(c.what.type for c in found.verdict.operations if not c.what.moves_data)
    assert found.verdict.tasks[0].steps.source == "marked train"
    check_step_times(found)


@pytest.fixture(scope="module")
def slow_pair(keras3: Forge, tmp_path_factory: pytest.TempPathFactory, logs: Path) -> Capture:
    """Two workers, of which the second sleeps 50 ms a step."""
    return fits(keras3, tmp_path_factory.mktemp("slow_pair"), logs / "straggler", "straggler")


def test_a_straggler(slow_pair: Capture) -> None:
    check_straggler(slow_pair)


def test_closures_of_thread_pools_are_not_recorded(slow_pair: Capture, logs: Path) -> None:
    path = logs / "straggler" / "plugins" / "profile" / TIME / "worker-0.xplane.pb"
    (host,) = [plane for plane in read_planes(path) if plane.name == "/host:CPU"]
    count = Counter(host.names[event.metadata_id][0].split("::")[0] for line in host.lines for event in line.events)
    assert count["ExecutorState"] > 100
    assert count["ThreadpoolListener"] < count["ExecutorState"] / 10  # those of the first moment; else they are more


def test_a_straggler_with_tf_keras(keras2: Forge, tmp_path: Path, logs: Path) -> None:
    check_straggler(fits(keras2, tmp_path, logs / "tf_keras", "straggler"))


def check_straggler(found: Capture) -> None:
    """The second worker holds the first up by its 50 ms."""
    (straggler,) = found.verdict.bottleneck.stragglers
    assert straggler.task == "worker-1"
    assert straggler.limit == "python"
    assert straggler.own == pytest.approx(0.055, rel=0.3)
    assert found.verdict.tasks[0].steps.source == "marked train"
    assert found.verdict.tasks[0].parts["communication"] > 0.6
    check_step_times(found)


def test_a_loop_that_python_holds_back(keras3: Forge, tmp_path: Path, logs: Path) -> None:
    job = ("tests.tf.traced:alone", {"kind": "python"})
    found = capture(keras3, tmp_path, logs / "python", {"worker-0": job}, "none")
    assert found.verdict.bottleneck.limit in ("python", "runtime")
    assert found.verdict.tasks[0].eager == pytest.approx(40, rel=0.1)
    assert "put the whole step into a tf.function" in found.verdict.advice[0]
    check_step_times(found)


def test_a_job_that_waits_for_its_own_reader(keras3: Forge, tmp_path: Path, logs: Path) -> None:
    write_rows(tmp_path / "scratch" / "rows")
    job = ("tests.tf.traced:alone", {"kind": "reader"})
    found = capture(keras3, tmp_path, logs / "reader", {"worker-0": job}, "none")
    assert found.verdict.sentence.startswith("input-bound: ")
    assert found.verdict.advice[0].startswith("the spec's dataset is read as fast as this task can")


def write_rows(folder: Path) -> None:
    """A Parquet file of which a batch of `traced.ROWS` takes tens of milliseconds to inflate, and hardly any Python."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.mkdir(parents=True)
    digits = np.random.default_rng(0).integers(10, size=(16, traced.ROWS))
    table = pa.table({f"c{i}": column for i, column in enumerate(digits)})
    kept = {"compression": "gzip", "compression_level": 1, "use_dictionary": False}
    with pq.ParquetWriter(folder / "rows.parquet", table.schema, **kept) as file:
        for _ in range(4):
            file.write_table(table)


@pytest.fixture(scope="module")
def served(keras3: Forge, tmp_path_factory: pytest.TempPathFactory, logs: Path) -> Capture:
    """A coordinator, two workers and a parameter server."""
    jobs: dict[str, tuple[str, dict[str, Any]]] = {"chief-0": ("tests.tf.traced:coordinate", {})}
    jobs |= {name: ("tests.tf.traced:serve", {}) for name in ("worker-0", "worker-1", "ps-0")}
    return capture(keras3, tmp_path_factory.mktemp("served"), logs / "served", jobs, "parameter_server")


def test_parameter_servers(served: Capture) -> None:
    verdict = served.verdict
    assert verdict.sentence.startswith("compute-bound: ")
    assert [task.task for task in verdict.tasks] == ["chief-0", "worker-0", "worker-1", "ps-0"]
    assert [task.task for task in verdict.bottleneck.compared] == ["worker-0", "worker-1"]
    # The coordinator hands out four steps at a time, two to each worker.
    assert 2 * verdict.bottleneck.step == pytest.approx(served.measured["chief-0"], rel=0.4)
    assert "MatMul" in next(c.what.type for c in verdict.operations if not c.what.moves_data)


@pytest.fixture(scope="module")
def board(served: Capture, slow_pair: Capture, logs: Path) -> Iterator[str]:
    """The address of a TensorBoard with the captures of the parameter servers and of the pair."""
    if find_spec("xprof") is None:
        pytest.skip("xprof is not installed: pip install 'ray-tfcluster[profile]'")
    server = Server(Runs(logs), "localhost", 0)
    yield server.address()
    server.end()


@dataclass
class Runs:
    """What TensorBoard serves."""

    folder: Path
    title: str = "captures"

    def refresh(self) -> None:
        """The folder does not change."""


@pytest.mark.parametrize(
    ("run", "hosts"),
    [("served", ["chief-0", "ps-0", "worker-0", "worker-1"]), ("straggler", ["worker-0", "worker-1"])],
)
def test_tensorboards_own_plugin_shows_every_host(board: str, run: str, hosts: list[str]) -> None:
    name = f"{run}/{TIME}"
    assert name in asked(board, "runs")
    assert {"trace_viewer@", "overview_page"} <= {*asked(board, "run_tools", run=name)}
    assert sorted(host["hostname"] for host in asked(board, "hosts", run=name, tag="trace_viewer@")) == hosts
    shown = asked(board, "data", run=name, tag="trace_viewer@", hosts=",".join(hosts))
    processes = {event["args"]["name"] for event in shown["traceEvents"] if event.get("name") == "process_name"}
    assert {f"{host} /host:CPU" for host in hosts} <= processes


def test_tensorboards_own_plugin_sees_the_same_steps(board: str, slow_pair: Capture) -> None:
    tables = asked(board, "data", run=f"straggler/{TIME}", tag="overview_page", host="ALL_HOSTS")
    steps = next(table["p"] for table in tables if "steptime_ms_average" in table.get("p", {}))
    expected = 1000 * slow_pair.verdict.bottleneck.step
    assert float(steps["steptime_ms_average"]) == pytest.approx(expected, rel=0.1)


def asked(board: str, route: str, **words: str) -> Any:
    """What the plugin answers."""
    query = urllib.parse.urlencode(words)
    with urllib.request.urlopen(f"{board}data/plugin/profile/{route}?{query}", timeout=60) as answer:
        body = answer.read()
        packed = answer.headers.get("Content-Encoding") == "gzip"
    return json.loads(gzip.decompress(body) if packed else body)
