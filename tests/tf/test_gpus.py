"""What TensorFlow's own tracer of GPUs writes down, and how it is read; NVIDIA's libraries are simulated."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cluster.trace_shares import Shares
from cluster.verdict import judge_folder
from tests.simulated_gpu import build
from tests.tf.gpu_steps import STEPS


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("libraries"), "cuda", "cupti")


@pytest.fixture(scope="module")
def capture(libraries: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a capture of steps on a GPU gave, and the processes that called NVIDIA's libraries."""
    folder = tmp_path_factory.mktemp("capture")
    env = {**os.environ, "LD_LIBRARY_PATH": str(libraries), "SIMULATED_CALLS": str(folder / "calls")}
    env.pop("CUDA_VISIBLE_DEVICES", None)
    command = [sys.executable, "-m", "tests.tf.gpu_steps", str(folder)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    calls = [line.split() for line in folder.joinpath("calls").read_text().splitlines()]
    return {**json.loads(done.stdout.splitlines()[-1]), "calls": calls}


@pytest.fixture(scope="module")
def task(capture: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Shares:
    """What the task did."""
    folder = tmp_path_factory.mktemp("judged")
    folder.joinpath("worker-0.xplane.pb").write_bytes(Path(capture["path"]).read_bytes())
    (found,) = judge_folder(folder, strategy="none", missing={}).tasks
    return found


def test_the_copy_that_collects_leaves_the_gpu_alone(capture: dict[str, Any]) -> None:
    """A call of NVIDIA's library there would wait for ever, and the trace would lack the host."""
    assert capture["notes"] == []
    assert {int(pid) for pid, _ in capture["calls"]} == {capture["pid"]}
    assert "cuptiActivityFlushAll" in {name for _, name in capture["calls"]}


def test_steps_on_a_gpu_are_read(task: Shares) -> None:
    assert (task.steps.source, task.gpus) == ("marked train", ["GPU:0"])
    assert task.steps.count + task.steps.pauses == STEPS - 1
    milliseconds = {part: 1000 * task.seconds(part) for part in task.parts}
    assert milliseconds["compute"] == pytest.approx(3.75, rel=0.01)  # a kernel, a copy within the GPU, a memset
    assert milliseconds["communication"] == pytest.approx(3, rel=0.01)  # NCCL, a copy to a peer
    assert milliseconds["runtime"] > 1  # a copy from the host


def test_each_event_of_a_gpu_is_there_once(task: Shares) -> None:
    costs: dict[tuple[str, str], tuple[Any, bool]] = {
        (c.what.type, c.what.name): (pytest.approx(c.calls, rel=0.5), c.what.moves_data)  # the last step may be long
        for c in task.operations
    }
    assert costs == {
        ("PyFunc", "dense_MatMul"): (1, False),
        ("NCCL", "ncclDevKernel_AllReduce_Sum_f32_RING_LL"): (1, True),
        ("MemcpyH2D", ""): (1, False),
        ("MemcpyP2P", ""): (1, True),
        ("MemcpyD2D", ""): (1, False),
        ("Memset", ""): (1, False),
    }
