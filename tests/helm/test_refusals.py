"""What cannot work is refused when it is rendered: what happened · the value seen · what to do."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cluster.locations import shown
from cluster.secrets import is_secret
from tests.helm.cases import CASES, GPU_GROUP, JOB, S3, job
from tests.helm.charts import Helm, RefusedError


def roles(**kinds: Any) -> dict[str, Any]:
    """The job with other roles."""
    return job(job={**JOB["job"], "roles": kinds})


def rule(policy: str, seconds: int = 0, **condition: str) -> dict[str, Any]:
    """A deletion rule, by default for jobs that failed."""
    return {"policy": policy, "condition": {**(condition or {"jobStatus": "FAILED"}), "ttlSeconds": seconds}}


def rules(*given: dict[str, Any], **values: Any) -> dict[str, Any]:
    """The job with deletion rules."""
    return job(rayJob={"shutdownAfterJobFinishes": False, "deletionRules": list(given)}, **values)


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
    "AWS_ACCESS_KEY_ID": False,
    "GOOGLE_APPLICATION_CREDENTIALS": False,  # the path of a file
    "KEYBOARD": False,
    "MONKEY": False,
    "TOKENS": False,
}


def test_a_secret_is_what_the_commands_take_for_one(helm: Helm) -> None:
    words = [f'{{{{ include "tfcluster.isSecret" "{name}" | quote }}}}' for name in NAMES]
    text = f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: secret}}\ndata: [{', '.join(words)}]\n"
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
    "a folder of the claim": job(job={**JOB["job"], "storage": "/storage/vision"}),
}


@pytest.mark.parametrize("case", ALLOWED)
def test_it_is_not_refused(helm: Helm, case: str) -> None:
    assert helm.render(ALLOWED[case])
