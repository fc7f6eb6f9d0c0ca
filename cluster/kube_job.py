"""Spec and settings → the RayJob and what belongs to it; what KubeRay would refuse later is refused here. Pure."""

from __future__ import annotations

import base64
import json
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from cluster import __version__
from cluster.errors import PreflightError, SpecError
from cluster.kube_groups import Group, groups_of, resource_problems
from cluster.kube_pods import (
    JOB_FOLDER,
    clashes,
    head_template,
    lasting_folders,
    selector,
    submitter_template,
    worker_template,
)
from cluster.kube_settings import DeletionRule, RayJob, Settings, written_secrets
from cluster.locations import lies_within
from cluster.spec import JobSpec

Document = dict[str, Any]

#: KubeRay adds to a RayJob's name.
LONGEST_NAME = 47
#: What etcd takes of a ConfigMap, as base64, with room for its metadata.
LARGEST_CONFIG_MAP = (1 << 20) - (16 << 10)
#: Name of the packed folder in a ConfigMap, and of the spec where no folder travels.
ARCHIVE, SPEC_FILE = "code.zip", "job.json"
#: Says whose submission an object comes from, also when an answer of the API server was lost.
SUBMISSION = "tfcluster.io/submission"
#: Ray before this version knows no tokens.
_TOKENS_SINCE = (2, 52)


@dataclass(frozen=True)
class Code:
    """How the job's folder reaches the head.

    Attributes:
        command: of the launcher, in the folder.
        archive: the packed folder, if it travels in a ConfigMap.
        uri: where the packed folder is, if it was uploaded.
    """

    command: tuple[str, ...]
    archive: bytes | None = None
    uri: str = ""

    @property
    def words(self) -> tuple[str, ...]:
        """The command, and where it finds the packed folder."""
        where = f"{JOB_FOLDER}/{ARCHIVE}" if self.archive is not None else self.uri
        return (*self.command, "--archive", where) if where else self.command

    @property
    def entrypoint(self) -> str:
        """What Ray runs: text that any number of shells pass on as it is.

        KubeRay puts it into a command for bash, `ray job submit` joins the words, of which older Ray quotes only some,
        and the head has sh run that. So a command with anything that a shell changes goes as base64.
        """
        command = shlex.join(self.words)
        if command == " ".join(self.words):
            return command
        script = base64.b64encode(f"exec {command}\n".encode()).decode()
        return f"sh -c 'cd $(mktemp -d) && echo {script} | base64 -d > run && exec sh run'"


def check_name(name: str) -> None:
    """Raise `SpecError` unless KubeRay takes a RayJob of that name."""
    if not re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", name):
        raise SpecError("the name is no DNS-1035 label", name, "begin with a letter, and use only a-z, 0-9 and -")
    if len(name) > LONGEST_NAME:
        seen = f"{name}, {len(name)} characters"
        raise SpecError("the name is too long for KubeRay, which adds to it", seen, f"at most {LONGEST_NAME}")


def name_of(spec: JobSpec, unique: str) -> str:
    """A name for the RayJob: the job's own, as Kubernetes can have it, and something `unique`."""
    plain = re.sub("[^a-z0-9]+", "-", spec.name.lower()).strip("-")
    plain = plain if re.match("[a-z]", plain) else f"job-{plain}".strip("-")
    return f"{plain[: LONGEST_NAME - len(unique) - 1].rstrip('-')}-{unique}"


def job_storage(spec: JobSpec, settings: Settings) -> str:
    """Where the job's runs go: its own place where that means the same in every Pod, else the platform's.

    Raises:
        SpecError: the settings name two places.
        PreflightError: there is none, or it would end with the Pods.
    """
    storage = settings.storage
    if storage.uri and storage.claim.name:
        raise SpecError(
            "runs have two places", f"storage.uri and storage.claim {storage.claim.name}", "delete one of them"
        )
    if storage.uri and "://" not in storage.uri:
        raise SpecError("storage.uri is no URI", storage.uri, "write s3://, gs:// or hdfs://, or name storage.claim")
    if storage.claim.create and not storage.claim.name:
        raise SpecError(
            "a submitted job makes no claim", "storage.claim.create", "name one that is there: storage.claim.name"
        )
    own = spec.storage
    place = own if "://" in own or own.startswith("/") else storage.place
    if not place:
        todo = "set storage.uri or storage.claim.name in the settings, or a URI as the job's storage"
        raise PreflightError("the job's runs would end with its Pods", f"storage: {own}", todo)
    mounted = lasting_folders(settings)
    if "://" not in place and not lies_within(place, mounted):
        seen = f"storage: {place}; mounted: {', '.join(mounted) or 'nothing'}"
        raise PreflightError(
            "the job writes where no lasting volume is mounted", seen, "name storage.claim, or use a URI"
        )
    return place


