"""Jobs that run in Pods: from the chart, from `tfcluster submit`, and one that loses a worker in the middle."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Iterator

import pytest

from tests.e2e.conftest import SMALL, Target
from tests.e2e.kube import JOBS, Document, FailedError, Space

#: Steps that `train.py:fit` makes in an epoch.
STEPS = 4
#: A resource that only a test gives to a node.
SLOT = "example.com/e2e-slot"


def job(**args):
    return {
        "name": "regression",
        "entrypoint": "train.py:fit",
        "args": args,
        "strategy": "multi_worker_mirrored",
        "roles": {"worker": {"replicas": 2}},
        "failure": {"backoff": "1s"},
        "timeouts": {"placement": "3m"},
    }


def ended(space: Space, name: str) -> Document:
    """The status of a RayJob when it has ended."""
    space.wait(f"rayjob/{name}", "jsonpath={.status.jobStatus}=SUCCEEDED", 400)
    return dict(space.get("rayjob", name)["status"])


def evict(space: Space, pod: str) -> None:
    """What `kubectl drain` asks of the API server."""
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod}}
    place = f"/api/v1/namespaces/{space.name}/pods/{pod}/eviction"
    space.kubectl("create", "--raw", place, "--filename", "-", text=json.dumps(eviction))


def result_of(space: Space, claim: str, target: Target) -> Document:
    """What the one run in the claim came to."""
    return dict(json.loads(space.read(claim, "cat /storage/*/result.json", target.image, target.policy)))


def test_a_job_of_the_chart_runs_on_two_workers_and_leaves_its_result(
    space: Space, platform: Document, target: Target
) -> None:
    space.install_job("flights", {**platform, "job": job(epochs=3)})
    space.wait("job/flights", "jsonpath={.status.ready}=1")
    log = space.kubectl("logs", "--follow", "job/flights")
    assert re.search(r"placed worker-0 on [\d.]+, worker-1 on [\d.]+", log)
    assert "status         succeeded" in log
    assert "storage is a path" not in log  # the claim is known to be one for all Pods
    ended(space, "flights")
    result = result_of(space, "flights-runs", target)
    assert (result["status"], result["attempts"], result["steps"]) == ("succeeded", 1, 3 * STEPS)
    assert result["value"]["workers"] == 2
    assert result["value"]["iterations"] == 3 * STEPS
    assert result["run_dir"].startswith("/storage/regression-")
    assert "saved_model.pb" in space.read("flights-runs", "ls /storage/*/export/model", target.image, target.policy)


def test_a_pod_that_is_killed_in_the_middle_costs_no_step(space: Space, platform: Document, target: Target) -> None:
    space.install_job("flights", {**platform, "job": job(epochs=5, lost_after=2)})
    space.wait("job/flights", "jsonpath={.status.ready}=1")
    with space.following("logs", "--follow", "job/flights") as lines:
        assert any("ready to be lost" in line for line in lines)
        before = set(space.pods("ray.io/node-type=worker"))
        lost = sorted(before)[0]
        space.kubectl("delete", "pod", lost, "--grace-period=0", "--force")
        rest = list(lines)
    assert any("restarting" in line or "attempt 2" in line for line in rest), rest
    ended(space, "flights")
    result = result_of(space, "flights-runs", target)
    assert (result["status"], result["attempts"], result["steps"]) == ("succeeded", 2, 5 * STEPS)
    assert result["value"]["epochs"] == [2, 3, 4]  # the first two are not trained again
    assert result["value"]["iterations"] == 5 * STEPS


def test_a_pod_that_is_evicted_as_when_a_node_is_drained(space: Space, platform: Document, target: Target) -> None:
    space.install_job("flights", {**platform, "job": job(epochs=5, lost_after=2)})
    space.wait("job/flights", "jsonpath={.status.ready}=1")
    with space.following("logs", "--follow", "job/flights") as lines:
        assert any("ready to be lost" in line for line in lines)
        evict(space, space.pods("ray.io/node-type=worker")[0])
        list(lines)
    ended(space, "flights")
    result = result_of(space, "flights-runs", target)
    assert (result["status"], result["attempts"], result["steps"]) == ("succeeded", 2, 5 * STEPS)
    assert result["value"]["epochs"] == [2, 3, 4]


def test_a_pod_that_is_evicted_while_it_trains_loses_no_step(space: Space, platform: Document, target: Target) -> None:
    moves(space, platform, target, lambda: evict(space, space.pods("ray.io/node-type=worker")[0]))


def test_a_pod_that_makes_room_for_a_more_important_one_loses_no_step(
    space: Space, platform: Document, target: Target
) -> None:
    """The node has two slots, which the workers fill; the scheduler ends one of them for a Pod of higher priority."""
    with slots(space, 2), priority(space) as urgent:
        platform["workerGroups"]["cpu"]["resources"] = with_slot(SMALL)
        moves(space, platform, target, lambda: space.create(brief_pod(target, urgent)))
        assert space.get("pod", "urgent")["status"]["phase"] == "Succeeded"


def test_when_the_head_is_lost_the_next_run_goes_on(space: Space, platform: Document, target: Target) -> None:
    platform["rayJob"]["backoffLimit"] = 1
    space.install_job("flights", {**platform, "job": {**job(epochs=5, lost_after=2), "resume": "latest"}})
    space.wait("job/flights", "jsonpath={.status.ready}=1")
    with space.following("logs", "--follow", "job/flights") as lines:
        assert any("ready to be lost" in line for line in lines)
        (head,) = space.pods("ray.io/node-type=head")
        space.kubectl("delete", "pod", head, "--grace-period=0", "--force")
    ended(space, "flights")
    result = result_of(space, "flights-runs", target)  # the lost one has left none
    assert (result["status"], result["attempts"], result["value"]["epochs"]) == ("succeeded", 1, [2, 3, 4])
    assert result["value"]["iterations"] == 5 * STEPS


def moves(space: Space, platform: Document, target: Target, take: Callable[[], None]) -> None:
    """A job whose Pod is taken while it trains saves, and goes on with the next step in another Pod."""
    space.install_job("flights", {**platform, "job": {**job(epochs=1, moves=True), "failure": {"max_restarts": 0}}})
    space.wait("job/flights", "jsonpath={.status.ready}=1")
    with space.following("logs", "--follow", "job/flights") as lines:
        assert any(" · step " in line for line in lines)
        take()
        rest = list(lines)
    assert any("is being drained" in line for line in rest), rest
    assert any("going on elsewhere" in line for line in rest), rest
    (saved,) = [int(found[1]) for line in rest if (found := re.search(r"restored checkpoint (\d+)", line))]
    ended(space, "flights")
    result = result_of(space, "flights-runs", target)
    assert (result["status"], result["attempts"]) == ("succeeded", 2)
    assert result["value"]["iterations"] == saved + STEPS


@contextlib.contextmanager
def slots(space: Space, number: int) -> Iterator[None]:
    """One node of the cluster has so many of a resource that no other has."""
    node = next(n["metadata"]["name"] for n in space.get("nodes")["items"] if not n["spec"].get("unschedulable"))
    place = {"path": f"/status/capacity/{SLOT.replace('/', '~1')}"}
    patch = ("patch", "node", node, "--subresource=status", "--type=json", "--patch")
    space.kubectl(*patch, json.dumps([{"op": "add", **place, "value": str(number)}]))
    try:
        space.wait(f"node/{node}", f"jsonpath={{.status.allocatable.{SLOT.replace('.', chr(92) + '.')}}}={number}")
        yield
    finally:
        space.kubectl(*patch, json.dumps([{"op": "remove", **place}]))


@contextlib.contextmanager
def priority(space: Space) -> Iterator[str]:
    """The name of a class of Pods that are more important than others."""
    name = f"{space.name}-urgent"
    space.create(
        {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": name}, "value": 1000}
    )
    try:
        yield name
    finally:
        space.kubectl("delete", "priorityclass", name)


def with_slot(resources: Document) -> Document:
    """These resources, and a slot."""
    return {kind: {**amounts, SLOT: "1"} for kind, amounts in resources.items()}


def brief_pod(target: Target, urgent: str) -> Document:
    """A Pod of that priority, which needs a slot for some seconds."""
    container = {
        "name": "urgent",
        "image": target.image,
        "imagePullPolicy": target.policy,
        "command": ["sleep", "10"],
        "resources": with_slot({"requests": {}, "limits": {}}),
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    user = {"runAsNonRoot": True, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}}
    spec = {
        "restartPolicy": "Never", "priorityClassName": urgent, "securityContext": user, "containers": [container]
    }  # fmt: skip
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "urgent"}, "spec": spec}


def test_tfcluster_submit_makes_the_job_and_follows_it(
    space: Space, platform: Document, target: Target, tmp_path
) -> None:
    space.claim("runs")
    settings = {
        "image": platform["image"],
        "head": {"resources": SMALL},
        "storage": {"claim": {"name": "runs"}},
        "workerGroups": {"cpu": {"replicas": 2, "resources": SMALL}},
    }
    (tmp_path / "platform.yaml").write_text(json.dumps(settings))
    folder = tmp_path / "job"
    folder.mkdir()
    for path in JOBS.glob("*.py"):
        (folder / path.name).write_text(path.read_text())
    (folder / "job.yaml").write_text(json.dumps(job(epochs=3)))
    where = ("--kubernetes", "--namespace", space.name)
    given = ("--platform", str(tmp_path / "platform.yaml"), "--name", "mine")
    output = space.tfcluster("submit", str(folder / "job.yaml"), *where, *given, "--wait")
    assert "status         succeeded" in output
    assert "storage is a path" not in output
    ended(space, "mine")
    assert "mine" in space.tfcluster("list", *where)
    assert "succeeded" in space.tfcluster("status", "mine", *where).lower()
    assert "placed worker-0" in space.tfcluster("logs", "mine", *where)
    result = result_of(space, "runs", target)
    assert (result["status"], result["value"]["workers"], result["steps"]) == ("succeeded", 2, 3 * STEPS)


def test_a_job_that_the_schema_refuses_reaches_no_cluster(space: Space, platform: Document) -> None:
    with pytest.raises(FailedError, match="replicaz"):
        space.install_job("flights", {**platform, "job": {**job(), "roles": {"worker": {"replicaz": 2}}}})
    assert space.get("rayjobs")["items"] == []
    assert space.helm("list", "--all", "--short") == ""


def test_an_object_that_the_api_server_refuses(space: Space, platform: Document) -> None:
    values = {**platform, "mode": "job", "files": {"train.py": ""}, "job": job()}
    text = space.helm("template", "flights", str(space.chart), values=values)
    assert "maxReplicas: 2" in text
    with pytest.raises(FailedError, match=r"maxReplicas.*must be of type integer"):
        space.kubectl("create", "--filename", "-", text=text.replace("maxReplicas: 2", "maxReplicas: many"))
    assert space.get("rayjobs")["items"] == []
