"""What `submit` sends to an API server, and what that answers."""

from __future__ import annotations

import base64
import io
import json
import re
import subprocess
import sys
import threading
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster import __version__, submit
from cluster.errors import PreflightError, RunNotFoundError, SpecError, SubmissionError
from cluster.kube_api import Api
from cluster.kube_settings import Settings
from cluster.kubernetes import find_ray_job, list_ray_jobs, submit_ray_job
from cluster.spec import load
from deploy.e2e.control_plane import ControlPlane
from deploy.e2e.errors import E2EError
from tests.kubernetes.conftest import make_space
from tests.kubernetes.space import STORAGE, Space

TFCLUSTER = str(Path(sys.executable).with_name("tfcluster"))


def files_of(config_map: dict[str, Any]) -> dict[str, bytes]:
    """The files that travel in a ConfigMap."""
    with zipfile.ZipFile(io.BytesIO(base64.b64decode(config_map["binaryData"]["code.zip"]))) as packed:
        return {name: packed.read(name) for name in packed.namelist()}


def test_a_rayjob_and_its_code(space: Space, folder: Path) -> None:
    job = submit(folder / "job.yaml", kubernetes=STORAGE)
    made = space.get("rayjob", job.id)
    assert made["spec"]["entrypoint"] == "tfcluster run tfcluster-job.json --archive /job/code.zip"
    labels = made["metadata"]["labels"]
    assert labels["app.kubernetes.io/managed-by"] == "tfcluster"
    assert labels["app.kubernetes.io/instance"] == job.id
    assert labels["app.kubernetes.io/version"] == __version__
    code = space.get("configmap", f"{job.id}-job")
    files = files_of(code)
    assert set(files) == {"job.yaml", "train.py", "tfcluster-job.json"}
    assert json.loads(files["tfcluster-job.json"])["storage"] == "s3://bucket/runs"
    owner = code["metadata"]["ownerReferences"]
    assert [(o["kind"], o["name"], o["uid"]) for o in owner] == [("RayJob", job.id, made["metadata"]["uid"])]
    managers = {m["manager"]: m["operation"] for m in made["metadata"]["managedFields"]}
    assert managers == {"tfcluster": "Apply"}
    assert job.status() == "PENDING"
    assert job.exit_code() is None


def test_pods_have_what_the_roles_ask_for(space: Space, folder: Path) -> None:
    (folder / "job.yaml").write_text(
        "entrypoint: train.py:train\nstrategy: parameter_server\n"
        "roles: {worker: {replicas: 3, cpus: 2, gpus: 1, memory: 8GiB}, ps: {replicas: 2, cpus: 0.5}, chief: 1}\n"
    )
    job = submit(folder / "job.yaml", kubernetes=STORAGE)
    groups = space.get("rayjob", job.id)["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    seen = {
        group["groupName"]: (group["replicas"], group["template"]["spec"]["containers"][0]["resources"]["limits"])
        for group in groups
    }
    assert seen == {
        "chief": (1, {"cpu": "1", "memory": "4Gi"}),
        "worker": (3, {"cpu": "2", "memory": "9Gi", "nvidia.com/gpu": 1}),
        "ps": (2, {"cpu": "500m", "memory": "4Gi"}),
    }


def test_a_function_of_python_travels(space: Space, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)

    def train(ctx: Any) -> int:
        return 7

    job = submit({"entrypoint": train, "name": "Zum_Ende"}, kubernetes=STORAGE)
    assert job.id.startswith("zum-ende-")
    made = space.get("rayjob", job.id)["spec"]["entrypoint"]
    assert made == "tfcluster run tfcluster-job.json --code tfcluster-entrypoint.pkl --archive /job/code.zip"
    assert "tfcluster-entrypoint.pkl" in files_of(space.get("configmap", f"{job.id}-job"))


