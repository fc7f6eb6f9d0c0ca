"""The `tf.distribute` strategy of a task, with what Keras 3 needs to train under it."""

from __future__ import annotations

from typing import Any


def repair_multi_worker_reduce() -> None:
    from tensorflow.python.distribute.collective_all_reduce_strategy import CollectiveAllReduceStrategy

    original = CollectiveAllReduceStrategy.reduce
    if getattr(original, "_tfcluster", False):
        return

    def reduce(self: Any, reduce_op: Any, value: Any, axis: Any = None) -> Any:
        if axis in (0, -1) and all(v.shape.rank == 0 for v in self.experimental_local_results(value)):
            axis = None
        return original(self, reduce_op, value, axis)

    reduce._tfcluster = True
    CollectiveAllReduceStrategy.reduce = reduce
    import os

    if os.environ.get("TF_USE_LEGACY_KERAS") == "1":
        return
    from keras.src import tree
    from keras.src.backend.tensorflow.trainer import TensorFlowTrainer

    build = TensorFlowTrainer._maybe_symbolic_build

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        if self._distribute_strategy is not None and iterator is not None:
            for step in iterator:
                batch = next(step[-1])
                data_batch = tree.map_structure(
                    lambda v: self._distribute_strategy.experimental_local_results(v)[0], batch
                )
                break
        return build(self, data_batch=data_batch)

    TensorFlowTrainer._maybe_symbolic_build = _maybe_symbolic_build
