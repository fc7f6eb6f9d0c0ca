"""The errors of this package, and how to find them again inside an error of TensorFlow's."""

from __future__ import annotations

import re


class DataError(Exception):
    """What happened, the value seen, and what to do; survives pickling.

    Args:
        happened: one clause, without a full stop.
        seen: the file, row group or column that caused it.
        todo: what the user can do now.
    """

    def __init__(self, happened: str, seen: object = "", todo: str = "") -> None:
        self.happened = happened
        self.seen = str(seen)
        self.todo = todo
        super().__init__(happened, self.seen, todo)

    def __str__(self) -> str:
        return " · ".join(part for part in (self.happened, self.seen, self.todo) if part)


class UnreachableDataError(DataError):
    """The storage does not give data that may be good: nothing that is left out, and worth another try."""


def data_error_in(error: BaseException) -> DataError | None:
    """The `DataError` that TensorFlow turned into text while it ran a dataset, if `error` holds one.

    Reading happens inside TensorFlow, which keeps the words of a Python exception but not its class.
    """
    if isinstance(error, DataError):
        return error
    match = re.search(r"\b(Unreachable)?DataError: ([^\n]*)", str(error))
    if match is None:
        return None
    return (UnreachableDataError if match[1] else DataError)(*match[2].split(" · ", 2))
