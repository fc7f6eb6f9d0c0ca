"""`./dev`: how it counts tests, and how it answers a wrong command."""

from __future__ import annotations

import subprocess
import sys
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType

import pytest

DEV = Path(__file__).parents[2] / "dev"


@pytest.fixture
def dev(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    spec = spec_from_loader("dev", SourceFileLoader("dev", str(DEV)))
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """A folder like those `./dev` makes, with the Python that runs this test."""
    (tmp_path / "bin").mkdir()
    python = tmp_path / "bin" / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    return tmp_path


def _count(dev: ModuleType, environment: Path, tests: str) -> tuple[int, int, int]:
    file = environment / "test_example.py"
    file.write_text(f"import os, pytest\n{tests}\n")
    (environment / "none.ini").write_text("[pytest]\n")  # not the project's own settings
    options = ("-c", str(environment / "none.ini"), "-p", "no:cacheprovider")
    counts: tuple[int, int, int] = dev.run_tests(environment, *options, str(file))
    return counts


def test_counts_what_pytest_counts(dev: ModuleType, environment: Path) -> None:
    tests = (
        "@pytest.fixture\ndef broken(): raise ValueError\n"
        "def test_a(): pass\n"
        "def test_b(): pass\n"
        "def test_fails(): assert False\n"
        "def test_error(broken): pass\n"
        "def test_skipped(): pytest.skip('why')\n"
    )
    assert _count(dev, environment, tests) == (2, 2, 1)


def test_a_crash_is_a_failure(dev: ModuleType, environment: Path) -> None:
    assert _count(dev, environment, "def test_dies(): os._exit(0)") == (0, 1, 0)


def test_no_test_at_all_is_a_failure(dev: ModuleType, environment: Path) -> None:
    assert _count(dev, environment, "") == (0, 1, 0)


def test_wrong_command_shows_the_right_ones() -> None:
    done = subprocess.run([sys.executable, str(DEV), "tset"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "./dev test" in done.stderr
