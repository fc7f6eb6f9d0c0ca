"""Whatever the chart renders is what Helm, Kubernetes and KubeRay take."""

from __future__ import annotations

import base64
import json
import math
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from cluster.locations import SHARED_VARIABLE
from cluster.spec import JobSpec, load, parse
from tests.helm.cases import CASES, GOLDEN, GPU_GROUP, JOB, PLACED, TEXT, job
from tests.helm.charts import CHART, Helm, cluster_of, documents_of, pod_templates

FOLDER = Path(__file__).parent / "golden"
KUBERNETES = ("1.30", "1.31", "1.32", "1.33", "1.34")
OPERATORS = ("ray.io", "monitoring.coreos.com")

every_case = pytest.mark.parametrize("case", CASES)


@every_case
def test_lint(helm: Helm, case: str) -> None:
    assert "0 chart(s) failed" in helm.run("lint", "--strict", str(CHART), values=CASES[case])


@every_case
def test_kuberay_takes_it(helm: Helm, crds: Mapping[str, dict[str, Any]], case: str) -> None:
    ours = [d for d in helm.render(CASES[case]) if d["apiVersion"] == "ray.io/v1"]
    assert len(ours) == 1
    jsonschema.Draft7Validator(crds[ours[0]["kind"]]).validate(ours[0])


