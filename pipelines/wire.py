"""The bytes of `tf.train.Example` and `tf.train.SequenceExample`, read without TensorFlow and without protobuf.

The format is small and has not changed since 2015. Generated code, in contrast, is tied to the version of protobuf,
and the two ends of the TensorFlow range want versions (4 and 7) for which no generated code is good.

    Example          1: Features                                 SequenceExample  1: Features  2: FeatureLists
    Features         1: map from name to Feature                 FeatureLists     1: map from name to FeatureList
    Feature          1: BytesList, 2: FloatList or 3: Int64List  FeatureList      1: Feature, repeated
    …List            1: values, packed or one by one
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

#: The dtypes that a feature has on the wire, by field number of `Feature`.
KINDS = {1: "string", 2: "float32", 3: "int64"}
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
#: Bytes of integers above which numpy decodes them faster than a loop.
_MANY = 48


class Values(NamedTuple):
    """One feature of a record: `values` are a list of bytes, or an array of float32 or int64; `kind` says which.

    `kind` is None where the record has the feature's name and nothing else, which TensorFlow takes for a missing one.
    """

    kind: str | None
    values: list[bytes] | npt.NDArray[Any]


class Record(NamedTuple):
    """What a record says: features by name; of a SequenceExample also features step by step, else `sequence` is None.

    A SequenceExample without any feature list cannot be told from an Example.
    """

    context: dict[str, Values]
    sequence: dict[str, list[Values]] | None


def read_record(record: bytes) -> Record:
    """An Example or a SequenceExample.

    Raises:
        ValueError: the bytes are neither, in words for a user.
    """
    parts = _messages(record)
    if not set(parts) <= {1, 2} or not record:
        raise ValueError("it has no features" if not parts else "it has fields that neither message has")
    context = {name: _values(value) for name, value in _map(parts.get(1, [])).items()}
    if 2 not in parts:
        return Record(context, None)
    lists = {name: _messages(value).get(1, []) for name, value in _map(parts[2]).items()}
    return Record(context, {name: [_values(step) for step in steps] for name, steps in lists.items()})


def _map(parts: list[bytes]) -> dict[str, bytes]:
    """A message whose field 1 is a map from names to messages. A later entry for a name replaces an earlier one."""
    found = {}
    for part in parts:
        for entry in _messages(part).get(1, []):
            fields = _messages(entry)
            # A message given in pieces is what the pieces make together.
            name, value = b"".join(fields.get(1, [])[-1:]), b"".join(fields.get(2, []))
            try:
                found[name.decode()] = value
            except UnicodeDecodeError:
                raise ValueError(f"the name of a feature is not UTF-8: {name[:40]!r}") from None
    return found


def _values(feature: bytes) -> Values:
    lists = _messages(feature)
    lists = {number: parts for number, parts in lists.items() if number in KINDS}
    if not lists:
        return Values(None, [])
    number = next(reversed(lists))  # of a oneof, the last counts
    kind, content = KINDS[number], b"".join(lists[number])
    if kind == "string":
        return Values(kind, _messages(content).get(1, []))
    return Values(kind, _floats(content) if kind == "float32" else _ints(content))


def _floats(content: bytes) -> npt.NDArray[np.float32]:
    packed = b"".join(part for number, wire, part in _fields(content) if number == 1 and wire in (_BYTES, _FIXED32))
    if len(packed) % 4:
        raise ValueError("a list of floats ends within one")
    return np.frombuffer(packed, "<f4")


def _ints(content: bytes) -> npt.NDArray[np.int64]:
    packed = b"".join(part for number, wire, part in _fields(content) if number == 1 and wire in (_BYTES, _VARINT))
    if len(packed) > _MANY:
        return _many_varints(packed)
    found, at = [], 0
    while at < len(packed):
        value, at = _varint(packed, at)
        found.append(value)
    return np.array(found, np.uint64).view(np.int64)


def _many_varints(packed: bytes) -> npt.NDArray[np.int64]:
    """All integers of `packed`, seven bits a byte, lowest first; the eighth bit of the last byte of each is 0."""
    data = np.frombuffer(packed, np.uint8)
    last = np.flatnonzero(data < 0x80)
    if not len(last) or last[-1] != len(data) - 1:
        raise ValueError("a number ends too early")
    first = np.concatenate([[0], last[:-1] + 1])
    if (sizes := last - first + 1).max() > 10:
        raise ValueError("a number has more than 64 bits")
    found = np.zeros(len(last), np.uint64)
    for place in range(int(sizes.max())):
        there = sizes > place
        found[there] |= (data[first[there] + place] & np.uint8(0x7F)).astype(np.uint64) << np.uint64(7 * place)
    return found.view(np.int64)


def _messages(data: bytes) -> dict[int, list[bytes]]:
    """The fields of a message that hold bytes, by number, the one seen last as the last; others are passed over."""
    found: dict[int, list[bytes]] = {}
    for number, wire, part in _fields(data):
        if wire == _BYTES:
            parts = found.pop(number, [])
            parts.append(part)
            found[number] = parts
    return found


def _fields(data: bytes) -> list[tuple[int, int, bytes]]:
    """Number, wire type and content of each field of a message."""
    found, at, size = [], 0, len(data)
    while at < size:
        tag, at = _varint(data, at)
        wire, start = tag & 7, at
        if wire == _BYTES:
            length, start = _varint(data, at)
            at = start + length
        elif wire == _VARINT:
            _, at = _varint(data, at)
        elif wire in (_FIXED32, _FIXED64):
            at += 4 if wire == _FIXED32 else 8
        else:
            raise ValueError(f"byte {at} is none that can stand there")
        if at > size or not tag >> 3:
            raise ValueError(f"byte {start} begins a field that does not end" if at > size else f"byte {at}: field 0")
        found.append((tag >> 3, wire, data[start:at]))
    return found


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """The number that begins at `data[at]`, and where it ends."""
    value = shift = 0
    try:
        while (byte := data[at]) & 0x80:
            value |= (byte & 0x7F) << shift
            shift, at = shift + 7, at + 1
    except IndexError:
        raise ValueError("a number ends too early") from None
    value |= byte << shift
    if shift > 63:
        raise ValueError("a number has more than 64 bits")
    return value & 0xFFFF_FFFF_FFFF_FFFF, at + 1
