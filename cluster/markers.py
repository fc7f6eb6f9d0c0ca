"""Keras' training steps, marked in traces and counted: each call of a model's train function is one or more of them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Steps:
    """The steps of this process's `fit`.

    Attributes:
        done: steps before the next one; None until they are known.
        before: is called with the next step's number, from 1, and how many steps follow at once.
    """

    done: int | None = None
    before: Callable[[int, int], None] | None = field(default=None)


steps = Steps()


def mark_steps() -> None:
    """Have Keras 3's `fit` mark its steps in traces (`tf.profiler.experimental.Trace`) and count them; idempotent.

    Its callbacks could do so too, but each step would then wait for its logs.
    """
    import keras

    if keras.config.backend() == "tensorflow":
        from keras.src.backend.tensorflow.trainer import TensorFlowTrainer

        _wrap(TensorFlowTrainer, _marked)


def count_steps() -> None:
    """Have tf_keras' `fit`, which marks its steps itself, count them; idempotent."""
    import tf_keras

    _wrap(tf_keras.Model, lambda function: function)


def _wrap(model_class: Any, mark: Callable[[Any], Any]) -> None:
    original = model_class.make_train_function
    if hasattr(original, "counts"):
        return

    @functools.wraps(original)
    def make_train_function(model: Any, force: bool = False) -> Any:
        original(model, force)
        if not hasattr(model.train_function, "counts"):
            model.train_function = _counted(model, mark(model.train_function))
        return model.train_function

    make_train_function.counts = True  # type: ignore[attr-defined]
    model_class.make_train_function = make_train_function


def _counted(model: Any, function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """`function`, which is told of before it makes its steps."""

    def train_function(iterator: Any) -> Any:
        if steps.done is None:
            steps.done = int(model.optimizer.iterations.numpy())
        count = _steps_per_execution(model)
        first, steps.done = steps.done + 1, steps.done + count
        if steps.before is not None:
            steps.before(first, count)
        return function(iterator)

    train_function.counts = True  # type: ignore[attr-defined]
    return train_function


def _marked(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """`function` within a marker that TensorBoard takes for a step; with several at once, for one."""
    import tensorflow as tf

    trace = tf.profiler.experimental.Trace

    def train_function(iterator: Any) -> Any:
        with trace("train", step_num=steps.done, _r=1):
            return function(iterator)

    return train_function


def _steps_per_execution(model: Any) -> int:
    """How many steps a call makes: a number in Keras 3, a variable in tf_keras."""
    count = model.steps_per_execution
    return int(count.numpy() if hasattr(count, "numpy") else count)
