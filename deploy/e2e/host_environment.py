"""A Python environment of this machine in place of an image: an image without files, and what the node adds to it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from deploy.e2e.errors import E2EError
from deploy.e2e.images import write_image

IMAGE = "localhost/ray-tfcluster:host"
_ROOT = Path(__file__).resolve().parents[2]
#: Folders that merely point into /usr on many systems, and are folders of their own on others.
_SYSTEM = ("bin", "sbin", "lib", "lib64")


def folders(python: Path) -> list[Path]:
    """What a program of this Python reads: the system's files, the environment, what it was made of, this clone.

    Raises:
        E2EError: it has no ray-tfcluster, or lies in /tmp.
    """
    ask = "import json, sys, cluster, ray; print(json.dumps([sys.prefix, sys.base_prefix]))"
    done = subprocess.run([str(python), "-c", ask], cwd="/", capture_output=True, text=True, check=False)
    if done.returncode:
        raise E2EError(f"no environment with ray-tfcluster and Ray · {python}\n{done.stderr} · name one that has both")
    wanted = [Path("/usr"), *(Path(place) for place in json.loads(done.stdout)), _ROOT]
    wanted += [Path("/", name) for name in _SYSTEM if Path("/", name).is_dir() and not Path("/", name).is_symlink()]
    return _outermost(wanted)


def _outermost(wanted: Iterable[Path]) -> list[Path]:
    """Those that lie in no other one.

    Raises:
        E2EError: one is where Pods have a folder of their own.
    """
    kept: list[Path] = []
    for place in sorted(set(wanted), key=lambda path: len(path.parts)):
        if not any(place.is_relative_to(other) for other in kept):
            kept.append(place)
    if hidden := [place for place in kept if place.is_relative_to("/tmp")]:
        raise E2EError(f"Pods have a /tmp of their own and would not see it · {hidden[0]} · put it somewhere else")
    return kept


def write_host_image(archive: Path, python: Path) -> None:
    """The image itself: where its programs are, once the node has added them."""
    links = {name: str(Path("/", name).readlink()) for name in _SYSTEM if Path("/", name).is_symlink()}
    path = f"{python.parent}:/usr/local/bin:/usr/bin:/bin"
    write_image(archive, IMAGE, links=links, env=[f"PATH={path}", "PYTHONDONTWRITEBYTECODE=1", "LANG=C.UTF-8"])


def base_spec(default: str, python: Path) -> dict[str, Any]:
    """Containerd's `default` for containers, with this machine's folders in each of them, to be read only."""
    spec: dict[str, Any] = json.loads(default)
    for folder in folders(python):
        place = str(folder)
        spec["mounts"].append({"destination": place, "source": place, "type": "bind", "options": ["rbind", "ro"]})
    return spec
