"""A GZIP or ZLIB file that is read on from any place where it was stopped before."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from pipelines.errors import DataError

#: What `zlib` calls the two formats.
WINDOW_BITS = {"GZIP": 31, "ZLIB": 15}
#: Bytes that are fetched at once, given to zlib at once, and made at most at once while skipping.
_FETCH, _FEED, _STEP = 4 << 20, 1 << 14, 1 << 20


def check_compression(compression: str | None, *more: str) -> None:
    """Refuse what is neither GZIP, ZLIB, None nor one of `more`.

    Raises:
        DataError: that.
    """
    if compression is not None and compression not in (*WINDOW_BITS, *more):
        known = ", ".join([*WINDOW_BITS, *more, "None"])
        raise DataError("TFRecord files have no such compression", repr(compression), f"one of {known}")


@dataclass(frozen=True)
class Mark:
    """A place in a compressed file from which reading can go on; 60 KB at most, most of it zlib's window and input.

    `raw` counts bytes of the file, `position` bytes of what it holds. `decoder` is zlib's state there, None before the
    first byte. It cannot be pickled.
    """

    raw: int = 0
    position: int = 0
    decoder: Any = None


class Inflater:
    """What a compressed file holds, read forward from a mark. Streams one after the other in one file count as one.

    Args:
        file: the open file.
        path: its name in errors.
        compression: GZIP or ZLIB.
        mark: where to begin, from `mark` of another inflater of the same file.
    """

    def __init__(self, file: pa.NativeFile, path: str, compression: str, mark: Mark | None = None) -> None:
        mark = mark or Mark()
        self._file, self._path, self._bits = file, path, WINDOW_BITS[compression]
        self._decoder = mark.decoder.copy() if mark.decoder else self._new_decoder()
        self._fetched, self._fetched_from, self._raw = b"", mark.raw, mark.raw
        self.position = mark.position

    def mark(self) -> Mark:
        """The present place."""
        return Mark(self._raw, self.position, self._decoder.copy())

    def read(self, size: int) -> bytes:
        """The next `size` bytes of what the file holds; fewer only at its end.

        Raises:
            DataError: the file ends too early or is damaged, with its name and the place.
        """
        parts = []
        while size and (part := self._some(size)):
            parts.append(part)
            size -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def skip_to(self, position: int) -> None:
        """Go on to `position`, or to the end if that comes first."""
        while self.position < position and self.read(min(_STEP, position - self.position)):
            pass

    def _some(self, size: int) -> bytes:
        """At most `size` of the next bytes, none only at the end."""
        while True:
            if self._decoder.eof:
                if self._is_end():
                    return b""
                self._decoder = self._new_decoder()
            given = self._input()
            try:
                made: bytes = self._decoder.decompress(given, size)
            except zlib.error as error:
                raise self._damaged("the compressed file is damaged", str(error)) from None
            left = self._decoder.unused_data if self._decoder.eof else self._decoder.unconsumed_tail
            self._raw += len(given) - len(left)
            self.position += len(made)
            if made:
                return made
            if not given and not self._decoder.eof:
                raise self._damaged("the compressed file is truncated", "its last bytes are missing")

    def _input(self) -> bytes:
        """The next bytes of the file itself, none at its end."""
        at = self._raw - self._fetched_from
        if at >= len(self._fetched):
            self._fetched, self._fetched_from, at = self._file.read_at(_FETCH, self._raw), self._raw, 0
        return self._fetched[at : at + _FEED]

    def _is_end(self) -> bool:
        """Whether nothing follows but zeros, with which some tools fill a last block."""
        while rest := self._input():
            if rest.strip(b"\0"):
                return False
            self._raw += len(rest)
        return True

    def _new_decoder(self) -> Any:
        return zlib.decompressobj(self._bits)

    def _damaged(self, happened: str, why: str) -> DataError:
        seen = f"{self._path}, byte offset {self._raw} ({self.position} uncompressed): {why}"
        return DataError(happened, seen, "write the file again, or leave it out")