def test_a_field_that_kuberay_does_not_know_is_found(helm: Helm, crds: Mapping[str, dict[str, Any]]) -> None:
    document = json.loads(json.dumps(helm.one("RayJob", JOB)))
    document["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["containers"][0]["imagePolicy"] = "Always"
    with pytest.raises(jsonschema.ValidationError, match="imagePolicy"):
        jsonschema.Draft7Validator(crds["RayJob"]).validate(document)


@every_case
def test_kubernetes_takes_it(helm: Helm, case: str) -> None:
    kubernetes_validate = pytest.importorskip("kubernetes_validate", reason="pip install kubernetes-validate")
    for document in helm.render(CASES[case]):
        if document["apiVersion"].partition("/")[0] not in OPERATORS:
            for version in KUBERNETES:
                kubernetes_validate.validate(document, version, strict=True)


@every_case
def test_nothing_has_the_same_name_twice(helm: Helm, case: str) -> None:
    names = [(d["kind"], d["metadata"]["name"]) for d in helm.render(CASES[case])]
    assert len(set(names)) == len(names)
    assert all(len(name) <= 63 for _, name in names)


@pytest.mark.parametrize("case", GOLDEN)
def test_golden(helm: Helm, case: str, request: pytest.FixtureRequest) -> None:
    path, rendered = FOLDER / f"{case}.yaml", helm.text(CASES[case])
    if request.config.getoption("--update", default=False):
        path.write_text(rendered, "utf-8")
    assert documents_of(path.read_text("utf-8")) == documents_of(rendered), (
        "pytest tests/helm --update writes what is rendered now; look at the difference"
    )


def test_no_golden_file_is_left_over() -> None:
    assert {path.stem for path in FOLDER.glob("*.yaml")} == set(GOLDEN)


@pytest.mark.parametrize(
    "document",
    [
        JOB["job"],
        {"script": ["train.py", "--rate", 0.1], "strategy": "custom", "roles": {"worker": 2}, "keras": 2},
        {
            "name": "all",
            "entrypoint": "package.train:main",
            "strategy": "parameter_server",
            "roles": {"worker": {"replicas": 1, "cpus": 0.5, "env": {"OMP_NUM_THREADS": "1"}}, "ps": 1},
            "data": {"train": {"files": ["s3://b/a", "s3://b/b"], "filters": [["x", ">", 1e-9]], "fill": {"x": 0.5}}},
            "timeouts": {"hang": "1h30m", "stop": 5},
            "partition": {"min_size": "256KiB"},
            "profile": {"steps": [100, 110]},
            "storage": "s3://bucket/runs",
        },
    ],
)
def test_the_job_arrives_as_it_was_written(helm: Helm, document: dict[str, Any]) -> None:
    values = job(job=document, workerGroups={"cpu": {"replicas": 4}})
    arrived = parse(json.loads(helm.one("ConfigMap", values)["data"]["job.json"]))
    given = JobSpec.of({"name": "demo", **document})
    storage = given.storage if "://" in given.storage else "/storage"
    assert arrived == JobSpec.of({**given.to_document(), "storage": storage})


NUMBERS: dict[str, Any] = {
    "whole": 1.0,
    "zero": 0.0,
    "seed": 12345678901234567,
    "below": -(2**60),
    "large": 1e22,
    "small": 1e-07,
    "count": 3,
    "nested": [{"rate": 2.0}],
}


@pytest.mark.parametrize(
    ("where", "values"),
    [
        ("ConfigMap", {}),
        ("entrypoint", {"files": {}, "storage": {"uri": "s3://bucket/runs"}, "rayJob": {"clusterName": "team"}}),
    ],
)
def test_numbers_of_a_text_arrive_as_what_they_were(
    helm: Helm, where: str, values: Mapping[str, Any], tmp_path: Path
) -> None:
    text = yaml.safe_dump({"entrypoint": "train.py:train", "args": NUMBERS, "roles": {"worker": 1}}, sort_keys=False)
    rendered = job(**{**values, "job": text})
    if where == "ConfigMap":
        arrived = helm.one("ConfigMap", rendered)["data"]["job.yaml"]
    else:
        encoded = helm.one("RayJob", rendered)["spec"]["entrypoint"].partition("echo ")[2].partition(" |")[0]
        arrived = base64.b64decode(encoded).decode()
    (tmp_path / "job.yaml").write_text(arrived)
    spec = load(tmp_path / "job.yaml")
    assert repr(spec.args) == repr(NUMBERS)  # 1.0 is no 1, though it equals it
    assert spec.name == "demo"
    assert spec.storage == values.get("storage", {"uri": "/storage"})["uri"]


def test_a_file_is_a_text(helm: Helm, tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(TEXT)
    command = ("template", "demo", str(CHART), "--namespace", "ml", "--set-file", f"job={path}")
    documents = documents_of(helm.run(*command, values=job(job={})))
    assert documents == helm.render(CASES["job-text"])
    assert cluster_of(documents)["headGroupSpec"]["template"]["spec"]["terminationGracePeriodSeconds"] == 50
    (arrived,) = (d["data"]["job.yaml"] for d in documents if d["metadata"]["name"] == "demo-job")
    assert arrived == TEXT.replace("storage: ./runs   # here", 'storage: "/storage"') + 'name: "demo"\n'


@pytest.mark.parametrize(
    ("name", "storage"),
    [("flights", "s3://bucket/flights"), ("flights", "runs"), (None, "/storage/a"), ("demo", None)],
)
def test_a_text_gets_what_it_lacks(helm: Helm, name: str | None, storage: str | None) -> None:
    given = {key: value for key, value in (("name", name), ("storage", storage)) if value is not None}
    text = yaml.safe_dump({"script": "a.py", **given}).removesuffix("\n")
    data = helm.one("ConfigMap", job(job=text))["data"]["job.yaml"]
    own = storage is not None and storage.startswith(("s3:", "/"))
    arrived = documents_of(data)
    assert arrived == [{"script": "a.py", "name": name or "demo", "storage": storage if own else "/storage"}]


@pytest.mark.parametrize("cluster", ["", "team"])
def test_a_large_number_that_is_set_stays_what_it_is(helm: Helm, cluster: str) -> None:
    values = {"mode": "job", "storage": {"uri": "s3://bucket/runs"}, "rayJob": {"clusterName": cluster}}
    options = (
        "--set",
        "job.entrypoint=a:b",
        "--set",
        "job.args.seed=12345678901234567",
        "--set-string",
        "job.args.t=a\n b",
    )
    documents = documents_of(helm.run("template", "demo", str(CHART), *options, values=values))
    texts = [d["data"]["job.json"] for d in documents if d["kind"] == "ConfigMap"]
    for spec in (d["spec"] for d in documents if cluster and d["kind"] == "RayJob"):
        texts.append(base64.b64decode(spec["entrypoint"].partition("echo ")[2].partition(" |")[0]).decode())
    assert [json.loads(text)["args"] for text in texts] == [{"seed": 12345678901234567, "t": "a\n b"}]


EMPTY = (
    "files", "extraEnv", "extraEnvFrom", "extraVolumes", "extraVolumeMounts", "extraInitContainers", "extraContainers",
    "extraLabels", "extraAnnotations", "extraObjects", "imagePullSecrets", "runtimeEnv",
)  # fmt: skip


@pytest.mark.parametrize("key", EMPTY)
def test_a_key_with_nothing_below_it(helm: Helm, key: str) -> None:
    """As in a file of values in which all of it is a comment."""
    empty = type(yaml.safe_load((CHART / "values.yaml").read_text())[key])()
    queue = {"scheduler": "kueue", "name": "team"}
    for values in ({"autoscaling": {"enabled": True}, "dashboard": {"enabled": True}}, job(files={}, queue=queue)):
        assert helm.render({**values, key: None}) == helm.render({**values, key: empty})


@pytest.mark.parametrize("claim", [None, {"name": None}])
@pytest.mark.parametrize("uri", ["", "s3://bucket/runs"])
def test_a_claim_that_is_null_is_none(helm: Helm, claim: dict[str, None] | None, uri: str) -> None:
    assert helm.render({"storage": {"uri": uri, "claim": claim}}) == helm.render({"storage": {"uri": uri}})


@pytest.mark.parametrize("given", [None, {"name": "redis"}])
def test_a_secret_of_redis_may_be_null(helm: Helm, given: dict[str, str] | None) -> None:
    values = {"gcsFaultTolerance": {"redisAddress": "redis://a:1", "passwordSecret": given, "usernameSecret": None}}
    options = cluster_of(helm.render(values))["gcsFaultToleranceOptions"]
    assert set(options) == {"redisAddress", *(["redisPassword"] if given else [])}


def test_a_text_may_say_null(helm: Helm) -> None:
    text = "entrypoint: null\nscript: a.py\n"
    assert helm.one("ConfigMap", job(job=text))["data"]["job.yaml"].startswith(text)


@pytest.mark.parametrize("given", ["", "name: flights\nstorage: s3://bucket/runs\n"])
@pytest.mark.parametrize(
    "block", ["|\n    a\n    b\n", "|\n    a", "|+\n    a\n\n\n", "|-\n    a\n", ">\n    a\n\n    b\n"]
)
def test_a_text_may_end_with_a_block(helm: Helm, given: str, block: str) -> None:
    text = f"script: a.py\n{given}args:\n  text: {block}"
    (arrived,) = documents_of(helm.one("ConfigMap", job(job=text))["data"]["job.yaml"])
    wanted = yaml.safe_load(text if text.endswith("\n") else f"{text}\n")
    assert arrived == {"name": "demo", "storage": "/storage", **wanted}


def test_files_lie_beside_the_job(helm: Helm) -> None:
    head = cluster_of(helm.render(JOB))["headGroupSpec"]["template"]["spec"]
    data = helm.one("ConfigMap", JOB)["data"]
    mounts = {m["mountPath"]: m["subPath"] for m in head["containers"][0]["volumeMounts"] if m["name"] == "job"}
    assert set(mounts) == {"/job/job.json", "/job/train.py", "/job/package/part.py"}
    assert data[mounts["/job/package/part.py"]] == JOB["files"]["package/part.py"]


@pytest.mark.parametrize(
    ("stop", "group", "seconds"),
    [(None, {}, 40), (90, {}, 120), ("1H 30.5s 500 ms", {}, 3661), ("1m", {"terminationGracePeriodSeconds": 0}, 0)],
)
def test_tasks_have_time_to_end(helm: Helm, stop: object, group: dict[str, int], seconds: int) -> None:
    timeouts = {} if stop is None else {"timeouts": {"stop": stop}}
    values = job(job={**JOB["job"], **timeouts}, workerGroups={"cpu": group}, head=group)
    spec = cluster_of(helm.render(values))
    head, worker = spec["headGroupSpec"]["template"]["spec"], spec["workerGroupSpecs"][0]["template"]["spec"]
    assert (head["terminationGracePeriodSeconds"], worker["terminationGracePeriodSeconds"]) == (seconds, seconds)
    environment = {variable["name"]: variable.get("value") for variable in head["containers"][0]["env"]}
    assert int(environment["RAY_JOB_STOP_WAIT_TIME_S"]) == math.ceil(JobSpec.of(values["job"]).timeouts.stop) + 30


def test_a_cluster_gives_the_jobs_that_it_does_not_know_time_to_end(helm: Helm) -> None:
    head = cluster_of(helm.render({}))["headGroupSpec"]["template"]["spec"]
    assert head["terminationGracePeriodSeconds"] == JobSpec.of({"entrypoint": "a.py:b"}).timeouts.stop + 30


def test_the_launcher_knows_which_folders_all_pods_see(helm: Helm) -> None:
    volumes = {
        "extraVolumes": [
            {"name": "data", "persistentVolumeClaim": {"claimName": "data"}},
            {"name": "s", "emptyDir": {}},
        ],
        "extraVolumeMounts": [{"name": "data", "mountPath": "/data"}, {"name": "s", "mountPath": "/scratch"}],
    }

    def known(values: Mapping[str, Any]) -> list[str]:
        head = cluster_of(helm.render(values))["headGroupSpec"]["template"]["spec"]["containers"][0]
        return [variable["value"] for variable in head["env"] if variable["name"] == SHARED_VARIABLE]

    assert known(job(**volumes)) == ["/storage:/data"]
    assert known(volumes) == ["/data"]
    assert known({"storage": {"uri": "s3://bucket/runs"}}) == []


def test_shared_memory_is_the_pods_memory_unless_it_is_given(helm: Helm) -> None:
    def size(case: str) -> str:
        pod = cluster_of(helm.render(CASES[case]))["workerGroupSpecs"][-1]["template"]["spec"]
        volume = next(v for v in pod["volumes"] if v["name"] == "shared-mem")
        assert {"name": "shared-mem", "mountPath": "/dev/shm"} in pod["containers"][0]["volumeMounts"]
        assert volume["emptyDir"]["medium"] == "Memory"
        return str(volume["emptyDir"]["sizeLimit"])

    assert (size("cluster"), size("job-gpu")) == ("4Gi", "32Gi")


def test_gpus_are_limits_and_requests(helm: Helm) -> None:
    group = cluster_of(helm.render(CASES["job-gpu"]))["workerGroupSpecs"]
    assert [g["groupName"] for g in group] == ["gpu"]
    resources = group[0]["template"]["spec"]["containers"][0]["resources"]
    given = GPU_GROUP["resources"]
    assert resources == {kind: {**given[kind], "nvidia.com/gpu": 4} for kind in ("limits", "requests")}


@pytest.mark.parametrize(
    ("case", "labels"),
    [
        ("job-kueue", {"kueue.x-k8s.io/queue-name": "team-queue"}),
        ("cluster-kueue-elastic", {"kueue.x-k8s.io/queue-name": "team-queue"}),
        ("cluster-volcano", {"volcano.sh/queue-name": "training", "ray.io/priority-class-name": "training"}),
        (
            "job-yunikorn",
            {
                "yunikorn.apache.org/queue": "root.team",
                "yunikorn.apache.org/app-id": "demo-ml",  # one application to YuniKorn, whose ids know no namespaces
                "ray.io/gang-scheduling-enabled": "true",
            },
        ),
    ],
)
def test_queues_find_their_labels(helm: Helm, case: str, labels: dict[str, str]) -> None:
    owner = next(d for d in helm.render(CASES[case]) if d["apiVersion"] == "ray.io/v1")
    assert labels.items() <= owner["metadata"]["labels"].items()


def test_the_head_is_left_to_the_launchers(helm: Helm) -> None:
    start = cluster_of(helm.render({}))["headGroupSpec"]["rayStartParams"]
    assert (start["num-cpus"], start["num-gpus"]) == ("0", "0")


@pytest.mark.parametrize("case", ["cluster-everything", "cluster-service-monitor", "job-gpu", "extras"])
def test_selectors_select_pods_of_this_release_only(helm: Helm, case: str) -> None:
    kuberay = {"ray.io/is-ray-node", "ray.io/group"}  # labels that it sets
    documents = helm.render(CASES[case])
    templates = [
        part["labels"]
        for document in documents
        for part in _metadata(document)
        if part.get("labels", {}).get("app.kubernetes.io/part-of") == "tfcluster"
    ]
    kinds = ("Service", "Deployment", "PodDisruptionBudget")
    for selector in [d["spec"]["selector"] for d in documents if d["kind"] in kinds]:
        wanted = {k: v for k, v in selector.get("matchLabels", selector).items() if k not in kuberay}
        assert wanted["app.kubernetes.io/instance"] == "demo"
        assert any(wanted.items() <= labels.items() for labels in templates), wanted


def _metadata(value: Any) -> list[dict[str, Any]]:
    """The metadata of all Pods and Pod templates in it."""
    if isinstance(value, list):
        return [found for part in value for found in _metadata(part)]
    if not isinstance(value, dict):
        return []
    is_pod = isinstance(value.get("metadata"), dict) and "containers" in value.get("spec", {})
    return ([value["metadata"]] if is_pod else []) + [found for part in value.values() for found in _metadata(part)]


@pytest.mark.parametrize("case", ["cluster", "job", "job-suspended", "job-on-a-cluster", "cron", "cluster-open"])
def test_notes_tell_what_to_type(helm: Helm, case: str, tmp_path: Path) -> None:
    text = _notes(helm, CASES[case], tmp_path)
    assert "kubectl -n ml" in text
    assert ("patch rayjob demo" in text) == (case == "job-suspended")
    assert ("port-forward service/demo-head-svc 8265" in text) == case.startswith("cluster")
    assert ("port-forward service/$CLUSTER-head-svc 8265" in text) == (case in ("job", "job-suspended"))
    assert ("get secret demo -o" in text) == (case == "cluster")
    assert ("get secret $CLUSTER -o" in text) == (case in ("job", "job-suspended"))
    assert ("asks for no token" in text) == (case == "cluster-open")
    assert ("/storage" in text) == (case in ("job", "job-suspended"))
    assert "mode cluster" not in text


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (job(auth={"secretName": "mine"}), "get secret mine -o jsonpath="),
        ({"suspend": True}, "has no Pods until suspend=false"),
        ({"suspend": None}, "demo is coming up"),
        (
            {
                "rayJob": {"suspend": True, "backoffLimit": 1, "submissionMode": "HTTPMode"},
                "runtimeEnv": {"pip": ["a"]},
            },
            "in mode cluster: rayJob.suspend, rayJob.backoffLimit, rayJob.submissionMode, runtimeEnv.",
        ),
        (
            {"tensorboard": {"enabled": True, "service": {"port": 80}}, "storage": {"uri": "s3://bucket/runs"}},
            "port-forward service/demo-tensorboard 6006:80\n",  # a port below 1024 is root's
        ),
    ],
)
def test_notes_tell_more(helm: Helm, values: Mapping[str, Any], words: str, tmp_path: Path) -> None:
    assert words in _notes(helm, values, tmp_path)


