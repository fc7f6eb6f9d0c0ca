"""TensorFlow's profiler in this process: begin, and end with one file of what it saw, without harm to the training."""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import os
import resource
import select
import shutil
import signal
import time
import warnings
from pathlib import Path
from typing import Any, NamedTuple

from cluster.silenced import CUPTI, free_nothing, keep_freed_memory, leave_gpus_alone, loaded
from cluster.xplane import cut_planes

#: The first TensorFlow whose profiler may crash the process when it ends a capture, see `_stop_in_a_copy`.
FRAGILE = (2, 18)
#: Copies that are tried, one after the other, and how long each may take, in seconds.
_TRIES, _PATIENCE = 8, 30.0
_NO_HOST = "only GPUs are in it: TensorFlow's profiler crashed while it collected what the host did"
#: The library of TensorFlow's that has its profiler, and of it:
_FRAMEWORK = "libtensorflow_framework.so.2"
#: `tsl::profiler::internal::g_trace_level`: what host events are recorded; -1 is none.
_LEVEL_SYMBOL = "_ZN3tsl8profiler8internal13g_trace_levelE"
#: `tsl::tracing::SetEventCollector`, and the two categories that the profiler sets: scheduling and running of closures.
_COLLECTOR_SYMBOL = "_ZN3tsl7tracing17SetEventCollectorENS0_13EventCategoryEPKNS0_14EventCollectorE"
_CLOSURES = (0, 1)


class Trace(NamedTuple):
    """The file of a capture, and what there is to say of it."""

    path: Path
    notes: tuple[str, ...] = ()


class ProfilerError(Exception):
    """The profiler cannot begin, or gave nothing; the message says why."""


def begin(folder: Path) -> None:
    """Record host and device events from now on, of every thread of this process.

    Raises:
        ProfilerError: something else is being recorded here.
    """
    import tensorflow as tf
    from tensorflow.python.profiler import profiler_v2

    taken = getattr(profiler_v2, "_profiler", None) is not None
    profiling = tf.profiler.experimental
    options = profiling.ProfilerOptions(host_tracer_level=2, python_tracer_level=0, device_tracer_level=1)
    try:
        profiling.start(str(folder), options=options)
    except tf.errors.AlreadyExistsError:
        if not taken:  # a session of a profiler server; TensorFlow would now refuse every later one too
            profiling.stop(save=False)
        raise ProfilerError(
            "the program profiles itself at the moment (profile_batch of Keras' TensorBoard, or tf.profiler)"
        ) from None
    _leave_closures_out(Path(tf.__file__).parent)


def _leave_closures_out(package: Path) -> None:
    """Record no closures of thread pools: three events each, two fifths of those of a short step, that nobody reads.

    Which operation ran when on which thread is told by events of its own. This is the call with which the profiler
    itself ends the recording of closures.
    """
    with contextlib.suppress(OSError, AttributeError):  # a TensorFlow without that symbol: they are recorded
        forget = getattr(ctypes.CDLL(str(package / _FRAMEWORK)), _COLLECTOR_SYMBOL)
        forget.argtypes, forget.restype = (ctypes.c_uint, ctypes.c_void_p), None
        for category in _CLOSURES:
            forget(category, None)


def end(folder: Path) -> Trace:
    """Stop recording; the trace of everything since `begin` was called with the same `folder`.

    Raises:
        ProfilerError: there is no such file.
    """
    import tensorflow as tf

    version = tuple(int(part) for part in tf.__version__.split(".")[:2])
    level = _trace_level(Path(tf.__file__).parent)
    if version < FRAGILE or level is None:
        tf.profiler.experimental.stop()
        return Trace(_file_in(folder))
    gpus = bool(loaded(CUPTI) or tf.config.list_physical_devices("GPU"))
    return _stop_in_a_copy(folder, level, gpus=gpus)


def _trace_level(package: Path) -> Any:
    """The variable of the C++ runtime that holds the level; None where this TensorFlow has no such symbol."""
    with contextlib.suppress(OSError, ValueError):
        return ctypes.c_int.in_dll(ctypes.CDLL(str(package / _FRAMEWORK)), _LEVEL_SYMBOL)
    return None


