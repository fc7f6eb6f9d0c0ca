# ruff: noqa: E501 - in the tables a line is a case
"""Plans: bundles, nodes, TF_CONFIG, and every finding at once."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from cluster.errors import PreflightError
from cluster.placement import LOCAL
from cluster.plan import DataFacts, Facts, Finding, Node, Plan, make_plan
from cluster.spec import JobSpec, parse

GIB = 2.0**30
INSTALLED = {"tensorflow": "2.17.1", "keras": "3.15.1", "tf-keras": "2.17.0", "tensorflow-io": None, "ray": "2.60.0"}
FINE = Facts(versions=INSTALLED, python="3.11.7", addresses=frozenset({"127.0.0.1"}))


def job(strategy: str = "multi_worker_mirrored", **spec: Any) -> JobSpec:
    return parse({"entrypoint": "train.py:train", "strategy": strategy, "storage": "s3://bucket/runs", **spec})


def node(name: str, *, free: dict[str, float] | None = None, **total: float) -> Node:
    return Node(name, f"10.0.0.{name[1:]}", total, total if free is None else free)


def four_nodes(**total: float) -> list[Node]:
    return [node(f"n{i}", free=total, **total) for i in range(1, 5)]


def texts(plan: Plan, level: str) -> list[str]:
    return [str(finding) for finding in plan.findings if finding.level == level]


def only(plan: Plan, level: str) -> str:
    """The one finding of that level, and no worse or better one."""
    assert [finding.level for finding in plan.findings] == [level], plan.findings
    return str(plan.findings[0])


def test_batches_in_no_known_order_are_repeated_after_a_restart() -> None:
    data = {"train": {"files": "s3://b/d", "batch": 2, "deterministic": False}}
    found = only(make_plan(job(roles={"worker": 2}, data=data), [node("n1", CPU=8)], FINE), "note")
    assert "a restart repeats an epoch of data.train from its start" in found
    servers = job("parameter_server", roles={"worker": 2, "ps": 1}, data=data)
    assert make_plan(servers, [node("n1", CPU=8)], FINE).findings == ()


def test_bundles_nodes_and_tf_config_of_each_task() -> None:
    spec = job(
        "parameter_server",
        roles={
            "worker": {"replicas": 2, "cpus": 2, "gpus": 1, "memory": "1GiB", "resources": {"disk": 1, "tape": 0}},
            "ps": {"replicas": 1, "cpus": 0.5},
            "evaluator": {"cpus": 0},
        },
    )
    plan = make_plan(spec, [node("n1", CPU=8, GPU=2, memory=4 * GIB, disk=2)], FINE)
    assert plan.findings == ()
    assert {str(task.task): dict(task.bundle) for task in plan.tasks} == {
        "chief-0": {"CPU": 1},
        "worker-0": {"CPU": 2, "GPU": 1, "memory": GIB, "disk": 1},
        "worker-1": {"CPU": 2, "GPU": 1, "memory": GIB, "disk": 1},
        "ps-0": {"CPU": 0.5},
        "evaluator-0": {"CPU": 0.001},
    }
    assert {task.node for task in plan.tasks} == {"n1"}
    training = {
        "chief": ["10.0.0.1:<port of chief-0>"],
        "worker": ["10.0.0.1:<port of worker-0>", "10.0.0.1:<port of worker-1>"],
        "ps": ["10.0.0.1:<port of ps-0>"],
    }
    assert plan.tasks[3].tf_config == {"cluster": training, "task": {"type": "ps", "index": 0}}
    assert plan.tasks[4].tf_config == {
        "cluster": {**training, "evaluator": ["10.0.0.1:<port of evaluator-0>"]},
        "task": {"type": "evaluator", "index": 0},
    }


def test_a_lone_task_has_no_tf_config() -> None:
    plan = make_plan(job("none"), four_nodes(CPU=1), FINE)
    assert [task.tf_config for task in plan.tasks] == [None]


def test_placeholders_of_ipv6_and_unplaced_tasks() -> None:
    small = Node("a", "fd00::1", {"CPU": 1}, {"CPU": 1})
    plan = make_plan(job(roles={"worker": 2}), [small], FINE)
    config = plan.tasks[0].tf_config
    assert config is not None
    assert config["cluster"]["worker"] == ["[fd00::1]:<port of worker-0>", "<host>:<port of worker-1>"]
    assert [task.node for task in plan.tasks] == ["a", None]


def test_nodes_follow_the_placement() -> None:
    nodes = four_nodes(CPU=4)
    packed = make_plan(job(roles={"worker": 4}, placement="pack"), nodes, FINE)
    spread = make_plan(job(roles={"worker": 4}, placement="strict_spread"), nodes, FINE)
    assert {task.node for task in packed.tasks} == {"n1"}
    assert [task.node for task in spread.tasks] == ["n1", "n2", "n3", "n4"]


def test_totals() -> None:
    nodes = [node("n1", CPU=8, GPU=1, free={"CPU": 3, "GPU": 1}), node("n2", CPU=2, free={"CPU": 2})]
    totals = make_plan(job(roles={"worker": {"replicas": 2, "cpus": 1.5, "resources": {"x": 1}}}), nodes, FINE).totals
    assert {name: (t.asked, t.available, t.total) for name, t in totals.items()} == {"CPU": (3, 5, 10), "x": (2, 0, 0)}


@pytest.mark.parametrize(
    ("spec", "nodes", "level", "sentence"),
    [
        (
            job(roles={"worker": {"replicas": 2, "gpus": 4}}),
            four_nodes(CPU=8, GPU=2),
            "error",
            "one worker is larger than any node · asks for CPU 1, GPU 4; the nearest node (10.0.0.1) has only GPU 2 · "
            "ask for less under roles.worker, or add a larger node",
        ),
        (
            job(roles={"worker": {"replicas": 2, "cpus": 6, "memory": "8GiB"}}),
            [node("n1", CPU=8, memory=4 * GIB), node("n2", CPU=4, memory=16 * GIB), node("n3", CPU=8, memory=GIB)],
            "error",
            "one worker is larger than any node · asks for CPU 6, memory 8.0 GiB; "
            "the nearest node (10.0.0.2) has only CPU 4 · ",
        ),
        (
            job(roles={"worker": {"replicas": 12, "gpus": 1}}),
            [node("n1", CPU=16, GPU=8, free={"CPU": 16, "GPU": 3})],
            "error",
            "the job asks for more GPU than the cluster has · asked 12, available 3, total 8 · ask for less under roles",
        ),
        (
            job(roles={"worker": {"replicas": 3, "cpus": 3}}),
            [node("n1", CPU=5), node("n2", CPU=5)],
            "error",
            "the nodes have room for 2 of 3 worker tasks, each of which needs one node · each asks for CPU 3",
        ),
        (
            job(roles={"worker": 6}, placement="strict_pack"),
            four_nodes(CPU=4),
            "error",
            "placement strict_pack needs one node that holds every task · asked CPU 6; "
            "the nearest node (10.0.0.1) has only CPU 4 · use placement: pack, or add a larger node",
        ),
        (
            job(roles={"worker": 5}, placement="strict_spread"),
            four_nodes(CPU=4),
            "error",
            "placement strict_spread needs a node for every task · 5 tasks (worker), 4 nodes with room for one",
        ),
        (
            job("parameter_server", roles={"worker": 2, "ps": {"replicas": 2, "cpus": 4}}, placement="strict_spread"),
            [node("n1", CPU=4), node("n2", CPU=1), *(node(f"n{i}", CPU=1) for i in range(3, 9))],
            "error",
            "placement strict_spread needs a node for every task · 2 tasks (ps), 1 node with room for one",
        ),
        (
            job(roles={"worker": 4}),
            [node("n1", CPU=4, free={"CPU": 1}), node("n2", CPU=4, free={"CPU": 2})],
            "warning",
            "the job will wait for resources that others use · CPU: asked 4, available 3 of 8 · "
            "it gives up after timeouts.placement (10m00s)",
        ),
        (
            job(roles={"worker": 2}, placement="strict_pack"),
            [node("n1", CPU=4, free={"CPU": 1}), node("n2", CPU=4, free={"CPU": 1})],
            "warning",
            "the job will wait for resources that others use · CPU: asked 2, available 2 of 8",
        ),
        (
            job("parameter_server", roles={"chief": {"cpus": 3}, "worker": {"cpus": 3}, "ps": {"cpus": 2}}),
            [node("n1", CPU=4), node("n2", CPU=4)],
            "warning",
            "no way was found to fit all tasks on the nodes together",
        ),
    ],
)
def test_resource_findings(spec: JobSpec, nodes: Sequence[Node], level: str, sentence: str) -> None:
    assert only(make_plan(spec, nodes, FINE), level).startswith(sentence)


def test_each_resource_that_is_short_is_named() -> None:
    roles = {"worker": {"replicas": 9, "gpus": 1}, "ps": {"cpus": 8}, "evaluator": {"resources": {"tape": 1}}}
    errors = texts(make_plan(job("parameter_server", roles=roles), four_nodes(CPU=4, GPU=2), FINE), "error")
    assert [error.partition(" · ")[0] for error in errors] == [
        "one ps is larger than any node",
        "the job asks for more CPU than the cluster has",
        "the job asks for more GPU than the cluster has",
        "the job asks for more tape than the cluster has",
    ]


def test_tenths_of_a_cpu_add_up_exactly() -> None:
    spec = job(roles={"worker": {"replicas": 10, "cpus": 0.1}})
    assert make_plan(spec, [node("n1", CPU=1)], FINE).findings == ()


def test_an_autoscaler_may_add_what_is_missing() -> None:
    plan = make_plan(job(roles={"worker": {"gpus": 1}}), four_nodes(CPU=1), replace(FINE, autoscaling=True))
    assert plan.errors == ()
    assert [text.rpartition(" · ")[2] for text in texts(plan, "warning")] == ["the autoscaler must add nodes first"]


def test_an_embedded_ray_takes_more_cpus_than_there_are_but_not_more_gpus() -> None:
    here = Node(LOCAL, "127.0.0.1", {"CPU": 2, "memory": GIB}, {"CPU": 2, "memory": GIB})
    plan = make_plan(job(roles={"worker": 4}), [here], FINE)
    assert only(plan, "note").startswith(
        "the job asks for more CPUs than this machine has, so its tasks share them · asked 4, here 2"
    )
    assert {task.node for task in plan.tasks} == {LOCAL}
    assert plan.totals["CPU"].total == 2
    short = make_plan(job(roles={"worker": {"gpus": 1}}), [here], FINE)
    assert "the job asks for more GPU than the cluster has · asked 1, available 0, total 0" in "\n".join(
        texts(short, "error")
    )


def test_without_nodes_resources_are_not_compared() -> None:
    plan = make_plan(job(roles={"worker": {"replicas": 2, "gpus": 8}}), [], FINE)
    assert only(plan, "note") == "no cluster is known, so resources were not compared"
    assert [task.node for task in plan.tasks] == [None, None]


CODE = Finding("error", "there is no such file", "train.py", "correct the path")
STORAGE = Finding("error", "the storage cannot be written", "s3://bucket/runs", "denied")


def with_data(facts: DataFacts) -> Facts:
    return replace(FINE, data={"train": facts})


TWO_WORKERS: dict[str, Any] = {"roles": {"worker": 2}, "data": {"train": {"files": "data/*.parquet", "batch": 64}}}
MISSING = Finding("error", "data.train: no data file is there", "data/*.parquet", "check the path")


@pytest.mark.parametrize(
    ("strategy", "facts", "level", "sentence"),
    [
        ("multi_worker_mirrored", DataFacts(problem=MISSING), "error", str(MISSING)),
        (
            "multi_worker_mirrored",
            DataFacts(2, 0, 0),
            "error",
            "data.train has fewer rows than there are workers, so some of them would read none · 0 rows in 2 files, 2 workers",
        ),
        ("multi_worker_mirrored", DataFacts(1, 1, 1), "error", "data.train has fewer rows than there are workers"),
        ("custom", DataFacts(1, 1, 1), "warning", "data.train has fewer rows than there are workers"),
        ("custom", DataFacts(1, 0, 0), "error", "data.train has fewer rows than there are workers"),
        (
            "multi_worker_mirrored",
            DataFacts(1, 1, 1000),
            "warning",
            "data.train has fewer row groups than there are workers, so several of them read the same one · "
            "1 row group in 1 file, 2 workers",
        ),
        (
            "multi_worker_mirrored",
            DataFacts(1, 8, 1000),
            "note",
            "data.train has fewer files than there are workers, which divide them by row group · "
            "1 file (8 row groups), 2 workers · nothing to do",
        ),
    ],
)
def test_data_findings(strategy: str, facts: DataFacts, level: str, sentence: str) -> None:
    plan = make_plan(job(strategy, **TWO_WORKERS), four_nodes(CPU=1), with_data(facts))
    assert only(plan, level).startswith(sentence)


@pytest.mark.parametrize("facts", [DataFacts(2, 2, 1000), DataFacts(300)])
def test_enough_data_is_no_finding(facts: DataFacts) -> None:
    assert make_plan(job(**TWO_WORKERS), four_nodes(CPU=1), with_data(facts)).findings == ()


def test_data_that_prepare_will_make_is_no_error() -> None:
    spec = job(prepare="data.py:make", **TWO_WORKERS)
    facts = replace(with_data(DataFacts(problem=MISSING)), prepared=False)
    note = only(make_plan(spec, [node("n1", CPU=4)], facts), "note")
    assert note == "data.train is not there yet · data/*.parquet · prepare (data.py:make) makes it"


@pytest.mark.parametrize(
    ("strategy", "roles", "batch", "level", "sentence"),
    [
        ("multi_worker_mirrored", {"worker": 3}, 64, "error", "cannot be divided among the workers · 64 rows, 3 workers · use 63 or 66"),
        ("multi_worker_mirrored", {"chief": 1, "worker": 2}, 2, "error", "among the workers · 2 rows, 3 workers · use 3"),
        ("multi_worker_mirrored", {"worker": {"replicas": 2, "gpus": 2}}, 62, "warning", "evenly among the replicas · 62 rows, 4 GPUs · use 60 or 64"),
        ("multi_worker_mirrored", {"worker": {"replicas": 2, "gpus": 2}}, 63, "error", "among the workers · 63 rows, 2 workers · use 60 or 64"),
        ("mirrored", {"worker": {"gpus": 4}}, 63, "warning", "evenly among the replicas · 63 rows, 4 GPUs · use 60 or 64"),
        ("multi_worker_mirrored", {"worker": 2}, 64, None, ""),
        ("custom", {"worker": 2}, 63, None, ""),
        ("parameter_server", {"worker": 2, "ps": 1}, 63, None, ""),
    ],
)  # fmt: skip
def test_the_global_batch(strategy: str, roles: Any, batch: int, level: str | None, sentence: str) -> None:
    spec = job(strategy, roles=roles, data={"train": {"files": "a", "batch": batch}})
    plan = make_plan(spec, four_nodes(CPU=8, GPU=8), with_data(DataFacts(8, 8, 1000)))
    if level is None:
        assert plan.findings == ()
    else:
        assert only(plan, level).startswith("data.train.batch, the global batch, cannot be divided ")
        assert sentence in str(plan.findings[0])


@pytest.mark.parametrize(
    ("strategy", "roles", "level", "seen"),
    [
        ("multi_worker_mirrored", {"worker": 4}, "error", "2000 rows, 4 shards, batches of 1024"),
        ("multi_worker_mirrored", {"worker": {"replicas": 2, "gpus": 2}}, "error", "2000 rows, 2 shards, batches of 1024"),
        ("custom", {"worker": 4}, "warning", "2000 rows, 4 shards, batches of 1024"),
        ("none", {"worker": 1}, "error", "2000 rows, 1 shards, batches of 4096"),
        ("parameter_server", {"worker": 4, "ps": 1}, "error", "2000 rows, 1 shards, batches of 4096"),
    ],
)  # fmt: skip
def test_too_few_rows_for_a_batch_where_the_remainder_is_dropped(
    strategy: str, roles: Any, level: str, seen: str
) -> None:
    facts = with_data(DataFacts(8, 8, 2000))

    def plan(batch: int, remainder: str) -> Plan:
        data = {"train": {"files": "a", "batch": batch, "remainder": remainder}}
        return make_plan(job(strategy, roles=roles, data=data), four_nodes(CPU=8, GPU=8), facts)

    assert only(plan(4096, "drop"), level) == (
        f"data.train: there are too few rows for a full batch on every shard · {seen} · use smaller batches, or remainder: keep"
    )
    assert plan(4096, "keep").findings == plan(1024, "drop").findings == ()


HERE = Node(LOCAL, "127.0.0.1", {"CPU": 8}, {"CPU": 8})
JOINED = Node("n1", "127.0.0.1", {"CPU": 8}, {"CPU": 8})
AWAY = Node("n1", "10.0.0.1", {"CPU": 8}, {"CPU": 8})


@pytest.mark.parametrize(
    ("at", "runtime_env", "level", "todo"),
    [
        (HERE, {}, "error", "pip install 'ray-tfcluster[tensorflow]'"),
        (HERE, {"env_vars": {"A": "1"}}, "error", "pip install 'ray-tfcluster[tensorflow]'"),
        (HERE, {"pip": ["tensorflow"]}, "note", "runtime_env.pip must bring it"),
        (JOINED, {}, "warning", "the Ray nodes must have it"),
        (AWAY, {}, "note", "the Ray nodes must have it"),
        (AWAY, {"image_uri": "tensorflow"}, "note", "runtime_env.image_uri must bring it"),
    ],
)
def test_a_missing_tensorflow(at: Node, runtime_env: dict[str, Any], level: str, todo: str) -> None:
    facts = replace(FINE, versions={**INSTALLED, "tensorflow": None})
    plan = make_plan(job(runtime_env=runtime_env), [at], facts)
    assert only(plan, level) == f"TensorFlow is not installed here · Python 3.11.7 · {todo}"


@pytest.mark.parametrize(("at", "told"), [(HERE, True), (AWAY, False)])
def test_a_tensorflow_that_is_compiled_at_each_start(at: Node, told: bool) -> None:
    plan = make_plan(job(), [at], replace(FINE, uncompiled="/site/tensorflow"))
    found = [finding for finding in plan.findings if "compiled anew" in finding.happened]
    assert [finding.level for finding in found] == (["warning"] if told else [])
    assert all(finding.todo.startswith("python -m compileall -q /site/tensorflow") for finding in found)


@pytest.mark.parametrize(("at", "level"), [(HERE, "error"), (JOINED, "warning"), (AWAY, "note")])
def test_versions_that_do_not_fit(at: Node, level: str) -> None:
    facts = replace(FINE, versions={**INSTALLED, "tf-keras": "2.16.0"})
    plan = make_plan(job(keras="2"), [at], facts)
    assert "2.16.0" in only(plan, level)


@pytest.mark.parametrize("at", [HERE, AWAY])
def test_tensorboard_that_is_not_installed_is_no_reason_not_to_train(at: Node) -> None:
    plan = make_plan(job(tensorboard=True), [at], FINE)
    assert only(plan, "warning").startswith("the spec asks for TensorBoard, which is not installed here")
    installed = replace(FINE, versions={**INSTALLED, "tensorboard": "2.17.1"})
    assert make_plan(job(tensorboard=True), [at], installed).findings == ()


@pytest.mark.parametrize(("at", "level"), [(HERE, "error"), (JOINED, "warning"), (AWAY, "note")])
def test_a_missing_tf_keras(at: Node, level: str) -> None:
    facts = replace(FINE, versions={**INSTALLED, "tf-keras": None})
    plan = make_plan(job(keras="2"), [at], facts)
    assert only(plan, level).startswith("keras: 2 needs tf-keras")
    assert plan.keras.major == "2"


@pytest.mark.parametrize(
    ("tensorflow", "tensorflow_io", "seen"),
    [
        ("2.17.1", "0.37.1", None),
        ("2.17.1", None, "tensorflow-io"),
        ("2.21.0", "0.37.1", "2.21.0"),
        ("2.21.0", None, "2.21.0"),  # to install it would not help
    ],
)
@pytest.mark.parametrize(
    ("asked", "by"),
    [
        ({"tensorflow_io": True}, "tensorflow_io: true"),
        ({"data": {"train": {"files": "a", "engine": "tensorflow_io"}}}, "data.train.engine: tensorflow_io"),
    ],
)
def test_tensorflow_io_and_its_tensorflow(
    tensorflow: str, tensorflow_io: str | None, seen: str | None, asked: dict[str, Any], by: str
) -> None:
    facts = replace(FINE, versions={"tensorflow": tensorflow, "tensorflow-io": tensorflow_io}, data={})
    plan = make_plan(job(**asked), [HERE], facts)
    if seen is None:
        assert plan.findings == ()
    else:
        assert seen in only(plan, "error")
        assert only(plan, "error").startswith(f"{by} needs tensorflow-io")
        assert "pip install 'ray-tfcluster[tensorflow-io]'" in only(plan, "error")


@pytest.mark.parametrize(
    ("versions", "major"),
    [
        ({"tensorflow": "2.17.1", "tf-keras": "2.17.0"}, "2"),
        ({"tensorflow": "2.17.1", "tf-keras": None}, "3"),
        ({"tensorflow": None, "tf-keras": None}, "2"),  # both come with the environment of the tasks
    ],
)
def test_the_keras_of_parameter_servers(versions: dict[str, str | None], major: str) -> None:
    plan = make_plan(job("parameter_server", roles={"worker": 1, "ps": 1}), [AWAY], replace(FINE, versions=versions))
    assert plan.keras.major == major


@pytest.mark.parametrize(
    ("storage", "addresses", "warned"),
    [
        ("./runs", ["10.0.0.1", "10.0.0.2"], True),
        ("file:///runs", ["10.0.0.1", "10.0.0.2"], True),
        ("s3://bucket/runs", ["10.0.0.1", "10.0.0.2"], False),
        ("./runs", ["127.0.0.1", "127.0.0.1"], False),
    ],
)
def test_a_path_as_storage_of_several_machines(storage: str, addresses: list[str], warned: bool) -> None:
    nodes = [Node(f"n{i}", address, {"CPU": 1}, {"CPU": 1}) for i, address in enumerate(addresses)]
    plan = make_plan(job(storage=storage), nodes, FINE)
    expected = f"storage is a path, and the cluster has 2 machines · {storage} · use a directory that all of them share"
    assert [text.startswith(expected) for text in texts(plan, "warning")] == [True] * warned


@pytest.mark.parametrize(
    ("files", "prepare", "machines", "shared", "warned"),
    [
        ("data.parquet", "data.py:make", 2, False, True),
        (["s3://bucket/a", "/data/b"], "data.py:make", 2, False, True),
        ("data.parquet", "data.py:make", 2, True, False),
        ("data.parquet", "data.py:make", 1, False, False),
        ("data.parquet", None, 2, False, False),  # it came with the code, or is on each of them
        ("s3://bucket/a", "data.py:make", 2, False, False),
    ],
)
def test_data_that_prepare_makes_on_one_of_several_machines(
    files: Any, prepare: str | None, machines: int, shared: bool, warned: bool
) -> None:
    spec = job(
        data={"train": {"files": files, "batch": 64}}, roles={"worker": 2}, **({"prepare": prepare} if prepare else {})
    )
    nodes = [Node(f"n{i}", f"10.0.0.{i}", {"CPU": 2}, {"CPU": 2}) for i in range(machines)]
    found = texts(make_plan(spec, nodes, with_data(DataFacts(8, 8, 1000, shared=shared))), "warning")
    expected = f"prepare makes data.train on this machine alone, and the cluster has {machines}"
    assert [text.startswith(expected) for text in found] == [True] * warned


def test_a_path_that_is_known_to_be_shared_is_not_warned_of() -> None:
    nodes = [Node(f"n{i}", f"10.0.0.{i}", {"CPU": 1}, {"CPU": 1}) for i in range(2)]
    assert texts(make_plan(job(storage="/storage"), nodes, replace(FINE, shared=True)), "warning") == []


def test_every_problem_is_named_at_once_errors_first() -> None:
    spec = job(
        roles={"worker": {"replicas": 3, "gpus": 1}}, data={"train": {"files": "a", "batch": 64}}, storage="runs"
    )
    facts = replace(
        with_data(DataFacts(1, 2, 1000)),
        code=(CODE,),
        storage=STORAGE,
        versions={**INSTALLED, "tensorflow": None},
    )
    plan = make_plan(spec, four_nodes(CPU=4), facts)
    assert [(finding.level, finding.happened.partition(",")[0]) for finding in plan.findings] == [
        ("error", "there is no such file"),
        ("error", "the storage cannot be written"),
        ("error", "data.train.batch"),
        ("error", "the job asks for more GPU than the cluster has"),
        ("warning", "storage is a path"),
        ("warning", "data.train has fewer row groups than there are workers"),
        ("note", "TensorFlow is not installed here"),
    ]
    with pytest.raises(PreflightError) as caught:
        plan.raise_for_errors()
    assert str(caught.value).startswith("the job cannot run here: 4 problems")
    assert all(str(error) in str(caught.value) for error in plan.errors)
    assert "storage is a path" not in str(caught.value)


def test_one_error_is_raised_as_it_is() -> None:
    with pytest.raises(PreflightError) as caught:
        make_plan(job(), four_nodes(CPU=1), replace(FINE, code=(CODE,))).raise_for_errors()
    assert (caught.value.happened, caught.value.seen, caught.value.todo) == (CODE.happened, CODE.seen, CODE.todo)


def test_warnings_do_not_raise() -> None:
    plan = make_plan(job(roles={"worker": 2}), [node("n1", CPU=2, free={"CPU": 1})], FINE)
    assert texts(plan, "warning")
    plan.raise_for_errors()


def test_the_document_is_plain_json() -> None:
    plan = make_plan(job("none", roles={"evaluator": 1}), [HERE], FINE)
    document = json.loads(json.dumps(plan.to_document()))
    assert document == plan.to_document()
    assert document["ok"] is True
    assert document["spec"] == plan.spec.to_document()
    assert document["keras"] == {"major": plan.keras.major, "reason": plan.keras.reason}
    assert document["resources"] == {"CPU": {"asked": 2.0, "available": 8.0, "total": 8.0}}
    assert document["tasks"][0] == {"task": "worker-0", "bundle": {"CPU": 1}, "node": LOCAL, "tf_config": None}
    assert document["findings"] == []


@pytest.mark.parametrize("placement", ["pack", "spread", "strict_pack", "strict_spread"])
def test_a_thousand_tasks_on_two_hundred_nodes_in_under_a_second(placement: str) -> None:
    roles = {"worker": {"replicas": 989, "cpus": 1.5, "gpus": 1, "memory": "2GiB"}, "ps": {"replicas": 10, "cpus": 4}}
    spec = job("parameter_server", roles=roles, placement=placement)
    nodes = [node(f"n{i}", CPU=16, GPU=5, memory=64 * GIB) for i in range(200)]
    started = time.process_time()
    plan = make_plan(spec, nodes, FINE)
    assert time.process_time() - started < 0.5  # measured: 0.02
    assert len(plan.tasks) == 1000
    assert all(task.node for task in plan.tasks) == (placement in ("pack", "spread"))