def ray_job(name: str, submission: str, spec: JobSpec, settings: Settings, code: Code) -> Document:
    """The RayJob.

    Args:
        name: its name.
        submission: unique to this submission.
        spec: the job.
        settings: of its Pods.
        code: how its code comes.

    Raises:
        SpecError, PreflightError: KubeRay would refuse it, or it could not run.
    """
    check(name, spec, settings)
    rules = settings.rayJob
    made: Document = {
        "entrypoint": code.entrypoint,
        "submissionMode": rules.submissionMode,
        **_ending(rules),
        **({"suspend": True} if rules.suspend else {}),  # a field that Kueue takes over, and so is left to it
        "backoffLimit": rules.backoffLimit,
        "submitterConfig": {"backoffLimit": rules.submitter.backoffLimit},
        "submitterPodTemplate": submitter_template(name, settings),
        "rayClusterSpec": _ray_cluster(name, spec, settings, config_map_name(name) if needs_config_map(code) else None),
    }
    deadlines = {key: getattr(rules, key) for key in ("activeDeadlineSeconds", "preRunningDeadlineSeconds")}
    made |= {key: value for key, value in deadlines.items() if value is not None}
    if settings.runtimeEnv:
        made["runtimeEnvYAML"] = json.dumps(settings.runtimeEnv)
    metadata = _metadata(name, name, "job", settings, submission)
    metadata["labels"] |= queue_labels(name, settings)
    return {"apiVersion": "ray.io/v1", "kind": "RayJob", "metadata": metadata, "spec": made}


def _ending(rules: RayJob) -> Document:
    """What is removed when the job has ended."""
    if rules.deletionRules:
        found = [rule.model_dump(exclude_none=True, exclude_unset=True) for rule in rules.deletionRules]
        return {"deletionStrategy": {"deletionRules": found}}
    if not rules.shutdownAfterJobFinishes:
        return {}
    seconds = 300 if rules.ttlSecondsAfterFinished is None else rules.ttlSecondsAfterFinished
    return {"shutdownAfterJobFinishes": True, "ttlSecondsAfterFinished": seconds}


def _ray_cluster(name: str, spec: JobSpec, settings: Settings, config_map: str | None) -> Document:
    made: Document = {"rayVersion": ray_version(settings)}
    if settings.auth.enabled:
        secret = {"secretName": settings.auth.secretName} if settings.auth.secretName else {}
        made["authOptions"] = {"mode": "token", **secret}
    made["headGroupSpec"] = {
        # Tasks belong to the workers; the launcher takes no CPU of Ray's.
        "rayStartParams": {"num-cpus": "0", "num-gpus": "0", **settings.head.rayStartParams},
        "template": head_template(name, spec, settings, config_map),
    }
    made["workerGroupSpecs"] = [_worker_group(name, spec, settings, group) for group in groups_of(spec, settings)]
    return made


def _worker_group(name: str, spec: JobSpec, settings: Settings, group: Group) -> Document:
    return {
        "groupName": group.name,
        "minReplicas": group.replicas,  # nothing scales the cluster of one job, and YuniKorn's gangs are so large
        "replicas": group.replicas,
        "maxReplicas": group.most,
        "rayStartParams": dict(group.pod.rayStartParams),
        "template": worker_template(name, spec, settings, group.pod),
    }


def ray_version(settings: Settings) -> str:
    """Version of Ray in the image: what the settings say, or else that of this machine."""
    if settings.rayVersion:
        return settings.rayVersion
    try:
        return version("ray")
    except PackageNotFoundError:  # pragma: no cover - ray-tfcluster asks for it
        return "2.60.0"


def config_map_name(name: str) -> str:
    """Name of the ConfigMap of the job `name`."""
    return f"{name}-job"


def needs_config_map(code: Code) -> bool:
    """Whether something is mounted at `JOB_FOLDER`."""
    return any(word.startswith(f"{JOB_FOLDER}/") for word in code.words)


