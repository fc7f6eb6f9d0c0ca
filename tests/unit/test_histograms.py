"""Histograms of weights: those that TensorBoard makes, of any values."""

from __future__ import annotations

import numpy as np
import pytest

from cluster.summaries import BUCKETS, buckets


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("shape", [(1000,), (7, 11, 3), (2,)])
def test_it_is_tensorboards_own(dtype: type, shape: tuple[int, ...]) -> None:
    from tensorboard.plugins.histogram.summary_v2 import histogram_pb
    from tensorboard.util.tensor_util import make_ndarray

    values: np.ndarray = np.random.default_rng(7).normal(size=shape).astype(dtype)
    theirs = make_ndarray(histogram_pb("weights", values).value[0].tensor)
    ours = buckets(values)
    assert ours.dtype == theirs.dtype
    np.testing.assert_allclose(ours[:, :2], theirs[:, :2])
    assert np.abs(ours[:, 2] - theirs[:, 2]).sum() <= 2  # a value on an edge may be of either bucket
    assert ours[:, 2].sum() == values.size


@pytest.mark.parametrize(
    ("values", "count"),
    [
        ([], 0),
        ([np.nan, np.inf, -np.inf], 0),
        ([1.0, np.nan, 2.0, np.inf], 2),
        ([0.5] * 9, 9),
        ([-3e38, 3e38], 2),
        (3.0, 1),
    ],
)
def test_values_of_every_kind(values: object, count: int) -> None:
    made = buckets(np.array(values, dtype=np.float32))
    assert made.shape == (BUCKETS, 3)
    assert np.isfinite(made).all()
    assert made[:, 2].sum() == count
