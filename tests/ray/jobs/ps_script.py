"""An unmodified parameter-server script, as TensorFlow's own guide writes it."""

import os
import sys

import tensorflow as tf

resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver()
if resolver.task_type in ("worker", "ps"):
    server = tf.distribute.Server(
        resolver.cluster_spec(), job_name=resolver.task_type, task_index=resolver.task_id, protocol="grpc"
    )
    server.join()

strategy = tf.distribute.ParameterServerStrategy(resolver)
coordinator = tf.distribute.coordinator.ClusterCoordinator(strategy)
with strategy.scope():
    counter = tf.Variable(0, dtype=tf.int64)


@tf.function
def count():
    counter.assign_add(1)


for _ in range(50):
    coordinator.schedule(count)
coordinator.join()
with open(sys.argv[1], "w") as file:
    file.write(f"{int(counter.numpy())} {os.environ['GRPC_FAIL_FAST']}")
