"""Look at the world before a job starts: code, storage, data, installed versions, the nodes at hand."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import socket
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout  # another class than TimeoutError before Python 3.11
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from cluster.code_check import code_findings
from cluster.errors import StorageError
from cluster.findings import DataFacts, Facts, Finding
from cluster.locations import SHARED_VARIABLE, lies_within
from cluster.placement import LOCAL, Node
from cluster.spec import JobSpec
from cluster.spec_parts import DataSpec
from cluster.storage import open_filesystem, resolve

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

T = TypeVar("T")

#: Distributions that provide each package, the usual one first.
DISTRIBUTIONS = {
    "tensorflow": ("tensorflow", "tensorflow-cpu", "tensorflow-intel", "tensorflow-macos", "tf-nightly"),
    "keras": ("keras", "keras-nightly"),
    "tf-keras": ("tf-keras", "tf-keras-nightly"),
    "tensorflow-io": ("tensorflow-io", "tensorflow-io-nightly"),
    "tensorboard": ("tensorboard", "tb-nightly"),
    "ray": ("ray",),
}
#: More footers than this are not read: they would take longer than a plan may.
MOST_FOOTERS = 200
#: Longest wait, in seconds, for a remote file system, whose own retries may go on for many minutes.
PATIENCE = 10.0
#: Ray gives its object store 30 % of the memory it finds, and tasks the rest.
MEMORY_SHARE = 0.7


def gather(spec: JobSpec, directory: Path, *, prepared: bool = True) -> Facts:
    """Everything `make_plan` must know about the world.

    Args:
        spec: the job.
        directory: what relative paths in the spec are relative to.
        prepared: whether the spec's `prepare` has run.
    """
    return Facts(
        code=code_findings(spec, directory),
        storage=_storage_problem(spec.storage, directory),
        data={name: _data_facts(name, data, directory) for name, data in spec.data.items()},
        versions={package: _version(names) for package, names in DISTRIBUTIONS.items()},
        python=platform.python_version(),
        uncompiled=_uncompiled("tensorflow"),
        addresses=_addresses(),
        prepared=prepared or spec.prepare is None,
        autoscaling=_autoscaling(),
        shared=_is_shared(resolve(spec.storage, str(directory))),
    )


def local_node() -> Node:
    """This machine as the node of a Ray that a run would start on it."""
    resources = {"CPU": float(os.cpu_count() or 1), "memory": _free_memory() * MEMORY_SHARE}
    gpus = _gpu_count()
    if gpus:
        resources["GPU"] = float(gpus)
    return Node(LOCAL, "127.0.0.1", resources, resources)


def nodes_from_ray() -> list[Node]:
    """The living nodes of the Ray cluster that this process is connected to, in the order of their ids."""
    import ray
    from ray._private.state import available_resources_per_node  # Ray has no public call for it

    available = available_resources_per_node()
    return [
        Node(node["NodeID"], node["NodeManagerAddress"], dict(node["Resources"]), available.get(node["NodeID"], {}))
        for node in sorted(ray.nodes(), key=lambda node: str(node["NodeID"]))
        if node["Alive"]
    ]


def draining_nodes() -> dict[str, float | None]:
    """Nodes of Ray that are being drained, by id, and when they end, in seconds since the Unix epoch, if it is known.

    Ray itself places nothing on them. Raises errors of Ray's own kinds where it does not answer at once.
    """
    from ray._private.worker import global_worker  # Ray has no public call for it

    found = global_worker.gcs_client.get_draining_nodes(timeout=1.0)
    return {node: ends / 1000 if ends else None for node, ends in found.items()}


def _autoscaling() -> bool:
    """Whether the connected Ray cluster, if any, has an autoscaler that may add nodes."""
    ray = sys.modules.get("ray")
    if ray is None or not ray.is_initialized():
        return False
    from ray._private.state import state

    # KubeRay's autoscaler reports no bounds. Where there is one, the head is started without Ray's own monitor.
    beside_the_head = "--no-monitor" in os.environ.get("KUBERAY_GEN_RAY_START_CMD", "")
    return beside_the_head or bool(state.get_max_resources_from_cluster_config())


def _is_shared(uri: str) -> bool:
    """Whether the place is known to be one that all machines see alike."""
    return lies_within(uri, os.environ.get(SHARED_VARIABLE, "").split(":"))


def _version(names: tuple[str, ...]) -> str | None:
    for name in names:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return None


def _uncompiled(package: str) -> str | None:
    """The folder of a package that Python must compile again each time: uv installs it so, and nobody may write there.

    The package is not imported.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return None
    folder = Path(spec.submodule_search_locations[0])
    kept = Path(importlib.util.cache_from_source(str(folder / "__init__.py")))
    writes = not sys.dont_write_bytecode and os.access(kept.parent if kept.parent.exists() else folder, os.W_OK)
    return None if kept.exists() or writes else str(folder)


def _addresses() -> frozenset[str]:
    """This machine's loopback addresses, and those from which it reaches others (no packet is sent)."""
    found = {"127.0.0.1", "::1"}
    for family, far in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.connect((far, 9))
                found.add(probe.getsockname()[0])
        except OSError:
            continue
    return frozenset(found)


def _free_memory() -> float:
    """Bytes that new processes may use, within the machine's and the container's limits."""
    free = float(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    for line in _lines("/proc/meminfo"):
        if line.startswith("MemAvailable:"):
            free = float(line.split()[1]) * 1024
    for limit, usage in (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ):
        numbers = [line.strip() for line in _lines(limit) + _lines(usage)]
        if len(numbers) == 2 and all(number.isdigit() for number in numbers):
            free = min(free, max(float(numbers[0]) - float(numbers[1]), 0.0))
    return free


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError):
        return []


