"""Large traces: they come in pieces, are in their place before they are judged, and stay when nobody waits for that."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster import judging
from cluster.captures import Captures
from cluster.events import Event
from cluster.profiling import verdict_of
from cluster.pulls import PIECE
from cluster.storage import RunDirectory
from cluster.supervisor import Worker
from cluster.tasks import Task
from tests.ray.conftest import wait_until

pytestmark = pytest.mark.timeout(300)

RECORDED = Path(__file__).parents[1] / "data" / "traces" / "compute" / "worker-0.xplane.pb.gz"
FIRST, SECOND = Task("worker", 0), Task("worker", 1)


@pytest.fixture
def supervisor(ray_address: str) -> Iterator[Any]:
    """One without a task."""
    import ray

    actor = ray.remote(Worker).options(num_cpus=0).remote("worker-0")
    yield actor
    ray.kill(actor)


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """A trace of more than two pieces, whose verdict takes seconds: the planes of a recorded one, many times over."""
    planes = gzip.decompress(RECORDED.read_bytes())
    path = tmp_path / "large.xplane.pb"
    path.write_bytes(planes * (2 * PIECE // len(planes) + 1))
    return path


class Launcher:
    """Captures of a run, what they have told tasks, and what they have said."""

    def __init__(self, folder: Path) -> None:
        directory = RunDirectory(str(folder))
        directory.create()
        spec = {"entrypoint": "train.py:train", "roles": {"worker": 2}, "strategy": "multi_worker_mirrored"}
        directory.write("job.yaml", json.dumps(spec))
        self.told: list[tuple[str, str]] = []
        self.said: list[dict[str, Any]] = []
        self.folder = folder
        self.captures = Captures(directory, "multi_worker_mirrored", self.tell, self.said.append)

    def tell(self, task: Task, command: dict[str, Any]) -> None:
        self.told.append((str(task), str(command["kind"])))

    def ask(self, *tasks: Task) -> None:
        self.captures.request("c", {"kind": "profile", "seconds": 100}, tasks)

    def traced(self, task: Task, path: Path, supervisor: Any) -> None:
        message = {"id": "c", "status": "traced", "path": str(path), "notes": ["cut short"]}
        self.captures.take(Event("profile", 1, task, message), supervisor, [], None)

    def comes_to(self, status: str) -> dict[str, Any]:
        """Go on until the newest word on a capture is of that status; its data."""

        def there() -> bool:
            self.captures.tick()
            return bool(self.said[-1]["status"] == status)

        wait_until(there, f"no capture is {status}: {self.said}", 60)
        return self.said[-1]


def test_traces_are_in_place_before_they_are_judged_and_stay_when_the_run_ends_first(
    tmp_path: Path, large: Path, supervisor: Any
) -> None:
    run = Launcher(tmp_path / "run")
    run.ask(FIRST)
    run.traced(FIRST, large, supervisor)
    collected = run.comes_to("collected")
    trace = run.folder / collected["folder"] / "worker-0.xplane.pb"
    assert trace.read_bytes() == large.read_bytes()
    assert collected["tasks"] == {"worker-0": {"bytes": large.stat().st_size}}
    run.ask(SECOND)  # nobody need wait for the verdict
    assert run.told[-1] == ("worker-1", "trace")
    run.captures.finish(0.0)
    run.captures.close()
    first = next(said for said in run.said if said["status"] == "done")
    assert first["verdict"].startswith("no verdict yet: the run ended before; tfcluster profile RUN")
    assert trace.read_bytes() == large.read_bytes()
    assert not [path for path in run.folder.iterdir() if path.name.startswith(".capture")]
    assert not trace.with_name("verdict.json").exists()
    assert verdict_of(str(run.folder), first)["tasks"][0]["task"] == "worker-0"  # it is made when it is asked for


def test_a_verdict_is_waited_for_and_kept_beside_the_traces(tmp_path: Path, large: Path, supervisor: Any) -> None:
    run = Launcher(tmp_path / "run")
    run.ask(FIRST)
    run.traced(FIRST, large, supervisor)
    run.comes_to("collected")
    run.captures.finish(120.0)
    run.captures.close()
    verdict = json.loads((run.folder / run.said[-1]["folder"] / "verdict.json").read_text())
    assert verdict["sentence"] == run.said[-1]["verdict"]
    assert not verdict["sentence"].startswith("no verdict")
    short, of_task = run.said[-1]["notes"]
    assert short.startswith("it was cut short after ")
    assert short.endswith(" s of 100 s: its tasks ended")
    assert of_task == "the trace of worker-0: cut short"
    assert verdict["notes"][:2] == [short, of_task]
    assert ("worker-0", "trace_taken") in run.told


def test_without_memory_for_a_verdict_the_run_goes_on_and_it_is_made_elsewhere(
    tmp_path: Path, large: Path, supervisor: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judging, "free_memory", lambda: 5e7)
    run = Launcher(tmp_path / "run")
    run.ask(FIRST)
    run.traced(FIRST, large, supervisor)
    done = run.comes_to("done")
    run.captures.close()
    assert done["verdict"] == (
        f"no verdict: it takes {(1e8 + 12 * large.stat().st_size) / 1e9:.1f} GB of memory, and 0.0 GB may be taken; "
        "tfcluster profile RUN makes it, where there is more memory"
    )
    assert not (run.folder / done["folder"] / "verdict.json").exists()
    assert verdict_of(str(run.folder), done)["tasks"][0]["task"] == "worker-0"


def test_a_trace_that_comes_too_late_or_cannot_be_fetched_is_not_kept_by_its_task(
    tmp_path: Path, large: Path, supervisor: Any
) -> None:
    run = Launcher(tmp_path / "run")
    run.ask(FIRST)
    run.captures.give_up("it did not answer in time")
    run.comes_to("failed")
    run.traced(FIRST, large, supervisor)
    assert run.told == [("worker-0", "trace"), ("worker-0", "trace_taken")]
    run.ask(SECOND)
    run.traced(SECOND, tmp_path / "nowhere", supervisor)
    assert "could not be fetched" in run.comes_to("failed")["missing"]["worker-1"]
    assert run.told[-1] == ("worker-1", "trace_taken")
    run.captures.close()


def test_a_run_that_ends_keeps_the_traces_that_are_here_without_those_that_never_came(
    tmp_path: Path, large: Path, supervisor: Any
) -> None:
    run = Launcher(tmp_path / "run")
    run.ask(FIRST, SECOND)
    run.traced(FIRST, large, supervisor)
    wait_until(lambda: list(run.folder.glob(".capture-c/worker-0.xplane.pb")) != [], "no trace has come", 60)
    run.captures.finish(0.0)
    run.captures.close()
    assert run.said[-1]["missing"] == {"worker-1": "the run ended"}
    assert (run.folder / run.said[-1]["folder"] / "worker-0.xplane.pb").stat().st_size == large.stat().st_size
