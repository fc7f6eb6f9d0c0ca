"""A job on a schedule: KubeRay makes a RayJob each minute, which succeeds, and none while the schedule is suspended."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from datetime import datetime

import pytest

from tests.e2e.conftest import Target
from tests.e2e.kube import JOBS, PATIENCE_S, Document, FailedError, Space
from tests.e2e.test_jobs import STEPS, ended, job, result_of

OF_THE_SCHEDULE = "--selector=ray.io/cronjob-name=often"
OF_THE_OPERATOR = "--selector=app.kubernetes.io/name=kuberay-operator"
GATE = "RayCronJob"


def jobs(space: Space) -> list[str]:
    """Names of the RayJobs that the schedule has made."""
    return [item["metadata"]["name"] for item in space.get("rayjobs", OF_THE_SCHEDULE)["items"]]


def until_the_next_minute_has_passed(space: Space) -> None:
    """Nothing happens at the end of it, so that there is nothing but time to wait for."""
    last = datetime.fromisoformat(space.get("raycronjob", "often")["status"]["lastScheduleTime"].replace("Z", "+00:00"))
    threading.Event().wait(max(0.0, last.timestamp() + 75 - time.time()))


@pytest.fixture
def schedules(space: Space) -> None:
    """KubeRay knows schedules."""
    try:
        space.kubectl("get", "crd", "raycronjobs.ray.io")
    except FailedError:
        pytest.skip("the cluster has no raycronjobs.ray.io, which KubeRay 1.7 brings")


def first_of(names: Iterator[str], space: Space) -> str:
    """The first RayJob. An operator without its feature gate makes none, and says nothing of it."""
    found = next((name for name in names if name.startswith("rayjob")), "")
    if not found and GATE not in gates(space):
        pytest.skip(f"KubeRay's operator has no feature gate {GATE}: docs/kubernetes-e2e.md sets it")
    assert found, f"no RayJob in {PATIENCE_S} s"
    return found.rpartition("/")[2]


def gates(space: Space) -> str:
    """What the operator is started with."""
    found = space.get("pods", "--all-namespaces", OF_THE_OPERATOR)["items"]
    return " ".join(str(item["spec"]["containers"]) for item in found)


@pytest.mark.usefixtures("schedules")
def test_each_minute_a_job_until_it_is_suspended(space: Space, platform: Document, target: Target) -> None:
    files = {path.name: path.read_text() for path in JOBS.glob("*.py")}
    values = {**platform, "mode": "cron", "cron": {"schedule": "* * * * *"}, "job": job(epochs=1), "files": files}
    watch = ("--watch", "--output=name", f"--request-timeout={PATIENCE_S}s")
    with space.following("get", "rayjobs", OF_THE_SCHEDULE, *watch) as names:
        space.install("often", values)
        first = first_of(names, space)
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
