"""One TensorFlow process a Keras version and session; every test forks its tasks from it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tf.crew import Forge


@pytest.fixture(scope="session")
def keras3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forge]:
    """A process with TensorFlow and Keras 3."""
    yield from _forge("3", tmp_path_factory.mktemp("keras3"))


@pytest.fixture(scope="session")
def keras2(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forge]:
    """A process with TensorFlow and tf-keras."""
    yield from _forge("2", tmp_path_factory.mktemp("keras2"))


def _forge(keras: str, directory: Path) -> Iterator[Forge]:
    forge = Forge(keras, directory)
    yield forge
    forge.close()
