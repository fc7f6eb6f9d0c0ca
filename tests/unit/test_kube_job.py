"""From a spec to a RayJob: groups of Pods, code, names, and everything that is refused before it is sent."""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cluster.errors import PreflightError, SpecError, TfClusterError
from cluster.kube_groups import groups_of, offered_by, quantity
from cluster.kube_job import Code, check_name, config_map, job_storage, name_of, needs_config_map, owned, ray_job
from cluster.kube_settings import Settings, Workers, parse
from cluster.spec import JobSpec
from cluster.spec import parse as parse_spec

JOB: dict[str, Any] = {"name": "flights", "entrypoint": "train.py:train", "strategy": "multi_worker_mirrored"}
STORAGE: dict[str, Any] = {"storage": {"uri": "s3://bucket/runs"}}
CODE = Code(("tfcluster", "run", "tfcluster-job.json"), b"zip")


def spec_of(**keys: Any) -> JobSpec:
    return parse_spec({**JOB, "storage": "s3://bucket/runs", **keys})


def made(settings: dict[str, Any], code: Code = CODE, **keys: Any) -> dict[str, Any]:
    document = ray_job("flights-1", "abc", spec_of(**keys), parse(settings), code)
    return dict(document)


def limits_of(spec: JobSpec, settings: dict[str, Any] | None = None) -> dict[str, tuple[int, Any, Any, Any]]:
    """Replicas, CPUs, memory and GPUs of each group."""
    found = {}
    for group in groups_of(spec, parse(settings or {})):
        assert group.pod.resources is not None
        assert group.pod.resources.limits == group.pod.resources.requests
        limits = group.pod.resources.limits
        found[group.name] = (group.replicas, limits["cpu"], limits["memory"], group.pod.gpus)
    return found


def test_a_pod_for_each_task() -> None:
    roles = {"worker": {"replicas": 3, "cpus": 2, "gpus": 2, "memory": "6GiB"}, "ps": {"replicas": 2, "cpus": 0.5}}
    assert limits_of(spec_of(strategy="parameter_server", roles=roles)) == {
        "chief": (1, "1", "4Gi", 0),
        "worker": (3, "2", "7Gi", 2),
        "ps": (2, "500m", "4Gi", 0),
    }


def test_tasks_that_share_a_gpu_share_a_pod() -> None:
    spec = spec_of(roles={"worker": {"replicas": 5, "cpus": 1.5, "gpus": 0.5}})
    assert limits_of(spec) == {"worker": (3, "3", "8Gi", 1)}
    assert limits_of(spec_of(strategy="none", roles={"worker": {"gpus": 0.25}})) == {"worker": (1, "1", "4Gi", 1)}


def test_tasks_that_must_be_together() -> None:
    roles = {"worker": {"replicas": 2, "cpus": 2, "gpus": 1}, "evaluator": {"cpus": 1, "memory": "1GiB"}}
    assert limits_of(spec_of(placement="strict_pack", roles=roles)) == {"tasks": (1, "5", "10Gi", 2)}


def test_a_task_that_asks_for_no_cpu_gets_a_little() -> None:
    assert limits_of(spec_of(roles={"worker": {"replicas": 2, "cpus": 0}}))["worker"] == (2, "100m", "4Gi", 0)


def test_resources_of_ray_are_offered() -> None:
    spec = spec_of(roles={"worker": {"replicas": 2, "resources": {"disk": 2}}})
    start = groups_of(spec, Settings())[0].pod.rayStartParams["resources"]
    assert shlex.split(f"--resources={start}") == ['--resources={"disk": 2.0}']  # as a shell hands it to Ray


def test_settings_of_derived_groups() -> None:
    settings = {
        "workerGroups": {
            "gpu": {"nodeSelector": {"pool": "gpu"}, "sharedMemory": "8Gi"},
            "ps": {"priorityClassName": "high"},
            "cpu": {"nodeSelector": {"pool": "cpu"}},
        }
    }
    roles = {"worker": {"replicas": 1, "gpus": 1}, "ps": 1}
    groups = {g.name: g.pod for g in groups_of(spec_of(strategy="parameter_server", roles=roles), parse(settings))}
    assert (groups["worker"].nodeSelector, groups["worker"].sharedMemory) == ({"pool": "gpu"}, "8Gi")
    assert (groups["ps"].nodeSelector, groups["ps"].priorityClassName) == ({}, "high")
    assert groups["chief"].nodeSelector == {"pool": "cpu"}


