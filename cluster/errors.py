"""The error tree of ray-tfcluster and the exit code of each branch.

TfClusterError                  1
├── SpecError                   2   the spec, or a command's argument, is wrong
├── PreflightError              3   the spec is fine, but cannot run here
├── PlacementError              4   the cluster did not grant the resources in time
├── StorageError                5   the run directory cannot be read or written
├── SubmissionError             6   a Ray head, or Kubernetes, did not take the job
├── RunNotFoundError            7   no run of that name
├── CaptureError                8   tasks could not be traced
├── UserCodeError              10   the user's own code raised, or its script failed
├── TaskLostError              11   tasks were lost more often than `failure.max_restarts`
├── StartupError               12   a task did not start in `timeouts.startup`
├── HangError                  13   no step within `timeouts.hang`
├── EvaluatorError             14   training ended, but its last checkpoint was not evaluated in time
└── InterruptedRunError       130   Ctrl-C, SIGTERM or `tfcluster stop`
"""

from __future__ import annotations

from cluster.locations import shown


class TfClusterError(Exception):
    """What happened, the value seen, and what to do; survives pickling, and holds no password of a URI.

    Args:
        happened: one clause, without a full stop.
        seen: the value that caused it, as the user wrote it.
        todo: what the user can do now.
    """

    exit_code = 1
    #: Where the run's files are, once it has any.
    run_dir = ""

    def __init__(self, happened: str, seen: object = "", todo: str = "") -> None:
        self.happened = shown(happened)
        self.seen = "" if seen is None else shown(str(seen))
        self.todo = shown(todo)
        super().__init__(self.happened, self.seen, self.todo)

    def __str__(self) -> str:
        return " · ".join(part for part in (self.happened, self.seen, self.todo) if part)


class SpecError(TfClusterError):
    """The spec, or a command's argument, is wrong."""

    exit_code = 2


class PreflightError(TfClusterError):
    """The spec is fine, but cannot run on the cluster or environment at hand."""

    exit_code = 3


class PlacementError(TfClusterError):
    """The cluster did not grant the resources within `timeouts.placement`."""

    exit_code = 4


class StorageError(TfClusterError):
    """The run directory cannot be read or written."""

    exit_code = 5


class SubmissionError(TfClusterError):
    """A Ray head, or Kubernetes, did not take the job, does not know it, or did not answer."""

    exit_code = 6


class RunNotFoundError(TfClusterError):
    """There is no run of that name."""

    exit_code = 7


class CaptureError(TfClusterError):
    """The tasks of a run could not be traced; the run itself goes on."""

    exit_code = 8


class UserCodeError(TfClusterError):
    """The user's function raised, or the user's script ended with an error."""

    exit_code = 10


class TaskLostError(TfClusterError):
    """Tasks were lost more often than `failure.max_restarts` allows."""

    exit_code = 11


class StartupError(TfClusterError):
    """A task did not start within `timeouts.startup`."""

    exit_code = 12


class HangError(TfClusterError):
    """No task made a step within `timeouts.hang`."""

    exit_code = 13


class EvaluatorError(TfClusterError):
    """Training ended, but the evaluator did not see the last checkpoint in time."""

    exit_code = 14


class InterruptedRunError(TfClusterError):
    """The run was stopped from outside: Ctrl-C, SIGTERM or `tfcluster stop`."""

    exit_code = 130


def tree(root: type[TfClusterError] = TfClusterError) -> dict[str, type[TfClusterError]]:
    """Every error class of this file by its name, `root` first."""
    own = [sub for sub in root.__subclasses__() if sub.__module__ == __name__]
    return {root.__name__: root, **{name: error for sub in own for name, error in tree(sub).items()}}
