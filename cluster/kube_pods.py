"""Templates of a job's Pods: the head, the workers, and the submitter, as the Helm chart makes them. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from cluster import __version__
from cluster.kube_settings import Placement, Pod, Resources, Settings
from cluster.locations import SHARED_VARIABLE
from cluster.spec import JobSpec

Document = dict[str, Any]

#: Where the head sees what travels in the ConfigMap.
JOB_FOLDER = "/job"
#: Seconds beside `timeouts.stop`: at SIGTERM Ray marks its node as draining, so that nothing new is placed there, and
#: goes on for RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S, 30 by default, before it ends what runs.
MARGIN = 30
#: Where Ray's shared memory is mounted.
_MEMORY = "/dev/shm"
#: Volumes that go with the Pod, and those that can only be read.
_OF_THE_POD = {"emptyDir", "ephemeral"}
_FLEETING = {*_OF_THE_POD, "configMap", "secret", "projected", "downwardAPI", "image", "gitRepo"}
#: What a CSI driver makes for a Pod goes with it, but for these, which are shares.
_SHARES = re.compile(r"gcsfuse\.csi\.storage\.gke\.io|(blob|file)\.csi\.azure\.com|(nfs|smb)\.csi\.k8s\.io")


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
    stop = [{"name": "RAY_JOB_STOP_WAIT_TIME_S", "value": str(_patience(spec))}]
    template = _ray_template("head", name, spec, settings, settings.head, stop)
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
        "volumeMounts": [{"name": "shared-mem", "mountPath": _MEMORY}, *_mounts(settings)],
    }
    container |= {key: getattr(pod, key) for key in ("livenessProbe", "readinessProbe") if getattr(pod, key)}
    size = pod.sharedMemory or container["resources"].get("limits", {}).get("memory")
    memory = {"name": "shared-mem", "emptyDir": {"medium": "Memory", **({"sizeLimit": size} if size else {})}}
    grace = pod.terminationGracePeriodSeconds
    made: Document = {
        **_pod_settings(name, settings),
        **_placement(pod),
        **({"restartPolicy": pod.restartPolicy} if pod.restartPolicy else {}),
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
        "resources": _amounts(settings.rayJob.submitter.resources),
        "volumeMounts": _plain_mounts(settings),
    }
    return {
        "metadata": _metadata("submitter", name, settings, {}, settings.extraAnnotations),
        "spec": {
            **_pod_settings(name, settings),
            **_placement(settings.rayJob.submitter),
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


def _placement(pod: Placement) -> Document:
    return {key: getattr(pod, key) for key in Placement.model_fields if getattr(pod, key)}


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
    made: Document = {"env": _each_once([*_user(settings), *settings.extraEnv, *more])}
    return made | ({"envFrom": found} if found else {})


def _each_once(variables: list[Document]) -> list[Document]:
    """Each variable where the first of its name stands, as the last one says it, which is the most specific."""
    return list({variable["name"]: variable for variable in variables}.values())


def _ports(component: str) -> list[Document]:
    head = {"gcs-server": 6379, "dashboard": 8265, "client": 10001, "as-metrics": 44217, "dash-metrics": 44227}
    ports = {**(head if component == "head" else {}), "metrics": 8080}
    return [{"name": port, "containerPort": number} for port, number in ports.items()]


def _resources(pod: Pod) -> Document:
    """Resources of a Ray container, with its GPUs, which Kubernetes counts as limits."""
    given = pod.resources or Resources()
    gpus = {pod.gpuResource: pod.gpus} if pod.gpus else {}
    return _amounts(Resources(requests={**given.requests, **gpus}, limits={**given.limits, **gpus}))


def _amounts(resources: Resources) -> Document:
    return {kind: amounts for kind, amounts in resources.model_dump().items() if amounts}


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
    """The same of a Pod that sees no run, the submitter. What the settings mount at our folders stands for ours."""
    given = {_path(mount) for mount in settings.extraVolumeMounts}
    own = [mount for mount in _own_mounts(settings) if mount["mountPath"] not in given]
    return [*own, *settings.extraVolumeMounts]


def _own_mounts(settings: Settings) -> list[Document]:
    return [{"name": "tmp", "mountPath": "/tmp"}, {"name": "home", "mountPath": settings.home}]


def _plain_volumes(settings: Settings) -> list[Document]:
    """A volume that the settings call as we do ours stands for it."""
    given = {volume.get("name") for volume in settings.extraVolumes}
    own: list[Document] = [{"name": name, "emptyDir": {}} for name in ("tmp", "home") if name not in given]
    return [*own, *settings.extraVolumes]


def _path(mount: Mapping[str, Any]) -> str:
    return str(mount.get("mountPath") or "").rstrip("/")


def shared_folders(settings: Settings) -> list[str]:
    """Folders of the storage and of extra volumes, which all Pods see alike; one of a Pod's own is none."""
    own = {volume.get("name") for volume in settings.extraVolumes if _OF_THE_POD & set(volume)}
    extra = [mount for mount in settings.extraVolumeMounts if mount.get("name") not in own]
    return [*_claim_folder(settings), *(str(mount.get("mountPath")) for mount in extra)]


