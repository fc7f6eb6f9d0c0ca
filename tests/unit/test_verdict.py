"""Verdicts on recorded jobs of which it is known what held them back, and on tables of shares."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from cluster.advice import ORDINARY, TRACE_WORKERS, About, step_time
from cluster.trace_events import Operation
from cluster.trace_shares import PARTS, Cost, Shares, StepTimes
from cluster.verdict import Verdict, judge, judge_folder

RECORDED = Path(__file__).parents[1] / "data" / "traces"


def recorded(case: str, folder: Path, *leave_out: str) -> Path:
    """A folder with the traces of a recorded capture."""
    for path in RECORDED.joinpath(case).glob("*.gz"):
        if not path.name.startswith(leave_out or "-"):
            folder.joinpath(path.stem).write_bytes(gzip.decompress(path.read_bytes()))
    return folder


def verdict_on(
    case: str, folder: Path, about: About = ORDINARY, missing: Mapping[str, str] = MappingProxyType({})
) -> Verdict:
    strategy = "parameter_server" if case in ("servers", "coordinator") else "multi_worker_mirrored"
    return judge_folder(recorded(case, folder), strategy=strategy, missing=missing, about=about)


def shares(task: str, step: float = 0.1, *, feed: float = 0.0, steps: int = 30, **parts: float) -> Shares:
    """A task's shares; the rest of the step is `other`."""
    given = {part: parts.get(part, 0.0) for part in PARTS}
    given["other"] = 1 - sum(parts.values())
    return Shares(task, 3.0, StepTimes("marked train", steps, step, step, step, step), given, feed)


def judged(*tasks: Shares, strategy: str = "multi_worker_mirrored", **missing: str) -> Verdict:
    return judge(tasks, strategy=strategy, missing=missing)


@pytest.mark.parametrize(
    ("case", "limit", "sentence"),
    [
        ("input", "input", "input-bound: 41.8 ms of a step's 50.8 ms are spent waiting for the next batch"),
        ("input_loop", "input", "input-bound: "),
        ("compute", "compute", "compute-bound: operations compute in 101 ms of a step's 163 ms, MatMul the longest"),
        ("communication", "communication", "communication-bound: 197 ms of a step's 275 ms go into exchanging data"),
        ("straggler", "python", "worker-1 holds the others up: it needs 55.5 ms of a step's 66 ms itself, the others"),
        ("servers", "compute", "compute-bound: operations compute in 115 ms of a step's 162 ms, MatMul the longest"),
        ("coordinator", "coordinator", "bound by the coordinator: in 17.3 ms of a step's 26.8 ms a worker has nothing"),
    ],
)
def test_what_held_a_recorded_job_back(case: str, limit: str, sentence: str, tmp_path: Path) -> None:
    verdict = verdict_on(case, tmp_path)
    assert verdict.sentence.startswith(sentence)
    assert verdict.bottleneck.limit == limit
    assert [s.task for s in verdict.bottleneck.stragglers] == (["worker-1"] if case == "straggler" else [])
    assert verdict.advice
    for task in verdict.tasks:
        assert sum(task.parts.values()) == pytest.approx(1)
        assert min(task.parts.values()) >= 0


def test_a_pair_that_waits_for_input_in_turn_has_no_straggler(tmp_path: Path) -> None:
    """One is seen waiting for data, the other for the one; but the pipelines of both never rest."""
    verdict = verdict_on("input", tmp_path)
    first, second = verdict.tasks
    assert first.parts["communication"] > 0.9 > 0.8 < second.parts["input"]
    assert min(first.feed, second.feed) > 0.9
    assert 0 < verdict.to_document()["at_best"] < 0.2 * verdict.bottleneck.step
    assert verdict.stages[0].what.type == "Map"
    assert any("py_function" in text for text in verdict.advice)
    assert any("Map, runs on one thread" in text for text in verdict.advice)


def test_a_loop_that_runs_operations_one_by_one(tmp_path: Path) -> None:
    verdict = verdict_on("input_loop", tmp_path)
    assert all(task.eager > 15 for task in verdict.tasks)
    parts = dict.fromkeys(PARTS, 0.1) | {"other": 0.6}
    python_bound = judged(*(task._replace(feed=0.0, parts=parts) for task in verdict.tasks))
    assert python_bound.bottleneck.limit == "python"
    assert "put the whole step into a tf.function" in python_bound.advice[0]


