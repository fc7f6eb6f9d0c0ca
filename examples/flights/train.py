"""Train the flights model, evaluate it on later months, and compare it with what needs no model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.parquet as pq
import tensorflow as tf

from model import build

if TYPE_CHECKING:
    from cluster import TaskContext

DATA = Path(__file__).resolve().parent / "data"
Scores = dict[str, tuple[float, float]]


def train(ctx: TaskContext, epochs: int = 3, seed: int = 0) -> dict[str, float]:
    """Entrypoint of job.yaml: every worker runs this, on its own share of the rows.

    Returns:
        Mean absolute error and root mean squared error on the test months, in minutes, of model and baseline.
    """
    tf.keras.utils.set_random_seed(seed)
    with ctx.strategy.scope():
        model = _compiled()
    # The dataset shuffles; shuffle=False only tells Keras that we know.
    model.fit(ctx.dataset("train"), epochs=epochs, callbacks=[*ctx.callbacks(), _decay()], shuffle=False, verbose=0)
    scores = model.evaluate(ctx.dataset("test"), return_dict=True, verbose=0)
    ctx.export(model)
    return _compare(ctx, scores["mae"], scores["rmse"])


def train_ps(ctx: TaskContext, epochs: int = 3, seed: int = 0) -> dict[str, float]:
    """Entrypoint of ps.yaml: only the chief runs this, and sends the steps to the workers.

    A worker takes the next step when it is done with one, not when all are, so no two runs are quite the same.
    """
    tf.keras.utils.set_random_seed(seed)
    with ctx.strategy.scope():
        model = _compiled()
    model.fit(
        ctx.dataset_creator("train"),
        steps_per_epoch=int(ctx.dataset("train", shard=False).cardinality()),
        epochs=epochs,
        callbacks=[*ctx.callbacks(), _decay()],
        verbose=0,
    )
    errors = np.concatenate([model(x)[:, 0] - y for x, y in ctx.dataset("test", shard=False)])
    ctx.export(model)
    return _compare(ctx, *_scores(errors))


def _compiled() -> tf.keras.Model:
    model = build(tf.keras)
    # Adam divides by a running mean that several workers of a parameter server change at once: keep it off zero.
    optimizer = tf.keras.optimizers.Adam(epsilon=1e-3)
    model.compile(optimizer, "mse", metrics=["mae", tf.keras.metrics.RootMeanSquaredError(name="rmse")])
    return model


def _decay() -> tf.keras.callbacks.Callback:
    return tf.keras.callbacks.LearningRateScheduler(lambda epoch: 0.002 * 0.3**epoch)


def _compare(ctx: TaskContext, mae: float, rmse: float) -> dict[str, float]:
    """Print the model's errors beside those of the baselines, on the chief, and return them."""
    baselines = _baselines()
    if ctx.is_chief:
        print(_table({**baselines, "this model": (mae, rmse)}), flush=True)
    base_mae, base_rmse = next(iter(baselines.values()))
    return {
        "mae": mae,
        "rmse": rmse,
        "baseline_mae": base_mae,
        "baseline_rmse": base_rmse,
        "margin_mae": 1 - mae / base_mae,
        "margin_rmse": 1 - rmse / base_rmse,
    }


def _baselines() -> Scores:
    """What a person at the gate can say: the flight keeps its delay, but for what flights usually make up."""
    past, now = (
        {name: column.to_numpy() for name, column in zip(table.column_names, table.columns, strict=True)}
        for table in (pq.read_table(DATA / part, columns=_BASELINE_COLUMNS) for part in ("train", "test"))
    )
    usual = np.mean(past["arr_delay"] - past["dep_delay"], dtype=np.float64)
    actual = now["arr_delay"] - now["dep_delay"]
    return {
        "departure delay + the mean made up": _scores(usual - actual),
        "departure delay + made up by last 10 flights there": _scores(now["recent_dest"] - actual),
    }


_BASELINE_COLUMNS = ["dep_delay", "arr_delay", "recent_dest"]


def _scores(errors: np.ndarray) -> tuple[float, float]:
    """Mean absolute error and root mean squared error of `errors`, in minutes."""
    return float(np.mean(np.abs(errors), dtype=np.float64)), float(
        np.sqrt(np.mean(np.square(errors, dtype=np.float64)))
    )


def _table(scores: Scores) -> str:
    """Errors by name, and how much lower each is than the first."""
    first = next(iter(scores.values()))
    lines = [f"{'arrival delay, October to December, in minutes':<52}{'MAE':>6}{'RMSE':>15}"]
    for name, values in scores.items():
        lower = [
            f"({value / base - 1:+.1%})" if values != first else "" for value, base in zip(values, first, strict=True)
        ]
        lines.append(f"{name:<52}{values[0]:>6.2f} {lower[0]:<8}{values[1]:>6.2f} {lower[1]}")
    return "\n".join(lines)
