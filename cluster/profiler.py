"""TensorFlow's profiler in this process: begin, and end with one file of what it saw, without harm to the training."""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import mmap
import os
import platform
import resource
import select
import shutil
import signal
import time
import warnings
from pathlib import Path
from typing import Any, NamedTuple

from cluster.xplane import cut_planes

#: The first TensorFlow whose profiler may crash the process when it ends a capture, see `_stop_in_a_copy`.
FRAGILE = (2, 18)
#: Copies that are tried, one after the other, and how long each may take, in seconds.
_TRIES, _PATIENCE = 8, 30.0
_NO_HOST = "only GPUs are in it: TensorFlow's profiler crashed while it collected what the host did"
#: Names of the libraries that know what a GPU did.
_CUPTI, _CUDA = "libcupti.so", "libcuda.so"
#: The library of TensorFlow's that has its profiler, and of it:
_FRAMEWORK = "libtensorflow_framework.so.2"
#: `tsl::profiler::internal::g_trace_level`: what host events are recorded; -1 is none.
_LEVEL_SYMBOL = "_ZN3tsl8profiler8internal13g_trace_levelE"
#: `tsl::tracing::SetEventCollector`, and the two categories that the profiler sets: scheduling and running of closures.
_COLLECTOR_SYMBOL = "_ZN3tsl7tracing17SetEventCollectorENS0_13EventCategoryEPKNS0_14EventCollectorE"
_CLOSURES = (0, 1)
#: Instructions of x86-64: the mark of a place that an indirect call may lead to, and the return from a function.
_ENDBR64, _RET = b"\xf3\x0f\x1e\xfa", b"\xc3"
#: The whole of a function that does nothing and returns 0, or another number.
_DONE, _END, _FAILED = b"\x31\xc0" + _RET, b"\xb8\x0c\x00\x00\x00" + _RET, b"\xb8\x03\x00\x00\x00" + _RET
#: … that sets the number its first argument points to as high as it goes, and its third argument's to 0.
_LATE = b"\x48\xb8" + b"\xff" * 7 + b"\x7f" + b"\x48\x89\x07" + _DONE
_NONE = b"\x48\xc7\x02\x00\x00\x00\x00" + _DONE
#: What TensorFlow calls when it ends a capture of GPUs, and what it is to do in a copy: there is no record to be had,
#: none is lost, and the last event was before the end. Seen with TensorFlow 2.17 and 2.21.
_SILENT = {
    _CUPTI: {
        "cuptiEnableCallback": _DONE,
        "cuptiEnableDomain": _DONE,
        "cuptiUnsubscribe": _DONE,
        "cuptiActivityDisable": _DONE,
        "cuptiActivityFlushAll": _DONE,
        "cuptiActivityFlushPeriod": _DONE,
        "cuptiActivityGetNextRecord": _END,
        "cuptiActivityGetNumDroppedRecords": _NONE,
        "cuptiGetTimestamp": _LATE,
        "cuptiFinalize": _DONE,
    },
    _CUDA: {"cuDeviceGet": _FAILED},
}


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
    gpus = bool(_loaded(_CUPTI) or tf.config.list_physical_devices("GPU"))
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
        _keep_freed_memory()
        _leave_gpus_alone()
        _free_nothing()
        _layout = [bytearray(700 + 64 * i) for i in range(number * 3000)][::2]  # of the heap: another one each time
        level.value = recorded
        tf.profiler.experimental.stop()
    except BaseException:
        os._exit(3)
    os._exit(0)


def _keep_freed_memory() -> None:
    """Have the C library keep what is given back, so that fewer of the profiler's pointers lead nowhere.

    Source: mallopt(3), M_TRIM_THRESHOLD (-1) and M_MMAP_THRESHOLD (-3).
    """
    libc = ctypes.CDLL(None)
    for parameter in (-1, -3):
        libc.mallopt(parameter, 1 << 30)


def _free_nothing() -> None:
    """Have `free` of the C library return at once: its code begins with a `ret`."""
    _become(ctypes.CDLL(None).free, _RET)


def _leave_gpus_alone() -> None:
    """Have what `_SILENT` lists do nothing, of the libraries that this process has loaded."""
    for name, functions in _SILENT.items():
        for path in _loaded(name):
            library = ctypes.CDLL(path)
            for function, code in functions.items():
                with contextlib.suppress(AttributeError):  # another version of the library
                    _become(getattr(library, function), code)


def _loaded(name: str) -> set[str]:
    """The files of this process' shared libraries whose names begin so (proc(5), maps)."""
    lines = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace").splitlines()
    paths = {line.split(maxsplit=5)[5] for line in lines if line.count("/")}
    return {path for path in paths if Path(path).name.startswith(name)}


def _become(function: Any, code: bytes) -> None:
    """Put `code` in the place of a function's own, where that is known to work.

    On processors other than x86-64, and where the system lets nobody change code, it stays as it is.
    """
    if platform.machine() != "x86_64":
        return
    begin = ctypes.cast(function, ctypes.c_void_p).value
    assert begin is not None
    if ctypes.string_at(begin, len(_ENDBR64)) == _ENDBR64:  # where a call may land; what follows is the function
        begin += len(_ENDBR64)
    page = begin & -mmap.PAGESIZE
    size = 2 * mmap.PAGESIZE
    change = mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC
    if ctypes.CDLL(None).mprotect(ctypes.c_void_p(page), size, change) == 0:
        ctypes.memmove(begin, code, len(code))


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
