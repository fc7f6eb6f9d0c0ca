"""What a copy of a process that ends in a moment must not do: give memory back, and ask NVIDIA's libraries.

Such functions of C libraries are overwritten there, with the least that their callers need of them.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import platform
from pathlib import Path
from typing import Any

#: Names of the libraries that know what a GPU did.
CUPTI, _CUDA = "libcupti.so", "libcuda.so"
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
    CUPTI: {
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


def keep_freed_memory() -> None:
    """Have the C library keep what is given back, so that fewer of the profiler's pointers lead nowhere.

    Source: mallopt(3), M_TRIM_THRESHOLD (-1) and M_MMAP_THRESHOLD (-3).
    """
    libc = ctypes.CDLL(None)
    for parameter in (-1, -3):
        libc.mallopt(parameter, 1 << 30)


def free_nothing() -> None:
    """Have `free` of the C library return at once: its code begins with a `ret`."""
    _become(ctypes.CDLL(None).free, _RET)


def leave_gpus_alone() -> None:
    """Have what `_SILENT` lists do nothing, of the libraries that this process has loaded."""
    for name, functions in _SILENT.items():
        for path in loaded(name):
            library = ctypes.CDLL(path)
            for function, code in functions.items():
                with contextlib.suppress(AttributeError):  # another version of the library
                    _become(getattr(library, function), code)


def loaded(name: str) -> set[str]:
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
