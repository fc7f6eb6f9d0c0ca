"""What tensorflow-io goes with, and what its Parquet operations are not asked for. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

#: TensorFlow minor versions that the native library of the last tensorflow-io loads with.
FITS = ("2.16", "2.17")
_INSTALL = "pip install 'ray-tfcluster[tensorflow-io]', which brings TensorFlow 2.17"


def misfit(who: str, tensorflow: str, tensorflow_io: str | None) -> tuple[str, str, str] | None:
    """What happened, was seen and can be done where tensorflow-io cannot be had; None where it can.

    Args:
        who: needs it, such as `engine: tensorflow_io`.
        tensorflow: the installed version.
        tensorflow_io: the installed version, or None.
    """
    seen = f"TensorFlow {tensorflow}, {f'tensorflow-io {tensorflow_io}' if tensorflow_io else 'no tensorflow-io'}"
    if ".".join(tensorflow.split(".")[:2]) not in FITS:
        happened = f"{who} needs tensorflow-io, which loads only with TensorFlow {' and '.join(FITS)}"
        return happened, seen, _INSTALL
    if tensorflow_io is None:
        return f"{who} needs tensorflow-io, which is not installed", seen, _INSTALL
    return None


def refused(patterns: Sequence[str], format: str, *, features: bool, on_error: str) -> Iterator[str]:
    """What of a request for files the engine cannot do, as the ends of sentences that begin with its name.

    Args:
        patterns: of the files.
        format: of the files.
        features: whether features of records are described.
        on_error: what is to be done about data that cannot be read.
    """
    if format == "tfrecord" or features:
        yield "reads Parquet only, not TFRecord"
    if on_error != "raise":
        yield f"cannot do on_error: {on_error}, for data that cannot be read end its process"
    for pattern in patterns:
        if "://" in pattern and not pattern.startswith("file://"):
            yield f"reads files of this machine only, not {pattern.split('://')[0]}://"
            return
