"""Which record TensorFlow has refused: looked for, once it has, among those that it was given lately.

Its parser works on batches and does not know of files. To tell it would cost time with every record; to look for one
costs nothing as long as all of them match.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from pipelines.errors import DataError
from pipelines.examples import is_mismatch, mismatch_in
from pipelines.reader import Reader, readers_of_records
from pipelines.records import mismatch
from pipelines.tfrecord import TFRecordSource


def find_mismatch() -> DataError | None:
    """The error of a record that this process has read lately and that does not match; None where there is none.

    It takes seconds: at most some million records are parsed, the latest first.
    """
    readers = sorted(readers_of_records, key=lambda reader: reader.read_at, reverse=True)
    return next((error for reader in readers if (error := _lately(reader))), None)


def explained(error: BaseException, find: Callable[[], DataError | None] = find_mismatch) -> DataError | None:
    """What TensorFlow's error for a record that does not match its features means: feature, file and record.

    Args:
        error: of iterating a dataset, while that is still there.
        find: looks for the record in the processes that read it.

    Returns:
        None if it is another error. Where the record cannot be found, what TensorFlow says of it.
    """
    return (find() or mismatch_in(error)) if is_mismatch(error) else None


def _lately(reader: Reader) -> DataError | None:
    assert reader.records is not None
    assert isinstance(reader.source, TFRecordSource)
    for piece in dict.fromkeys(piece for pieces in reversed([*reader.lately]) for piece in pieces):
        for unit, rows in reader.origins(piece):
            with contextlib.suppress(DataError):  # not there any longer
                if error := mismatch(reader.records.features, reader.source, unit, rows):
                    return error
    return None
