"""Commands on terminals that cannot write everything: `?` for what they lack, JSON as anywhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cluster.tasks import Task
from tests.made_runs import Made

NAME = "Präzision 精度"


@pytest.fixture
def uri(tmp_path: Path) -> str:
    made = Made(tmp_path, "made-1", alive=True)
    made.start(0.0, [Task("worker", 0)])
    made.event(9.0, "step", 1, Task("worker", 0), step=3, metrics={NAME: 0.5})
    return made.uri


def output(*words: str, **env: str) -> bytes:
    command = [sys.executable, "-m", "cluster", *words]
    done = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, env={**os.environ, **env})
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    return done.stdout


@pytest.mark.parametrize(
    ("command", "env", "shown"),
    [
        ("status", {"PYTHONIOENCODING": "latin-1"}, "Präzision ??".encode("latin-1")),
        ("top", {"PYTHONIOENCODING": "latin-1"}, "Präzision ??".encode("latin-1")),
        ("status", {"PYTHONIOENCODING": "ascii"}, NAME.encode()),  # typer takes such a terminal for one of UTF-8
        ("top", {"PYTHONIOENCODING": "ascii"}, b"Pr?zision ??"),
        ("top", {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}, b"Pr?zision ??"),
        ("status", {"PYTHONIOENCODING": "utf-8"}, NAME.encode()),
        ("top", {"PYTHONIOENCODING": "utf-8"}, NAME.encode()),
    ],
)
def test_a_name_beyond_the_terminals_encoding_ends_no_command(
    uri: str, command: str, env: dict[str, str], shown: bytes
) -> None:
    assert shown in output(command, uri, **env)


@pytest.mark.parametrize("command", ["status", "top"])
@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_json_is_whole_whatever_the_encoding(uri: str, command: str, encoding: str) -> None:
    assert NAME in str(json.loads(output(command, uri, "--json", PYTHONIOENCODING=encoding)))
