"""Faults of TensorFlow and Keras 3 that a multi-worker job meets, each repaired where it is."""

from __future__ import annotations

import functools
import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

from cluster.errors import SpecError


def repair() -> None:
    """Make every repair, in the process of a task, before its strategy is made; idempotent.

    It does not matter then who makes the strategy, or how it is imported: scripts make their own.
    """
    patient_heartbeat()
    sigterm_ends()
    untuned_device_datasets()
    repair_keras()


def patient_heartbeat(seconds: float = 60) -> None:
    """Have MultiWorkerMirroredStrategy give a silent worker `seconds` before it declares it lost; idempotent.

    TensorFlow's 10 s are too few for a worker on a busy machine, and a worker that ended is seen by its supervisor at
    once. Strategies that are made later follow, whoever makes them; a timeout that the user sets is kept.
    """
    from tensorflow.python.eager.context import Context

    original = Context.configure_coordination_service
    if hasattr(original, "patient"):
        return

    @functools.wraps(original)
    def configure(self: Any, *args: Any, **kwargs: Any) -> None:
        if not kwargs.get("heartbeat_timeout_in_ms"):
            kwargs["heartbeat_timeout_in_ms"] = int(seconds * 1000)
        original(self, *args, **kwargs)

    configure.patient = True  # type: ignore[attr-defined]
    Context.configure_coordination_service = configure


def sigterm_ends() -> None:
    """Have SIGTERM do under MultiWorkerMirroredStrategy what it did before; idempotent.

    TensorFlow's coordination service takes it for the notice of a preemption, and the task would go on until SIGKILL.
    PreemptionCheckpointHandler is not concerned: it puts a handler of its own in place.
    """
    from tensorflow.python.distribute.collective_all_reduce_strategy import CollectiveAllReduceExtended

    original = CollectiveAllReduceExtended._initialize_multi_worker
    if hasattr(original, "ended"):
        return

    @functools.wraps(original)
    def initialize(self: Any, cluster_resolver: Any) -> None:
        before = signal.getsignal(signal.SIGTERM)
        original(self, cluster_resolver)
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)

    initialize.ended = True  # type: ignore[attr-defined]
    CollectiveAllReduceExtended._initialize_multi_worker = initialize


def untuned_device_datasets() -> None:
    """Have a distributed dataset give up its iterator at once, so that the next epoch begins at once; idempotent.

    Each replica reads through a small dataset on its own device. The thread that tunes it sleeps for up to a minute and
    may miss that it is to end, for TensorFlow looks for the cancellation before it is set; the iterator's destructor
    waits for it. There is nothing to tune in it: it only fetches ahead.
    """
    import tensorflow as tf
    from tensorflow.python.data.ops import multi_device_iterator_ops

    original = multi_device_iterator_ops._create_device_dataset
    if hasattr(original, "untuned"):
        return

    @functools.wraps(original)
    def create(*args: Any, **kwargs: Any) -> Any:
        options = tf.data.Options()
        options.autotune.enabled = False
        return original(*args, **kwargs).with_options(options)

    create.untuned = True  # type: ignore[attr-defined]
    multi_device_iterator_ops._create_device_dataset = create


def repair_keras() -> None:
    """Make Keras 3 `fit`, `evaluate` and `predict` work under every MultiWorkerMirroredStrategy; idempotent.

    Keras averages each step's logs by `strategy.reduce("MEAN", scalar, axis=0)`, where a scalar has no axis 0; it reads
    a batch and averages that by `strategy.reduce("MEAN", batch)`, only to learn shapes; with `steps_per_execution` it
    meets an error of TensorFlow's; and it takes the length of the first epoch, which may be a resumed one, for that of
    all. Each is repaired where it is: so it does not matter who makes the strategy or how it is imported, and
    `strategy.reduce` stays TensorFlow's own. Under tf-keras only the length of epochs needs a repair. Does nothing when
    Keras computes on another backend.

    Raises:
        SpecError: Keras is older than 3.8, whose loop over an epoch is another one.
    """
    if os.environ.get("TF_USE_LEGACY_KERAS") in ("1", "true", "True"):
        _ask_the_dataset_for_its_length()
        return
    import keras

    if keras.config.backend() != "tensorflow":
        return
    from keras.src.backend.tensorflow import trainer

    if hasattr(trainer.reduce_per_replica, "repaired"):
        return
    if not hasattr(trainer.TFEpochIterator, "_enumerate_iterator"):
        raise SpecError("this Keras 3 is too old for ray-tfcluster", f"keras {keras.__version__}", "install keras>=3.8")
    trainer.reduce_per_replica = _mean_over_replicas(trainer.reduce_per_replica)
    build = trainer.TensorFlowTrainer._maybe_symbolic_build
    trainer.TensorFlowTrainer._maybe_symbolic_build = _build_from_shapes(build)
    epochs = trainer.TFEpochIterator
    epochs._enumerate_iterator = _length_of_each_epoch(epochs._enumerate_iterator)
    epochs.__init__ = _remembering_steps(epochs.__init__)
    _let_collectives_nest()


