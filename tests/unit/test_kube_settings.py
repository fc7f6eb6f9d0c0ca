"""Settings for Kubernetes: read, merged, and what is wrong with them said at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.errors import SpecError
from cluster.kube_settings import CHART_ONLY, GROUP_DEFAULTS, Resources, Settings, merged, parse, with_values

CHART = Path(__file__).parents[2] / "deploy" / "helm" / "tfcluster" / "values.yaml"


def chart_values() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(CHART.read_text("utf-8"))
    return document


def test_the_charts_own_values_are_settings() -> None:
    """One file serves `helm install` and `submit`; what only the chart knows is passed over."""
    values = {key: value for key, value in chart_values().items() if key not in ("job", "files")}
    assert parse(values).workerGroups["cpu"].replicas == 2


def test_defaults_are_those_of_the_chart() -> None:
    values, settings = chart_values(), Settings().model_dump()
    for key in ("podSecurityContext", "securityContext", "home", "auth", "queue", "extraEnv", "runtimeEnv"):
        assert settings[key] == values[key], key
    assert settings["head"]["resources"] == values["head"]["resources"]
    submitter = Settings().rayJob.submitter.model_dump()
    assert submitter == {**submitter, **values["rayJob"]["submitter"]}
    assert values["workerGroups"] == GROUP_DEFAULTS
    assert Settings().storage.mountPath == values["storage"]["mountPath"]
    assert {*values} - {*settings} - {*CHART_ONLY} == {"job", "files"}


@pytest.mark.parametrize(
    ("text", "repository", "tag", "digest"),
    [
        ("ray", "ray", "", ""),
        ("ray:1", "ray", "1", ""),
        ("host:5000/team/ray", "host:5000/team/ray", "", ""),
        ("host:5000/team/ray:1.2", "host:5000/team/ray", "1.2", ""),
        (f"host/ray@sha256:{'0' * 64}", "host/ray", "", f"sha256:{'0' * 64}"),
        (f"host/ray:1@sha256:{'0' * 64}", "host/ray", "1", f"sha256:{'0' * 64}"),
    ],
)
def test_an_image_as_one_word(text: str, repository: str, tag: str, digest: str) -> None:
    image = parse({"image": text}).image
    assert (image.repository, image.tag, image.digest) == (repository, tag, digest)


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"imgae": "x"}, "unknown key imgae; did you mean image?"),
        ({"storage": {"url": "s3://b"}}, "unknown key storage.url; did you mean uri?"),
        ({"storage": {"claim": {"nme": "x"}}}, "unknown key storage.claim.nme; did you mean name?"),
        ({"workerGroups": {"gpu": {"replica": 1}}}, "unknown key workerGroups.gpu.replica; did you mean replicas?"),
        ({"rayJob": {"submitter": {"resource": {}}}}, "unknown key rayJob.submitter.resource; did you mean resources?"),
        ({"job": {"entrypoint": "x"}}, "unknown key job"),
        ({"rayJob": {"submissionMode": "HTTPMode"}}, "rayJob.submissionMode: should be 'K8sJobMode'"),
        ({"queue": {"scheduler": "kue"}}, "did you mean kueue?"),
        ({"head": {"gpus": "two"}}, "head.gpus: should be a whole number"),
        ({"image": {"digest": "latest"}}, "image.digest"),
    ],
)
def test_what_is_wrong(document: dict[str, Any], said: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse(document, "platform.yaml")
    assert said in str(caught.value)
    assert "platform.yaml" in str(caught.value)


def test_every_problem_at_once() -> None:
    with pytest.raises(SpecError) as caught:
        parse({"imgae": "x", "head": {"gpus": -1}})
    assert str(caught.value).count("\n  - ") == 2


def test_merging_as_helm_does() -> None:
    below = {"head": {"nodeSelector": {"pool": "small"}, "env": [1]}, "image": "a:0"}
    above = {"head": {"nodeSelector": {"zone": "b"}, "env": [2]}, "image": {"tag": "1"}}
    assert merged(below, above) == {
        "head": {"nodeSelector": {"pool": "small", "zone": "b"}, "env": [2]},
        "image": {"repository": "a", "tag": "1"},
    }


def test_settings_stand_over_the_charts_maps() -> None:
    settings = parse({
        "podSecurityContext": {"runAsUser": 2000, "fsGroup": None},
        "head": {"resources": {"requests": {"memory": "1Gi"}, "limits": {"cpu": None}}},
        "rayJob": {"submitter": {"resources": {"limits": {"memory": "2Gi"}}}},
        "workerGroups": {"cpu": {"resources": {"limits": {"memory": "8Gi"}}}, "gpu": None},
    })  # fmt: skip
    defaults = Settings()
    kept = {key: value for key, value in defaults.podSecurityContext.items() if key != "fsGroup"}
    assert settings.podSecurityContext == {**kept, "runAsUser": 2000}
    assert settings.securityContext == defaults.securityContext
    assert settings.head.resources == Resources(requests={"cpu": "1", "memory": "1Gi"}, limits={"memory": "4Gi"})
    assert settings.rayJob.submitter.resources.limits == {"cpu": "1", "memory": "2Gi"}
    group = settings.workerGroups["cpu"]
    assert group is not None
    own = Resources(requests={"cpu": "2", "memory": "4Gi"}, limits={"cpu": "2", "memory": "8Gi"})
    assert (group.replicas, group.resources, settings.workerGroups["gpu"]) == (2, own, None)


def test_null_takes_a_map_away_and_is_no_value() -> None:
    settings = parse({"podSecurityContext": None, "storage": {"uri": None}, "head": {"nodeSelector": None}})
    assert (settings.podSecurityContext, settings.storage.uri, settings.head.nodeSelector) == ({}, "", {})
    assert parse(merged({"podSecurityContext": None}, {"podSecurityContext": {"runAsUser": 1}})).podSecurityContext[
        "runAsNonRoot"
    ]


@pytest.mark.parametrize(
    "document",
    [
        {"head": None, "rayJob": None, "workerGroups": None},
        {"head": {"resources": None}, "rayJob": {"submitter": None}},
        {"rayJob": {"submitter": {"resources": None}}, "storage": None, "auth": None, "extraEnv": None},
    ],
)
def test_a_part_with_nothing_in_it_is_as_good_as_none(document: dict[str, Any]) -> None:
    """As YAML has it where all that stands below a key is comments."""
    assert parse(document) == Settings()


def test_a_group_without_resources_is_made_from_the_roles() -> None:
    group = parse({"workerGroups": {"cpu": {"nodeSelector": {"pool": "a"}, "resources": None}}}).workerGroups["cpu"]
    assert group is not None
    assert (group.replicas, group.resources) == (None, None)
    assert parse({}).workerGroups == {}


def test_an_image_in_one_word_replaces_all_of_another() -> None:
    below = {"image": {"repository": "a", "digest": f"sha256:{'0' * 64}", "pullPolicy": "Always"}}
    image = parse(merged(below, {"image": "b:1"})).image
    assert (image.repository, image.tag, image.digest, image.pullPolicy) == ("b", "1", "", "Always")
    assert parse(merged({"image": "a:1"}, {"image": {"tag": "2"}})).image.repository == "a"


def test_values_of_the_command_line() -> None:
    document = with_values(
        {"rayJob": {"backoffLimit": 1}},
        ["rayJob.suspend=true", r"head.nodeSelector.kubernetes\.io/arch=arm64", "head.gpus=2", "image=a:2"],
    )
    assert document["rayJob"] == {"backoffLimit": 1, "suspend": True}
    assert document["head"] == {"nodeSelector": {"kubernetes.io/arch": "arm64"}, "gpus": 2}
    assert parse(document).image.tag == "2"


@pytest.mark.parametrize("assignment", ["rayJob.suspend", "=1", "a..b=1", "a={"])
def test_values_that_are_none(assignment: str) -> None:
    with pytest.raises(SpecError, match="--set has no"):
        with_values({}, [assignment])


def test_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "platform.yaml"
    file.write_text("image: registry/ray:1\nnamespace: ml\n")
    assert Settings.of(file).namespace == "ml"
    assert Settings.of(str(file)).image.tag == "1"
    monkeypatch.setenv("TFCLUSTER_PLATFORM", str(file))
    assert Settings.of(True).image.repository == "registry/ray"
    over = Settings.of({"namespace": "other"})
    assert (over.namespace, over.image.tag) == ("other", "1")
    assert Settings.of(over) is over


@pytest.mark.parametrize(
    ("text", "said"), [("- a", "not a mapping"), ("a: [", "not valid YAML"), (None, "cannot be read")]
)
def test_a_file_that_is_wrong(tmp_path: Path, text: str | None, said: str) -> None:
    file = tmp_path / "platform.yaml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(SpecError, match=said):
        Settings.of(file)
