"""Records of `tf.train.Example` and `tf.train.SequenceExample`: their features inferred, checked, and made tensors.

Only `parse` needs TensorFlow, whose own operations it runs on whole batches.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.errors import DataError
from pipelines.features import STORED_AS, Feature, Features, unfitting
from pipelines.wire import Record, Values, read_record

if TYPE_CHECKING:
    import tensorflow as tf

#: How TensorFlow says that a record does not match, in the several places where it does.
_REFUSED = (
    r"Name: (?P<name>.*?), (?:Key|Context feature|Feature list): (?P<feature>.*?)[.,] +(?:Index: \d+\. *)?(?P<what>.*)",
    r"Name: (?P<name>.*?), Feature: (?P<feature>.*?) \(.*?\) (?P<what>.*)",
    r"(?P<what>Inconsistent .*?) for feature (?P<feature>.*?):",
)
#: What stands in each of its errors: the operation that parses, or our own words.
_PARSER = r"Parse(Sequence)?Example|Key: .*, a step has not \d+ values|Key: .*, a value does not fit "
_CHECK = "check what the file holds"
_FIX = "describe the features as they are, or give the feature a default or make it ragged"
_WIDER = "give the feature a wider dtype, or cast it to one"


def infer(records: Sequence[bytes], where: str = "", defaults: Mapping[str, Any] | None = None) -> Features:
    """The features of `records`, by name.

    A feature that has one value in each of them is a scalar, one that always has n values is dense `[n]`, and one that
    has another number in some, or is missing in some and has no default, is ragged. A feature that has no value in any
    of them has no dtype and is left out. What later records look like cannot be known: give more of them, or describe
    the features.

    Args:
        records: some of the data.
        where: the file they are from, for errors.
        defaults: what stands in for features that are missing in a record, by name; not for those of a sequence.

    Raises:
        DataError: no records, a record that is neither Example nor SequenceExample, dtypes that differ, or a default
            for a feature whose number of values differs.
    """
    if not records:
        raise DataError("there are no records to infer features from", where, "describe the features")
    read = [_read(record, number, where) for number, record in enumerate(records)]
    context = _inferred([record.context for record in read], where, defaults or {})
    if all(record.sequence is None for record in read):
        if not context:
            raise DataError(
                "the records have no features", where, "describe the features, or read the records as they are"
            )
        return Features(context)
    names = {name for record in read for name in record.sequence or {}}
    steps = {
        name: [{name: step} for record in read for step in (record.sequence or {}).get(name, [])]
        for name in sorted(names)
    }
    sequence: dict[str, Feature] = {}
    for of_one in steps.values():
        sequence.update(_inferred(of_one, where, {}))
    return Features(context, sequence)


def check(features: Features, records: Sequence[bytes], where: str = "", first: int = 0) -> None:
    """Find the record that TensorFlow would refuse, without TensorFlow.

    Args:
        features: what each record should have.
        records: serialised ones.
        where: the file they are from, for the error.
        first: the number of the first of them in that file.

    Raises:
        DataError: the first record that does not match `features`, with file, record and feature.
    """
    for number, record in enumerate(records, first):
        if (wrong := _mismatch(features, _read(record, number, where))) is not None:
            raise DataError(f"a record does not match its features: {wrong}", _at(where, number), _fix_of(wrong))


def parse(features: Features, serialized: tf.Tensor, names: tf.Tensor | None = None) -> dict[str, Any]:
    """A batch of records as tensors, by TensorFlow's own parser, eagerly or in a graph.

    Args:
        features: what each record has.
        serialized: `[batch]` string, a record each; of SequenceExamples at least one.
        names: `[batch]` string, what to call each record in errors, such as its file and number.

    Returns:
        For each feature, `[batch, *shape]` of its dtype, or, if it is ragged, a RaggedTensor `[batch, (values)]`. For a
        feature of a sequence, a RaggedTensor `[batch, (steps), *shape]` or `[batch, (steps), (values)]`.

    Raises:
        DataError: a record does not match, with its number in the batch and the feature. In a graph, TensorFlow's
            InvalidArgumentError: see `mismatch_in`.
    """
    import tensorflow as tf

    # There is nothing in it for AutoGraph, which would take most of a second to find that out.
    parsed: dict[str, Any] = tf.autograph.experimental.do_not_convert(_parse)(features, serialized, names)
    return parsed


def refused(features: Features, records: Sequence[bytes]) -> bool:
    """Whether TensorFlow's parser or a cast refuses any of `records`, without saying which."""
    import tensorflow as tf

    try:
        with tf.device("/CPU:0"):
            _tensors(features, tf.constant(records, tf.string), None)
    except tf.errors.InvalidArgumentError:
        return True
    return False


