"""Training on parameter servers: what ps and workers run, and what the coordinator's side needs."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from cluster.errors import SpecError


def serve(on_ready: Callable[[], None] | None = None) -> NoReturn:
    """Serve the coordinator as the task that TF_CONFIG names, until the process is stopped.

    Args:
        on_ready: called once, when the server listens.
    """
    import tensorflow as tf

    resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver()
    cluster, role, index = resolver.cluster_spec(), resolver.task_type, resolver.task_id
    server = tf.distribute.Server(cluster, job_name=role, task_index=index, protocol=resolver.rpc_layer or "grpc")
    print(f"{role}-{index} serves at {cluster.task_address(role, index)}", flush=True)
    if on_ready is not None:
        on_ready()
    server.join()
    raise SystemExit(f"the server of {role}-{index} ended")


def dataset_creator(dataset_fn: Callable[..., Any], input_options: Any = None, *, repeat: bool = True) -> Any:
    """A tf-keras `DatasetCreator`: the data that `fit` takes under a ParameterServerStrategy.

    `fit` counts epochs in steps there, so it must be given `steps_per_epoch` (and `validation_steps`). Every worker
    reads the whole dataset, unless `dataset_fn` shards or shuffles it.

    Args:
        dataset_fn: builds the `tf.data.Dataset` on each worker; takes a `tf.distribute.InputContext`, or nothing.
        input_options: a `tf.distribute.InputOptions`.
        repeat: begin again at the dataset's end. False to evaluate with `compile(pss_evaluation_shards=…)`,
            which visits each row once.

    Raises:
        SpecError: `dataset_fn` is no function; later, in `fit`: it took a dataset from outside instead of building one.
    """
    import tf_keras

    if not callable(dataset_fn):
        raise SpecError(
            "a dataset creator needs a function that builds the dataset on each worker",
            type(dataset_fn).__name__,
            "pass lambda: tf.data.Dataset…",
        )
    takes_context = bool(inspect.signature(dataset_fn).parameters)

    def build(input_context: Any) -> Any:
        dataset = dataset_fn(input_context) if takes_context else dataset_fn()
        repeated = dataset.repeat(None if repeat else 1)
        _refuse_datasets_from_outside()
        return repeated

    return tf_keras.utils.experimental.DatasetCreator(build, input_options)


def _refuse_datasets_from_outside() -> None:
    """Raise where the graph being built captured a dataset, which lives in the coordinator and cannot travel."""
    import tensorflow as tf

    captured = getattr(tf.compat.v1.get_default_graph(), "external_captures", ())
    if any(tensor.dtype == tf.variant for tensor in captured):
        error = SpecError(
            "the dataset was built outside the function of the dataset creator",
            "a captured tf.data.Dataset",
            "build it inside: each worker runs the function, and datasets cannot be sent",
        )
        error.ag_pass_through = True  # type: ignore[attr-defined]  # else AutoGraph puts an error of its own around it
        raise error


def explain_keras3_fit() -> None:
    """Have Keras 3 `fit`, `evaluate` and `predict` say what to use instead under a ParameterServerStrategy; idempotent.

    Other strategies, also in the same process, are not touched.
    """
    from keras.src.backend.tensorflow.trainer import TensorFlowTrainer

    for name in ("fit", "evaluate", "predict"):
        method = getattr(TensorFlowTrainer, name)
        if not hasattr(method, "explained"):
            setattr(TensorFlowTrainer, name, _explained(method))


def _explained(method: Callable[..., Any]) -> Callable[..., Any]:
    import tensorflow as tf

    @functools.wraps(method)
    def guarded(model: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(model.distribute_strategy, tf.distribute.ParameterServerStrategy):
            raise SpecError(
                f"Keras 3 cannot {method.__name__} a model on parameter servers",
                f"model.{method.__name__} under {type(model.distribute_strategy).__name__}",
                f"set keras: 2, whose {method.__name__} can, or write the loop with ctx.coordinator",
            )
        return method(model, *args, **kwargs)

    guarded.explained = True  # type: ignore[attr-defined]
    return guarded


#: What TensorFlow says when another task, not this one's code, is the cause: collectives, RPCs, coordination service.
_PEER_SIGNS = (
    "collective ops is aborted by",
    "remote target /job:",
    "error reported from /job:",
    "coordinationservice",
    "coordination service",
    "failed to connect to all addresses",
    "connection reset by peer",
    "socket closed",
    "incarnation",
)
#: What it says when a task answers that has been started anew (tensorflow/python/distribute/coordinator).
_RESTARTED_SIGNS = (
    "unknown device",
    "primary device is not remote",
    "unable to find the relevant tensor remote_handle",
    "unable to find a context_id",
)


def is_peer_error(error: BaseException) -> bool:
    """Whether `error` comes from the loss of another task, rather than from this task's own code.

    TensorFlow raises it from the collective or RPC that the other task did not answer: at once where the connection
    broke, after the coordination service's heartbeat timeout (10 s) where nothing was under way.
    """
    return "tensorflow" in sys.modules and any(map(_names_a_lost_task, _chain(error)))


def _names_a_lost_task(error: BaseException) -> bool:
    from tensorflow import errors

    text = str(error).lower()
    lost = (
        errors.UnavailableError,
        errors.AbortedError,
        errors.CancelledError,
        errors.DeadlineExceededError,
        errors.FailedPreconditionError,
    )
    if isinstance(error, lost):
        return any(sign in text for sign in _PEER_SIGNS)
    if isinstance(error, errors.InvalidArgumentError):
        return "/job:" in text and any(sign in text for sign in _RESTARTED_SIGNS)
    return False


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """`error` and what it came from; ClusterCoordinator wraps the original without chaining it."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        original = getattr(error, "original_exception", None)
        cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
        error = original if isinstance(original, BaseException) else cause
