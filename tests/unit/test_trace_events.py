"""What events mean, and what parts a step has."""

from __future__ import annotations

from typing import Any

import pytest

from cluster.trace_events import Operation
from cluster.trace_shares import find_steps, shares_of
from tests.unit.written_traces import MS, activity


def marks(count: int, length: float = 100, name: str = "train", **more: Any) -> list:
    return [(name, i * length, length * 0.9, {"step_num": i, "_r": 1, **more}) for i in range(count)]


def percents(shares: Any) -> dict[str, int]:
    return {part: round(100 * share) for part, share in shares.parts.items()}


def test_an_instant_counts_once_and_goes_to_computation_first() -> None:
    """Threads compute from 10 to 40 of each step, wait for input from 30 to 60, and TensorFlow is at work until 80."""
    python = [*marks(4)]
    compute, more, waits = [], [], []
    for at in (0, 100, 200):
        compute.append(("dense/MatMul:MatMul", at + 10, 20))
        more.append(("dense/Relu:Relu", at + 20, 20))
        waits.append(("IteratorGetNextOp::DoCompute", at + 30, 30))
        python.append(("TFE_Py_ExecuteCancelable", at + 10, 70))
    lines = {"python": python, "tf_Compute/1": compute, "tf_Compute/2": more, "tf_data_iterator_get_next/3": waits}
    shares = shares_of("worker-0", activity(lines))
    assert percents(shares) == {"compute": 30, "input": 20, "communication": 0, "runtime": 20, "other": 30}
    assert sum(shares.parts.values()) == pytest.approx(1)
    assert shares.steps._replace(mean=round(shares.steps.mean, 6)) == (
        "marked train", 3, 0.1, *shares.steps[3:]
    )  # fmt: skip


def test_functions_that_contain_operations_do_not_compute() -> None:
    lines: dict[str, list] = {
        "python": marks(3),
        "tf_Compute/1": [
            ("call:StatefulPartitionedCall", 0, 90),
            ("loop:While", 0, 90),
            ("EagerService:Enqueue", 0, 90),
            ("a:AddV2", 0, 10),
            ("EagerLocalExecute: __inference_step_12", 0, 90),
        ],
    }
    found = activity(lines)
    assert found.compute.length == 10 * MS
    assert [*found.operations] == [Operation("AddV2", "a")]
    assert [*found.remote] == [(0, "step")]


def test_an_exchange_lasts_until_its_other_end_has_answered() -> None:
    """Its own event ends at once."""
    about: dict[str, Any] = {"kernel_type": "CollectiveReduceV2", "name": "sum", "step_id": 7}
    start = ("ExecutorState::ProcessAsync::Start", 10, 1, about)
    done = ("ExecutorState::ProcessAsync::Done", 59, 1, about)
    other = ("ExecutorState::ProcessAsync::Done", 80, 1, {**about, "step_id": 8})
    lines: dict[str, list] = {
        "tf_Compute/1": [start, ("sum:CollectiveReduceV2", 10, 2)],
        "collective_ops/2": [done, other],
    }
    found = activity(lines)
    assert found.communication.length == 50 * MS
    assert found.operations[Operation("CollectiveReduceV2", "sum")] == [1, 50 * MS]
    assert not found.compute


def test_stages_have_their_own_time_and_waiting_for_another_thread_is_none() -> None:
    root = "Iterator::Root::Prefetch"
    produce = [
        ("PrefetchProduce", 0, 80),
        (f"{root}::Map", 0, 80),
        (f"{root}::Map::Shard[0]", 10, 30),
        (f"{root}::Map::Shard[0]::TFRecord", 10, 20),
        ("image:PyFunc", 45, 30),
    ]
    lines = {
        "python": [("IteratorGetNext:IteratorGetNext", 0, 1), *marks(1), ("train", 100, 0, {"step_num": 1, "_r": 1})],
        "tf_data_iterator_resource/1": produce,
        "tf_data_iterator_get_next/2": [("Iterator::Root", 0, 50), (root, 0, 50)],
    }
    shares = shares_of("worker-0", activity(lines, length=100))
    assert [(cost.what.type, round(1000 * cost.seconds)) for cost in shares.stages] == [
        ("Map", 50),
        ("TFRecord", 20),
        ("Shard", 10),
    ]
    assert shares.feed == pytest.approx(0.8)
    assert [(*cost.what, round(1000 * cost.seconds)) for cost in shares.preparing] == [("PyFunc", "image", False, 30)]
    assert shares.parts["compute"] == 0


