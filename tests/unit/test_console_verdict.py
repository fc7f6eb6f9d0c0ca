"""The report of a verdict, on a terminal and in plain lines."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from cluster.console_tables import Grid, fitted
from cluster.console_verdict import show
from cluster.verdict import judge_folder
from tests.unit.test_verdict import verdict_on


def report(document: dict, **options: object) -> str:
    file = io.StringIO()
    show(document, Console(file=file, **options))  # type: ignore[arg-type]
    return file.getvalue()


def test_a_plain_report(tmp_path: Path) -> None:
    text = report(verdict_on("input", tmp_path, missing={"worker-2": "it ended while it was traced"}).to_document())
    lines = text.splitlines()
    assert lines[0].startswith("input-bound: 41.8 ms of a step's 50.8 ms")
    assert lines[0].endswith("at best")
    header = "task      steps     step      p95  its own  input  compute  exchange  TF  other  feed"
    assert lines[2] == header
    assert lines[4].split()[:3] == ["worker-1", "16", "50.8"]
    assert any(line.split()[:1] == ["MatMul"] for line in lines), "the library's prefix is not shown"
    assert any(line.startswith("Map ") and line.endswith("Prefetch::RebatchV2::Prefetch::Map") for line in lines)
    assert "- no trace of worker-2: it ended while it was traced" in lines
    assert any(line.startswith("- ") and "num_parallel_calls" in line for line in lines)


def test_a_straggler_is_marked_and_servers_have_no_step_times(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "other").mkdir()
    assert "\nworker-1 (slow)  " in report(verdict_on("straggler", tmp_path / "one").to_document())
    served = report(verdict_on("servers", tmp_path / "other").to_document())
    (line,) = [line for line in served.splitlines() if line.startswith("ps-0")]
    assert " ms" not in line


@pytest.mark.parametrize("width", [60, 200])
def test_on_a_terminal(width: int, tmp_path: Path) -> None:
    text = report(verdict_on("compute", tmp_path).to_document(), force_terminal=True, width=width, no_color=True)
    assert "compute-bound: operations compute in" in text
    assert "worker-1" in text
    assert "to try:" in text


@pytest.mark.parametrize(
    ("width", "header"),
    [
        (120, "task steps step p95 its own input compute exchange TF other feed"),
        (80, "task steps step its own input compute exchange TF other"),
        (60, "task step input compute exchange other"),
    ],
)
def test_on_a_narrow_terminal_columns_go_and_no_cell_is_broken(width: int, header: str, tmp_path: Path) -> None:
    document = verdict_on("straggler", tmp_path).to_document()
    text = report(document, force_terminal=True, width=width, no_color=True, color_system=None)
    table = [line for line in text.splitlines() if line.startswith(("task ", "worker-0 ", "worker-1 (slow) "))]
    assert " ".join(table[0].split()) == header
    assert "worker-1 (slow)" in table[2]
    assert len({len(line.rstrip()) for line in table[1:3]}) == 1
    begin = text.index("operation ")
    operations = text[begin : text.index("\n\n", begin)].splitlines()
    assert len(operations) == 1 + min(10, len(document["operations"]))
    assert all(len(line) <= width for line in (*table[:3], *operations))


def test_a_long_last_column_keeps_its_end() -> None:
    grid = Grid("", ["operation", ">calls", "name"], [["MatMul", "12", "a" * 30 + "/end"]], (">calls",))
    assert fitted(grid, 80) == grid
    assert fitted(grid, 42).rows == [["MatMul", "12", "…" + "a" * 19 + "/end"]]
    assert fitted(grid, 40).header == ["operation", "name"]
    assert fitted(grid, 10).rows == [["MatMul", "…"]]


def test_a_document_that_says_little(tmp_path: Path) -> None:
    assert report({}) == "no verdict\n"
    assert report({"sentence": "no verdict: ValueError: x", "missing": {}}) == "no verdict: ValueError: x\n"
    nothing = judge_folder(tmp_path, strategy="none", missing={})
    assert report(nothing.to_document()).startswith("nothing was traced\n")
