"""A task's own part in captures: it keeps a trace until it is taken, and nothing of one that failed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tf.crew import Forge, cluster

pytestmark = pytest.mark.timeout(180)


def test_traces_are_kept_until_they_are_taken_and_one_that_is_too_long_says_so(keras3: Forge, tmp_path: Path) -> None:
    job = ("tests.tf.traced:traced_in_turn", {"folder": str(tmp_path)})
    with cluster(keras3, {"worker-0": job}) as crew:
        crew.result("worker-0")
        assert crew.events["worker-0"] == [
            ("cut", "traced", ["cut after 120 s, the longest that a task is traced: later steps are not in it"], 1, 0),
            ("asked", "traced", [], 1, 0),
            ("refused", "failed", None, 0, 0),
        ]
