"""A Kubernetes cluster with KubeRay on this machine, for as long as it is wanted.

sudo python3 -m deploy.e2e                           until Ctrl-C; it says how to reach it
sudo python3 -m deploy.e2e -- ./dev test tests/e2e   while a command runs, and ends with its exit code
python3 -m deploy.e2e --simulated                    without root: Pods are scheduled, and run nothing
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from deploy.e2e import cluster, simulated
from deploy.e2e.errors import E2EError


def main(arguments: Sequence[str]) -> int:
    """Run a cluster, and the command beside it."""
    parser = argparse.ArgumentParser(prog="python3 -m deploy.e2e", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--python",
        type=Path,
        help="of the environment with ray-tfcluster that stands in for an image; default: this one",
    )
    parser.add_argument("--archive", type=Path, action="append", default=[], help="an image to import (docker-archive)")
    parser.add_argument("--image", default="", help="name of the image with ray-tfcluster, of an archive; no --python")
    parser.add_argument("--simulated", action="store_true", help="without root or kubelet: Pods that run nothing")
    parser.add_argument("--prepare", action="store_true", help="only install and build what it takes")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="-- and a command to run")
    given = parser.parse_args(arguments)
    if given.image and not given.archive:
        parser.error("--image is the name of an image in an --archive")
    if given.simulated and (given.python or given.archive):
        parser.error("--simulated runs neither an environment nor an image")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        if given.prepare:
            (simulated if given.simulated else cluster).prepare()
            return 0
        with _started(given) as (running, variables):
            return _use(running, variables, [word for word in given.command if word != "--"])
    except E2EError as error:
        print(f"e2e: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


@contextlib.contextmanager
def _started(given: argparse.Namespace) -> Iterator[tuple[cluster.Cluster, dict[str, str]]]:
    """The cluster, and the variables by which others find it."""
    if given.simulated:
        with simulated.simulated() as running:
            place = str(running.kubeconfig)
            yield running, {"KUBECONFIG": place, "TFCLUSTER_E2E_SIMULATED": place}
        return
    python = None if given.image else (given.python or Path(sys.executable)).absolute()
    with cluster.cluster(python, given.archive, given.image) as running:
        place = str(running.kubeconfig)
        yield (
            running,
            {"KUBECONFIG": place, "TFCLUSTER_E2E_KUBECONFIG": place, "TFCLUSTER_E2E_IMAGE": running.image},
        )


def _use(running: cluster.Cluster, variables: Mapping[str, str], command: Sequence[str]) -> int:
    """Run the command, or say how to use the cluster and wait."""
    if command:
        return subprocess.run(command, env={**os.environ, **variables}, check=False).returncode
    print("\n".join(f"export {name}={value}" for name, value in variables.items()), flush=True)
    print(f"e2e: the cluster is up, logs are in {running.folder}; Ctrl-C ends it", file=sys.stderr, flush=True)
    signal.pause()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