@pytest.mark.parametrize(
    ("values", "suspend"),
    [
        ({}, False),  # KubeRay does not take the absence of the field for it
        ({"queue": None}, False),
        ({"suspend": True}, True),
        ({"queue": {"scheduler": "volcano", "name": "team-queue"}}, False),
        ({"queue": {"scheduler": "kueue", "name": "team-queue"}, "autoscaling": {"enabled": False}}, None),
    ],
)
def test_a_cluster_says_that_it_is_not_suspended(helm: Helm, values: Mapping[str, Any], suspend: bool | None) -> None:
    assert helm.one("RayCluster", values)["spec"].get("suspend") is suspend


@pytest.mark.parametrize(("name", "secret"), [("n" * 53, "n" * 50), ("abc-" + "n" * 49, "r" + "n" * 49)])
def test_a_long_name_has_the_secret_that_kuberay_makes(helm: Helm, name: str, secret: str, tmp_path: Path) -> None:
    values = {"fullnameOverride": name}
    (container,) = helm.one("Pod", values)["spec"]["containers"]
    token = next(variable for variable in container["env"] if variable["name"] == "RAY_AUTH_TOKEN")
    assert token["valueFrom"]["secretKeyRef"]["name"] == secret
    assert f"get secret {secret} -o" in _notes(helm, values, tmp_path)


