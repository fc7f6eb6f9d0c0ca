"""`tfcluster data` as a person types it, as far as it needs no Ray; and its tables, on a terminal and without one."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from cluster import console_data
from cluster.cli import main
from cluster.console_data import make_progress, show_analysis, show_report, show_result
from pipelines.convert import Result
from pipelines.example_writer import sequence_example_of
from pipelines.inputs import Options
from pipelines.inspect import inspect
from pipelines.summary import summarize
from pipelines.tfrecord_writer import write_records


def tfcluster(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    monkeypatch.setattr(sys, "argv", ["tfcluster", "data", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        main()
    code = ended.value.code
    assert isinstance(code, int | None)
    return code or 0


@pytest.fixture
def file(tmp_path: Path) -> Path:
    table = pa.table({"number": [1.5, None], "text": ["[bold]a[/] :smile:", "b" * 200], "list": [[1, 2], []]})
    pq.write_table(table, tmp_path / "data.parquet")
    return tmp_path / "data.parquet"


def test_inspect_prints_tables_and_what_is_next(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tfcluster(monkeypatch, "inspect", file, "--workers", 2) == 0
    out = capsys.readouterr().out
    assert "rows            2\n" in out
    assert "ragged int64" in out
    assert "[bold]a[/] :smile:" in out
    assert "note: columns hold nulls · number 1" in out
    assert out.endswith(f"next: tfcluster data analyze {file}\n")


def test_inspect_prints_one_document(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tfcluster(monkeypatch, "inspect", file, "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["rows"] == 2
    assert document["columns"][0]["nulls"] == 1
    assert document["findings"][0]["level"] == "note"


def test_the_parts_of_sequence_examples_are_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_records(str(tmp_path / "x.tfrecord"), [sequence_example_of({"user": "a"}, {"token": [[1], [2]]})] * 3)
    assert tfcluster(monkeypatch, "inspect", tmp_path) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["column", "part", "Arrow", "type", "TensorFlow", "gets"] in lines
    assert ["token", "sequence", "list<item:", "int64>", "ragged", "int64"] in lines
    assert tfcluster(monkeypatch, "convert", tmp_path, tmp_path / "out") == 3
    assert "a record is a SequenceExample, which convert and analyze do not take" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "encoding", "place"),
    [
        (("inspect",), "utf-16", "begins with"),
        (("inspect",), "latin-1", "line 2, column name"),
        (("convert", "OUT"), "utf-16", "begins with"),
    ],
)
def test_csv_that_is_not_utf8_is_named(
    words: tuple[str, ...],
    encoding: str,
    place: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    (tmp_path / "a.csv").write_bytes("name\nZürich\n".encode(encoding))
    out = [tmp_path / word for word in words[1:]]
    assert tfcluster(monkeypatch, words[0], tmp_path / "a.csv", *out) == 3
    error = capsys.readouterr().err
    assert "a CSV file is not UTF-8" in error
    assert place in error
    assert "write it as UTF-8" in error


def test_too_few_rows_are_exit_code_3(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tfcluster(monkeypatch, "inspect", file, "--workers", 3) == 3
    assert "error: there are fewer rows than workers · 2 rows, 3 workers" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("inspect", "nothing"), 3, "error: no data file is there"),
        (("inspect", "FILE", "--columns", "txt"), 3, "there is no column txt"),
        (("inspect", "FILE", "--type", "text"), 2, "a type needs a column and a type · --type text"),
        (("inspect", "FILE", "--delimiter", "ab"), 2, "a delimiter is one character"),
        (("convert", "FILE", "OUT", "--to", "avro"), 2, "no such format to convert to · --to avro"),
        (("convert", "FILE", "OUT", "--shard-size", "large"), 2, "not a size · --shard-size large"),
        (("convert", "FILE", "OUT", "--to", "csv"), 3, "column list does not fit into CSV"),
        (("convert", "FILE", "OUT", "--compression", "zip"), 3, "parquet has no such compression"),
        (("analyze", "nothing"), 3, "no data file is there"),
    ],
)
def test_a_mistake_is_one_sentence_before_ray_is_started(
    words: tuple[str, ...],
    code: int,
    message: str,
    file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)  # an import of it raises ImportError
    named = {"FILE": file, "OUT": tmp_path / "out"}
    assert tfcluster(monkeypatch, *(named.get(word, word) for word in words)) == code
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert not (tmp_path / "out").exists()


def on_a_terminal(monkeypatch: pytest.MonkeyPatch, width: int = 100) -> io.StringIO:
    stream = io.StringIO()
    monkeypatch.setattr(
        console_data, "Console", lambda: Console(file=stream, force_terminal=True, width=width, color_system=None)
    )
    monkeypatch.setattr(sys, "stdout", stream)
    return stream


def test_tables_on_a_terminal_show_the_same(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = on_a_terminal(monkeypatch)
    show_report(inspect([str(file)], Options()))
    shown = stream.getvalue()
    assert "ragged int64" in shown
    assert "[bold]a[/] :smile:" in shown
    assert max(map(len, shown.splitlines()[:-2])) <= 200


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_is_a_bar_or_lines(
    terminal: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stream = on_a_terminal(monkeypatch) if terminal else None
    with make_progress("converting", "files") as progress:
        progress.say("[2] files are there")
        progress.move(0, 3)
        progress.move(1, 3, "10 rows")
        progress.move(3, 3, "30 rows")
    text = stream.getvalue() if stream else capsys.readouterr().out
    assert "[2] files are there" in text
    assert "converting: 3/3 files · 30 rows" in text
    if not terminal:
        assert "1/3" not in text  # a line every few seconds is enough


def test_results_are_said(capsys: pytest.CaptureFixture[str]) -> None:
    show_result(Result("s3://key:hush-hush@bucket/out", 3, 1234, 2048, 1))
    out = capsys.readouterr().out
    assert "1,234 rows in 3 files, 2.0 KiB, 1 of them from an earlier call" in out
    assert "hush-hush" not in out
    columns = {path: summary.to_document(5) for path, summary in summarize(pa.table({"a": [1, 2, None]})).items()}
    show_analysis({"columns": columns, "rows": 3, "files": 1}, "analysis.json", ["a"])
    assert "3 rows of 1 files: analysis.json" in capsys.readouterr().out
