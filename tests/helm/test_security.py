"""Nothing that the chart renders runs as root, writes where it need not, holds an unused token or shows a secret."""

from __future__ import annotations

from typing import Any

import pytest

from tests.helm.cases import CASES, EGRESS
from tests.helm.charts import Document, Helm, cluster_of, pod_templates

every_case = pytest.mark.parametrize("case", CASES)
TOKEN = "/var/run/secrets/kubernetes.io/serviceaccount"


def containers(pod: Document) -> list[Document]:
    return [*pod["containers"], *pod.get("initContainers", [])]


@every_case
def test_pods_are_restricted(helm: Helm, case: str) -> None:
    """The Pod Security Standard `restricted`, and more."""
    found = list(pod_templates(helm.render(CASES[case])))
    assert found or case == "job-on-a-cluster-working-dir"  # KubeRay itself hands it over
    for place, pod in found:
        context = pod["securityContext"]
        assert context["runAsNonRoot"] is True, place
        assert context["runAsUser"] > 0, place
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}, place
        assert not {"hostNetwork", "hostPID", "hostIPC", "hostUsers"} & set(pod), place
        assert not any("hostPath" in volume for volume in pod.get("volumes", [])), place
        assert pod["automountServiceAccountToken"] is False, place
        for container in containers(pod):
            rights = container["securityContext"]
            assert rights["allowPrivilegeEscalation"] is False, place
            assert rights["readOnlyRootFilesystem"] is True, place
            assert rights["capabilities"] == {"drop": ["ALL"]}, place
            assert not any("hostPort" in port for port in container.get("ports", [])), place


@every_case
def test_containers_say_what_they_take(helm: Helm, case: str) -> None:
    for place, pod in pod_templates(helm.render(CASES[case])):
        for container in containers(pod):
            for kind in ("limits", "requests"):
                assert {"cpu", "memory"} <= set(container["resources"][kind]), (place, container["name"])


@every_case
def test_what_is_mounted_is_there(helm: Helm, case: str) -> None:
    for place, pod in pod_templates(helm.render(CASES[case])):
        volumes = [volume["name"] for volume in pod.get("volumes", [])]
        assert len(set(volumes)) == len(volumes), place
        for container in containers(pod):
            mounts = container.get("volumeMounts", [])
            assert {mount["name"] for mount in mounts} <= set(volumes), place
            assert len({mount["mountPath"] for mount in mounts}) == len(mounts), place
            home = next((e["value"] for e in container.get("env", []) if e["name"] == "HOME"), None)
            if home is not None and case != "cluster-said-twice":
                assert {"/tmp", home} <= {mount["mountPath"] for mount in mounts}, place


@every_case
def test_nothing_stands_twice_in_a_pod(helm: Helm, case: str) -> None:
    """These lists are maps to the API server, which refuses them."""
    documents = helm.render(CASES[case])
    for place, pod in pod_templates(documents):
        assert_distinct(place, "name", containers(pod))
        assert_distinct(place, "name", pod.get("volumes", []))
        for container in containers(pod):
            assert_distinct(place, "name", container.get("env", []))
            assert_distinct(place, "mountPath", container.get("volumeMounts", []))
    if any("autoscalerOptions" in str(document) for document in documents):
        options = cluster_of(documents)["autoscalerOptions"]
        assert_distinct("autoscaler", "name", options["env"])
        assert_distinct("autoscaler", "mountPath", options["volumeMounts"])


def assert_distinct(place: str, key: str, items: list[Document]) -> None:
    found = [item[key].rstrip("/") for item in items]
    assert len(set(found)) == len(found), (place, key, found)


@every_case
def test_only_the_autoscaler_has_a_token_of_the_api_server(helm: Helm, case: str) -> None:
    documents = helm.render(CASES[case])
    assert not [d for d in documents if d["kind"] in ("Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding")]
    holders = []
    for place, pod in pod_templates(documents):
        tokens = {v["name"] for v in pod["volumes"] if any("serviceAccountToken" in s for s in sources(v))}
        holders += [place for c in containers(pod) for m in c.get("volumeMounts", []) if m["name"] in tokens]
        scales = bool(CASES[case].get("autoscaling", {}).get("enabled")) and "headGroupSpec" in place
        assert bool(tokens) == scales, place
    assert not holders


def sources(volume: Document) -> list[Any]:
    return list(volume.get("projected", {}).get("sources", []))


@pytest.mark.parametrize("case", ["cluster-everything", "cluster-autoscaler-v1"])
def test_the_autoscaler_reads_its_token_and_is_restricted(helm: Helm, case: str) -> None:
    options = cluster_of(helm.render(CASES[case]))["autoscalerOptions"]
    assert {"name": "api-token", "mountPath": TOKEN, "readOnly": True} in options["volumeMounts"]
    assert options["securityContext"]["readOnlyRootFilesystem"] is True
    assert options["securityContext"]["capabilities"] == {"drop": ["ALL"]}


@every_case
def test_secrets_are_named_and_not_written(helm: Helm, case: str) -> None:
    documents = helm.render(CASES[case])
    assert not [d for d in documents if d["kind"] == "Secret"]
    for _, pod in pod_templates(documents):
        for container in containers(pod):
            for variable in container.get("env", []):
                if "TOKEN" in variable["name"] or "PASSWORD" in variable["name"]:
                    assert "secretKeyRef" in variable["valueFrom"]


@every_case
def test_services_stay_inside(helm: Helm, case: str) -> None:
    for document in helm.render(CASES[case]):
        if document["kind"] == "Service":
            assert document["spec"].get("type", "ClusterIP") == "ClusterIP"
        assert document["kind"] not in ("Ingress", "HTTPRoute", "Route")


