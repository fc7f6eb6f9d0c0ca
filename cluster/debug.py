"""Dumps of a task's tensors for TensorBoard's Debugger V2, one folder a task and attempt.

Each task dumps for itself: the debugger reads the dumps of one program (tensorboard/plugins/debugger_v2).
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

from cluster.channel import Channel
from cluster.errors import StorageError
from cluster.launch import Launch
from cluster.locations import join
from cluster.storage import RunDirectory, upload_folder

#: Where dumps end up in a run directory; below it is a folder a task, and in that one an attempt.
FOLDER = "tensorboard/debug"
#: Longest wait, in seconds, for the launcher to fetch dumps.
PATIENCE = 300.0


@contextlib.contextmanager
def dumping(order: Launch, channel: Channel, scratch: str) -> Iterator[None]:
    """Dump what the block does, as the spec's `debug` says, and bring the dumps to the run directory."""
    spec = order.spec.debug
    if spec is None:
        yield
        return
    import tensorflow as tf

    name = f"{FOLDER}/{order.task}/{order.attempt}"
    storage = RunDirectory(order.run_dir, Path(scratch, "run"))
    seen = storage.is_local and Path(storage.local, "job.yaml").exists()  # else this machine does not share its disk
    folder = (storage.local if seen else Path(scratch)) / name
    folder.mkdir(parents=True, exist_ok=True)
    if order.keras == "3":
        _no_xla()
    experimental = tf.debugging.experimental
    experimental.enable_dump_debug_info(
        str(folder), tensor_debug_mode=spec.mode, circular_buffer_size=spec.buffer, op_regex=spec.ops
    )
    if spec.ops is not None:
        _names_as_text()
    try:
        yield
    finally:
        experimental.disable_dump_debug_info()  # it writes what its buffers hold
        if not storage.is_local:
            _upload(folder, join(order.run_dir, name), channel)
        elif not seen:
            _hand_over(folder, channel)


def _no_xla() -> None:
    """Have Keras 3 compile no step with XLA, which has no operation that dumps; it does so on GPUs by itself."""
    with contextlib.suppress(ImportError):  # a script may do without Keras
        from keras.src.trainers import trainer

        trainer.model_supports_jit = lambda model: False


def _names_as_text() -> None:
    """Have the names of operations compared as text: TensorFlow gives some as bytes, on which its own match fails."""
    from tensorflow.python.debug.lib import dumping_callback

    dumper = dumping_callback._state.dumping_callback
    wanted = dumper._should_dump_tensor
    dumper._should_dump_tensor = lambda op_type, dtype: wanted(
        op_type.decode() if isinstance(op_type, bytes) else op_type, dtype
    )


def _hand_over(folder: Path, channel: Channel) -> None:
    """Have the launcher fetch the dumps, see `cluster.dumps`, and wait until it has: they go with this process."""
    taken = threading.Event()
    channel.on("dumps_taken", lambda command: taken.set())
    channel.send("dumps", folder=str(folder), files=sorted(file.name for file in folder.iterdir()))
    taken.wait(PATIENCE)


def _upload(folder: Path, uri: str, channel: Channel) -> None:
    try:
        upload_folder(folder, uri)
    except StorageError as error:  # no reason to end a job that has done its work
        channel.send("notice", text=f"its dumps are lost: {error}")
