"""Examples without TensorFlow: written, read, their features inferred, described and checked."""

from __future__ import annotations

import contextlib
import datetime
import decimal
import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pipelines.errors import DataError
from pipelines.example_writer import example_of, examples_of, sequence_example_of
from pipelines.examples import check, infer, mismatch_in
from pipelines.features import Feature, Features
from pipelines.wire import Values, read_record

pytestmark = pytest.mark.timeout(60)

#: What TensorFlow writes, in the order of the names.
EXAMPLE = bytes.fromhex(
    "0a350a0d0a0166120812060a040000c03f0a150a016e12101a0e0a0cffffffffffffffffff01ac020a0d0a017312080a060a0261620a00"
)
SEQUENCE_EXAMPLE = bytes.fromhex("0a0c0a0a0a016e12051a030a010712160a140a0174120f0a051a030a01010a061a040a020203")

int64s = st.integers(-(2**63), 2**63 - 1)
names = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
values = st.one_of(
    st.lists(int64s, min_size=1, max_size=60),
    st.lists(st.floats(width=32, allow_nan=False), min_size=1),
    st.lists(st.binary(max_size=200), min_size=1, max_size=5),
)
rows = st.dictionaries(names, values, max_size=5)


def plain(read: dict[str, Values]) -> dict[str, Any]:
    return {name: list(one.values) if one.kind == "string" else one.values.tolist() for name, one in read.items()}


class TestWire:
    def test_reads_what_tensorflow_writes(self) -> None:
        read = read_record(EXAMPLE)
        assert plain(read.context) == {"f": [1.5], "n": [-1, 300], "s": [b"ab", b""]}
        assert [one.kind for one in read.context.values()] == ["float32", "int64", "string"]
        assert read.sequence is None

    def test_reads_a_sequence_example_of_tensorflow(self) -> None:
        context, sequence = read_record(SEQUENCE_EXAMPLE)
        assert plain(context) == {"n": [7]}
        assert sequence is not None
        assert [one.values.tolist() for one in sequence["t"]] == [[1], [2, 3]]

    def test_writes_what_tensorflow_writes(self) -> None:
        assert example_of({"f": 1.5, "n": [-1, 300], "s": ["ab", b""]}) == EXAMPLE
        assert sequence_example_of({"n": 7}, {"t": [1, [2, 3]]}) == SEQUENCE_EXAMPLE

    @given(rows)
    def test_what_was_written_is_read(self, row: dict[str, Any]) -> None:
        assert plain(read_record(example_of(row)).context) == row

    @given(rows, st.dictionaries(names, st.lists(values, max_size=4), min_size=1, max_size=3))
    def test_sequences_too(self, row: dict[str, Any], steps: dict[str, Any]) -> None:
        context, sequence = read_record(sequence_example_of(row, steps))
        assert plain(context) == row
        assert sequence is not None
        read = {name: [list(one.values) for one in some] for name, some in sequence.items()}
        assert read == steps

    def test_values_one_by_one(self) -> None:
        """Lists of numbers that are not packed, which older writers make, also mixed with packed ones."""
        ints = b"\x08\x05" + b"\x08\xac\x02" + b"\x0a\x02\x01\x02"
        floats = b"\x0d\x00\x00\xc0\x3f" * 2
        content = b"".join(
            _entry(key, bytes([tag, len(part)]) + part) for key, tag, part in [(b"i", 0x1A, ints), (b"f", 0x12, floats)]
        )
        assert plain(read_record(_field(1, content)).context) == {"i": [5, 300, 1, 2], "f": [1.5, 1.5]}

    def test_the_last_of_two_entries_counts(self) -> None:
        twice = example_of({"a": 1})[2:] + example_of({"a": 2})[2:]
        assert plain(read_record(_field(1, twice)).context) == {"a": [2]}

    def test_unknown_fields_are_passed_over(self) -> None:
        entry = _field(1, b"a") + _field(
            2, b"\x1a\x03\x0a\x01\x07" + b"\x20\x01" + b"\x29" + bytes(8) + b"\x35" + bytes(4)
        )
        assert plain(read_record(_field(1, _field(1, entry) + _field(9, b"new"))).context) == {"a": [7]}

    def test_many_numbers(self) -> None:
        numbers = np.random.default_rng(0).integers(-(2**63), 2**63 - 1, 10_000) >> np.arange(10_000) % 64
        assert (read_record(example_of({"a": numbers})).context["a"].values == numbers).all()

    @pytest.mark.parametrize(
        "record", [b"", b"\xff", b"garbage", b"\x0a\x05ab", b"{}", EXAMPLE[:-1], b"\x1a\x00", b"\x0a\x80"]
    )
    def test_not_an_example(self, record: bytes) -> None:
        with pytest.raises(ValueError, match=r"\w"):
            read_record(record)

    @given(st.binary(max_size=60))
    def test_any_bytes_are_read_or_refused(self, record: bytes) -> None:
        with contextlib.suppress(ValueError):
            read_record(record)

    @pytest.mark.parametrize(
        "number", [b"\xff" * 10 + b"\x01", b"\x80" * 12, b"\x80" * 60 + b"\x01", b"\x01" * 60 + b"\x80"]
    )
    def test_bad_numbers(self, number: bytes) -> None:
        content = _entry(b"a", _field(3, _field(1, number)))
        with pytest.raises(ValueError, match="number"):
            read_record(_field(1, content))