GROUP: dict[str, Any] = {"replicas": 1, "resources": {"limits": {"cpu": "2", "memory": "8Gi"}}}


def test_groups_of_the_settings() -> None:
    settings = {"workerGroups": {"cpu": {**GROUP, "replicas": 2, "maxReplicas": 3, "minReplicas": 0}, "gpu": None}}
    groups = groups_of(spec_of(roles={"worker": {"replicas": 6}}), parse(settings))
    assert [(g.name, g.fewest, g.replicas, g.most) for g in groups] == [("cpu", 0, 3, 3)]


SCALED: dict[str, Any] = {**GROUP, "replicas": 0, "maxReplicas": 20}
GPUS: dict[str, Any] = {"resources": {"limits": {"cpu": "8", "memory": "64Gi"}}, "gpus": 4, "maxReplicas": 20}


@pytest.mark.parametrize(
    ("groups", "keys", "counts"),
    [
        ({"cpu": SCALED}, {"roles": {"worker": 1}}, {"cpu": 1}),
        ({"cpu": SCALED}, {"roles": {"worker": 5}}, {"cpu": 3}),
        ({"cpu": SCALED}, {"roles": {"worker": {"replicas": 5, "cpus": 1.5}}}, {"cpu": 5}),
        ({"cpu": SCALED}, {"roles": {"worker": 5}, "placement": "strict_spread"}, {"cpu": 5}),
        ({"cpu": {**SCALED, "replicas": 2}}, {"roles": {"worker": 1}}, {"cpu": 2}),
        ({"cpu": {**SCALED, "replicas": None, "minReplicas": 2}}, {"roles": {"worker": 1}}, {"cpu": 2}),
        ({"cpu": {**SCALED, "idleTimeoutSeconds": 60}}, {"roles": {"worker": 1}}, {"cpu": 1}),
        ({"cpu": SCALED, "gpu": {**GPUS, "replicas": 0}}, {"roles": {"worker": 1}}, {"cpu": 1, "gpu": 0}),
        (
            {"cpu": SCALED, "gpu": {**GPUS, "replicas": 0}},
            {"roles": {"worker": {"replicas": 2, "gpus": 4, "cpus": 8}, "ps": 3}, "strategy": "parameter_server"},
            {"cpu": 2, "gpu": 2},
        ),
        # Each role has room on two Pods, and so has the sum of them, but not all together.
        (
            {"cpu": SCALED},
            {"roles": {"chief": {"cpus": 1.5}, "worker": {"cpus": 1.5}, "ps": 1}, "strategy": "parameter_server"},
            {"cpu": 3},
        ),
    ],
)
def test_as_many_pods_as_the_job_needs(groups: dict[str, Any], keys: dict[str, Any], counts: dict[str, int]) -> None:
    found = groups_of(spec_of(**keys), parse({"workerGroups": groups}))
    assert {group.name: group.replicas for group in found} == counts


@pytest.mark.parametrize(
    ("groups", "roles", "said"),
    [
        (
            {"cpu": {**GROUP, "replicas": 2}},
            {"worker": {"replicas": 5}},
            "the job asks for more CPU than",
        ),
        ({"cpu": {**GROUP, "replicas": 2}}, {"worker": {"replicas": 2, "cpus": 3}}, "more CPU"),
        (
            {"cpu": {**GROUP, "replicas": 4}},
            {"worker": {"replicas": 2, "cpus": 3}},
            "one worker is larger than any node",
        ),
        ({"cpu": {**GROUP, "replicas": 2}}, {"worker": {"gpus": 1}}, "more GPU"),
        ({"cpu": {**GROUP, "replicas": 0}}, {"worker": 1}, "there are no workers"),
        ({"cpu": {**GROUP, "replicas": 2}}, {"worker": {"memory": "9GiB"}}, "larger than any node"),
    ],
)
def test_a_job_without_room(groups: dict[str, Any], roles: dict[str, Any], said: str) -> None:
    with pytest.raises(PreflightError) as caught:
        groups_of(spec_of(roles=roles), parse({"workerGroups": groups}))
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("groups", "said"),
    [
        ({"cpu": GROUP, "more": {"replicas": 2}}, "a group of workers has no limits · workerGroups.more"),
        ({"own": {"resources": {"limits": {"cpu": 1}}}}, "a group of workers has no limits"),
        ({"cpu": {"resources": {"limits": {"cpu": None}}}}, "a group of workers has no limits"),
        ({"head": GROUP}, "is head"),
        ({"A": GROUP}, "no DNS label"),
        ({"cpu": {**GROUP, "replicas": 2, "minReplicas": 3}}, "bounds of workerGroups.cpu contradict"),
        ({"cpu": {**GROUP, "replicas": 2, "maxReplicas": 1}}, "bounds of workerGroups.cpu contradict"),
        ({"cpu": {"resources": {"limits": {"cpu": "two", "memory": "1Gi"}}}}, "not a quantity"),
    ],
)
def test_groups_that_kuberay_would_refuse(groups: dict[str, Any], said: str) -> None:
    with pytest.raises(SpecError) as caught:
        groups_of(spec_of(), parse({"workerGroups": groups}))
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("value", "number"),
    [
        ("500m", 0.5), (2, 2), ("1.5", 1.5), ("1Ki", 1024), ("2G", 2e9), ("3Ti", 3 * 2**40),
        ("1E", 10**18), ("1Ei", 2**60), ("2e3", 2000), ("25E-2", 0.25), (".5", 0.5), ("1.", 1), ("5u", 5e-6),
    ],
)  # fmt: skip
def test_quantities(value: Any, number: float) -> None:
    assert quantity(value) == pytest.approx(number, rel=1e-15)


