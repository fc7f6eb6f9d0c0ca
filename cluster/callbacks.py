"""The Keras callbacks of a job, for whichever Keras it uses: restore and checkpoint, progress, TensorBoard."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from cluster import repairs
from cluster.checkpoints import Checkpointer, Position
from cluster.errors import SpecError
from cluster.summaries import pictures, plain_metrics, scalars

if TYPE_CHECKING:
    from cluster.context import TaskContext

#: Shortest time between two progress reports of one task, in seconds.
REPORT_SECONDS = 0.5


def make_callbacks(context: TaskContext, *, graph: bool = True, histograms: int = 0) -> list[Any]:
    """Restore and checkpoint, progress, and on the leader what TensorBoard shows, see `cluster.summaries`.

    None of them makes a step wait for its metrics: after a step they have no hooks, or hooks that Keras 3 may call from
    another thread (`async_safe`) and that tf-keras gives its tensors as they are (`_supports_tf_logs`); saving every
    N steps is the exception.
    """
    base = keras_module(context.keras).callbacks.Callback
    saving = epoch_saving(base)
    if context.spec.checkpoint.every != "epoch":
        saving = step_saving(saving)
    callbacks = [saving(context), progress(base)(context)]
    if context.is_leader:
        callbacks.append(pictures(scalars(base))(context, graph=graph, histograms=histograms))
    return callbacks


def keras_module(major: str) -> Any:
    """`keras` or `tf_keras`."""
    if major == "2":
        import tf_keras

        return tf_keras
    import keras

    return keras


class _Start:
    """What tf_keras asks where to begin (its `WorkerTrainingState` has the same method), and tells where it would.

    It asks before it makes the first iterator, which may begin to read before `on_epoch_begin`.
    """

    def __init__(self, context: TaskContext, epoch: int, batch: int) -> None:
        self._context, self._epoch, self._batch = context, epoch, batch

    def maybe_load_initial_counters_from_ckpt(self, steps: int | None, initial: int, mode: Any) -> tuple[int, int]:
        found = (self._epoch, self._batch) if self._epoch >= initial else (initial, 0)
        self._context.epoch = found[0]
        return found


def start_at(model: Any, epoch: int | None, context: TaskContext, done: int = 0) -> None:
    """Have `model.fit`, which is calling `on_train_begin`, begin with `epoch` (from 0) or later; None undoes it.

    tf_keras counts the steps of that epoch from `done`, or else it would take what is left of it for the length of
    every epoch; for Keras 3 see `repairs.resumed_epoch`.
    """
    if context.keras == "2":
        model._training_state = None if epoch is None else _Start(context, epoch, done)
    else:
        model._initial_epoch = epoch
        repairs.resumed_epoch(context.batches_left(epoch) if epoch is not None else 0, done)


def optimizer_of(model: Any) -> Any:
    """The optimizer that counts steps, within a loss-scaling one."""
    return getattr(model.optimizer, "inner_optimizer", model.optimizer)


def _check_something_left(position: Position, resumed_from: int | None, epochs: int | None) -> None:
    """Refuse a second `fit` that would train nothing, because it finds the checkpoint of the first one.

    After a restart there may be nothing left for a `fit` that was done before it.

    Raises:
        SpecError: that.
    """
    made_here = position.step > (resumed_from or 0)
    if made_here and epochs is not None and position.epoch >= epochs:
        raise SpecError(
            "a second fit with ctx.callbacks() would train nothing: it goes on from the checkpoint of the one before",
            f"fit(epochs={epochs}), after {position.epoch} epochs",
            f"count on, fit(initial_epoch={position.epoch}, epochs={position.epoch + epochs}), "
            "or give ctx.callbacks() to the first fit only",
        )


def epoch_saving(base: Any) -> Any:
    """A callback class that restores the newest checkpoint when training begins, and saves after each epoch.

    It also saves between two steps where all tasks are to, before one of their nodes is lost.
    """

    class EpochCheckpoint(base):  # type: ignore[misc]
        def __init__(self, context: TaskContext) -> None:
            super().__init__()
            self._supports_tf_logs = True
            self.context = context
            self.checkpointer: Checkpointer | None = None
            self.first = 0  # batch of the epoch, as Keras counts, that this attempt began it with
            self.steps_per_epoch: int | None = None  # that `fit` was given
            # An epoch, and how many of its steps earlier attempts did, where `fit` was given some.
            self.resumed = (0, 0)
            self._before = 0  # steps of earlier epochs of this attempt
            self._latest: int | None = None  # batch of the epoch that began last
            self._checked = False  # whether the epoch reads its data

        def on_train_begin(self, logs: Any = None) -> None:
            model = self.model
            if self.context.keras == "2" and model.built:
                # Slots of partitioned variables are restored only where they exist.
                with model.distribute_strategy.scope():
                    model.optimizer.build(model.trainable_variables)
            self.steps_per_epoch = repairs.steps_given() if self.context.coordinator is None else None
            self.context.steps = None if self.steps_per_epoch is None else 0
            self._before = 0
            self.checkpointer = self.context.checkpointer(model=model, optimizer=model.optimizer)
            position = self.checkpointer.restore(self.context.expected_checkpoint)
            if position is not None:
                _check_something_left(position, self.context.expected_checkpoint, (self.params or {}).get("epochs"))
                self.resume(position)
            elif self.context.keras == "2":
                start_at(model, 0, self.context)

        def resume(self, position: Position) -> None:
            if self.steps_per_epoch is not None and position.batch >= self.steps_per_epoch:
                position = replace(position, epoch=position.epoch + 1, batch=0)
            epoch = self.context.resume(position)
            done = self.context.batches_done(epoch) if self.steps_per_epoch is None else position.batch
            self.resumed = epoch, position.batch
            self.context.note(
                f"restored checkpoint {position.step}: goes on with epoch {epoch + 1}"
                + (f", after {done} of its batches" if done > 0 else "")
            )
            start_at(self.model, epoch, self.context, done)

        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            self.context.epoch = epoch
            # tf_keras counts the batches of a resumed epoch from where it was left; positions count from there.
            self.first = self._done(epoch) if self.context.keras == "2" else 0
            self._latest, self._checked = None, False

        def _done(self, epoch: int) -> int:
            """By how many steps this attempt's `epoch` is shorter than others."""
            if self.steps_per_epoch is None:
                return self.context.batches_done(epoch)
            return self.resumed[1] if self.resumed[0] == epoch else 0

        def _steps_of(self, epoch: int) -> int:
            """Steps that this attempt made of an epoch that ends; data that run out end it sooner."""
            if self._latest is None:
                return 0
            name = "_steps_per_execution" if self.context.keras == "2" else "steps_per_execution"
            at_once = getattr(self.model, name, 1)
            made = self._latest - self.first + int(at_once.numpy() if hasattr(at_once, "numpy") else at_once or 1)
            return min(made, int(self.steps_per_epoch or 0) - self._done(epoch))

        def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
            assert self.checkpointer is not None
            if self.steps_per_epoch is not None:
                self._latest = batch
                self.context.steps = self._before + batch - self.first
            if batch > self.first:
                self._check(self.context.epoch)
            if self.checkpointer.wanted():
                assert self.context.epoch is not None
                self.save(self.context.epoch, batch - self.first)

        def _check(self, epoch: int | None) -> None:
            """Once a step of an epoch is made, its data have been begun."""
            if not self._checked and epoch is not None:
                self._checked = True
                self.context.check_fresh(epoch)

        def on_test_begin(self, logs: Any = None) -> None:
            self.context.testing = True

        def on_test_end(self, logs: Any = None) -> None:
            self.context.testing = False

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            if self.steps_per_epoch is not None:
                self._before += self._steps_of(epoch)
                self.context.steps = self._before
            self._check(epoch)
            self.save(epoch + 1)
            # tf_keras makes the next iterator, which begins to read, before it calls on_epoch_begin.
            self.context.epoch = epoch + 1

        def on_train_end(self, logs: Any = None) -> None:
            assert self.checkpointer is not None
            self.checkpointer.none_wanted()
            self.context.epoch = self.context.steps = None
            start_at(self.model, None, self.context)

        def save(self, epoch: int, batch: int = 0) -> None:
            assert self.checkpointer is not None
            self.checkpointer.settle()  # or steps in flight would be saved, and not be counted
            step = int(optimizer_of(self.model).iterations.numpy())
            if self.steps_per_epoch is not None:
                self.context.steps = self._before + batch
                batch += self.resumed[1] if self.resumed[0] == epoch else 0
            self.checkpointer.save(Position(step, epoch, batch))

    return EpochCheckpoint


