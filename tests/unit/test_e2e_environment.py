"""Which folders of this machine the Pods of the end-to-end tests see."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.e2e.errors import E2EError
from deploy.e2e.host_environment import _outermost


def test_each_folder_once_with_what_is_in_it() -> None:
    given = [Path("/opt/clone/.venv"), Path("/usr"), Path("/opt/clone"), Path("/usr/local")]
    assert sorted(_outermost(given)) == [Path("/opt/clone"), Path("/usr")]


def test_what_pods_would_not_see_is_refused() -> None:
    with pytest.raises(E2EError, match=r"a /tmp of their own and would not see it · /tmp/clone · "):
        _outermost([Path("/usr"), Path("/tmp/clone/.venv"), Path("/tmp/clone")])
