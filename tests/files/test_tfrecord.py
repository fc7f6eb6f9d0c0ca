"""TFRecord files: written, indexed, cut into units and read in any order, and what is said when one is damaged."""

from __future__ import annotations

import gzip
import itertools
import os
import random
import struct
import threading
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines import crc, framing, inflate, tfrecord, tfrecord_index
from pipelines.errors import DataError
from pipelines.tfrecord import TFRecordSource
from pipelines.tfrecord_index import UNIT_BYTES, UNIT_RECORDS
from pipelines.tfrecord_writer import frames, write_records

pytestmark = pytest.mark.timeout(60)

LOCAL = pafs.LocalFileSystem()
#: What TensorFlow writes for the records b"" and b"hello".
FROM_TENSORFLOW = bytes.fromhex("000000000000000029039807d8ea82a20500000000000000eab2043e68656c6c6fbb1f1c19")
COMPRESSIONS = (None, "GZIP", "ZLIB")


def source(*paths: Path, **options: Any) -> TFRecordSource:
    return TFRecordSource(LOCAL, [str(path) for path in paths], **options)


def records_in(some: TFRecordSource) -> list[bytes]:
    return [record for unit in some.units for record in some.read(unit)["record"].to_pylist()]


def error_of(*paths: Path, **options: Any) -> DataError:
    with pytest.raises(DataError) as caught:
        records_in(source(*paths, **options))
    return caught.value


def small_records(count: int, seed: int = 0) -> list[bytes]:
    return [random.Random(seed + number).randbytes(number % 23) for number in range(count)]


