"""The distribution: its version, its command, its lock file, and what the command does not import."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import cluster
from cluster.errors import PreflightError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
HEAVY = {"ray", "tensorflow", "tensorflow_io", "keras", "tf_keras", "pyarrow", "numpy", "pandas", "kubernetes"}


def _pyproject() -> dict[str, Any]:
    document: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return document


def _imported_by(*arguments: str) -> set[str]:
    """Top-level packages that `tfcluster ARGUMENTS` imports."""
    command = [sys.executable, "-X", "importtime", "-m", "cluster", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    modules = re.findall(r"^import time:.*\|\s+(\S+)$", done.stderr, re.MULTILINE)
    assert "cluster.cli" in modules
    return {module.partition(".")[0] for module in modules}


def test_version_has_one_source() -> None:
    pyproject = _pyproject()
    assert "version" in pyproject["project"]["dynamic"]
    source = ROOT / pyproject["tool"]["hatch"]["version"]["path"]
    assert source.samefile(str(cluster.__file__))


def test_changelog_describes_this_version() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"\n## {cluster.__version__}" in changelog


def test_command_is_what_pyproject_names() -> None:
    module, _, attribute = _pyproject()["project"]["scripts"]["tfcluster"].partition(":")
    assert callable(getattr(importlib.import_module(module), attribute))


@pytest.mark.parametrize("arguments", [("--help",), ("run", "--help"), ("--version",), ("schema",)])
def test_light_commands_import_nothing_heavy(arguments: tuple[str, ...]) -> None:
    assert not _imported_by(*arguments) & HEAVY


def test_plan_works_without_tensorflow(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("def train(ctx):\n    pass\n")
    (tmp_path / "job.yaml").write_text(
        "entrypoint: train.py:train\nstrategy: multi_worker_mirrored\nroles: {worker: 2}\n"
    )
    program = (
        "import sys\n"
        "for name in ('tensorflow', 'tensorflow_io', 'keras', 'tf_keras'):\n"
        "    sys.modules[name] = None\n"  # an import of it raises ImportError
        "sys.argv = ['tfcluster', 'plan', 'job.yaml']\n"
        "from cluster.cli import main\n"
        "main()\n"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(
        command, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )
    # Where TensorFlow is not even installed, the plan says so: one problem, and the exit code of problems found.
    assert done.returncode in (0, PreflightError.exit_code), done.stderr
    assert "worker-1" in done.stdout
    assert "Traceback" not in done.stderr


def test_what_decides_in_cluster_loads_nothing_heavy() -> None:
    contracts = {contract["id"]: contract for contract in _pyproject()["tool"]["importlinter"]["contracts"]}
    modules = [name for name in contracts["pure"]["source_modules"] if name.startswith("cluster.")]
    program = "import sys, importlib\nfor name in sys.argv[1:]: importlib.import_module(name)\nprint(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program, *modules], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert not {name.partition(".")[0] for name in done.stdout.split()} & HEAVY


def test_lock_file_names_the_public_index_only() -> None:
    hosts = set(re.findall(r"https?://([^/\"]+)", (ROOT / "uv.lock").read_text(encoding="utf-8")))
    assert hosts == {"pypi.org", "files.pythonhosted.org"}
