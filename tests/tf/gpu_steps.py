"""Steps that compute on a simulated GPU, traced: `python -m tests.tf.gpu_steps FOLDER`; prints what a capture gave."""

from __future__ import annotations

import ctypes
import json
import os
import sys
from pathlib import Path
from typing import Any

STEPS = 20
#: Kernels: name as CUPTI gives it, stream, milliseconds.
GEMM, NCCL = (b"_Z4gemmPf", 7, 3), (b"ncclDevKernel_AllReduce_Sum_f32_RING_LL", 9, 2)
#: Other work: kind of activity and of copy, stream, milliseconds; from the host, to a peer, within the GPU, a memset,
#: and what CUPTI itself took time for.
OTHERS = ((1, 1, 8, 1), (22, 10, 11, 1), (1, 8, 7, 0.5), (2, 0, 7, 0.25), (17, 0, 7, 0.25))


def main(folder: Path) -> None:
    """Trace a few steps, and leave without the peculiarities of TensorFlow's end."""
    import tensorflow as tf

    from cluster import profiler

    gpu = ctypes.CDLL("libcupti.so.12")

    def compute(x: Any) -> Any:
        gpu.simulated_launch(GEMM[0], GEMM[1], ctypes.c_long(GEMM[2] * 10**6))
        return x

    def exchange(x: Any) -> Any:
        gpu.simulated_launch(NCCL[0], NCCL[1], ctypes.c_long(NCCL[2] * 10**6))
        for kind, how, stream, milliseconds in OTHERS:
            gpu.simulated_work(kind, how, stream, ctypes.c_long(int(milliseconds * 10**6)))
        return x

    @tf.function
    def step(x: Any) -> Any:
        x = tf.numpy_function(compute, [x], tf.float32, name="dense_MatMul")
        return tf.numpy_function(exchange, [x], tf.float32, name="sum")

    x = tf.ones([8, 8])
    step(x)
    profiler.begin(folder)
    for number in range(STEPS):
        with tf.profiler.experimental.Trace("train", step_num=number, _r=1):
            step(x)
    made = profiler.end(folder)
    print(json.dumps({"pid": os.getpid(), "path": str(made.path), "notes": made.notes}), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
