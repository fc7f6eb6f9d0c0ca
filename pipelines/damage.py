"""What is left out of the data because it cannot be read, when the user prefers that to an error; never silently."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Literal

from pipelines.errors import DataError, UnreachableDataError
from pipelines.shards import Unit
from pipelines.source import Source

#: What to do about data that cannot be read: raise the error; leave out the whole file; leave out the row group, and
#: the file only where it cannot be opened.
OnError = Literal["raise", "skip_files", "skip_row_groups"]
_THREADS = 4


@dataclass
class Skipped:
    """What was left out, and why.

    Attributes:
        files: by path, the error that each could not be read for.
        units: row groups of files that are read otherwise, each with its error.
    """

    files: dict[str, DataError] = field(default_factory=dict)
    units: dict[Unit, DataError] = field(default_factory=dict)

    def add_file(self, error: DataError) -> None:
        """Leave out the file that `error` names first."""
        self.files[error.seen.split(", ")[0]] = error

    def __bool__(self) -> bool:
        return bool(self.files or self.units)

    def __str__(self) -> str:
        counts = [(len(self.files), "file"), (len(self.units), "row group")]
        said = " and ".join(f"{count} {name}{'s' * (count > 1)}" for count, name in counts if count)
        rows = sum(unit.rows for unit in self.units)
        errors = [*self.files.values(), *self.units.values()]
        more = f"; and {len(errors) - 3} more" if len(errors) > 3 else ""
        return f"{said}{f' of {rows} rows' if rows else ''} left out: " + "; ".join(map(str, errors[:3])) + more


def readable(source: Source, on_error: OnError, skipped: Skipped) -> tuple[Unit, ...]:
    """The units of `source` that can be read; the others are added to `skipped`.

    All shards must leave out the same rows, or they would not agree on who reads what; so each of them reads all units
    once, before anything else.

    Raises:
        DataError: none of them can be read.
        UnreachableDataError: the storage does not give one of them, which is then not known to be damaged.
    """
    if on_error == "raise":
        return source.units

    def error_of(unit: Unit) -> DataError | None:
        try:
            source.read(unit)
        except UnreachableDataError:
            raise
        except DataError as error:
            return error
        return None

    with ThreadPoolExecutor(_THREADS) as pool:
        errors = dict(zip(source.units, pool.map(error_of, source.units), strict=True))
    bad = {unit: error for unit, error in errors.items() if error is not None}
    if on_error == "skip_row_groups":
        skipped.units.update(bad)
    else:
        skipped.files.update((unit.file, error) for unit, error in bad.items())
    return left([*errors], skipped)


def left(units: Sequence[Unit], skipped: Skipped) -> tuple[Unit, ...]:
    """The units that are not left out.

    Raises:
        DataError: there are none.
    """
    found = tuple(unit for unit in units if unit not in skipped.units and unit.file not in skipped.files)
    if not found and skipped:
        raise DataError("none of the data can be read", str(skipped), "write the files again")
    return found
