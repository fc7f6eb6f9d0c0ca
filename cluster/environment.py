"""The environment variables of a task: what a TF_CONFIG launcher is expected to set, and what we add. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from cluster.locations import join
from cluster.spec import JobSpec
from cluster.tasks import Task
from cluster.tf_config import make_tf_config

#: TF_CPP_MIN_LOG_LEVEL by the spec's log_level (tensorflow/core/platform/default/logging.cc).
CPP_LOG_LEVEL = {"debug": "0", "info": "0", "warning": "1", "error": "2"}

#: What keeps memory that readers let go of for those that come next, in the place of handing it back to the system and
#: taking it again, page by page, which is a fifth of the time of reading a thousand columns. mimalloc is Arrow's
#: allocator (milliseconds), the others are those of glibc: see mallopt(3); to set one ends their adjusting themselves.
ALLOCATORS = {
    "MIMALLOC_PURGE_DELAY": "10000",
    "MALLOC_TRIM_THRESHOLD_": str(256 * 2**20),
    "MALLOC_MMAP_THRESHOLD_": str(32 * 2**20),
}

#: What never travels with a job's folder: results, history, environments, caches.
EXCLUDED = ("runs", ".git", ".venv*", "__pycache__", ".mypy_cache", ".ruff_cache", ".pytest_cache")


def import_environment(spec: JobSpec, keras: str) -> dict[str, str]:
    """What must be set before TensorFlow is imported, the same for every task of the job."""
    return {
        "TF_CPP_MIN_LOG_LEVEL": CPP_LOG_LEVEL[spec.log_level],
        "TF_USE_LEGACY_KERAS": "1" if keras == "2" else "0",
        "PYTHONUNBUFFERED": "1",
        **ALLOCATORS,
    }


def task_environment(
    spec: JobSpec,
    task: Task,
    *,
    keras: str,
    attempt: int,
    run_dir: str,
    addresses: Mapping[Task, str],
    gpus: Sequence[str],
) -> dict[str, str]:
    """Every variable of one task, over those of its supervisor; the user's own come last.

    `TF_GRPC_REUSE_PORT` lets TensorFlow bind the port that the supervisor holds; `GRPC_FAIL_FAST` makes servers
    wait for peers that start later, as `tf.distribute.experimental.ParameterServerStrategy` asks for.
    """
    env = {
        **import_environment(spec, keras),
        "TF_GRPC_REUSE_PORT": "true",
        "CUDA_VISIBLE_DEVICES": ",".join(gpus),
        "TFCLUSTER_NAME": spec.name,
        "TFCLUSTER_ROLE": task.role,
        "TFCLUSTER_INDEX": str(task.index),
        "TFCLUSTER_ATTEMPT": str(attempt),
        "TFCLUSTER_RUN_DIR": run_dir,
        "TFCLUSTER_CHECKPOINT_DIR": join(run_dir, "checkpoints"),
        "TFCLUSTER_TENSORBOARD_DIR": join(run_dir, "tensorboard"),
        "TFCLUSTER_EXPORT_DIR": join(run_dir, "export"),
    }
    if spec.replicas("ps"):
        env["GRPC_FAIL_FAST"] = "use_caller"
    tf_config = make_tf_config(task, addresses, spec.strategy)
    if tf_config is not None:
        env["TF_CONFIG"] = json.dumps(tf_config)
    return env | spec.role(task.role).env