@pytest.mark.parametrize("value", ["", "two", "8GB", "1e", "-1", "1 Gi", "."])
def test_what_is_no_quantity(value: str) -> None:
    with pytest.raises(SpecError, match="not a quantity"):
        quantity(value)


def test_what_ray_offers_on_a_pod() -> None:
    """As KubeRay starts Ray there: limits rounded up, unless `ray start` is told otherwise."""
    pod = Workers.model_validate({"resources": {"limits": {"cpu": "1500m", "memory": "2Gi", "nvidia.com/gpu": 2}}})
    assert offered_by(pod) == {"CPU": 2.0, "GPU": 2.0, "memory": 2.0**31}
    told = pod.model_copy(update={"rayStartParams": {"num-cpus": "8", "num-gpus": "1"}})
    assert offered_by(told) == {"CPU": 8.0, "GPU": 1.0, "memory": 2.0**31}


@pytest.mark.parametrize("text", [json.dumps('{"disk": 2}'), """'{"disk": 2}'""", """ '{"disk": 2}' """])
def test_resources_of_ray_are_counted_however_they_are_quoted(text: str) -> None:
    pod = Workers.model_validate({**GROUP, "rayStartParams": {"resources": text}})
    assert offered_by(pod)["disk"] == 2.0


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("num-cpus", "four"),
        ("num-cpus", "nan"),
        ("num-gpus", "-1"),
        ("memory", "4Gi"),
        ("resources", "disk=2"),
        ("resources", """'{"disk": "much"}'"""),
        ("resources", '"no JSON'),
        ("resources", "[1]"),
    ],
)
def test_arguments_with_which_ray_would_not_start(key: str, text: str) -> None:
    with pytest.raises(SpecError) as caught:
        groups_of(spec_of(), parse({"workerGroups": {"cpu": {**GROUP, "rayStartParams": {key: text}}}}))
    assert f"workerGroups.cpu.rayStartParams.{key}: {text}" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("flights", "flights-0a1b2c"),
        ("Flights_2.0", "flights-2-0-0a1b2c"),
        ("7days", "job-7days-0a1b2c"),
        ("x" * 63, f"{'x' * 40}-0a1b2c"),
        ("x" * 39 + "-yyyy", f"{'x' * 39}-0a1b2c"),
    ],
)
def test_names(name: str, expected: str) -> None:
    assert name_of(parse_spec({**JOB, "name": name}), "0a1b2c") == expected
    check_name(expected)


@pytest.mark.parametrize("name", ["Upper", "7days", "a_b", "-a", "a-", "", "x" * 48])
def test_names_that_kuberay_would_refuse(name: str) -> None:
    with pytest.raises(SpecError):
        check_name(name)