def test_only_workers_of_parameter_servers_are_compared(tmp_path: Path) -> None:
    verdict = verdict_on("servers", tmp_path)
    assert [task.task for task in verdict.tasks] == ["chief-0", "worker-0", "worker-1", "ps-0"]
    assert [task.task for task in verdict.bottleneck.compared] == ["worker-0", "worker-1"]
    assert verdict.tasks[1].steps.source == "calls of step by the coordinator"
    assert any(cost.what.type == "_MklMatMul" for cost in verdict.tasks[1].operations)
    types = [row["type"] for row in verdict.to_document()["operations"]]
    assert "MatMul" in types
    assert not [name for name in types if name.startswith(("_Mkl", "_Fused"))]


def test_the_document_is_json_and_says_all(tmp_path: Path) -> None:
    verdict = verdict_on("straggler", tmp_path, missing={"worker-2": "it ended while it was traced"})
    document = json.loads(json.dumps(verdict.to_document(), allow_nan=False))
    assert document["sentence"] == verdict.sentence
    assert document["limit"] == "python"
    assert document["pace"] == "worker-1"
    assert document["missing"] == {"worker-2": "it ended while it was traced"}
    assert "no trace of worker-2: it ended while it was traced" in document["notes"]
    assert document["stragglers"][0]["task"] == "worker-1"
    assert document["stragglers"][0]["own"] == pytest.approx(0.055, rel=0.05)
    slow = document["tasks"][1]
    assert slow["steps"]["mean"] == pytest.approx(document["step"])
    assert set(slow["shares"]) == set(document["parts"]) == set(PARTS)
    assert 0 < document["at_best"] < document["step"] / 4
    assert document["operations"][0]["moves_data"]
    assert len(document["operations"]) <= 20


