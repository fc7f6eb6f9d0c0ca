"""What every file format gives: units that can be read on their own, and tables of their rows."""

from __future__ import annotations

from typing import Protocol

import pyarrow as pa

from pipelines.shards import Unit


class Source(Protocol):
    """Files of one format as one table."""

    @property
    def units(self) -> tuple[Unit, ...]:
        """All units in the order of the files, with their exact numbers of rows."""

    @property
    def schema(self) -> pa.Schema:
        """Of what `read` gives."""

    def read(self, unit: Unit) -> pa.Table:
        """The rows of a unit, `[unit.rows, columns]`; may be called from several threads.

        Raises:
            pipelines.errors.DataError: it cannot be read; names file, unit and column.
        """


def where(unit: Unit, column: str | None = None) -> str:
    """`unit` as errors name it."""
    return f"{unit.file}, row group {unit.row_group}" + (f", column {column}" if column else "")