def lasting_folders(settings: Settings) -> list[str]:
    """Those in which what is written outlives the Pods."""
    lasting = {volume.get("name") for volume in settings.extraVolumes if _is_lasting(volume)}
    extra = [m for m in settings.extraVolumeMounts if m.get("name") in lasting and not m.get("readOnly")]
    return [*_claim_folder(settings), *(str(mount.get("mountPath")) for mount in extra)]


def _claim_folder(settings: Settings) -> list[str]:
    return [settings.storage.mountPath] if settings.storage.claim.name else []


def _is_lasting(volume: Mapping[str, Any]) -> bool:
    sources = {kind: source for kind, source in volume.items() if isinstance(source, Mapping)}
    if _FLEETING & set(volume) or any(source.get("readOnly") for source in sources.values()):
        return False
    return "csi" not in sources or bool(_SHARES.fullmatch(str(sources["csi"].get("driver"))))


def clashes(settings: Settings) -> Iterator[str]:
    """Variables, volumes, mounts and containers that are incomplete, or in each other's way, so that no Pod is made."""
    environments = {"extraEnv": settings.extraEnv, "head.env": settings.head.env}
    environments |= {f"workerGroups.{n}.env": group.env for n, group in settings.workerGroups.items() if group}
    for place, variables in environments.items():
        yield from _lacking(place, variables, "name")
    yield from _lacking("extraVolumes", settings.extraVolumes, "name")
    yield from _lacking("extraVolumeMounts", settings.extraVolumeMounts, "name")
    yield from _lacking("extraVolumeMounts", settings.extraVolumeMounts, "mountPath")
    claim = ["storage"] if settings.storage.claim.name else []
    yield from _names_twice("extraVolumes", settings.extraVolumes, ["shared-mem", "job", *claim])
    containers = [*settings.extraInitContainers, *settings.extraContainers]
    yield from _names_twice("extraContainers or extraInitContainers", containers, ["ray-head", "ray-worker"])
    yield from _places_twice(settings)
    yield from _unknown_volumes(settings)


def _lacking(place: str, items: list[Document], key: str) -> Iterator[str]:
    for number, item in enumerate(items):
        if not item.get(key):
            yield f"{place}[{number}] has no {key} (seen: {', '.join(map(str, item)) or 'nothing'}): give it one"


def _names_twice(place: str, items: list[Document], ours: list[str]) -> Iterator[str]:
    names = [str(item["name"]) for item in items if item.get("name")]
    for name in dict.fromkeys(names):
        if names.count(name) > 1 or name in ours:
            whose = "one of ours has that name" if name in ours else f"{names.count(name)} have that name"
            yield f"{place} {name}: {whose}; take another one"


def _places_twice(settings: Settings) -> Iterator[str]:
    ours = {_MEMORY: "Ray's shared memory is there; see sharedMemory", JOB_FOLDER: "the job's own files are there"}
    if settings.storage.claim.name:
        place = settings.storage.mountPath
        if place in {"/tmp", settings.home, *ours}:
            yield f"storage.mountPath {place}: every Pod has a folder of its own there; take another one"
        ours[place] = "the storage is there"
    paths = [_path(mount) for mount in settings.extraVolumeMounts]
    for path in dict.fromkeys(paths):
        if path in ours or paths.count(path) > 1:
            whose = ours.get(path) or f"{paths.count(path)} volumes are mounted there"
            yield f"extraVolumeMounts {path}: {whose}; take another folder"


def _unknown_volumes(settings: Settings) -> Iterator[str]:
    known = {"tmp", "home", *(volume.get("name") for volume in settings.extraVolumes)}
    for mount in settings.extraVolumeMounts:
        if mount.get("name") and mount["name"] not in known:
            place = f"extraVolumeMounts {_path(mount)}"
            yield f"{place}: there is no volume {mount['name']} that all Pods have; add one to extraVolumes"