def test_notes_of_a_job_with_a_long_name(helm: Helm, tmp_path: Path) -> None:
    text = _notes(helm, job(fullnameOverride="abc-" + "n" * 43), tmp_path)
    word = text.partition("get secret ")[2].partition(" -o")[0]
    shell = f"CLUSTER=abc-{'n' * 43}-abcde; echo {word}"
    said = subprocess.run(["sh", "-c", shell], capture_output=True, text=True, check=True).stdout
    assert said == f"r{'n' * 43}-abcde\n"


def _notes(helm: Helm, values: Mapping[str, Any], folder: Path) -> str:
    """What the notes say: `helm template` leaves them out, so they are rendered as part of an object."""
    chart = folder / "tfcluster"
    shutil.copytree(CHART, chart)
    (chart / "templates" / "NOTES.txt").rename(chart / "notes.txt")
    wrapper = '{{ dict "kind" "Notes" "text" (tpl (.Files.Get "notes.txt") .) | toYaml }}\n'
    (chart / "templates" / "notes.yaml").write_text(wrapper)
    rendered = helm.run("template", "demo", str(chart), "--namespace", "ml", values=values)
    return next(str(d["text"]) for d in documents_of(rendered) if d["kind"] == "Notes")


def test_a_field_that_kubernetes_does_not_know_is_found(helm: Helm) -> None:
    kubernetes_validate = pytest.importorskip("kubernetes_validate", reason="pip install kubernetes-validate")
    document = json.loads(json.dumps(helm.one("Deployment", CASES["job-gpu"])))
    document["spec"]["template"]["spec"]["containers"][0]["imagePolicy"] = "Always"
    with pytest.raises(kubernetes_validate.ValidationError, match="imagePolicy"):
        kubernetes_validate.validate(document, KUBERNETES[-1], strict=True)