def _gpu_count() -> int:
    """NVIDIA GPUs of this machine, as far as CUDA_VISIBLE_DEVICES shows them."""
    try:
        count = len(os.listdir("/proc/driver/nvidia/gpus"))
    except OSError:
        count = _gpus_listed_by_nvidia_smi()  # WSL has no such folder
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible == "NoDevFiles":  # none, as Ray reads it
        return 0
    return count if visible is None else min(count, len([gpu for gpu in visible.split(",") if gpu.strip()]))


def _gpus_listed_by_nvidia_smi() -> int:
    command = shutil.which("nvidia-smi")
    if command is None:
        return 0
    try:
        listing = subprocess.run([command, "-L"], capture_output=True, text=True, timeout=5, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return 0
    return sum(line.startswith("GPU ") for line in listing.splitlines())


def _storage_problem(storage: str, directory: Path) -> Finding | None:
    """Why no file can be written to `storage`, proved by writing one; leaves nothing behind."""
    uri = resolve(storage, str(directory))
    try:
        _within(PATIENCE if "://" in uri else None, lambda: _try_to_write(uri))
    except FutureTimeout:
        late = f"the storage did not answer within {PATIENCE:g} s"
        return Finding("error", late, storage, "check address and network")
    except StorageError as error:
        return Finding("error", error.happened, error.seen, error.todo)
    except (OSError, ValueError, NotImplementedError) as error:  # what pyarrow raises
        return Finding("error", "the storage cannot be written", storage, _first_line(error))
    return None


def _try_to_write(uri: str) -> None:
    filesystem, path = open_filesystem(uri)
    made = _missing_folders(filesystem, path)
    probe = f"{path.rstrip('/')}/.tfcluster-{uuid.uuid4().hex}"
    try:
        filesystem.create_dir(path, recursive=True)
        with filesystem.open_output_stream(probe) as stream:
            stream.write(b"tfcluster plan was here")
        filesystem.delete_file(probe)
    finally:
        _remove_empty(filesystem, made)


def _missing_folders(filesystem: FileSystem, path: str) -> list[str]:
    """`path` and its parents as far as they do not exist, the deepest first."""
    from pyarrow.fs import FileType

    missing = []
    while path.strip("/") and filesystem.get_file_info(path).type == FileType.NotFound:
        missing.append(path)
        path = path.rstrip("/").rpartition("/")[0]
    return missing


def _remove_empty(filesystem: FileSystem, folders: list[str]) -> None:
    from pyarrow.fs import FileSelector

    for folder in folders:
        try:
            if filesystem.type_name == "local":
                os.rmdir(folder)
            elif not filesystem.get_file_info(FileSelector(folder)):
                filesystem.delete_dir(folder)
        except OSError:
            return


def _data_facts(name: str, data: DataSpec, directory: Path) -> DataFacts:
    patterns = [_from_here(pattern, directory) for pattern in data.patterns]
    remote = any("://" in pattern for pattern in patterns)
    shared = all("://" in pattern or _is_shared(os.path.abspath(pattern)) for pattern in patterns)
    try:
        found = _within(PATIENCE if remote else None, lambda: _read_data(name, data, patterns))
        return replace(found, shared=shared)
    except FutureTimeout:
        problem = Finding(
            "warning", f"data.{name} could not be looked at within {PATIENCE:g} s", patterns[0], "check its address"
        )
        return DataFacts(problem=problem)


def _from_here(pattern: str, directory: Path) -> str:
    if "://" in pattern or directory.resolve() == Path.cwd():
        return pattern
    return os.path.join(directory, os.path.expanduser(pattern))


def _read_data(name: str, data: DataSpec, patterns: list[str]) -> DataFacts:
    from cluster.datasets import files_of, request_of
    from pipelines.errors import DataError
    from pipelines.nulls import check_nulls
    from pipelines.sources import check_records, look_at

    files = replace(files_of(data), patterns=tuple(patterns))
    try:
        looked = look_at(files, request_of(data), MOST_FOOTERS)
        opened = looked.opened
        if opened is None:
            return DataFacts(files=len(looked.files))
        if opened.records is None and not data.filters:  # they may leave out the rows that hold nulls
            check_nulls(looked.filesystem, [*dict.fromkeys(unit.file for unit in opened.units)], opened.layout)
        if opened.records is not None and data.features is not None and data.on_error == "raise":
            check_records(opened)
    except DataError as error:
        return DataFacts(problem=Finding("error", f"data.{name}: {error.happened}", error.seen, error.todo))
    # What is left out, if something is, is found by reading everything, which is the job's work.
    if not looked.whole or data.on_error != "raise":
        return DataFacts(files=len(looked.files))
    return DataFacts(len(looked.files), len(opened.units), sum(unit.rows for unit in opened.units))


def _within(seconds: float | None, work: Callable[[], T]) -> T:
    """The result of `work`, waited for at most `seconds`; a thread that is still stuck then is left alone.

    Raises:
        concurrent.futures.TimeoutError: it took longer.
    """
    if seconds is None:
        return work()
    future: Future[T] = Future()
    threading.Thread(target=_settle, args=(future, work), daemon=True).start()
    return future.result(seconds)


def _settle(future: Future[T], work: Callable[[], T]) -> None:
    try:
        future.set_result(work())
    except BaseException as error:  # raised again by whoever waits for the future
        future.set_exception(error)


def _first_line(error: BaseException) -> str:
    text = str(getattr(error, "strerror", None) or error).strip()
    return text.splitlines()[0] if text else type(error).__name__
