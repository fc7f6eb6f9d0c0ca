"""A storage that fails for a moment, or for longer: tried again, told with the place, and never taken for damage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest

from pipelines import retries
from pipelines.damage import OnError, Skipped, readable
from pipelines.errors import DataError, UnreachableDataError, data_error_in
from pipelines.files import File
from pipelines.footers import read_footers
from pipelines.input_csv import open_csv
from pipelines.input_parquet import open_parquet
from pipelines.inputs import Options, read
from pipelines.layout import Request
from pipelines.parquet import ParquetSource
from pipelines.tfrecord import TFRecordSource
from pipelines.tfrecord_index import index_file
from pipelines.tfrecord_writer import write_records
from tests.files.failing import Failing
from tests.files.test_pipelines_bad_data import damage

#: As Arrow raises them: with the system's number, or with words only, which look as those of a damaged page.
ERRORS = [OSError(110, "Timeout was reached"), OSError("AWS Error NETWORK_CONNECTION during GetObject operation")]
TRIES = len(retries.WAITS) + 1


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "WAITS", (0.0,) * len(retries.WAITS))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "x.parquet"
    table = pa.table({"a": np.random.default_rng(0).random(1000), "b": [f"row {i}" for i in range(1000)]})
    pq.write_table(table, path, row_group_size=500, use_dictionary=False)
    return path


def source_of(storage: Failing, path: Path, *columns: str) -> ParquetSource:
    file = File(str(path), path.stat().st_size, path.stat().st_mtime_ns, path.name)
    return ParquetSource(storage.filesystem, [file], Request(columns or None))


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("where", ["opening", "reading"])
def test_what_fails_for_a_moment_is_read_again(path: Path, error: OSError, where: str) -> None:
    storage = Failing()
    source = source_of(storage, path)
    getattr(storage, where).extend([error] * 3)
    assert source.read(source.units[1]).equals(pq.read_table(path).slice(500))
    assert storage.failed == 3


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("columns", [(), ("a",)])
def test_what_fails_for_longer_is_told_as_the_storages(path: Path, error: OSError, columns: tuple[str, ...]) -> None:
    storage = Failing()
    source = source_of(storage, path, *columns)
    source.read(source.units[0])
    storage.always = error
    said = f"the storage does not give the data · {path}, row group 1: .*{error.args[-1]}, {TRIES} times · "
    with pytest.raises(UnreachableDataError, match=said) as caught:
        source.read(source.units[1])
    assert "write the file again" not in str(caught.value)
    storage.always = None
    assert source.read(source.units[1]).num_rows == 500


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("on_error", ["skip_files", "skip_row_groups"])
def test_nothing_is_left_out_for_it(path: Path, error: OSError, on_error: OnError) -> None:
    storage, skipped = Failing(), Skipped()
    source = source_of(storage, path)
    storage.always = error
    with pytest.raises(UnreachableDataError):
        readable(source, on_error, skipped)
    assert not skipped


@pytest.mark.parametrize("compression", ["none", "snappy", "zstd"])
def test_damage_is_still_damage(tmp_path: Path, compression: str) -> None:
    path = tmp_path / "x.parquet"
    values = np.random.default_rng(0).random(1000)
    pq.write_table(
        pa.table({"a": values, "b": values}), path, row_group_size=500, use_dictionary=False, compression=compression
    )
    damage(path, 1, 1)
    storage, skipped = Failing(), Skipped()
    source = source_of(storage, path)
    with pytest.raises(DataError, match=f"cannot read a row group · {path}, row group 1, column b · ") as caught:
        source.read(source.units[1])
    assert not isinstance(caught.value, UnreachableDataError)
    assert readable(source, "skip_row_groups", skipped) == source.units[:1]
    assert [*skipped.units] == [source.units[1]]


@pytest.mark.parametrize("error", ERRORS)
def test_footers(path: Path, error: OSError) -> None:
    storage, left_out = Failing(), list[str]()
    files = [File(str(path), 0, 0)]

    def leave_out(path: str, _: DataError) -> None:
        left_out.append(path)

    storage.reading = [error] * 3
    assert read_footers(storage.filesystem, files, None, leave_out).rows.tolist() == [500, 500]
    storage.always = error
    with pytest.raises(UnreachableDataError, match=f"{path}, footer: .*{error.args[-1]}"):
        read_footers(storage.filesystem, files, None, leave_out)
    assert left_out == []


def test_a_damaged_footer_is_damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    length = int.from_bytes(content[-8:-4], "little")
    content[-8 - length : -8] = b"\xff" * length
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"cannot read the footer of a Parquet file · {path} · ") as caught:
        read_footers(Failing().filesystem, [File(str(path), 0, 0)])
    assert not isinstance(caught.value, UnreachableDataError)


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("ending", ["parquet", "csv", "csv.gz"])
def test_what_is_converted_and_analyzed(tmp_path: Path, error: OSError, ending: str) -> None:
    table = pa.table({"a": np.arange(1000), "b": [f"row {i}" for i in range(1000)]})
    path = tmp_path / f"x.{ending}"
    if ending == "parquet":
        pq.write_table(table, path, row_group_size=300)
    else:
        with pa.output_stream(path) as sink:  # packed as its name says
            pacsv.write_csv(table, sink)
    storage = Failing()
    storage.opening, storage.reading = [error], [error] * 2
    open_format = open_parquet if ending == "parquet" else open_csv
    source = open_format(storage.filesystem, (File(str(path), path.stat().st_size, 0),), Options())
    storage.opening, storage.reading = [error] * 3, [None, error, error, error]
    assert pa.Table.from_batches(read(source, 0, sum(source.lengths))).equals(table)
    assert storage.failed == 9
    storage.always = error
    said = f"does not give the data · {path}: .*{error.args[-1]}, {TRIES} times"
    with pytest.raises(UnreachableDataError, match=said):
        list(read(source, 0, sum(source.lengths)))


def test_a_file_that_is_gone_is_not_waited_for(path: Path) -> None:
    storage = Failing()
    source = source_of(storage, path)
    storage.opening = [FileNotFoundError(2, "No such file or directory")] * 9
    with pytest.raises(DataError, match=f"cannot read a row group · {path}, row group 0 · .*No such file"):
        source.read(source.units[0])
    assert storage.failed == 2  # and once more to see whether a single column is to blame


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("compression", [None, "GZIP"])
def test_records(tmp_path: Path, error: OSError, compression: str | None) -> None:
    path = str(tmp_path / "x.tfrecord")
    write_records(path, [b"one", b"two"], compression)
    storage, left_out = Failing(), list[Any]()
    storage.reading = [None, error, error, error]
    source = TFRecordSource(storage.filesystem, [path], on_error=left_out.append)
    storage.reading = [error] * 3
    assert source.read(source.units[0])["record"].to_pylist() == [b"one", b"two"]
    storage.always = error
    with pytest.raises(UnreachableDataError, match=f"{path}, row group 0: .*{error.args[-1]}"):
        source.read(source.units[0])
    with pytest.raises(UnreachableDataError, match=path):
        index_file(storage.filesystem, path)
    with pytest.raises(UnreachableDataError, match=path):
        TFRecordSource(storage.filesystem, [path], on_error=left_out.append)
    assert left_out == []


def test_it_is_known_again_in_an_error_of_tensorflows() -> None:
    error = UnreachableDataError("no data", "x.parquet, row group 1", "wait")
    wrapped = RuntimeError(f"2 root error(s)\n  (0) UNKNOWN: UnreachableDataError: {error}\nTraceback …")
    found = data_error_in(wrapped)
    assert isinstance(found, UnreachableDataError)
    assert str(found) == str(error)
