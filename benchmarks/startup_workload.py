"""What every system of `benchmarks/startup.py` runs: a tiny model, its first step timed, then a steady thousand."""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

#: Steps that are timed once the first, which traces the graph, and a few more are over.
WARM_UP, STEADY = 20, 1000


def memory() -> dict[str, float]:
    """Resident and proportional memory of this process in MB (proc(5), smaps_rollup)."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    sizes = {line.split(":")[0]: int(line.split()[1]) / 1024 for line in lines[1:]}
    return {"rss_mb": round(sizes["Rss"], 1), "pss_mb": round(sizes["Pss"], 1)}


def write(folder: str, ends: list[float]) -> None:
    """Write what this task saw: `ends` are the times at which its steps ended."""
    gaps = [b - a for a, b in zip(ends[WARM_UP:], ends[WARM_UP + 1 :], strict=False)]
    seen = {"first_step_at": ends[0], "step_ms": 1000 * statistics.median(gaps), **memory()}
    Path(folder, f"{os.getpid()}.json").write_text(json.dumps(seen))


def multi_worker(strategy: Any, folder: str) -> None:
    """tf-keras fit on random rows under `strategy`."""
    import numpy as np
    import tf_keras

    with strategy.scope():
        model = tf_keras.Sequential([tf_keras.layers.Input((16,)), tf_keras.layers.Dense(32), tf_keras.layers.Dense(1)])
        model.compile("sgd", "mse")
    ends: list[float] = []
    callback = tf_keras.callbacks.LambdaCallback(on_train_batch_end=lambda *_: ends.append(time.time()))
    rows = 64 * (WARM_UP + STEADY)
    x, y = np.ones((rows, 16), np.float32), np.ones((rows, 1), np.float32)
    model.fit(x, y, batch_size=64, epochs=1, verbose=0, shuffle=False, callbacks=[callback])
    write(folder, ends)


def parameter_servers(strategy: Any, folder: str) -> None:
    """A custom loop: one variable, scheduled steps, each waited for."""
    import tensorflow as tf

    coordinator = tf.distribute.coordinator.ClusterCoordinator(strategy)
    with strategy.scope():
        weights = tf.Variable(tf.zeros((16, 1)))

    @tf.function
    def step() -> None:
        weights.assign_add(tf.ones((16, 1)))

    ends = []
    for _ in range(WARM_UP + STEADY):
        coordinator.schedule(step)
        coordinator.join()
        ends.append(time.time())
    write(folder, ends)


def train(ctx: Any, folder: str) -> None:
    """The entrypoint for ray-tfcluster."""
    (multi_worker if ctx.coordinator is None else parameter_servers)(ctx.strategy, folder)


def by_hand(folder: str) -> None:
    """The same as a script that reads TF_CONFIG, started by hand."""
    import tensorflow as tf

    resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver()
    if "ps" not in resolver.cluster_spec().jobs:
        multi_worker(tf.distribute.MultiWorkerMirroredStrategy(), folder)
    elif resolver.task_type in ("ps", "worker"):
        tf.distribute.Server(resolver.cluster_spec(), resolver.task_type, resolver.task_id, protocol="grpc").join()
    else:
        parameter_servers(tf.distribute.ParameterServerStrategy(resolver), folder)


if __name__ == "__main__":
    by_hand(sys.argv[1])
    os._exit(0)  # the runtime's threads may wait for peers that have ended already
