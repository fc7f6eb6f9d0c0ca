"""Datasets inside real clusters: parameter-server workers, and the workers of a collective strategy."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.tf.crew import Forge, cluster

pytestmark = pytest.mark.timeout(180)

HERE = "tests.tf_data.test_clusters"


@pytest.fixture(scope="module")
def forge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forge]:
    """A process that has imported TensorFlow, from which tasks are forked."""
    forge = Forge("3", tmp_path_factory.mktemp("forge"))
    yield forge
    forge.close()


def ps_server(post: Callable[[Any], None]) -> None:
    """A worker or ps, until it is killed."""
    import tensorflow as tf

    from pipelines.remote import serve_reads

    resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver()
    if resolver.task_type == "worker":
        serve_reads(resolver.task_id)
    server = tf.distribute.Server(resolver.cluster_spec(), job_name=resolver.task_type, task_index=resolver.task_id)
    server.join()


def ps_chief(post: Callable[[Any], None], files: str) -> list[list[int]]:
    """The row ids of all batches, after both workers have reached the end of their shard."""
    import tensorflow as tf

    from pipelines.dataset import read_dataset

    resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver()
    coordinator = tf.distribute.coordinator.ClusterCoordinator(tf.distribute.ParameterServerStrategy(resolver))

    def make(_: Any = None) -> tf.data.Dataset:
        return read_dataset(files, batch=100, columns=("id", "text"), label="label", shuffle=True, shards=2, shard=None)

    @tf.function
    def step(iterator: Any) -> Any:
        batch = iterator.get_next_as_optional()
        if batch.has_value():
            features, _ = batch.get_value()
            return features["id"], features["text"]
        return tf.zeros([0], tf.int64), tf.zeros([0], tf.string)

    iterator = iter(coordinator.create_per_worker_dataset(make))
    out: list[list[int]] = []
    while sum(map(len, out)) < 1003:
        for value in [coordinator.schedule(step, args=(iterator,)) for _ in range(4)]:
            ids, texts = value.fetch()
            assert [f"Zürich {n}".encode() for n in ids] == list(texts)
            out.append(ids.tolist())
    return out


def test_each_parameter_server_worker_reads_its_own_shard(forge: Forge, files: Path) -> None:
    server: tuple[str, dict[str, Any]] = (f"{HERE}:ps_server", {})
    jobs = {"worker-0": server, "worker-1": server, "ps-0": server}
    with cluster(forge, {**jobs, "chief-0": (f"{HERE}:ps_chief", {"files": str(files)})}) as crew:
        batches = [batch for batch in crew.result("chief-0") if batch]
    # Shards of 501 and 502 rows: six batches each.
    assert sorted(len(batch) for batch in batches) == [1, 2] + [100] * 10
    assert sorted(itertools.chain(*batches)) == list(range(1003))


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
