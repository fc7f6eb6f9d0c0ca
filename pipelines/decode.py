"""Parts of columns (see `pipelines.columns`) become tensors, in TensorFlow's own code, with no Python a row."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pipelines.schema import Kind, Number, Ragged, Text

if TYPE_CHECKING:
    import tensorflow as tf


def tensor(parts: Iterator[tf.Tensor], kind: Kind) -> Any:
    """The tensor of a column, `[rows, …]`, ragged where the kind is; takes its parts from `parts`."""
    import tensorflow as tf

    if isinstance(kind, Number):
        return _shaped(next(parts), [None])
    if isinstance(kind, Text):
        data, offsets = _shaped(next(parts), []), _shaped(next(parts), [None])
        return tf.strings.substr(data, offsets[:-1], offsets[1:] - offsets[:-1])
    if isinstance(kind, Ragged):
        offsets = _shaped(next(parts), [None])
        return tf.RaggedTensor.from_row_splits(tensor(parts, kind.item), offsets, validate=False)
    return folded(tensor(parts, kind.item), kind.size)


def rows_of(column: Any, start: tf.Tensor, stop: tf.Tensor) -> Any:
    """The rows `start` to `stop` of a tensor or a ragged tensor; what its own slices do in five times as many steps."""
    import tensorflow as tf

    if not isinstance(column, tf.RaggedTensor):
        return column[start:stop]
    if (size := column.uniform_row_length) is not None:
        return tf.RaggedTensor.from_uniform_row_length(rows_of(column.values, start * size, stop * size), size)
    splits = column.row_splits[start : stop + 1]
    values = rows_of(column.values, splits[0], splits[-1])
    return tf.RaggedTensor.from_row_splits(values, splits - splits[0], validate=False)


def folded(items: Any, size: int) -> Any:
    """`[rows * size, …]` as `[rows, size, …]`."""
    import tensorflow as tf

    if isinstance(items, tf.RaggedTensor):
        return tf.RaggedTensor.from_uniform_row_length(items, size)
    return tf.reshape(items, [-1, size, *items.shape[1:]])


def _shaped(part: tf.Tensor, shape: list[int | None]) -> tf.Tensor:
    part.set_shape(shape)
    return part