@pytest.mark.parametrize("hands_over", ["ray job submit", "HTTP"])
@pytest.mark.parametrize(
    "case",
    [
        "job",
        "job-working-dir",
        "job-on-a-cluster",
        "job-on-a-cluster-working-dir",
        "job-text",
        "job-text-on-a-cluster",
    ],
)
def test_the_entrypoint_passes_the_shells_that_it_meets(helm: Helm, case: str, hands_over: str, tmp_path: Path) -> None:
    """KubeRay puts it into a command for bash, `ray job submit` joins its words, and Ray runs that by sh."""
    (tmp_path / "job").mkdir()
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "tfcluster"
    program.write_text(f'#!/bin/sh\npwd > {tmp_path}/folder\necho "$1" > {tmp_path}/command\ncp "$2" {tmp_path}/seen\n')
    program.chmod(0o755)
    documents, name = helm.render(CASES[case]), "job.yaml" if "text" in case else "job.json"
    for document in documents:
        if document["metadata"]["name"] == "demo-job":
            (tmp_path / "job" / name).write_text(document["data"][name])
    entrypoint = next(d["spec"]["entrypoint"] for d in documents if d["kind"] == "RayJob").replace(
        "/job/", f"{tmp_path}/job/"
    )
    if hands_over == "ray job submit":
        words = subprocess.run(
            ["bash", "-c", f"printf '%s\\n' {entrypoint}"], capture_output=True, text=True, check=True
        )
        entrypoint = subprocess.list2cmdline(words.stdout.splitlines())
    cwd, path = tmp_path / "job", f"{tmp_path / 'bin'}:/usr/bin:/bin"
    subprocess.run(entrypoint, shell=True, cwd=cwd, env={"PATH": path, "TMPDIR": str(tmp_path)}, check=True, timeout=20)
    assert (tmp_path / "command").read_text() == "run\n"
    away = case in ("job-on-a-cluster", "job-text-on-a-cluster")
    assert ((tmp_path / "folder").read_text().strip() == str(cwd)) == (not away)
    shutil.copy(tmp_path / "seen", tmp_path / name)
    arrived = load(tmp_path / name)
    assert arrived.args == JOB["job"]["args"]
    assert arrived.name == "demo"


