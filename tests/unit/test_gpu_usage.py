"""What a task's samples tell of its GPUs, asked through NVIDIA's own module of a driver that is simulated."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cluster.usage import Sample
from tests.simulated_gpu import build

GIB = 1 << 30
FIRST, SECOND = f"GPU-8932f937-d72c 40 {GIB} ok", f"GPU-5a3b1c22-0000 60 {2 * GIB} ok"
PART = f"MIG-c6d4f1ef-42e4 0 {3 * GIB} mig"
#: Samples its own session, whenever it is told to.
SAMPLES = """
import json, os, sys
from cluster.usage import Sampler
sampler = Sampler(os.getpid(), sys.argv[1:])
for _ in sys.stdin:
    print(json.dumps(sampler.sample()), flush=True)
"""
Watch = Callable[..., Callable[..., Sample]]


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("driver"), "nvml")


@pytest.fixture
def watch(driver: Path, tmp_path: Path) -> Iterator[Watch]:
    """Sample a task that has these GPUs: a function of the driver's GPUs that takes the next sample."""
    started = []

    def begin(*gpus: str, at_first: tuple[str, ...] = (FIRST, SECOND, PART)) -> Callable[..., Sample]:
        table = tmp_path / "gpus"
        table.write_text("\n".join(at_first))
        env = {**os.environ, "LD_LIBRARY_PATH": str(driver), "SIMULATED_GPUS": str(table), "CUDA_VISIBLE_DEVICES": "1"}
        process = subprocess.Popen(
            [sys.executable, "-c", SAMPLES, *gpus],
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(process)

        def sample(*now: str) -> Sample:
            if now:
                table.write_text("\n".join(now))
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write("\n")
            process.stdin.flush()
            found: Sample = json.loads(process.stdout.readline())
            assert found.pop("memory") > 1 << 20
            assert found.pop("cpus") >= 0
            assert found.pop("seconds") > 0
            return found

        return sample

    yield begin
    for process in started:
        process.communicate()


@pytest.mark.parametrize(
    ("gpus", "expected"),
    [
        pytest.param(["0"], {"gpu": 0.4, "gpu_memory": GIB}, id="index"),
        pytest.param(["GPU-5a3b1c22-0000"], {"gpu": 0.6, "gpu_memory": 2 * GIB}, id="uuid"),
        pytest.param(["GPU-8932"], {"gpu": 0.4, "gpu_memory": GIB}, id="beginning of a uuid"),
        pytest.param(["1", "0"], {"gpu": 0.5, "gpu_memory": 3 * GIB}, id="two"),
        pytest.param(["0", "7"], {"gpu": 0.4, "gpu_memory": GIB}, id="one of two unknown"),
        pytest.param(["MIG-c6d4f1ef-42e4"], {"gpu_memory": 3 * GIB}, id="part of a gpu"),
        pytest.param(["GPU-77"], {}, id="unknown"),
    ],
)
def test_gpus_are_found_by_what_ray_calls_them(gpus: list[str], expected: Sample, watch: Watch) -> None:
    """CUDA_VISIBLE_DEVICES of the one who asks changes nothing."""
    assert watch(*gpus)() == expected


def test_a_gpu_that_is_lost_ends_no_samples(watch: Watch) -> None:
    sample = watch("0", "1")
    assert sample() == {"gpu": 0.5, "gpu_memory": 3 * GIB}
    lost = FIRST.replace("ok", "lost")
    assert sample(lost, SECOND) == {"gpu": 0.6, "gpu_memory": 2 * GIB}
    assert sample(lost, SECOND.replace("ok", "lost")) == {}
    assert sample(FIRST, SECOND.replace("60", "80")) == {"gpu": 0.6, "gpu_memory": 3 * GIB}


def test_a_gpu_that_is_lost_hides_none_that_is_named_by_the_beginning_of_its_uuid(watch: Watch) -> None:
    lost = FIRST.replace("ok", "lost")
    assert watch("GPU-5a3b", at_first=(lost, SECOND))() == {"gpu": 0.6, "gpu_memory": 2 * GIB}
    assert watch("", at_first=(FIRST, SECOND))() == {}


def test_a_driver_of_another_version_ends_no_samples(watch: Watch) -> None:
    assert watch("0", at_first=("mismatch",))() == {}
