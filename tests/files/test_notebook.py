"""The display in a notebook, in a real kernel: lines as they come, and one bar that is drawn anew in its place."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

nbclient = pytest.importorskip("nbclient", reason="runs notebooks")
nbformat = pytest.importorskip("nbformat", reason="makes notebooks")
pytest.importorskip("ipykernel", reason="is a kernel")

pytestmark = pytest.mark.timeout(120)

RUN = """
import time
from cluster.console import make_console
from cluster.events import Event
from cluster.tasks import Task

worker, shown = Task("worker", 0), make_console()
shown.event(Event("placed", 1, data={"nodes": {"worker-0": "10.0.0.1"}}))
shown.log(worker, "hello [1/2]")
for step in range(10, 51, 10):
    data = {"step": step, "metrics": {"loss": 1 / step, "a<b": 1.0}, "epoch": 1, "epochs": 1, "steps": 50}
    shown.event(Event("step", 1, worker, {**data, "epoch_done": True}, 1000.0 + step))
    time.sleep(0.01)
shown.event(Event("run_ended", 1, data={"status": "succeeded", "exit_code": 0}))
print(type(shown).__name__)
"""


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a kernel that is this interpreter."""
    folder = tmp_path / "kernels" / "of-this-test"
    folder.mkdir(parents=True)
    line = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (folder / "kernel.json").write_text(json.dumps({"argv": line, "display_name": "tests", "language": "python"}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    return folder.name


def outputs(code: str, kernel: str) -> list[Any]:
    """What a cell shows when it has run."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    nbclient.NotebookClient(notebook, timeout=100, kernel_name=kernel).execute()
    return list(notebook.cells[0].outputs)


def test_a_cell_shows_lines_and_one_bar(kernel: str) -> None:
    shown = outputs(RUN, kernel)
    text = "".join(output.text for output in shown if output.output_type == "stream")
    assert "placed worker-0 on 10.0.0.1\n" in text
    assert "[worker-0] hello [1/2]\n" in text
    assert text.endswith("NotebookConsole\n")
    assert " step " not in text
    (bar,) = [output for output in shown if output.output_type == "display_data"]
    assert bar.data["text/plain"].startswith("epoch 1/1 · step 50 · ")
    assert '<progress value="50" max="50"></progress>' in bar.data["text/html"]
    assert "loss 0.02 · a&lt;b 1" in bar.data["text/html"]
    assert "<br>worker 1 stopped</code>" in bar.data["text/html"]