@pytest.fixture(scope="module")
def many() -> list[bytes]:
    """More records than two units may have, of many lengths and with runs of one length."""
    lengths = np.random.default_rng(1).integers(0, 60, 2 * UNIT_RECORDS + 5_000)
    lengths[UNIT_RECORDS // 2 : UNIT_RECORDS * 3 // 2] = 40
    blob = random.Random(2).randbytes(int(lengths.sum()))
    ends = np.cumsum(lengths).tolist()
    return [blob[start:stop] for start, stop in zip([0, *ends], ends, strict=False)]


@pytest.fixture(scope="module")
def large() -> list[bytes]:
    """Records of which few go into a unit, one of them larger than a unit."""
    chance = random.Random(3)
    sizes = [chance.randrange(2 << 20, 4 << 20) for _ in range(4)]
    return [chance.randbytes(size) for size in [*sizes, UNIT_BYTES + 5, 10, 20]]


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    path = tmp_path / "plain.tfrecord"
    write_records(str(path), small_records(100))
    return path


class TestFormat:
    def test_same_bytes_as_tensorflow(self, tmp_path: Path) -> None:
        write_records(str(tmp_path / "x"), [b"", b"hello"])
        assert (tmp_path / "x").read_bytes() == FROM_TENSORFLOW

    @pytest.mark.parametrize("compression", COMPRESSIONS)
    def test_what_was_written_is_read(self, tmp_path: Path, many: list[bytes], compression: str | None) -> None:
        path = tmp_path / "data"
        assert write_records(str(path), iter(many), compression) == len(many)
        some = source(path)
        assert some.index_of(str(path)).compression == compression
        assert [unit.rows for unit in some.units] == [UNIT_RECORDS, UNIT_RECORDS, 5_000]
        assert records_in(some) == many

    @pytest.mark.parametrize("compression", COMPRESSIONS)
    def test_large_records(self, tmp_path: Path, large: list[bytes], compression: str | None) -> None:
        path = tmp_path / "data"
        write_records(str(path), large, compression)
        some = source(path)
        assert records_in(some) == large
        first = 0
        for unit in some.units:
            sizes = [len(record) + framing.FRAME for record in large[first : first + unit.rows + 1]]
            assert sum(sizes[: unit.rows]) <= UNIT_BYTES or unit.rows == 1
            assert len(sizes) == unit.rows or sum(sizes) > UNIT_BYTES  # the next one would not have fitted
            first += unit.rows

    def test_headers_of_large_records_alone_are_read(self, tmp_path: Path) -> None:
        path = tmp_path / "large"
        write_records(str(path), [bytes(1 << 20)] * 64)
        sizes: list[int] = []

        class Counting:
            def read_at(self, size: int, offset: int) -> bytes:
                sizes.append(size)
                with path.open("rb") as file:
                    return os.pread(file.fileno(), size, offset)

        headers = list(tfrecord_index._scan(Counting(), path.stat().st_size, 1 << 16))
        assert sum(len(part.starts) for part in headers) == 64
        assert sum(sizes) < 2 << 20

    def test_arrow_arrays_are_written_like_lists(self, tmp_path: Path, many: list[bytes]) -> None:
        some = many[:20_000]
        write_records(str(tmp_path / "list"), some)
        array = pa.array([b"left out", *some], pa.binary()).slice(1)
        halves = pa.chunked_array([array.slice(0, 7_000), array.slice(7_000)])
        for name, records in [("array", array), ("chunked", halves), ("large", halves.cast(pa.large_binary()))]:
            assert write_records(str(tmp_path / name), records) == len(some)
            assert (tmp_path / name).read_bytes() == (tmp_path / "list").read_bytes()

    def test_compression_by_name(self, tmp_path: Path) -> None:
        back: dict[str, Callable[[bytes], bytes]] = {
            "a.gz": gzip.decompress,
            "a.zlib": zlib.decompress,
            "a.tfrecord": lambda data: data,
        }
        for name, decompress in back.items():
            write_records(str(tmp_path / name), [b"", b"hello"], "auto")
            assert decompress((tmp_path / name).read_bytes()) == FROM_TENSORFLOW

    def test_gzip_members_one_after_the_other(self, tmp_path: Path) -> None:
        path = tmp_path / "x.gz"
        members = [
            gzip.compress(FROM_TENSORFLOW[:10]),
            gzip.compress(FROM_TENSORFLOW[10:]),
            gzip.compress(b""),
            bytes(99),
        ]
        path.write_bytes(b"".join(members))
        assert records_in(source(path)) == [b"", b"hello"]

    def test_a_length_that_looks_like_gzip(self, tmp_path: Path) -> None:
        path = tmp_path / "x"
        write_records(str(path), [bytes(0x088B1F)])
        assert path.read_bytes()[:3] == b"\x1f\x8b\x08"
        assert source(path).index_of(str(path)).compression is None

    def test_the_name_does_not_matter(self, tmp_path: Path) -> None:
        path = tmp_path / "really-plain.gz"
        write_records(str(path), [b"x"])
        assert records_in(source(path)) == [b"x"]

    def test_schema(self, plain: Path) -> None:
        some = source(plain)
        assert some.schema == pa.schema([pa.field("record", pa.large_binary(), nullable=False)])
        assert some.read(some.units[0]).schema == some.schema

    def test_any_file_system(self, tmp_path: Path) -> None:
        folder = pafs.SubTreeFileSystem(str(tmp_path), LOCAL)
        write_records("x", [b"", b"hello"], filesystem=folder)
        (unit,) = (some := TFRecordSource(folder, [("x", 37)])).units
        assert some.read(unit)["record"].to_pylist() == [b"", b"hello"]

    @given(st.lists(st.tuples(st.binary(max_size=4), st.sampled_from([1, 2, 15, 16, 17, 100, 700])), min_size=1))
    def test_hop_finds_each_header(self, runs: list[tuple[bytes, int]]) -> None:
        records = [record for record, count in runs for _ in range(count)]
        data = frames(pa.array(records, pa.large_binary())).to_pybytes()
        headers = framing.hop(data, 0, base=1000)
        assert headers.fields["length"].tolist() == [len(record) for record in records]
        starts = itertools.accumulate((len(record) + framing.FRAME for record in records[:-1]), initial=1000)
        assert headers.starts.tolist() == list(starts)
        assert headers.stop == 1000 + len(data)
        assert headers.first_bad() is None

    @given(st.lists(st.integers(0, 2**64 - 1), max_size=20))
    def test_checksums_of_lengths(self, lengths: list[int]) -> None:
        packed = b"".join(struct.pack("<Q", length) for length in lengths)
        starts = np.arange(len(lengths), dtype=np.int64) * 8
        assert crc.of_lengths(np.array(lengths, np.uint64)).tolist() == crc.of_data(packed, starts, starts + 8).tolist()


class TestUnits:
    def test_of_several_files_in_order(self, tmp_path: Path) -> None:
        paths = [tmp_path / name for name in ("b", "a", "c")]
        for number, path in enumerate(paths):
            write_records(str(path), [b"%d" % number] * (number + 1))
        some = source(*paths)
        assert [(Path(unit.file).name, unit.row_group, unit.rows) for unit in some.units] == [
            ("b", 0, 1),
            ("a", 0, 2),
            ("c", 0, 3),
        ]

    def test_an_index_from_before(self, tmp_path: Path, many: list[bytes]) -> None:
        path = tmp_path / "x"
        write_records(str(path), many, "GZIP")
        index = source(path).index_of(str(path))
        path.rename(tmp_path / "away")
        some = source(path, indexes={str(path): index})  # is not looked at
        (tmp_path / "away").rename(path)
        assert records_in(some) == many

    def test_an_index_of_another_size_is_not_used(self, plain: Path) -> None:
        old = source(plain).index_of(str(plain))
        write_records(str(plain), [b"other"])
        some = TFRecordSource(LOCAL, [(str(plain), plain.stat().st_size)], indexes={str(plain): old})
        assert records_in(some) == [b"other"]

    @pytest.mark.parametrize("compression", COMPRESSIONS)
    def test_any_order_and_many_threads(self, tmp_path: Path, large: list[bytes], compression: str | None) -> None:
        path = tmp_path / "x"
        write_records(str(path), large, compression)
        some = source(path)
        expected = dict(zip(some.units, (some.read(unit) for unit in some.units), strict=True))
        for seed in range(2):
            units = list(some.units) * 2
            random.Random(seed).shuffle(units)
            fresh = source(path, indexes={str(path): some.index_of(str(path))})
            with ThreadPoolExecutor(8) as pool:
                for unit, table in zip(units, pool.map(fresh.read, units), strict=True):
                    assert table.equals(expected[unit])

    def test_compressed_units_are_decompressed_once_and_passed_once(
        self, tmp_path: Path, many: list[bytes], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tmp_path / "x"
        write_records(str(path), many[:30_000], "ZLIB")
        monkeypatch.setattr(tfrecord_index, "UNIT_RECORDS", 2_000)
        some = source(path)
        made = _count_inflated(monkeypatch)
        total = some.index_of(str(path)).starts[-1]
        units = list(some.units)
        assert len(units) == 15
        for unit in units:
            some.read(unit)
        assert made[0] == total  # in order: once
        made[0] = 0
        for unit in reversed(units):
            some.read(unit)
        assert made[0] == total  # then in any order: once
        made[0] = 0
        fresh = source(path, indexes={str(path): some.index_of(str(path))})
        for unit in reversed(units):
            fresh.read(unit)
        assert made[0] < 2 * total  # at first in the worst order: what is before the last unit is passed once

    def test_remembers_no_more_than_it_may(
        self, tmp_path: Path, many: list[bytes], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tmp_path / "x"
        write_records(str(path), many[:30_000], "GZIP")
        monkeypatch.setattr(tfrecord_index, "UNIT_RECORDS", 2_000)
        monkeypatch.setattr(tfrecord, "KEPT_MARKS", 2)
        some = source(path)
        units = list(enumerate(some.units))
        random.Random(5).shuffle(units)
        for number, unit in units:
            first = sum(other.rows for other in some.units[:number])
            assert some.read(unit)["record"].to_pylist() == many[first : first + unit.rows]
            assert len(some._marks._kept) <= 2

    def test_files_are_indexed_at_the_same_time(self, tmp_path: Path) -> None:
        paths = [tmp_path / str(number) for number in range(4)]
        meeting = threading.Barrier(4, timeout=20)

        class Meeting(pafs.FileSystemHandler):  # type: ignore[misc]
            """Opens files only when four of them are being opened."""

            def open_input_file(self, path: str) -> Any:
                meeting.wait()
                return LOCAL.open_input_file(path)

            def _no(self, *_: Any, **__: Any) -> Any:
                raise NotImplementedError

            copy_file = create_dir = delete_dir = delete_dir_contents = delete_file = delete_root_dir_contents = _no
            get_file_info = get_file_info_selector = move = normalize_path = open_append_stream = _no
            open_input_stream = open_output_stream = _no

            def get_type_name(self) -> str:
                return "meeting"

        for path in paths:
            write_records(str(path), [b"x"])
        some = TFRecordSource(pafs.PyFileSystem(Meeting()), [str(path) for path in paths])
        assert len(some.units) == 4


def _count_inflated(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Bytes decompressed, counted in what is returned."""
    made = [0]
    some: Callable[[Any, int], bytes] = inflate.Inflater._some

    def counted(self: Any, size: int) -> bytes:
        part = some(self, size)
        made[0] += len(part)
        return part

    monkeypatch.setattr(inflate.Inflater, "_some", counted)
    return made


class TestDamage:
    """Every problem names the file, and the record and byte offset where there is one."""

    def test_no_such_file(self, tmp_path: Path) -> None:
        error = error_of(tmp_path / "none")
        assert str(tmp_path / "none") in error.seen
        assert "not there" in error.happened

    def test_vanished_after_indexing(self, plain: Path) -> None:
        some = source(plain)
        plain.unlink()
        with pytest.raises(DataError, match="not there"):
            some.read(some.units[0])

    def test_a_directory(self, tmp_path: Path) -> None:
        assert str(tmp_path) in error_of(tmp_path).seen

    def test_empty(self, tmp_path: Path) -> None:
        (tmp_path / "x").touch()
        error = error_of(tmp_path / "x")
        assert "empty" in error.happened
        assert str(tmp_path / "x") in error.seen

    @pytest.mark.parametrize("compress", [gzip.compress, zlib.compress])
    def test_compressed_nothing(self, tmp_path: Path, compress: Callable[[bytes], bytes]) -> None:
        (tmp_path / "x.gz").write_bytes(compress(b""))
        assert "no record" in error_of(tmp_path / "x.gz").happened

    @pytest.mark.parametrize(
        ("content", "named"),
        [
            (b"PAR1" + bytes(100), "Parquet"),
            (b'{"a": 1}\n' * 9, "JSON"),
            (b"PK\x03\x04" + bytes(50), "ZIP"),
            (b"a,b\n1,2\n" * 9, ""),
            (bytes(4096), ""),
            (b"abc", ""),
        ],
    )
    @pytest.mark.parametrize("compression", ["auto", None])
    def test_another_format(self, tmp_path: Path, content: bytes, named: str, compression: str | None) -> None:
        path = tmp_path / "x.tfrecord"
        path.write_bytes(content)
        error = error_of(path, compression=compression)
        if len(content) < framing.HEADER:
            assert "truncated" in error.happened
        else:
            assert "not a TFRecord file" in error.happened
        assert named in error.happened
        assert f"{path}, record 0, byte offset 0" in error.seen

    def test_another_format_compressed(self, tmp_path: Path) -> None:
        (tmp_path / "x.gz").write_bytes(gzip.compress(b"a,b\n1,2\n" * 9))
        assert "not a TFRecord file" in error_of(tmp_path / "x.gz").happened

    def test_gzip_said_to_be_plain(self, tmp_path: Path) -> None:
        (tmp_path / "x").write_bytes(gzip.compress(FROM_TENSORFLOW))
        assert "GZIP" in error_of(tmp_path / "x", compression=None).happened

    def test_plain_said_to_be_gzip(self, plain: Path) -> None:
        error = error_of(plain, compression="GZIP")
        assert "not compressed with GZIP" in error.happened
        assert "a plain file" in error.seen
        assert "auto" in error.todo

    def test_zlib_said_to_be_gzip(self, tmp_path: Path) -> None:
        (tmp_path / "x").write_bytes(zlib.compress(FROM_TENSORFLOW))
        assert "ZLIB" in error_of(tmp_path / "x", compression="GZIP").seen

    def test_no_such_compression(self, plain: Path) -> None:
        assert "GZIP, ZLIB, auto, None" in error_of(plain, compression="gzip").todo
        with pytest.raises(DataError, match="SNAPPY"):
            write_records(str(plain), [b""], "SNAPPY")

    @pytest.mark.parametrize("cut", [1, 4, 6, 9, 15, 20, 24])
    def test_truncated(self, tmp_path: Path, cut: int) -> None:
        """Within the frame of the last record, or between the two."""
        whole = FROM_TENSORFLOW + FROM_TENSORFLOW
        path = tmp_path / "x"
        path.write_bytes(whole[:-cut])
        error = error_of(path)
        assert error.happened == "the file is truncated"
        record, offset = (3, 53) if cut < 21 else (2, 37)
        assert f"{path}, record {record}, byte offset {offset}" in error.seen

    def test_cut_between_records_is_a_shorter_file(self, tmp_path: Path) -> None:
        (tmp_path / "x").write_bytes(FROM_TENSORFLOW[:16])
        assert records_in(source(tmp_path / "x")) == [b""]

    def test_truncated_in_a_large_record(self, tmp_path: Path, large: list[bytes]) -> None:
        path = tmp_path / "x"
        write_records(str(path), large[:3])
        os.truncate(path, path.stat().st_size - 1000)
        offset = len(large[0]) + len(large[1]) + 2 * framing.FRAME
        assert f"record 2, byte offset {offset}" in error_of(path).seen

    @pytest.mark.parametrize("compression", ["GZIP", "ZLIB"])
    def test_truncated_compressed(self, tmp_path: Path, compression: str) -> None:
        path = tmp_path / "x"
        write_records(str(path), small_records(5_000), compression)
        os.truncate(path, path.stat().st_size - 10)
        error = error_of(path)
        assert "truncated" in error.happened
        assert str(path) in error.seen

    def test_truncated_before_it_was_compressed(self, tmp_path: Path) -> None:
        path = tmp_path / "x.gz"
        for cut, record in [(1, 1), (25, 0)]:
            path.write_bytes(gzip.compress(FROM_TENSORFLOW[:-cut]))
            error = error_of(path)
            assert error.happened == "the file is truncated"
            assert f"record {record}, byte offset {16 * record} uncompressed" in error.seen

    @pytest.mark.parametrize("compression", ["GZIP", "ZLIB"])
    def test_damaged_compressed(self, tmp_path: Path, compression: str) -> None:
        path = tmp_path / "x"
        write_records(str(path), small_records(5_000), compression)
        data = bytearray(path.read_bytes())
        data[len(data) // 2 : len(data) // 2 + 64] = bytes(64)
        path.write_bytes(data)
        assert str(path) in error_of(path).seen

    def test_something_else_behind_the_gzip(self, tmp_path: Path) -> None:
        (tmp_path / "x.gz").write_bytes(gzip.compress(FROM_TENSORFLOW) + b"something else")
        assert "damaged" in error_of(tmp_path / "x.gz").happened

    @pytest.mark.parametrize("compress", [None, gzip.compress])
    @pytest.mark.parametrize("record", [1, 37, 99])
    def test_each_bit_of_a_frame_counts(
        self, plain: Path, record: int, compress: Callable[[bytes], bytes] | None
    ) -> None:
        """A length, its checksum, the data, their checksum: whichever bit is turned, this record is named."""
        whole = plain.read_bytes()
        records = small_records(100)
        offset = sum(len(other) + framing.FRAME for other in records[:record])
        size = len(records[record]) + framing.FRAME
        chance = random.Random(record)
        for position in range(size):
            data = bytearray(whole)
            data[offset + position] ^= 1 << chance.randrange(8)
            plain.write_bytes(compress(bytes(data)) if compress else data)
            error = error_of(plain)
            where = f"{plain}, record {record}, byte offset {offset}" + (" uncompressed" if compress else "")
            assert error.seen.startswith(where)
            what = "length" if position < framing.HEADER else "data"
            assert what in error.happened

    def test_data_are_compared_when_they_are_read(self, plain: Path) -> None:
        data = bytearray(plain.read_bytes())
        data[-5] ^= 1
        plain.write_bytes(data)
        some = source(plain)
        with pytest.raises(DataError, match="record 99, "):
            some.read(some.units[0])

    def test_names_the_record_within_the_file(self, tmp_path: Path, many: list[bytes]) -> None:
        path = tmp_path / "x"
        write_records(str(path), many)
        with path.open("r+b") as file:
            file.seek(-5, os.SEEK_END)
            file.write(b"\0\1")
        assert f"record {len(many) - 1}, " in error_of(path).seen

    def test_a_length_that_is_too_long_and_has_the_right_checksum(self, tmp_path: Path) -> None:
        path = tmp_path / "x"
        for length in (10**6, 2**62, 2**63 - 1, 2**64 - 1):
            header = struct.pack("<QI", length, int(crc.of_lengths(np.array([length], np.uint64))[0]))
            for data in (FROM_TENSORFLOW + header + bytes(20), gzip.compress(FROM_TENSORFLOW + header + bytes(20))):
                path.write_bytes(data)
                error = error_of(path)
                assert "truncated" in error.happened
                assert "record 2, byte offset 37" in error.seen

    @pytest.mark.parametrize("compression", COMPRESSIONS)
    @pytest.mark.parametrize("other", [[b"fewer"], small_records(99), small_records(200)])
    def test_changed_after_indexing(self, plain: Path, compression: str | None, other: list[bytes]) -> None:
        write_records(str(plain), small_records(100), compression)
        some = source(plain)
        write_records(str(plain), other, compression)
        with pytest.raises(DataError, match="has changed since") as caught:
            some.read(some.units[0])
        assert str(plain) in caught.value.seen

    def test_changed_after_indexing_and_as_long_as_before(self, plain: Path) -> None:
        some = source(plain)
        records = small_records(100)
        size = sum(map(len, records)) + 98 * framing.FRAME
        write_records(str(plain), [b"".join(records) + bytes(99 * framing.FRAME)])
        assert plain.stat().st_size == size + 2 * framing.FRAME
        with pytest.raises(DataError, match="has changed since"):
            some.read(some.units[0])

    def test_the_first_bad_file_of_several_is_named(self, tmp_path: Path, plain: Path) -> None:
        for name in ("bad-1", "bad-2"):
            (tmp_path / name).write_bytes(bytes(99))
        assert str(tmp_path / "bad-1") in error_of(plain, tmp_path / "bad-1", tmp_path / "bad-2").seen

    def test_bad_files_left_out(self, tmp_path: Path, plain: Path) -> None:
        (tmp_path / "bad").write_bytes(bytes(99))
        errors: list[DataError] = []
        some = source(tmp_path / "bad", plain, tmp_path / "none", on_error=errors.append)
        assert records_in(some) == small_records(100)
        assert [error.happened for error in errors] == ["this is not a TFRecord file", "the data file is not there"]


class TestWriting:
    def test_not_bytes(self, tmp_path: Path) -> None:
        for records in (["text"], [b"x", None], [b"x", 3]):
            with pytest.raises(DataError, match="are bytes"):
                write_records(str(tmp_path / "x"), records)
        with pytest.raises(DataError, match="int64"):
            write_records(str(tmp_path / "x"), pa.array([1]))
        with pytest.raises(DataError, match="null"):
            write_records(str(tmp_path / "x"), pa.array([b"x", None]))

    def test_no_such_folder(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="cannot be written"):
            write_records(str(tmp_path / "none" / "x"), [b"x"])

    def test_nothing(self, tmp_path: Path) -> None:
        assert write_records(str(tmp_path / "x"), []) == 0
        assert (tmp_path / "x").read_bytes() == b""
