"""Values that the chart is rendered with: each way to install it, and each of its parts once."""

from __future__ import annotations

from typing import Any

JOB: dict[str, Any] = {
    "mode": "job",
    "job": {
        "entrypoint": "train.py:train",
        "args": {"epochs": 3, "rate": 1e-07, "rows": 12_000_000},
        "strategy": "multi_worker_mirrored",
        "roles": {"worker": {"replicas": 2, "cpus": 2}},
        "storage": "./runs",
    },
    "files": {"train.py": "def train(ctx, epochs, rate, rows):\n    pass\n", "package/part.py": "NAME = 'part'\n"},
    "storage": {"claim": {"create": True}},
}
GPU_GROUP: dict[str, Any] = {
    "replicas": 2,
    "gpus": 4,
    "resources": {
        "requests": {"cpu": 8, "memory": "32Gi", "ephemeral-storage": "100Gi"},
        "limits": {"cpu": 16, "memory": "128Gi"},
    },
    "sharedMemory": "32Gi",
    "nodeSelector": {"nvidia.com/gpu.product": "NVIDIA-H100"},
    "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
    "runtimeClassName": "nvidia",
    "priorityClassName": "training",
    "topologySpreadConstraints": [
        {
            "maxSkew": 1,
            "topologyKey": "topology.kubernetes.io/zone",
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": {"app.kubernetes.io/component": "worker"}},
        }
    ],
    "affinity": {
        "podAntiAffinity": {
            "preferredDuringSchedulingIgnoredDuringExecution": [
                {"weight": 1, "podAffinityTerm": {"topologyKey": "kubernetes.io/hostname", "labelSelector": {}}}
            ]
        }
    },
}
S3: dict[str, Any] = {"uri": "s3://bucket/runs", "secretName": "s3-keys"}
#: Where the small Pods run.
PLACED: dict[str, Any] = {
    "nodeSelector": {"pool": "small"},
    "tolerations": [{"key": "small", "operator": "Exists"}],
    "affinity": {"podAntiAffinity": {}},
    "priorityClassName": "low",
    "runtimeClassName": "gvisor",
    "topologySpreadConstraints": GPU_GROUP["topologySpreadConstraints"],
}
EGRESS: list[Any] = [{"to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}], "ports": [{"port": 443}]}]
#: The job above as a text, with numbers that Helm would make others of.
TEXT = """\
# as it ran on a laptop
entrypoint: train.py:train
args: {epochs: 3, rate: 1.0e-07, rows: 12000000}
timeouts: {stop: 20s}
strategy: multi_worker_mirrored
storage: ./runs   # here
roles:
  worker: {replicas: 2, cpus: 2}
"""
WATCHED: dict[str, Any] = {
    "tensorboard": {"enabled": True},
    "monitoring": {"enabled": True, "labels": {"release": "prometheus"}},
    "dashboard": {"enabled": True, "annotations": {"grafana_folder": "Ray"}},
    "podDisruptionBudget": {"enabled": True},
}


def job(**values: Any) -> dict[str, Any]:
    """The job above, with other values."""
    return {**JOB, **values}


CASES: dict[str, dict[str, Any]] = {
    "cluster": {},
    "cluster-everything": {
        **WATCHED,
        "storage": S3,
        "workerGroups": {"gpu": {**GPU_GROUP, "minReplicas": 0, "replicas": 0, "maxReplicas": 8}},
        "autoscaling": {"enabled": True},
        "gcsFaultTolerance": {
            "redisAddress": "redis://redis:6379",
            "passwordSecret": {"name": "redis"},
            "usernameSecret": {"name": "redis"},
        },
        "networkPolicy": {"namespaces": ["notebooks"]},
        "image": {"repository": "registry.example.com/ray-tfcluster", "digest": f"sha256:{'0' * 64}"},
        "imagePullSecrets": ["registry"],
        "serviceAccount": {"annotations": {"eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/runs"}},
    },
    "cluster-autoscaler-v1": {
        "autoscaling": {"enabled": True, "version": "v1"},
        "workerGroups": {"cpu": {"maxReplicas": 5}},
        "head": {"restartPolicy": "Always"},
    },
    "cluster-open": {
        "auth": {"enabled": False},
        "networkPolicy": {"enabled": False},
        "serviceAccount": {"create": False},
    },
    "cluster-service-monitor": {"monitoring": {"enabled": True, "kind": "ServiceMonitor"}},
    "cluster-existing-claim": {"storage": {"claim": {"name": "runs"}}, "tensorboard": {"enabled": True}},
    "cluster-volcano": {
        "queue": {"scheduler": "volcano", "name": "training"},
        "head": {"priorityClassName": "training"},
    },
    "cluster-probes": {
        "head": {
            "livenessProbe": {"tcpSocket": {"port": 6379}, "periodSeconds": 30},
            "labels": {"team": "vision"},
            "annotations": {"note": "head"},
            "env": [{"name": "RAY_BACKEND_LOG_LEVEL", "value": "debug"}],
        }
    },
    "cluster-placed": {
        "rayJob": {"submitter": PLACED},
        "tensorboard": {"enabled": True, **PLACED},
        "storage": S3,
        "extraAnnotations": {"sidecar.istio.io/inject": "false"},
    },
    "cluster-suspended": {"suspend": True, "rayVersion": "2.60.0rc1"},
    "cluster-egress": {"networkPolicy": {"egress": EGRESS}, "tensorboard": {"enabled": True}, "storage": S3},
    "cluster-said-twice": {
        "extraEnv": [
            {"name": "HOME", "value": "/data/home"},
            {"name": "PYTHONPATH", "value": "/all"},
            {"name": "RAY_JOB_STOP_WAIT_TIME_S", "value": "1"},
            {"name": "PYTHONPATH", "value": "/again"},
        ],
        "head": {"env": [{"name": "PYTHONPATH", "value": "/head"}]},
        "workerGroups": {"cpu": {"env": [{"name": "PYTHONPATH", "value": "/cpu"}]}},
        "extraVolumes": [
            {"name": "tmp", "ephemeral": {"volumeClaimTemplate": {"spec": {"accessModes": ["ReadWriteOnce"]}}}},
            {"name": "data", "persistentVolumeClaim": {"claimName": "data"}},
        ],
        "extraVolumeMounts": [
            {"name": "tmp", "mountPath": "/tmp"},
            {"name": "data", "mountPath": "/home/tfcluster/", "subPath": "home"},
            {"name": "data", "mountPath": "/data"},
        ],
        "extraLabels": {
            "release": "other",
            "app.kubernetes.io/part-of": "platform",
            "app.kubernetes.io/component": "training",
            "app.kubernetes.io/instance": "all",
        },
        "monitoring": {"enabled": True, "kind": "ServiceMonitor", "labels": {"release": "prometheus"}},
        "dashboard": {"enabled": True, "labels": {"release": "prometheus"}},
        "autoscaling": {"enabled": True},
    },
    "job": JOB,
    "job-text": job(job=TEXT),
    "job-text-on-a-cluster": job(job=TEXT, files={}, storage=S3, rayJob={"clusterName": "team"}),
    "job-placed": job(rayJob={"submitter": PLACED}),
    "job-gpu": job(
        job={**JOB["job"], "roles": {"worker": {"replicas": 2, "gpus": 4, "cpus": 8}}},
        workerGroups={"cpu": None, "gpu": GPU_GROUP},
        storage=S3,
        tensorboard={"enabled": True},
    ),
    "job-working-dir": job(files={}, runtimeEnv={"working_dir": "s3://bucket/code.zip"}),
    "job-on-a-cluster": job(files={}, storage=S3, rayJob={"clusterName": "team"}, tensorboard={"enabled": True}),
    "job-on-a-cluster-working-dir": job(
        files={},
        storage=S3,
        rayJob={"clusterName": "team", "submissionMode": "HTTPMode"},
        runtimeEnv={"working_dir": "s3://bucket/code.zip"},
    ),
    "job-suspended": job(rayJob={"suspend": True, "activeDeadlineSeconds": 3600, "preRunningDeadlineSeconds": 600}),
    "job-kueue": job(queue={"scheduler": "kueue", "name": "team-queue"}),
    "cluster-kueue-elastic": {
        "queue": {"scheduler": "kueue", "name": "team-queue"},
        "autoscaling": {"enabled": True},
        "extraAnnotations": {"kueue.x-k8s.io/elastic-job": "true"},
    },
    "job-yunikorn": job(queue={"scheduler": "yunikorn", "name": "root.team"}),
    "job-sidecar": job(rayJob={"submissionMode": "SidecarMode", "backoffLimit": 2}),
    "job-interactive": job(rayJob={"submissionMode": "InteractiveMode"}),
    "job-deletion-rules": job(
        rayJob={
            "shutdownAfterJobFinishes": False,
            "deletionRules": [
                {"policy": "DeleteWorkers", "condition": {"jobStatus": "FAILED"}},
                {"policy": "DeleteCluster", "condition": {"jobStatus": "FAILED", "ttlSeconds": 3600}},
                {"policy": "DeleteCluster", "condition": {"jobStatus": "SUCCEEDED"}},
                {"policy": "DeleteSelf", "condition": {"jobDeploymentStatus": "Failed", "ttlSeconds": 86400}},
            ],
        }
    ),
    "job-kept": job(rayJob={"shutdownAfterJobFinishes": False}),
    "job-parameter-server": job(
        job={
            "script": ["train.py", "--epochs", 3],
            "strategy": "parameter_server",
            "roles": {"worker": 2, "ps": 1},
            "storage": "/scratch/runs",
        },
        workerGroups={"cpu": {"replicas": 4}},
        storage={},
        extraVolumes=[{"name": "scratch", "persistentVolumeClaim": {"claimName": "scratch"}}],
        extraVolumeMounts=[{"name": "scratch", "mountPath": "/scratch"}],
    ),
    "job-egress": job(networkPolicy={"egress": EGRESS}),
    "job-on-a-cluster-egress": job(
        files={},
        storage=S3,
        rayJob={"clusterName": "team"},
        networkPolicy={"egress": EGRESS},
        tensorboard={"enabled": True},
    ),
    "cron": {**job(), "mode": "cron", "cron": {"schedule": "0 3 * * *", "timeZone": "Etc/UTC"}},
    "extras": {
        "extraEnv": [
            {"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": {"name": "hub", "key": "token"}}},
            {"name": "NCCL_DEBUG", "value": "INFO"},
        ],
        "extraEnvFrom": [{"configMapRef": {"name": "proxy"}}],
        "extraVolumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data", "readOnly": True}}],
        "extraVolumeMounts": [{"name": "data", "mountPath": "/data", "readOnly": True}],
        "extraInitContainers": [
            {
                "name": "warm",
                "image": "registry.example.com/warm:1",
                "resources": {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1", "memory": "1Gi"}},
                "securityContext": {
                    "allowPrivilegeEscalation": False,
                    "readOnlyRootFilesystem": True,
                    "capabilities": {"drop": ["ALL"]},
                },
            }
        ],
        "extraLabels": {"team": "vision"},
        "extraAnnotations": {"example.com/owner": "vision@example.com"},
        "extraObjects": [
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": "{{ .Release.Name }}-proxy"},
                "data": {"HTTPS_PROXY": "http://proxy:3128"},
            },
            'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: {{ include "tfcluster.name" . }}-more}\n',
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": "alerts"},
                "data": {"summary": "{{ `{{ $labels.pod }}` }} is down"},
            },
        ],
    },
}
#: Those whose manifests are kept as files.
GOLDEN = ("cluster", "cluster-everything", "job", "job-gpu", "cron")
