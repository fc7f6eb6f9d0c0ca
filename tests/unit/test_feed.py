"""What a task reads, without TensorFlow: files are looked at once, whatever is asked of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster import feed
from cluster.feed import Feed
from cluster.spec import parse
from pipelines.shards import Sharding
from pipelines.sources import Files, Opened, open_source


def feed_of(files: Path, notes: list[str], **data: Any) -> Feed:
    spec = parse({"entrypoint": "a.py:train", "data": {"train": {"files": str(files), "batch": 4, **data}}})
    return Feed(
        spec=spec,
        strategy=None,
        workers=1,
        shard=0,
        alone=False,
        resumes=False,
        leases=None,
        note=notes.append,
        listed=lambda **_: None,
        epoch_now=lambda: None,
        testing_now=lambda: False,
        steps_now=lambda: None,
    )


def test_files_are_opened_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pq.write_table(pa.table({"x": range(20)}), tmp_path / "1.parquet")
    (tmp_path / "2.parquet").write_bytes(b"PAR1")
    asked: list[Files] = []

    def counted(files: Files, *rest: Any) -> Opened:
        asked.append(files)
        return open_source(files, *rest)

    monkeypatch.setattr(feed, "open_source", counted)
    notes: list[str] = []
    found = feed_of(tmp_path, notes, on_error="skip_files", filters=[["x", ">=", 10]])
    assert found.steps_per_epoch("train") == 3
    assert found.steps_per_epoch("train") == 3
    reader = found._reader("train", found.settings("train"), Sharding(1, 5), 0)
    assert [row for chunk in reader.begin() for row in reader.read(chunk)[0].tolist()] == [*range(10, 20)]
    assert len(asked) == 1
    (note,) = notes
    assert note.startswith("data.train: 1 file left out: ")
