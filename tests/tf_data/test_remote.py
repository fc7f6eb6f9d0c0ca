"""Datasets that parameter-server workers iterate, each its own shard, in real servers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.timeout(240)

TASK = """
import json, os, sys
import tensorflow as tf
from pipelines.dataset import parquet_dataset
from pipelines.remote import serve_reads

resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver()
if resolver.task_type != "chief":
    if resolver.task_type == "worker":
        serve_reads(resolver.task_id)
    server = tf.distribute.Server(resolver.cluster_spec(), job_name=resolver.task_type, task_index=resolver.task_id)
    print("serving", flush=True)
    server.join()

coordinator = tf.distribute.coordinator.ClusterCoordinator(tf.distribute.ParameterServerStrategy(resolver))

def make(_=None):
    return parquet_dataset(sys.argv[1], batch=100, columns=["id", "text"], label="label", shuffle=True, seed=3,
                           shard_count=2, shard_index=None)

@tf.function
def step(iterator):
    batch = iterator.get_next_as_optional()
    if batch.has_value():
        features, _ = batch.get_value()
        return features["id"], features["text"]
    return tf.zeros([0], tf.int64), tf.zeros([0], tf.string)

iterator = iter(coordinator.create_per_worker_dataset(make))
results, empty = [], 0
while empty < 40:
    for value in [coordinator.schedule(step, args=(iterator,)) for _ in range(4)]:
        ids, texts = value.fetch()
        assert [f"Zürich {n}".encode() for n in ids] == list(texts)
        results.append(ids.tolist())
        empty += not len(ids)
print(json.dumps(results), flush=True)
os._exit(0)
"""


def free_ports(count: int) -> list[int]:
    import socket

    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [sock.getsockname()[1] for sock in sockets]
    for sock in sockets:
        sock.close()
    return ports


def test_each_worker_reads_its_own_shard(files: Path) -> None:
    addresses = [f"127.0.0.1:{port}" for port in free_ports(4)]
    cluster = {"worker": addresses[:2], "ps": addresses[2:3], "chief": addresses[3:]}
    root = Path(__file__).resolve().parents[2]

    def start(role: str, index: int) -> subprocess.Popen[str]:
        config = json.dumps({"cluster": cluster, "task": {"type": role, "index": index}})
        env = {**os.environ, "TF_CONFIG": config, "GRPC_FAIL_FAST": "use_caller", "PYTHONPATH": str(root)}
        command = [sys.executable, "-c", TASK, str(files)]
        return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    servers = [start("worker", 0), start("worker", 1), start("ps", 0)]
    chief = start("chief", 0)
    try:
        output, errors = chief.communicate(timeout=200)
    finally:
        for process in [*servers, chief]:
            process.kill()
            process.communicate()
    assert chief.returncode == 0, errors[-3000:]
    batches = [batch for batch in json.loads(output.splitlines()[-1]) if batch]
    # Two shards of 501 and 502 rows: six batches each.
    assert sorted(len(batch) for batch in batches) == [1, 2] + [100] * 10
    assert sorted(row for batch in batches for row in batch) == list(range(1003))
