"""What pydantic found wrong with a spec, in sentences that a user can act on."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError


def problems_in(error: ValidationError, root: type[BaseModel]) -> list[str]:
    """The errors of a document that should have been a `root`, one sentence each."""
    return [line for items in _branches(error) for line in _sentences(items, root)]


def _branches(error: ValidationError) -> list[list[dict[str, Any]]]:
    """The errors of pydantic, those of one union together: the branch that got furthest, or else all of them."""
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for item in error.errors():
        tag = next((i for i, part in enumerate(item["loc"]) if _is_union_tag(part)), None)
        place = item["loc"][:tag]
        clean = {**item, "loc": tuple(part for part in item["loc"] if not _is_union_tag(part) and part != "[key]")}
        groups.setdefault(place if tag is not None else (*item["loc"], item["type"]), []).append(clean)
    out = []
    for items in groups.values():
        furthest = max(map(_progress, items))
        out.append([item for item in items if _progress(item) == furthest])
    return out


def _is_union_tag(part: int | str) -> bool:
    return part in _UNION_TAGS or str(part).startswith("literal[")


def _progress(item: dict[str, Any]) -> tuple[int, bool]:
    """How near a union's branch came: deeper is nearer, and so is a right type with a wrong value."""
    return len(item["loc"]), not str(item["type"]).endswith("_type")


def _sentences(items: list[dict[str, Any]], root: type[BaseModel]) -> list[str]:
    """The errors of one place as sentences a user can act on."""
    item = items[0]
    where = ".".join(str(part) for part in item["loc"])
    if item["type"] == "extra_forbidden":
        return [f"unknown key {where}{_nearest(item['loc'], root)}"]
    if not where:
        return str(item["msg"]).removeprefix("Value error, ").split("\n")
    wording = " or ".join(dict.fromkeys(map(_wording, items))).replace(" or should be ", " or ")
    return [f"{where}: {wording}{_seen(item)}"]


def _wording(item: dict[str, Any]) -> str:
    if item["type"] == "literal_error":
        return f"should be {item['ctx']['expected']}"
    if item["type"] == "model_type" and item["loc"][0] == "roles":
        return "should be a number of replicas or a mapping of keys to values"
    message = str(item["msg"]).removeprefix("Value error, ").removeprefix("Input ")
    return _WORDING.get(item["type"], message)


def _seen(item: dict[str, Any]) -> str:
    if item["type"] in ("missing", "value_error"):
        return ""  # nothing was seen, or the message tells it
    hint = _did_you_mean(item["input"], _choices(item)) if item["type"] == "literal_error" else ""
    if item["type"] == "string_type" and isinstance(item["input"], int | float):
        hint = "; put it in quotes"
    return f" (seen: {item['input']!r}{hint})"


def _choices(item: dict[str, Any]) -> list[str]:
    return re.findall(r"'([^']*)'", str(item["ctx"]["expected"]))


def _did_you_mean(word: object, known: list[str]) -> str:
    meant = near(word, known)
    return f"; did you mean {meant}?" if meant else ""


def near(word: object, known: list[str]) -> str | None:
    """The known word that `word` most likely stands for."""
    return next(iter(difflib.get_close_matches(str(word), known, n=1, cutoff=0.6)), None)


def _nearest(loc: tuple[Any, ...], root: type[BaseModel]) -> str:
    """`; did you mean …?` from the keys known where `loc` stands."""
    known = list(_model_at(root, loc[:-1]).model_fields)
    return _did_you_mean(loc[-1], known) or f"; known: {', '.join(known)}"


def _model_at(root: type[BaseModel], path: Sequence[Any]) -> type[BaseModel]:
    """The model whose keys stand at `path` in a document of `root`; keys of mappings and places in lists are passed."""
    found = root
    for part in path:
        if str(part) in found.model_fields:
            found = next(_models(found.model_fields[str(part)].annotation), found)
    return found


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models in a field's type: in a union, as values of a mapping, or as items of a list."""
    if isinstance(annotation, type) and get_origin(annotation) is None and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models(part)


#: What pydantic puts into a location to say which branch of a union it tried.
_UNION_TAGS = ("str", "callable", "tuple[str, ...]", "constrained-int", "constrained-tuple")
#: pydantic's error types whose own words are about Python, not about the spec.
_WORDING = {
    "missing": "is required",
    "dict_type": "should be a mapping of keys to values",
    "model_type": "should be a mapping of keys to values",
    "tuple_type": "should be a list",
    "string_type": "should be text",
    "bool_parsing": "should be true or false",
    "bool_type": "should be true or false",
    "int_parsing": "should be a whole number",
    "int_type": "should be a whole number",
    "int_from_float": "should be a whole number",
    "float_parsing": "should be a number",
    "float_type": "should be a number",
    "too_short": "should not be empty",
}
