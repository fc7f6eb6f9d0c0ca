"""Which features a request makes of the columns that the files have: decided once, before anything is read."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa

from pipelines.alike import castable
from pipelines.apart import flattened
from pipelines.errors import DataError
from pipelines.schema import Fixed, Kind, Number, describe, kind_of, with_items

#: What a mask's feature is called: the column's name and this.
PRESENT = "_present"

Scalar = bool | int | float | str


@dataclass(frozen=True)
class Request:
    """Which columns are asked for, and in what form.

    Fields of structs, also of structs in lists, are columns with dotted names, the keys and values of a map are `.key`
    and `.value`. Wherever a column is named, the name of a struct, a list of structs or a map stands for all of its
    fields, but as a label.

    Attributes:
        columns: feature columns; None takes all but the label.
        label: column that becomes the second element of `(features, label)`.
        casts: Arrow type by column, such as `float32`, of a list's items; a value that does not fit is an error.
        fill: what stands for nulls, by column; in a list, for nulls among its items, while a null list becomes empty.
        masks: columns with a second feature, `<column>_present`, that is False where the column was null.
        pack: columns of one dtype that become one feature, a matrix `[rows, columns]`, by its name. A dtype, such as
            `float32`, stands for all columns of that dtype that are read and not used otherwise.
        nested: fields of structs come as dictionaries in dictionaries, not under dotted names.
        filters: conditions `(column, op, value)` that a row must meet, all of them; op is one of `==`, `!=`, `<`, `<=`,
            `>`, `>=`, `in`, `not in`.
    """

    columns: tuple[str, ...] | None = None
    label: str | None = None
    casts: Mapping[str, str] = field(default_factory=dict)
    fill: Mapping[str, Scalar] = field(default_factory=dict)
    masks: tuple[str, ...] = ()
    pack: Mapping[str, tuple[str, ...] | str] = field(default_factory=dict)
    nested: bool = False
    filters: tuple[tuple[str, str, Any], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Request:
        """The request of `to_dict`, after JSON has made lists of its tuples."""
        lists = {key: tuple(value) for key, value in values.items() if isinstance(value, list)}
        pack = {name: of if isinstance(of, str) else tuple(of) for name, of in values["pack"].items()}
        filters = tuple((column, op, value) for column, op, value in values["filters"])
        return cls(**{**values, **lists, "pack": pack, "filters": filters})


@dataclass(frozen=True)
class Feature:
    """One tensor of a batch: its name, its kind, and the column it is made of, or the columns that it packs."""

    name: str
    kind: Kind
    columns: tuple[str, ...]
    packs: bool = False


@dataclass(frozen=True)
class Layout:
    """What is read and what becomes of it.

    Attributes:
        columns: each column that is read, with its type after casts; what `prepare.prepare` yields.
        features: the tensors of a batch in order, the label last where there is one.
        fill: what stands for nulls, by column.
        masks: columns that are followed by one which tells where they are not null.
        casts: columns that are cast to a type which was asked for.
    """

    columns: Mapping[str, pa.DataType]
    features: tuple[Feature, ...]
    fill: Mapping[str, Scalar] = field(default_factory=dict)
    masks: tuple[str, ...] = ()
    casts: frozenset[str] = frozenset()


def layout_of(schema: pa.Schema, request: Request, seen: str) -> Layout:
    """The layout of a request over files of this schema.

    Args:
        schema: of the files.
        request: what is asked for.
        seen: a file's name, for errors.

    Raises:
        DataError: a column is missing or has a type that cannot be had, a cast or a pack that cannot be made.
    """
    known = {leaf.name: leaf.type for leaf in flattened(schema)}
    _refuse_twins([leaf.name for leaf in flattened(schema)], "column", seen)
    asked = [*_chosen(known, request, seen)]
    casts, fill = (_by_leaf(known, values, seen) for values in (request.casts, request.fill))
    masks = tuple(_by_leaf(known, dict.fromkeys(request.masks), seen))
    named = {
        name: of if isinstance(of, str) else tuple(_by_leaf(known, dict.fromkeys(of), seen))
        for name, of in request.pack.items()
    }
    columns = {name: _cast(known[name], casts.get(name), name, seen) for name in asked}
    for name in masks:
        if name not in columns:
            raise DataError(f"masks names column {name}, which is not read", seen, f"add {name} to columns")
    kinds = {name: kind_of(arrow, name, seen) for name, arrow in columns.items()}
    label = None if request.label is None else [*columns][-1]
    dtypes = {name: kind.dtype for name, kind in kinds.items() if isinstance(kind, Number) and name != label}
    features = tuple(_features(kinds, masks, packs_of(named, dtypes, seen), request.label, seen))
    names = [feature.name for feature in features]
    _refuse_twins(names, "feature", seen)
    if request.nested:
        _refuse_both([name for name in names if name != request.label], seen)
    return Layout(columns, features, fill, masks, frozenset(casts))


def _chosen(known: Mapping[str, pa.DataType], request: Request, seen: str) -> dict[str, None]:
    """The columns that are read, in order, the label last."""
    packed = [name for of in request.pack.values() if not isinstance(of, str) for name in of]
    wanted: Iterable[str] = known if request.columns is None else (*request.columns, *packed)
    found: dict[str, None] = {}
    for name in wanted:
        found.update(dict.fromkeys(_resolve(known, name, seen)))
    for name in packed:
        found.update(dict.fromkeys(_resolve(known, name, seen)))
    if request.label is not None:
        (label,) = _only(_resolve(known, request.label, seen, " for the label"), request.label, seen)
        found.pop(label, None)
        found[label] = None
    return found


def _only(names: Sequence[str], name: str, seen: str) -> Sequence[str]:
    if len(names) != 1:
        raise DataError(f"the label {name} has several fields", f"{seen}: {', '.join(names)}", "name one of them")
    return names


def _resolve(known: Mapping[str, pa.DataType], name: str, seen: str, purpose: str = "") -> list[str]:
    """The columns that a name stands for: itself, or its fields."""
    if name in known:
        return [name]
    fields = [column for column in known if column.startswith(f"{name}.")]
    if fields:
        return fields
    near = difflib.get_close_matches(name, list(known), n=1)
    todo = f"did you mean {near[0]}?" if near else f"its columns are {', '.join([*known][:20])}"
    raise DataError(f"there is no column {name}{purpose}", seen, todo)


def _by_leaf(known: Mapping[str, pa.DataType], values: Mapping[str, Any], seen: str) -> dict[str, Any]:
    """What is said of columns, with fields in the place of what has them."""
    return {leaf: value for name, value in values.items() for leaf in _resolve(known, name, seen)}


def _refuse_twins(names: list[str], what: str, seen: str) -> None:
    if len(set(names)) != len(names):
        twin = next(name for name in names if names.count(name) > 1)
        raise DataError(f"there is more than one {what} {twin}", seen, f"give each {what} a name of its own")


def _refuse_both(names: list[str], seen: str) -> None:
    """Refuse names that would have to be both a tensor and a dictionary of them."""
    above = {name[:end] for name in names for end, letter in enumerate(name) if letter == "."}
    if both := [name for name in names if name in above]:
        todo = "leave one of them out with columns, or take them under dotted names with structs: flat"
        raise DataError(f"feature {both[0]} cannot have features within it", f"{seen}: {both[0]}.…", todo)


def _cast(arrow: pa.DataType, wanted: str | None, column: str, seen: str) -> pa.DataType:
    """The type that a column is read as; a cast is of a list's items."""
    if wanted is None:
        return with_items(arrow)
    try:
        found = with_items(arrow, pa.type_for_alias(wanted))
    except ValueError:
        todo = "name an Arrow type, such as float32, int64 or string"
        raise DataError(f"column {column} cannot be cast to an unknown type", f"{seen}: {wanted}", todo) from None
    if not castable(arrow, found):
        todo = "cast it to another type, or write it as one that can be"
        raise DataError(f"column {column} cannot be cast to {wanted}", f"{seen}: it is {arrow}", todo)
    return found


