"""Files as one line of rows: cut anywhere, each row is read once, in order, in its type; errors name the place."""

from __future__ import annotations

import gzip
import itertools
import pickle
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.errors import DataError
from pipelines.example_writer import example_of, examples_of
from pipelines.inputs import Input, Options, intervals, read, segments
from pipelines.open_input import open_input
from pipelines.tfrecord_writer import write_records


def rows_of(source: Input, cuts: tuple[int, ...] = ()) -> pa.Table:
    """All rows, read in parts between `cuts`."""
    total = sum(source.lengths)
    places = [0, *sorted(min(cut, total) for cut in cuts), total]
    batches = [batch for start, stop in itertools.pairwise(places) for batch in read(source, start, stop)]
    return pa.Table.from_batches(batches, schema=source.schema)


def table(rows: int) -> pa.Table:
    return pa.table({"a": pa.array(range(rows), pa.int32()), "b": [f"row {i}" for i in range(rows)]})


@pytest.fixture
def parquet(tmp_path: Path) -> Path:
    pq.write_table(table(10), tmp_path / "1.parquet", row_group_size=4)
    pq.write_table(table(0), tmp_path / "2.parquet")
    pq.write_table(table(7), tmp_path / "3.parquet", row_group_size=3)
    return tmp_path


def test_parquet_is_read_between_any_two_rows(parquet: Path) -> None:
    source = open_input(str(parquet))
    whole = pa.concat_tables([table(10), table(7)])
    assert source.rows == 17
    for start, stop in itertools.combinations(range(18), 2):
        found = pa.Table.from_batches(read(source, start, stop), schema=source.schema)
        assert found.equals(whole.slice(start, stop - start))


def test_columns_come_in_the_order_asked_for(parquet: Path) -> None:
    source = open_input(str(parquet), Options(columns=("b", "a")))
    assert rows_of(source).column_names == ["b", "a"]
    with pytest.raises(DataError, match=r"no column aa .*did you mean a"):
        open_input(str(parquet), Options(columns=("aa",)))


def test_folders_that_name_values_are_columns(tmp_path: Path) -> None:
    for year, name in (("2013", "x"), ("2014", "__HIVE_DEFAULT_PARTITION__")):
        folder = tmp_path / f"year={year}" / f"name={name}"
        folder.mkdir(parents=True)
        pq.write_table(table(2), folder / "part.parquet")
    found = rows_of(open_input(str(tmp_path)))
    assert found["year"].to_pylist() == [2013, 2013, 2014, 2014]
    assert found["name"].to_pylist() == ["x", "x", None, None]


def test_files_of_two_schemas_are_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": [1]}), tmp_path / "1.parquet")
    pq.write_table(pa.table({"a": ["x"]}), tmp_path / "2.parquet")
    with pytest.raises(DataError, match=r"column a is not of one type .*2.parquet has string"):
        open_input(str(tmp_path))


def test_a_file_whose_column_is_all_null_fits_any_other(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": pa.nulls(2)}), tmp_path / "1.parquet")
    pq.write_table(pa.table({"a": ["x"]}), tmp_path / "2.parquet")
    assert rows_of(open_input(str(tmp_path)))["a"].to_pylist() == [None, None, "x"]


def test_files_of_two_formats_are_refused(tmp_path: Path) -> None:
    pq.write_table(table(1), tmp_path / "1.parquet")
    (tmp_path / "2.csv").write_text("a\n1\n")
    with pytest.raises(DataError, match="more than one format"):
        open_input(str(tmp_path))
    (tmp_path / "x.txt").write_text("a\n1\n")
    with pytest.raises(DataError, match="format of a file is not known"):
        open_input(str(tmp_path / "x.txt"))


def test_a_damaged_column_is_named(tmp_path: Path) -> None:
    path = tmp_path / "1.parquet"
    pq.write_table(table(1000), path, compression="none", use_dictionary=False)
    chunk = pq.read_metadata(path).row_group(0).column(1)
    content = bytearray(path.read_bytes())
    content[chunk.data_page_offset : chunk.data_page_offset + 20] = b"\xff" * 20
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"cannot read a row group .*1.parquet, row group 0, column b"):
        rows_of(open_input(str(path)))


fields = st.text(st.sampled_from('ab ,"\té'), max_size=6)


@settings(max_examples=60)
@given(
    st.lists(st.lists(st.tuples(st.integers(-99, 99), st.none() | fields), max_size=12), min_size=1, max_size=3),
    st.lists(st.integers(0, 400), max_size=6),
    st.booleans(),
)
def test_csv_is_cut_anywhere(
    tmp_path_factory: pytest.TempPathFactory, files: list[Any], cuts: list[int], last_line_ends: bool
) -> None:
    folder = tmp_path_factory.mktemp("csv")
    schema = pa.schema({"n": pa.int64(), "s": pa.string()})
    tables = [pa.Table.from_pylist([{"n": n, "s": s} for n, s in rows], schema) for rows in files]
    for index, rows in enumerate(tables):
        pacsv.write_csv(rows, folder / f"{index}.csv")
    if not last_line_ends:
        path = folder / f"{len(files) - 1}.csv"
        path.write_bytes(path.read_bytes().rstrip(b"\n"))
    options = Options(types=(("n", "int64"), ("s", "string")))
    assert rows_of(open_input(str(folder), options), tuple(cuts)).equals(pa.concat_tables(tables).combine_chunks())


