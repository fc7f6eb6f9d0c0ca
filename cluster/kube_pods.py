"""Templates of a job's Pods: the head, the workers, and the submitter, as the Helm chart makes them. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from cluster import __version__
from cluster.kube_groups import HEAD
from cluster.kube_settings import Pod, Settings
from cluster.locations import SHARED_VARIABLE
from cluster.spec import JobSpec

Document = dict[str, Any]

#: Where the head sees what travels in the ConfigMap.
JOB_FOLDER = "/job"
#: Seconds beside `timeouts.stop`: at SIGTERM Ray marks its node as draining, so that nothing new is placed there, and
#: goes on for RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S, 30 by default, before it ends what runs.
MARGIN = 30
_PLACEMENT = (
    "nodeSelector", "tolerations", "affinity", "topologySpreadConstraints", "priorityClassName", "runtimeClassName",
    "restartPolicy",
)  # fmt: skip


def image_name(settings: Settings) -> str:
    """`repository:tag`, or `repository@digest`."""
    image = settings.image
    return f"{image.repository}@{image.digest}" if image.digest else f"{image.repository}:{image.tag or __version__}"


def selector(name: str) -> dict[str, str]:
    """Labels that all objects of the job `name` have."""
    return {"app.kubernetes.io/instance": name, "app.kubernetes.io/part-of": "tfcluster"}


def head_template(name: str, spec: JobSpec, settings: Settings, config_map: str | None) -> Document:
    """The head's Pod, which runs the launcher.

    Args:
        name: of the job.
        spec: the job.
        settings: of the Pods.
        config_map: what is mounted at `JOB_FOLDER`, or None.
    """
    pod = settings.head if settings.head.resources else settings.head.model_copy(update={"resources": HEAD})
    stop = [{"name": "RAY_JOB_STOP_WAIT_TIME_S", "value": str(_patience(spec))}]
    template = _ray_template("head", name, spec, settings, pod, stop)
    if config_map:
        mounts = template["spec"]["containers"][0]["volumeMounts"]
        mounts.insert(1, {"name": "job", "mountPath": JOB_FOLDER, "readOnly": True})
        template["spec"]["volumes"].insert(1, {"name": "job", "configMap": {"name": config_map}})
    return template


def worker_template(name: str, spec: JobSpec, settings: Settings, pod: Pod) -> Document:
    """A worker's Pod."""
    return _ray_template("worker", name, spec, settings, pod, [])


def _patience(spec: JobSpec) -> int:
    """Seconds between SIGTERM and SIGKILL: the tasks' own, and some for what is around them."""
    return math.ceil(spec.timeouts.stop) + MARGIN


def _ray_template(
    component: str, name: str, spec: JobSpec, settings: Settings, pod: Pod, env: list[Document]
) -> Document:
    shared = shared_folders(settings)
    known = [{"name": SHARED_VARIABLE, "value": ":".join(shared)}] if shared else []
    container: Document = {
        "name": f"ray-{component}",
        **_container_settings(settings),
        **_environment(settings, [*env, *known, *pod.env]),
        "ports": _ports(component),
        "resources": _resources(pod),
        "volumeMounts": [{"name": "shared-mem", "mountPath": "/dev/shm"}, *_mounts(settings)],
    }
    container |= {key: getattr(pod, key) for key in ("livenessProbe", "readinessProbe") if getattr(pod, key)}
    limits = container["resources"]["limits"]
    memory = {"name": "shared-mem", "emptyDir": {"medium": "Memory", "sizeLimit": pod.sharedMemory or limits["memory"]}}
    grace = pod.terminationGracePeriodSeconds
    made: Document = {
        **_pod_settings(name, settings),
        **{key: getattr(pod, key) for key in _PLACEMENT if getattr(pod, key)},
        "terminationGracePeriodSeconds": _patience(spec) if grace is None else grace,
        "containers": [container, *settings.extraContainers],
        "volumes": [memory, *_volumes(settings)],
    }
    if settings.extraInitContainers:
        made["initContainers"] = settings.extraInitContainers
    annotations = {**settings.extraAnnotations, **pod.annotations}
    return {"metadata": _metadata(component, name, settings, pod.labels, annotations), "spec": made}


