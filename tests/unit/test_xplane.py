"""Reading the profiler's files: recorded ones, and what is no trace."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from cluster.errors import StorageError
from cluster.xplane import cut_planes, message_class, read_planes
from tests.unit.written_traces import space

RECORDED = Path(__file__).parents[1] / "data" / "traces" / "straggler" / "worker-1.xplane.pb.gz"


def written(folder: Path, data: bytes) -> Path:
    path = folder / "worker-0.xplane.pb"
    path.write_bytes(data)
    return path


def test_a_recorded_trace_has_threads_events_and_what_they_say(tmp_path: Path) -> None:
    host, notes = read_planes(written(tmp_path, gzip.decompress(RECORDED.read_bytes())))
    assert (host.name, notes.name) == ("/host:CPU", "Task Environment")
    assert notes.stats == {"profile_start_time": 10**18, "profile_stop_time": 10**18 + 8 * 10**8}
    (python,) = [line for line in host.lines if any(host.names[e.metadata_id][0] == "train" for e in line.events)]
    marks = [e for e in python.events if host.names[e.metadata_id][0] == "train"]
    numbers = [host.stats_of(event)["step_num"] for event in marks]
    assert len(numbers) > 10
    assert numbers == [*range(numbers[0], numbers[0] + len(numbers))]
    assert python.start > 0
    assert {name.partition("/")[0] for name in (line.name for line in host.lines)} >= {"python", "tf_Compute"}


def test_two_traces_in_one_file_are_one_trace(tmp_path: Path) -> None:
    """As the profiler's files of devices and of the host are put together."""
    both = space({"/host:CPU": {"python": [("train", 0, 1)]}}) + space({"/device:GPU:0": {"Stream #1": [("k", 0, 1)]}})
    names = [plane.name for plane in read_planes(written(tmp_path, both))]
    assert names == ["/host:CPU", "Task Environment", "/device:GPU:0", "Task Environment"]


def test_a_trace_is_cut_into_its_planes(tmp_path: Path) -> None:
    """A plane keeps what this program does not read, and what is none of a plane is left out."""
    recorded = gzip.decompress(RECORDED.read_bytes())
    unread = b"\x08\xac\x02" + b"\x3d\x01\x02\x03\x04" + b"\x41" + b"\x01" * 8  # an id, and fields of fixed size
    device = unread + b"\x12\x0d/device:GPU:0" + b"\x2a\x00"
    plane = b"\x0a" + bytes([len(device)]) + device
    cut = [*cut_planes(b"\x22\x04host" + recorded + plane)]
    assert [name for name, _ in cut] == ["/host:CPU", "Task Environment", "/device:GPU:0"]
    assert b"".join(data for _, data in cut) == recorded + plane
    assert len(message_class("XSpace").FromString(cut[0][1]).planes) == 1


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param(gzip.decompress(RECORDED.read_bytes())[:20000], "the trace is damaged", id="cut"),
        pytest.param(RECORDED.read_bytes(), "the trace is damaged", id="compressed"),
        pytest.param(b"not a trace, just some text", "the trace is damaged", id="text"),
        pytest.param(b"", "the file holds no trace", id="empty"),
    ],
)
def test_what_is_no_trace(data: bytes, expected: str, tmp_path: Path) -> None:
    path = written(tmp_path, data)
    with pytest.raises(StorageError) as raised:
        list(read_planes(path))
    assert raised.value.happened == expected
    assert raised.value.seen == str(path)


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"cannot read the trace · .*worker-3.* · No such file"):
        list(read_planes(tmp_path / "worker-3.xplane.pb"))