def _field(number: int, content: bytes) -> bytes:
    return bytes([number << 3 | 2, len(content)]) + content


def _entry(name: bytes, feature: bytes) -> bytes:
    return _field(1, _field(1, name) + _field(2, feature))


class TestRows:
    @pytest.mark.parametrize(
        ("value", "kind", "read"),
        [
            (True, "int64", [1]),
            (np.int16(-3), "int64", [-3]),
            (np.array([[1, 2], [3, 4]], np.uint8), "int64", [1, 2, 3, 4]),
            (np.float64(0.5), "float32", [0.5]),
            (np.array([0.5], np.float16), "float32", [0.5]),
            ([1, 2.5], "float32", [1.0, 2.5]),
            ("Zürich", "string", ["Zürich".encode()]),
            (np.array([b"a", b"bc"]), "string", [b"a", b"bc"]),
            (np.array(["a", "bü"]), "string", [b"a", "bü".encode()]),
            (np.empty(0, np.int32), "int64", []),
            ((), None, []),
        ],
    )
    def test_values(self, value: Any, kind: str | None, read: list[Any]) -> None:
        found = read_record(example_of({"a": value})).context["a"]
        assert found.kind == kind
        assert list(found.values) == read

    def test_none_is_absent(self) -> None:
        assert plain(read_record(example_of({"a": None, "b": 1})).context) == {"b": [1]}

    @pytest.mark.parametrize(
        "value", [2**63, -(2**64), object(), [1, "a"], [None], {"a": 1}, np.uint64(2**63), [[1], [2, 3]]]
    )
    def test_values_that_do_not_fit(self, value: Any) -> None:
        with pytest.raises(DataError, match="feature odd"):
            example_of({"odd": value})


