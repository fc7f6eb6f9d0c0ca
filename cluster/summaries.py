"""What the leader writes for TensorBoard: each epoch's metrics, the model's graph, and histograms of its weights."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from cluster.metric_names import metric_name

if TYPE_CHECKING:
    from cluster.context import TaskContext

#: How many functions within functions are looked through for the traced one.
_DEPTH = 4
#: Of a histogram, as many as TensorBoard makes by itself.
BUCKETS = 30


def scalars(base: Any) -> Any:
    """A callback class that writes each epoch's metrics for TensorBoard, under the names Keras' own uses."""

    class Scalars(base):  # type: ignore[misc]
        def __init__(self, context: TaskContext) -> None:
            super().__init__()
            self._context = context
            self._writers: dict[str, Any] = {}

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            import tensorflow as tf

            for name, value in plain_metrics(logs).items():
                with self.writer("validation" if name.startswith("val_") else "train").as_default():
                    tf.summary.scalar(f"epoch_{name.removeprefix('val_')}", value, step=epoch)

        def on_train_end(self, logs: Any = None) -> None:
            for writer in self._writers.values():
                writer.close()
            self._writers.clear()  # the same callbacks may be given to another fit

        def writer(self, name: str) -> Any:
            import tensorflow as tf

            if name not in self._writers:
                self._writers[name] = tf.summary.create_file_writer(f"{self._context.tensorboard_dir}/{name}")
            return self._writers[name]

    return Scalars


def pictures(scalars_class: Any) -> Any:
    """The class that also writes the graph once, and histograms of the weights every so many epochs."""

    class Pictures(scalars_class):  # type: ignore[misc]
        def __init__(self, context: TaskContext, *, graph: bool, histograms: int) -> None:
            super().__init__(context)
            self._graph, self._histograms = graph, histograms

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            super().on_epoch_end(epoch, logs)
            with self.writer("train").as_default():
                if self._graph:
                    self._graph = False
                    write_graphs(self.model)
                if self._histograms and epoch % self._histograms == 0:
                    write_histograms(self.model, self._context.strategy, epoch)

    return Pictures


def plain_metrics(logs: Any) -> dict[str, float]:
    """Keras' logs as numbers; {} for a step on a parameter server's worker, whose logs are still there."""
    return {metric_name(name): float(value) for name, value in logs.items()} if isinstance(logs, dict) else {}


def write_graphs(model: Any) -> None:
    """Write the model's layers, where Keras knows how they are connected, and the operations of its training step."""
    import tensorflow as tf

    if type(model).__name__ in ("Functional", "Sequential"):
        metadata = _metadata("graph_keras_model", b"1")  # tensorboard/plugins/graph/metadata.py
        tf.summary.write("keras", model.to_json(), step=0, metadata=metadata)
    step = _traced(getattr(model, "train_tf_function", None) or model.train_function)
    if step is not None:
        tf.summary.graph(step)


def _traced(function: Any, depth: int = _DEPTH) -> Any:
    """The graph of the `tf.function` that `function` is, or calls; Keras 3 and our markers wrap it."""
    concrete = getattr(function, "_concrete_variable_creation_fn", None)
    if concrete is not None:
        return concrete.graph
    if depth:
        for cell in getattr(function, "__closure__", None) or ():
            found = _traced(cell.cell_contents, depth - 1)
            if found is not None:
                return found
    return None


def write_histograms(model: Any, strategy: Any, epoch: int) -> None:
    """Write a histogram of each weight, as Keras names them.

    Only this task's copy is read: to read a variable of which each worker has its own, such as a moving mean, would
    wait for workers that do not read it.
    """
    import tensorflow as tf

    metadata = _metadata("histograms", b"")  # tensorboard/plugins/histogram/metadata.py, version 0
    for name, variable in _weights(model):
        local = strategy.experimental_local_results(variable)[0] if strategy is not None else variable
        value = tf.convert_to_tensor(local)
        if value.dtype.is_floating:
            tf.summary.write(f"{name}/histogram", buckets(value.numpy()), step=epoch, metadata=metadata)


def buckets(values: Any) -> Any:
    """TensorBoard's histogram of an array: float64 `[BUCKETS, 3]`, each bucket with its ends and its count.

    NaN and infinities are left out. `tf.summary.histogram` makes the same, but with 30 times the memory of the values
    (tensorboard/plugins/histogram/summary_v2.py), and takes tens of milliseconds for the smallest weight.
    """
    import numpy as np

    counts, edges = np.histogram(values[np.isfinite(values)].astype(np.float64), BUCKETS)
    return np.stack([edges[:-1], edges[1:], counts], axis=1).astype(np.float64)


def _metadata(plugin: str, content: bytes) -> Any:
    """What tells TensorBoard which of its plugins a summary is for."""
    import tensorflow as tf

    metadata = tf.compat.v1.SummaryMetadata()
    metadata.plugin_data.plugin_name = plugin
    metadata.plugin_data.content = content
    return metadata


def _weights(model: Any) -> Iterator[tuple[str, Any]]:
    """Names and variables of the weights, in Keras 3 and tf_keras."""
    for layer in model.layers:
        for weight in layer.weights:
            name = getattr(weight, "path", None) or weight.name
            yield name.replace(":", "_"), getattr(weight, "value", weight) if hasattr(weight, "path") else weight