def test_clients_of_ray_need_a_token(helm: Helm) -> None:
    assert cluster_of(helm.render({}))["authOptions"] == {"mode": "token"}
    assert cluster_of(helm.render(CASES["job"]))["authOptions"] == {"mode": "token"}
    assert "authOptions" not in cluster_of(helm.render(CASES["cluster-open"]))


def allowed(policies: list[Document], labels: dict[str, str]) -> dict[str, set[int | None]]:
    """Ports that the policies over a Pod with these labels open, by who may come; None is every port."""
    rules: dict[str, set[int | None]] = {}
    for policy in policies:
        selector = policy["spec"]["podSelector"]
        matches = selector.get("matchLabels", {}).items() <= labels.items() and all(
            labels.get(e["key"]) in e["values"] for e in selector.get("matchExpressions", [])
        )
        for rule in policy["spec"].get("ingress", []) if matches else []:
            for peer in rule["from"]:
                space = peer.get("namespaceSelector", {}).get("matchLabels", {}).get("kubernetes.io/metadata.name", "")
                pods = peer.get("podSelector", {})
                components = [v for e in pods.get("matchExpressions", []) for v in e["values"]]
                who = (
                    f"{space}/{','.join(components) or pods.get('matchLabels', {}).get('app.kubernetes.io/name', '*')}"
                )
                rules.setdefault(who, set()).update(port["port"] for port in rule.get("ports", [{"port": None}]))
    return rules


def test_only_who_must_reaches_the_head(helm: Helm) -> None:
    labels = {"app.kubernetes.io/instance": "demo", "app.kubernetes.io/part-of": "tfcluster"}
    documents = helm.render(CASES["cluster-everything"])
    policies = [d for d in documents if d["kind"] == "NetworkPolicy"]
    head = allowed(policies, {**labels, "app.kubernetes.io/component": "head"})
    worker = allowed(policies, {**labels, "app.kubernetes.io/component": "worker"})
    board = allowed(policies, {**labels, "app.kubernetes.io/component": "tensorboard"})
    metrics = {"monitoring/*": {8080, 44217, 44227}}
    assert worker == {"/head,worker": {None}, **metrics}
    assert head == {
        **worker,
        "kuberay-system/kuberay-operator": {8265},
        "/submitter,test": {8265},
        "notebooks/*": {8265, 6379, 10001},
    }
    assert board == {"notebooks/*": {6006}}


def test_nobody_reaches_tensorboard_unless_told(helm: Helm) -> None:
    policies = [d for d in helm.render(CASES["job-gpu"]) if d["kind"] == "NetworkPolicy"]
    board = [p for p in policies if p["metadata"]["name"] == "demo-tensorboard"]
    assert len(board) == 1
    assert board[0]["spec"]["ingress"] == []
    assert board[0]["spec"]["policyTypes"] == ["Ingress"]


def peers_of(rule: Document) -> list[tuple[dict[str, str], set[int]]]:
    """Labels of the Pods that a rule of egress lets out to, and their ports; no ports are all."""
    ports = {port["port"] for port in rule.get("ports", [])}
    return [(peer["podSelector"]["matchLabels"], ports) for peer in rule.get("to", []) if "podSelector" in peer]


@pytest.mark.parametrize("case", ["cluster-egress", "job-egress", "job-on-a-cluster-egress"])
def test_what_goes_out_is_listed_for_all_pods(helm: Helm, case: str) -> None:
    documents = helm.render(CASES[case])
    out = [d["spec"] for d in documents if d["kind"] == "NetworkPolicy" and "Egress" in d["spec"]["policyTypes"]]
    assert len(out) == 1
    own = {"app.kubernetes.io/instance": "demo", "app.kubernetes.io/part-of": "tfcluster"}
    assert out[0]["podSelector"] == {"matchLabels": own}
    pods = [labels for document in documents for labels in pod_labels(document)]
    components = {"cluster-egress": {"head", "worker", "tensorboard", "test"}, "job-egress": {"head", "worker"}}
    expected = components.get(case, {"tensorboard"}) | ({"submitter"} if case.startswith("job") else set())
    assert {labels["app.kubernetes.io/component"] for labels in pods} == expected
    assert all(own.items() <= labels.items() for labels in pods)
    peers = [peer for rule in out[0]["egress"] for peer in peers_of(rule)]
    team: dict[str, str] = {"ray.io/cluster": "team", "ray.io/node-type": "head"}
    assert peers == [(own, set()), *([(team, {8265})] if "on-a-cluster" in case else [])]
    assert {"ports": [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}]} in out[0]["egress"]
    assert out[0]["egress"][-1] == EGRESS[0]


def pod_labels(value: Any) -> list[dict[str, str]]:
    """Labels of all Pods and Pod templates in it."""
    if isinstance(value, list):
        return [found for part in value for found in pod_labels(part)]
    if not isinstance(value, dict):
        return []
    spec = value.get("spec")
    own = [value["metadata"]["labels"]] if isinstance(spec, dict) and "containers" in spec else []
    return own + [found for part in value.values() for found in pod_labels(part)]


def test_every_pod_is_under_a_policy(helm: Helm) -> None:
    documents = helm.render(CASES["cluster-everything"])
    covered = set()
    for policy in documents:
        if policy["kind"] == "NetworkPolicy":
            selector = policy["spec"]["podSelector"]
            covered |= {v for e in selector.get("matchExpressions", []) for v in e["values"]}
            covered |= {selector["matchLabels"].get("app.kubernetes.io/component")}
    assert {"head", "worker", "tensorboard"} <= covered