class TestColumns:
    """Arrow tables, column by column, against the same rows one by one."""

    def test_numbers_and_text(self) -> None:
        chance = np.random.default_rng(1)
        count = 3_000
        table = pa.table(
            {
                "i64": chance.integers(-(2**63), 2**63 - 1, count) >> chance.integers(0, 63, count),
                "u8": chance.integers(0, 256, count).astype(np.uint8),
                "f32": chance.random(count, np.float32),
                "f64": chance.random(count),
                "flag": chance.random(count) < 0.5,
                "text": ["ü" * int(size) for size in chance.integers(0, 200, count)],
                "blob": [bytes(int(size)) for size in chance.integers(0, 20_000, count)],
                "ints": [chance.integers(-5, 1000, int(size)) for size in chance.integers(1, 9, count)],
                "texts": [["x" * int(size)] * int(size) for size in chance.integers(1, 5, count)],
                "long name" * 30: np.arange(count),
            }
        )
        assert examples_of(table).to_pylist() == [example_of(row) for row in table.to_pylist()]

    @given(
        st.lists(
            st.fixed_dictionaries(
                {},
                optional={
                    "i": int64s,
                    "f": st.floats(width=32, allow_nan=False),
                    "t": st.text(st.characters(exclude_categories=["Cs"]), max_size=200),
                    "is": st.lists(int64s, min_size=1, max_size=5),
                    "ts": st.lists(st.binary(max_size=3), min_size=1, max_size=3),
                },
            ),
            max_size=20,
        ),
        st.integers(0, 5),
    )
    def test_any_rows(self, listed: list[dict[str, Any]], start: int) -> None:
        schema = pa.schema(
            {
                "i": pa.int64(),
                "f": pa.float32(),
                "t": pa.string(),
                "is": pa.list_(pa.int64()),
                "ts": pa.large_list(pa.binary()),
            }
        )
        table = pa.Table.from_pylist(listed, schema).slice(start)
        expected = [example_of({name: row.get(name) for name in schema.names}) for row in listed[start:]]
        assert examples_of(table).to_pylist() == expected

    @pytest.mark.parametrize(
        ("array", "read"),
        [
            (pa.array([1.5, None], pa.float16()), [[1.5], None]),
            (pa.array([decimal.Decimal("1.25"), None]), [[1.25], None]),
            (pa.array([datetime.date(1970, 1, 3), None]), [[2], None]),
            (pa.array([datetime.datetime(1970, 1, 1, 0, 0, 1), None], pa.timestamp("ms")), [[1000], None]),
            (pa.array([datetime.time(0, 0, 1), None], pa.time32("s")), [[1], None]),
            (pa.array([datetime.timedelta(seconds=1), None], pa.duration("us")), [[1_000_000], None]),
            (pa.array(["a", None, "a"]).dictionary_encode(), [[b"a"], None, [b"a"]]),
            (pa.array(["a", None], pa.string_view()), [[b"a"], None]),
            (pa.array([b"abc", None], pa.binary(3)), [[b"abc"], None]),
            (pa.array([[1, 2], None, [3, 4]], pa.list_(pa.int8(), 2)), [[1, 2], None, [3, 4]]),
            (pa.array([[[1, 2], [3, 4]], None], pa.list_(pa.list_(pa.int8(), 2), 2)), [[1, 2, 3, 4], None]),
            (pa.array([[[1, 2], [3, 4]], None, []], pa.list_(pa.list_(pa.int8(), 2))), [[1, 2, 3, 4], None, []]),
            (pa.array([["a", "b"], None], pa.list_(pa.dictionary(pa.int8(), pa.string()))), [[b"a", b"b"], None]),
            (pa.array([[], None, [1.0]], pa.list_(pa.float64())), [[], None, [1.0]]),
            (pa.array([True, None]), [[1], None]),
            (pa.nulls(2), [None, None]),
            (pa.array([2**63 - 1], pa.uint64()), [[2**63 - 1]]),
        ],
    )
    def test_types(self, array: pa.Array, read: list[Any]) -> None:
        for some in (array, pa.concat_arrays([array, array]).slice(len(array)) if array.type != pa.null() else array):
            found = [
                plain(read_record(one).context) if len(one) > 2 else {}
                for one in examples_of(pa.table({"a": some})).to_pylist()
            ]
            assert found == [{} if one is None else {"a": one} for one in read]

    def test_hidden_values_below_a_null(self) -> None:
        lists = pa.ListArray.from_arrays(pa.array([0, 2, 3]), pa.array([1, 2, 3]), mask=pa.array([True, False]))
        found = examples_of(pa.table({"a": lists})).to_pylist()
        assert plain(read_record(found[1]).context) == {"a": [3]}

    @pytest.mark.parametrize(
        ("array", "words"),
        [
            (pa.array([{"a": 1}]), "struct"),
            (pa.array([[[1], [2, 3]]]), "list"),
            (pa.array([2**63], pa.uint64()), "column odd"),
            (pa.array([[1, None]]), "nulls"),
            (pa.array([[[1, 2], None]], pa.list_(pa.list_(pa.int8(), 2))), "nulls"),
        ],
    )
    def test_what_does_not_fit(self, array: pa.Array, words: str) -> None:
        with pytest.raises(DataError, match=words) as caught:
            examples_of(pa.table({"odd": array}))
        assert "column odd" in caught.value.seen

    def test_no_rows_and_no_columns(self) -> None:
        assert examples_of(pa.table({"a": pa.array([], pa.int64())})).to_pylist() == []
        assert examples_of(pa.RecordBatch.from_pydict({"a": [1]})).to_pylist() == [example_of({"a": 1})]


