"""MultiWorkerMirroredStrategy besides fit: who makes it, loops of the user's own, and the loss of a worker."""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from tests.tf.crew import Forge, cluster

pytestmark = pytest.mark.timeout(180)


def two_workers(forge: Forge, function: str, **kwargs: Any) -> list[Any]:
    """The results of a function of `loops` on two workers."""
    job = (f"tests.tf.loops:{function}", kwargs)
    with cluster(forge, {"worker-0": job, "worker-1": job}) as crew:
        return [*crew.results(150).values()]


def one_process(forge: Forge, function: str, **kwargs: Any) -> Any:
    """The result of a function of `loops` in a process without a cluster."""
    crew = forge.start({"alone": (f"tests.tf.loops:{function}", kwargs)}, {"alone": {}})
    try:
        return crew.result("alone")
    finally:
        crew.close()


def test_reduce_stays_what_it_was(keras3: Forge) -> None:
    expected: dict[str, Any] = {
        "sum": 3.0 + 33.0,
        "mean": (3.0 + 33.0) / 2,
        "elementwise": [10, 12, 14],
        "over rows": 1 + 33,
        "mean over rows": (0 + 1 + 10 + 11 + 12) / 5,
        "gathered": [0, 1, 10, 11, 12],
    }
    for result in two_workers(keras3, "reduce_all_ways"):
        for when in ("before", "after"):
            for how, value in expected.items():
                np.testing.assert_allclose(result[when][how], value, err_msg=f"{how} {when} the repair")


STOPPABLE = """
import json, os, signal, socket
with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    address = "127.0.0.1:%d" % probe.getsockname()[1]
os.environ["TF_CONFIG"] = json.dumps({"cluster": {"worker": [address]}, "task": {"type": "worker", "index": 0}})
from cluster.repairs import repair
repair()
import tensorflow as tf
tf.distribute.MultiWorkerMirroredStrategy()
os.kill(os.getpid(), signal.SIGTERM)
signal.sigtimedwait([signal.SIGUSR1], 5)
"""


def test_sigterm_ends_a_worker() -> None:
    """TensorFlow's coordination service would take it for a notice, and the worker would go on."""
    done = subprocess.run([sys.executable, "-c", STOPPABLE], capture_output=True, check=False)
    assert done.returncode == -signal.SIGTERM, done.stderr


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("tensorflow", "distribute.experimental.MultiWorkerMirroredStrategy"),
        ("tensorflow.python.distribute.collective_all_reduce_strategy", "CollectiveAllReduceStrategy"),
    ],
)
def test_fit_works_whoever_makes_the_strategy(keras3: Forge, module: str, name: str) -> None:
    alone = one_process(keras3, "fit_under", module="tensorflow", name="distribute.get_strategy")
    for loss, replicas in two_workers(keras3, "fit_under", module=module, name=name, times=2):
        assert loss == pytest.approx(alone[0], rel=1e-6)
        assert replicas == 2


def test_shapes_that_only_a_batch_tells(keras3: Forge) -> None:
    assert two_workers(keras3, "unknown_shapes") == [3, 3]


def test_a_model_that_knows_the_rows_of_a_batch(keras3: Forge) -> None:
    for sizes in two_workers(keras3, "stateful"):
        assert sizes[:3] == [2 * 3, 3 * 3, 3]


def test_fit_reads_no_batch_but_to_train_on_it(keras3: Forge) -> None:
    assert two_workers(keras3, "reads") == [2, 2]


def test_no_thread_tunes_what_only_fetches_ahead(keras3: Forge) -> None:
    for tuned in two_workers(keras3, "untuned"):
        assert len(tuned) >= 2
        assert all(enabled is False for enabled in tuned)  # TensorFlow's own default is None


def test_tf_keras_is_left_alone(keras2: Forge) -> None:
    assert one_process(keras2, "repair_without_keras_3")


def test_a_silent_worker_gets_a_minute(keras3: Forge) -> None:
    assert two_workers(keras3, "heartbeat") == [60_000, 60_000]


def test_a_heartbeat_that_the_user_chose_is_kept(keras3: Forge) -> None:
    assert one_process(keras3, "heartbeat", asked=1234) == 1234


@pytest.mark.parametrize("lost", ["worker-0", "worker-1"])
def test_the_loss_of_a_worker_is_known_as_a_peers(keras3: Forge, lost: str) -> None:
    job: tuple[str, dict[str, Any]] = ("tests.tf.loops:step_for_ever", {})
    other = {"worker-0": "worker-1", "worker-1": "worker-0"}[lost]
    with cluster(keras3, {"worker-0": job, "worker-1": job}) as crew:
        for name in crew.names:
            crew.event(name, lambda event: event == "stepping")
        crew.kill(lost)
        assert crew.event(other, lambda event: event != "stepping", timeout=90) is True
        assert crew.event(other, lambda event: isinstance(event, tuple)) == ("raised while handling it", True)


def test_errors_of_the_users_own_are_no_peers(keras3: Forge) -> None:
    seen = one_process(keras3, "own_errors")
    assert seen == dict.fromkeys(seen, False)


@pytest.mark.parametrize("keras", ["3", "2"])
def test_precision_is_the_policy_of_new_layers(keras: str, request: pytest.FixtureRequest) -> None:
    forge: Forge = request.getfixturevalue(f"keras{keras}")
    kwargs = {"keras": keras}
    assert one_process(forge, "precision", name="float32", **kwargs) == ("float32", "float32")
    assert one_process(forge, "precision", name="mixed_bfloat16", **kwargs) == ("mixed_bfloat16", "bfloat16")
    assert one_process(forge, "precision", name="mixed_float16", **kwargs) == ("mixed_float16", "float16")


def test_log_level_is_that_of_tensorflows_logger(keras3: Forge) -> None:
    assert one_process(keras3, "log_level", level="error") == logging.ERROR
    assert one_process(keras3, "log_level", level="debug") == logging.DEBUG