def test_csv_types_are_inferred_over_files(tmp_path: Path) -> None:
    (tmp_path / "1.csv").write_text("a,b,c,d,e\n1,,2020-01-01,x,\n2,NA,2020-01-02,7,\n")
    (tmp_path / "2.csv").write_text("a,b,c,d,e\n1.5,3,2020-01-03,8,\n")
    source = open_input(str(tmp_path))
    assert [str(field.type) for field in source.schema] == ["double", "int64", "date32[day]", "string", "string"]
    assert rows_of(source)["b"].to_pylist() == [None, None, 3]
    typed = open_input(str(tmp_path), Options(types=(("a", "float32"), ("d", "binary"))))
    assert typed.schema.field("a").type == pa.float32()
    assert rows_of(typed)["d"].to_pylist() == [b"x", b"7", b"8"]


def test_quoted_words_for_null_are_words(tmp_path: Path) -> None:
    (tmp_path / "1.csv").write_text('country\n"NA"\nNA\n""\n\nDE\n')
    assert rows_of(open_input(str(tmp_path)))["country"].to_pylist() == ["NA", None, "", None, "DE"]
    plain = open_input(str(tmp_path), Options(nulls=("",)))
    assert rows_of(plain)["country"].to_pylist() == ["NA", "NA", "", None, "DE"]


def test_values_of_several_lines_are_seen_in_the_first_rows(tmp_path: Path) -> None:
    (tmp_path / "1.csv").write_text('a,b\n1,"x\ny"\n2,z\n')
    source = open_input(str(tmp_path))
    assert not source.can_cut(0)
    assert rows_of(source, (9,))["b"].to_pylist() == ["x\ny", "z"]


def test_compressed_csv_is_read_by_whoever_has_its_beginning(tmp_path: Path) -> None:
    for index in range(2):
        with gzip.open(tmp_path / f"{index}.csv.gz", "wt") as file:
            file.write("a;b\n" + "".join(f"{index};{row}\n" for row in range(5)))
    source = open_input(str(tmp_path), Options(delimiter=";"))
    assert rows_of(source, (3, 30, 60))["b"].to_pylist() == [*range(5), *range(5)]
    assert len(intervals(source, 10)) == 2


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("x,5", "invalid value 'x' .*1.csv, line 20002, column a .*--type a=string"),
        ("5", r"Expected 2 columns, got 1: 5 .*1.csv, line 20002 .*--newlines-in-values"),
    ],
)
def test_a_bad_line_of_csv_is_named(tmp_path: Path, line: str, message: str) -> None:
    rows = [f"{row},{'y' * 100}" for row in range(30_000)]
    rows[20_000] = line
    (tmp_path / "1.csv").write_text("a,b\n" + "\n".join(rows) + "\n")
    source = open_input(str(tmp_path))
    for cuts in ((), (1_500_000,)):
        with pytest.raises(DataError, match=message):
            rows_of(source, cuts)


@pytest.mark.parametrize(
    ("content", "message"),
    [("", "CSV file is empty"), ("\n1,2\n", "begins with an empty line")],
)
def test_csv_without_names_is_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "1.csv").write_text(content)
    with pytest.raises(DataError, match=f"{message} .*1.csv"):
        open_input(str(tmp_path))


def test_csv_files_of_other_columns_are_refused(tmp_path: Path) -> None:
    (tmp_path / "1.csv").write_text("a,b\n1,2\n")
    (tmp_path / "2.csv").write_text("a,c\n1,2\n")
    with pytest.raises(DataError, match=r"do not have the same columns .*2.csv has a, c"):
        open_input(str(tmp_path))
    with pytest.raises(DataError, match=r"no such Arrow type .*a=number"):
        open_input(str(tmp_path / "1.csv"), Options(types=(("a", "number"),)))


@pytest.mark.parametrize("compression", [None, "GZIP"])
def test_tfrecord_is_read_between_any_two_records(tmp_path: Path, compression: str | None) -> None:
    rows = pa.table({"n": pa.array([1, None, 3] * 5), "w": ["x", "y", None] * 5, "l": [[1.5], [], None] * 5})
    rows = rows.set_column(2, "l", rows["l"].cast(pa.list_(pa.float32())))
    for index in range(2):
        write_records(f"{tmp_path}/{index}.tfrecord", examples_of(rows), compression)
    source = open_input(str(tmp_path))
    assert {field.name: str(field.type) for field in source.schema} == {
        "l": "list<item: float>",
        "n": "int64",
        "w": "string",
    }
    whole = pa.concat_tables([rows, rows]).select(["l", "n", "w"])
    assert rows_of(source, (1, 14, 15, 16)).equals(whole.combine_chunks())