@pytest.mark.parametrize(
    ("case", "path", "value"),
    [
        ("job", "shutdownAfterJobFinishes", True),
        ("job", "ttlSecondsAfterFinished", 300),
        ("job", "backoffLimit", 0),
        ("job", "rayClusterSpec.rayVersion", "2.60.0"),
        ("job-kept", "shutdownAfterJobFinishes", None),
        ("job-kept", "ttlSecondsAfterFinished", None),
        ("job", "suspend", None),
        ("job-kueue", "suspend", None),  # Kueue sets it, and who applies it again would take it back
        ("job-suspended", "suspend", True),
        ("job-suspended", "activeDeadlineSeconds", 3600),
        ("job-suspended", "preRunningDeadlineSeconds", 600),
        ("job-sidecar", "backoffLimit", 2),
        ("job-sidecar", "submitterPodTemplate", None),
        ("job-sidecar", "rayClusterSpec.headGroupSpec.template.spec.restartPolicy", "Never"),
        (
            "job-deletion-rules",
            "deletionStrategy.deletionRules",
            CASES["job-deletion-rules"]["rayJob"]["deletionRules"],
        ),
        ("job-deletion-rules", "shutdownAfterJobFinishes", None),
        ("job-on-a-cluster", "clusterSelector", {"ray.io/cluster": "team"}),
        ("job-on-a-cluster", "rayClusterSpec", None),
        ("job-working-dir", "runtimeEnvYAML", "working_dir: s3://bucket/code.zip\n"),
        ("cron", "schedule", "0 3 * * *"),
        ("cron", "timeZone", "Etc/UTC"),
        ("cron", "jobTemplate.entrypoint", "tfcluster run /job/job.json"),
        ("cluster", "upgradeStrategy.type", "None"),
        ("cluster", "enableInTreeAutoscaling", None),
        ("cluster", "headGroupSpec.template.spec.restartPolicy", None),
        ("cluster", "suspend", False),
        ("cluster-suspended", "suspend", True),
        ("cluster-suspended", "rayVersion", "2.60.0rc1"),
        (
            "cluster-everything",
            "gcsFaultToleranceOptions.redisUsername",
            {"valueFrom": {"secretKeyRef": {"name": "redis", "key": "username"}}},
        ),
        ("job-text", "entrypoint", "tfcluster run /job/job.yaml"),
        ("cluster-everything", "enableInTreeAutoscaling", True),
        ("cluster-everything", "autoscalerOptions.version", "v2"),
        ("cluster-everything", "headGroupSpec.template.spec.restartPolicy", "Never"),
        ("cluster-everything", "gcsFaultToleranceOptions.redisAddress", "redis://redis:6379"),
        (
            "cluster-everything",
            "gcsFaultToleranceOptions.redisPassword",
            {"valueFrom": {"secretKeyRef": {"name": "redis", "key": "password"}}},
        ),
        ("cluster-autoscaler-v1", "autoscalerOptions.version", "v1"),
        ("cluster-autoscaler-v1", "headGroupSpec.template.spec.restartPolicy", "Always"),
    ],
)
def test_what_is_asked_for_is_in_the_spec(helm: Helm, case: str, path: str, value: Any) -> None:
    found: Any = next(d["spec"] for d in helm.render(CASES[case]) if d["apiVersion"] == "ray.io/v1")
    for key in path.split("."):
        found = found.get(key) if isinstance(found, dict) else None
    assert found == value


