"""ray-tfcluster: one spec becomes a working TensorFlow 2 cluster on Ray."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cluster.checkpoints import Position as Position
    from cluster.context import TaskContext as TaskContext
    from cluster.errors import TfClusterError as TfClusterError
    from cluster.launcher import Result as Result
    from cluster.launcher import run as run
    from cluster.profiling import profile as profile
    from cluster.spec import JobSpec as JobSpec
    from cluster.submission import submit as submit

__version__ = "0.1.0"

#: Public name → module. Loaded on first use, so that a task and `tfcluster --help` import only what they need.
_PUBLIC = {
    "JobSpec": "cluster.spec",
    "Position": "cluster.checkpoints",
    "Result": "cluster.launcher",
    "TaskContext": "cluster.context",
    "TfClusterError": "cluster.errors",
    "profile": "cluster.profiling",
    "run": "cluster.launcher",
    "submit": "cluster.submission",
}
__all__ = ["JobSpec", "Position", "Result", "TaskContext", "TfClusterError", "profile", "run", "submit"]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'cluster' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_PUBLIC[name]), name)
