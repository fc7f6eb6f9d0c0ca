"""What the preflight sees, `Facts`, and what it says, `Finding`s."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from cluster.locations import shown

Level = Literal["error", "warning", "note"]
#: The worst first.
LEVELS: tuple[Level, ...] = get_args(Level)


@dataclass(frozen=True)
class Finding:
    """One thing the preflight has to say, in the words of `cluster.errors`; it holds no password of a URI."""

    level: Level
    happened: str
    seen: str = ""
    todo: str = ""

    def __post_init__(self) -> None:
        for part in ("happened", "seen", "todo"):
            object.__setattr__(self, part, shown(getattr(self, part)))

    def __str__(self) -> str:
        return " · ".join(part for part in (self.happened, self.seen, self.todo) if part)


@dataclass(frozen=True)
class DataFacts:
    """What one dataset of the spec holds.

    Attributes:
        files: number of files found.
        row_groups: of all files; None where there were too many files to open.
        rows: of all files; None likewise.
        problem: why it cannot be read, or None.
        shared: whether its files lie where all machines are known to see them.
    """

    files: int = 0
    row_groups: int | None = None
    rows: int | None = None
    problem: Finding | None = None
    shared: bool = False


@dataclass(frozen=True)
class Facts:
    """What `cluster.preflight` observed.

    Attributes:
        code: problems of the entrypoint, script or prepare function.
        storage: why the storage cannot be written, or None.
        data: by dataset.
        versions: installed version, or None, of tensorflow, keras, tf-keras, tensorflow-io, tensorboard and ray.
        python: version of this interpreter.
        uncompiled: folder of a TensorFlow whose bytecode is not there and will not be kept, or None.
        addresses: IP addresses of this machine.
        prepared: whether the spec's `prepare` has run, so that its data must be there.
        autoscaling: whether the cluster adds nodes by itself.
        shared: whether the storage is a folder that all machines are known to share.
    """

    code: tuple[Finding, ...] = ()
    storage: Finding | None = None
    data: Mapping[str, DataFacts] = field(default_factory=dict)
    versions: Mapping[str, str | None] = field(default_factory=dict)
    python: str = ""
    uncompiled: str | None = None
    addresses: frozenset[str] = frozenset()
    prepared: bool = True
    autoscaling: bool = False
    shared: bool = False


def count_text(count: int, noun: str) -> str:
    """`1 file`, `2 files`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
