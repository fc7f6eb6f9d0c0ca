"""A machine with a GPU, as far as programs ask for it: NVIDIA's libraries in C, built by each test that needs them.

Each writes every call that matters, with the id of the process that made it, into the file `SIMULATED_CALLS`.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

#: Source file → the name under which programs load the library.
_NAMES = {"cuda": "libcuda.so.1", "cupti": "libcupti.so.12", "nvml": "libnvidia-ml.so.1"}


def build(folder: Path, *sources: str) -> Path:
    """A folder for LD_LIBRARY_PATH with these libraries; the test is skipped where there is no C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler")
    for source in sources:
        name, code = _NAMES[source], Path(__file__).with_name(f"{source}.c")
        command = [compiler, "-shared", "-fPIC", "-O1", "-Wall", "-Werror", f"-Wl,-soname,{name}"]
        subprocess.run([*command, "-o", folder / name, code, "-pthread"], check=True)
    return folder
