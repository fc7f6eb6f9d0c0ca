"""A job that is submitted has the Pods that the chart gives it, where the settings are the same."""

from __future__ import annotations

from typing import Any

import pytest

from cluster.errors import PreflightError
from cluster.kube_groups import groups_of
from cluster.kube_job import Code, ray_job
from cluster.kube_settings import parse
from cluster.spec import parse as parse_spec
from tests.helm.cases import GPU_GROUP, JOB, PLACED, S3
from tests.helm.charts import Document, Helm, RefusedError

CODE = Code(("tfcluster", "run", "tfcluster-job.json"), b"zip")
SPEC: dict[str, Any] = {"roles": {"worker": 2}, "timeouts": {"stop": "1m30s"}}
CPU_GROUP: dict[str, Any] = {
    "replicas": 2,
    "resources": {"requests": {"cpu": "2", "memory": "4Gi"}, "limits": {"cpu": "2", "memory": "4Gi"}},
}
CASES: dict[str, dict[str, Any]] = {
    "plain": {"storage": {"claim": {"name": "runs"}}, "workerGroups": {"cpu": CPU_GROUP}},
    "object storage": {"storage": S3, "workerGroups": {"cpu": CPU_GROUP}, "imagePullSecrets": ["registry"]},
    "gpus": {"storage": S3, "workerGroups": {"cpu": None, "gpu": GPU_GROUP}, "image": {"repository": "r", "tag": "1"}},
    "open": {"storage": S3, "workerGroups": {"cpu": CPU_GROUP}, "auth": {"enabled": False}},
    "token": {"storage": S3, "workerGroups": {"cpu": CPU_GROUP}, "auth": {"secretName": "mine"}},
    "kueue": {"storage": S3, "workerGroups": {"cpu": CPU_GROUP}, "queue": {"scheduler": "kueue", "name": "team"}},
    "yunikorn": {"storage": S3, "workerGroups": {"cpu": CPU_GROUP}, "queue": {"scheduler": "yunikorn", "name": "t"}},
    "volcano": {
        "storage": S3,
        "workerGroups": {"cpu": CPU_GROUP},
        "queue": {"scheduler": "volcano", "name": "team"},
        "head": {"priorityClassName": "high", "resources": CPU_GROUP["resources"]},
    },
    "rules": {
        "storage": S3,
        "workerGroups": {"cpu": CPU_GROUP},
        "rayJob": {
            "shutdownAfterJobFinishes": False,
            "deletionRules": [{"policy": "DeleteSelf", "condition": {"jobStatus": "FAILED", "ttlSeconds": 60}}],
            "backoffLimit": 2,
            "activeDeadlineSeconds": 3600,
        },
    },
    "small Pods have a place": {
        "storage": S3,
        "workerGroups": {"cpu": CPU_GROUP},
        "rayJob": {"submitter": {**PLACED, "resources": {"limits": {"cpu": "2"}}}},
    },
    "said in part": {
        "storage": S3,
        "podSecurityContext": {"runAsUser": 2000, "runAsGroup": None},
        "securityContext": {"readOnlyRootFilesystem": False},
        "head": {"resources": {"limits": {"memory": "8Gi"}}},
        "workerGroups": {"cpu": {"resources": {"limits": {"memory": "8Gi"}}}},
        "rayJob": {"submitter": {"resources": {"requests": {"cpu": "50m"}, "limits": {"cpu": None}}}},
    },
    "requests alone": {
        "storage": S3,
        "podSecurityContext": {"runAsUser": None, "runAsGroup": None, "fsGroup": None},
        "head": {"resources": {"requests": {"memory": "2Gi"}}},
        "workerGroups": {"cpu": {"resources": {"requests": {"cpu": "1"}}, "gpus": 1}},
    },
    "said twice": {
        "storage": S3,
        "workerGroups": {"cpu": {**CPU_GROUP, "env": [{"name": "A", "value": "group"}, {"name": "B", "value": "b"}]}},
        "head": {"env": [{"name": "A", "value": "head"}, {"name": "A", "value": "again"}]},
        "extraEnv": [
            {"name": "A", "value": "all"},
            {"name": "HOME", "value": "/elsewhere"},
            {"name": "RAY_JOB_STOP_WAIT_TIME_S", "value": "1"},
        ],
        "extraVolumes": [
            {"name": "tmp", "ephemeral": {"volumeClaimTemplate": {"spec": {"accessModes": ["ReadWriteOnce"]}}}},
            {"name": "data", "persistentVolumeClaim": {"claimName": "data"}},
        ],
        "extraVolumeMounts": [
            {"name": "data", "mountPath": "/home/tfcluster", "subPath": "home"},
            {"name": "data", "mountPath": "/data"},
            {"name": "tmp", "mountPath": "/cache"},
        ],
        "extraLabels": {"app.kubernetes.io/part-of": "platform", "app.kubernetes.io/component": "training"},
    },
    "extras": {
        "storage": S3,
        "workerGroups": {"cpu": {**CPU_GROUP, "labels": {"a": "b"}, "env": [{"name": "A", "value": "1"}]}},
        "extraEnv": [{"name": "B", "value": "2"}],
        "extraEnvFrom": [{"configMapRef": {"name": "more"}}],
        "extraVolumes": [
            {"name": "data", "persistentVolumeClaim": {"claimName": "data"}},
            {"name": "scratch", "emptyDir": {}},
        ],
        "extraVolumeMounts": [{"name": "data", "mountPath": "/data"}, {"name": "scratch", "mountPath": "/scratch"}],
        "extraLabels": {"team": "vision"},
        "extraAnnotations": {"note": "x"},
        "extraInitContainers": [{"name": "i", "image": "busybox"}],
        "extraContainers": [{"name": "c", "image": "busybox"}],
        "rayJob": {"suspend": True, "ttlSecondsAfterFinished": 0},
        "head": {
            "resources": {"requests": {"cpu": "1", "memory": "8Gi"}, "limits": {"cpu": "4", "memory": "8Gi"}},
            "rayStartParams": {"dashboard-agent-listen-port": "1"},
            "livenessProbe": {"tcpSocket": {"port": 6379}},
        },
    },
}


