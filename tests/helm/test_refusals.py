"""What cannot work is refused when it is rendered: what happened · the value seen · what to do."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from cluster.locations import shown
from cluster.secrets import NAMES as NAMES_OF_SECRETS
from cluster.secrets import is_secret
from tests.helm.cases import CASES, GPU_GROUP, JOB, S3, job
from tests.helm.charts import CHART, Helm, RefusedError
from tests.unit.test_chart_values import SPECS


def roles(**kinds: Any) -> dict[str, Any]:
    """The job with other roles."""
    return job(job={**JOB["job"], "roles": kinds})


def rule(policy: str, seconds: int = 0, **condition: str) -> dict[str, Any]:
    """A deletion rule, by default for jobs that failed."""
    return {"policy": policy, "condition": {**(condition or {"jobStatus": "FAILED"}), "ttlSeconds": seconds}}


def rules(*given: dict[str, Any], **values: Any) -> dict[str, Any]:
    """The job with deletion rules."""
    return job(rayJob={"shutdownAfterJobFinishes": False, "deletionRules": list(given)}, **values)


def text(words: str, **values: Any) -> dict[str, Any]:
    """The job as this text."""
    return job(job=words, **values)


def schedule(words: str, **values: Any) -> dict[str, Any]:
    """The job at these times."""
    return {**CASES["cron"], "cron": {"schedule": words, **values}}


def runs_in(source: dict[str, Any], **mount: Any) -> dict[str, Any]:
    """The job with its runs in a volume of that source."""
    return job(
        job={**JOB["job"], "storage": "/data/runs"},
        storage={},
        extraVolumes=[{"name": "data", **source}],
        extraVolumeMounts=[{"name": "data", "mountPath": "/data", **mount}],
    )


def mounts(*paths: str, **values: Any) -> dict[str, Any]:
    """A volume that is mounted at these places."""
    return {
        "extraVolumes": [{"name": "data", "emptyDir": {}}],
        "extraVolumeMounts": [{"name": "data", "mountPath": path} for path in paths],
        **values,
    }


def volumes(*names: str, **values: Any) -> dict[str, Any]:
    """Volumes of these names."""
    return {"extraVolumes": [{"name": name, "emptyDir": {}} for name in names], **values}


ON_A_CLUSTER = job(files={}, storage=S3)

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "name begins with a digit": ({"fullnameOverride": "1st"}, "no DNS-1035 label · 1st"),
    "name has a dot": ({"fullnameOverride": "a.b"}, "no DNS-1035 label · a.b"),
    "cluster name of 54": ({"fullnameOverride": "a" * 54}, "at most 53 characters"),
    "job name of 48": (job(fullnameOverride="a" * 48), "at most 47 characters"),
    "cron name of 37": ({**CASES["cron"], "fullnameOverride": "a" * 37}, "at most 36 characters"),
    "board name of 52": (
        {"fullnameOverride": "a" * 52, "tensorboard": {"enabled": True}, "storage": S3},
        "at most 51 characters",
    ),
    "no job": ({"mode": "job"}, "mode job needs a job · job is empty"),
    "a job that runs nothing": (job(job={"name": "a"}), "neither entrypoint nor script"),
    "a job that runs two things": (job(job={**JOB["job"], "script": ["a.py"]}), "entrypoint or a script"),
    "runs that end with their Pods": (job(storage={}), "job.storage ./runs, no storage.uri"),
    "runs where nothing is mounted": (
        job(job={**JOB["job"], "storage": "/data/runs"}),
        "no lasting volume is mounted · job.storage /data/runs; mounted: /storage",
    ),
    "a folder that ends with its Pod": (
        job(
            job={**JOB["job"], "storage": "/scratch"},
            storage={},
            extraVolumes=[{"name": "s", "emptyDir": {}}],
            extraVolumeMounts=[{"name": "s", "mountPath": "/scratch"}],
        ),
        "mounted: nothing",
    ),
    "runs in a ConfigMap": (runs_in({"configMap": {"name": "a"}}), "mounted: nothing"),
    "runs in a Secret": (runs_in({"secret": {"secretName": "a"}}), "mounted: nothing"),
    "runs in what a driver makes for the Pod": (
        runs_in({"csi": {"driver": "secrets-store.csi.k8s.io"}}),
        "mounted: nothing",
    ),
    "runs in a mount to be read": (
        runs_in({"persistentVolumeClaim": {"claimName": "a"}}, readOnly=True),
        "mounted: nothing",
    ),
    "runs in a claim to be read": (
        runs_in({"persistentVolumeClaim": {"claimName": "a", "readOnly": True}}),
        "mounted: nothing",
    ),
    "a folder that only begins alike": (
        job(job={**JOB["job"], "storage": "/storage2"}),
        "no lasting volume is mounted",
    ),
    "two storages": ({"storage": {"uri": "s3://b/r", "claim": {"name": "runs"}}}, "runs have two places"),
    "a path as URI": ({"storage": {"uri": "/runs"}}, "storage.uri is no URI · /runs"),
    "a board of nothing": ({"tensorboard": {"enabled": True}}, "TensorBoard has nothing to show"),
    "suspend without shutdown": (
        job(rayJob={"suspend": True, "shutdownAfterJobFinishes": False}),
        "can be suspended · rayJob.suspend true",
    ),
    "ttl without shutdown": (
        job(rayJob={"ttlSecondsAfterFinished": 60, "shutdownAfterJobFinishes": False}),
        "needs shutdownAfterJobFinishes · rayJob.ttlSecondsAfterFinished 60",
    ),
    "ttl on a cluster": (
        {**ON_A_CLUSTER, "rayJob": {"clusterName": "team", "ttlSecondsAfterFinished": 0}},
        "rayJob.ttlSecondsAfterFinished 0, rayJob.clusterName team",
    ),
    "a claim for a cluster that is there": (
        job(files={}, storage={"claim": {"create": True}}, rayJob={"clusterName": "team"}),
        "storage.claim.create, rayJob.clusterName team",
    ),
    "files of a team's cluster": ({"files": {"train.py": ""}}, "takes no files · 1 files in mode cluster"),
    "suspend of a job": (job(suspend=True), "suspend true in mode job · use rayJob.suspend"),
    "suspend of no schedule": (job(cron={"suspend": True}), "cron.suspend true in mode job · use rayJob.suspend"),
    "suspend of no schedule, in a cluster": ({"cron": {"suspend": True}}, "in mode cluster · use suspend"),
    "suspend of a schedule": ({**CASES["cron"], "suspend": True}, "suspend true in mode cron · use cron.suspend"),
    "jobs of a schedule that do not start": (
        {**CASES["cron"], "rayJob": {"suspend": True}},
        "rayJob.suspend true in mode cron · use cron.suspend",
    ),
    "requests of the head": ({"head": {"resources": {"limits": {"memory": "2Gi"}}}}, "head: memory 4Gi of 2Gi"),
    "requests of a group": (
        {"workerGroups": {"cpu": {"resources": {"requests": {"cpu": 8}}}}},
        "more than its limit · workerGroups.cpu: cpu 8 of 2",
    ),
    "requests of another group": (
        {"workerGroups": {"a": {"resources": {"requests": {"cpu": "1001m"}, "limits": {"cpu": 1, "memory": "1Gi"}}}}},
        "workerGroups.a: cpu 1001m of 1",
    ),
    "requests of the submitter": (
        job(rayJob={"submitter": {"resources": {"limits": {"cpu": "100m"}}}}),
        "rayJob.submitter: cpu 200m of 100m",
    ),
    "requests of the autoscaler": (
        {"autoscaling": {"enabled": True, "resources": {"limits": {"memory": "256Mi"}}}},
        "autoscaling: memory 512Mi of 256Mi",
    ),
    "requests of TensorBoard": (
        {"tensorboard": {"enabled": True, "resources": {"requests": {"memory": "3G"}}}, "storage": S3},
        "tensorboard: memory 3G of 2Gi",
    ),
    "requests of another container": (
        {"extraContainers": [{"name": "a", "image": "b", "resources": {"requests": {"cpu": 2}, "limits": {"cpu": 1}}}]},
        "extraContainers, a: cpu 2 of 1",
    ),
    "a volume twice": (volumes("data", "data"), "the same name, or the chart has one of it · data in extraVolumes"),
    "a volume called as Ray's memory": (volumes("shared-mem"), "shared-mem in extraVolumes"),
    "a volume called as the job's": (volumes("job", **JOB), "job in extraVolumes"),
    "a volume called as the storage": (
        volumes("storage", storage={"claim": {"name": "runs"}}),
        "storage in extraVolumes",
    ),
    "a volume called as the autoscaler's": (
        volumes("api-token", autoscaling={"enabled": True}),
        "api-token in extraVolumes",
    ),
    "a mount of no volume": (
        {"extraVolumeMounts": [{"name": "data", "mountPath": "/data"}]},
        "that no Pod has · data at /data in extraVolumeMounts",
    ),
    "a mount of the storage in all Pods": (
        {"extraVolumeMounts": [{"name": "storage", "mountPath": "/data"}], "storage": {"claim": {"name": "runs"}}},
        "storage at /data in extraVolumeMounts",
    ),
    "a mount of no volume beside Ray": (
        {"extraContainers": [{"name": "a", "image": "b", "volumeMounts": [{"name": "job", "mountPath": "/job"}]}]},
        "job at /job in extraContainers, a",
    ),
    "a place twice": (mounts("/data", "/data/"), "the same place · /data: data and data"),
    "a place twice in /tmp": (mounts("/tmp", "/tmp"), "/tmp: data and data"),
    "the place of Ray's memory": (mounts("/dev/shm"), "/dev/shm: shared-mem and data"),
    "the place of the job": (mounts("/job/job.json", **JOB), "/job/job.json: job and data"),
    "the place of a file": (mounts("/job/package/part.py", **JOB), "/job/package/part.py: job and data"),
    "the place of the storage": (
        mounts("/storage", storage={"claim": {"name": "runs"}}),
        "/storage: storage and data",
    ),
    "the storage at home": (
        {"storage": {"claim": {"name": "runs"}, "mountPath": "/home/tfcluster"}},
        "/home/tfcluster: home and storage",
    ),
    "home where all may write": ({"home": "/tmp"}, "/tmp: tmp and home"),
    "a container called as Ray's": (
        {"extraContainers": [{"name": "ray-head", "image": "b"}]},
        "extraContainers, ray-head",
    ),
    "a container twice": (
        {"extraInitContainers": [{"name": "a", "image": "b"}], "extraContainers": [{"name": "a", "image": "b"}]},
        "extraContainers, a",
    ),
    "a variable twice beside Ray": (
        {"extraContainers": [{"name": "a", "image": "b", "env": [{"name": "A"}, {"name": "A"}]}]},
        "a variable twice · A in extraContainers, a",
    ),
    "a number that Helm changes": (
        job(job={**JOB["job"], "args": {"nested": [{"seed": 12345678901234567}]}}),
        "job.args.nested[0].seed 12345678901234568 · give the job as text",
    ),
    "a number below that Helm changes": (
        job(job={**JOB["job"], "args": {"a": -(2**53)}}),
        "job.args.a -9007199254740992",
    ),
    "a text that is no YAML": (text("script: [a.py"), "no mapping in YAML · error converting YAML to JSON"),
    "a text that is a list": (text("- a"), "no mapping in YAML"),
    "a text with an unknown key": (text("script: a.py\nrols: {}"), "no valid one · job.rols is an unknown key"),
    "a text with an unknown role": (text("script: a.py\nroles: {master: 1}"), "job.roles.master is an unknown key"),
    "a text with an unknown key of a role": (
        text("script: a.py\nroles: {worker: {replica: 2}}"),
        "job.roles.worker.replica is an unknown key",
    ),
    "a text with a duration": (text("script: a.py\ntimeouts: {hang: soon}"), "job.timeouts.hang is soon"),
    "a text that runs nothing": (text("name: a"), "neither entrypoint nor script"),
    "a text that is too large": (text("script: a.py\nroles: {worker: 5}"), "5 tasks of CPU 1, room for 4"),
    "a text in braces": (text("{script: a.py}"), "the chart's storage and a name · storage /storage, name demo"),
    "a secret in a text": (
        text("script: a.py\nroles: {worker: {env: {DB_PASSWORD: x}}}"),
        "DB_PASSWORD in job.roles.worker.env",
    ),
    "a password in a text": (text("script: a.py\nstorage: s3://a:hush-hush@b"), "job.storage s3://a:***@b"),
    "a password beside a text": (text("script: a.py  # s3://a:hush-hush@b"), "job script: a.py  # s3://a:***@b"),
    "a password of no valid text": (
        text("script: a.py\ndata: {a: {files: {b: s3://a:hush-hush@b}}}"),
        "job.data.a.files is map[b:s3://a:***@b]",
    ),
    "a file that is the text": (text("script: a.py", files={"job.yaml": ""}), "or is job.yaml, which is the job"),
    "a text for a team's cluster": ({"job": "script: a.py"}, "job in mode cluster"),
    "rules with shutdown": (job(rayJob={"deletionRules": [rule("DeleteSelf")]}), "exclude each other · 1 rules"),
    "a rule without condition": (
        job(rayJob={"shutdownAfterJobFinishes": False, "deletionRules": [{"policy": "DeleteSelf", "condition": {}}]}),
        "one condition · rayJob.deletionRules[0], DeleteSelf",
    ),
    "a rule with two conditions": (
        rules(rule("DeleteSelf", jobStatus="FAILED", jobDeploymentStatus="Failed")),
        "one condition",
    ),
    "a rule twice": (rules(rule("DeleteSelf", 1), rule("DeleteSelf", 2)), "two deletion rules say the same"),
    "the cluster before its workers": (
        rules(rule("DeleteCluster", 10), rule("DeleteWorkers", 20)),
        "DeleteCluster after 10 s, what is in it after 20 s",
    ),
    "the job before its cluster": (rules(rule("DeleteSelf", 1), rule("DeleteCluster", 2)), "DeleteSelf after 1 s"),
    "workers of the autoscaler": (
        rules(rule("DeleteWorkers"), autoscaling={"enabled": True}),
        "no workers that the autoscaler has",
    ),
    "another's cluster": (
        {**ON_A_CLUSTER, "rayJob": {**rules(rule("DeleteCluster"))["rayJob"], "clusterName": "team"}},
        "not its own",
    ),
    "backoff on a cluster": ({**ON_A_CLUSTER, "rayJob": {"clusterName": "team", "backoffLimit": 1}}, "backoffLimit 1"),
    "backoff by hand": (job(rayJob={"submissionMode": "InteractiveMode", "backoffLimit": 1}), "InteractiveMode"),
    "suspend on a cluster": ({**ON_A_CLUSTER, "rayJob": {"clusterName": "team", "suspend": True}}, "be suspended"),
    "sidecar on a cluster": (
        {**ON_A_CLUSTER, "rayJob": {"clusterName": "team", "submissionMode": "SidecarMode"}},
        "SidecarMode puts the submitter",
    ),
    "sidecar beside a head that restarts": (
        job(rayJob={"submissionMode": "SidecarMode"}, head={"restartPolicy": "Always"}),
        "head.restartPolicy Always",
    ),
    "autoscaler v2 with a head that restarts": (
        {"autoscaling": {"enabled": True}, "head": {"restartPolicy": "Always"}},
        "head.restartPolicy Always",
    ),
    "autoscaler v2 with workers that restart": (
        {"autoscaling": {"enabled": True}, "workerGroups": {"cpu": {"restartPolicy": "OnFailure"}}},
        "workerGroups.cpu.restartPolicy OnFailure",
    ),
    "autoscaler of the default account": (
        {"autoscaling": {"enabled": True}, "serviceAccount": {"create": False}},
        "service account default",
    ),
    "idle time without autoscaler": ({"workerGroups": {"cpu": {"idleTimeoutSeconds": 5}}}, "idleTimeoutSeconds 5"),
    "idle time with v1": (
        {"workerGroups": {"cpu": {"idleTimeoutSeconds": 5}}, "autoscaling": {"enabled": True, "version": "v1"}},
        "idleTimeoutSeconds 5",
    ),
    "min over max": (
        {"workerGroups": {"cpu": {"minReplicas": 3, "maxReplicas": 2}}},
        "minReplicas 3, replicas 2, maxReplicas 2",
    ),
    "replicas over max": ({"workerGroups": {"cpu": {"replicas": 5, "maxReplicas": 4}}}, "replicas 5, maxReplicas 4"),
    "a group's name": ({"workerGroups": {"GPU": GPU_GROUP}}, "no DNS label of at most 32 characters"),
    "a group called head": ({"workerGroups": {"head": GPU_GROUP}}, "or is head · head"),
    "no workers": ({"workerGroups": {"cpu": None}}, "workerGroups is empty"),
    "labels of Ray": ({"head": {"rayStartParams": {"labels": "a=b"}}}, "head.rayStartParams.labels"),
    "tokens of an old Ray": ({"rayVersion": "2.51.0"}, "knows no tokens · rayVersion 2.51.0"),
    "password without Redis": (
        {"gcsFaultTolerance": {"passwordSecret": {"name": "redis"}}},
        "passwordSecret.name redis",
    ),
    "username without Redis": (
        {"gcsFaultTolerance": {"usernameSecret": {"name": "redis"}}},
        "there is a username and no Redis · gcsFaultTolerance.usernameSecret.name redis",
    ),
    "tokens of a candidate of an old Ray": ({"rayVersion": "2.51.0rc1"}, "knows no tokens · rayVersion 2.51.0rc1"),
    "Redis by variable": ({"extraEnv": [{"name": "RAY_REDIS_ADDRESS", "value": "a:1"}]}, "use gcsFaultTolerance"),
    "Redis by argument": ({"head": {"rayStartParams": {"redis-password": "x"}}}, "rayStartParams.redis-password"),
    "autoscaler by variable": (
        {"extraEnv": [{"name": "RAY_enable_autoscaler_v2", "value": "1"}]},
        "use autoscaling.version",
    ),
    "queue without name": ({"queue": {"scheduler": "kueue"}}, "the queue has no name · queue.scheduler kueue"),
    "name without queue": ({"queue": {"name": "team"}}, "queue.name team"),
    "queue on a schedule": ({**CASES["cron"], "queue": {"scheduler": "kueue", "name": "a"}}, "in mode cron"),
    "queue on a cluster": (
        {**ON_A_CLUSTER, "rayJob": {"clusterName": "team"}, "queue": {"scheduler": "volcano", "name": "a"}},
        "no Pods to queue",
    ),
    "Kueue with autoscaler": (
        {"queue": {"scheduler": "kueue", "name": "a"}, "autoscaling": {"enabled": True}},
        "a fixed size",
    ),
    "Kueue without shutdown": (
        job(queue={"scheduler": "kueue", "name": "a"}, rayJob={"shutdownAfterJobFinishes": False}),
        "quota back",
    ),
    "a job for a team's cluster": ({"job": JOB["job"]}, "job in mode cluster"),
    "a schedule of one job": (job(cron={"schedule": "0 3 * * *"}), "cron.schedule 0 3 * * * in mode job"),
    "no schedule": ({**CASES["cron"], "cron": {}}, "cron.schedule is empty"),
    "a zone in the schedule": ({**CASES["cron"], "cron": {"schedule": "TZ=UTC 0 3 * * *"}}, "use cron.timeZone"),
    "a schedule in words": (schedule("every day at 3"), "none that KubeRay reads · every day at 3"),
    "a schedule of four": (schedule("0 3 * *"), "none that KubeRay reads · 0 3 * *"),
    "a schedule of six": (schedule("0 0 3 * * *"), "none that KubeRay reads · 0 0 3 * * *"),
    "a minute of none": (schedule("60 3 * * *"), "none that KubeRay reads · 60 3 * * *"),
    "a weekday of none": (schedule("0 3 * * 1-7"), "none that KubeRay reads · 0 3 * * 1-7"),
    "a step of none": (schedule("*/0 3 * * *"), "none that KubeRay reads · */0 3 * * *"),
    "an unknown word": (schedule("@nightly"), "none that KubeRay reads · @nightly"),
    "a zone by its offset": (schedule("@daily", timeZone="UTC+1"), "no name of a time zone · UTC+1"),
    "a zone in words": (schedule("@daily", timeZone="Central Europe"), "no name of a time zone · Central Europe"),
    "by hand on a schedule": ({**CASES["cron"], "rayJob": {"submissionMode": "InteractiveMode"}}, "InteractiveMode"),
    "files on a cluster": (job(storage=S3, rayJob={"clusterName": "team"}), "2 files, rayJob.clusterName team"),
    "code twice": (job(runtimeEnv={"working_dir": "s3://b/c.zip"}), "code comes from two places"),
    "a file outside": (job(files={"../train.py": ""}), "no plain relative path, or is job.json, which is the job"),
    "a file that is the job": (job(files={"job.json": ""}), "job.json"),
    "files too large": (job(files={"train.py": "#" * 1_000_001}), "too large for a ConfigMap"),
    "GPUs without a GPU group": (
        roles(worker={"replicas": 2, "gpus": 1}),
        "role worker · 2 tasks of CPU 1, GPU 1, room for 0",
    ),
    "tasks larger than a Pod": (roles(worker={"replicas": 1, "cpus": 3}), "1 tasks of CPU 3, room for 0"),
    "more tasks than Pods": (roles(worker={"replicas": 3, "cpus": 2}), "3 tasks of CPU 2, room for 2"),
    "more tasks in short": (roles(worker=5), "5 tasks of CPU 1, room for 4"),
    "roles that fit one by one only": (
        roles(worker={"replicas": 2, "cpus": 2}, evaluator={"cpus": 1}),
        "the job wants CPU 5, they have CPU 4",
    ),
    "the chief that is implied": (
        job(job={"script": "a.py", "strategy": "parameter_server", "roles": {"worker": 2, "ps": 2}}),
        "the job wants CPU 5",
    ),
    "the worker that is implied": (
        job(job={"script": "a.py", "roles": {"ps": 4}}),
        "the job wants CPU 5",
    ),
    "memory larger than a Pod": (
        roles(worker={"replicas": 2, "memory": "100GiB"}),
        "2 tasks of CPU 1, memory 100.0 GiB, room for 0",
    ),
    "memory of more tasks than Pods": (
        roles(worker={"replicas": 3, "memory": "2200 MB"}),
        "3 tasks of CPU 1, memory 2.0 GiB, room for 2",
    ),
    "memory of roles that fit one by one only": (
        roles(worker={"replicas": 2, "memory": "4Gi"}, ps={"memory": "1Mi"}),
        "the job wants CPU 3, memory 8.0 GiB, they have CPU 4, memory 8.0 GiB",
    ),
    "a resource that no group has": (
        roles(worker={"replicas": 2, "resources": {"fpga": 0.5}}),
        "2 tasks of CPU 1, fpga 0.5, room for 0",
    ),
    "a resource of too few Pods": (
        job(
            job={**JOB["job"], "roles": {"worker": {"replicas": 3, "cpus": 0, "resources": {"fpga": 2}}}},
            workerGroups={"cpu": {"rayStartParams": {"resources": '"{\\"fpga\\": 3}"'}}},
        ),
        "3 tasks of fpga 2, room for 2",
    ),
    "all in one Pod": (
        job(job={**JOB["job"], "placement": "strict_pack"}),
        "every task · the job wants CPU 4; a Pod of cpu has CPU 2",
    ),
    "all GPUs in one Pod": (
        job(
            job={**JOB["job"], "roles": {"worker": {"replicas": 5, "gpus": 1}}, "placement": "strict_pack"},
            workerGroups={"gpu": GPU_GROUP},
        ),
        "the job wants CPU 5, GPU 5; a Pod of cpu has CPU 2, GPU 0; a Pod of gpu has CPU 16, GPU 4",
    ),
    "each in a Pod of its own": (
        job(job={**JOB["job"], "roles": {"worker": 2, "ps": 1}, "placement": "strict_spread"}),
        "a Pod for every task · 3 tasks, 2 Pods",
    ),
    "a role's tasks each in a Pod of its own": (
        job(job={**JOB["job"], "roles": {"worker": 3}, "placement": "strict_spread"}),
        "3 tasks of CPU 1, room for 2",
    ),
    "hostPath": ({"extraVolumes": [{"name": "a", "hostPath": {"path": "/"}}]}, "hostPath in extraVolumes, a"),
    "a secret in extraEnv": (
        {"extraEnv": [{"name": "AWS_SECRET_ACCESS_KEY", "value": "x"}]},
        "AWS_SECRET_ACCESS_KEY in extraEnv",
    ),
    "a secret of a group": (
        {"workerGroups": {"cpu": {"env": [{"name": "HF_TOKEN", "value": "x"}]}}},
        "HF_TOKEN in workerGroups.cpu.env",
    ),
    "a secret of a role": (roles(worker={"env": {"DB_PASSWORD": "x"}}), "DB_PASSWORD in job.roles.worker.env"),
    "a secret of the runtime environment": (
        job(runtimeEnv={"env_vars": {"API_KEY": "x"}}),
        "API_KEY in runtimeEnv.env_vars",
    ),
    "a password in a URI": (
        {"storage": {"uri": "s3://key:hush-hush@bucket/runs"}},
        "storage.uri s3://key:***@bucket/runs",
    ),
    "a password with a slash": (
        {"storage": {"uri": "s3://AKIA:ab/hush-hush@bucket/runs"}},
        "storage.uri s3://AKIA:***@bucket/runs",
    ),
    "a client's secret": (
        job(job={**JOB["job"], "storage": "abfs://runs@account/x?tenant_id=1&client_secret=hush-hush"}),
        "job.storage abfs://runs@account/x?tenant_id=1&client_secret=***",
    ),
    "a signature": (
        {"storage": {"uri": "abfs://runs@account/x?sig=hush-hush&sv=1"}},
        "storage.uri abfs://runs@account/x?sig=***&sv=1",
    ),
    "a signature of no URI": (job(job={**JOB["job"], "args": {"part": "t?sig=hush-hush"}}), "job.args.part t?sig=***"),
    "a password of data": (
        job(job={**JOB["job"], "data": {"train": {"files": ["s3://bucket/a", "s3://key:hush-hush@bucket/b"]}}}),
        "job.data.train.files[1] s3://key:***@bucket/b",
    ),
    "a password of a role": (
        roles(worker={"env": {"BROKER": "amqp://me:hush-hush@broker/jobs"}}),
        "job.roles.worker.env.BROKER amqp://me:***@broker/jobs",
    ),
    "a password of the code": (
        job(files={}, runtimeEnv={"working_dir": "s3://key:hush-hush@bucket/code.zip"}),
        "runtimeEnv.working_dir s3://key:***@bucket/code.zip",
    ),
    "a password of a variable": (
        {"extraEnv": [{"name": "HTTPS_PROXY", "value": "http://me:hush-hush@proxy:3128"}]},
        "extraEnv[0].value http://me:***@proxy:3128",
    ),
    "a password beside a variable": (
        {"extraEnv": [{"name": "URI", "value": "http://me:hush-hush$(MORE)@proxy, s3://a:$(B)@c"}]},
        "extraEnv[0].value http://me:***@proxy, s3://a:***@c",
    ),
    "a password of another container": (
        {"extraContainers": [{"name": "a", "image": "b", "args": ["--to", "s3://key:hush-hush@bucket"]}]},
        "extraContainers[0].args[1] s3://key:***@bucket",
    ),
    "a password of Redis": (
        {"gcsFaultTolerance": {"redisAddress": "redis://:hush-hush@redis:6379"}},
        "gcsFaultTolerance.redisAddress redis://:***@redis:6379",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_it_is_refused_with_a_sentence(helm: Helm, case: str) -> None:
    values, words = REFUSED[case]
    with pytest.raises(RefusedError) as refused:
        helm.render(values)
    message = str(refused.value)
    assert words in message
    assert message.count(" · ") == 2
    assert "hush-hush" not in message


URIS = (
    "s3://bucket/runs",
    "s3://key@bucket/runs",
    "s3://key:secret@bucket/runs",
    "s3://key:@bucket/runs",
    "s3://key:1234@bucket/runs",
    "s3://key:12/34@bucket/runs",
    "s3://key:12a/34@bucket/runs",
    "s3://key:a/34@bucket/runs?region=eu-1",
    "hdfs://host:8020/runs/a@b",
    "http://127.0.0.1:9000",
    "from s3://a:b@c to gs://d:e@f, user:none@host",
    "abfs://c@a.dfs.core.windows.net/x?client_secret=y&tenant_id=z",
    "abfs://c@a.dfs.core.windows.net/x?sv=1&sig=y%2Fz and more",
    "s3://a:b@c/d?sig=e&signal=f",
    "s3://bucket/${1}",
)


def test_a_password_is_what_the_commands_take_for_one(helm: Helm) -> None:
    masks = [f'{{{{ include "tfcluster.shown" {json.dumps(uri)} | toJson }}}}' for uri in URIS]
    text = f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: masks}}\ndata: [{', '.join(masks)}]\n"
    assert helm.one("ConfigMap", {"extraObjects": [text]}, "masks")["data"] == [shown(uri) for uri in URIS]


NAMES = {
    "AZURE_STORAGE_ACCOUNT_KEY": True,
    "AWS_SESSION_TOKEN": True,
    "AZURE_STORAGE_CONNECTION_STRING": True,
    "MYSQL_PWD_OR_PASSWORD_1": True,
    "client_secret": True,
    "MYSQL_PWD": True,
    "db_pass": True,
    "SSH_PASSPHRASE": True,
    "OPENAI_APIKEY": True,
    "ACCESS_KEYS": True,
    "GITHUB_PAT": True,
    "AUTH_TOKENS": True,
    "BYPASS": False,
    "AWS_ACCESS_KEY_ID": False,
    "GOOGLE_APPLICATION_CREDENTIALS": False,  # the path of a file
    "KEYBOARD": False,
    "MONKEY": False,
    "TOKENS": False,
}


def test_a_secret_is_what_the_commands_take_for_one(helm: Helm) -> None:
    words = [f'{{{{ include "tfcluster.isSecret" "{name}" | quote }}}}' for name in NAMES]
    text = f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: secret}}\ndata: [{', '.join(words)}]\n"
    assert json.dumps(NAMES_OF_SECRETS) in (CHART / "templates" / "_secrets.tpl").read_text("utf-8")
    found = helm.one("ConfigMap", {"extraObjects": [text]}, "secret")["data"]
    assert [word == "true" for word in found] == [is_secret(name) for name in NAMES] == list(NAMES.values())


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "an unknown key": ({"workerGroup": {}}, "workerGroup"),
    "an unknown key of the job": (job(job={**JOB["job"], "rols": {}}), "rols"),
    "an unknown key of a role": (roles(worker={"replica": 2}), "roles"),
    "an unknown role": (roles(master=1), "master"),
    "an unknown mode": ({"mode": "service"}, "mode"),
    "a batch of none": (job(job={**JOB["job"], "data": {"train": {"files": "a", "batch": 0}}}), "batch"),
    "a duration": (job(job={**JOB["job"], "timeouts": {"hang": "10 parsecs"}}), "hang"),
    "a submission mode": (job(rayJob={"submissionMode": "K8sJob"}), "submissionMode"),
    "a suspension in words": ({"suspend": "yes"}, "suspend"),
    "a condition in words": ({"enabled": "yes"}, "enabled"),
    "an unknown key of the submitter": (job(rayJob={"submitter": {"nodeSelectors": {}}}), "nodeSelectors"),
    "a job that is a list": (job(job=["a.py"]), "job"),
    "a policy": (rules(rule("DeleteAll")), "policy"),
    "a negative ttl": (job(rayJob={"ttlSecondsAfterFinished": -1}), "ttlSecondsAfterFinished"),
    "a deadline of none": (job(rayJob={"activeDeadlineSeconds": 0}), "activeDeadlineSeconds"),
    "a group without memory": ({"workerGroups": {"a": {"resources": {"limits": {"cpu": 1}}}}}, "memory"),
    "a quantity": ({"workerGroups": {"cpu": {"sharedMemory": "2 GB"}}}, "sharedMemory"),
}


@pytest.mark.parametrize("case", WRONG)
def test_the_schema_finds_it(helm: Helm, case: str) -> None:
    values, key = WRONG[case]
    with pytest.raises(RefusedError, match="schema") as refused:
        helm.render(values)
    assert key in str(refused.value)


FURTHER: list[tuple[dict[str, Any], bool]] = [
    ({"resume": None, "args": {"a": None, "b": [1, {"c": 2.5}]}}, True),
    ({"checkpoint": {"every": "epoch"}}, True),
    ({"checkpoint": {"every": "epochs"}}, False),
    ({"roles": {"worker": {"replicas": 1.5}}}, False),
    ({"roles": {"worker": -1}}, False),
    ({"roles": {"worker": {"env": {"A": 1}}}}, False),
    ({"data": {"train": {"files": []}}}, False),
    ({"data": {"train": {}}}, False),
    ({"profile": {"steps": [1, 2, 3]}}, False),
    ({"timeouts": 5}, False),
    ({"strategy": "mirror"}, False),
    ({"warm": "soon"}, False),
    ({"entrypoint": ["a"]}, False),
]


@pytest.mark.parametrize(("document", "right"), [*SPECS, *FURTHER])
def test_a_text_is_looked_into_as_values_are(helm: Helm, document: dict[str, Any], right: bool) -> None:
    values = text(yaml.safe_dump(document), workerGroups={"cpu": {"replicas": 20}})
    try:
        said = helm.text(values)
    except RefusedError as refused:  # also one that is right has no entrypoint, as it may be
        said = str(refused)
    assert ("the text of the job is no valid one" in said) != right
    assert ("mode job needs a job" in said or "kind: RayJob" in said) == right


ALLOWED: dict[str, dict[str, Any]] = {
    "names as long as may be": job(fullnameOverride="a" * 47),
    "a token's file is no secret": {"extraEnv": [{"name": "AWS_WEB_IDENTITY_TOKEN_FILE", "value": "/var/token"}]},
    "a password that is a variable of a Secret": {
        "extraEnv": [
            {"name": "HTTPS_PROXY", "value": "http://me:$(PROXY_LOGIN)@proxy:3128"},
            {"name": "TABLE", "value": "abfs://a@b/c?client_secret=$(A)&sig=$(B.c)"},
        ]
    },
    "a word in a name is no secret": {"extraEnv": [{"name": "TOKENIZERS_PARALLELISM", "value": "false"}]},
    "tasks that share a GPU": job(
        job={**JOB["job"], "roles": {"worker": {"replicas": 16, "gpus": 0.5}}},
        workerGroups={"cpu": None, "gpu": GPU_GROUP},
    ),
    "GPUs among the resources": job(
        job={**JOB["job"], "roles": {"worker": {"replicas": 2, "gpus": 4}}},
        workerGroups={"cpu": {"resources": {"limits": {"nvidia.com/gpu": 4}}}},
    ),
    "half a CPU": roles(worker={"replicas": 8, "cpus": 0.5}),
    "a Pod of 1500m offers 2": job(
        workerGroups={"cpu": {"resources": {"limits": {"cpu": "1500m", "memory": "4Gi"}, "requests": {"cpu": "1500m"}}}}
    ),
    "room at the largest": job(
        job={**JOB["job"], "roles": {"worker": {"replicas": 8, "cpus": 2}}},
        autoscaling={"enabled": True},
        workerGroups={"cpu": {"replicas": 0, "maxReplicas": 8}},
    ),
    "memory as large as a Pod's": roles(worker={"replicas": 2, "memory": "4GiB"}),
    "memory as Ray is told": job(
        job={**JOB["job"], "roles": {"worker": {"replicas": 4, "memory": 1_000_000_000}}},
        workerGroups={"cpu": {"rayStartParams": {"memory": "2000000000"}}},
    ),
    "all in the Pod that is large enough": job(
        job={**JOB["job"], "placement": "strict_pack"},
        workerGroups={"large": {"resources": {"limits": {"cpu": 4, "memory": "8Gi"}}}},
    ),
    "each in a Pod": job(job={**JOB["job"], "placement": "strict_spread"}),
    "a resource that a group has": job(
        job={**JOB["job"], "roles": {"worker": {"replicas": 2, "resources": {"fpga": 1}}}},
        workerGroups={"cpu": {"rayStartParams": {"resources": '"{\\"fpga\\": 1}"'}}},
    ),
    "a resource in quotes of a shell": job(
        job={**JOB["job"], "roles": {"worker": {"replicas": 2, "resources": {"fpga": 1}}}},
        workerGroups={"cpu": {"rayStartParams": {"resources": "'{\"fpga\": 1}'"}}},
    ),
    "a resource that Ray finds by itself": roles(worker={"replicas": 2, "resources": {"accelerator_type:H100": 0.001}}),
    "times of all kinds": schedule("0-30/10,45 */4 1,15 JAN-MAR,12 MON-FRI", timeZone="America/Argentina/Buenos_Aires"),
    "a time that is a word": schedule("@every 1h30m", timeZone="Etc/GMT+2"),
    "a step as large as may be": schedule("*/90 ? * * 0", timeZone="GMT-0"),
    "requests as large as limits": {
        "workerGroups": {"cpu": {"resources": {"requests": {"cpu": 0.7}, "limits": {"cpu": "700m"}}}},
        "head": {"resources": {"requests": {"memory": "1024Mi"}, "limits": {"memory": "1Gi"}}},
    },
    "requests of what is not there": {"tensorboard": {"resources": {"requests": {"memory": "3G"}}}},
    "volumes called as those that are not there": volumes("job", "storage", "api-token", "home"),
    "the chart's own folder at another place too": {
        "extraVolumeMounts": [{"name": "tmp", "mountPath": "/cache", "subPath": "cache"}]
    },
    "volumes of Ray's Pods beside Ray": {
        "storage": {"claim": {"name": "runs"}},
        "extraContainers": [
            {
                "name": "a",
                "image": "b",
                "volumeMounts": [{"name": n, "mountPath": f"/{n}"} for n in ("storage", "tmp", "home", "shared-mem")],
            }
        ],
    },
    "runs in a bucket that a driver mounts": runs_in({"csi": {"driver": "gcsfuse.csi.storage.gke.io"}}),
    "runs on NFS": runs_in({"nfs": {"server": "a", "path": "/b"}}),
    "a number that Helm does not change": job(job={**JOB["job"], "args": {"seed": 2**53 - 1, "rate": 1e-300}}),
    "a large number that is text": text("entrypoint: a:b\nargs: {seed: 12345678901234567890}"),
    "a text with words that are true to Helm": text("script: a.py\ndata: {a: {files: b, label: y}}"),
    "a text at its end": text("---\nscript: a.py\n\n\n"),
    "a folder of the claim": job(job={**JOB["job"], "storage": "/storage/vision"}),
}


@pytest.mark.parametrize("case", ALLOWED)
def test_it_is_not_refused(helm: Helm, case: str) -> None:
    assert helm.render(ALLOWED[case])
