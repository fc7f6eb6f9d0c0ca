"""What is said about the features of `tf.train.Example` and `tf.train.SequenceExample` records."""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pipelines.errors import DataError

#: The dtypes a feature may have, and as what each is stored; the others are casts of these three.
STORED_AS = {
    "string": "string",
    "int64": "int64",
    **dict.fromkeys(["bool", "int8", "int16", "int32", "uint8", "uint16", "uint32"], "int64"),
    "float32": "float32",
    **dict.fromkeys(["float16", "bfloat16", "float64"], "float32"),
}
#: Binary digits of a number of each float dtype, and what is too large for one, where it is less than for float32.
_DIGITS = {"float16": 11, "bfloat16": 8, "float32": 24, "float64": 53}
_TOO_LARGE = {"float16": 65_520.0, "bfloat16": (2 - 2**-8) * 2.0**127}


@dataclass(frozen=True)
class Feature:
    """One feature.

    Attributes:
        dtype: of its tensor, one of `STORED_AS`.
        shape: of one row (for a feature of a sequence: of one step). `()` is a scalar.
        ragged: the number of values differs from row to row (from step to step), and `shape` is not used.
        default: what stands in for a missing feature, one value for all of `shape`. None: each row has the feature.
        cast: the dtype that a request casts it to in the end; none of what is said of the records, so `to_dict` leaves
            it out.
    """

    dtype: str
    shape: tuple[int, ...] = ()
    ragged: bool = False
    default: Any = None
    cast: str | None = None

    @property
    def casts(self) -> tuple[str, ...]:
        """The dtypes that its values are cast to, one after the other; a string is not."""
        through = (STORED_AS[self.dtype], self.dtype, self.cast or self.dtype)
        return tuple(dtype for dtype, before in zip(through[1:], through, strict=False) if dtype != before)

    @property
    def size(self) -> int:
        """Values of a row, if it is not ragged."""
        return math.prod(self.shape)

    def to_dict(self) -> dict[str, Any]:
        """As values that YAML and JSON can hold, without what is left at its usual value."""
        plain: dict[str, Any] = {"dtype": self.dtype}
        if self.shape:
            plain["shape"] = list(self.shape)
        if self.ragged:
            plain["ragged"] = True
        if self.default is not None:
            plain["default"] = self.default
        return plain

    @classmethod
    def from_dict(cls, name: str, plain: Any) -> Feature:
        """From `"int64"`, `"ragged string"` or a mapping of the attributes.

        Raises:
            DataError: it is none of these, with the feature.
        """
        given = _spelled(plain) if isinstance(plain, str) else plain
        if not isinstance(given, Mapping) or not isinstance(given.get("dtype"), str):
            raise _bad(name, plain, 'such as int64, "ragged string" or {dtype: float32, shape: [8]}')
        if unknown := set(given) - {"dtype", "shape", "ragged", "default"}:
            raise _bad(
                name, plain, f"{', '.join(map(str, unknown))} means nothing here; use dtype, shape, ragged, default"
            )
        if (dtype := given["dtype"]) not in STORED_AS:
            near = difflib.get_close_matches(dtype, STORED_AS, 1)
            raise _bad(name, plain, f"did you mean {near[0]}?" if near else f"use one of {', '.join(STORED_AS)}")
        shape = _shape(name, plain, given)
        return cls(dtype, shape, bool(given.get("ragged", False)), given.get("default")).checked(name)

    def checked(self, name: str) -> Feature:
        """This feature, if its parts agree.

        Raises:
            DataError: they do not, with the feature.
        """
        if self.ragged and (self.shape or self.default is not None):
            todo = "a ragged feature has neither shape nor default; a missing one has no values"
            raise _bad(name, self.to_dict(), todo)
        kinds = {"string": (str, bytes), "int64": (int,), "float32": (int, float)}[STORED_AS[self.dtype]]
        if self.default is not None and not isinstance(self.default, kinds):
            raise _bad(name, self.to_dict(), f"the default is not one {self.dtype}")
        if self.default is not None and self.casts and (wrong := _unfitting_default(self)):
            raise _bad(name, self.to_dict(), f"the default does not fit {wrong}")
        return self

    def __str__(self) -> str:
        """Such as `ragged string` or `float32[28, 28]`, as it is after the cast."""
        shape = f"[{', '.join(map(str, self.shape))}]" if self.shape else ""
        return f"{'ragged ' if self.ragged else ''}{self.cast or self.dtype}{shape}"


