"""Judges a capture in a process of its own: it takes ten times the memory of a trace, and may lack it without harm.

The process is the first that a kernel without memory ends, gives way to others on busy processors, and ends with the
one that started it.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cluster.advice import ORDINARY, About
from cluster.capture import SUFFIX
from cluster.processes import die_with_parent, signal_name

#: Share of the free memory that it may take, at most.
_SHARE = 0.8
#: Bytes that it needs: so many for each of its largest trace (ten were measured), and some for Python and numpy.
_TIMES, _BASE = 12, 100e6
#: Seconds between two looks whether the verdict is still wanted.
_LOOK = 0.1
_NICE = 10


class StoppedError(Exception):
    """Nobody waits for the verdict any more."""


class UnjudgedError(Exception):
    """There is no verdict for want of memory, or because the process was ended: elsewhere there may be one."""


def judge_apart(
    folder: Path,
    *,
    strategy: str,
    missing: Mapping[str, str],
    about: About = ORDINARY,
    stopped: Callable[[], bool] = lambda: False,
    memory: float | None = None,
) -> dict[str, Any]:
    """The verdict on the traces in `folder`, as `cluster.verdict.judge_folder` gives it, as a document.

    Args:
        folder: of one capture.
        strategy: of the spec.
        missing: tasks without a trace, and why.
        about: the job and its capture.
        stopped: is asked now and then whether to leave it.
        memory: bytes that the process may take; default: most of what is free.

    Raises:
        StoppedError: it was left.
        UnjudgedError: the process could not be started, lacked memory, or was ended.
        ValueError: the traces cannot be judged.
    """
    memory = _SHARE * free_memory() if memory is None else memory
    needed = _BASE + _TIMES * max((path.stat().st_size for path in folder.glob(f"*{SUFFIX}")), default=0)
    if needed > memory:  # where a container runs out of memory, the kernel may end all of it
        raise UnjudgedError(f"it takes {needed / 1e9:.1f} GB of memory, and {memory / 1e9:.1f} GB may be taken")
    order = {"strategy": strategy, "missing": dict(missing), "about": about._asdict(), "parent": os.getpid()}
    try:
        with tempfile.TemporaryFile() as told:  # a thousand tasks without a trace are too long an argument
            told.write(json.dumps(order).encode())
            told.seek(0)
            process = subprocess.Popen(
                [sys.executable, "-m", "cluster.judging"],
                stdin=told,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=_environment(),
                cwd=folder,  # a user's folder may hold a cluster of its own
                start_new_session=True,  # Ctrl-C is for the launcher, which then decides how long to wait
            )
    except OSError as error:
        raise UnjudgedError(f"its process could not be started: {error}") from None
    with process:
        output, words = _wait(process, stopped)
    return _answer(process.returncode, output, words)


def _wait(process: subprocess.Popen[bytes], stopped: Callable[[], bool]) -> tuple[bytes, bytes]:
    while True:
        try:
            return process.communicate(timeout=_LOOK)
        except subprocess.TimeoutExpired:
            if stopped():
                process.kill()
                raise StoppedError from None


def _answer(code: int, output: bytes, words: bytes) -> dict[str, Any]:
    """What the process has said, if it came so far."""
    told: dict[str, Any] = json.loads(output) if output and code == 0 else {}
    if "verdict" in told:
        return dict(told["verdict"])
    if "wrong" in told:
        raise ValueError(told["wrong"])
    if code < 0:
        raise UnjudgedError(f"its process was ended by {signal_name(-code)}, for want of memory perhaps")
    last = words.decode(errors="replace").strip().splitlines()[-1:]
    raise UnjudgedError(f"its process ended with {code}: {last[0] if last else 'it said nothing'}")


def _environment() -> dict[str, str]:
    """This process' variables; where this package is; and no thread of numpy's that reserves memory for itself."""
    paths = [str(Path(__file__).resolve().parents[1]), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), "OPENBLAS_NUM_THREADS": "1"}


def free_memory(proc: Path = Path("/proc"), groups: Path = Path("/sys/fs/cgroup")) -> float:
    """Bytes that are free, within the machine's and the container's limits; pages of files are given back when needed.

    Sources: proc(5), meminfo; https://docs.kernel.org/admin-guide/cgroup-v2.html, memory.max.
    """
    free = [1024 * float(value) for name, value in _fields(proc / "meminfo") if name == "MemAvailable:"]
    for folder, limit, used in (
        (groups, "memory.max", "memory.current"),
        (groups / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
    ):
        numbers = [_text(folder / name).strip() for name in (limit, used)]
        if all(number.isdigit() for number in numbers):
            cached = dict(_fields(folder / "memory.stat")).get("inactive_file", "0")
            free.append(float(numbers[0]) - float(numbers[1]) + float(cached))
    return max(0.0, min(free, default=float("inf")))


def _fields(path: Path) -> list[tuple[str, str]]:
    """The first two words of each line."""
    words = [line.split() for line in _text(path).splitlines()]
    return [(each[0], each[1]) for each in words if len(each) > 1]


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""


def main(order: Mapping[str, Any]) -> int:
    """Judge the traces in the working directory, and print the verdict, or why there is none, as one JSON document."""
    from cluster.verdict import judge_folder  # which reads traces, as the launcher no longer does

    die_with_parent(order["parent"])
    os.nice(_NICE)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    try:
        known = {"strategy": order["strategy"], "missing": order["missing"], "about": About(**order["about"])}
        verdict = judge_folder(Path(), **known)
        sys.stdout.write(json.dumps({"verdict": verdict.to_document()}))
    except MemoryError:
        raise  # elsewhere there may be more
    except Exception as error:
        sys.stdout.write(json.dumps({"wrong": f"{type(error).__name__}: {error}"}))
    return 0


if __name__ == "__main__":
    sys.exit(main(json.load(sys.stdin)))
