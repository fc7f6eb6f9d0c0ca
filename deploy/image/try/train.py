"""A line, learned by two workers."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cluster import TaskContext


def make_data() -> None:
    """Write 100,000 rows of y = 3 x + 1."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    x = np.random.default_rng(0).random(100_000, dtype="float32")
    pq.write_table(pa.table({"x": x, "y": 3 * x + 1}), "data.parquet", row_group_size=10_000)


def train(ctx: TaskContext, epochs: int) -> None:
    """Fit it, and export the model."""
    import tensorflow as tf

    with ctx.strategy.scope():
        x = tf.keras.Input((), name="x")
        model = tf.keras.Model({"x": x}, tf.keras.layers.Dense(1)(tf.keras.layers.Reshape((1,))(x)))
        model.compile("adam", "mse")
    model.fit(ctx.dataset("train"), epochs=epochs, callbacks=ctx.callbacks(), verbose=0)
    ctx.export(model)