@pytest.mark.parametrize(
    ("own", "settings", "expected"),
    [
        ("./runs", STORAGE, "s3://bucket/runs"),
        ("gs://mine/runs", STORAGE, "gs://mine/runs"),
        ("./runs", {"storage": {"claim": {"name": "runs"}}}, "/storage"),
        ("./runs", {"storage": {"claim": {"name": "runs"}, "mountPath": "/mnt/runs"}}, "/mnt/runs"),
        ("/storage/team", {"storage": {"claim": {"name": "runs"}}}, "/storage/team"),
        *(
            (
                "/data",
                {
                    "extraVolumes": [{"name": "d", **source}],
                    "extraVolumeMounts": [{"name": "d", "mountPath": "/data/", "readOnly": False}],
                },
                "/data",
            )
            for source in (
                {"persistentVolumeClaim": {"claimName": "d", "readOnly": False}},
                {"nfs": {"server": "nas", "path": "/"}},
                {"csi": {"driver": "gcsfuse.csi.storage.gke.io"}},
            )
        ),
    ],
)
def test_where_runs_go(own: str, settings: dict[str, Any], expected: str) -> None:
    assert job_storage(parse_spec({**JOB, "storage": own}), parse(settings)) == expected


@pytest.mark.parametrize(
    ("own", "settings", "said"),
    [
        ("./runs", {}, "the job's runs would end with its Pods"),
        ("/data", {}, "the job writes where no lasting volume is mounted"),
        (
            "/scratch/runs",
            {
                "extraVolumes": [{"name": "s", "emptyDir": {}}],
                "extraVolumeMounts": [{"name": "s", "mountPath": "/scratch"}],
            },
            "mounted: nothing",
        ),
        *(
            (
                "/etc/runs",
                {
                    "extraVolumes": [{"name": "s", **source}],
                    "extraVolumeMounts": [{"name": "s", "mountPath": "/etc/runs", **mount}],
                },
                "storage: /etc/runs; mounted: nothing",
            )
            for source, mount in (
                ({"configMap": {"name": "ca"}}, {}),
                ({"secret": {"secretName": "ca"}}, {}),
                ({"projected": {"sources": []}}, {}),
                ({"csi": {"driver": "secrets-store.csi.k8s.io"}}, {}),
                ({"csi": {"driver": "nfs.csi.k8s.io", "readOnly": True}}, {}),
                ({"persistentVolumeClaim": {"claimName": "data", "readOnly": True}}, {}),
                ({"persistentVolumeClaim": {"claimName": "data"}}, {"readOnly": True}),
            )
        ),
        ("/storages", {"storage": {"claim": {"name": "runs"}}}, "the job writes where no lasting volume is mounted"),
        ("./runs", {"storage": {"uri": "s3://b", "claim": {"name": "x"}}}, "runs have two places"),
        ("./runs", {"storage": {"uri": "bucket/runs"}}, "storage.uri is no URI"),
        ("./runs", {"storage": {"claim": {"create": True}}}, "a submitted job makes no claim"),
    ],
)
def test_where_runs_cannot_go(own: str, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(TfClusterError) as caught:
        job_storage(parse_spec({**JOB, "storage": own}), parse(settings))
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"rayJob": {"suspend": True, "shutdownAfterJobFinishes": False}}, "can be suspended"),
        ({"rayJob": {"ttlSecondsAfterFinished": 5, "shutdownAfterJobFinishes": False}}, "needs rayJob.shutdown"),
        ({"rayJob": {"deletionRules": [{"policy": "DeleteSelf", "condition": {"jobStatus": "FAILED"}}]}}, "exclude"),
        ({"queue": {"scheduler": "kueue"}}, "a queue needs"),
        ({"queue": {"name": "team"}}, "a queue needs"),
        ({"queue": {"scheduler": "kueue", "name": "q"}, "rayJob": {"shutdownAfterJobFinishes": False}}, "quota back"),
        ({"rayVersion": "2.51.0"}, "knows no tokens"),
        ({"rayJob": {"clusterName": "team"}}, "brings a cluster of its own"),
        ({"head": {"rayStartParams": {"labels": "a=b"}}}, "refuses labels"),
        ({"extraEnv": [{"name": "REDIS_PASSWORD", "valueFrom": {}}]}, "KubeRay sets it itself"),
        ({"extraVolumes": [{"name": "node", "hostPath": {"path": "/"}}]}, "hostPath"),
        ({"extraEnv": [{"name": "DB_PASSWORD", "value": "x"}]}, "a secret is written out · DB_PASSWORD in extraEnv"),
        ({"runtimeEnv": {"env_vars": {"API_TOKEN": "x"}}}, "a secret is written out · API_TOKEN in runtimeEnv"),
        ({"storage": {"uri": "s3://key:hush@bucket"}}, "a password is written out · storage.uri"),
        ({"code": "s3://bucket/code?client_secret=hush"}, "a password is written out · code ·"),
        ({"extraEnv": [{"name": "DB", "value": "pg://a:hush@db/x"}]}, "a password is written out · extraEnv[0].value"),
        ({"extraEnv": [{"nam": "A"}]}, "extraEnv[0] has no name (seen: nam)"),
        ({"head": {"env": [{"value": "A"}]}}, "head.env[0] has no name"),
        ({"workerGroups": {"cpu": {"env": [{"value": "A"}]}}}, "workerGroups.cpu.env[0] has no name"),
        ({"extraVolumes": [{"emptyDir": {}}]}, "extraVolumes[0] has no name (seen: emptyDir)"),
        ({"extraVolumeMounts": [{"name": "tmp"}]}, "extraVolumeMounts[0] has no mountPath"),
        ({"extraVolumes": [{"name": "a", "emptyDir": {}}] * 2}, "extraVolumes a: 2 have that name"),
        ({"extraVolumes": [{"name": "shared-mem", "emptyDir": {}}]}, "extraVolumes shared-mem: one of ours has that"),
        ({"extraContainers": [{"name": "ray-head"}]}, "extraInitContainers ray-head: one of ours has that name"),
        ({"extraVolumeMounts": [{"name": "a", "mountPath": "/a"}]}, "/a: there is no volume a that all Pods have"),
        ({"extraVolumeMounts": [{"name": "tmp", "mountPath": "/a"}, {"name": "home", "mountPath": "/a/"}]}, "/a: 2 vo"),
        ({"extraVolumeMounts": [{"name": "tmp", "mountPath": "/dev/shm"}]}, "Ray's shared memory is there; see shared"),
        ({"extraVolumeMounts": [{"name": "tmp", "mountPath": "/job"}]}, "/job: the job's own files are there"),
        ({"storage": {"claim": {"name": "r"}, "mountPath": "/home/tfcluster"}}, "storage.mountPath /home/tfcluster: "),
        (
            {
                "storage": {"claim": {"name": "r"}},
                "extraVolumes": [{"name": "storage", "emptyDir": {}}],
                "extraVolumeMounts": [{"name": "storage", "mountPath": "/storage"}],
            },
            "extraVolumeMounts /storage: the storage is there",
        ),
        (
            {"head": {"resources": {"requests": {"cpu": 3}}}},
            "head.resources: requests.cpu 3 is above limits.cpu 2",
        ),
        (
            {"rayJob": {"submitter": {"resources": {"limits": {"memory": "128Mi"}}}}},
            "rayJob.submitter.resources: requests.memory 256Mi is above limits.memory 128Mi",
        ),
        (
            {"workerGroups": {"cpu": {"resources": {"requests": {"memory": "64Gi"}}}}},
            "workerGroups.cpu.resources: requests.memory 64Gi is above limits.memory 4Gi",
        ),
        ({"head": {"resources": {"limits": {"memory": "8GB"}}}}, "head.resources.limits.memory: 8GB"),
    ],
)
def test_settings_that_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(SpecError) as caught:
        made({**STORAGE, **settings})
    assert said in str(caught.value)
    assert "hush" not in str(caught.value)


