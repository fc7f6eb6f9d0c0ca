"""Opens the context of a task: settles precision and random state, repairs, and makes the strategy."""

from __future__ import annotations

import os
import zlib
from pathlib import Path

from cluster import markers
from cluster import strategy as strategies
from cluster.channel import Channel
from cluster.context import TaskContext
from cluster.coordinator import Leases, make_coordinator
from cluster.launch import Launch
from cluster.per_worker import respect_per_worker_batches
from cluster.repairs import repair
from cluster.storage import RunDirectory
from cluster.tf_config import read_tf_config, split_address
from cluster.window import Window


def _seed_alike(launch: Launch) -> None:
    """Give every task the same random state.

    Keras shuffles arrays on each worker before it takes the worker's share: other orders would skip some rows and
    repeat others.
    """
    from cluster.callbacks import keras_module

    seed = zlib.crc32(f"{launch.run_dir} {launch.attempt}".encode())
    keras_module(launch.keras).utils.set_random_seed(seed)


def _mark_steps(launch: Launch, window: Window) -> None:
    """Have the steps of Keras' `fit` seen in traces, and by the window where it waits for some of them."""
    if launch.keras == "3":
        markers.mark_steps()
    elif window.waits:
        markers.count_steps()
    markers.steps.before = window.before if window.waits else None


def open_context(launch: Launch, channel: Channel, scratch: str) -> TaskContext:
    """Settle precision and strategy, which waits for the other tasks, and make the context."""
    spec = launch.spec
    strategies.apply_log_level(spec.log_level)
    strategies.apply_precision(spec.precision, launch.keras)
    repair()
    respect_per_worker_batches()
    if spec.strategy == "multi_worker_mirrored":
        _seed_alike(launch)
    evaluates = launch.task.role == "evaluator"
    name = "none" if evaluates else spec.strategy
    strategy = None if name == "custom" else strategies.make_strategy(name, spec.partition)
    coordinator = leases = None
    if name == "parameter_server":
        from cluster.parameter_server import explain_keras3_fit

        leases = Leases(_own_host(), launch.secret, spec.replicas("worker"))
        coordinator = make_coordinator(strategy, leases)
        if launch.keras == "3":
            explain_keras3_fit()
    storage = RunDirectory(launch.run_dir, Path(scratch, "run"))
    context = TaskContext(launch, channel, Path(scratch), storage, strategy, coordinator, _leases=leases)
    _mark_steps(launch, context._window)
    return context


def _own_host() -> str:
    """This task's host in TF_CONFIG, where the other tasks reach it."""
    task, addresses = read_tf_config(os.environ["TF_CONFIG"])
    return split_address(addresses[task])[0]