def rendered(helm: Helm, settings: dict[str, Any]) -> Document:
    """The RayJob of the chart, less what the two do differently: where code comes from."""
    values = {**settings, "mode": "job", "job": JOB["job"] | SPEC, "rayVersion": "2.60.0"}
    return comparable(helm.one("RayJob", {**values, "serviceAccount": {"create": False}}))


def submitted(settings: dict[str, Any]) -> Document:
    spec = parse_spec(JOB["job"] | SPEC | {"storage": "s3://bucket/runs"})
    given = parse({**settings, "rayVersion": "2.60.0", "namespace": "ml"})
    return comparable(ray_job("demo", "x", spec, given, CODE))


def comparable(job: Document) -> Document:
    labels = job["metadata"]["labels"]
    for key in ("helm.sh/chart", "app.kubernetes.io/managed-by"):
        labels.pop(key, None)
    job["metadata"].pop("namespace", None)
    job["metadata"].get("annotations", {}).pop("tfcluster.io/submission", None)
    if not job["metadata"].get("annotations"):
        job["metadata"].pop("annotations", None)
    del job["spec"]["entrypoint"]
    cluster = job["spec"]["rayClusterSpec"]
    for template in (cluster["headGroupSpec"]["template"], *(g["template"] for g in cluster["workerGroupSpecs"])):
        pod = template["spec"]
        container = pod["containers"][0]
        container["volumeMounts"] = [m for m in container["volumeMounts"] if m["name"] != "job"]
        pod["volumes"] = [v for v in pod["volumes"] if v["name"] != "job"]
    return job


@pytest.mark.parametrize("case", CASES)
def test_the_same_pods(helm: Helm, case: str) -> None:
    assert submitted(CASES[case]) == rendered(helm, CASES[case])


SCRIPT: dict[str, Any] = {"script": ["a.py"], "strategy": "multi_worker_mirrored"}
SMALL: dict[str, Any] = {"replicas": 2, "resources": {"limits": {"cpu": "1500m", "memory": "3G"}}}
GPUS: dict[str, Any] = {"replicas": 1, "gpus": 4, "resources": {"limits": {"cpu": 16, "memory": 68719476736}}}
ROOM: dict[str, tuple[dict[str, Any], bool]] = {
    "as many tasks as there is room for": ({"roles": {"worker": 20}}, True),
    "one more": ({"roles": {"worker": 21}}, False),
    "memory": ({"roles": {"worker": {"replicas": 2, "cpus": 0, "memory": "32GiB"}}}, True),
    "a byte more": ({"roles": {"worker": {"replicas": 2, "cpus": 0, "memory": 34359738369}}}, False),
    "tasks that share a GPU": ({"roles": {"worker": {"replicas": 13, "gpus": 0.3}}}, True),
    "one more that does": ({"roles": {"worker": {"replicas": 14, "gpus": 0.3}}}, False),
    "GPUs of all": ({"roles": {"worker": {"replicas": 3, "gpus": 1}, "evaluator": {"gpus": 2}}}, False),
    "one Pod": ({"roles": {"worker": 16}, "placement": "strict_pack"}, True),
    "one Pod with too few CPUs": ({"roles": {"worker": 17}, "placement": "strict_pack"}, False),
    "a Pod each": ({"roles": {"worker": 2, "chief": 1}, "placement": "strict_spread"}, True),
    "no Pod for the last": ({"roles": {"worker": 3, "chief": 1}, "placement": "strict_spread"}, False),
}


@pytest.mark.parametrize("case", ROOM)
def test_the_same_room(helm: Helm, case: str) -> None:
    job, fits = ROOM[case]
    groups = {"cpu": None, "small": SMALL, "gpu": GPUS}
    values = {"mode": "job", "job": {**SCRIPT, **job}, "storage": S3, "workerGroups": groups}
    if fits:
        groups_of(parse_spec(values["job"]), parse({"workerGroups": groups}))
        assert helm.render(values)
        return
    with pytest.raises(PreflightError):
        groups_of(parse_spec(values["job"]), parse({"workerGroups": groups}))
    with pytest.raises(RefusedError, match=r"groups of workers|placement strict"):
        helm.render(values)
