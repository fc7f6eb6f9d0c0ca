"""Data and run directories on Google Cloud Storage, as far as its emulator goes: it does not list folders."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pyarrow as pa
import pyarrow.fs as fs
import pyarrow.parquet as pq
import pytest

from cluster.storage import RunDirectory, download_folder, read_text, upload_folder
from pipelines.reader import Reader, ReadPlan
from pipelines.shards import Sharding
from pipelines.sources import Files

pytestmark = pytest.mark.timeout(60)


SERVER = """
from gcp_storage_emulator.server import create_server
server = create_server("127.0.0.1", 0, in_memory=True, default_bucket="bucket")
server.start()
print(server._api._httpd.server_address[1], flush=True)
"""


@pytest.fixture(scope="module")
def google() -> Iterator[str]:
    """`host:port` of a server on the loopback address, in a process of its own: pyarrow may wait with the GIL held."""
    with subprocess.Popen(
        [sys.executable, "-c", SERVER], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as server:
        assert server.stdout is not None
        yield f"127.0.0.1:{int(server.stdout.readline())}"
        server.kill()


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def uri(google: str, path: str) -> str:
    """The URI of a path in the bucket."""
    return f"gs://anonymous@bucket/{path}?scheme=http&endpoint_override={quote(google)}&retry_limit_seconds=5"


def test_files_are_found_and_read(google: str) -> None:
    where = fs.GcsFileSystem(anonymous=True, scheme="http", endpoint_override=google)
    for number in range(3):
        with where.open_output_stream(f"bucket/data/{number}.parquet") as file:
            pq.write_table(pa.table({"id": range(number * 10, number * 10 + 10)}), file, row_group_size=4)
    for path in ("data", "data/*.parquet"):
        reader = Reader(ReadPlan(Files((uri(google, path),)), sharding=Sharding(1, 8)))
        assert [int(row) for chunk in reader.begin() for row in reader.read(chunk)[0]] == list(range(30))


def test_a_run_directory(google: str, tmp_path: Path) -> None:
    run = uri(google, "runs/first")
    directory = RunDirectory(run, tmp_path / "spool")
    directory.create()
    directory.write("job.yaml", "name: x\n")
    directory.close()
    assert read_text(run, "job.yaml") == "name: x\n"
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "ckpt-1.index").write_text("weights")
    upload_folder(tmp_path / "made", uri(google, "runs/first/checkpoints"))
    (tmp_path / "fetched").mkdir()
    download_folder(uri(google, "runs/first/checkpoints"), tmp_path / "fetched")
    assert (tmp_path / "fetched" / "ckpt-1.index").read_text() == "weights"
