"""What the leader writes for TensorBoard, by the callbacks that `fit` is given."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import tensorflow as tf

from cluster.summaries import scalars


def test_the_same_callbacks_serve_another_fit(tmp_path: Path) -> None:
    made = scalars(tf.keras.callbacks.Callback)(SimpleNamespace(tensorboard_dir=str(tmp_path)))
    for epoch in range(2):
        made.on_epoch_end(epoch, {"loss": 2.0 - epoch, "val_loss": 3.0})
        made.on_train_end()
    assert values(tmp_path / "train") == [("epoch_loss", 0, 2.0), ("epoch_loss", 1, 1.0)]
    assert values(tmp_path / "validation") == [("epoch_loss", 0, 3.0), ("epoch_loss", 1, 3.0)]


def values(folder: Path) -> list[tuple[str, int, float]]:
    """Tag, step and value of every scalar below `folder`."""
    found = []
    for path in folder.glob("*.tfevents.*"):
        for event in tf.compat.v1.train.summary_iterator(str(path)):
            found += [(v.tag, event.step, float(tf.make_ndarray(v.tensor))) for v in event.summary.value]
    return sorted(found)
