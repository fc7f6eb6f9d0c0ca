"""The Keras callbacks of a job, for whichever Keras it uses: restore and checkpoint, progress, TensorBoard."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from cluster.checkpoints import Checkpointer, Position

if TYPE_CHECKING:
    from cluster.context import TaskContext

#: Shortest time between two progress reports of one task, in seconds.
REPORT_SECONDS = 0.5


def make_callbacks(context: TaskContext) -> list[Any]:
    """Checkpoint and restore, progress, and on the leader TensorBoard's scalars."""
    keras = keras_module(context.keras)
    base = keras.callbacks.Callback
    callbacks = [_saving(base)(context), _progress(base)(context)]
    if context.is_leader:
        callbacks.append(keras.callbacks.TensorBoard(log_dir=context.tensorboard_dir, write_graph=False))
    return callbacks


def keras_module(major: str) -> Any:
    """`keras` or `tf_keras`."""
    if major == "2":
        import tf_keras

        return tf_keras
    import keras

    return keras


class _InitialEpoch:
    """What tf_keras asks where to begin (its `WorkerTrainingState` has the same method)."""

    def __init__(self, epoch: int) -> None:
        self._epoch = epoch

    def maybe_load_initial_counters_from_ckpt(self, steps: int | None, initial: int, mode: Any) -> tuple[int, int]:
        return max(self._epoch, initial), 0


def start_at(model: Any, epoch: int, keras: str) -> None:
    """Have `model.fit`, which is calling `on_train_begin`, begin with `epoch` (from 0)."""
    if keras == "2":
        model._training_state = _InitialEpoch(epoch)
    else:
        model._initial_epoch = epoch


def _saving(base: Any) -> Any:
    class CheckpointCallback(base):  # type: ignore[misc]
        """Restores the newest checkpoint when training begins; saves each epoch, or every N steps."""

        def __init__(self, context: TaskContext) -> None:
            super().__init__()
            self._context = context
            self._every = context.spec.checkpoint.every
            self._checkpointer: Checkpointer | None = None
            self._epoch = 0
            self._since = 0

        def on_train_begin(self, logs: Any = None) -> None:
            model = self.model
            self._checkpointer = self._context.checkpointer(model=model, optimizer=_optimizer(model))
            position = self._checkpointer.restore(self._context.expected_checkpoint)
            if position is not None:
                self._context.note(f"restored checkpoint {position.step}: goes on with epoch {position.epoch + 1}")
                start_at(model, position.epoch, self._context.keras)

        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            self._epoch, self._since = epoch, 0

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            if self._every == "epoch":
                return
            done = batch + 1
            if done // self._every > self._since // self._every:
                self._save(Position(self._step(), self._epoch, done))
            self._since = done

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            self._save(Position(self._step(), epoch + 1))

        def on_train_end(self, logs: Any = None) -> None:
            if self._context.keras == "2":
                self.model._training_state = None
            else:
                self.model._initial_epoch = None

        def _step(self) -> int:
            return int(_optimizer(self.model).iterations.numpy())

        def _save(self, position: Position) -> None:
            assert self._checkpointer is not None
            self._checkpointer.save(position)

    return CheckpointCallback


def _optimizer(model: Any) -> Any:
    """The optimizer that counts steps, within a loss-scaling one."""
    return getattr(model.optimizer, "inner_optimizer", model.optimizer)


def _progress(base: Any) -> Any:
    class ProgressCallback(base):  # type: ignore[misc]
        """Reports steps to the launcher, at most every half second, and each epoch's metrics."""

        def __init__(self, context: TaskContext) -> None:
            super().__init__()
            self._context = context
            self._sent = 0.0
            self._start = 0
            self._epoch = 0

        def on_train_begin(self, logs: Any = None) -> None:
            self._start = int(_optimizer(self.model).iterations.numpy())

        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            self._epoch = epoch
            self._before = self._start

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            self._start = self._before + batch + 1
            self._report(logs)

        def on_test_batch_end(self, batch: int, logs: Any = None) -> None:
            self._report({})

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            self._sent = 0.0
            self._report(logs, epoch_done=True)

        def _report(self, logs: Any, *, epoch_done: bool = False) -> None:
            now = time.monotonic()
            if now - self._sent < REPORT_SECONDS:
                return
            self._sent = now
            metrics = {name: float(value) for name, value in (logs or {}).items()} if self._context.is_leader else {}
            params = self.params or {}
            self._context.send_step(
                self._start,
                metrics,
                epoch=self._epoch + 1,
                epochs=params.get("epochs"),
                steps=params.get("steps"),
                epoch_done=epoch_done,
            )

    return ProgressCallback
