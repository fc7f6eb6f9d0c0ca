"""The whole lines of a file of events, and those of them that a reader of a long run needs. Pure."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Any


def whole_lines(stream: Any) -> Iterator[str]:
    """The whole lines of `stream`: the last may still be being written."""
    rest = b""
    while data := bytes(stream.read(1 << 18)):
        *whole, rest = (rest + data).split(b"\n")
        for line in whole:
            yield line.decode(errors="replace")


#: What differs between steps of one task that tell of the same things.
_NUMBERS = b"0123456789.+-"


def newest_steps(lines: Iterable[str]) -> Iterator[str]:
    """Whole lines of events, without steps that later ones of the same task outdate before anything else happens.

    Of steps that tell of the same things, such as the same metrics, the newest two remain, which tell the speed, and
    the first, from which on the average counts. Most lines of a long run are steps, and to parse one takes ten times as
    long as to see that it need not be parsed.
    """
    held: dict[tuple[object, ...], tuple[tuple[int, str], ...]] = {}
    for number, line in enumerate(lines):
        if '"kind": "step"' in line[:64]:
            index = line[: line.find(",", line.find('"index": '))].rpartition(" ")[2]
            names = line[line.find('"metrics"') :].split('"')[1::2]  # which may have numbers in them
            key = index, line.encode().translate(None, _NUMBERS), *names
            first, later = held.get(key, ())[:1], held.get(key, ())[1:]
            held[key] = (*first, *later[-1:], (number, line))
            continue
        if held:
            yield from _in_order(held.values())
            held.clear()
        yield line
    yield from _in_order(held.values())


def _in_order(held: Iterable[tuple[tuple[int, str], ...]]) -> list[str]:
    return [line for _, line in sorted(itertools.chain.from_iterable(held))]
