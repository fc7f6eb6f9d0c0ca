"""Work spread over the Ray that this process is connected to, a few tasks at a time.

When the work is given up, no more tasks begin, and those that run end with the connection, or else by themselves, in
the seconds that one takes. They are not cancelled: `ray.cancel` of Ray 2.60 ends the calling process when a task is
done just as it is being cancelled, by force or not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, TypeVar

from pipelines.errors import DataError

Shared = TypeVar("Shared")
Item = TypeVar("Item")
Result = TypeVar("Result")

#: How often Ray starts a task again whose process or node was lost.
_RETRIES = 3
#: Results that are merged by one task.
_FAN_IN = 16


def run(
    function: Callable[[Shared, Item], Result], shared: Shared, items: Sequence[Item], *, parallel: int | None = None
) -> Iterator[Result]:
    """`function(shared, item)` for each item, as tasks of one CPU; results come as they are made.

    Args:
        function: of a module that the workers can import too.
        shared: the same for all; sent to each node once.
        items: one task each.
        parallel: tasks at the same time; None takes all CPUs of the cluster.

    Raises:
        DataError: what a task raised, or a process was lost again and again.
    """
    import ray

    task = ray.remote(num_cpus=1, max_retries=_RETRIES)(_call)
    reference = ray.put(shared)
    starts = (partial(task.remote, function, reference, item) for item in items)
    for done in _a_few_at_a_time(starts, parallel):
        yield _result(done)


def reduce(
    function: Callable[[Shared, Item], Result],
    shared: Shared,
    items: Sequence[Item],
    merge: Callable[[Result, Result], Result],
    *,
    parallel: int | None = None,
    done: Callable[[], None] = lambda: None,
) -> Result:
    """All `function(shared, item)` merged into one, in a tree whose shape depends on the number of items only.

    Nothing but the last result comes to this process.

    Args:
        function: as for `run`.
        shared: as for `run`.
        items: at least one.
        merge: of two results that stand beside each other.
        parallel: as for `run`.
        done: called for each item that is finished.

    Raises:
        DataError: as for `run`.
    """
    import ray

    work = ray.remote(num_cpus=1, max_retries=_RETRIES, num_returns=2)(_call_with_receipt)
    join = ray.remote(num_cpus=1, max_retries=_RETRIES)(_merge_all)
    reference = ray.put(shared)
    level: list[Any] = []

    def begin(item: Item) -> Any:
        receipt, result = work.remote(function, reference, item)
        level.append(result)
        return receipt

    for receipt in _a_few_at_a_time((partial(begin, item) for item in items), parallel):
        _result(receipt)
        done()
    while len(level) > 1:
        level = [join.remote(merge, *level[at : at + _FAN_IN]) for at in range(0, len(level), _FAN_IN)]
    result: Result = _result(level[0])
    return result


def _a_few_at_a_time(starts: Iterable[Callable[[], Any]], parallel: int | None) -> Iterator[Any]:
    """References of tasks that are done, as they are done; each is begun when one before it has made room."""
    import ray

    most = parallel or max(1, int(ray.cluster_resources().get("CPU", 1)))
    running: list[Any] = []
    for start in starts:
        running.append(start())
        if len(running) >= most:
            done, running = ray.wait(running, num_returns=1)
            yield done[0]
    while running:
        done, running = ray.wait(running, num_returns=1)
        yield done[0]


def _call(function: Callable[[Any, Any], Any], shared: Any, item: Any) -> Any:
    return function(shared, item)


def _call_with_receipt(function: Callable[[Any, Any], Any], shared: Any, item: Any) -> tuple[None, Any]:
    """The first of the two says that the other is there, without bringing it."""
    return None, function(shared, item)


def _merge_all(merge: Callable[[Any, Any], Any], first: Any, *others: Any) -> Any:
    for other in others:
        first = merge(first, other)
    return first


def _result(reference: Any) -> Any:
    import ray
    from ray.exceptions import RayError, RayTaskError

    try:
        return ray.get(reference)
    except RayTaskError as error:
        if isinstance(error.cause, DataError):
            raise error.cause from None
        raise
    except RayError as error:
        seen = f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"
        todo = "if memory ran out, take fewer tasks at once or smaller row groups; then run the command again"
        raise DataError("Ray lost a task of this work", seen, todo) from None
