"""A job on a schedule: KubeRay makes a RayJob each minute, which succeeds, and none while the schedule is suspended."""

from __future__ import annotations

import threading
import time
from datetime import datetime

from tests.e2e.conftest import Target
from tests.e2e.kube import JOBS, Document, Space
from tests.e2e.test_jobs import STEPS, ended, job, result_of

OF_THE_SCHEDULE = "--selector=ray.io/cronjob-name=often"


def jobs(space: Space) -> list[str]:
    """Names of the RayJobs that the schedule has made."""
    return [item["metadata"]["name"] for item in space.get("rayjobs", OF_THE_SCHEDULE)["items"]]


def until_the_next_minute_has_passed(space: Space) -> None:
    """Nothing happens at the end of it, so that there is nothing but time to wait for."""
    last = datetime.fromisoformat(space.get("raycronjob", "often")["status"]["lastScheduleTime"].replace("Z", "+00:00"))
    threading.Event().wait(max(0.0, last.timestamp() + 75 - time.time()))


def test_each_minute_a_job_until_it_is_suspended(space: Space, platform: Document, target: Target) -> None:
    files = {path.name: path.read_text() for path in JOBS.glob("*.py")}
    values = {**platform, "mode": "cron", "cron": {"schedule": "* * * * *"}, "job": job(epochs=1), "files": files}
    with space.following("get", "rayjobs", OF_THE_SCHEDULE, "--watch", "--output=name") as names:
        space.install("often", values)
        first = next(names).rpartition("/")[2]
    space.helm("upgrade", "often", str(space.chart), values={**values, "cron": {**values["cron"], "suspend": True}})
    seen = ("get", "events", "--field-selector=reason=SuspendedRayCronJob", "--watch", "--output=name")
    with space.following(*seen) as events:
        assert next(events)
    ended(space, first)
    result = result_of(space, "often-runs", target)
    assert (result["status"], result["steps"], result["value"]["workers"]) == ("succeeded", STEPS, 2)
    until_the_next_minute_has_passed(space)
    assert jobs(space) == [first]

    space.helm("uninstall", "often")
    space.kubectl("wait", "rayjobs", "--all", "--for=delete", "--timeout=120s")
    space.kubectl("wait", "pods", "--all", "--for=delete", "--timeout=120s")
