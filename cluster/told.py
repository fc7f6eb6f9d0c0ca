"""How a submitted job is doing, as a small job beside it on its cluster keeps telling."""

from __future__ import annotations

import contextlib
import io
import json
import threading
from collections.abc import Iterator
from typing import TextIO, cast

from cluster.errors import SubmissionError, TfClusterError
from cluster.ray_jobs import FINISHED, SubmittedJob
from cluster.watched import View

#: Seconds until the small job must have told something: Ray starts it, and Python it.
_FIRST = 120.0
#: Seconds between two looks of the small job.
EVERY = 1.0


@contextlib.contextmanager
def told(job: SubmittedJob) -> Iterator[Told]:
    """The views of `job`, while the context lasts.

    Raises:
        RunNotFoundError: the job has no run directory yet.
        SubmissionError: nothing can be told of it there.
    """
    command = ["tfcluster", "top", job.run_dir(), "--json", "--follow"]
    board = job.also_run(command, f"top of {job.id}")
    source = Told(board)
    try:
        source.wait()
        yield source
    finally:
        with contextlib.suppress(TfClusterError):
            board.stop()
        source.close()


class Told(io.TextIOBase):
    """The newest view in the output of `board`, which is read in a thread."""

    def __init__(self, board: SubmittedJob) -> None:
        self._board = board
        self._view: View | None = None
        self._rest = ""
        self._output = ""  # that is no view
        self._first = threading.Event()
        self._closed = False
        self._wrong = ""
        self._thread = threading.Thread(target=self._read, name="told", daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Wait for the first view.

        Raises:
            SubmissionError: there is none.
        """
        if not self._first.wait(_FIRST) or self._view is None:
            lines = (self._wrong or self._output).strip().splitlines() or ["no output"]
            todo = f"tfcluster logs {self._board.id} {self._board.options}"
            raise SubmissionError("the job's cluster does not tell of it", lines[-1][-300:], todo)

    def look(self) -> None:
        """See whether there is still somebody who tells.

        Raises:
            SubmissionError: nobody does.
        """
        if not self._thread.is_alive() and not self.view().over:
            raise SubmissionError("the job's cluster does not answer any more", self._board.id, self._wrong)

    def view(self) -> View:
        """The newest one."""
        assert self._view is not None
        return self._view

    def close(self) -> None:
        """Read no more; the job must have been ended."""
        self._closed = True
        self._thread.join(5.0)

    def write(self, text: str) -> int:
        """Take more of the output."""
        *whole, self._rest = (self._rest + text).split("\n")
        for line in whole:
            try:
                self._view = View.from_document(json.loads(line))
                self._first.set()
            except (ValueError, KeyError, TypeError):
                self._output = f"{self._output}{line}\n"[-2000:]
        return len(text)

    def _read(self) -> None:
        try:
            while not self._closed:
                self._rest = ""
                self._board.logs(follow=True, stream=cast(TextIO, self))
                if self._board.status() in FINISHED:  # else the connection broke off
                    break
        except TfClusterError as error:
            self._wrong = str(error)
        finally:
            self._first.set()