def on_gpu(name: str, start: float, length: float, **more: Any) -> tuple:
    return name, start, length, {"correlation_id": 7, **more}


def of_gpus(streams: dict[str, list], host: dict[str, list] | None = None) -> Any:
    """Of a task with one GPU and one step of 100 ms."""
    host = {"python": marks(2), "tf_Compute/1": [("model/dense/MatMul:MatMul", 0, 90)], **(host or {})}
    return shares_of("worker-0", activity(host, {"/device:GPU:0": streams}, length=100))


def test_on_a_gpu_its_kernels_compute_and_the_host_only_starts_them() -> None:
    """Names as TensorFlow's tracer writes them, see `tests/tf/test_gpus.py`."""
    kernel = on_gpu("gemm_f32(float*)", 10, 40, tf_op="model/dense/MatMul:MatMul")
    nccl = on_gpu("ncclDevKernel_AllReduce_Sum_f32_RING_LL(ncclDevComm*)", 50, 20, tf_op="sum:CollectiveReduceV2")
    streams: dict[str, list] = {
        "Stream #13(Compute,MemcpyD2D,Memset)": [kernel, on_gpu("MemcpyD2D", 70, 2), on_gpu("Memset 0", 72, 1)],
        "Stream #14(Compute)": [nccl],
        "Stream #15(MemcpyH2D)": [on_gpu("MemcpyH2D", 0, 10)],
        "Stream #16(MemcpyP2P)": [on_gpu("MemcpyP2P", 73, 7)],
        "TensorFlow Ops": [("model/dense/MatMul", 0, 90)],  # made by viewers out of the streams
    }
    shares = of_gpus(streams)
    assert percents(shares) == {"compute": 43, "input": 0, "communication": 27, "runtime": 20, "other": 10}
    assert [(*c.what, c.what.moves_data) for c in shares.operations] == [
        ("MatMul", "model/dense/MatMul", True, False),
        ("NCCL", "ncclDevKernel_AllReduce_Sum_f32_RING_LL(ncclDevComm*)", True, True),
        ("MemcpyH2D", "", True, False),
        ("MemcpyP2P", "", True, True),
        ("MemcpyD2D", "", True, False),
        ("Memset", "", True, False),
    ]
    assert shares.gpus == ["GPU:0"]


def test_a_stream_with_overhead_of_the_profiler_is_a_stream() -> None:
    """TensorFlow calls the whole line so; that NVIDIA's profiler works itself is no kernel."""
    shares = of_gpus({"CUPTI overhead": [on_gpu("gemm", 10, 40), ("BUFFER_FLUSH", 50, 30)]})
    assert percents(shares)["compute"] == 40
    assert [c.what.type for c in shares.operations] == ["gemm"]


def test_kernels_of_a_compiled_step_are_told_apart() -> None:
    about = {"tf_op": "StatefulPartitionedCall:StatefulPartitionedCall", "hlo_module": "a_inference_step_12"}
    streams = {
        "Stream #13(Compute)": [
            on_gpu("loop_fusion_3", 10, 20, hlo_op="loop_multiply_fusion.3", **about),
            on_gpu("cutlass_gemm", 30, 40, hlo_op="cublas-gemm.1.0", **about),
            on_gpu("loop_add", 70, 10, hlo_op="call.1", cuda_graph_id=3, **about),  # all of a graph have that one
        ]
    }
    assert [(c.what.type, c.what.name) for c in of_gpus(streams).operations] == [
        ("cublas-gemm", "cublas-gemm.1.0"),
        ("loop_multiply_fusion", "loop_multiply_fusion.3"),
        ("loop_add", "loop_add"),
    ]


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("void tensorflow::Fill<Half, Philox<int> >(long const*, Half*)", "tensorflow::Fill"),
        ("void (anonymous namespace)::softmax<float>(float*)", "(anonymous namespace)::softmax"),
        ("ampere_sgemm_128x64_tn", "ampere_sgemm_128x64_tn"),
    ],
)
def test_a_kernel_that_no_operation_is_known_of_is_called_by_its_short_name(name: str, shown: str) -> None:
    (cost,) = of_gpus({"Stream #13(Compute)": [on_gpu(name, 10, 40)]}).operations
    assert (cost.what.type, cost.what.name) == (shown, name)


