"""What TensorBoard is given to serve: one run or all runs of a storage, as a folder that is kept up to date.

Files of local runs are linked, each by itself, for xprof follows no link to a folder; remote ones are copied.
Debugger V2 reads one set of dumps only, at the top of that folder, so those of one task are linked there
(tensorboard/plugins/debugger_v2/debug_data_multiplexer.py).
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from cluster.errors import RunNotFoundError
from cluster.locations import join, shown
from cluster.mirror import Mirror
from cluster.runs import find_run, is_run, run_names
from cluster.spec_parts import ROLE_ORDER
from cluster.storage import is_empty, open_filesystem, read_text

#: Where a run directory has what TensorBoard shows, and in it the dumps of each task, by attempt.
FOLDER = "tensorboard"
DUMPS = "debug"


class View(Protocol):
    """A folder for TensorBoard, and how to bring it up to date."""

    title: str
    folder: Path

    def refresh(self) -> None:
        """Bring the folder up to date."""


def open_view(name: str, storage: str, folder: Path, task: str | None = None) -> View:
    """What `name` means, shown below the empty `folder`: a run (its name, path, URI or `latest`), or a storage.

    A storage may be empty: its runs are shown when they come.

    Args:
        name: as above.
        storage: where runs are looked for by name.
        folder: is filled by the view's `refresh`.
        task: whose dumps Debugger V2 gets; by default those of the first task that has any.

    Raises:
        RunNotFoundError: there is no such run, and no run in it.
        StorageError: it cannot be read.
    """
    if name != "latest" and ("://" in name or Path(name).is_dir()) and not is_run(name):
        if run_names(name) or is_empty(name):
            return StorageView(name, folder)
        if "://" in name or "/" in name or not Path(storage, name).is_dir():
            raise RunNotFoundError("no run here", shown(name), "give a run directory, or a folder of them")
    return RunView(find_run(name, storage), folder, task)


def run_of_job(job: str, uri: str, head: str) -> str:
    """The run directory `uri` of a submitted job, if it can be read from here.

    Args:
        job: its id.
        uri: as its launcher has named it, without passwords.
        head: the machine of its cluster's dashboard.

    Raises:
        RunNotFoundError: it cannot.
    """
    if "***" in uri:
        todo = "name the run directory itself, with its password: tfcluster tensorboard URI"
        raise RunNotFoundError("the storage of the job needs a password, which is not shown", f"{job}: {uri}", todo)
    if not is_run(uri):
        there = f"ssh -L 6006:localhost:6006 {head} tfcluster tensorboard {uri}"
        todo = f"serve it there ({there}), or put tensorboard: true into the spec, or a storage that all reach"
        raise RunNotFoundError("the run directory of the job cannot be seen from here", f"{job}: {uri}", todo)
    return uri


@dataclass
class RunView:
    """One run, and the dumps of one of its tasks."""

    uri: str
    folder: Path
    task: str | None = None
    _mirror: Mirror | None = None

    def __post_init__(self) -> None:
        self.title = self.uri.partition("?")[0].rstrip("/").rpartition("/")[2]
        filesystem, path = open_filesystem(self.uri)
        self._source = Path(path, FOLDER)
        if filesystem.type_name != "local":
            self._source = self.folder
            self._mirror = Mirror(join(self.uri, FOLDER), self.folder)

    def refresh(self) -> None:
        """Bring the folder up to date.

        Raises:
            StorageError: the storage does not answer.
        """
        if self._mirror is not None:
            self._mirror.refresh()
        else:
            for file in self._source.rglob("*"):
                if file.is_file() and not file.name.startswith("."):  # else being written
                    _link(self.folder / file.relative_to(self._source), file)
        for file in self.dumps():
            _link(self.folder / file.name, file)

    def dumps(self) -> list[Path]:
        """The dumps that Debugger V2 gets, of the task's newest attempt."""
        tasks = [self.task] if self.task else self.dumped_tasks()
        for task in tasks:
            attempts = [folder for folder in (self._source / DUMPS / task).glob("*") if folder.name.isdigit()]
            for attempt in sorted(attempts, key=lambda folder: int(folder.name), reverse=True):
                if files := sorted(attempt.glob("tfdbg_events.*")):
                    return files
        return []

    def dumped_tasks(self) -> list[str]:
        """Tasks that have dumps, in the order of tasks."""
        names = [folder.name for folder in (self._source / DUMPS).glob("*-*") if folder.is_dir()]

        def place(name: str) -> tuple[int, int]:
            role, _, index = name.rpartition("-")
            known = [*ROLE_ORDER, role]
            return known.index(role), int(index) if index.isdigit() else 0

        return sorted(names, key=place)

    def has_traces(self) -> bool:
        """Whether there are traces for the profile plugin."""
        return any((self._source / "plugins" / "profile").glob("*/*.xplane.pb"))


@dataclass
class StorageView:
    """All runs of a storage, each below its name."""

    storage: str
    folder: Path
    _runs: dict[str, RunView] = field(default_factory=dict)
    _complete: set[str] = field(default_factory=set)

    @property
    def is_empty(self) -> bool:
        """Whether no run was there at the last refresh."""
        return not self._runs

    def __post_init__(self) -> None:
        self.title = self.storage.partition("?")[0].rstrip("/").rpartition("/")[2]

    def refresh(self) -> None:
        """Take new runs, and what is new of those that have not ended.

        Raises:
            StorageError: the storage does not answer.
        """
        for name in run_names(self.storage):
            if name in self._complete:
                continue
            if name not in self._runs:
                (self.folder / name).mkdir(exist_ok=True)
                self._runs[name] = RunView(join(self.storage, name), self.folder / name)
            ended = read_text(self._runs[name].uri, "result.json") is not None
            self._runs[name].refresh()
            if ended:
                self._complete.add(name)


def _link(link: Path, target: Path) -> None:
    """Have `link` point to `target`; a link to another one, such as an earlier attempt's, is replaced."""
    if link.is_symlink() and os.readlink(link) == str(target.absolute()):
        return
    if link.exists() and not link.is_symlink():
        return
    link.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        link.unlink()
    link.symlink_to(target.absolute())