def step_saving(epoch_checkpoint: Any) -> Any:
    """The class that also saves every N steps within an epoch."""

    class StepCheckpoint(epoch_checkpoint):  # type: ignore[misc]
        def __init__(self, context: TaskContext) -> None:
            super().__init__(context)
            self._saved = 0

        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            super().on_epoch_begin(epoch, logs)
            self._saved = 0

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            every, done = self.context.spec.checkpoint.every, batch + 1 - self.first
            if done // every > self._saved // every:
                self._saved = done
                self.save(self.context.epoch, done)

    return StepCheckpoint


def progress(base: Any) -> Any:
    """A callback class that reports steps to the launcher, at most every half second, and each epoch's metrics."""

    class Progress(base):  # type: ignore[misc]
        def __init__(self, context: TaskContext) -> None:
            super().__init__()
            self.async_safe = self._supports_tf_logs = True
            self._context = context
            self._sent, self._every = 0.0, context.report_seconds(REPORT_SECONDS)
            self._before = self._step = self._epoch = 0

        def on_train_begin(self, logs: Any = None) -> None:
            self._step = int(optimizer_of(self.model).iterations.numpy())

        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            self._epoch, self._before = epoch, self._step

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            self._step = max(self._step, self._before + batch + 1)
            if time.monotonic() - self._sent >= self._every:
                self._report(logs)

        def on_test_batch_end(self, batch: int, logs: Any = None) -> None:
            if time.monotonic() - self._sent >= self._every:
                self._report(None)

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            self._report(logs, epoch_done=True)

        def _report(self, logs: Any, *, epoch_done: bool = False) -> None:
            self._sent = time.monotonic()
            params = self.params or {}
            self._context.send_step(
                self._step,
                plain_metrics(logs) if self._context.is_leader else {},
                epoch=self._epoch + 1,
                epochs=params.get("epochs"),
                steps=params.get("steps"),
                epoch_done=epoch_done,
            )

    return Progress