def test_with_gpus_tasks_may_exchange_data_through_the_host() -> None:
    about: dict[str, Any] = {"kernel_type": "CollectiveReduceV2", "name": "sum", "step_id": 7}
    receive: dict[str, Any] = {"kernel_type": "_HostRecv", "name": "n/_1", "step_id": 7}
    host: dict[str, list] = {
        "tf_Compute/2": [
            ("ExecutorState::ProcessAsync::Start", 0, 1, receive),
            ("ExecutorState::ProcessAsync::Start", 40, 1, about),
        ],
        "ring/3": [
            ("ExecutorState::ProcessAsync::Done", 79, 1, about),
            ("ExecutorState::ProcessAsync::Done", 94, 1, receive),  # waits for a GPU of the same task
        ],
    }
    streams: dict[str, list] = {"Stream #13(Compute)": [on_gpu("gemm", 10, 40)]}
    shares = of_gpus(streams, host)
    assert percents(shares) == {"compute": 40, "input": 0, "communication": 30, "runtime": 25, "other": 5}
    assert [c.what.type for c in shares.operations] == ["gemm", "CollectiveReduceV2"]
    streams["Stream #14(Compute)"] = [on_gpu("ncclDevKernel_AllReduce", 50, 5)]  # which say it better
    shares = of_gpus(streams, host)
    assert percents(shares)["communication"] == 5
    assert [c.what.type for c in shares.operations] == ["gemm", "NCCL"]


def test_functions_that_are_traced_anew_are_counted() -> None:
    calls = [
        ("step", 100 * i, 90, {"tf_function_call": "traced-nonXla" if i < 3 else "notTraced-nonXla"}) for i in range(5)
    ]
    inner = [("loss", 10, 5, {"tf_function_call": "traced-nonXla"})]  # called while the first is traced
    shares = shares_of("worker-0", activity({"python": [*calls, *inner]}))
    assert shares.traced_anew == {"step": 3}
    assert (shares.steps.source, shares.steps.count) == ("calls of step", 4)


def test_steps_are_marks_rather_than_calls_and_training_rather_than_evaluation() -> None:
    calls = [("train_function", 100 * i, 80, {"tf_function_call": "notTraced-nonXla"}) for i in range(4)]
    evaluation = [("test", 400 + 100 * i, 99, {"step_num": i, "_r": 1}) for i in range(5)]
    assert find_steps(activity({"python": [*marks(4), *calls, *evaluation]}))[0] == "marked train"
    assert find_steps(activity({"python": [*calls, *evaluation[:1]]}))[0] == "calls of train_function"
    assert find_steps(activity({"python": evaluation}))[0] == "marked test"
    assert find_steps(activity({"python": calls[:2]}))[0] == ""


def test_several_steps_in_one_call() -> None:
    several = [("train", 100 * i, 90, {"step_num": 10 * i, "_r": 1}) for i in range(4)]
    steps = shares_of("worker-0", activity({"python": several})).steps
    assert (steps.count, round(steps.mean, 6)) == (30, 0.01)


def test_pauses_are_no_steps() -> None:
    later = [("train", 5000 + 10 * i, 9, {"step_num": 10 + i, "_r": 1}) for i in range(10)]
    steps = shares_of("worker-0", activity({"python": [*marks(10, 10), *later]}, length=6000)).steps
    assert (steps.count, steps.pauses) == (18, 1)
    assert steps.longest == pytest.approx(0.01)
    assert steps.paused == pytest.approx(4.91)


def test_a_long_wait_for_input_is_no_pause() -> None:
    """Readers that decode many batches at once have steps come in bursts."""
    later = [("train", 5000 + 10 * i, 9, {"step_num": 10 + i, "_r": 1}) for i in range(10)]
    waits = [("IteratorGetNextOp::DoCompute", 1000, 3900)]
    lines = {"python": [*marks(10, 10), *later], "tf_data_iterator_get_next/1": waits}
    shares = shares_of("worker-0", activity(lines, length=6000))
    assert (shares.steps.count, shares.steps.pauses) == (19, 0)
    assert shares.parts["input"] > 0.7


def test_a_task_without_steps_has_shares_of_the_whole_trace() -> None:
    shares = shares_of("ps-0", activity({"tf_Compute/1": [("v:AssignSubVariableOp", 0, 250)]}))
    assert shares.steps.count == 0
    assert percents(shares) == {"compute": 25, "input": 0, "communication": 0, "runtime": 0, "other": 75}
    assert shares.traced == 1