#: Of the epoch that `fit` begins next, where it is a resumed one: its batches, which are fewer (or a few more) than
#: those of others, and how many of its steps are done.
_resumed: list[tuple[int, int]] = []
#: The `steps_per_epoch` of the loop over data that was made last.
_given: list[int | None] = [None]


def resumed_epoch(batches: int, done: int) -> None:
    """Say what is before Keras 3 in the epoch that it begins next.

    Args:
        batches: of each worker that the data still have, for a resumed one, until they begin anew.
        done: its steps that are done already; 0: it is a whole one.
    """
    _resumed[:] = [(batches, done)] if batches or done else []


def steps_given() -> int | None:
    """The `steps_per_epoch` that `fit` was given; ask when training begins."""
    return _given[0] if (_given[0] or 0) > 0 else None


def _length_of_each_epoch(original: Callable[..., Any]) -> Callable[..., Any]:
    """Keras's `_enumerate_iterator`, which gives a resumed epoch its own number of batches.

    Keras would take it for that of all epochs, and where it knows none it makes a step too many: the optimizer counts
    it, although there is no batch for it. Where `fit` was given the steps of an epoch, what is left of the data, over
    which Keras goes on in the next epoch, is another number than what is left of the epoch.
    """

    def _enumerate_iterator(iterator: Any) -> Iterator[Any]:
        if not _resumed:
            yield from original(iterator)
            return
        batches, done = _resumed.pop()
        if iterator.steps_per_epoch is not None:
            yield from _rest_of_steps(original, iterator, batches, done)
            return
        known = iterator._num_batches
        iterator._num_batches = batches if done else known
        yield from original(iterator)
        iterator._num_batches = known

    return _enumerate_iterator


def _rest_of_steps(original: Callable[..., Any], iterator: Any, batches: int, done: int) -> Iterator[Any]:
    if batches and iterator._num_batches:
        iterator._current_iterator = iter(iterator._get_iterator())
        iterator._steps_seen = iterator._num_batches - batches
    given = iterator.steps_per_epoch
    iterator.steps_per_epoch = given - done
    try:
        yield from original(iterator)
    finally:
        iterator.steps_per_epoch = given


def _remembering_steps(original: Callable[..., None]) -> Callable[..., None]:
    """Keras's constructor of a loop over data, which tells `steps_given` what it was told."""

    @functools.wraps(original)
    def initialize(iterator: Any, *args: Any, **kwargs: Any) -> None:
        original(iterator, *args, **kwargs)
        _given[0] = iterator.steps_per_epoch

    return initialize


def _ask_the_dataset_for_its_length() -> None:
    """Have tf_keras take the length that a dataset tells, as Keras 3 does, where its graph tells none; idempotent.

    Without a length it makes a step too many in its first epoch, which the optimizer counts.
    """
    import tensorflow as tf
    from tf_keras.src.engine.data_adapter import DataHandler

    original = DataHandler._infer_steps
    if hasattr(original, "asks"):
        return

    def _infer_steps(handler: Any, steps: int | None, dataset: Any) -> int | None:
        _given[0] = steps
        found: int | None = original(handler, steps, dataset)
        if found is not None or steps is not None or not isinstance(dataset, tf.data.Dataset):
            return found
        told = int(dataset.cardinality())
        return told if told > 0 else None

    _infer_steps.asks = True  # type: ignore[attr-defined]
    DataHandler._infer_steps = _infer_steps