@pytest.mark.parametrize(
    ("case", "bounds"),
    [
        ("cluster", {"cpu": (2, 2, 2)}),
        ("cluster-everything", {"cpu": (0, 2, 2), "gpu": (0, 0, 8)}),
        ("cluster-autoscaler-v1", {"cpu": (0, 2, 5)}),
    ],
)
def test_bounds_of_groups(helm: Helm, case: str, bounds: dict[str, tuple[int, int, int]]) -> None:
    groups = cluster_of(helm.render(CASES[case]))["workerGroupSpecs"]
    assert {g["groupName"]: (g["minReplicas"], g["replicas"], g["maxReplicas"]) for g in groups} == bounds


def test_disruptions_leave_the_head_and_the_fewest_workers(helm: Helm) -> None:
    values = {"podDisruptionBudget": {"enabled": True}, "workerGroups": {"cpu": {"replicas": 3, "minReplicas": 1}}}
    kept = {d["metadata"]["name"]: d["spec"] for d in helm.render(values) if d["kind"] == "PodDisruptionBudget"}
    assert {name: spec["minAvailable"] for name, spec in kept.items()} == {"demo-head": 1, "demo-cpu": 1}
    assert kept["demo-cpu"]["selector"]["matchLabels"]["ray.io/group"] == "cpu"


@pytest.mark.parametrize(
    ("group", "scales", "fewest"),
    [
        ({"replicas": 3}, False, 2),  # all three would keep a drain waiting for ever
        ({"replicas": 3, "minReplicas": 3}, False, 2),
        ({"replicas": 3, "minReplicas": 1}, False, 1),
        ({"replicas": 1}, False, None),
        ({"replicas": 0}, False, None),
        ({"replicas": 3, "minReplicas": 3, "maxReplicas": 5}, True, 3),
        ({"replicas": 3}, True, None),
    ],
)
def test_a_drain_gets_on(helm: Helm, group: dict[str, int], scales: bool, fewest: int | None) -> None:
    values = {"podDisruptionBudget": {"enabled": True}, "workerGroups": {"cpu": group}}
    documents = helm.render({**values, "autoscaling": {"enabled": scales}})
    kept = {d["metadata"]["name"]: d["spec"] for d in documents if d["kind"] == "PodDisruptionBudget"}
    assert kept.get("demo-cpu", {}).get("minAvailable") == fewest


@pytest.mark.parametrize(("case", "storage"), [("job-gpu", "s3://bucket/runs"), ("cluster-existing-claim", "/storage")])
def test_tensorboard_shows_the_storage(helm: Helm, case: str, storage: str) -> None:
    pod = helm.one("Deployment", CASES[case])["spec"]["template"]["spec"]
    assert pod["containers"][0]["args"][-1] == storage
    mounted = {mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]}
    assert ("/storage" in mounted) == storage.startswith("/")
    keys = [{"secretRef": {"name": "s3-keys"}}]
    assert pod["containers"][0].get("envFrom", keys) == keys


