"""Two clusters in one release, by a chart of which this one is a part twice: neither takes the other's Pods."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.helm.cases import JOB, S3, TEXT, WATCHED
from tests.helm.charts import CHART, Document, Helm, documents_of
from tests.helm.test_security import pod_labels

CLUSTER: dict[str, Any] = {**WATCHED, "storage": S3, "monitoring": {"enabled": True, "kind": "ServiceMonitor"}}
SELECTORS = {"selector", "podSelector"}
OF_KUBERAY = {"ray.io/is-ray-node", "ray.io/group"}  # labels that it sets


@pytest.fixture(scope="module")
def umbrella(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A chart with this one in it twice."""
    chart = tmp_path_factory.mktemp("umbrella") / "platform"
    shutil.copytree(CHART, chart / "charts" / "tfcluster")
    parts = [{"name": "tfcluster", "version": "0.1.0", "alias": a, "condition": f"{a}.enabled"} for a in ("one", "two")]
    about = {"apiVersion": "v2", "name": "platform", "version": "1.0.0", "dependencies": parts}
    (chart / "Chart.yaml").write_text(yaml.safe_dump(about))
    return chart


def rendered(helm: Helm, chart: Path, one: dict[str, Any], two: dict[str, Any]) -> dict[str, list[Document]]:
    """The objects of each part."""
    text = helm.run("template", "ml", str(chart), "--namespace", "ml", values={"one": one, "two": two})
    found: dict[str, list[Document]] = {"one": [], "two": []}
    for document in documents_of(text):
        own = document["metadata"]["labels"]["app.kubernetes.io/instance"]
        found["two" if "two" in own or "speech" in own else "one"].append(document)
    return found


def selectors(value: Any) -> Iterator[dict[str, str]]:
    """Labels of everything in it that selects Pods of a cluster by its name."""
    for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from selectors(part)
    for key in SELECTORS & set(value if isinstance(value, dict) else ()):
        labels = value[key].get("matchLabels", value[key])
        if "app.kubernetes.io/instance" in labels:
            yield {name: text for name, text in labels.items() if name not in OF_KUBERAY}


@pytest.mark.parametrize("names", [("vision", "speech"), ("", "")])
def test_neither_selects_what_is_the_others(helm: Helm, umbrella: Path, names: tuple[str, str]) -> None:
    one, two = ({**CLUSTER, "fullnameOverride": name} for name in names)
    parts = rendered(helm, umbrella, one, two)
    pods = {part: [labels for d in documents for labels in pod_labels(d)] for part, documents in parts.items()}
    for mine, other in (("one", "two"), ("two", "one")):
        kinds = {d["kind"] for d in parts[mine] if list(selectors(d.get("spec", {})))}
        assert kinds == {"Deployment", "NetworkPolicy", "PodDisruptionBudget", "Service", "ServiceMonitor"}
        for document in parts[mine]:
            for labels in selectors(document):
                assert not any(labels.items() <= pod.items() for pod in pods[other]), (document["kind"], labels)
        assert len(pods[mine]) == 4
    every = [(d["kind"], d["metadata"]["name"]) for documents in parts.values() for d in documents]
    assert len(set(every)) == len(every)
    expected = names if all(names) else ("ml-one", "ml-two")
    assert {name for kind, name in every if kind == "RayCluster"} == set(expected)


def test_a_part_is_left_out_by_its_condition(helm: Helm, umbrella: Path) -> None:
    parts = rendered(helm, umbrella, {"enabled": True}, {"enabled": False, **JOB})
    assert [d["metadata"]["name"] for d in parts["one"] if d["kind"] == "RayCluster"] == ["ml-one"]
    assert parts["two"] == []


@pytest.mark.parametrize("job", [JOB["job"], TEXT])
def test_a_cluster_and_a_job_in_one_release(helm: Helm, umbrella: Path, job: object) -> None:
    parts = rendered(helm, umbrella, {"fullnameOverride": "vision"}, {**JOB, "job": job, "fullnameOverride": "speech"})
    assert {d["kind"] for d in parts["one"]} & {"RayCluster", "RayJob"} == {"RayCluster"}
    assert {d["kind"] for d in parts["two"]} & {"RayCluster", "RayJob"} == {"RayJob"}
