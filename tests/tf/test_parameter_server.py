"""Training on parameter servers: tf-keras fit, loops with a coordinator, partitions, mistakes and lost servers."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from tests.tf.crew import Crew, Forge, cluster

pytestmark = pytest.mark.timeout(180)

SERVE: tuple[str, dict[str, Any]] = ("tests.tf.servers:serve", {})


@contextmanager
def coordinated(forge: Forge, function: str, workers: int = 1, ps: int = 1, **kwargs: Any) -> Iterator[Crew]:
    """A coordinator that runs a function of `servers`, with its workers and parameter servers."""
    jobs = {"chief-0": (f"tests.tf.servers:{function}", kwargs)}
    jobs |= {f"worker-{i}": SERVE for i in range(workers)}
    jobs |= {f"ps-{i}": SERVE for i in range(ps)}
    with cluster(forge, jobs) as crew:
        yield crew


def alone(forge: Forge, function: str, env: dict[str, str] | None = None, **kwargs: Any) -> Any:
    """The result of a function of `servers` in one process."""
    crew = forge.start({"alone": (f"tests.tf.servers:{function}", kwargs)}, {"alone": env or {}})
    try:
        return crew.result("alone")
    finally:
        crew.close()


def test_fit_with_one_worker_equals_one_process(keras2: Forge) -> None:
    with coordinated(keras2, "fit", workers=1, ps=2) as crew:
        found = crew.result("chief-0")
        assert crew.event("ps-1") == "ready"
        assert "ps-1 serves at 127.0.0.1:" in crew.log("ps-1")
    expected = alone(keras2, "fit", clustered=False)
    for name, values in expected["history"].items():
        np.testing.assert_allclose(found["history"][name], values, rtol=1e-5, err_msg=name)
    np.testing.assert_allclose(found["evaluated"], expected["evaluated"], rtol=1e-5)
    for one, other in zip(found["weights"], expected["weights"], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    assert {ps for ps, _ in found["shards"]} == {0, 1}


def test_a_partition_spreads_a_variable_over_the_servers(keras2: Forge) -> None:
    with coordinated(keras2, "fit", workers=1, ps=2, partition={"shards": 2}) as crew:
        found = crew.result("chief-0")
    assert sorted(found["shards"][:2]) == [(0, (3, 4)), (1, (3, 4))]
    assert found["history"]["loss"][1] < found["history"]["loss"][0]


def test_fit_learns_with_two_workers(keras2: Forge) -> None:
    with coordinated(keras2, "fit", workers=2, ps=1) as crew:
        losses = crew.result("chief-0")["history"]["loss"]
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("keras", ["keras3", "keras2"])
def test_a_loop_of_ones_own_learns(keras: str, request: pytest.FixtureRequest) -> None:
    with coordinated(request.getfixturevalue(keras), "loop", workers=2, ps=2, steps=60) as crew:
        result = crew.result("chief-0")
    assert result["iterations"] == 60
    assert np.mean(result["losses"][-4:]) < result["losses"][0] / 2


def test_fit_of_keras_3_says_what_to_use(keras3: Forge) -> None:
    with coordinated(keras3, "keras_3_fit") as crew:
        said = crew.result("chief-0")
    for method in ("fit", "evaluate", "predict"):
        assert said[method] == (
            f"SpecError: Keras 3 cannot {method} a model on parameter servers · model.{method} under "
            f"ParameterServerStrategyV2 · set keras: 2, whose {method} can, or write the loop with ctx.coordinator"
        )
    assert said["local"] == ""


def test_mistakes_with_dataset_creators_are_explained(keras2: Forge) -> None:
    with coordinated(keras2, "mistakes") as crew:
        said = crew.result("chief-0")
    assert said["no function"].startswith("SpecError: a dataset creator needs a function")
    for case in ("built outside", "visited once"):
        assert said[case].startswith("SpecError: the dataset was built outside the function")
    assert "`steps_per_epoch`" in said["no steps"]


@pytest.mark.parametrize(
    ("partition", "parts"),
    [
        ({"shards": 3}, [[3, 1], [3, 1], [3]]),
        ({"min_size": "1KiB"}, [[4, 1], [1, 1], [1]]),  # at most one a ps
        ({"max_size": "1KiB"}, [[32, 1], [1, 1], [1]]),
    ],
)
def test_partitioners_split_as_the_spec_says(keras3: Forge, partition: dict[str, Any], parts: list[list[int]]) -> None:
    config = {"cluster": {"ps": ["a:1", "b:1", "c:1", "d:1"], "chief": ["e:1"]}, "task": {"type": "chief", "index": 0}}
    assert alone(keras3, "split", {"TF_CONFIG": json.dumps(config)}, partition=partition) == parts


def test_a_lost_ps_is_known_as_a_peers_loss(keras3: Forge) -> None:
    with coordinated(keras3, "loop", steps=1_000_000) as crew:
        crew.event("chief-0", lambda event: event == 5)
        crew.kill("ps-0")
        assert crew.event("chief-0", lambda event: isinstance(event, tuple)) == ("UnavailableError", True)


def test_a_worker_started_anew_at_its_address_goes_on(keras3: Forge) -> None:
    with coordinated(keras3, "loop", steps=1_000_000) as crew:
        crew.event("chief-0", lambda event: event == 5)
        crew.kill("worker-0")
        crew.exit("worker-0")
        done = max(crew.events["chief-0"])
        crew.start_again("worker-0")
        assert crew.event("chief-0", lambda event: event > done + 5) > done


def test_an_error_of_the_users_on_a_worker_is_no_peers(keras3: Forge) -> None:
    with coordinated(keras3, "loop", fails_on_worker=True) as crew:
        assert crew.event("chief-0", lambda event: isinstance(event, tuple)) == ("InvalidArgumentError", False)


def test_numbers_are_checked_on_workers_too(keras3: Forge) -> None:
    """What a spec with `debug` and parameter servers is told to do."""
    with coordinated(keras3, "checked", workers=2) as crew:
        name, peer, text = crew.event("chief-0", lambda event: isinstance(event, tuple))
    assert (name, peer) == ("InvalidArgumentError", False)
    assert 'Detected Infinity or NaN in output 0 of graph op "Log"' in text
    assert re.search(r"tests/tf/servers\.py \(L\d+\) step", text)