@dataclass(frozen=True)
class Features:
    """The features of an Example (`sequence` is None) or a SequenceExample, by name, in the order of the tensors.

    In a SequenceExample, `context` belongs to the whole row and `sequence` to its steps, of which each feature and each
    row may have another number.
    """

    context: Mapping[str, Feature]
    sequence: Mapping[str, Feature] | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Of all features."""
        return (*self.context, *(self.sequence or {}))

    @classmethod
    def from_dict(cls, plain: Any) -> Features:
        """From a mapping of names to features, or, for a SequenceExample, `{context: {…}, sequence: {…}}`.

        A feature is a dtype, or a mapping with a `dtype`; so features named `context` and `sequence` are no problem.

        Raises:
            DataError: something in it is not a feature, with its name.
        """
        if not isinstance(plain, Mapping) or not plain:
            raise DataError("no features are described", repr(plain), "give at least one, such as {age: int64}")
        if not _is_sequence(plain):
            return cls(_features(plain))
        both = sorted(set(plain.get("context") or {}) & set(plain["sequence"]))
        if both:
            raise DataError("a feature is in context and in sequence", ", ".join(both), "leave one of them out")
        return cls(_features(plain.get("context") or {}), _features(plain["sequence"]))

    def to_dict(self) -> dict[str, Any]:
        """What `from_dict` takes."""
        context = {name: feature.to_dict() for name, feature in self.context.items()}
        if self.sequence is None:
            return context
        return {"context": context, "sequence": {name: one.to_dict() for name, one in self.sequence.items()}}

    def to_json(self) -> str:
        """`to_dict` as text."""
        return json.dumps(self.to_dict())

    @classmethod
    def from_json(cls, text: str) -> Features:
        """What `to_json` gave."""
        return cls.from_dict(json.loads(text))

    def only(self, names: Sequence[str]) -> Features:
        """Without the features that are not in `names`.

        Raises:
            DataError: there is no such feature.
        """
        if missing := [name for name in names if name not in self.names]:
            near = difflib.get_close_matches(missing[0], self.names, 1)
            todo = f"did you mean {near[0]}?" if near else f"there are {', '.join(self.names[:20])}"
            raise DataError("the records have no such feature", missing[0], todo)
        context = {name: one for name, one in self.context.items() if name in names}
        return Features(context, {name: one for name, one in (self.sequence or {}).items() if name in names} or None)


def unfitting(values: npt.NDArray[Any], casts: Sequence[str]) -> tuple[Any, str] | None:
    """The first of some numbers that one of `casts`, made one after the other, would change, and that cast.

    An integer or a truth value must come out as the number it was; a float may lose digits, but not become infinite.
    """
    for dtype in casts:
        fits = _fits(values, dtype)
        if not fits.all():
            return values[~fits][0].item(), dtype
        values = _as_bfloat16(values) if dtype == "bfloat16" else values.astype(dtype)
    return None


def _fits(values: npt.NDArray[Any], dtype: str) -> npt.NDArray[np.bool_]:
    is_float = values.dtype.kind == "f"
    if dtype in _DIGITS:
        wide = values.astype(np.float64)
        small: npt.NDArray[np.bool_] = ~(np.abs(wide) >= _TOO_LARGE.get(dtype, np.inf)) | np.isinf(wide)
        return small if is_float else small & _has_digits(values, _DIGITS[dtype])
    low, high = (0, 1) if dtype == "bool" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    if is_float:
        wide = values.astype(np.float64)
        fits: npt.NDArray[np.bool_] = (wide == np.floor(wide)) & (wide >= low) & (wide < high + 1)
        return fits
    return (values >= low) & (values <= high)


def _has_digits(values: npt.NDArray[Any], digits: int) -> npt.NDArray[np.bool_]:
    """Whether integers need no more than so many binary digits, but for zeros at the end."""
    size = np.abs(values.astype(np.int64)).view(np.uint64)  # also of the least one
    lowest = np.maximum(size & (~size + np.uint64(1)), np.uint64(1))
    fits: npt.NDArray[np.bool_] = size // lowest < np.uint64(1 << digits)
    return fits


def _as_bfloat16(values: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Numbers rounded to the first half of a float32, of which numpy has no dtype."""
    bits = values.astype(np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)).astype(np.uint32).view(np.float32)


def _unfitting_default(feature: Feature) -> str | None:
    """The dtype that a default of numbers does not fit."""
    stored = STORED_AS[feature.dtype]
    try:
        found = unfitting(np.array([feature.default], stored), feature.casts)
    except OverflowError:
        return stored
    return found and found[1]


def _features(plain: Any) -> dict[str, Feature]:
    if not isinstance(plain, Mapping):
        raise DataError("features are not described by name", repr(plain), "write them as {name: dtype}")
    return {str(name): Feature.from_dict(str(name), one) for name, one in plain.items()}


def _is_sequence(plain: Mapping[str, Any]) -> bool:
    """Whether `sequence` is a group of features, and not a feature of that name."""
    group = plain.get("sequence")
    return (
        set(plain) <= {"context", "sequence"} and isinstance(group, Mapping) and not isinstance(group.get("dtype"), str)
    )


def _spelled(text: str) -> dict[str, Any]:
    words = text.split()
    return {"dtype": words[-1] if words else "", "ragged": True} if words[:-1] == ["ragged"] else {"dtype": text}


def _shape(name: str, plain: Any, given: Mapping[str, Any]) -> tuple[int, ...]:
    shape = given.get("shape") or ()
    sizes = [shape] if isinstance(shape, int) else shape
    if not isinstance(sizes, (list, tuple)) or not all(isinstance(size, int) and size > 0 for size in sizes):
        raise _bad(name, plain, "a shape is a list of sizes, such as [28, 28]; what varies is ragged")
    return tuple(sizes)


def _bad(name: str, plain: Any, todo: str) -> DataError:
    return DataError("a feature is not described well", f"{name}: {plain!r}", todo)
