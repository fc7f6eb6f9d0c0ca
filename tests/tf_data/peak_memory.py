"""Reads a dataset in a process of its own; prints its rows, and by how many bytes its peak memory grew: test_memory.

python -m tests.tf_data.peak_memory SMALL LARGE plain|shuffled AHEAD
"""

from __future__ import annotations

import gc
import os
import re
import sys
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from pipelines import reader
from pipelines.dataset import read_dataset

#: How often the consumer falls behind in the epoch.
STOPS = 4
#: Numbers in a record.
WIDTH = 24


def memory(field: str) -> int:
    """Bytes of this process: `VmRSS` now, `VmHWM` at most (getrusage tells the most of whoever started it, too)."""
    found = re.search(rf"^{field}:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024


def let_it_read_ahead() -> None:
    """Until the process has nothing more to do, which is when all that may wait is waiting."""
    used = -1.0
    while time.process_time() - used > 0.01:
        used = time.process_time()
        time.sleep(0.2)


def main(small: str, large: str, order: str, ahead: str) -> None:
    reader.AHEAD = int(ahead)
    options: dict[str, Any] = {"batch": 1024, "shuffle": order == "shuffled"}
    if large.endswith(".tfrecord"):
        options["features"] = {"x": {"dtype": "float32", "shape": [WIDTH]}}
    for _ in read_dataset(small, **options):
        pass
    gc.collect()
    before, taken = memory("VmRSS"), 0
    dataset = read_dataset(large, **options)
    pauses = {len(dataset) * part // (STOPS + 1) for part in range(1, STOPS + 1)}
    for number, batch in enumerate(dataset):
        taken += len(batch["x"])
        if number in pauses:
            let_it_read_ahead()
    print(taken, memory("VmHWM") - before)


if __name__ == "__main__":
    main(*sys.argv[1:])