def packs_of(
    pack: Mapping[str, tuple[str, ...] | str], dtypes: Mapping[str, str], seen: str
) -> dict[str, tuple[str, ...]]:
    """The columns of each pack, in the place of dtypes those that have them and are in no other pack.

    Args:
        pack: as `Request.pack` has it.
        dtypes: of the columns that may be packed.
        seen: a file's name, for errors.

    Raises:
        DataError: a pack without columns.
    """
    named = {column for of in pack.values() if not isinstance(of, str) for column in of}
    found: dict[str, tuple[str, ...]] = {}
    for name, of in pack.items():
        free = (column for column, dtype in dtypes.items() if dtype == of and column not in named)
        found[name] = tuple(free) if isinstance(of, str) else of
        if not found[name]:
            known = ", ".join(dict.fromkeys(dtypes.values())) or "none"
            happened = f"pack {name} has no columns" + (f": none is {of}" if isinstance(of, str) else "")
            raise DataError(
                happened, f"{seen}: dtypes of columns that may be packed: {known}", "name columns, or a dtype"
            )
        named.update(found[name])
    return found


def _features(
    kinds: Mapping[str, Kind],
    masks: tuple[str, ...],
    pack: Mapping[str, tuple[str, ...]],
    label: str | None,
    seen: str,
) -> Iterator[Feature]:
    packed = {name for names in pack.values() for name in names}
    for name, kind in kinds.items():
        if name not in packed and name != label:
            yield Feature(name, kind, (name,))
    for name, names in pack.items():
        yield Feature(name, _packed(name, names, kinds, seen), names, packs=True)
    for name in masks:
        yield Feature(name + PRESENT, Number("bool"), (name + PRESENT,))
    if label is not None:
        yield Feature(label, kinds[label], (label,))


def _packed(name: str, names: tuple[str, ...], kinds: Mapping[str, Kind], seen: str) -> Kind:
    found = {column: describe(kinds[column]) for column in names}
    first = kinds[names[0]]
    if len(set(found.values())) > 1 or not isinstance(first, Number):
        seen = f"{seen}: {', '.join(f'{column} is {kind}' for column, kind in found.items())}"
        raise DataError(f"pack {name} needs columns of numbers of one dtype", seen, "cast them to one with casts")
    return Fixed(first, len(names))