PARTIAL: dict[str, Any] = {
    **STORAGE,
    "podSecurityContext": {"runAsUser": 2000, "runAsGroup": None, "seccompProfile": {"localhostProfile": None}},
    "securityContext": {"readOnlyRootFilesystem": False, "seLinuxOptions": None},
    "head": {"resources": {"limits": {"memory": "8Gi"}}},
    "workerGroups": {"cpu": {"resources": {"limits": {"memory": "8Gi"}}}},
    "rayJob": {"submitter": {"resources": {"limits": {"cpu": None}}}},
}


def pods_of(job: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The Pods of the head, of the first group of workers, and of the submitter."""
    cluster = job["spec"]["rayClusterSpec"]
    return {
        "head": cluster["headGroupSpec"]["template"]["spec"],
        "worker": cluster["workerGroupSpecs"][0]["template"]["spec"],
        "submitter": job["spec"]["submitterPodTemplate"]["spec"],
    }


def test_what_is_said_in_part_stands_over_the_charts_own_values() -> None:
    pods = pods_of(made(PARTIAL))
    for pod in pods.values():
        assert pod["securityContext"] == {
            "runAsNonRoot": True,
            "runAsUser": 2000,
            "fsGroup": 1000,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        }
        assert pod["containers"][0]["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": False,
            "capabilities": {"drop": ["ALL"]},
        }
    assert {name: pod["containers"][0]["resources"] for name, pod in pods.items()} == {
        "head": {"requests": {"cpu": "1", "memory": "4Gi"}, "limits": {"cpu": "2", "memory": "8Gi"}},
        "worker": {"requests": {"cpu": "2", "memory": "4Gi"}, "limits": {"cpu": "2", "memory": "8Gi"}},
        "submitter": {"requests": {"cpu": "200m", "memory": "256Mi"}, "limits": {"memory": "1Gi"}},
    }


@pytest.mark.parametrize(
    ("resources", "size"),
    [
        ({"requests": {"memory": "2Gi"}}, {"sizeLimit": "4Gi"}),
        ({"limits": {"memory": "8Gi"}}, {"sizeLimit": "8Gi"}),
        ({"limits": None}, {}),
    ],
)
def test_shared_memory_of_a_head(resources: dict[str, Any], size: dict[str, Any]) -> None:
    volumes = pods_of(made({**STORAGE, "head": {"resources": resources}}))["head"]["volumes"]
    assert volumes[0] == {"name": "shared-mem", "emptyDir": {"medium": "Memory", **size}}


def test_where_the_submitter_runs() -> None:
    placement: dict[str, Any] = {
        "nodeSelector": {"pool": "small"},
        "tolerations": [{"key": "spot", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
        "topologySpreadConstraints": [{"maxSkew": 1}],
        "priorityClassName": "high",
        "runtimeClassName": "gvisor",
    }
    pods = pods_of(made({**STORAGE, "rayJob": {"submitter": placement}}))
    assert placement.items() <= pods["submitter"].items()
    assert not placement.keys() & (pods["head"].keys() | pods["worker"].keys())
    assert not placement.keys() & pods_of(made(STORAGE))["submitter"].keys()


def test_the_most_specific_variable_counts() -> None:
    def plain(name: str, value: str) -> dict[str, str]:
        return {"name": name, "value": value}

    settings = {
        **STORAGE,
        "extraEnv": [plain("HOME", "/data"), plain("A", "all"), plain("B", "b")],
        "head": {"env": [plain("A", "head"), plain("RAY_JOB_STOP_WAIT_TIME_S", "9"), plain("A", "last")]},
        "workerGroups": {"cpu": {"env": [plain("USER", "me"), plain("B", "worker")]}},
    }
    assert {name: pod["containers"][0]["env"] for name, pod in pods_of(made(settings)).items()} == {
        "head": [
            plain("HOME", "/data"),
            plain("USER", "tfcluster"),
            plain("A", "last"),
            plain("B", "b"),
            plain("RAY_JOB_STOP_WAIT_TIME_S", "9"),
        ],
        "worker": [plain("HOME", "/data"), plain("USER", "me"), plain("A", "all"), plain("B", "worker")],
        "submitter": [plain("HOME", "/data"), plain("USER", "tfcluster"), plain("A", "all"), plain("B", "b")],
    }


LARGE: dict[str, Any] = {"ephemeral": {"volumeClaimTemplate": {}}}


@pytest.mark.parametrize(
    ("volume", "mounts", "seen"),
    [
        ("tmp", [], [("tmp", "/tmp"), ("home", "/home/tfcluster")]),
        ("tmp", [("tmp", "/tmp")], [("home", "/home/tfcluster"), ("tmp", "/tmp")]),
        ("scratch", [("scratch", "/tmp/")], [("home", "/home/tfcluster"), ("scratch", "/tmp/")]),
        ("home", [("home", "/home/tfcluster")], [("tmp", "/tmp"), ("home", "/home/tfcluster")]),
        ("scratch", [("scratch", "/tmp/a")], [("tmp", "/tmp"), ("home", "/home/tfcluster"), ("scratch", "/tmp/a")]),
    ],
)
def test_a_larger_tmp(volume: str, mounts: list[tuple[str, str]], seen: list[tuple[str, str]]) -> None:
    extra = [{"name": name, "mountPath": path} for name, path in mounts]
    settings = {**STORAGE, "extraVolumes": [{"name": volume, **LARGE}], "extraVolumeMounts": extra}
    for pod in pods_of(made(settings)).values():
        found = [(m["name"], m["mountPath"]) for m in pod["containers"][0]["volumeMounts"]]
        assert [m for m in found if m[0] not in ("shared-mem", "job")] == seen
        assert [v for v in pod["volumes"] if v["name"] == volume] == [{"name": volume, **LARGE}]
        assert {"tmp", "home"} <= {v["name"] for v in pod["volumes"]}


BOTH = {"jobStatus": "FAILED", "jobDeploymentStatus": "Failed"}
RULES = [
    {"policy": "DeleteWorkers", "condition": {"jobStatus": "FAILED", "ttlSeconds": 60}},
    {"policy": "DeleteCluster", "condition": {"jobStatus": "FAILED", "ttlSeconds": 30}},
]


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        (RULES, "workers go before their cluster"),
        ([RULES[0], RULES[0]], "says the same as another one"),
        ([{"policy": "DeleteSelf", "condition": {}}], "has one condition"),
        (
            [{"policy": "DeleteSelf", "condition": {"jobStatus": "FAILED", "jobDeploymentStatus": "Failed"}}],
            "one condition",
        ),
    ],
)
def test_deletion_rules_that_kuberay_would_refuse(rules: list[dict[str, Any]], said: str) -> None:
    with pytest.raises(SpecError, match=said):
        made({**STORAGE, "rayJob": {"shutdownAfterJobFinishes": False, "deletionRules": rules}})


def test_deletion_rules() -> None:
    settings = {**STORAGE, "rayJob": {"shutdownAfterJobFinishes": False, "deletionRules": RULES[:1]}}
    spec = made(settings)["spec"]
    assert spec["deletionStrategy"] == {"deletionRules": RULES[:1]}
    assert "shutdownAfterJobFinishes" not in spec
    assert "ttlSecondsAfterFinished" not in spec


@pytest.mark.parametrize(
    "uri",
    [
        "s3://key:hush@bucket/x",
        "s3://key:hu/sh+hush==@bucket/x",
        "abfss://c@account.dfs.core.windows.net/x?tenant_id=t&client_secret=hush",
        "https://account.blob.core.windows.net/c/x?sv=2024-11-04&sig=hush",
    ],
)
@pytest.mark.parametrize(
    ("keys", "place"),
    [
        ({"data": {"train": {"files": "URI", "label": "y", "batch": 8}}}, "data.train.files of the job"),
        ({"data": {"train": {"files": ["a.parquet", "URI"], "label": "y", "batch": 8}}}, "data.train.files[1] of the"),
        ({"args": {"base": {"weights": ["URI"]}}}, "args.base.weights[0] of the job"),
        ({"roles": {"worker": {"env": {"DATABASE": "URI"}}}}, "roles.worker.env.DATABASE of the job"),
        ({"storage": "URI"}, "storage of the job"),
    ],
)
def test_a_password_in_a_text_of_the_job_is_refused(keys: dict[str, Any], place: str, uri: str) -> None:
    with pytest.raises(SpecError) as caught:
        made(STORAGE, **json.loads(json.dumps(keys).replace("URI", uri)))
    assert f"a password is written out · {place}" in str(caught.value)
    assert "hush" not in str(caught.value)


def test_texts_that_hold_no_password() -> None:
    files = ["s3://bucket/x?endpoint_override=minio:9000&scheme=http", "hdfs://ada@namenode:8020/x", "x@y:z"]
    variables = [{"name": "DATABASE", "value": "postgres://ada:$(DB_PASSWORD)@db:5432/runs"}]
    made({**STORAGE, "extraEnv": variables}, data={"train": {"files": files, "label": "y", "batch": 8}})


def test_a_secret_of_the_spec_is_refused_too() -> None:
    with pytest.raises(SpecError, match=r"HF_TOKEN in roles.worker.env of the job"):
        made(STORAGE, roles={"worker": {"env": {"HF_TOKEN": "x"}}})


@pytest.mark.parametrize(
    ("queue", "labels"),
    [
        ("kueue", {"kueue.x-k8s.io/queue-name": "team"}),
        ("volcano", {"volcano.sh/queue-name": "team", "ray.io/priority-class-name": "high"}),
        (
            "yunikorn",
            {
                "yunikorn.apache.org/app-id": "flights-1-ml",
                "yunikorn.apache.org/queue": "team",
                "ray.io/gang-scheduling-enabled": "true",
            },
        ),
    ],
)
def test_queues(queue: str, labels: dict[str, str]) -> None:
    chosen = {"namespace": "ml", "queue": {"scheduler": queue, "name": "team"}, "head": {"priorityClassName": "high"}}
    settings = {**STORAGE, **chosen}
    assert labels.items() <= made(settings)["metadata"]["labels"].items()


def test_a_gang_is_all_workers() -> None:
    groups = {"cpu": {**GROUP, "replicas": 2, "maxReplicas": 3, "minReplicas": 0}}
    job = made({**STORAGE, "workerGroups": groups}, roles={"worker": 5})
    group = job["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]
    assert (group["minReplicas"], group["replicas"]) == (3, 3)


def test_time_to_end_in_order() -> None:
    """SIGTERM comes so many seconds before SIGKILL: what the spec gives the tasks, and some for Ray."""
    spec = made(STORAGE, timeouts={"stop": "90s"})["spec"]["rayClusterSpec"]
    head = spec["headGroupSpec"]["template"]["spec"]
    worker = spec["workerGroupSpecs"][0]["template"]["spec"]
    assert (head["terminationGracePeriodSeconds"], worker["terminationGracePeriodSeconds"]) == (120, 120)
    assert {"name": "RAY_JOB_STOP_WAIT_TIME_S", "value": "120"} in head["containers"][0]["env"]


def test_code_in_a_config_map_and_elsewhere() -> None:
    uploaded = Code(CODE.command, uri="s3://bucket/job/code.zip")
    assert uploaded.entrypoint == "tfcluster run tfcluster-job.json --archive s3://bucket/job/code.zip"
    assert not needs_config_map(uploaded)
    head = made(STORAGE, uploaded)["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]
    assert not [v for v in head["volumes"] if v["name"] == "job"]
    assert needs_config_map(CODE)
    assert needs_config_map(Code(("tfcluster", "run", "/job/job.json")))
    head = made(STORAGE)["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]
    assert [v["configMap"] for v in head["volumes"] if v["name"] == "job"] == [{"name": "flights-1-job"}]
    workers = made(STORAGE)["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    assert not [v for group in workers for v in group["template"]["spec"]["volumes"] if v["name"] == "job"]


#: How the words of `ray job submit` become a text again: as older Ray does it, and as Ray 2.60 does.
JOINED: dict[str, Callable[[list[str]], str]] = {"older": subprocess.list2cmdline, "quoted": shlex.join}


@pytest.mark.parametrize("hands_over", [*JOINED, "HTTP"])
@pytest.mark.parametrize(
    "uri",
    [
        "s3://bucket/code.zip",
        "s3://b/r/code.zip?endpoint_override=minio:9000&scheme=http",
        's3://b/it\'s "$HOME" `id` $(id)/a\\b; exit 3 # *\n!|<>(){}[]~é',
    ],
)
def test_the_entrypoint_passes_the_shells_that_it_meets(uri: str, hands_over: str, tmp_path: Path) -> None:
    """KubeRay puts it into a command for bash, `ray job submit` joins its words, and Ray runs that by sh."""
    program = tmp_path / "tfcluster"
    program.write_text(f"#!/bin/sh\nfor word; do printf '%s\\0' \"$word\"; done > {tmp_path}/seen\nexit 7\n")
    program.chmod(0o755)
    code = Code(("tfcluster", "run", "a folder/tfcluster-job.json"), uri=uri)
    entrypoint = code.entrypoint
    if hands_over in JOINED:
        printed = subprocess.run(["bash", "-ec", f"printf '%s\\0' {entrypoint} ;"], capture_output=True, check=True)
        entrypoint = JOINED[hands_over](printed.stdout.decode().split("\0")[:-1])
    env = {"PATH": f"{tmp_path}:/usr/bin:/bin", "TMPDIR": str(tmp_path)}
    done = subprocess.run(entrypoint, shell=True, env=env, check=False, timeout=20)
    assert (tmp_path / "seen").read_text().split("\0")[:-1] == list(code.words[1:])
    assert done.returncode == 7


def test_the_job_owns_its_config_map() -> None:
    settings = parse(STORAGE)
    document = config_map("flights-1", "abc", spec_of(), settings, CODE)
    job = {**made(STORAGE)}
    job["metadata"]["uid"] = "u"
    owner = {"apiVersion": "ray.io/v1", "kind": "RayJob", "name": "flights-1", "uid": "u"}
    assert owned(document, job)["metadata"]["ownerReferences"] == [owner]
    assert "ownerReferences" not in document["metadata"]


def test_the_runtime_environment_is_text() -> None:
    settings = {**STORAGE, "runtimeEnv": {"pip": ["polars"]}}
    assert json.loads(made(settings)["spec"]["runtimeEnvYAML"]) == {"pip": ["polars"]}
