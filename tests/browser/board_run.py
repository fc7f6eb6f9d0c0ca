"""Trains a little in this process as a task does, so that TensorBoard has a run to show: `… board_run FOLDER`."""

from __future__ import annotations

import os
import socket
import sys

from cluster.channel import Channel
from cluster.context import TaskContext
from cluster.debug import dumping
from cluster.events import Event
from cluster.launch import Launch
from cluster.opening import open_context
from cluster.spec import JobSpec
from cluster.storage import RunDirectory
from cluster.tasks import Task


def main(folder: str) -> None:
    """Write the run directory `folder`: scalars, graph, histograms, and dumps with one NaN."""
    spec = JobSpec.of({"entrypoint": "train.py:train", "debug": True})
    directory = RunDirectory(folder)
    directory.create()
    directory.write("job.yaml", "entrypoint: train.py:train\n")
    directory.append("events.jsonl", Event("run_started").to_line())
    task, supervisor = socket.socketpair()
    order = Launch(
        task=Task("worker", 0), attempt=1, spec=spec, code=None, directory=folder, run_dir=folder, keras="3", workers=1,
        leader=True, secret=b"", checkpoint=None,
    )  # fmt: skip
    context = open_context(order, Channel(task), folder)
    with dumping(order, context._channel, folder):
        train(context)
    context.close()
    supervisor.setblocking(False)  # is open until here: a task without its supervisor ends itself
    sys.stdout.flush()
    os._exit(0)


def train(context: TaskContext) -> None:
    """Three epochs, and a logarithm of a negative number."""
    import keras
    import numpy as np
    import tensorflow as tf

    keras.utils.set_random_seed(1)
    hidden = keras.layers.Dense(8, activation="relu", name="hidden")
    model = keras.Sequential([keras.layers.Input((4,)), hidden, keras.layers.Dense(1, name="out")])
    model.compile("sgd", "mse")
    x = np.random.default_rng(7).random((64, 4), dtype=np.float32)
    model.fit(x, x.sum(axis=1), batch_size=16, epochs=3, verbose=0, callbacks=context.callbacks(histograms=1))
    tf.math.log(tf.constant([-1.0, 1.0]))


if __name__ == "__main__":
    main(sys.argv[1])
