"""Reading in the process that runs a graph, when another process built it: parameter-server workers.

A Python function cannot travel in a TensorFlow graph, only its name can. So the graph of such a dataset names one
of two functions that every worker knows, and carries the plan of what to read as text.
"""

from __future__ import annotations

import dataclasses
import threading
from typing import TYPE_CHECKING, Any

from pipelines.columns import Array
from pipelines.reader import Reader, ReadPlan

if TYPE_CHECKING:
    import tensorflow as tf

#: TensorFlow keeps weak references to the functions it may call; these are the strong ones.
_served: list[Any] = []


def serve_reads(shard: int) -> None:
    """Let graphs built elsewhere read in this process, as shard `shard`; call it before the server starts."""
    from tensorflow.python.ops import script_ops

    readers = _Readers(shard)
    _served[:] = [readers.begin, readers.read]
    for function in _served:
        # TensorFlow has no public way to register a function under a name of our choice.
        script_ops._py_funcs._funcs[_token(function.__name__)] = function


def call(plan: ReadPlan, method: str, inputs: list[tf.Tensor], types: list[tf.DType]) -> list[tf.Tensor]:
    """The graph's call of `Reader.<method>` for `plan`, in the process that runs the graph."""
    import tensorflow as tf

    tensors: list[tf.Tensor] = tf.raw_ops.PyFunc(
        input=[tf.constant(plan.to_json()), *inputs], token=_token(method), Tout=types
    )
    return tensors


class _Readers:
    """The readers of this process, one a plan."""

    def __init__(self, shard: int) -> None:
        self._shard = shard
        self._open: dict[bytes, Reader] = {}
        self._lock = threading.Lock()

    def begin(self, plan: bytes) -> Array:
        return self._reader(plan).begin()

    def read(self, plan: bytes, piece: Array) -> list[Array]:
        return self._reader(plan).read(piece)

    def _reader(self, text: bytes) -> Reader:
        with self._lock:
            if text not in self._open:
                plan = ReadPlan.from_json(text.decode())
                self._open[text] = Reader(dataclasses.replace(plan, shard=self._shard))
            return self._open[text]


def _token(method: str) -> str:
    return f"ray-tfcluster/{method}"