def _stop_in_a_copy(folder: Path, level: Any, *, gpus: bool) -> Trace:
    """End the capture in a forked copy of this process, and drop it here.

    From TensorFlow 2.18 on, collecting events that began on one thread and ended on another, as collectives do, may
    follow a pointer into memory that was given back (`TraceMeRecorder::Consume` copies its queues while it holds
    pointers into them), and the process is ended by SIGSEGV or SIGABRT. In a copy, which lives for a moment, no memory
    need ever be given back, so that such a pointer does no harm. One that crashes all the same costs nothing: the
    events are still here, and the next copy, with its memory laid out in another way, tries again.

    What GPUs did, no copy can ask for: CUDA does not work in the child of a process that uses it, and to wait there for
    NVIDIA's library, whose thread the copy lacks, may take for ever. So a copy leaves that library alone, and this
    process collects the events of its devices, which is safe: no event of the host is collected while the level is -1.
    """
    import tensorflow as tf

    recorded, level.value = level.value, -1  # ends the recording
    made, patience = None, True
    for number in range(_TRIES):
        made, patience = _collected(folder / f"copy-{number}", folder, level, recorded, number)
        if made is not None or (gpus and not patience):
            break
    tf.profiler.experimental.stop(save=gpus)
    if not gpus:
        if made is None:
            raise ProfilerError(f"TensorFlow's profiler crashed {_TRIES} times while it collected its events")
        return Trace(made)
    return Trace(_joined(folder, made), () if made is not None else (_NO_HOST,))


def _collected(target: Path, folder: Path, level: Any, recorded: int, number: int) -> tuple[Path | None, bool]:
    """The file that a copy of this process made, or None if it crashed or did not end; and whether it ended."""
    warnings.filterwarnings("ignore", message=".*multi-threaded, use of fork", category=DeprecationWarning)
    before = set(folder.rglob("*.xplane.pb"))
    pid = os.fork()
    if pid == 0:
        _collect_and_exit(level, recorded, number)
    with contextlib.closing(_Watched(pid)) as watched:
        ended = watched.wait(_PATIENCE)
    made = set(folder.rglob("*.xplane.pb")) - before
    if ended != 0 or not made:
        for path in made:
            path.unlink(missing_ok=True)
        return None, ended != -signal.SIGKILL
    target.mkdir(parents=True, exist_ok=True)
    return Path(shutil.move(made.pop(), target)), True


def _collect_and_exit(level: Any, recorded: int, number: int) -> None:
    """In the copy, where only this thread lives on: collect, convert and write what was recorded."""
    import tensorflow as tf

    try:
        faulthandler.disable()
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        keep_freed_memory()
        leave_gpus_alone()
        free_nothing()
        _layout = [bytearray(700 + 64 * i) for i in range(number * 3000)][::2]  # of the heap: another one each time
        level.value = recorded
        tf.profiler.experimental.stop()
    except BaseException:
        os._exit(3)
    os._exit(0)


class _Watched:
    """A child process that may hang or crash."""

    def __init__(self, pid: int) -> None:
        self._pid, self._fd = pid, os.pidfd_open(pid)

    def wait(self, patience: float) -> int:
        """Its exit code, minus the number of the signal that ended it; after `patience` seconds it is SIGKILL."""
        if not select.select([self._fd], [], [], patience)[0]:
            os.kill(self._pid, signal.SIGKILL)
        _, status = os.waitpid(self._pid, 0)
        return os.waitstatus_to_exitcode(status)

    def close(self) -> None:
        """Let go of the process's descriptor."""
        os.close(self._fd)


def _joined(folder: Path, host: Path | None) -> Path:
    """The devices of this process' file, and all else of the copy's, `host`: each also has a part of the other's."""
    devices = [path for path in folder.rglob("*.xplane.pb") if path != host]
    if not devices:
        if host is None:
            raise ProfilerError("TensorFlow's profiler wrote no file")
        return host
    if host is not None:
        planes = [
            plane
            for path, wanted in ((devices[0], True), (host, False))
            for name, plane in cut_planes(path.read_bytes())
            if name.startswith("/device:") == wanted
        ]
        devices[0].write_bytes(b"".join(planes))  # an XSpace is a list of planes
    return devices[0]


def _file_in(folder: Path) -> Path:
    """The newest trace below `folder`."""
    found = sorted(folder.rglob("*.xplane.pb"), key=lambda path: path.stat().st_mtime_ns)
    if not found:
        raise ProfilerError("TensorFlow's profiler wrote no file")
    return found[-1]


def wall_clock(at: float) -> float:
    """Seconds until `at`, a time on the launcher's clock; never long, for this machine's may be another."""
    return min(max(0.0, at - time.time()), 2.0)
