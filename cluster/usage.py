"""What a task takes of its machine: processors and memory of its processes, and its GPUs."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: A sample of one task, by name: `cpus` (processors in use on average), `memory` (resident bytes of all its processes),
#: `seconds` (that it is of); where the task has GPUs that can be asked, `gpu` (their mean utilisation, from 0 to 1) and
#: `gpu_memory` (bytes in use on them), each for itself.
Sample = dict[str, float]

_TICK = 1 / os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Reading:
    """The processes of a session at one moment.

    Attributes:
        at: seconds of a monotonic clock.
        cpu_seconds: that they, and those of their children that have ended, have used so far.
        memory: resident bytes; a page that several of them share counts once for each.
    """

    at: float
    cpu_seconds: float
    memory: int


def read_session(
    leader: int, proc: Path = Path("/proc"), session_of: Callable[[int], int] = os.getsid
) -> Reading | None:
    """The processes of the session that `leader` leads, as a task does; None when none is left (see proc(5), stat)."""
    ticks = pages = found = 0
    wanted = str(leader)
    for name in os.listdir(proc):
        if not name.isdigit():
            continue
        try:
            if session_of(int(name)) != leader:  # of many processes, all others: to read one takes 20 times as long
                continue
            with open(proc / name / "stat", encoding="ascii", errors="replace") as file:
                fields = file.read().rpartition(")")[2].split()  # the name before it may hold anything
        except OSError:  # ended meanwhile
            continue
        if len(fields) > 21 and fields[3] == wanted and fields[0] != "Z":
            found += 1
            ticks += sum(map(int, fields[11:15]))
            pages += int(fields[21])
    return Reading(time.monotonic(), ticks * _TICK, pages * _PAGE) if found else None


class Sampler:
    """Samples one task, each time for the seconds since the last time.

    Args:
        leader: process id of the task, which begins now, and leads a session or will do so at once.
        gpus: the task's, as Ray names them: an index or a UUID each.
    """

    def __init__(self, leader: int, gpus: Sequence[str] = ()) -> None:
        self._leader = leader
        self._gpus = Gpus(gpus)
        self._last = Reading(time.monotonic(), 0.0, 0)

    def sample(self) -> Sample | None:
        """What the task has taken since the last call; None when it has ended."""
        before, now = self._last, read_session(self._leader)
        if now is None:
            return None
        self._last = now
        seconds = max(now.at - before.at, _TICK)
        cpus = max(0.0, now.cpu_seconds - before.cpu_seconds) / seconds
        found: Sample = {"cpus": round(cpus, 3), "memory": now.memory, "seconds": round(seconds, 3)}
        return {**found, **self._gpus.read()}


class Gpus:
    """NVIDIA GPUs, asked through NVML; of one that does not say, or where there is no driver, nothing is told.

    Args:
        ids: an index or a UUID each, or the beginning of one.
    """

    def __init__(self, ids: Sequence[str]) -> None:
        self._nvml: Any = None
        self._handles: list[Any] = []
        if not ids:
            return
        try:
            import pynvml

            pynvml.nvmlInit()
        except Exception:  # no driver, another one than the library's, or no such module: there is nothing to tell
            return
        self._nvml = pynvml
        for name in ids:
            with contextlib.suppress(pynvml.NVMLError, StopIteration):
                self._handles.append(_handle(pynvml, name.strip()))

    def read(self) -> Sample:
        """`gpu`, the mean of those that tell it, and `gpu_memory` of all together; a part of a GPU has only that."""
        used = self._each(lambda handle: self._nvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100)
        memory = self._each(lambda handle: int(self._nvml.nvmlDeviceGetMemoryInfo(handle).used))
        found = {"gpu": round(sum(used) / len(used), 3)} if used else {}
        return {**found, "gpu_memory": sum(memory)} if memory else found

    def _each(self, ask: Callable[[Any], float]) -> list[float]:
        """The answers of the GPUs that have one."""
        found = []
        for handle in self._handles:
            with contextlib.suppress(self._nvml.NVMLError):
                found.append(ask(handle))
        return found


def _handle(nvml: Any, name: str) -> Any:
    """Of the GPU that CUDA_VISIBLE_DEVICES may call so."""
    if name.isdigit():
        return nvml.nvmlDeviceGetHandleByIndex(int(name))
    try:
        return nvml.nvmlDeviceGetHandleByUUID(name)
    except nvml.NVMLError:
        return next(handle for uuid, handle in _all(nvml) if name and uuid.startswith(name))


def _all(nvml: Any) -> Iterator[tuple[str, Any]]:
    """The GPUs of this machine that answer, by their UUIDs."""
    for index in range(nvml.nvmlDeviceGetCount()):
        with contextlib.suppress(nvml.NVMLError):
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
            yield str(nvml.nvmlDeviceGetUUID(handle)), handle
