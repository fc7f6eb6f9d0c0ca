"""Reading in the process that runs a graph, when another process built it: parameter-server workers.

A Python function cannot travel in a TensorFlow graph, only its name can. So the graph of such a dataset names
functions that every worker knows, and carries the plan of what to read as text.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines import mismatch
from pipelines.columns import Array
from pipelines.errors import DataError
from pipelines.leased import LeasedReader
from pipelines.reader import ReadPlan

if TYPE_CHECKING:
    import tensorflow as tf

#: TensorFlow keeps weak references to the functions it may call; these are the strong ones.
_served: list[Any] = []


def serve_reads(worker: int, secret: bytes) -> None:
    """Let graphs built elsewhere read in this process; call it before the server starts.

    Args:
        worker: this worker's index.
        secret: that the coordinator and its workers share.
    """
    from tensorflow.python.ops import script_ops

    readers = _Readers(worker, secret)
    _served[:] = [readers.open, readers.lease, readers.read, readers.took, readers.mismatch]
    for function in _served:
        # TensorFlow has no public way to register a function under a name of our choice.
        script_ops._py_funcs._funcs[_token(function.__name__)] = function


def call(method: str, inputs: list[Any], types: list[tf.DType]) -> list[tf.Tensor]:
    """The graph's call of a method of `_Readers`, in the process that runs the graph."""
    import tensorflow as tf

    name = f"tfcluster_{method}"  # as traces show it
    tensors: list[tf.Tensor] = tf.raw_ops.PyFunc(input=inputs, token=_token(method), Tout=types, name=name)
    return tensors


def counted(dataset: tf.data.Dataset, names: Sequence[str]) -> tf.data.Dataset:
    """`dataset`, which tells that the next batch of each of these leased ones is taken whenever one of its own is.

    It must be the last: what reads ahead of the training after it would count batches that wait for their step.
    """
    import tensorflow as tf

    def take(*batch: Any) -> Any:
        (counted,) = call("took", [tf.constant(list(names))], [tf.int64])
        with tf.control_dependencies([counted]):
            kept = tf.nest.map_structure(tf.identity, batch, expand_composites=True)
        return kept if len(kept) > 1 else kept[0]

    return dataset.map(tf.autograph.experimental.do_not_convert(take))


def find_mismatch(workers: int) -> DataError | None:
    """`pipelines.mismatch.find_mismatch` in each of so many workers; from the coordinator, once a step has failed."""
    import tensorflow as tf

    for worker in range(workers):
        with contextlib.suppress(tf.errors.OpError), tf.device(f"/job:worker/task:{worker}/device:CPU:0"):
            (found,) = call("mismatch", [], [tf.string])
            if (said := json.loads(found.numpy())) is not None:
                return DataError(*said)
    return None


class _Readers:
    """The readers of this process, one a dataset."""

    def __init__(self, worker: int, secret: bytes) -> None:
        self._worker, self._secret = worker, secret
        self._by_plan: dict[bytes, LeasedReader] = {}
        self._by_name: dict[bytes, LeasedReader] = {}
        self._lock = threading.Lock()

    def open(self, plan: bytes) -> Array:
        reader = self._reader(plan)
        assert reader.plan.desk is not None
        self._by_name[reader.plan.desk.dataset.encode()] = reader
        return reader.open()

    def lease(self, plan: bytes, reading: Array) -> Array:
        return self._reader(plan).lease(reading)

    def read(self, plan: bytes, chunk: Array) -> list[Array]:
        return self._reader(plan).read(chunk)

    def took(self, names: Array) -> Array:
        for name in names:
            self._by_name[name].took()
        return np.int64(len(names))  # type: ignore[return-value]

    def mismatch(self) -> Array:
        found = mismatch.find_mismatch()
        return np.array(json.dumps(found and found.args).encode(), object)

    def _reader(self, text: bytes) -> LeasedReader:
        with self._lock:
            if text not in self._by_plan:
                self._by_plan[text] = LeasedReader(ReadPlan.from_json(text.decode()), self._secret, self._worker)
            return self._by_plan[text]


def _token(method: str) -> str:
    return f"ray-tfcluster/{method}"
