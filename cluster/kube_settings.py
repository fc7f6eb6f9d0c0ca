"""`Settings`: how a job's Pods are made, in the words of the Helm chart's values."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, model_validator

from cluster.errors import SpecError
from cluster.locations import passwords
from cluster.secrets import is_secret
from cluster.spec_parts import Part
from cluster.spec_wording import problems_in

#: A file of settings that is read where none is given.
PLATFORM_VARIABLE = "TFCLUSTER_PLATFORM"
#: Values of the chart that say nothing about one job's Pods, so that one file serves `helm install` and `submit`.
CHART_ONLY = (
    "global", "mode", "fullnameOverride", "cron", "autoscaling", "gcsFaultTolerance", "tensorboard", "monitoring",
    "dashboard", "networkPolicy", "podDisruptionBudget", "suspend", "upgradeStrategy", "extraObjects",
)  # fmt: skip

#: How Kubernetes has one variable stand in another, whose value may come from a Secret.
_REFERENCE = re.compile(r"\$\([-._A-Za-z][-._A-Za-z0-9]*\)")

Quantity = str | int | float
Document = dict[str, Any]

#: Maps of the chart's values that settings stand over, key by key, as Helm has it.
DEFAULTS: Document = {
    "head": {"resources": {"requests": {"cpu": "1", "memory": "4Gi"}, "limits": {"cpu": "2", "memory": "4Gi"}}},
    "rayJob": {
        "submitter": {
            "resources": {"requests": {"cpu": "200m", "memory": "256Mi"}, "limits": {"cpu": "1", "memory": "1Gi"}}
        }
    },
    "podSecurityContext": {
        "runAsNonRoot": True,
        "runAsUser": 1000,
        "runAsGroup": 1000,
        "fsGroup": 1000,
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    },
    "securityContext": {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    },
}
#: The chart's own group, for settings that give a group of its name resources; without, groups are made from roles.
GROUP_DEFAULTS: Document = {
    "cpu": {
        "replicas": 2,
        "resources": {"requests": {"cpu": "2", "memory": "4Gi"}, "limits": {"cpu": "2", "memory": "4Gi"}},
    }
}


#: Parts of the settings, which are no maps of Kubernetes.
_PARTS = ("head", "rayJob", "submitter", "resources")


class Values(Part):
    """A part of the settings; null is as good as nothing, as it is to Helm."""

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, given: Any) -> Any:
        return {key: value for key, value in given.items() if value is not None} if isinstance(given, dict) else given


class Image(Values):
    """An image with ray-tfcluster, Ray and TensorFlow."""

    repository: str = Field("ray-tfcluster", min_length=1)
    tag: str = Field("", description="empty is the version of ray-tfcluster")
    digest: str = Field("", pattern=r"^(sha256:[0-9a-f]{64})?$", description="wins over the tag")
    pullPolicy: Literal["IfNotPresent", "Always", "Never"] = "IfNotPresent"


def _said(value: Any) -> Any:
    """A document of Kubernetes without the keys that are null, at any depth."""
    if isinstance(value, Mapping):
        return {key: _said(part) for key, part in value.items() if part is not None}
    return [_said(part) for part in value] if isinstance(value, list) else value


Amounts = Annotated[dict[str, Quantity], BeforeValidator(_said)]


class Resources(Values):
    """Requests and limits of a container."""

    requests: Amounts = {}
    limits: Amounts = {}


class Placement(Values):
    """Where a Pod may run."""

    nodeSelector: dict[str, str] = {}
    tolerations: list[Document] = []
    affinity: Document = {}
    topologySpreadConstraints: list[Document] = []
    priorityClassName: str = ""
    runtimeClassName: str = ""


class Pod(Placement):
    """Settings of one kind of Ray Pod."""

    resources: Resources | None = Field(None, description="default: made from the job's roles")
    gpus: int | None = Field(None, ge=0)
    gpuResource: str = Field("nvidia.com/gpu", min_length=1)
    rayStartParams: dict[str, str] = {}
    sharedMemory: Quantity | None = None
    restartPolicy: Literal["", "Always", "OnFailure", "Never"] = ""
    terminationGracePeriodSeconds: int | None = Field(None, ge=0)
    livenessProbe: Document = {}
    readinessProbe: Document = {}
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    env: list[Document] = []


class Workers(Pod):
    """One group of workers."""

    replicas: int | None = Field(None, ge=0)
    minReplicas: int | None = Field(None, ge=0)
    maxReplicas: int | None = Field(None, ge=0)
    idleTimeoutSeconds: int | None = Field(None, ge=0)


class Claim(Values):
    """A PersistentVolumeClaim that is there."""

    name: str = ""
    create: bool = False
    size: Quantity = ""
    accessModes: list[str] = []
    storageClassName: str | None = None


class Storage(Values):
    """Where runs go."""

    uri: str = ""
    secretName: str = Field("", description="its keys become environment variables")
    claim: Claim = Claim()
    mountPath: str = Field("/storage", pattern="^/[^/].*[^/]$")

    @property
    def place(self) -> str:
        """The URI, or the folder of the claim, or ''."""
        return self.uri or (self.mountPath if self.claim.name else "")


class Submitter(Placement):
    """The Pod that hands the job to Ray."""

    resources: Resources = Resources()
    backoffLimit: int = Field(2, ge=0)


class Condition(Values):
    """When a deletion rule applies."""

    jobStatus: Literal["SUCCEEDED", "FAILED"] | None = None
    jobDeploymentStatus: Literal["Failed"] | None = None
    ttlSeconds: int = Field(0, ge=0)


class DeletionRule(Values):
    """What is removed when."""

    policy: Literal["DeleteWorkers", "DeleteCluster", "DeleteSelf", "DeleteNone"]
    condition: Condition


class RayJob(Values):
    """How KubeRay treats the job."""

    submissionMode: Literal["K8sJobMode"] = "K8sJobMode"
    shutdownAfterJobFinishes: bool = True
    ttlSecondsAfterFinished: int | None = Field(None, ge=0, description="default: 300")
    deletionRules: list[DeletionRule] = []
    suspend: bool = False
    backoffLimit: int = Field(0, ge=0)
    clusterName: str = Field("", description="submitted jobs bring a cluster of their own")
    activeDeadlineSeconds: int | None = Field(None, ge=1)
    preRunningDeadlineSeconds: int | None = Field(None, ge=1)
    submitter: Submitter = Submitter()


class Queue(Values):
    """Who queues the Pods as a gang."""

    scheduler: Literal["", "kueue", "volcano", "yunikorn"] = ""
    name: str = ""


class Auth(Values):
    """Whether Ray's clients need a token."""

    enabled: bool = True
    secretName: str = ""


