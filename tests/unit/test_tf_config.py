"""TF_CONFIG and addresses, there and back."""

from __future__ import annotations

import json
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.errors import SpecError
from cluster.spec_parts import StrategyName
from cluster.tasks import Task
from cluster.tf_config import join_address, make_tf_config, make_tf_configs, read_tf_config, split_address

CHIEF, PS, EVALUATOR = Task("chief", 0), Task("ps", 0), Task("evaluator", 0)
WORKERS = [Task("worker", 0), Task("worker", 1)]

hosts = st.one_of(
    st.ip_addresses(v=4).map(str),
    st.ip_addresses(v=6).map(str),
    st.from_regex(r"[a-z]([a-z0-9-]{0,10}[a-z0-9])?(\.[a-z]([a-z0-9-]{0,10}[a-z0-9])?){0,3}", fullmatch=True),
)
ports = st.integers(1, 65535)


@st.composite
def clusters(draw: st.DrawFn) -> dict[Task, str]:
    """Addresses of a possible cluster: trainers, perhaps parameter servers, perhaps an evaluator."""
    counts = {"worker": draw(st.integers(0, 5)), "ps": draw(st.integers(0, 3)), "evaluator": draw(st.integers(0, 1))}
    counts["chief"] = 1 if counts["worker"] == 0 else draw(st.integers(0, 1))
    tasks = [Task(role, index) for role, count in counts.items() for index in range(count)]  # type: ignore[arg-type]
    places = draw(st.lists(st.tuples(hosts, ports), min_size=len(tasks), max_size=len(tasks), unique=True))
    shuffled = draw(st.permutations(tasks))
    return dict(zip(shuffled, (join_address(*place) for place in places), strict=True))


@given(hosts, ports)
def test_addresses_round_trip(host: str, port: int) -> None:
    assert split_address(join_address(host, port)) == (host, port)


@given(st.text(max_size=20))
def test_splitting_gives_an_address_back_or_a_spec_error(text: str) -> None:
    try:
        host, port = split_address(text)
    except SpecError:
        return
    assert join_address(host, port).rpartition(":")[0] == text.rpartition(":")[0]
    assert 1 <= port <= 65535


def test_an_ipv6_host_stands_in_brackets() -> None:
    assert join_address("fd00::2", 2222) == "[fd00::2]:2222"
    assert join_address("[fd00::2]", 2222) == "[fd00::2]:2222"
    assert join_address("fe80::1%eth0", 2222) == "[fe80::1%eth0]:2222"
    assert split_address("[fd00::2]:2222") == ("fd00::2", 2222)
    assert join_address("10.0.0.1", 2222) == "10.0.0.1:2222"


@pytest.mark.parametrize("host", ["", "a b", "a/b", "[::1", "::1]", "::g", "user@host", "a\n", "1:2"])
def test_what_is_no_host(host: str) -> None:
    with pytest.raises(SpecError, match=r"not a host · .* · give an IP address or a host name"):
        join_address(host, 1)


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_what_is_no_port(port: int) -> None:
    with pytest.raises(SpecError, match=rf"not a port · {port} · give a number from 1 to 65535"):
        join_address("host", port)


