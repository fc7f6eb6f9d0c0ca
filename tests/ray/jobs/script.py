"""An unmodified multi-worker script: argparse, its own strategy, relative files, chief-only writes of its own."""

import argparse
import json
import os

import tensorflow as tf
from sibling import LAYERS


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--out", required=True)
    options = parser.parse_args()
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    config = json.loads(os.environ["TF_CONFIG"])
    x = tf.random.stateless_uniform((128, 4), seed=(1, 2))
    y = tf.reduce_sum(x, axis=1, keepdims=True)
    dataset = tf.data.Dataset.from_tensor_slices((x, y)).batch(32)
    with strategy.scope():
        model = tf.keras.Sequential([tf.keras.layers.Input((4,)), *[tf.keras.layers.Dense(n) for n in LAYERS]])
        model.compile("sgd", "mse", metrics=["mae"])
    model.fit(dataset, epochs=options.epochs, verbose=2)
    model.evaluate(dataset, verbose=0)
    model.predict(dataset, verbose=0)
    if config["task"]["index"] == 0:
        with open(options.out, "w") as file:
            json.dump({"replicas": strategy.num_replicas_in_sync, "argv": os.sys.argv}, file)


if __name__ == "__main__":
    main()