def _build_from_shapes(original: Callable[..., None]) -> Callable[..., None]:
    """Keras's `_maybe_symbolic_build`, given the data's shapes and types instead of a batch read for them.

    Where those leave out what a layer needs, it gets one replica's part of a batch, rather than the mean of all.
    """
    from keras import tree

    def _maybe_symbolic_build(model: Any, iterator: Any = None, data_batch: Any = None) -> None:
        strategy = model._distribute_strategy
        if strategy is None or iterator is None:
            return original(model, iterator=iterator, data_batch=data_batch)
        specs = tree.map_structure(_of_one_replica, iterator._distributed_dataset.element_spec)
        if all(map(_says_enough, tree.flatten(specs))):
            return original(model, data_batch=specs)
        for *_, batches in iterator:
            batch = next(batches)
            part = tree.map_structure(lambda value: strategy.experimental_local_results(value)[0], batch)
            return original(model, data_batch=part)
        return original(model)

    return _maybe_symbolic_build


def _of_one_replica(spec: Any) -> Any:
    """The type of one replica's part of a distributed value; they are all alike."""
    parts = getattr(spec, "_value_specs", None)
    return parts[0] if parts else spec


def _says_enough(spec: Any) -> bool:
    """Whether the type of a dataset's component tells all its dimensions but the batch's."""
    shape = getattr(spec, "shape", None)
    return shape is not None and shape.rank is not None and shape[1:].is_fully_defined()


def _mean_over_replicas(original: Callable[..., Any]) -> Callable[..., Any]:
    """Keras's `reduce_per_replica`, with numbers averaged over all replicas, in one collective a step for all logs."""
    import tensorflow as tf

    def reduce_per_replica(values: Any, strategy: Any, reduction: str) -> Any:
        if reduction not in ("auto", "mean") or not _spans_workers(strategy):
            return original(values, strategy, reduction)
        leaves = tf.nest.flatten(values)
        replicas = [strategy.experimental_local_results(leaf) for leaf in leaves]
        numbers = [i for i, parts in enumerate(replicas) if all(map(_has_same_shape_everywhere, parts))]
        means = dict(zip(numbers, _means(strategy, [replicas[i] for i in numbers]), strict=True))
        reduced = [means[i] if i in means else original(leaf, strategy, reduction) for i, leaf in enumerate(leaves)]
        return tf.nest.pack_sequence_as(values, reduced)

    reduce_per_replica.repaired = True  # type: ignore[attr-defined]
    return reduce_per_replica


def _spans_workers(strategy: Any) -> bool:
    import tensorflow as tf

    collective = isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)
    return collective and bool(strategy.extended._in_multi_worker_mode())


def _has_same_shape_everywhere(value: Any) -> bool:
    """Whether `value` is a number, or a tensor of numbers whose shape does not depend on the batch."""
    import tensorflow as tf

    if not isinstance(value, tf.Tensor | tf.Variable):
        return isinstance(value, int | float)
    return bool(value.shape.is_fully_defined() and (value.dtype.is_floating or value.dtype.is_integer))


def _means(strategy: Any, replicas: list[Any]) -> list[Any]:
    """Each value's mean over the replicas of all workers, elementwise, as float32.

    Args:
        strategy: its workers have the same number of replicas each.
        replicas: for each value, what this worker's replicas have of it.
    """
    import tensorflow as tf

    if not replicas:
        return []
    local = [tf.reduce_mean(tf.stack([tf.cast(part, tf.float32) for part in parts]), axis=0) for parts in replicas]
    packed = tf.concat([tf.reshape(value, [-1]) for value in local], axis=0)
    mean = strategy.reduce(tf.distribute.ReduceOp.MEAN, packed, axis=None)
    sizes = [value.shape.num_elements() for value in local]
    return [tf.reshape(part, value.shape) for part, value in zip(tf.split(mean, sizes), local, strict=True)]


def _let_collectives_nest() -> None:
    """Have a collective work in a `tf.function` that is called in a `tf.cond`, as Keras's `steps_per_execution` does.

    A collective's key is captured at call time, which control flow cannot do: TensorFlow puts the capture in the
    function around it (`CollectiveReplicaLauncher._next_instance_key`), but where functions nest it forgets to.
    """
    from tensorflow.python.ops.control_flow_v2_func_graphs import ControlFlowFuncGraph

    def capture_call_time_value(graph: Any, *args: Any, **kwargs: Any) -> Any:
        return graph.outer_graph.capture_call_time_value(*args, **kwargs)

    ControlFlowFuncGraph.capture_call_time_value = capture_call_time_value
