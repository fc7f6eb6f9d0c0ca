"""The fixtures of the tests with a real Ray."""

from tests.ray.conftest import _nothing_left, ray_address, start

__all__ = ["_nothing_left", "ray_address", "start"]
