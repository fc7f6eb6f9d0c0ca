"""No secret of a job's variables, or of its launcher's, reaches what a run records, shows or raises."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytestmark = pytest.mark.timeout(240)

ROLE, LAUNCHER, ARGUMENT = "xyzzy-of-the-role", "plugh-of-the-launcher", "plover-of-the-arguments"


@pytest.mark.parametrize("fails", [False, True])
def test_secrets_are_masked_wherever_a_run_writes(start, monkeypatch, fails):
    monkeypatch.setenv("LAUNCHERS_PASSWORD", LAUNCHER)
    env = {"API_TOKEN": ROLE, "ALSO": f"plain {ROLE}", "LAUNCHERS_PASSWORD": LAUNCHER}
    args = {"fails": fails, "login": {"api_key": ARGUMENT}}
    job = start(entrypoint="careless.py:tells", args=args, roles={"worker": {"env": env}})
    said = str(job.failure()) if fails else json.dumps(job.join().value)
    folder = Path(next(event for event in job.events if event.kind == "run_started").data["run_dir"])
    seen = [said, repr(job.lines), repr([event.data for event in job.events])]
    kept = [path.read_text(errors="replace") for path in folder.rglob("*") if path.is_file()]
    assert "Authorization: ***'" in (folder / "logs" / "worker-0.log").read_text()
    assert "Authorization: ***'" in repr(job.lines)
    assert "logged in with ***" in (folder / "events.jsonl").read_text()
    assert "***" in said
    if fails:
        assert "*** was refused" in (folder / "failures" / "1" / "reason.txt").read_text()
    for text in [*seen, *kept]:
        assert ROLE not in text
        assert LAUNCHER not in text
        assert ARGUMENT not in text
