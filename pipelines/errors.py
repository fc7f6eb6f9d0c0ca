"""The one error of this package, and how to find it again inside an error of TensorFlow's."""

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


def data_error_in(error: BaseException) -> DataError | None:
    """The `DataError` that TensorFlow turned into text while it ran a dataset, if `error` holds one.

    Reading happens inside TensorFlow, which keeps the words of a Python exception but not its class.
    """
    if isinstance(error, DataError):
        return error
    match = re.search(r"\bDataError: ([^\n]*)", str(error))
    return DataError(*match[1].split(" · ", 2)) if match else None
