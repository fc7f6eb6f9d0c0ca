"""Keras under MultiWorkerMirroredStrategy trains what it trains in one process."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.tf.crew import Crew, Forge, cluster
from tests.tf.fits import CASES

pytestmark = pytest.mark.timeout(300)

#: Rows of a last batch weigh the same in a step's mean whoever has them, only if all replicas have as many.
UNEVEN = "uneven"
EVEN = [case for case in CASES if case != UNEVEN]


@pytest.fixture(scope="module")
def alone3(keras3: Forge) -> Iterator[Crew]:
    """One process with Keras 3, without a strategy, that trains every case."""
    yield from _alone(keras3, [*CASES])


@pytest.fixture(scope="module")
def alone2(keras2: Forge) -> Iterator[Crew]:
    """One process with tf-keras, without a strategy."""
    yield from _alone(keras2, LEGACY)


def _alone(forge: Forge, cases: list[str]) -> Iterator[Crew]:
    crew = forge.start({"alone": ("tests.tf.fits:train", {"cases": cases, "strategy": "none"})}, {"alone": {}})
    yield crew
    crew.close()


def workers(forge: Forge, cases: list[str], **kwargs: Any) -> dict[str, Any]:
    """The results of two workers that train `cases`, by worker."""
    job = ("tests.tf.fits:train", {"cases": cases, **kwargs})
    with cluster(forge, {"worker-0": job, "worker-1": job}) as crew:
        results = crew.results(240)
        assert {event[1] for event in crew.events["worker-0"]} == {2 * kwargs.get("devices", 1)}
    return results


#: tf-keras needs no repair; these show that it gets none that hurts.
LEGACY = ["dense", "classify", "columns", UNEVEN]


def test_two_workers_with_keras_3(keras3: Forge, alone3: Crew) -> None:
    results = workers(keras3, [*CASES])
    for worker in results.values():
        assert_equal(worker, alone3.result("alone", 240), EVEN)
    assert_evaluates_uneven_batches(results["worker-0"], alone3.result("alone"))


def test_two_workers_with_two_replicas_each(keras3: Forge, alone3: Crew) -> None:
    cases = ["columns", "custom_step", "several_steps", UNEVEN]
    results = workers(keras3, cases, devices=2)
    for worker in results.values():
        assert_equal(worker, alone3.result("alone", 240), [case for case in cases if case != UNEVEN])
    assert_evaluates_uneven_batches(results["worker-0"], alone3.result("alone"))


def test_two_workers_with_tf_keras(keras2: Forge, alone2: Crew) -> None:
    results = workers(keras2, LEGACY)
    for worker in results.values():
        assert_equal(worker, alone2.result("alone", 240), [case for case in LEGACY if case != UNEVEN])
    assert_evaluates_uneven_batches(results["worker-0"], alone2.result("alone"))


@pytest.mark.parametrize("keras", ["keras3", "keras2"])
def test_callbacks_decide_alike_on_every_worker(keras: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    forge: Forge = request.getfixturevalue(keras)
    name = "tests.tf.fits:with_callbacks"
    job = (name, {"directory": str(tmp_path / "cluster")})
    with cluster(forge, {"worker-0": job, "worker-1": job}) as crew:
        results = [*crew.results(240).values()]
    alone = forge.start({"alone": (name, {"directory": str(tmp_path / "alone")})}, {"alone": {}})
    try:
        expected = alone.result("alone", 240)
    finally:
        alone.close()
    assert 3 < len(expected["rates"]) < 12, "stopped early"
    assert expected["rates"][-1] < expected["rates"][2] * 0.5, "reduced on a plateau"
    assert expected["saved"]
    assert expected["events"]
    assert_close(results[0], expected, keras)
    files = ("saved", "events")  # tf-keras writes them on the chief only
    assert_close(without(results[1], files), without(expected, files), keras)


def without(result: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """`result` less some of its entries."""
    return {name: value for name, value in result.items() if name not in names}


def assert_equal(found: Mapping[str, Any], expected: Mapping[str, Any], cases: list[str]) -> None:
    """Losses, metrics, predictions and weights agree to float32's rounding."""
    for case in cases:
        assert_close(found[case], expected[case], case)


def assert_evaluates_uneven_batches(found: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Batches that cannot be split evenly count each row once when they are evaluated; trained, they run."""
    assert_close(found[UNEVEN]["before"], expected[UNEVEN]["before"], UNEVEN)
    assert found[UNEVEN]["steps"] == expected[UNEVEN]["steps"]
    assert np.isfinite(found[UNEVEN]["history"]["loss"]).all()
    assert found[UNEVEN]["predicted"].shape == expected[UNEVEN]["predicted"].shape


def assert_close(found: Any, expected: Any, where: str) -> None:
    """Two results agree, leaf by leaf."""
    assert type(found) is type(expected), where
    if isinstance(expected, dict):
        assert found.keys() == expected.keys(), where
        for name in expected:
            assert_close(found[name], expected[name], f"{where}.{name}")
    elif isinstance(expected, list):
        assert len(found) == len(expected), where
        for i, (one, other) in enumerate(zip(found, expected, strict=True)):
            assert_close(one, other, f"{where}[{i}]")
    elif isinstance(expected, int | str):
        assert found == expected, where
    else:
        np.testing.assert_allclose(found, expected, rtol=2e-6, atol=2e-6, err_msg=where)