@pytest.mark.parametrize(
    "text",
    ["", "host", "host:", ":1", "::1:2222", "fd00::2:2222", "[host]:1", "host:x", "host:-1", "h:\u0661", "h:1:2"],
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(SpecError, match=r"not an address · .* · write it host:port, or \[host\]:port for IPv6"):
        split_address(text)


def test_workers_without_a_chief() -> None:
    addresses = {WORKERS[1]: "b:2", WORKERS[0]: "a:1"}
    assert make_tf_config(WORKERS[1], addresses, "multi_worker_mirrored") == {
        "cluster": {"worker": ["a:1", "b:2"]},
        "task": {"type": "worker", "index": 1},
    }


def test_parameter_servers_with_their_coordinator() -> None:
    addresses = {PS: "d:4", CHIEF: "a:1", WORKERS[0]: "b:2", WORKERS[1]: "c:3"}
    config = make_tf_config(PS, addresses, "parameter_server")
    assert config == {
        "cluster": {"chief": ["a:1"], "worker": ["b:2", "c:3"], "ps": ["d:4"]},
        "task": {"type": "ps", "index": 0},
    }


@pytest.mark.parametrize("strategy", ["none", "mirrored"])
@pytest.mark.parametrize("task", [CHIEF, WORKERS[0]])
def test_a_task_that_trains_alone_gets_none(task: Task, strategy: StrategyName) -> None:
    assert make_tf_config(task, {task: "a:1"}, strategy) is None
    assert make_tf_config(task, {}, strategy) is None


@pytest.mark.parametrize("strategy", ["multi_worker_mirrored", "custom"])
def test_a_single_worker_of_a_cluster_strategy_gets_one(strategy: StrategyName) -> None:
    config = make_tf_config(WORKERS[0], {WORKERS[0]: "a:1"}, strategy)
    assert config == {"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 0}}


def test_the_evaluator_is_in_its_own_tf_config_only() -> None:
    addresses = {CHIEF: "a:1", WORKERS[0]: "b:2", PS: "c:3", EVALUATOR: "d:4"}
    configs = make_tf_configs(addresses, addresses, "parameter_server")
    training = {"chief": ["a:1"], "worker": ["b:2"], "ps": ["c:3"]}
    for task in (CHIEF, WORKERS[0], PS):
        config = configs[task]
        assert config is not None
        assert config["cluster"] == training
    assert configs[EVALUATOR] == {
        "cluster": {**training, "evaluator": ["d:4"]},
        "task": {"type": "evaluator", "index": 0},
    }


def test_an_evaluator_without_an_address_sees_the_training_cluster() -> None:
    config = make_tf_config(EVALUATOR, {WORKERS[0]: "a:1"}, "multi_worker_mirrored")
    assert config == {"cluster": {"worker": ["a:1"]}, "task": {"type": "evaluator", "index": 0}}


@pytest.mark.parametrize("addresses", [{}, {WORKERS[0]: "a:1"}])
def test_the_evaluator_of_a_lone_task_still_learns_its_role(addresses: dict[Task, str]) -> None:
    config = make_tf_config(EVALUATOR, addresses, "none")
    assert config == {"cluster": {}, "task": {"type": "evaluator", "index": 0}}


@pytest.mark.parametrize(
    ("task", "addresses", "sentence"),
    [
        (WORKERS[1], {WORKERS[1]: "a:1"}, r"the indices of role worker have holes · \[1\]"),
        (WORKERS[0], {WORKERS[0]: "a:1", Task("worker", 2): "b:1"}, r"role worker have holes · \[0, 2\]"),
        (WORKERS[1], {WORKERS[0]: "a:1"}, r"a task has no address · worker-1"),
        (CHIEF, {WORKERS[0]: "a:1"}, r"a task has no address · chief-0"),
        (WORKERS[0], {WORKERS[0]: "a:1", WORKERS[1]: "a:1"}, r"several tasks have the same address · a:1"),
        (PS, {PS: "a:1"}, r"the cluster has no training task"),
        (CHIEF, {CHIEF: "a:1", Task("chief", 1): "b:1"}, r"at most one chief · a:1, b:1"),
        (EVALUATOR, {}, r"the cluster has no training task"),
    ],
)
def test_addresses_that_make_no_cluster(task: Task, addresses: dict[Task, str], sentence: str) -> None:
    with pytest.raises(SpecError, match=sentence):
        make_tf_config(task, addresses, "custom")


@given(clusters())
def test_tf_config_round_trips(addresses: dict[Task, str]) -> None:
    strategy: StrategyName = "parameter_server" if PS in addresses else "multi_worker_mirrored"
    trainers = {task: address for task, address in addresses.items() if task != EVALUATOR}
    for task, config in make_tf_configs(addresses, addresses, strategy).items():
        assert config is not None
        seen = addresses if task == EVALUATOR else trainers
        assert read_tf_config(json.dumps(config)) == (task, seen)
        assert make_tf_config(task, addresses, strategy) == config


def cluster(task: object = None, **roles: object) -> str:
    return json.dumps({"cluster": roles, "task": task or {"type": "worker", "index": 0}})


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", r"TF_CONFIG is not valid JSON"),
        ("{'cluster': {}}", r"TF_CONFIG is not valid JSON"),
        ("[]", r"TF_CONFIG has no cluster · \[\] · write it like"),
        ('{"task": {"type": "worker", "index": 0}}', r"TF_CONFIG has no cluster"),
        ('{"cluster": {"worker": ["a:1"]}}', r"TF_CONFIG has no task"),
        (
            cluster({"type": "master", "index": 0}, worker=["a:1"]),
            r"unknown type · 'master' · TensorFlow 2 calls it chief",
        ),
        (cluster({"type": "wroker", "index": 0}, worker=["a:1"]), r"unknown type · 'wroker' · use chief, worker, ps"),
        (cluster({"type": ["worker"], "index": 0}, worker=["a:1"]), r"unknown type · \['worker'\]"),
        (cluster({"type": "worker"}, worker=["a:1"]), r"task has no index · None"),
        (cluster({"type": "worker", "index": "0"}, worker=["a:1"]), r"task has no index · '0'"),
        (cluster({"type": "worker", "index": -1}, worker=["a:1"]), r"task has no index · -1"),
        (cluster({"type": "worker", "index": True}, worker=["a:1"]), r"task has no index · True"),
        (cluster({"type": "worker", "index": 1}, worker=["a:1"]), r"task is not in its cluster · worker-1"),
        (cluster({"type": "chief", "index": 0}, worker=["a:1"]), r"task is not in its cluster · chief-0"),
        (cluster(master=["a:1"]), r"unknown role · 'master'"),
        (cluster(worker="a:1"), r"cluster.worker is not a list of addresses"),
        (cluster(worker={"0": "a:1"}), r"cluster.worker is not a list of addresses"),
        (cluster(worker=[1]), r"cluster.worker is not a list of addresses"),
        (cluster(worker=["a"]), r"not an address · 'a'"),
        (cluster(worker=["::1:2222"]), r"not an address"),
        (cluster(worker=["a:1", "a:1"]), r"several tasks have the same address · a:1"),
        (cluster(worker=["a:1"], evaluator=["a:2"]), r"an evaluator is in the cluster of a training task · a:2"),
        (cluster(worker=["a:1"], chief=["b:1", "c:1"]), r"a cluster has at most one chief"),
        (
            cluster({"type": "evaluator", "index": 0}, worker=["a:1"], evaluator=["b:1", "c:1"]),
            r"a job has at most one evaluator · 2",
        ),
        (cluster({"type": "evaluator", "index": 0}, ps=["a:1"]), r"the cluster has no training task"),
        (cluster({"type": "evaluator", "index": 0}, worker=["a:1"], evaluator=["a:1"]), r"same address · a:1"),
    ],
)
def test_malformed_tf_config(text: str, sentence: str) -> None:
    with pytest.raises(SpecError, match=sentence):
        read_tf_config(text)


def test_a_thousand_tasks_share_one_cluster() -> None:
    addresses = {Task("worker", i): join_address(str(IPv4Address(0x0A000000 + i)), 2222) for i in range(500)}
    addresses |= {Task("ps", i): join_address(str(IPv6Address(2**120 + i)), 2222) for i in range(500)}
    configs = make_tf_configs(addresses, addresses, "custom")
    assert len({id(config["cluster"]) for config in configs.values() if config}) == 1
