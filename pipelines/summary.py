"""What one pass over the rows says of each column: summaries of parts, which can be merged in any order.

A column within a column has a path: `a.b` is the field `b` of the struct `a`, `a[]` the values in the lists of `a`.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.apart import without_view
from pipelines.moments import Moments, finite, moments_of
from pipelines.quantiles import Quantiles, quantiles_of
from pipelines.schema import with_items
from pipelines.storage import is_bytes
from pipelines.vocabulary import Vocabulary, vocabulary_of

#: Longer strings, in bytes, have no place in a vocabulary: images would fill the memory.
LONGEST_VALUE = 1024
#: The fractions at which quantiles are given: every hundredth.
FRACTIONS = [step / 100 for step in range(101)]


@dataclass(frozen=True)
class Summary:
    """Of one column.

    Attributes:
        type: its Arrow type, as text.
        count: values that are there; NaN and infinities are.
        missing: nulls. A struct that is null makes its fields null; a list that is null has no values.
        nan: NaNs; neither these nor infinities are in `numbers` and `quantiles`.
        infinite: infinities.
        numbers: of numbers, and of dates and times in the unit of their type; bools are 0 and 1.
        quantiles: likewise, but not of bools.
        lengths: of strings and binary in bytes, of lists in values.
        vocabulary: of strings, binary, integers and bools.
        too_long: strings of more than `LONGEST_VALUE` bytes, which the vocabulary leaves out.
    """

    type: str
    count: int
    missing: int
    nan: int = 0
    infinite: int = 0
    numbers: Moments | None = None
    quantiles: Quantiles | None = None
    lengths: Moments | None = None
    vocabulary: Vocabulary | None = None
    too_long: int = 0

    def merge(self, other: Summary) -> Summary:
        """Of the rows of both."""
        return replace(
            self,
            count=self.count + other.count,
            missing=self.missing + other.missing,
            nan=self.nan + other.nan,
            infinite=self.infinite + other.infinite,
            numbers=_merged(self.numbers, other.numbers),
            quantiles=_merged(self.quantiles, other.quantiles),
            lengths=_merged(self.lengths, other.lengths),
            vocabulary=_merged(self.vocabulary, other.vocabulary),
            too_long=self.too_long + other.too_long,
        )

    def to_document(self, words: int) -> dict[str, Any]:
        """Plain values for JSON, with the `words` most frequent values of the vocabulary."""
        document: dict[str, Any] = {"type": self.type, "count": self.count, "missing": self.missing}
        if self.numbers is not None:
            document |= {"nan": self.nan, "infinite": self.infinite, **_moments_document(self.numbers)}
        if self.quantiles is not None:
            values = self.quantiles.at(FRACTIONS)
            if values and self.numbers is not None and self.numbers.low is not None:
                values[0], values[-1] = self.numbers.low, self.numbers.high  # type: ignore[assignment]
            document["quantiles"] = {"values": values, "rank_error": self.quantiles.error}
        if self.lengths is not None:
            document["lengths"] = _moments_document(self.lengths)
        if self.vocabulary is not None and words:
            document["vocabulary"] = self._vocabulary_document(self.vocabulary, words)
        return document

    def _vocabulary_document(self, vocabulary: Vocabulary, words: int) -> dict[str, Any]:
        values, counts = vocabulary.top(words)
        coded = any(isinstance(value, bytes) for value in values)
        return {
            "distinct": None if self.too_long else vocabulary.distinct,
            "values": [base64.b64encode(value).decode() for value in values] if coded else values,
            "counts": counts,
            "count_error": vocabulary.error,
            "too_long": self.too_long,
            **({"encoding": "base64"} if coded else {}),
        }


def _merged(left: Any, right: Any) -> Any:
    return left if right is None else right if left is None else left.merge(right)


def _moments_document(moments: Moments) -> dict[str, Any]:
    return {
        "min": moments.low,
        "max": moments.high,
        "mean": finite(moments.mean) if moments.count else None,
        "variance": finite(moments.variance),
    }


#: Of a part of the rows: summaries by path, in the order of the columns.
Summaries = Mapping[str, Summary]


def merge(left: Summaries, right: Summaries) -> dict[str, Summary]:
    """Of the rows of both."""
    merged = {path: one.merge(right[path]) if path in right else one for path, one in left.items()}
    return {**merged, **{path: one for path, one in right.items() if path not in left}}


def summarize(rows: pa.RecordBatch | pa.Table, *, vocabulary: bool = True) -> dict[str, Summary]:
    """Of the columns of `rows`.

    Args:
        rows: whose columns to look at.
        vocabulary: whether to count values.
    """
    found: dict[str, Summary] = {}
    for name, column in zip(rows.schema.names, rows.columns, strict=True):
        for path, array in _paths(name, _whole(column)):
            summary = _summary(array, vocabulary)
            found[path] = found[path].merge(summary) if path in found else summary
    return found


def _whole(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    # Of no rows, or of more than one array can hold, some versions give chunks again.
    return pa.concat_arrays(column.chunks) if isinstance(column, pa.ChunkedArray) else column


def _paths(name: str, array: pa.Array) -> Iterator[tuple[str, pa.Array]]:
    """`array` and the arrays within it."""
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    array = _without_views(array)
    kind = array.type
    if pa.types.is_dictionary(kind):
        yield from _paths(name, array.dictionary_decode())
        return
    yield name, array
    if pa.types.is_struct(kind):
        for field, child in zip(kind, array.flatten(), strict=True):
            yield from _paths(f"{name}.{field.name}", child)
    elif _is_list(kind):
        yield from _paths(f"{name}[]", array.flatten() if not pa.types.is_map(kind) else _entries(array))


def _without_views(array: pa.Array) -> pa.Array:
    """Views of strings and binary, at any depth, as these, and of lists as lists: Arrow can do little with views."""
    plain = _without_view(array.type)
    if plain.equals(array.type):
        return without_view(array)
    if "list_view<" in str(array.type):  # lists of views that are views themselves: Arrow cannot cast them
        return pa.array(array.to_pylist(), plain)
    return array.cast(plain)


def _without_view(kind: pa.DataType) -> pa.DataType:
    """A type without views of strings and binary, and without views of lists of these."""
    if pa.types.is_dictionary(kind):
        return pa.dictionary(kind.index_type, _without_view(kind.value_type), kind.ordered)
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_without_view(field.type)) for field in kind])
    if pa.types.is_map(kind):
        return pa.map_(_without_view(kind.key_type), _without_view(kind.item_type))
    if not kind.num_fields:
        return with_items(kind)
    item = _without_view(kind.value_type)
    if item.equals(kind.value_type):
        return kind
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(item, kind.list_size)
    wide = pa.types.is_large_list(kind) or pa.types.is_large_list_view(kind)
    return (pa.large_list if wide else pa.list_)(item)


def _entries(array: pa.MapArray) -> pa.Array:
    return array.cast(pa.list_(pa.struct([("key", array.type.key_type), ("value", array.type.item_type)]))).flatten()


def _is_list(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_list(kind)
        or pa.types.is_large_list(kind)
        or pa.types.is_fixed_size_list(kind)
        or pa.types.is_map(kind)
    )


def _summary(array: pa.Array, vocabulary: bool) -> Summary:
    kind = array.type
    plain = Summary(str(kind), len(array) - array.null_count, array.null_count)
    there = array.drop_null() if array.null_count else array
    if is_bytes(kind):
        return _of_bytes(plain, there, vocabulary)
    if _is_list(kind):
        return replace(plain, lengths=moments_of(_list_lengths(there)))
    if pa.types.is_boolean(kind):
        words = vocabulary_of(there) if vocabulary else None
        return replace(
            plain, numbers=moments_of(there.to_numpy(zero_copy_only=False).astype(np.int8)), vocabulary=words
        )
    numbers = _numbers(there)
    if numbers is None:
        return plain
    words = vocabulary_of(there) if vocabulary and pa.types.is_integer(kind) else None
    return replace(_of_numbers(plain, numbers), vocabulary=words)


def _of_bytes(plain: Summary, there: pa.Array, vocabulary: bool) -> Summary:
    lengths = pc.binary_length(there).to_numpy(zero_copy_only=False)
    summary = replace(plain, lengths=moments_of(lengths))
    if not vocabulary:
        return summary
    short = there.filter(pa.array(lengths <= LONGEST_VALUE)) if (lengths > LONGEST_VALUE).any() else there
    text = pa.types.is_string(there.type) or pa.types.is_large_string(there.type)
    counted = vocabulary_of(short.cast(pa.string() if text else pa.binary()))
    return replace(summary, vocabulary=counted, too_long=len(there) - len(short))


def _of_numbers(plain: Summary, numbers: np.ndarray[Any, np.dtype[Any]]) -> Summary:
    nan = infinite = 0
    if numbers.dtype.kind == "f":
        usable = np.isfinite(numbers)
        nan = int(np.isnan(numbers).sum())
        infinite = len(numbers) - int(usable.sum()) - nan
        numbers = numbers if usable.all() else numbers[usable]
    return replace(plain, nan=nan, infinite=infinite, numbers=moments_of(numbers), quantiles=quantiles_of(numbers))


def _list_lengths(there: pa.Array) -> np.ndarray[Any, np.dtype[Any]]:
    if pa.types.is_fixed_size_list(there.type):
        return np.full(len(there), there.type.list_size, np.int64)
    offsets = there.offsets.to_numpy()
    return np.diff(offsets).astype(np.int64)


def _numbers(there: pa.Array) -> np.ndarray[Any, np.dtype[Any]] | None:
    """`there` as numbers, or None where it holds none: dates and times count in the unit of their type."""
    kind = there.type
    if pa.types.is_float16(kind):
        return np.asarray(there.to_numpy(zero_copy_only=False)).astype(np.float32)
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return np.asarray(there.to_numpy(zero_copy_only=False))
    if pa.types.is_decimal(kind):
        return np.asarray(there.cast(pa.float64()).to_numpy(zero_copy_only=False))
    if pa.types.is_date32(kind) or pa.types.is_time32(kind):
        return np.asarray(there.view(pa.int32()).to_numpy(zero_copy_only=False))
    if any(
        test(kind) for test in (pa.types.is_date64, pa.types.is_time64, pa.types.is_timestamp, pa.types.is_duration)
    ):
        return np.asarray(there.view(pa.int64()).to_numpy(zero_copy_only=False))
    return None