def is_mismatch(error: BaseException) -> bool:
    """Whether `error` is TensorFlow's for a record that does not match its features, in whatever words."""
    return type(error).__module__.startswith("tensorflow") and bool(re.search(_PARSER, str(error)))


def mismatch_in(error: BaseException) -> DataError | None:
    """The `DataError` in TensorFlow's words for a record that does not match its features, if `error` is one.

    The record has a name only if `parse` was given names. Call `check` with the records to have all of it.
    """
    text = " ".join(str(error).split()).split(" [[")[0].split(" [Op:")[0]
    for pattern in _REFUSED:
        if found := re.search(pattern, text):
            said = {"name": "<unknown>", **found.groupdict()}
            record = "" if said["name"] == "<unknown>" else f"{said['name']}, "
            seen = f"{record}feature {said['feature']}: {said['what'].rstrip('].')}"
            return DataError("a record does not match its features", seen, _fix_of(seen))
    if found := re.search(r"Could not parse example input, value: '(.{0,40})", text):
        return DataError("a record is no tf.train.Example", repr(found[1].removesuffix("'")), _CHECK)
    return None


def _parse(features: Features, serialized: tf.Tensor, names: tf.Tensor | None) -> dict[str, Any]:
    import tensorflow as tf

    try:
        return _tensors(features, serialized, names)
    except tf.errors.InvalidArgumentError as error:
        check(features, serialized.numpy().tolist(), "the batch")
        raise mismatch_in(error) or error from None


def _tensors(features: Features, serialized: tf.Tensor, names: tf.Tensor | None) -> dict[str, Any]:
    stored = _stored(features, serialized, names)
    every = {**features.context, **(features.sequence or {})}
    return {name: _cast(name, stored[name], one) for name, one in every.items()}


def _stored(features: Features, serialized: tf.Tensor, names: tf.Tensor | None) -> dict[str, Any]:
    """The features in the dtypes that records hold."""
    import tensorflow as tf

    if features.sequence is not None:
        return _parse_sequences(features, serialized, names)
    spec = {name: _tf_feature(one) for name, one in features.context.items()}
    stored: dict[str, Any] = tf.io.parse_example(serialized, spec, example_names=names)
    return stored


def _tf_feature(feature: Feature) -> Any:
    import tensorflow as tf

    stored = tf.as_dtype(STORED_AS[feature.dtype])
    if feature.ragged:
        return tf.io.RaggedFeature(stored, row_splits_dtype=tf.int64)
    if feature.default is None:
        return tf.io.FixedLenFeature(feature.shape, stored)
    return tf.io.FixedLenFeature(feature.shape, stored, np.full(feature.shape, feature.default).tolist())


def _parse_sequences(features: Features, serialized: tf.Tensor, names: tf.Tensor | None) -> dict[str, Any]:
    import tensorflow as tf

    assert features.sequence is not None
    # A step of another size than it should have is an error here, too: so all are read as ragged, and measured.
    sequence = {
        name: tf.io.RaggedFeature(tf.as_dtype(STORED_AS[one.dtype]), row_splits_dtype=tf.int64)
        for name, one in features.sequence.items()
    }
    context = {name: _tf_feature(one) for name, one in features.context.items()}
    found, steps, _ = tf.io.parse_sequence_example(serialized, context, sequence, example_names=names)
    dense = {
        name: one if features.sequence[name].ragged else _dense_steps(name, one, features.sequence[name])
        for name, one in steps.items()
    }
    return {**found, **dense}


def _dense_steps(name: str, steps: tf.RaggedTensor, feature: Feature) -> tf.RaggedTensor:
    """`[batch, (steps), (values)]`, all steps of the same size, as `[batch, (steps), *shape]`."""
    import tensorflow as tf

    fits = tf.reduce_all(tf.equal(steps.values.row_lengths(), tf.cast(feature.size, tf.int64)))
    wrong = f"Name: <unknown>, Key: {name}, a step has not {feature.size} values"
    with tf.control_dependencies([tf.raw_ops.Assert(condition=fits, data=[wrong])]):
        values, splits = tf.reshape(steps.values.values, [-1, *feature.shape]), tf.identity(steps.row_splits)
    return tf.RaggedTensor.from_row_splits(values, splits, validate=False)


