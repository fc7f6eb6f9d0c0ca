"""The one error that a user of this package is told without a traceback."""

from __future__ import annotations


class E2EError(Exception):
    """What happened · value seen · what to do."""
