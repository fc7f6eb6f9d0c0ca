"""Under the policies that the documentation gives, Pods of submitted jobs meet, and nobody else reaches them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.kube_job import Code, ray_job
from cluster.kube_settings import parse
from cluster.spec import parse as parse_spec
from tests.helm.cases import S3
from tests.helm.charts import Document
from tests.helm.test_renders import KUBERNETES

PAGE = Path(__file__).parents[2] / "docs" / "kubernetes.md"
SPEC = {"script": ["a.py"], "strategy": "multi_worker_mirrored", "roles": {"worker": 2}}
STRANGER = {"app.kubernetes.io/name": "web", "app.kubernetes.io/component": "head"}
DNS = [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}]


@pytest.fixture(scope="module")
def policies() -> list[Document]:
    section = PAGE.read_text("utf-8").partition("\n### Network\n")[2].partition("\n## ")[0]
    return [d for block in re.findall(r"^```yaml\n(.*?)^```", section, re.M | re.S) for d in yaml.safe_load_all(block)]


@pytest.fixture(scope="module")
def pods() -> dict[str, dict[str, str]]:
    """Labels of a submitted job's Pods, by what they are."""
    job = ray_job("flights-3fa2b1", "x", parse_spec(SPEC), parse({"storage": S3}), Code(("true",)))["spec"]
    cluster = job["rayClusterSpec"]
    templates = {
        "head": cluster["headGroupSpec"]["template"],
        "worker": cluster["workerGroupSpecs"][0]["template"],
        "submitter": job["submitterPodTemplate"],
    }
    return {name: template["metadata"]["labels"] for name, template in templates.items()} | {"stranger": STRANGER}


def selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    return selector.get("matchLabels", {}).items() <= labels.items() and all(
        e["operator"] == "In" and labels.get(e["key"]) in e["values"] for e in selector.get("matchExpressions", [])
    )


def ports(
    policies: list[Document], source: dict[str, str], target: dict[str, str], namespace: str | None = None
) -> set[int | None]:
    """Ports of `target` that are open to `source`, a Pod of the same or of another namespace; None is every port."""
    return {
        port["port"]
        for policy in policies
        if "Ingress" in policy["spec"]["policyTypes"] and selects(policy["spec"]["podSelector"], target)
        for rule in policy["spec"]["ingress"]
        for peer in rule["from"]
        if selects(peer["podSelector"], source)
        if peer.get("namespaceSelector", {}).get("matchLabels", {}).get("kubernetes.io/metadata.name") == namespace
        for port in rule.get("ports", [{"port": None}])
    }


@pytest.mark.parametrize("version", KUBERNETES)
def test_kubernetes_takes_them(policies: list[Document], version: str) -> None:
    kubernetes_validate = pytest.importorskip("kubernetes_validate", reason="pip install kubernetes-validate")
    assert [policy["kind"] for policy in policies] == ["NetworkPolicy"] * 3
    for policy in policies:
        kubernetes_validate.validate(policy, version, strict=True)


@pytest.mark.parametrize(
    ("source", "target", "open_ports"),
    [
        ("head", "worker", {None}),
        ("worker", "head", {None}),
        ("worker", "worker", {None}),
        ("submitter", "head", {8265}),
        ("submitter", "worker", set()),
        ("worker", "submitter", set()),
        ("stranger", "head", set()),
        ("stranger", "worker", set()),
    ],
)
def test_who_reaches_whom(
    policies: list[Document], pods: dict[str, dict[str, str]], source: str, target: str, open_ports: set[int | None]
) -> None:
    assert ports(policies, pods[source], pods[target]) == open_ports
    assert ports(policies, pods[source], pods[target], "other") == set()


def test_the_operator_asks_the_head(policies: list[Document], pods: dict[str, dict[str, str]]) -> None:
    operator = {"app.kubernetes.io/name": "kuberay-operator"}
    assert ports(policies, operator, pods["head"], "kuberay-system") == {8265}
    assert ports(policies, operator, pods["head"], "other") == set()
    assert ports(policies, operator, pods["worker"], "kuberay-system") == set()


@pytest.mark.parametrize("pod", ["head", "worker", "submitter"])
def test_what_they_reach(policies: list[Document], pods: dict[str, dict[str, str]], pod: str) -> None:
    (out,) = (policy["spec"] for policy in policies if policy["spec"]["policyTypes"] == ["Egress"])
    assert selects(out["podSelector"], pods[pod])
    peers, names, storage = out["egress"]
    assert all(selects(peers["to"][0]["podSelector"], pods[name]) for name in ("head", "worker"))
    assert not selects(peers["to"][0]["podSelector"], STRANGER)
    assert (names, storage) == ({"ports": DNS}, {"ports": [{"protocol": "TCP", "port": 443}]})