def config_map(name: str, submission: str, spec: JobSpec, settings: Settings, code: Code) -> Document:
    """The ConfigMap with the packed folder; without one, with the spec."""
    metadata = _metadata(config_map_name(name), name, "job", settings, submission)
    made: Document = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "immutable": True}
    if code.archive is not None:
        made["binaryData"] = {ARCHIVE: base64.b64encode(code.archive).decode()}
    else:
        made["data"] = {SPEC_FILE: json.dumps(spec.to_document(), indent=2)}
    return made


def service_account(name: str, submission: str, settings: Settings) -> Document | None:
    """The service account that the settings ask to be made, such as one of a cloud's workload identity."""
    account = settings.serviceAccount
    if not account.is_made:
        return None
    metadata = _metadata(account.name_for(name), name, "serviceaccount", settings, submission)
    metadata["annotations"] |= account.annotations
    kind = {"apiVersion": "v1", "kind": "ServiceAccount"}
    return {**kind, "metadata": metadata, "automountServiceAccountToken": False}


def is_of_the_job(document: Mapping[str, Any], job: str) -> bool:
    """Whether the object was made for a RayJob of that name, perhaps for an earlier one that is gone."""
    owners = document["metadata"].get("ownerReferences") or []
    return any((owner.get("kind"), owner.get("name")) == ("RayJob", job) for owner in owners)


def owned(document: Document, job: Mapping[str, Any]) -> Document:
    """`document`, to go when the RayJob `job` goes."""
    owner = {
        "apiVersion": job["apiVersion"],
        "kind": job["kind"],
        "name": job["metadata"]["name"],
        "uid": job["metadata"]["uid"],
    }
    return {**document, "metadata": {**document["metadata"], "ownerReferences": [owner]}}


def _metadata(name: str, job: str, component: str, settings: Settings, submission: str) -> Document:
    labels = {
        **settings.extraLabels,
        "app.kubernetes.io/name": "tfcluster",
        **selector(job),
        "app.kubernetes.io/component": component,
        "app.kubernetes.io/version": __version__,
        "app.kubernetes.io/managed-by": "tfcluster",
    }
    return {"name": name, "labels": labels, "annotations": {**settings.extraAnnotations, SUBMISSION: submission}}


def queue_labels(name: str, settings: Settings) -> dict[str, str]:
    """Labels by which a queue finds the RayJob."""
    queue = settings.queue
    priority = settings.head.priorityClassName
    if queue.scheduler == "kueue":
        return {"kueue.x-k8s.io/queue-name": queue.name}
    if queue.scheduler == "volcano":
        return {"volcano.sh/queue-name": queue.name} | ({"ray.io/priority-class-name": priority} if priority else {})
    if queue.scheduler == "yunikorn":
        # To YuniKorn Pods with the same id are one application, in whichever namespace they are.
        application = f"{name}-{settings.namespace}"[:63].rstrip("-")
        own = {"yunikorn.apache.org/app-id": application, "yunikorn.apache.org/queue": queue.name}
        return {**own, "ray.io/gang-scheduling-enabled": "true"}
    return {}


def check(name: str, spec: JobSpec, settings: Settings) -> None:
    """What the operator would refuse when the RayJob is there already, and what would show a secret.

    Raises:
        SpecError: with every problem.
    """
    check_name(name)
    problems = [
        *_ray_job_problems(settings),
        *_pod_problems(settings),
        *clashes(settings),
        *resource_problems(settings),
        *_secrets(spec, settings),
    ]
    if problems:
        todo = problems[0] if len(problems) == 1 else "".join(f"\n  - {problem}" for problem in problems)
        raise SpecError("the settings for Kubernetes do not fit together", "", todo)


def _ray_job_problems(settings: Settings) -> Iterator[str]:
    rules, queue = settings.rayJob, settings.queue
    if rules.deletionRules and rules.shutdownAfterJobFinishes:
        yield "deletion rules and rayJob.shutdownAfterJobFinishes exclude each other: set the latter to false"
    if rules.suspend and not rules.shutdownAfterJobFinishes:
        yield "only a job that is shut down when it ends can be suspended: set rayJob.shutdownAfterJobFinishes"
    if rules.ttlSecondsAfterFinished and not rules.shutdownAfterJobFinishes:
        yield "rayJob.ttlSecondsAfterFinished needs rayJob.shutdownAfterJobFinishes; deletion rules have ttlSeconds"
    if rules.clusterName:
        todo = "forward the port of its head, and submit to --address"
        yield f"a submitted RayJob brings a cluster of its own (seen: rayJob.clusterName {rules.clusterName}): {todo}"
    yield from _rule_problems(rules.deletionRules)
    if bool(queue.scheduler) != bool(queue.name):
        yield f"a queue needs queue.scheduler and queue.name (seen: {queue.scheduler or queue.name})"
    if queue.scheduler == "kueue" and not rules.shutdownAfterJobFinishes:
        yield "Kueue would never get the job's quota back: set rayJob.shutdownAfterJobFinishes"


