"""`tfcluster data`: look at data files, convert them, and analyse what they hold."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from cluster.errors import InterruptedRunError, PreflightError, SpecError

if TYPE_CHECKING:
    from pipelines.inputs import Format, Options

app = typer.Typer(help="Look at data files, convert them, analyse them.", no_args_is_help=True)

Files = Annotated[
    list[str], typer.Argument(help="files, folders or globs, also s3://, gs://, hdfs://; Parquet, TFRecord or CSV")
]
Json = Annotated[bool, typer.Option("--json", help="print one JSON document")]
Columns = Annotated[str | None, typer.Option(help="only these columns, with commas between", metavar="A,B")]
Types = Annotated[
    list[str] | None,
    typer.Option("--type", help="the Arrow type of a column of CSV or TFRecord; may be repeated", metavar="NAME=TYPE"),
]
Delimiter = Annotated[str, typer.Option(help="between two values of a line of CSV")]
Null = Annotated[
    list[str] | None, typer.Option("--null", help="what stands for a null in CSV; default: nothing, and NA")
]
Newlines = Annotated[bool, typer.Option("--newlines-in-values", help="quoted values of CSV may hold line ends")]


@app.command()
def inspect(
    files: Files,
    workers: Annotated[int, typer.Option(min=1, help="workers that the rows are shared out over")] = 1,
    batch: Annotated[int, typer.Option(min=1, help="rows of one worker's batch")] = 1024,
    columns: Columns = None,
    types: Types = None,
    delimiter: Delimiter = ",",
    null: Null = None,
    newlines: Newlines = False,
    as_json: Json = False,
) -> None:
    """Say what files hold and whether they suit training; reads footers and a few rows, needs no Ray."""
    options = _options(columns, types, delimiter, null, newlines)
    with _said():
        from pipelines.inspect import inspect as look

        report = look(files, options, workers=workers, batch=batch)
    if as_json:
        typer.echo(json.dumps(report.to_document(), default=str))
    else:
        from cluster.console_data import show_report

        show_report(report)
    if any(finding.level == "error" for finding in report.findings):
        raise SystemExit(PreflightError.exit_code)


@app.command()
def convert(
    files: Files,
    out: Annotated[str, typer.Argument(help="the folder to make")],
    to: Annotated[str, typer.Option(help="parquet, csv or tfrecord")] = "parquet",
    shard_size: Annotated[str, typer.Option(help="about the size of each file")] = "128MiB",
    row_group: Annotated[int, typer.Option(min=1, help="rows of a Parquet row group, at most")] = 65_536,
    compression: Annotated[
        str,
        typer.Option(
            help="Parquet: snappy, zstd, gzip, lz4, brotli, none; CSV: none, gzip, zstd, bz2; TFRecord: none, gzip"
        ),
    ] = "",
    columns: Columns = None,
    types: Types = None,
    delimiter: Delimiter = ",",
    null: Null = None,
    newlines: Newlines = False,
    float32: Annotated[bool, typer.Option("--float32", help="let float64 lose digits in TFRecord")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace what the folder holds")] = False,
    parallel: Annotated[
        int | None, typer.Option(min=1, help="tasks at once; default: all CPUs of the Ray cluster")
    ] = None,
    as_json: Json = False,
) -> None:
    """Convert between CSV, Parquet and TFRecord, in parallel on Ray; called again, it goes on where it stopped."""
    options = _options(columns, types, delimiter, null, newlines)
    size = _size(shard_size)
    with _said(f"what is finished stays; go on with the same command: {_command_line()}"):
        from pipelines.convert import Request
        from pipelines.convert import convert as make
        from pipelines.outputs import COMPRESSIONS, Target

        if to not in COMPRESSIONS:
            raise SpecError(
                "there is no such format to convert to", f"--to {to}", f"choose one of {', '.join(COMPRESSIONS)}"
            )
        target = Target(cast("Format", to), compression, row_group, float32)
        request = Request(tuple(files), out, target, size, options, overwrite)
        from cluster.console_data import make_progress

        with make_progress("converting", "files", silent=as_json) as progress:
            result = make(
                request,
                partial(_run, parallel),
                say=progress.say,
                progress=lambda now: progress.move(now.pieces_done, now.pieces, f"{now.rows_done:,} rows"),
            )
    if as_json:
        typer.echo(json.dumps(vars(result)))
        return
    from cluster.console_data import show_result

    show_result(result)


@app.command()
def analyze(
    files: Files,
    out: Annotated[str, typer.Option("--out", help="where to write the document")] = "analysis.json",
    vocabulary: Annotated[
        int, typer.Option(min=0, help="most frequent values of each column that are written down; 0: none")
    ] = 10_000,
    columns: Columns = None,
    types: Types = None,
    delimiter: Delimiter = ",",
    null: Null = None,
    newlines: Newlines = False,
    as_json: Json = False,
) -> None:
    """Read every row once, on Ray: statistics, quantiles and vocabularies of each column, for use by transforms."""
    options = _options(columns, types, delimiter, null, newlines)
    with _said():
        from cluster.console_data import make_progress, show_analysis
        from pipelines.analyze import analyze as look
        from pipelines.analyze import save

        with make_progress("analysing", "parts", silent=as_json) as progress:
            found = look(files, options, _reduce, words=vocabulary, progress=progress.move)
        save(found, out)
    if as_json:
        typer.echo(json.dumps(found, allow_nan=False))
    else:
        show_analysis(found, out, files)


def _options(
    columns: str | None, types: Sequence[str] | None, delimiter: str, null: Sequence[str] | None, newlines: bool
) -> Options:
    from pipelines.inputs import Options

    pairs = []
    for text in types or ():
        name, mark, kind = text.partition("=")
        if not mark or not name or not kind:
            raise SpecError("a type needs a column and a type", f"--type {text}", "write it like --type zip=string")
        pairs.append((name, kind))
    delimiter = {"\\t": "\t", "tab": "\t"}.get(delimiter, delimiter)
    if len(delimiter) != 1:
        raise SpecError("a delimiter is one character", f"--delimiter {delimiter!r}", "write it like ';' or tab")
    return Options(
        columns=None if columns is None else tuple(name.strip() for name in columns.split(",")),
        types=tuple(pairs),
        delimiter=delimiter,
        nulls=Options().nulls if null is None else tuple(null),
        newlines=newlines,
    )


def _size(text: str) -> int:
    from cluster.units import parse_size

    try:
        size = parse_size(text)
    except ValueError as error:
        raise SpecError("not a size", f"--shard-size {text}", str(error)) from None
    if not size:
        raise SpecError("a file needs a size", f"--shard-size {text}", "write it like 128MiB")
    return size


@contextmanager
def _said(when_interrupted: str = "") -> Iterator[None]:
    """Errors of the data as errors of the command."""
    from pipelines.errors import DataError

    try:
        yield
    except DataError as error:
        raise PreflightError(error.happened, error.seen, error.todo) from None
    except KeyboardInterrupt:
        raise InterruptedRunError("interrupted", "", when_interrupted) from None


def _run(parallel: int | None, function: Callable[[Any, Any], Any], shared: Any, items: Sequence[Any]) -> Iterator[Any]:
    """`pipelines.ray_tasks.run` on a Ray that is not asked for before there is something to do."""
    if items:
        from pipelines.ray_tasks import run

        with _ray():
            yield from run(function, shared, items, parallel=parallel)


def _reduce(
    function: Callable[[Any, Any], Any],
    shared: Any,
    items: Sequence[Any],
    merge: Callable[[Any, Any], Any],
    *,
    done: Callable[[], None],
) -> Any:
    """`pipelines.ray_tasks.reduce`, likewise."""
    from pipelines.ray_tasks import reduce

    with _ray():
        return reduce(function, shared, items, merge, done=done)


@contextmanager
def _ray() -> Iterator[None]:
    """The Ray that `tfcluster run` would use; what is read and written must be visible to all its nodes."""
    from cluster.connection import connect
    from cluster.spec import JobSpec

    # On several machines a job's folder would travel to all of them: this work has none.
    with TemporaryDirectory() as empty, connect(JobSpec(entrypoint="tfcluster:data"), empty):
        yield


def _command_line() -> str:
    return shlex.join(["tfcluster", *sys.argv[1:]])
