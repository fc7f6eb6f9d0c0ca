"""A job whose code is too large for a ConfigMap: it travels by object storage, where its run goes too.

It is submitted from a Pod, with the rights of the Pod's service account.
"""

from __future__ import annotations

import base64
import json
import re

import pytest

from tests.e2e.conftest import SMALL, Target
from tests.e2e.kube import JOBS, Document, Space
from tests.e2e.test_jobs import STEPS, job

#: Every character of it that a shell would take for its own comes through.
STORAGE = "s3://runs/team?scheme=http&endpoint_override=s3:5000"
#: What docs/kubernetes.md says that whoever submits needs.
RULES = (
    ("ray.io", ["rayjobs", "rayclusters"], ["get", "list"]),
    ("", ["pods", "pods/log", "events"], ["get", "list"]),
    ("ray.io", ["rayjobs"], ["create", "patch", "delete"]),
    ("", ["configmaps"], ["create", "patch", "delete"]),
)
MAKE_BUCKET = (
    "from pyarrow import fs; "
    "fs.S3FileSystem(endpoint_override='s3:5000', scheme='http', allow_bucket_creation=True).create_dir('runs')"
)
SUBMIT = f"""
set -e
cp -rL /job-files /tmp/job
head -c 1500000 /dev/urandom > /tmp/job/weights.bin
python3 -c "{MAKE_BUCKET}"
tfcluster submit /tmp/job/job.yaml --kubernetes --platform /tmp/job/platform.yaml --name far --wait
tfcluster list --storage '{STORAGE}' --json
"""
USER = {"runAsNonRoot": True, "runAsUser": 1000, "fsGroup": 1000, "seccompProfile": {"type": "RuntimeDefault"}}


def pod(name: str, target: Target, command: str, more: Document, **spec: object) -> Document:
    """A Pod of the image that runs a shell command, with the store's keys."""
    container = {
        "name": "main",
        "image": target.image,
        "imagePullPolicy": target.policy,
        "command": ["sh", "-c", command],
        "env": [{"name": "HOME", "value": "/tmp"}],
        "envFrom": [{"secretRef": {"name": "keys"}}],
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        **more,
    }
    whole = {"restartPolicy": "Never", "securityContext": USER, "containers": [container], **spec}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}}, "spec": whole}


@pytest.fixture
def store(space: Space, target: Target) -> None:
    """An S3 server in the namespace, and a Secret with keys for it."""
    if not target.image.startswith("localhost/"):
        pytest.skip("the image of this cluster has no S3 server: only the one of our own, which is this environment")
    keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_EC2_METADATA_DISABLED": "true"}
    space.create({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys"}, "stringData": keys})
    ports = {"ports": [{"port": 5000}], "selector": {"app": "s3"}}
    space.create({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s3"}, "spec": ports})
    ready = {"readinessProbe": {"tcpSocket": {"port": 5000}, "periodSeconds": 2}}
    space.create(pod("s3", target, "exec python3 -m moto.server -H 0.0.0.0 -p 5000", ready))
    space.wait("pod/s3", "condition=Ready")


@pytest.fixture
def account(space: Space) -> str:
    """A service account that may submit."""
    named = {"metadata": {"name": "submitter"}}
    rbac = {"apiVersion": "rbac.authorization.k8s.io/v1"}
    rules = [{"apiGroups": [group], "resources": kinds, "verbs": verbs} for group, kinds, verbs in RULES]
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "submitter"}
    subjects = [{"kind": "ServiceAccount", "name": "submitter", "namespace": space.name}]
    space.create({"apiVersion": "v1", "kind": "ServiceAccount", **named})
    space.create({**rbac, "kind": "Role", **named, "rules": rules})
    space.create({**rbac, "kind": "RoleBinding", **named, "roleRef": role, "subjects": subjects})
    return "submitter"


def test_large_code_and_the_run_are_in_object_storage(
    space: Space, platform: Document, target: Target, store: None, account: str
) -> None:
    settings = {
        "image": platform["image"],
        "head": {"resources": SMALL},
        "storage": {"uri": STORAGE, "secretName": "keys"},
        "workerGroups": {"cpu": {"replicas": 2, "resources": SMALL}},
    }
    files = {path.name: path.read_text() for path in JOBS.glob("*.py")}
    files |= {"job.yaml": json.dumps(job(epochs=2)), "platform.yaml": json.dumps(settings)}
    space.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "job-files"}, "data": files})
    mounts = [{"name": "job-files", "mountPath": "/job-files"}, {"name": "tmp", "mountPath": "/tmp"}]
    volumes = [{"name": "job-files", "configMap": {"name": "job-files"}}, {"name": "tmp", "emptyDir": {}}]
    space.create(pod("laptop", target, SUBMIT, {"volumeMounts": mounts}, serviceAccountName=account, volumes=volumes))
    space.appears("rayjob/far")
    hidden = re.search(r"echo (\S+)", space.get("rayjob", "far")["spec"]["entrypoint"])  # from shells, for its `&`
    assert hidden
    assert "s3://runs/team" in base64.b64decode(hidden[1]).decode()
    with space.following("logs", "--follow", "pod/laptop") as lines:
        said = list(lines)
    space.wait("pod/laptop", "jsonpath={.status.phase}=Succeeded")
    assert any("status         succeeded" in line for line in said), said
    (run,) = json.loads(said[-1])
    assert (run["status"], run["step"]) == ("succeeded", 2 * STEPS)
