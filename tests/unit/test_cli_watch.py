"""Options of `tfcluster tensorboard` that a job on Kubernetes cannot have."""

from __future__ import annotations

import pytest

from cluster.cli_watch import tensorboard
from cluster.errors import SpecError


def test_a_forwarded_port_listens_on_this_machine_only() -> None:
    with pytest.raises(SpecError, match=r"listens on localhost · --host 0\.0\.0\.0 · leave it out"):
        tensorboard("flights-1", host="0.0.0.0", kubernetes=True)