def test_a_claim_that_is_created_outlives_its_release(helm: Helm) -> None:
    claim = helm.one("PersistentVolumeClaim", JOB)
    assert claim["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]


def test_extras_reach_everything(helm: Helm) -> None:
    documents = helm.render(CASES["extras"])
    assert {"demo-proxy", "demo-more"} <= {d["metadata"]["name"] for d in documents}
    for group in ("headGroupSpec", "workerGroupSpecs"):
        template = cluster_of(documents)[group]
        template = (template if isinstance(template, dict) else template[0])["template"]
        assert template["metadata"]["labels"]["team"] == "vision"
        assert template["metadata"]["annotations"]["example.com/owner"] == "vision@example.com"
        container = template["spec"]["containers"][0]
        assert {"name": "data", "mountPath": "/data", "readOnly": True} in container["volumeMounts"]
        assert {e["name"] for e in container["env"]} >= {"HF_TOKEN", "NCCL_DEBUG", "HOME"}
        assert [c["name"] for c in template["spec"]["initContainers"]] == ["warm"]


@pytest.mark.parametrize("who", ["test", "ray-job-submitter"])
def test_extras_reach_pods_that_only_talk_to_the_head(helm: Helm, who: str) -> None:
    extras = {key: value for key, value in CASES["extras"].items() if key.startswith("extra")}
    documents = helm.render(
        {**(JOB if who == "ray-job-submitter" else {}), **extras, "storage": {"claim": {"name": "runs"}}}
    )
    (pod,) = (pod for _, pod in pod_templates(documents) if pod["containers"][0]["name"] == who)
    container = pod["containers"][0]
    assert {"name": "data", "mountPath": "/data", "readOnly": True} in container["volumeMounts"]
    assert {e["name"] for e in container["env"]} >= {"HF_TOKEN", "NCCL_DEBUG", "HOME"}
    assert container["envFrom"] == extras["extraEnvFrom"]
    assert {volume["name"] for volume in pod["volumes"]} == {"tmp", "home", "data"}  # it need not see runs


def test_braces_that_are_no_template(helm: Helm) -> None:
    assert helm.one("ConfigMap", CASES["extras"], "alerts")["data"] == {"summary": "{{ $labels.pod }} is down"}


@pytest.mark.parametrize("who", ["test", "tensorboard", "ray-job-submitter"])
def test_the_small_pods_have_a_place(helm: Helm, who: str) -> None:
    documents = helm.render(CASES["job-placed" if who == "ray-job-submitter" else "cluster-placed"])
    (pod,) = (pod for _, pod in pod_templates(documents) if pod["containers"][0]["name"] == who)
    assert {key: pod.get(key) for key in PLACED} == PLACED


def test_annotations_reach_the_test(helm: Helm) -> None:
    annotations = helm.one("Pod", CASES["cluster-placed"])["metadata"]["annotations"]
    assert annotations["sidecar.istio.io/inject"] == "false"
    assert annotations["helm.sh/hook"] == "test"


def test_the_most_particular_variable_wins(helm: Helm) -> None:
    documents = helm.render(CASES["cluster-said-twice"])
    env = {
        pod["containers"][0]["name"]: {e["name"]: e["value"] for e in pod["containers"][0]["env"] if "value" in e}
        for _, pod in pod_templates(documents)
    }
    assert {name: variables["PYTHONPATH"] for name, variables in env.items()} == {
        "ray-head": "/head",
        "ray-worker": "/cpu",
        "test": "/again",
    }
    assert {variables["HOME"] for variables in env.values()} == {"/data/home"}
    assert env["ray-head"]["RAY_JOB_STOP_WAIT_TIME_S"] == "40"  # the head's, which are more particular than all Pods'
    assert env["ray-worker"]["RAY_JOB_STOP_WAIT_TIME_S"] == "1"


def test_a_volume_of_the_values_stands_for_the_charts(helm: Helm) -> None:
    given = CASES["cluster-said-twice"]
    documents = helm.render(given)
    mounts = [
        *(pod["containers"][0]["volumeMounts"] for _, pod in pod_templates(documents)),
        cluster_of(documents)["autoscalerOptions"]["volumeMounts"],
    ]
    for found in mounts:
        assert [m for m in found if m["mountPath"].rstrip("/") in ("/tmp", "/home/tfcluster")] == given[
            "extraVolumeMounts"
        ][:2]
    for _, pod in pod_templates(documents):
        assert [v for v in pod["volumes"] if v["name"] == "tmp"] == given["extraVolumes"][:1]


def test_labels_of_the_chart_stand_over_others(helm: Helm) -> None:
    documents = helm.render(CASES["cluster-said-twice"])
    own = {"app.kubernetes.io/instance": "demo", "app.kubernetes.io/part-of": "tfcluster"}
    for document in documents:
        assert own.items() <= document["metadata"]["labels"].items(), document["kind"]
        assert document["metadata"]["labels"]["app.kubernetes.io/component"] != "training"
    release = {d["kind"]: d["metadata"]["labels"]["release"] for d in documents}
    assert (release["ServiceMonitor"], release["ConfigMap"], release["RayCluster"]) == (*["prometheus"] * 2, "other")
    (service,) = (d for d in documents if d["kind"] == "Service")
    (monitor,) = (d for d in documents if d["kind"] == "ServiceMonitor")
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()


def test_a_key_that_stands_twice_is_found() -> None:
    with pytest.raises(yaml.YAMLError, match="release stands there twice"):
        documents_of("metadata:\n  labels:\n    release: a\n    team: b\n    release: a\n")