class TestInfer:
    def test_shapes(self) -> None:
        records = [
            example_of({"one": n, "two": [0.5, n], "some": ["a"] * n, "seldom": n if n > 1 else None})
            for n in (1, 2, 3)
        ]
        assert infer(records) == Features(
            {
                "one": Feature("int64"),
                "seldom": Feature("int64", ragged=True),
                "some": Feature("string", ragged=True),
                "two": Feature("float32", (2,)),
            }
        )

    def test_a_default_makes_a_seldom_one_dense(self) -> None:
        records = [example_of({"a": n, "b": [n, n]} if n else {"a": 1, "c": [1] * n}) for n in (0, 1, 2)]
        assert infer(records, defaults={"b": -1}).context["b"] == Feature("int64", (2,), default=-1)
        assert infer(records, defaults={"a": 0}).context["a"] == Feature("int64", default=0)
        with pytest.raises(DataError, match="default is not one int64"):
            infer(records, defaults={"b": "none"})
        with pytest.raises(DataError, match="neither shape nor default"):
            infer([example_of({"a": [1] * n}) for n in (1, 2)], defaults={"a": 0})

    def test_sequences(self) -> None:
        records = [
            sequence_example_of({"id": n}, {"t": list(range(n)), "v": [[0.5, 1.5]] * n, "w": [["a"] * n] * 2})
            for n in (1, 2, 3)
        ]
        found = infer([*records, sequence_example_of({"id": 4}, {})])
        assert found.context == {"id": Feature("int64")}
        assert found.sequence == {
            "t": Feature("int64"),
            "v": Feature("float32", (2,)),
            "w": Feature("string", ragged=True),
        }

    def test_empty_lists(self) -> None:
        """A feature without any value has no dtype, unless its empty list has one."""
        assert infer([example_of({"a": [], "b": np.empty(0, np.int64), "c": 1})]).names == ("b", "c")

    def test_nothing_to_infer(self) -> None:
        for records, words in [
            ([], "no records"),
            ([example_of({})], "no features"),
            ([example_of({"a": []})], "no features"),
        ]:
            with pytest.raises(DataError, match=words):
                infer(records)

    def test_several_dtypes(self) -> None:
        with pytest.raises(DataError, match="feature a: float32 and int64") as caught:
            infer([example_of({"a": 1}), example_of({"a": 1.5})], "part-1")
        assert "part-1" in caught.value.seen

    def test_not_examples(self) -> None:
        with pytest.raises(DataError, match=r"no tf.train.Example.*part-1, record 1"):
            infer([example_of({"a": 1}), b"plain text"], "part-1")