def test_code_in_the_image(space: Space, folder: Path) -> None:
    (folder / "job.yaml").write_text("entrypoint: package.of_the_image:train\n")
    job = submit(folder / "job.yaml", kubernetes={**STORAGE, "code": "image"})
    assert space.get("rayjob", job.id)["spec"]["entrypoint"] == "tfcluster run /job/job.json"
    document = json.loads(space.get("configmap", f"{job.id}-job")["data"]["job.json"])
    assert document == {"entrypoint": "package.of_the_image:train", "storage": "s3://bucket/runs"}


def test_code_that_is_too_large_for_a_config_map(space: Space, folder: Path, tmp_path: Path) -> None:
    import random

    (folder / "table.bin").write_bytes(random.Random(0).randbytes(900_000))
    with pytest.raises(PreflightError, match=r"too large for a ConfigMap.*table.bin"):
        submit(folder / "job.yaml", kubernetes={"storage": {"claim": {"name": "runs"}}})
    assert space.names("rayjob") == []
    shelf = f"file://{tmp_path}/shelf"  # stands in for object storage
    job = submit(folder / "job.yaml", kubernetes={**STORAGE, "code": shelf})
    again = submit(folder / "job.yaml", kubernetes={**STORAGE, "code": shelf})
    archives = list((tmp_path / "shelf").iterdir())
    assert len(archives) == 1  # the same code is there once
    for each in (job, again):
        entrypoint = space.get("rayjob", each.id)["spec"]["entrypoint"]
        assert entrypoint == f"tfcluster run tfcluster-job.json --archive {shelf}/{archives[0].name}"
    assert space.names("configmap") == []


def test_code_is_uploaded_once_all_would_be_taken(space: Space, folder: Path, tmp_path: Path) -> None:
    refuse_rayjobs(space, "'team' in object.metadata.labels", "name your team in a label")
    shelf = tmp_path / "shelf"
    assert "name your team" in refusal_of(folder, {**STORAGE, "code": f"file://{shelf}"})
    assert not shelf.exists()


def test_code_that_was_uploaded_goes_when_the_job_is_refused(space: Space, folder: Path, tmp_path: Path) -> None:
    settings = {**STORAGE, "code": f"file://{tmp_path}/shelf"}
    submit(folder / "job.yaml", kubernetes=settings)
    refuse_real_rayjobs(space)
    assert "not really" in refusal_of(folder, settings)
    before = list((tmp_path / "shelf").iterdir())
    assert len(before) == 1  # another job has it too
    (folder / "train.py").write_text("def train(ctx, epochs=2):\n    pass\n")
    assert "not really" in refusal_of(folder, settings)
    assert list((tmp_path / "shelf").iterdir()) == before