def _cast(name: str, tensor: Any, feature: Feature) -> Any:
    import tensorflow as tf

    for dtype in feature.casts:
        ragged = isinstance(tensor, tf.RaggedTensor)
        cast = _fitting(name, tensor.flat_values if ragged else tensor, dtype)
        tensor = tensor.with_flat_values(cast) if ragged else cast
    return tensor


def _fitting(name: str, values: tf.Tensor, dtype: str) -> tf.Tensor:
    """The values as `dtype`, an error where one does not fit, as `features.unfitting` tells."""
    import tensorflow as tf

    cast = tf.cast(values, dtype)
    floats = values.dtype.is_floating, cast.dtype.is_floating
    if values.dtype == tf.bool or (all(floats) and cast.dtype.size > values.dtype.size):
        return cast
    if all(floats):
        fit = tf.math.is_finite(cast) | ~tf.math.is_finite(values)
    else:
        wide = values.dtype if floats[0] else tf.int64  # of another sign it would come back as it was
        fit = tf.equal(tf.cast(cast, wide), tf.cast(values, wide))
        if floats[1]:  # infinity comes back as the least integer
            fit &= tf.math.is_finite(cast)
        elif floats[0] and cast.dtype.is_integer:  # and what is too large, on some processors, as the largest
            fit &= tf.math.is_finite(values) & (values < tf.cast(2.0 ** _bits(cast.dtype), values.dtype))
    wrong = f"Name: <unknown>, Key: {name}, a value does not fit {dtype}"
    with tf.control_dependencies([tf.raw_ops.Assert(condition=tf.reduce_all(fit), data=[wrong])]):
        return tf.identity(cast)


def _bits(integer: tf.DType) -> int:
    """Of its largest value."""
    return int(integer.max).bit_length()


def _read(record: bytes, number: int, where: str) -> Record:
    try:
        return read_record(record)
    except ValueError as error:
        raise DataError(
            f"a record is no tf.train.Example: {error}", f"{_at(where, number)}, {record[:20]!r}", _CHECK
        ) from None


def _at(where: str, number: int) -> str:
    return f"{where}, record {number}" if where else f"record {number}"


def _inferred(rows: Sequence[dict[str, Values]], where: str, defaults: Mapping[str, Any]) -> dict[str, Feature]:
    found = {}
    for name in sorted({name for row in rows for name in row}):
        one = _one_inferred(name, [row.get(name) for row in rows], where, defaults.get(name))
        if one is not None:
            found[name] = one
    return found


def _one_inferred(name: str, values: Sequence[Values | None], where: str, default: Any) -> Feature | None:
    """The feature with these values, None for a row without it."""
    there = [one for one in values if one is not None and one.kind is not None]
    kinds = sorted({str(one.kind) for one in there})
    if not kinds:
        return None
    if len(kinds) > 1:
        seen = f"{where + ', ' if where else ''}feature {name}: {' and '.join(kinds)}"
        raise DataError("a feature has several dtypes", seen, "describe the features, and write the data again")
    sizes = {len(one.values) for one in there}
    if (len(there) < len(values) and default is None) or len(sizes) > 1 or sizes == {0}:
        return Feature(kinds[0], ragged=True, default=default).checked(name)
    (size,) = sizes
    return Feature(kinds[0], () if size == 1 else (size,), default=default).checked(name)


def _mismatch(features: Features, record: Record) -> str | None:
    """What TensorFlow would refuse in `record`."""
    for name, feature in features.context.items():
        if wrong := _wrong(feature, record.context.get(name)):
            return f"feature {name} {wrong}"
    for name, feature in (features.sequence or {}).items():
        for step, values in enumerate((record.sequence or {}).get(name, [])):
            if wrong := _wrong(feature, values):
                return f"feature {name}, step {step}, {wrong}"
    return None


def _wrong(feature: Feature, values: Values | None) -> str | None:
    if values is None or values.kind is None:
        return None if feature.ragged or feature.default is not None else "is missing"
    if values.kind != STORED_AS[feature.dtype]:
        return f"holds {values.kind}, not {STORED_AS[feature.dtype]}"
    if not feature.ragged and len(values.values) != feature.size:
        return f"has {len(values.values)} values, not {feature.size}"
    if feature.casts and (bad := unfitting(np.asarray(values.values), feature.casts)):
        return f"holds {bad[0]}, which does not fit {bad[1]}"
    return None


def _fix_of(wrong: str) -> str:
    return _WIDER if "does not fit " in wrong else _FIX