class ServiceAccount(Values):
    """Which service account Pods have; its token is not mounted."""

    create: bool = False
    name: str = ""
    annotations: dict[str, str] = {}

    @property
    def is_made(self) -> bool:
        """Whether the job brings one of its own."""
        return self.create or bool(self.annotations)

    def name_for(self, job: str) -> str:
        """The account of the Pods of the job with that name."""
        return self.name or (job if self.is_made else "default")


def _image(value: str) -> dict[str, str]:
    """`registry/name:tag@digest` as its parts."""
    rest, _, digest = value.partition("@")
    repository, colon, tag = rest.rpartition(":")
    named = bool(colon) and "/" not in tag  # a port of the registry is no tag
    parts = {"repository": repository if named else rest, "tag": tag if named else "", "digest": digest}
    return {name: part for name, part in parts.items() if part}


def _image_of(value: object) -> object:
    return _image(value) if isinstance(value, str) else value


def _account(value: object) -> object:
    return {"name": value} if isinstance(value, str) else value


class Settings(Values):
    """Where a job runs and what its Pods look like; maps stand over those of the chart.

    Raises:
        SpecError: from `Settings.of`, naming every problem at once.
    """

    namespace: str = Field("", description="default: the context's")
    context: str = Field("", description="of the kubeconfig; default: its current one")
    code: str = Field("auto", description="auto, image, or the URI of a folder that code is uploaded to")
    image: Annotated[Image, BeforeValidator(_image_of)] = Image()
    imagePullSecrets: list[str] = []
    rayVersion: str = Field("", pattern=r"^([0-9]+\.[0-9]+\.[0-9]+.*)?$", description="default: this one")
    runtimeEnv: Document = {}
    rayJob: RayJob = RayJob()
    head: Pod = Pod()
    workerGroups: dict[str, Workers | None] = {}
    queue: Queue = Queue()
    storage: Storage = Storage()
    auth: Auth = Auth()
    serviceAccount: Annotated[ServiceAccount, BeforeValidator(_account)] = ServiceAccount()
    podSecurityContext: Annotated[Document, AfterValidator(_said)] = {}
    securityContext: Annotated[Document, AfterValidator(_said)] = {}
    home: str = Field("/home/tfcluster", pattern="^/[^/].*[^/]$")
    extraEnv: list[Document] = []
    extraEnvFrom: list[Document] = []
    extraVolumes: list[Document] = []
    extraVolumeMounts: list[Document] = []
    extraInitContainers: list[Document] = []
    extraContainers: list[Document] = []
    extraLabels: dict[str, str] = {}
    extraAnnotations: dict[str, str] = {}

    @model_validator(mode="before")
    @classmethod
    def _over_the_charts(cls, given: Any) -> Any:
        return _with_defaults(given) if isinstance(given, dict) else given

    @classmethod
    def of(cls, value: Settings | Mapping[str, Any] | str | Path | bool | None) -> Settings:
        """Settings from settings, a mapping, the path of a YAML file, or True for those of the platform's file.

        A mapping stands over the file that TFCLUSTER_PLATFORM names.
        """
        if isinstance(value, Settings):
            return value
        if isinstance(value, str | Path):
            return parse(_read(Path(value)), str(value))
        platform = os.environ.get(PLATFORM_VARIABLE)
        given = dict(value) if isinstance(value, Mapping) else {}
        return parse(merged(_read(Path(platform)) if platform else {}, given))