def test_features_that_come_later_or_change_are_named(tmp_path: Path) -> None:
    path = f"{tmp_path}/1.tfrecord"
    write_records(path, [example_of({"a": 1})] * 5000 + [example_of({"a": 1, "b": 2})])
    with pytest.raises(DataError, match=r"feature b is not in the first records .*1.tfrecord, record 5000 .*--type b="):
        rows_of(open_input(path))
    assert rows_of(open_input(path, Options(types=(("b", "int64"),))))["b"].to_pylist()[-2:] == [None, 2]
    assert rows_of(open_input(path, Options(columns=("a",)))).column_names == ["a"]
    write_records(path, [example_of({"a": 1})] * 5000 + [example_of({"a": [1, 2]})])
    with pytest.raises(DataError, match=r"feature a has not always one value .*record 5000: 2 values .*a=list<int64>"):
        rows_of(open_input(path))
    assert rows_of(open_input(path, Options(types=(("a", "list<int64>"),))))["a"].to_pylist()[-2:] == [[1], [1, 2]]
    write_records(path, [example_of({"a": 1})] * 5000 + [b"no example"])
    with pytest.raises(DataError, match=r"a record is no Example.*1.tfrecord, record 5000"):
        rows_of(open_input(path))


def test_inputs_travel_to_other_processes_also_when_they_have_been_read(parquet: Path, tmp_path: Path) -> None:
    write_records(f"{tmp_path}/1.tfrecord", [example_of({"a": index}) for index in range(9)])
    (tmp_path / "1.csv").write_text("a\n1\n2\n")
    for path in (parquet / "1.parquet", tmp_path / "1.tfrecord", tmp_path / "1.csv"):
        source = open_input(str(path))
        rows = rows_of(source)
        assert rows_of(pickle.loads(pickle.dumps(source)), (3,)).equals(rows)


@given(st.lists(st.lists(st.integers(0, 9), max_size=4), min_size=1, max_size=4), st.integers(1, 12), st.floats(0, 1))
def test_intervals_cover_everything_once(groups: list[list[int]], parts: int, reach: float) -> None:
    source = _Lengths(groups)
    total = sum(source.lengths)
    found = intervals(source, parts, reach)  # type: ignore[arg-type]
    assert len(found) <= parts
    assert [place for start, stop in found for place in range(start, stop)] == list(range(total))
    pieces = [piece for start, stop in found for piece in segments(source, start, stop)]  # type: ignore[arg-type]
    assert sum(piece.stop - piece.start for piece in pieces) == total


class _Lengths:
    """Files that are nothing but lengths; those of one mark cannot be cut."""

    def __init__(self, groups: list[list[int]]) -> None:
        self._groups = groups
        self.lengths = [sum(group) for group in groups]
        self.files = [_Named(str(index)) for index in range(len(groups))]

    def marks(self, index: int) -> list[int]:
        return list(itertools.accumulate(self._groups[index], initial=0))

    def can_cut(self, index: int) -> bool:
        return len(self._groups[index]) > 1


class _Named:
    def __init__(self, path: str) -> None:
        self.path = path


def test_whole_numbers_beyond_int64_stay_as_they_are_written(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(f"id,hash,amount,few\n{'9' * 30},18446744073709551615,1.5,\nNA,-7,{'9' * 30},12\n")
    found = rows_of(open_input(str(tmp_path)))
    assert [str(kind) for kind in found.schema.types] == ["string", "string", "double", "int64"]
    assert found["id"].to_pylist() == ["9" * 30, None]
    assert found["hash"].to_pylist() == ["18446744073709551615", "-7"]
    given = open_input(str(tmp_path), Options(types=(("id", "float64"),)))
    assert rows_of(given)["id"].to_pylist() == [1e30, None]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "latin-1"])
def test_column_names_that_are_not_utf8_are_named(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "a.csv").write_bytes("größe,text\n1,a\n".encode(encoding))
    guess = "LATIN1" if encoding == "latin-1" else "UTF-16"
    with pytest.raises(DataError, match=rf"not UTF-8 · {tmp_path}/a.csv begins with b.* · write it as .* -f {guess} "):
        open_input(str(tmp_path))


@pytest.mark.parametrize("before", [0, 200_000])
def test_a_value_that_is_not_utf8_is_named_or_kept_as_bytes(tmp_path: Path, before: int) -> None:
    (tmp_path / "a.csv").write_bytes(b"n,text\n" + b"1,plain\n" * before + "2,Zürich\n".encode("latin-1"))
    seen = rf"a CSV file is not UTF-8 · {tmp_path}/a.csv, line {before + 2}, column text · write it as UTF-8, "
    with pytest.raises(DataError, match=f"{seen}.*--type text=binary"):
        rows_of(open_input(str(tmp_path)))
    kept = rows_of(open_input(str(tmp_path), Options(types=(("text", "binary"),))))
    assert kept["text"].to_pylist()[-1] == "Zürich".encode("latin-1")
