"""Parts of columns (see `pipelines.columns`) become tensors, in TensorFlow's own code, with no Python a row."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pipelines.schema import Kind, Number, Ragged, Text

if TYPE_CHECKING:
    import tensorflow as tf


@functools.cache
def spec_of(kind: Kind) -> tf.TypeSpec:
    """What batches of a column are: a `tf.TensorSpec`, or a `tf.RaggedTensorSpec` where the kind is ragged."""
    import tensorflow as tf

    shape, ragged_rank, dtype = [None, *_shape(kind)], _ragged_rank(kind), tf.as_dtype(_dtype(kind))
    return tf.RaggedTensorSpec(shape, dtype, ragged_rank, tf.int64) if ragged_rank else tf.TensorSpec(shape, dtype)


def _shape(kind: Kind) -> list[int | None]:
    """The shape of a row; None where rows differ."""
    if isinstance(kind, Number | Text):
        return []
    return [None if isinstance(kind, Ragged) else kind.size, *_shape(kind.item)]


def _ragged_rank(kind: Kind) -> int:
    """How many dimensions of its batches have row splits: all down to the innermost ragged one."""
    if isinstance(kind, Number | Text):
        return 0
    within = _ragged_rank(kind.item)
    return within + 1 if within or isinstance(kind, Ragged) else 0


def _dtype(kind: Kind) -> str:
    if isinstance(kind, Text):
        return "string"
    return kind.dtype if isinstance(kind, Number) else _dtype(kind.item)


def tensor(parts: Iterator[tf.Tensor], kind: Kind) -> Any:
    """The tensor of a column, `[rows, …]`, ragged where the kind is; takes its parts from `parts`.

    A column of numbers is its part as it is, whose shape TensorFlow does not know: `spec_of` tells it.
    """
    import tensorflow as tf

    if isinstance(kind, Number):
        return next(parts)
    if isinstance(kind, Text):
        data, offsets = _shaped(next(parts), []), _shaped(next(parts), [None])
        return tf.strings.substr(data, offsets[:-1], offsets[1:] - offsets[:-1])
    if isinstance(kind, Ragged):
        offsets = _shaped(next(parts), [None])
        return tf.RaggedTensor.from_row_splits(_items(parts, kind.item), offsets, validate=False)
    return folded(_items(parts, kind.item), kind.size)


def _items(parts: Iterator[tf.Tensor], kind: Kind) -> Any:
    """The items of lists, one after the other."""
    return _shaped(tensor(parts, kind), [None]) if isinstance(kind, Number) else tensor(parts, kind)


def folded(items: Any, size: int) -> Any:
    """`[rows * size, …]` as `[rows, size, …]`."""
    import tensorflow as tf

    if isinstance(items, tf.RaggedTensor):
        return tf.RaggedTensor.from_uniform_row_length(items, size)
    return tf.reshape(items, [-1, size, *items.shape[1:]])


def _shaped(part: tf.Tensor, shape: list[int | None]) -> tf.Tensor:
    part.set_shape(shape)
    return part