def test_what_is_said_in_part_leaves_the_rest(space: Space, folder: Path) -> None:
    """As on OpenShift, which chooses the user."""
    nobody = {"runAsUser": None, "runAsGroup": None, "fsGroup": None}
    job = submit(folder / "job.yaml", kubernetes={**STORAGE, "podSecurityContext": nobody})
    cluster = space.get("rayjob", job.id)["spec"]["rayClusterSpec"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        assert group["template"]["spec"]["securityContext"] == {
            "runAsNonRoot": True,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        }


def test_a_service_account_of_the_job(space: Space, folder: Path) -> None:
    account = {"annotations": {"eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/runs"}}
    job = submit(folder / "job.yaml", kubernetes={**STORAGE, "serviceAccount": account})
    made = space.get("serviceaccount", job.id)
    assert made["metadata"]["annotations"]["eks.amazonaws.com/role-arn"] == "arn:aws:iam::1:role/runs"
    assert made["metadata"]["ownerReferences"][0]["name"] == job.id
    spec = space.get("rayjob", job.id)["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]
    assert spec["serviceAccountName"] == job.id
    assert spec["automountServiceAccountToken"] is False


def test_a_service_account_that_an_earlier_job_of_that_name_left(space: Space, folder: Path) -> None:
    """It is about to go with the earlier job, and so becomes the new one's."""
    settings = {**STORAGE, "serviceAccount": {"create": True}}
    submit(folder / "job.yaml", kubernetes=settings, job_id="mine")
    space.kubectl("delete", "rayjob", "mine")  # nobody collects garbage here
    submit(folder / "job.yaml", kubernetes=settings, job_id="mine")
    owners = space.get("serviceaccount", "mine")["metadata"]["ownerReferences"]
    assert [owner["uid"] for owner in owners] == [space.get("rayjob", "mine")["metadata"]["uid"]]


#: A platform's account with workload identity.
NAMED: dict[str, Any] = {**STORAGE, "serviceAccount": {"name": "runs", "annotations": {"iam.gke.io/account": "runs@p"}}}


def test_a_named_service_account_is_made_once_and_belongs_to_no_job(space: Space, folder: Path) -> None:
    first, second = (submit(folder / "job.yaml", kubernetes=NAMED) for _ in range(2))
    account = space.get("serviceaccount", "runs")["metadata"]
    assert account["annotations"]["iam.gke.io/account"] == "runs@p"
    assert account["labels"]["app.kubernetes.io/instance"] == first.id
    assert "ownerReferences" not in account
    for job in (first, second):
        head = space.get("rayjob", job.id)["spec"]["rayClusterSpec"]["headGroupSpec"]
        assert head["template"]["spec"]["serviceAccountName"] == "runs"


def account_of_helm(space: Space) -> dict[str, Any]:
    """A service account that a release of the chart has brought, with another annotation."""
    metadata = {"name": "runs", "annotations": {"iam.gke.io/account": "helm@p"}}
    document = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}
    space.kubectl("apply", "--server-side", "--field-manager=helm", "--filename", "-", text=json.dumps(document))
    return space.get("serviceaccount", "runs")


def test_a_service_account_of_helm_is_used_as_it_is(space: Space, folder: Path) -> None:
    before = account_of_helm(space)
    submit(folder / "job.yaml", kubernetes=NAMED)
    assert space.get("serviceaccount", "runs") == before


def test_a_service_account_that_was_there_outlives_a_job_that_is_refused(space: Space, folder: Path) -> None:
    before = account_of_helm(space)
    refuse_real_rayjobs(space)
    assert "not really" in refusal_of(folder, NAMED)
    assert space.get("serviceaccount", "runs") == before
    assert space.names("configmap") == []


def test_a_service_account_that_is_made_goes_when_the_job_is_refused(space: Space, folder: Path) -> None:
    refuse_real_rayjobs(space)
    assert "not really" in refusal_of(folder, NAMED)
    assert space.names("serviceaccount") == []


def refuse_real_rayjobs(space: Space) -> None:
    """A policy that takes RayJobs only where nothing is made."""
    refuse_rayjobs(space, "has(request.dryRun) && request.dryRun", "not really")


def test_a_name_that_is_taken(space: Space, folder: Path) -> None:
    first = submit(folder / "job.yaml", kubernetes=STORAGE, job_id="mine")
    before = space.get("rayjob", first.id)
    with pytest.raises(SubmissionError, match=r"there is a RayJob of that name · mine in"):
        submit(folder / "job.yaml", kubernetes=STORAGE, job_id="mine")
    assert space.get("rayjob", first.id)["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]


def test_a_field_that_the_api_does_not_know(space: Space, folder: Path) -> None:
    settings = {**STORAGE, "head": {"affinity": {"podAffinty": {}}}}
    with pytest.raises(SubmissionError, match=r"refused it as not valid.*podAffinty"):
        submit(folder / "job.yaml", kubernetes=settings)
    assert space.names("rayjob") == []
    assert space.names("configmap") == []


def test_a_value_that_the_api_does_not_take(space: Space, folder: Path) -> None:
    settings = {**STORAGE, "extraLabels": {"team": "a/b/c"}}
    with pytest.raises(SubmissionError, match=r"metadata.labels: Invalid value"):
        submit(folder / "job.yaml", kubernetes=settings)


def test_without_kuberay(bare: ControlPlane, folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    space = make_space(bare, monkeypatch, tmp_path)
    with pytest.raises(SubmissionError, match=r"KubeRay is not installed.*helm install kuberay-operator"):
        submit(folder / "job.yaml", kubernetes=STORAGE)
    with pytest.raises(SubmissionError, match="KubeRay is not installed"):
        list_ray_jobs(Settings())
    assert "flights" not in " ".join(space.names("configmap"))


def test_no_such_namespace(space: Space, folder: Path) -> None:
    with pytest.raises(SubmissionError, match=r"there is no such namespace · elsewhere · kubectl create namespace"):
        submit(folder / "job.yaml", kubernetes={**STORAGE, "namespace": "elsewhere"})


READ: dict[str, Any] = {"apiGroups": ["", "ray.io"], "resources": ["*"], "verbs": ["get", "list"]}


def test_one_who_may_not(space: Space, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(space.user("reader", [READ])))
    expected = rf"you may not patch rayjobs.ray.io in namespace {space.name} · you are reader · ask"
    with pytest.raises(SubmissionError, match=expected):
        submit(folder / "job.yaml", kubernetes=STORAGE)


def test_one_who_may_make_jobs_but_no_config_maps(space: Space, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rules = [READ, {"apiGroups": ["ray.io"], "resources": ["rayjobs"], "verbs": ["create", "patch", "delete"]}]
    monkeypatch.setenv("KUBECONFIG", str(space.user("half", rules)))
    with pytest.raises(SubmissionError, match="you may not patch configmaps in namespace"):
        submit(folder / "job.yaml", kubernetes=STORAGE)
    assert space.names("rayjob") == []


def test_quota_of_objects(space: Space, folder: Path) -> None:
    hard = {"count/rayjobs.ray.io": "0"}
    space.create({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "team"}, "spec": {"hard": hard}})
    space.set_status("resourcequota", "team", hard=hard, used={"count/rayjobs.ray.io": "0"})
    with pytest.raises(SubmissionError, match=r"quota is used up · quota team of namespace .*: asked count/rayjobs"):
        submit(folder / "job.yaml", kubernetes=STORAGE)
    assert space.names("rayjob") == []
    assert f"{space.name}" in space.name
    assert space.names("configmap") == []


def test_admission_that_refuses(space: Space, folder: Path) -> None:
    """A policy of the platform: its words reach the user, and nothing is left."""
    refuse_rayjobs(space, "'team' in object.metadata.labels", "name your team in a label")
    assert "name your team in a label" in refusal_of(folder)
    before = space.names("configmap")
    assert "name your team in a label" in refusal_of(folder)
    assert space.names("configmap") == before
    assert submit(folder / "job.yaml", kubernetes={**STORAGE, "extraLabels": {"team": "vision"}}).status() == "PENDING"


def refuse_rayjobs(space: Space, unless: str, message: str) -> None:
    """A policy of the platform for new RayJobs."""
    name = f"policy-{space.name}"
    rules = [{"apiGroups": ["ray.io"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["rayjobs"]}]
    space.create({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": name},
        "spec": {
            "failurePolicy": "Fail", "matchConstraints": {"resourceRules": rules},
            "validations": [{"expression": unless, "message": message}],
        },
    })  # fmt: skip
    selected = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": space.name}}}
    space.create({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": name},
        "spec": {"policyName": name, "validationActions": ["Deny"], "matchResources": selected},
    })  # fmt: skip
    for _ in range(100):  # a new policy takes a moment
        try:
            space.create({"apiVersion": "ray.io/v1", "kind": "RayJob", "metadata": {"name": "probe"}})
        except E2EError:
            return
        space.kubectl("delete", "rayjob", "probe")
        threading.Event().wait(0.2)
    raise AssertionError("the policy is not in force")


def refusal_of(folder: Path, settings: dict[str, Any] = STORAGE) -> str:
    """What `submit` is refused with."""
    with pytest.raises(SubmissionError) as refused:
        submit(folder / "job.yaml", kubernetes=settings)
    return str(refused.value)


def name_cluster(space: Space, monkeypatch: pytest.MonkeyPatch, file: Path, authority: bool, **user: Any) -> None:
    """Have KUBECONFIG name the cluster, perhaps with what signed its certificate, and a user."""
    known = {"certificate-authority": str(space.plane.authority.certificate)} if authority else {}
    config = {
        "apiVersion": "v1", "kind": "Config", "current-context": "it",
        "clusters": [{"name": "it", "cluster": {"server": space.plane.url, **known}}],
        "users": [{"name": "it", "user": user}],
        "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it", "namespace": space.name}}],
    }  # fmt: skip
    file.write_text(json.dumps(config))
    monkeypatch.setenv("KUBECONFIG", str(file))


def test_an_expired_token(space: Space, folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    name_cluster(space, monkeypatch, tmp_path / "config", authority=True, token="expired")
    with pytest.raises(SubmissionError, match=r"does not know who you are · .*Unauthorized · log in again"):
        submit(folder / "job.yaml", kubernetes=STORAGE)


def test_a_login_command_that_fails(
    space: Space, folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    plugin = {"apiVersion": "client.authentication.k8s.io/v1", "command": "false", "interactiveMode": "Never"}
    name_cluster(space, monkeypatch, tmp_path / "config", authority=True, exec=plugin)
    with pytest.raises(SubmissionError, match=r"does not know who you are · .*: .*(anonymous|Unauthorized) · log in"):
        submit(folder / "job.yaml", kubernetes=STORAGE)


def test_a_certificate_that_nobody_vouches_for(
    space: Space, folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It is said at once: waiting does not help."""
    name_cluster(space, monkeypatch, tmp_path / "config", authority=False, token="any")
    monkeypatch.setattr("cluster.kube_api.FIRST", 3600.0)
    with pytest.raises(
        SubmissionError, match=r"certificate is not trusted · https://.*certificate.* · have the cluster"
    ):
        submit(folder / "job.yaml", kubernetes=STORAGE)


def test_a_token_that_is_renewed(space: Space, folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A kubeconfig that got a new token meanwhile is read again."""
    space.kubectl("create", "serviceaccount", "robot")
    rules = [{"apiGroups": ["", "ray.io"], "resources": ["*"], "verbs": ["*"]}]
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "robot"}}
    space.create({**role, "rules": rules})
    space.kubectl("create", "rolebinding", "robot", "--role=robot", f"--serviceaccount={space.name}:robot")
    config = tmp_path / "config"

    def write(token: str) -> None:
        cluster = {"server": space.plane.url, "certificate-authority": str(space.plane.authority.certificate)}
        config.write_text(json.dumps({
            "apiVersion": "v1", "kind": "Config", "current-context": "it",
            "clusters": [{"name": "it", "cluster": cluster}], "users": [{"name": "it", "user": {"token": token}}],
            "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it", "namespace": space.name}}],
        }))  # fmt: skip

    write("expired")
    monkeypatch.setenv("KUBECONFIG", str(config))
    api = Api()
    write(space.kubectl("create", "token", "robot", "--duration=10m").strip())
    job = submit_ray_job(load(folder / "job.yaml"), Settings.of(STORAGE), folder, ".", api=api)
    assert job.status() == "PENDING"