def test_a_damaged_trace_is_missing_and_the_others_are_judged(tmp_path: Path) -> None:
    recorded("straggler", tmp_path)
    data = (tmp_path / "worker-0.xplane.pb").read_bytes()
    (tmp_path / "worker-0.xplane.pb").write_bytes(data[: len(data) // 2])
    (tmp_path / "ALL_HOSTS.op_stats_v2.pb").write_bytes(b"what a viewer keeps here")
    verdict = judge_folder(tmp_path, strategy="multi_worker_mirrored", missing={"worker-3": "its node was lost"})
    assert [task.task for task in verdict.tasks] == ["worker-1"]
    assert verdict.missing == {"worker-0": "the trace is damaged", "worker-3": "its node was lost"}
    assert verdict.bottleneck.limit == "python"


def test_nothing_was_traced(tmp_path: Path) -> None:
    verdict = judge_folder(tmp_path, strategy="none", missing={"worker-0": "it ended"})
    assert verdict.sentence == "nothing was traced"
    assert verdict.notes == ("no trace of worker-0: it ended",)
    assert json.dumps(verdict.to_document())


@pytest.mark.parametrize("case", ["input", "compute", "communication", "servers"])
def test_a_script_is_advised_nothing_that_only_the_spec_of_an_entrypoint_has(case: str, tmp_path: Path) -> None:
    advice = verdict_on(case, tmp_path, about=About(script=True)).advice
    assert advice
    assert not [text for text in advice if "data.X" in text or "the spec's data" in text or "partition:" in text]
    if case == "communication":
        assert advice[0].startswith("a larger batch: the exchange")


def test_a_capture_that_the_job_has_cut_short_is_not_to_be_longer() -> None:
    still = Shares("worker-0", 0.3, StepTimes(), dict.fromkeys(PARTS, 0.0) | {"other": 1.0})
    short = judge([still], strategy="none", missing={}, about=About(cut=True))
    assert short.sentence == "no steps could be told apart: the capture was cut short"
    assert short.advice
    assert [text for text in short.advice if "longer" in text] == []
    few = judge([shares("worker-0", steps=3)], strategy="none", missing={}, about=About(cut=True))
    assert "only 3 steps were traced" in few.notes


def test_without_steps_it_says_how_to_mark_them() -> None:
    still = Shares("worker-0", 3.0, StepTimes(), dict.fromkeys(PARTS, 0.0) | {"other": 1.0})
    verdict = judged(still, strategy="none")
    assert verdict.sentence == "no steps could be told apart: trace longer, or mark the steps"
    assert any("tf.profiler.experimental.Trace('train', step_num=step, _r=1)" in text for text in verdict.advice)
    assert verdict.to_document()["pace"] is None


KEEPS_UP: Mapping[str, Any] = {"compute": 0.3, "communication": 0.65}


def test_stragglers_among_many() -> None:
    """Two of eight compute longer; the others wait for them in communication. All steps take equally long."""
    tasks = [shares(f"worker-{i}", **KEEPS_UP) for i in range(6)]
    slow = [shares("worker-6", compute=0.8, communication=0.1), shares("worker-7", compute=0.85, communication=0.05)]
    verdict = judged(*tasks, *slow)
    assert [s.task for s in verdict.bottleneck.stragglers] == ["worker-7", "worker-6"]
    assert verdict.sentence == (
        "worker-7 and 1 more hold the others up: worker-7 needs 95 ms of a step's 100 ms itself, the others 35 ms; "
        "its time goes into computing"
    )
    assert verdict.bottleneck.at_best == pytest.approx(0.04)
    assert "roles.worker.cpus" in " ".join(verdict.advice)


def test_a_task_that_waits_for_its_own_input_is_a_straggler_for_its_input() -> None:
    tasks = [shares("worker-0", communication=0.9), shares("worker-1", feed=0.97, input=0.8, communication=0.05)]
    verdict = judged(*tasks)
    assert [(s.task, s.limit) for s in verdict.bottleneck.stragglers] == [("worker-1", "input")]
    assert any("how fast worker-1 reads" in text for text in verdict.advice)


def test_a_task_alone_holds_nobody_up() -> None:
    verdict = judged(shares("worker-0", compute=0.1, runtime=0.7), strategy="none")
    assert verdict.bottleneck.stragglers == ()
    assert verdict.sentence.startswith("bound by TensorFlow's own overhead: in 70 ms of a step's 100 ms TensorFlow is")
    assert any("steps_per_execution" in text for text in verdict.advice)


def test_the_evaluator_is_no_straggler() -> None:
    tasks = [shares("worker-0", compute=0.9), shares("worker-1", compute=0.9), shares("evaluator-0", 5.0, compute=0.9)]
    verdict = judged(*tasks)
    assert verdict.bottleneck.stragglers == ()
    assert [task["compared"] for task in verdict.to_document()["tasks"]] == [True, True, False]


@pytest.mark.parametrize(
    ("task", "strategy", "sentence"),
    [
        ("evaluator-0", "multi_worker_mirrored", "of evaluator-0 alone: compute-bound: operations compute in 90 ms"),
        ("chief-0", "parameter_server", "of chief-0 alone: compute-bound: operations compute in 90 ms"),
    ],
)
def test_steps_of_a_task_that_does_not_train_are_judged_where_no_others_were_traced(
    task: str, strategy: str, sentence: str
) -> None:
    verdict = judged(shares("ps-0", 0.0, steps=0), shares(task, compute=0.9), strategy=strategy)
    assert verdict.sentence.startswith(sentence)
    assert verdict.advice[0] == TRACE_WORKERS
    document = verdict.to_document()
    assert (document["limit"], document["pace"]) == ("compute", task)
    assert [(t["task"], t["compared"]) for t in document["tasks"] if t["steps"]["count"]] == [(task, True)]


def test_a_coordinator_alone_waits_for_its_workers(tmp_path: Path) -> None:
    recorded("coordinator", tmp_path, "worker", "ps")
    verdict = judge_folder(tmp_path, strategy="parameter_server", missing={})
    assert verdict.tasks[0].steps.count > 0
    assert verdict.sentence.startswith("of chief-0 alone: in ")
    assert verdict.sentence.endswith(" it waits, or hands out steps")
    assert verdict.advice == (TRACE_WORKERS,)


def test_workers_without_steps_beside_a_coordinator_with_some() -> None:
    tasks = [shares("chief-0", compute=0.9), shares("worker-0", 0.0, steps=0)]
    verdict = judged(*tasks, strategy="parameter_server")
    assert verdict.sentence.startswith("of chief-0 alone: ")
    assert verdict.notes[0] == "no steps of the workers could be told apart; trace longer for those"
    assert verdict.advice[0].startswith("trace longer")


def test_parameter_servers_alone_make_no_steps(tmp_path: Path) -> None:
    verdict = judge_folder(recorded("servers", tmp_path, "worker", "chief"), strategy="parameter_server", missing={})
    assert verdict.sentence == "only parameter servers were traced, which make no steps"
    assert verdict.advice == (TRACE_WORKERS,)


def test_a_pipeline_at_its_limit_is_named_also_where_something_else_limits() -> None:
    verdict = judged(shares("worker-0", feed=0.95, compute=0.8, input=0.04), strategy="none")
    assert verdict.bottleneck.limit == "compute"
    assert verdict.notes == (
        "the input pipeline of worker-0 never rests: as soon as the step gets faster, it is what limits",
    )


def test_what_else_was_seen() -> None:
    steps = StepTimes("marked train", 30, 0.1, 0.1, 0.3, 0.4, 2, 3.5)
    task = shares("worker-0", compute=0.9)._replace(steps=steps, traced_anew={"step": 7})
    busy = shares("ps-0", 0.0, steps=0, compute=0.8)
    verdict = judged(task, busy, strategy="parameter_server")
    assert verdict.notes == (
        "worker-0: step was traced anew 7 times, as its arguments were new to it",
        "worker-0: 2 pauses of 3.5s in all not counted: between epochs, for a checkpoint, or for tracing a function",
        "worker-0: steps vary, one in twenty takes 300 ms and more",
        "ps-0 updates variables 80% of the time",
    )
    assert "input_signature" in verdict.advice[0]


def test_few_steps_are_named() -> None:
    assert judged(shares("worker-0", steps=3, compute=0.9)).notes[0].startswith("only 3 steps were traced")
    (note,) = judged(shares("worker-0", 0.01, compute=0.9)).notes
    assert note.startswith("whole steps fill less than half of the trace")


def test_tasks_are_in_the_order_of_roles_and_numbers() -> None:
    names = ["worker-10", "ps-0", "worker-2", "chief-0"]
    verdict = judged(*(shares(name, compute=0.9) for name in names), strategy="custom", **{"worker-1": "it ended"})
    assert [task.task for task in verdict.tasks] == ["chief-0", "worker-2", "worker-10", "ps-0"]


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.00005, "0.05 ms"), (0.0088, "8.8 ms"), (0.1624, "162 ms"), (2.04, "2.0s"), (75, "1m15s")]
)
def test_step_times(seconds: float, text: str) -> None:
    assert step_time(seconds) == text


