"""What becomes of the records of TFRecord files: which features they have, and their tensors."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipelines.errors import DataError
from pipelines.examples import check, infer, parse, refused
from pipelines.features import STORED_AS, Features
from pipelines.layout import Feature, Layout, Request, packs_of
from pipelines.schema import Text
from pipelines.shards import Unit
from pipelines.tfrecord import TFRecordSource

if TYPE_CHECKING:
    import tensorflow as tf

#: The one column of a source of records, as bytes.
RECORDS = Layout({"record": pa.large_binary()}, (Feature("record", Text(), ("record",)),))
#: Files, and records of each, that are looked at to infer the features.
_FILES, _RECORDS = 8, 512
#: Records that are looked at together, to find one that does not match.
_AT_ONCE = 8_192


@dataclass(frozen=True)
class Records:
    """The features that are made of each batch of records, and of which of them a matrix is made."""

    features: Features
    pack: Mapping[str, tuple[str, ...]]

    def tensors(self, serialized: tf.Tensor) -> dict[str, Any]:
        """Features by name, of records `[batch]`: see `pipelines.examples.parse`."""
        import tensorflow as tf

        found = parse(self.features, serialized)
        matrices = {name: tf.stack([found[one] for one in names], axis=1) for name, names in self.pack.items()}
        packed = {one for names in self.pack.values() for one in names}
        return {**{name: value for name, value in found.items() if name not in packed}, **matrices}


def records_of(
    source: TFRecordSource, units: Sequence[Unit], request: Request, features: Mapping[str, Any] | None
) -> Records:
    """What `request` makes of the records of `source`.

    Args:
        source: of the records.
        units: those of it that can be read.
        request: `columns` and `label` choose features, `casts` gives them another dtype, `fill` a default.
        features: as `pipelines.features.Features.from_dict` takes them; None infers them.

    Raises:
        DataError: there is no such feature, no such dtype, features that cannot be packed together, or the request
            asks what only columns can give.
    """
    _refuse_what_needs_columns(request)
    known = (
        infer(_some_records(source, units), units[0].file, request.fill)
        if features is None
        else Features.from_dict(features)
    )
    packed = [one for of in request.pack.values() if not isinstance(of, str) for one in of]
    if request.columns is not None:
        label = () if request.label is None else (request.label,)
        known = known.only([*dict.fromkeys((*request.columns, *packed, *label))])
    else:
        known.only([*packed, *([request.label] if request.label else [])])
    changed = _changed(known, request)
    pack = packs_of(request.pack, _numbers(changed, request.label), units[0].file if units else "no records")
    for name, packs in pack.items():
        _check_pack(changed, name, packs)
    return Records(changed, pack)


def _numbers(features: Features, label: str | None) -> dict[str, str]:
    """The dtypes of the features that are one number a row, and not the label."""
    of_rows = {name: str(one) for name, one in features.context.items() if not one.ragged and not one.shape}
    return {name: dtype for name, dtype in of_rows.items() if dtype != "string" and name != label}


@dataclass(frozen=True)
class MatchingSource:
    """A source of records of which a unit cannot be read when one of its records does not match the features."""

    source: TFRecordSource
    units: tuple[Unit, ...]
    features: Features

    @property
    def schema(self) -> pa.Schema:
        """That of the source."""
        return self.source.schema

    def read(self, unit: Unit) -> pa.Table:
        """The records of a unit.

        Raises:
            DataError: one does not match, or they cannot be read; with file, record and, where it is one, feature.
        """
        if error := mismatch(self.features, self.source, unit, np.arange(unit.rows)):
            raise error
        return self.source.read(unit)


def mismatch(features: Features, source: TFRecordSource, unit: Unit, rows: npt.NDArray[np.int64]) -> DataError | None:
    """The error of the first of some records of a unit that does not match; None where all of them do.

    Args:
        features: what each record should have.
        source: of the records.
        unit: that they are in.
        rows: `[records]`, their numbers in the unit.
    """
    rows = np.sort(rows)
    first = sum(source.index_of(unit.file).rows[: unit.row_group])
    records = source.read(unit)["record"].take(pa.array(rows))
    parses = "tensorflow" in sys.modules  # many times as fast as Python, which alone can tell what is wrong
    for start in range(0, len(rows), _AT_ONCE):
        some, numbers = records.slice(start, _AT_ONCE).to_pylist(), (rows[start : start + _AT_ONCE] + first).tolist()
        if parses and not refused(features, some):
            continue
        if error := _first_mismatch(features, some, unit.file, numbers):
            return error
        if parses:
            seen = f"{unit.file}, records {numbers[0]} to {numbers[-1]}"
            return DataError("TensorFlow cannot parse a record", seen, "check what the file holds")
    return None


def _first_mismatch(
    features: Features, records: Sequence[bytes], file: str, numbers: Sequence[int]
) -> DataError | None:
    try:
        for number, record in zip(numbers, records, strict=True):
            check(features, [record], file, number)
    except DataError as error:
        return error
    return None


def _refuse_what_needs_columns(request: Request) -> None:
    for name, asked in (("filters", request.filters), ("masks", request.masks)):
        if asked:
            todo = "convert them with tfcluster data convert, or filter the dataset"
            raise DataError(f"{name} need columns, which TFRecord files do not have", asked, todo)


def _check_pack(features: Features, name: str, names: Sequence[str]) -> None:
    """Refuse what is no matrix: features of more than one value or of several dtypes."""
    found = {one: features.context.get(one) for one in names}
    fit = all(kind is not None and not kind.ragged and not kind.shape for kind in found.values())
    if fit and len({str(kind) for kind in found.values()}) == 1:
        return
    seen = ", ".join(f"{one} is {'of a sequence' if kind is None else kind}" for one, kind in found.items())
    todo = "cast them to one dtype with casts, and leave out what is ragged or has a shape"
    raise DataError(f"pack {name} needs features of one value each and of one dtype", seen, todo)


def _changed(features: Features, request: Request) -> Features:
    """The features with the defaults and the casts that are asked for."""
    features.only([*request.casts, *request.fill])
    known = {**features.context, **(features.sequence or {})}
    numbers = [dtype for dtype, stored in STORED_AS.items() if stored != "string"]
    for name, dtype in request.casts.items():
        if dtype not in numbers or known[name].dtype not in numbers:
            seen = f"it is {known[name].dtype}"
            raise DataError(f"feature {name} cannot be cast to {dtype}", seen, f"casts are among {', '.join(numbers)}")

    def changed(name: str, feature: Any) -> Any:
        default = request.fill.get(name, feature.default)
        return replace(feature, default=default, cast=request.casts.get(name)).checked(name)

    context = {name: changed(name, feature) for name, feature in features.context.items()}
    sequence = features.sequence and {name: changed(name, feature) for name, feature in features.sequence.items()}
    if lost := [name for name in request.fill if name in (sequence or {})]:
        raise DataError("a feature of a sequence cannot be filled", lost[0], "a step that is missing is not there")
    return Features(context, sequence)


def _some_records(source: TFRecordSource, units: Sequence[Unit]) -> list[bytes]:
    """The first records of files from all over the source."""
    first = list({unit.file: unit for unit in reversed(units)}.values())[::-1]
    found: list[bytes] = []
    for unit in first[:: -(-len(first) // _FILES)]:
        found += source.read(unit)["record"].slice(0, _RECORDS).to_pylist()
    return found
