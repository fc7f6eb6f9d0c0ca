"""A plain TensorFlow script for several workers, as TensorFlow's own guide writes it: TF_CONFIG says who it is.

It imports nothing of ray-tfcluster, and runs alone as well: python script.py
"""

import argparse
import json
import os
import tempfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import tensorflow as tf

FEATURES = [
    "dep_delay",
    "scheduled",
    "recent_all",
    "recent_origin",
    "recent_dest",
    "recent_carrier",
    "wind_gust",
    "visib",
]
LABEL = "arr_delay"


def parse():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parent / "data")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--batch", type=int, default=1024, help="rows of one step over all workers")
    parser.add_argument("--out", type=Path, help="where to save the model; default: nowhere")
    return parser.parse_args()


def load(folder):
    table = pq.read_table(folder, columns=[*FEATURES, LABEL])
    return np.stack([table[name].to_numpy() for name in FEATURES], axis=1), table[LABEL].to_numpy()


def build(x):
    normalize = tf.keras.layers.Normalization(mean=x.mean(0), variance=x.var(0))
    return tf.keras.Sequential(
        [
            tf.keras.Input((len(FEATURES),)),
            normalize,
            tf.keras.layers.Dense(64, activation="relu"),
            tf.keras.layers.Dense(64, activation="relu"),
            tf.keras.layers.Dense(1),
        ]
    )


def main():
    args = parse()
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    task = json.loads(os.environ.get("TF_CONFIG", "{}")).get("task", {"type": "worker", "index": 0})
    is_chief = task["index"] == 0

    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    x, y = load(args.data / "train")
    train = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(len(y), seed=0).batch(args.batch).with_options(options)
    test = tf.data.Dataset.from_tensor_slices(load(args.data / "test")).batch(8192).with_options(options)

    with strategy.scope():
        model = build(x)
        model.compile(tf.keras.optimizers.Adam(0.002), "mse", metrics=["mae"])
    model.fit(train, epochs=args.epochs, verbose=2 if is_chief else 0)
    scores = model.evaluate(test, verbose=0, return_dict=True)
    print(f"test months: MAE {scores['mae']:.2f} min, RMSE {scores['loss'] ** 0.5:.2f} min")

    if args.out:
        # Every worker must save, but only the chief where it counts.
        folder = args.out if is_chief else Path(tempfile.mkdtemp())
        folder.mkdir(parents=True, exist_ok=True)
        model.save(folder / "flights.keras")


if __name__ == "__main__":
    main()
