"""Which Keras a job uses, and whether the installed packages go together. Pure."""

from __future__ import annotations

from typing import Literal, NamedTuple

from cluster.errors import PreflightError
from cluster.spec import JobSpec
from cluster.spec_parts import StrategyName
from pipelines.tfio_limits import misfit


class KerasChoice(NamedTuple):
    """The Keras of a job: `"2"` is tf-keras, `"3"` Keras 3; and a sentence that says why."""

    major: Literal["2", "3"]
    reason: str


def choose_keras(
    keras: Literal["auto", "2", "3"], strategy: StrategyName, script: bool, tf_keras_installed: bool
) -> KerasChoice:
    """Keras 3 where it works, tf-keras for `fit` on parameter servers, and what the user says before both.

    Raises:
        PreflightError: tf-keras is asked for and not installed.
    """
    if keras == "2" and not tf_keras_installed:
        raise PreflightError("keras: 2 needs tf-keras", "not installed", "pip install 'ray-tfcluster[tensorflow]'")
    if keras == "2":
        return KerasChoice("2", "Keras 2 (tf-keras), as the spec says")
    if keras == "3":
        return KerasChoice("3", "Keras 3, as the spec says")
    if strategy == "parameter_server" and not script:
        if tf_keras_installed:
            return KerasChoice("2", "Keras 2 (tf-keras), for Keras 3 has no fit on parameter servers")
        return KerasChoice(
            "3", "Keras 3, so write a loop with ctx.coordinator: fit on parameter servers needs tf-keras"
        )
    return KerasChoice("3", "Keras 3")


def versions_fit(tensorflow: str, tf_keras: str | None, tensorflow_io: str | None, spec: JobSpec) -> list[str]:
    """Every reason why these installed versions cannot run `spec` together."""
    problems = []
    script = spec.script is not None
    if (
        tf_keras is not None
        and choose_keras(spec.keras, spec.strategy, script, True).major == "2"
        and _minor(tf_keras) != _minor(tensorflow)
    ):
        problems.append(
            f"tf-keras {tf_keras} does not go with TensorFlow {tensorflow}; install tf-keras=={_minor(tensorflow)}.*"
        )
    wants = ["tensorflow_io: true"] if spec.tensorflow_io else []
    wants += [f"data.{name}.engine: tensorflow_io" for name, data in spec.data.items() if data.engine != "arrow"]
    if wants and (problem := misfit(wants[0], tensorflow, tensorflow_io)):
        problems.append(" · ".join(problem))
    return problems


def _minor(version: str) -> str:
    return ".".join(version.split(".")[:2])