def parse(document: Mapping[str, Any], source: str = "") -> Settings:
    """Settings from a plain document; values that only the chart knows are passed over.

    Raises:
        SpecError: naming every problem at once.
    """
    try:
        return Settings.model_validate({key: value for key, value in document.items() if key not in CHART_ONLY})
    except ValidationError as error:
        problems = problems_in(error, Settings)
        todo = "; ".join(problems) if len(problems) == 1 else "".join(f"\n  - {problem}" for problem in problems)
        raise SpecError("the settings for Kubernetes are not valid", source, todo) from None


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """`below` with what `above` says; mappings are merged, and everything else is replaced, as Helm does it."""
    out = dict(below)
    for key, value in above.items():
        old = out.get(key)
        if key == "image" and isinstance(value, str):  # one word is all of it
            value = {"tag": "", "digest": "", **_image(value)}
        if key == "image" and isinstance(old, str):
            old = _image(old)
        out[key] = merged(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return out


def _with_defaults(given: Mapping[str, Any]) -> dict[str, Any]:
    """What was given, over the chart's maps, and over those of its own group where resources are given."""
    groups = given.get("workerGroups")
    groups = groups if isinstance(groups, Mapping) else {}
    whole = {
        name for name, group in groups.items() if isinstance(group, Mapping) and group.get("resources") is not None
    }
    return _over({**DEFAULTS, "workerGroups": {n: g for n, g in GROUP_DEFAULTS.items() if n in whole}}, given)


def _over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """`below` with what `above` says, as Helm lays values over a chart's: null takes a key away, but no whole part."""
    out = dict(below)
    for key, value in above.items():
        old = out.get(key)
        if value is None and key in _PARTS:  # such as `head:` with nothing but comments below it
            continue
        if value is None and key in below:
            del out[key]
        else:
            out[key] = _over(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return out


def with_values(document: Mapping[str, Any], assignments: Sequence[str]) -> dict[str, Any]:
    r"""`document` with `a.b.c=value` set, the value being YAML; a dot within a key is written as `\.`.

    Raises:
        SpecError: an assignment has no `=`.
    """
    out = dict(document)
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        keys = [key.replace("\\.", ".") for key in re.split(r"(?<!\\)\.", path)]
        if not equals or not all(keys):
            raise SpecError(
                "--set has no key and value", assignment, "write it like --set head.nodeSelector.pool=small"
            )
        try:
            value: Any = yaml.safe_load(text) if text else ""
        except yaml.YAMLError as error:
            raise SpecError("--set has no value that is YAML", assignment, str(error)) from None
        for key in reversed(keys):
            value = {key: value}
        out = merged(out, value)
    return out


def read_platform(path: str | Path | None) -> dict[str, Any]:
    """The document of the file `path`, or of the one that TFCLUSTER_PLATFORM names, or an empty one.

    Raises:
        SpecError: it cannot be read, or is no mapping.
    """
    found = path or os.environ.get(PLATFORM_VARIABLE)
    return _read(Path(found)) if found else {}


def _read(path: Path) -> dict[str, Any]:
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError("the settings for Kubernetes cannot be read", path, str(error)) from None
    except yaml.YAMLError as error:
        raise SpecError("the settings for Kubernetes are not valid YAML", path, str(error)) from None
    if not isinstance(document, dict):
        todo = "write them like the values of the chart: image: registry.example.com/ray-tfcluster:0.1.0"
        raise SpecError("the settings for Kubernetes are not a mapping of keys to values", path, todo)
    return document


def written_secrets(environments: Mapping[str, Mapping[str, Any]], texts: Mapping[str, str]) -> list[str]:
    """Sentences about secrets that would end in objects which many may read.

    Args:
        environments: variables and their values, by where they stand.
        texts: that may hold URIs, by where they stand.
    """
    todo = "put it into a Secret and name it: storage.secretName, extraEnvFrom, or extraEnv with valueFrom.secretKeyRef"
    found = [
        f"a secret is written out · {name} in {place} · {todo}"
        for place, environment in environments.items()
        for name, value in environment.items()
        if value is not None and is_secret(name)
    ]
    written = [place for place, text in texts.items() if any(not _REFERENCE.fullmatch(p) for p in passwords(text))]
    return found + [f"a password is written out · {place} · {todo}" for place in written]