def test_communication_is_that_of_the_task_that_waits_for_nobody() -> None:
    """The other one's also has its waiting for this one."""
    quick, slow = (
        shares("worker-0", compute=0.4, communication=0.6),
        shares("worker-1", compute=0.55, communication=0.45),
    )
    verdict = judged(quick, slow)
    assert verdict.bottleneck.stragglers == ()
    assert verdict.bottleneck.pace.task == "worker-1"
    assert verdict.bottleneck.limit == "compute"


@pytest.mark.parametrize(("feed", "limit"), [(0.85, "input"), (0.5, "compute")])
def test_a_short_wait_for_input_limits_if_the_pipeline_hardly_rests(feed: float, limit: str) -> None:
    verdict = judged(shares("worker-0", feed=feed, compute=0.5, input=0.2), strategy="none")
    assert verdict.bottleneck.limit == limit


@pytest.mark.parametrize(
    ("operation", "first"),
    [("tfcluster_read", "the spec's dataset is read as fast"), ("PyFunc", "Python prepares the data")],
)
def test_the_reader_of_the_spec_is_told_from_python_of_ones_own(operation: str, first: str) -> None:
    preparing = [Cost(Operation("PyFunc", operation), 0, 0.08)]
    task = shares("worker-0", feed=0.95, input=0.8)._replace(preparing=preparing)
    assert judged(task, strategy="none").advice[0].startswith(first)
