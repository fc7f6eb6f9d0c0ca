"""Which rows there are, by file and row group: so that tasks, and attempts, can tell whether they read the same."""

from __future__ import annotations

import base64
import hashlib
import itertools
import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipelines.shards import Unit


def digest(units: Sequence[Unit]) -> str:
    """The same for the same files below the folder that holds them all, with the same rows in the same row groups."""
    start = len(_folder(units))
    text = "\n".join(f"{unit.file[start:]}\t{unit.row_group}\t{unit.rows}" for unit in units)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def counts(units: Sequence[Unit]) -> str:
    """`1001 rows in 3 files`."""
    rows, files = sum(unit.rows for unit in units), len({unit.file for unit in units})
    return f"{rows} row{'s' * (rows != 1)} in {files} file{'s' * (files != 1)}"


def listed(units: Sequence[Unit]) -> str:
    """Both in a line."""
    return f"{digest(units)} {counts(units)}"


def packed(units: Sequence[Unit]) -> str:
    """Every file with its rows, as text of some ten bytes a file, for `difference`."""
    files = itertools.groupby(units, key=lambda unit: unit.file)
    text = "\n".join(f"{file}\t{','.join(str(unit.rows) for unit in found)}" for file, found in files)
    return base64.b64encode(zlib.compress(text.encode())).decode()


def difference(one: str, other: str) -> str:
    """The first file that differs between two that `packed` made, and how; empty where all are alike."""
    mine, theirs = _unpacked(one), _unpacked(other)
    for file in sorted(mine.keys() | theirs.keys()):
        here, there = mine.get(file), theirs.get(file)
        if here != there:
            return f"{file} ({_said(here)}; {_said(there)})"
    return "" if [*mine] == [*theirs] else "the order of the files"


def _said(rows: list[int] | None) -> str:
    if rows is None:
        return "not there"
    return f"{sum(rows)} rows in {len(rows)} row group{'s' * (len(rows) != 1)}"


def _unpacked(text: str) -> dict[str, list[int]]:
    lines = zlib.decompress(base64.b64decode(text)).decode().splitlines()
    parts = (line.rpartition("\t") for line in lines)
    return {file: [int(count) for count in rows.split(",")] for file, _, rows in parts}


def _folder(units: Sequence[Unit]) -> str:
    """What all files begin with, up to and including a slash."""
    if not units:
        return ""
    low, high = min(unit.file for unit in units), max(unit.file for unit in units)
    same = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(low, high, strict=False)))
    return low[: low.rfind("/", 0, same) + 1]