def test_no_kubeconfig(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    with pytest.raises(SpecError, match=r"there is no way to a Kubernetes cluster.*KUBECONFIG"):
        submit(folder / "job.yaml", kubernetes=STORAGE)


def test_no_such_context(space: Space, folder: Path) -> None:
    with pytest.raises(SpecError, match=r"context mars:"):
        submit(folder / "job.yaml", kubernetes={**STORAGE, "context": "mars"})


def test_list_and_find(space: Space, folder: Path) -> None:
    jobs = [submit(folder / "job.yaml", kubernetes=STORAGE, job_id=name) for name in ("aa-1", "aa-2", "bb-1")]
    space.create({
        "apiVersion": "ray.io/v1", "kind": "RayJob", "metadata": {"name": "of-somebody"}, "spec": {"entrypoint": "true"}
    })  # fmt: skip
    settings = Settings()
    assert {job["metadata"]["name"] for job in list_ray_jobs(settings)} == {job.id for job in jobs}
    assert find_ray_job("latest", settings).id in {job.id for job in jobs}
    assert find_ray_job("bb", settings).id == "bb-1"
    assert find_ray_job("of-somebody", settings).status() == "PENDING"
    with pytest.raises(RunNotFoundError, match=r"several jobs begin so · aa in namespace .* there are: "):
        find_ray_job("aa", settings)
    with pytest.raises(RunNotFoundError, match="there is no RayJob of that name"):
        find_ray_job("zz", settings)


DOCUMENTED = Path(__file__).parents[2] / "docs" / "kubernetes.md"


def documented_rules() -> list[dict[str, Any]]:
    """The rules of the Role in the documentation."""
    blocks = re.findall(r"```yaml\n(.*?)```", DOCUMENTED.read_text("utf-8"), re.DOTALL)
    role = next(document for document in map(yaml.safe_load, blocks) if document.get("kind") == "Role")
    rules: list[dict[str, Any]] = role["rules"]
    return rules


def test_the_documented_rights_are_enough(space: Space, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(space.user("ada", documented_rules())))
    job = submit(folder / "job.yaml", kubernetes=STORAGE)
    cluster = space.take_up(job.id)
    space.pod(job.id, "worker", phase="Pending")
    space.event("RayCluster", cluster, "FailedToCreateWorkerPod", "no")
    sight = job.sight()
    assert sight.cluster is not None
    assert len(sight.pods) == 1
    assert len(sight.events) == 1
    assert job.stop()


def test_two_of_the_documented_rules_are_enough_to_look(
    space: Space, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = submit(folder / "job.yaml", kubernetes=STORAGE)
    monkeypatch.setenv("KUBECONFIG", str(space.user("bob", documented_rules()[:2])))
    found = find_ray_job("latest", Settings())
    assert (found.id, found.status()) == (job.id, "PENDING")
    with pytest.raises(SubmissionError, match=rf"you may not delete rayjobs.ray.io in namespace {space.name}"):
        found.stop()


def test_what_one_may_not_see_is_left_out(space: Space, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = submit(folder / "job.yaml", kubernetes=STORAGE)
    space.take_up(job.id)
    monkeypatch.setenv("KUBECONFIG", str(space.user("eve", documented_rules()[:1])))
    sight = find_ray_job(job.id, Settings()).sight()
    assert (list(sight.pods), list(sight.events)) == ([], [])
    assert sight.cluster is not None


def test_the_file_of_a_platform(space: Space, folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """From the file over `--set` to the options of the command."""
    file = tmp_path / "platform.yaml"
    file.write_text("image: registry/ray:1\nstorage: {uri: s3://team/runs}\nmonitoring: {enabled: true}\n")
    words = [TFCLUSTER, "submit", str(folder / "job.yaml"), "--platform", str(file), "--namespace", space.name]
    words += ["--set", "rayJob.suspend=true", "--set", "image.tag='2'", "--name", "mine", "--json"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    expected = {"id": "mine", "namespace": space.name, "context": "", "address": space.plane.url}
    assert json.loads(done.stdout) == expected
    spec = space.get("rayjob", "mine")["spec"]
    assert spec["suspend"] is True
    head = spec["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["containers"][0]
    assert head["image"] == "registry/ray:2"


def test_inside_a_pod(space: Space, folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without a kubeconfig a Pod's own service account is used, in its namespace."""
    from kubernetes.config import incluster_config

    space.kubectl("create", "serviceaccount", "inside")
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "inside"}}
    space.create({**role, "rules": documented_rules()})
    space.kubectl("create", "rolebinding", "inside", "--role=inside", f"--serviceaccount={space.name}:inside")
    (tmp_path / "token").write_text(space.kubectl("create", "token", "inside", "--duration=10m").strip())
    (tmp_path / "namespace").write_text(space.name)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", space.plane.address)
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(space.plane.port))
    # Where kubelet puts these files is fixed.
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(tmp_path / "token"))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(space.plane.authority.certificate))
    monkeypatch.setattr("cluster.kube_api._NAMESPACE_FILE", tmp_path / "namespace")
    job = submit(folder / "job.yaml", kubernetes=STORAGE)
    assert (job.namespace, job.status()) == (space.name, "PENDING")