def _rule_problems(rules: list[DeletionRule]) -> Iterator[str]:
    seconds: dict[tuple[str, str], int] = {}
    for number, rule in enumerate(rules):
        where, condition = f"rayJob.deletionRules[{number}]", rule.condition
        if (condition.jobStatus is None) == (condition.jobDeploymentStatus is None):
            yield f"{where} has one condition: either jobStatus or jobDeploymentStatus"
            continue
        key = (rule.policy, str(condition.jobStatus or condition.jobDeploymentStatus))
        if key in seconds:
            yield f"{where} says the same as another one: {rule.policy} on {key[1]}"
        seconds[key] = condition.ttlSeconds
    for status in ("SUCCEEDED", "FAILED", "Failed"):
        order = [seconds[p, status] for p in ("DeleteWorkers", "DeleteCluster", "DeleteSelf") if (p, status) in seconds]
        if order != sorted(order):
            yield f"deletion rules on {status}: workers go before their cluster, and that before the job (ttlSeconds)"


def _pod_problems(settings: Settings) -> Iterator[str]:
    found = tuple(int(part) for part in re.findall(r"\d+", ray_version(settings))[:2])
    if settings.auth.enabled and found < _TOKENS_SINCE:
        yield f"Ray {ray_version(settings)} knows no tokens: use Ray 2.52 or newer, or auth.enabled: false"
    pods = {
        "head": settings.head,
        **{f"workerGroups.{n}": g for n, g in settings.workerGroups.items() if g is not None},
    }
    for place, pod in pods.items():
        if "labels" in pod.rayStartParams:
            yield f"{place}.rayStartParams.labels: KubeRay refuses labels among Ray's arguments; use {place}.labels"
        reserved = {"RAY_REDIS_ADDRESS", "REDIS_PASSWORD", "REDIS_USERNAME", "RAY_enable_autoscaler_v2"}
        names = {str(variable.get("name")) for variable in [*settings.extraEnv, *pod.env]}
        yield from (f"{name} in {place}.env or extraEnv: KubeRay sets it itself" for name in sorted(names & reserved))
    for volume in settings.extraVolumes:
        if "hostPath" in volume:
            name = volume.get("name")
            yield f"extraVolumes {name}: hostPath shows a Pod files of its node; use a claim or a CSI volume"


def _secrets(spec: JobSpec, settings: Settings) -> list[str]:
    def plain(variables: list[Document]) -> Document:
        return {str(variable.get("name")): variable.get("value") for variable in variables}

    environments: dict[str, Mapping[str, Any]] = {
        "extraEnv": plain(settings.extraEnv),
        "head.env": plain(settings.head.env),
        "runtimeEnv.env_vars": settings.runtimeEnv.get("env_vars") or {},
        "runtime_env.env_vars of the job": spec.runtime_env.get("env_vars") or {},
    }
    environments |= {f"workerGroups.{n}.env": plain(g.env) for n, g in settings.workerGroups.items() if g is not None}
    environments |= {f"roles.{role}.env of the job": spec.role(role).env for role in spec.roles}
    texts = dict(_texts("", settings.model_dump(exclude_defaults=True)))
    texts |= {f"{place} of the job": text for place, text in _texts("", spec.to_document())}
    return written_secrets(environments, texts)


def _texts(place: str, value: Any) -> Iterator[tuple[str, str]]:
    """Every text in `value`, at whatever depth, with its place, such as `data.train.files[0]`."""
    if isinstance(value, Mapping):
        for key, part in value.items():
            yield from _texts(f"{place}.{key}" if place else str(key), part)
    elif isinstance(value, list | tuple):
        for number, part in enumerate(value):
            yield from _texts(f"{place}[{number}]", part)
    elif isinstance(value, str):
        yield place, value