class TestFeatures:
    @pytest.mark.parametrize(
        "text",
        [
            "{age: int64, tags: ragged string, image: {dtype: string}, v: {dtype: float32, shape: [8]}}",
            "{a: {dtype: int32, default: -1}, b: {dtype: string, default: none}, c: {dtype: bool, ragged: true}}",
            "{context: {id: int64}, sequence: {tokens: int64, v: {dtype: float32, shape: [2, 3]}, w: ragged string}}",
            "{sequence: {dtype: int64}}",
            "{context: int64, sequence: int64}",
            "{context: int64, sequence: {dtype: float32, shape: 3}}",
        ],
    )
    def test_through_yaml_and_json(self, text: str) -> None:
        described = Features.from_dict(yaml.safe_load(text))
        assert Features.from_dict(yaml.safe_load(yaml.safe_dump(described.to_dict()))) == described
        assert Features.from_json(described.to_json()) == described
        assert Features.from_dict(json.loads(json.dumps(described.to_dict()))).names == described.names

    def test_meaning(self) -> None:
        described = Features.from_dict({"a": "ragged int64", "b": {"dtype": "float32", "shape": [2, 3], "default": 0}})
        assert described.context == {"a": Feature("int64", ragged=True), "b": Feature("float32", (2, 3), default=0)}
        assert described.sequence is None
        assert described.context["b"].size == 6
        of_steps = Features.from_dict({"sequence": {"dtype": {"dtype": "int64"}, "b": "int64"}})
        assert of_steps == Features({}, {"dtype": Feature("int64"), "b": Feature("int64")})

    @pytest.mark.parametrize(
        ("described", "words"),
        [
            ({}, "at least one"),
            (None, "at least one"),
            ({"a": "int46"}, "did you mean int64"),
            ({"a": "text"}, "use one of"),
            ({"a": 3}, "such as int64"),
            ({"a": {"shape": [3]}}, "such as int64"),
            ({"a": {"dtype": "int64", "size": 3}}, "size means nothing here"),
            ({"a": {"dtype": "int64", "shape": [None]}}, "list of sizes"),
            ({"a": {"dtype": "int64", "shape": [0]}}, "list of sizes"),
            ({"a": {"dtype": "int64", "ragged": True, "default": 3}}, "neither shape nor default"),
            ({"a": {"dtype": "int64", "default": "x"}}, "default is not one int64"),
            ({"a": {"dtype": "string", "default": 0}}, "default is not one string"),
            ({"a": {"dtype": "uint8", "default": -1}}, "default does not fit uint8"),
            ({"a": {"dtype": "int8", "default": 2**70}}, "default does not fit int64"),
            ({"context": {"a": "int64"}, "sequence": {"a": {"dtype": "int64"}}}, "leave one of them out"),
        ],
    )
    def test_bad_descriptions(self, described: Any, words: str) -> None:
        with pytest.raises(DataError) as caught:
            Features.from_dict(described)
        assert words in str(caught.value)

    def test_only_some(self) -> None:
        described = Features.from_dict({"context": {"a": "int64", "b": "int64"}, "sequence": {"c": "int64"}})
        assert described.only(["c", "b"]).names == ("b", "c")
        with pytest.raises(DataError, match="did you mean price"):
            Features.from_dict({"price": "int64"}).only(["prise"])


class TestCheck:
    RECORDS = (example_of({"a": 1, "v": [0.5, 1.5], "t": ["x", "y"]}), example_of({"a": 2, "v": [0.5, 1.5]}))

    @pytest.mark.parametrize(
        "described",
        [
            {"a": "int64", "v": {"dtype": "float32", "shape": [2]}, "t": "ragged string"},
            {"a": "int8", "v": {"dtype": "float16", "shape": [2, 1]}},
            {"a": "ragged int8", "new": {"dtype": "int64", "default": 3}, "more": "ragged int64"},
        ],
    )
    def test_matching(self, described: Any) -> None:
        check(Features.from_dict(described), self.RECORDS)

    @pytest.mark.parametrize(
        ("described", "record", "words"),
        [
            ({"a": "float32"}, 10, "feature a holds int64, not float32"),
            ({"v": "float32"}, 10, "feature v has 2 values, not 1"),
            ({"t": {"dtype": "string", "shape": [2]}}, 11, "feature t is missing"),
            ({"t": "ragged float32"}, 10, "feature t holds string, not float32"),
            ({"b": "int64"}, 10, "feature b is missing"),
            ({"a": "bool"}, 11, "feature a holds 2, which does not fit bool"),
        ],
    )
    def test_the_record_is_named(self, described: Any, record: int, words: str) -> None:
        with pytest.raises(DataError) as caught:
            check(Features.from_dict(described), self.RECORDS, "part-1", first=10)
        assert words in caught.value.happened
        assert caught.value.seen == f"part-1, record {record}"

    def test_steps(self) -> None:
        records = [sequence_example_of({}, {"t": [1, 2, [3, 4]]})]
        described = Features.from_dict({"sequence": {"t": "int64"}})
        with pytest.raises(DataError, match="feature t, step 2, has 2 values, not 1"):
            check(described, records)
        check(Features.from_dict({"sequence": {"t": "ragged int64", "u": "int64"}}), records)

    def test_words_of_another_error(self) -> None:
        assert mismatch_in(ValueError("something else")) is None
