"""What the copy of a task does before it collects a trace, so that the profiler's stale pointers do no harm."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

#: Gives a block of memory back twice, which the C library answers by ending the process.
TWICE = """
import ctypes
from cluster import silenced
{prepare}
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
blocks = [libc.malloc(ctypes.c_size_t(size)) for size in (24, 5000, 1 << 20)]
for block in blocks * 2:
    libc.free(ctypes.c_void_p(block))
print([len(bytearray(size)) for size in (10, 1 << 22)], flush=True)
import os; os._exit(0)
"""


def freed_twice(prepare: str) -> subprocess.CompletedProcess[str]:
    code = TWICE.format(prepare=prepare)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=os.getcwd())


@pytest.mark.skipif(platform.machine() != "x86_64", reason="on other processors free() stays as it is")
def test_nothing_is_given_back() -> None:
    assert freed_twice("").returncode < 0, "the C library does not notice, so this test tells nothing"
    done = freed_twice("silenced.free_nothing()")
    assert (done.returncode, done.stdout) == (0, "[10, 4194304]\n"), done.stderr
