"""Datasets inside real clusters: parameter-server workers, and the workers of a collective strategy."""

from __future__ import annotations

import dataclasses
import itertools
import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.layout import Request
from pipelines.reader import Reader, ReadPlan
from pipelines.shards import Sharding, Span
from pipelines.sources import Files
from tests.tf.crew import Forge, cluster

pytestmark = pytest.mark.timeout(180)

HERE = "tests.tf_data.test_clusters"


@pytest.fixture(scope="module")
def forge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forge]:
    """A process that has imported TensorFlow, from which tasks are forked."""
    forge = Forge("3", tmp_path_factory.mktemp("forge"))
    yield forge
    forge.close()


SECRET = b"known to the chief and its workers"
#: Steps that worker 0 does while worker 1 is in its first.
ALONE = 20


def ps_server(post: Callable[[Any], None], folder: str) -> None:
    """A worker or ps, until it is killed."""
    import tensorflow as tf
    from tensorflow.python.ops import script_ops

    from pipelines.remote import serve_reads

    resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver()
    index, steps = resolver.task_id, itertools.count(1)

    def pace() -> Any:
        """Worker 1 goes on when worker 0 has done its steps: each opens its end of a pipe and waits for the other."""
        if next(steps) == (ALONE, 1)[index]:
            with open(f"{folder}/go", "wr"[index]):
                pass
        return np.int64(index)

    if resolver.task_type == "worker":
        serve_reads(index, SECRET)
        script_ops._py_funcs._funcs["pace"] = pace
    server = tf.distribute.Server(resolver.cluster_spec(), job_name=resolver.task_type, task_index=index)
    server.join()


def plan_of(files: str) -> ReadPlan:
    return ReadPlan(Files((files,)), Request(columns=("id", "text"), label="label"), Sharding(1, 100), shuffle=True)


def ps_chief(post: Callable[[Any], None], files: str) -> tuple[list[tuple[int, list[int]]], dict[str, Any]]:
    """The worker and the row ids of each batch of two epochs and a bit, and the position after them."""
    import tensorflow as tf

    from cluster.coordinator import Leases, make_coordinator

    resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver()
    leases = Leases("127.0.0.1", SECRET, 2)
    coordinator = make_coordinator(tf.distribute.ParameterServerStrategy(resolver), leases)
    assert tf.distribute.coordinator.ClusterCoordinator(coordinator.strategy) is coordinator

    def make() -> tf.data.Dataset:
        rows = leases.dataset("train", lambda desk: Reader(dataclasses.replace(plan_of(files), desk=desk)), None)
        return rows.map(lambda x, y: (x, y), num_parallel_calls=4).prefetch(3)

    @tf.function
    def step(iterator: Any) -> Any:
        features, _ = next(iterator)
        (worker,) = tf.raw_ops.PyFunc(input=[], token="pace", Tout=[tf.int64])
        return worker, features["id"], features["text"]

    iterator = iter(coordinator.create_per_worker_dataset(make))
    out = []
    for value in [coordinator.schedule(step, args=(iterator,)) for _ in range(26)]:
        worker, ids, texts = value.fetch()
        assert [f"Zürich {n}".encode() for n in ids] == list(texts)
        out.append((int(worker), ids.tolist()))
    coordinator.join()
    return out, leases.to_dict(0)["train"]


def test_a_parameter_server_worker_that_stands_still_holds_nobody_back(
    forge: Forge, files: Path, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "go")
    server: tuple[str, dict[str, Any]] = (f"{HERE}:ps_server", {"folder": str(tmp_path)})
    jobs = {"worker-0": server, "worker-1": server, "ps-0": server}
    with cluster(forge, {**jobs, "chief-0": (f"{HERE}:ps_chief", {"files": str(files)})}) as crew:
        batches, position = crew.result("chief-0")
    assert Counter(worker for worker, _ in batches)[0] >= ALONE
    taken = Counter(row for _, batch in batches for row in batch)
    left = Counter(row for span in position["line"] for row in rows_at(str(files), Span(*span)))
    # However far ahead each worker reads, what is neither taken nor waits is lost, and what is both comes twice.
    assert taken + left == Counter(dict.fromkeys(range(1003), position["epoch"]))


def rows_at(files: str, span: Span) -> list[int]:
    """The row ids at these places of an epoch."""
    reader = Reader(dataclasses.replace(plan_of(files), epoch=span.epoch, line=(span,)))
    return [int(row) for chunk in reader.begin() for row in reader.read(chunk)[0]]


def collective_worker(post: Callable[[Any], None], files: str) -> tuple[list[list[int]], float]:
    """The row ids of this worker's batches, and a sum over all workers that each step reduced."""
    import tensorflow as tf

    from pipelines.dataset import read_dataset

    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    index = tf.distribute.cluster_resolver.TFConfigClusterResolver().task_id
    dataset = read_dataset(files, batch=50, columns=("id",), shards=2, shard=index)
    out, total = [], 0.0
    for batch in strategy.distribute_datasets_from_function(lambda _: dataset):
        out.append(strategy.experimental_local_results(batch["id"])[0].numpy().tolist())
        total += float(strategy.reduce("SUM", strategy.run(tf.reduce_sum, (batch["id"],)), axis=None))
    return out, total


def test_collective_workers_make_the_same_number_of_steps(forge: Forge, files: Path) -> None:
    jobs = {f"worker-{index}": (f"{HERE}:collective_worker", {"files": str(files)}) for index in range(2)}
    with cluster(forge, jobs) as crew:
        results = crew.results()
    (first, total), (second, other_total) = results["worker-0"], results["worker-1"]
    assert total == other_total == sum(range(1003))
    assert [len(batch) for batch in first] == [50] * 10 + [1]
    assert [len(batch) for batch in second] == [50] * 10 + [2]
    assert sorted(itertools.chain(*first, *second)) == list(range(1003))