def submitter_template(name: str, settings: Settings) -> Document:
    """The Pod that hands the job to Ray, and whose log is the launcher's. KubeRay fills in its command."""
    container = {
        "name": "ray-job-submitter",
        **_container_settings(settings),
        **_variables(settings, [], []),
        "resources": settings.rayJob.submitter.resources.model_dump(),
        "volumeMounts": _plain_mounts(settings),
    }
    return {
        "metadata": _metadata("submitter", name, settings, {}, settings.extraAnnotations),
        "spec": {
            **_pod_settings(name, settings),
            "restartPolicy": "Never",
            "containers": [container],
            "volumes": _plain_volumes(settings),
        },
    }


def _metadata(
    component: str, name: str, settings: Settings, labels: Mapping[str, str], annotations: Mapping[str, str]
) -> Document:
    """Labels and annotations of a Pod. KubeRay selects the head by app.kubernetes.io/name: not ours to set."""
    own = {**selector(name), "app.kubernetes.io/component": component}
    made: Document = {"labels": {**settings.extraLabels, **labels, **own}}
    return made | ({"annotations": dict(annotations)} if annotations else {})


def _pod_settings(name: str, settings: Settings) -> Document:
    """Who a Pod runs as; no token of the API server is mounted."""
    made: Document = {
        "serviceAccountName": settings.serviceAccount.name_for(name),
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": settings.podSecurityContext,
    }
    if settings.imagePullSecrets:
        made["imagePullSecrets"] = [{"name": name} for name in settings.imagePullSecrets]
    return made


def _container_settings(settings: Settings) -> Document:
    return {
        "image": image_name(settings),
        "imagePullPolicy": settings.image.pullPolicy,
        "securityContext": settings.securityContext,
    }


def _user(settings: Settings) -> list[Document]:
    """A user whom no image need know."""
    return [{"name": "HOME", "value": settings.home}, {"name": "USER", "value": "tfcluster"}]


def _environment(settings: Settings, more: list[Document]) -> Document:
    """Variables of containers that run the user's code."""
    secret = settings.storage.secretName
    return _variables(settings, more, [{"secretRef": {"name": secret}}] if secret else [])


def _variables(settings: Settings, more: list[Document], sources: list[Document]) -> Document:
    """Variables of all containers, and more of one."""
    found = [*sources, *settings.extraEnvFrom]
    made: Document = {"env": [*_user(settings), *settings.extraEnv, *more]}
    return made | ({"envFrom": found} if found else {})


def _ports(component: str) -> list[Document]:
    head = {"gcs-server": 6379, "dashboard": 8265, "client": 10001, "as-metrics": 44217, "dash-metrics": 44227}
    ports = {**(head if component == "head" else {}), "metrics": 8080}
    return [{"name": port, "containerPort": number} for port, number in ports.items()]


def _resources(pod: Pod) -> Document:
    """Resources of a Ray container, with its GPUs, which Kubernetes counts as limits."""
    found: Document = pod.resources.model_dump() if pod.resources else {"requests": {}, "limits": {}}
    if pod.gpus:
        for amounts in found.values():
            amounts[pod.gpuResource] = pod.gpus
    return {kind: amounts for kind, amounts in found.items() if amounts}


def _mounts(settings: Settings) -> list[Document]:
    """What is mounted where runs are: the two folders that may be written, what the settings add, and the storage."""
    storage = settings.storage
    claim = [{"name": "storage", "mountPath": storage.mountPath}] if storage.claim.name else []
    return [*_plain_mounts(settings), *claim]


def _volumes(settings: Settings) -> list[Document]:
    claim = settings.storage.claim.name
    mounted = [{"name": "storage", "persistentVolumeClaim": {"claimName": claim}}] if claim else []
    return [*_plain_volumes(settings), *mounted]


def _plain_mounts(settings: Settings) -> list[Document]:
    """The same of a Pod that sees no run, the submitter."""
    own = [{"name": "tmp", "mountPath": "/tmp"}, {"name": "home", "mountPath": settings.home}]
    return [*own, *settings.extraVolumeMounts]


def _plain_volumes(settings: Settings) -> list[Document]:
    own: list[Document] = [{"name": "tmp", "emptyDir": {}}, {"name": "home", "emptyDir": {}}]
    return [*own, *settings.extraVolumes]


def shared_folders(settings: Settings) -> list[str]:
    """Folders of the storage and of extra volumes, which all Pods see alike; one of a Pod's own is none."""
    own = {volume.get("name") for volume in settings.extraVolumes if {"emptyDir", "ephemeral"} & set(volume)}
    extra = [mount for mount in settings.extraVolumeMounts if mount.get("name") not in own]
    claim = [settings.storage.mountPath] if settings.storage.claim.name else []
    return [*claim, *(str(mount.get("mountPath")) for mount in extra)]
