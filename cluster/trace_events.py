"""What the events of a trace mean: computation, waiting for input, communication, TensorFlow's own work, and steps."""

from __future__ import annotations

import itertools
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from cluster.intervals import Cover
from cluster.xplane import Line, Plane

Span = tuple[int, int]

#: Types of operations that move data between tasks.
_COMMUNICATION = re.compile(r"Collective(?!.*Group)|Nccl|_?(Host)?(Recv|Send)$")
_COLLECTIVE = "Collective"
#: … and of those that take the next batch.
_INPUT = re.compile(r"IteratorGetNext|OneShotIterator|DatasetToSingleElement")
#: … and of those that only contain others.
_WRAPPERS = re.compile(r"(Stateful|)PartitionedCall|RemoteCall|(Stateless|)(While|If|Case)|SymbolicGradient")
#: Kernels of NVIDIA's library for communication between GPUs, and a copy from one to another.
_NCCL = re.compile(r"nccl", re.IGNORECASE)
_PEERS = "MemcpyP2P"
#: Copies between a GPU and the host; within a GPU they are a kernel like others.
_COPIES = re.compile(r"Memcpy(?!D2D)")
#: Of a kernel in C++, what is left out of its name, and what its event says if it is part of a CUDA graph.
_SIGNATURE = re.compile(r"^void |(?<=\w)[<(].*")
_IN_GRAPH = "cuda_graph_id"
#: A stream's line, also when NVIDIA's profiler has written down there what itself took time for.
_STREAMS = ("Stream", "CUPTI overhead")
#: Threads that prepare input ahead of the step.
_INPUT_THREADS = "tf_data_"
#: Of a distributed dataset, on each device: it waits for the pipeline of the host, and is none itself.
_DEVICE_SIDE = "Iterator::Root::Prefetch::Generator"
_EAGER = "EagerLocalExecute: "
_ASYNC = {"ExecutorState::ProcessAsync::Start": True, "ExecutorState::ProcessAsync::Done": False}
_CALLS_OF_PYTHON = ("TFE_Py_ExecuteCancelable", "TFE_Py_FastPathExecute_C", "TFE_Py_Execute")


class Operation(NamedTuple):
    """One operation of the program: its type, its name, and whether a GPU ran it."""

    type: str
    name: str
    gpu: bool = False

    @property
    def moves_data(self) -> bool:
        """Whether it moves data between tasks, or GPUs."""
        return self.type in ("NCCL", _PEERS) or bool(_COMMUNICATION.match(self.type))


class Mark(NamedTuple):
    """One step, or one call of a function that may be a step; picoseconds, and the number that the program gave it."""

    start: int
    end: int
    number: int = 0


@dataclass
class Activity:
    """What one task did while it was traced; times in picoseconds from the beginning of the trace.

    Attributes:
        length: of the trace.
        seen: from the first event to the last. TensorFlow 2.18 and later may write down a longer trace: they are
            asked for the events some time after the last one was recorded.
        compute, input, communication, runtime: when an operation computed, when the step waited for the next batch,
            when an operation moved data between tasks, when Python was inside TensorFlow; these may overlap.
        feeds: of each thread that prepares input, when it worked on an element or waited for one.
        marks: steps that the program, or Keras, marked as such, by thread and name.
        calls: calls of tf.functions from Python that are in no other call, by thread and name.
        remote: functions that a coordinator had this task run, by name.
        operations, stages: count and time of each operation; of each stage of the input pipeline, without the stages
            that it reads from.
        preparing: time of each operation within the input pipeline.
        traced: how often each tf.function was traced anew.
        eager: operations that Python ran one by one, by thread.
        gpus: the devices seen.
    """

    length: int = 0
    seen: int = 0
    compute: Cover = field(default_factory=Cover)
    input: Cover = field(default_factory=Cover)
    communication: Cover = field(default_factory=Cover)
    runtime: Cover = field(default_factory=Cover)
    feeds: list[Cover] = field(default_factory=list)
    marks: dict[tuple[int, str], list[Mark]] = field(default_factory=lambda: defaultdict(list))
    calls: dict[tuple[int, str], list[Mark]] = field(default_factory=lambda: defaultdict(list))
    remote: dict[tuple[int, str], list[Mark]] = field(default_factory=lambda: defaultdict(list))
    operations: dict[Operation, list[int]] = field(default_factory=lambda: defaultdict(lambda: [0, 0]))
    stages: dict[str, list[int]] = field(default_factory=lambda: defaultdict(lambda: [0, 0]))
    preparing: Counter[Operation] = field(default_factory=Counter)
    traced: Counter[str] = field(default_factory=Counter)
    eager: Counter[int] = field(default_factory=Counter)
    gpus: list[str] = field(default_factory=list)


def activity_of(planes: Iterable[Plane]) -> Activity:
    """What a task did, from the planes of its trace."""
    found = Activity()
    host, device = _Host(found), _Device(found)
    first, last = sys.maxsize, 0
    for plane in planes:
        if plane.name == "Task Environment":
            times = plane.stats
            found.length = 1000 * (times.get("profile_stop_time", 0) - times.get("profile_start_time", 0))
        elif plane.name == "/host:CPU":
            host.read(plane)
        elif plane.name.startswith("/device:GPU"):
            device.read(plane)
        for line in plane.lines:
            for event in (*line.events[:1], *line.events[-1:]):
                start = line.start + event.offset_ps
                first, last = min(first, start), max(last, start + event.duration_ps)
    host.finish(device)
    found.seen = max(0, last - first)
    found.length = max(found.length, *(c.ends[-1] if c else 0 for c in (found.compute, found.input, found.runtime)))
    return found


class _Device:
    """Kernels and copies of GPUs."""

    def __init__(self, found: Activity) -> None:
        self.kernels: list[Span] = []
        self.communication: list[Span] = []
        self.copies: list[Span] = []
        self.has_nccl = False
        self._found = found

    def read(self, plane: Plane) -> None:
        self._found.gpus.append(plane.name.removeprefix("/device:"))
        for line in plane.lines:
            if line.name.startswith(_STREAMS):
                for event in line.events:
                    self._take(plane, line, event)

    def _take(self, plane: Plane, line: Line, event: Any) -> None:
        stats = plane.stats_of(event)
        if "correlation_id" not in stats:  # nobody called for it
            return
        operation = _on_gpu(plane.names.get(event.metadata_id, ("", ""))[0], stats)
        start = line.start + event.offset_ps
        span = (start, start + event.duration_ps)
        if operation.moves_data:
            self.communication.append(span)
            self.has_nccl |= operation.type == "NCCL"
        elif _COPIES.match(operation.type):
            self.copies.append(span)
        else:
            self.kernels.append(span)
        _add(self._found.operations, operation, event.duration_ps)


def _on_gpu(name: str, stats: Mapping[str, Any]) -> Operation:
    """What a GPU did, by the operation of TensorFlow that had it done, or of XLA, which makes one of many."""
    if name.startswith(("Memcpy", "Memset")):
        return Operation(name.partition(" ")[0], "", gpu=True)
    if _NCCL.search(name):
        return Operation("NCCL", name, gpu=True)
    kernel = _SIGNATURE.sub("", name)
    if _IN_GRAPH in stats:  # what else is known is that of the whole graph
        return Operation(kernel, name, gpu=True)
    compiled = str(stats.get("hlo_op") or "").rpartition("::")[2]
    if compiled:
        return Operation(re.sub(r"(\.\d+)+$", "", compiled), compiled, gpu=True)
    node, _, kind = str(stats.get("tf_op") or "").rpartition(":")
    return Operation(kind, node, gpu=True) if kind else Operation(kernel, name, gpu=True)


class _Host:
    """Threads of the process; times of operations are kept until it is known whether a GPU computes."""

    def __init__(self, found: Activity) -> None:
        self.found = found
        self.compute: list[Span] = []
        self.input: list[Span] = []
        self.communication: list[Span] = []
        self.runtime: list[Span] = []
        #: Where operations that go on after their own event has ended begin and are done.
        self.begun: dict[tuple[Any, ...], int] = {}
        self.done: dict[tuple[Any, ...], int] = {}

    def read(self, plane: Plane) -> None:
        """Take in every event; what a name means is found out once."""
        meanings: dict[int, tuple[str, Any]] = {}
        for line in plane.lines:
            thread = _Thread(self, plane, line)
            for event in line.events:
                meaning = meanings.get(event.metadata_id)
                if meaning is None:
                    name, shown = plane.names.get(event.metadata_id, ("", ""))
                    meaning = meanings[event.metadata_id] = _meaning(name, shown, event, plane)
                if meaning[0]:
                    start = line.start + event.offset_ps
                    thread.take[meaning[0]](meaning[1], (start, start + event.duration_ps), event)
            thread.finish()

    def finish(self, device: _Device) -> None:
        """Join the host's times with those of its GPUs, on which all computation is then: the host only starts it.

        Without NCCL's kernels, collectives exchange data through the host all the same.
        """
        whole: dict[Operation, list[int]] = defaultdict(lambda: [0, 0])
        collectives: dict[Operation, list[Span]] = defaultdict(list)
        for key in self.begun.keys() & self.done.keys():
            operation, span = Operation(*key[:2]), (self.begun[key], self.done[key])
            self.communication.append(span)
            _add(whole, operation, max(0, span[1] - span[0]))
            if operation.type.startswith(_COLLECTIVE) and not device.has_nccl:
                collectives[operation].append(span)
        self.found.operations.update(whole)
        if device.kernels:
            exchanged = itertools.chain(device.communication, *collectives.values())
            self.found.compute = Cover(device.kernels)
            self.found.communication = Cover([*exchanged])
            self.found.runtime = Cover([*self.runtime, *self.compute, *self.communication, *device.copies])
            for operation in [o for o in self.found.operations if not (o.gpu or o in collectives)]:
                del self.found.operations[operation]
        else:
            self.found.compute = Cover(self.compute)
            self.found.communication = Cover(self.communication)
            self.found.runtime = Cover(self.runtime)
        self.found.input = Cover(self.input)


class _Thread:
    """Takes in the events of one thread, by what they mean: what is known of the name, when it was, and the event."""

    def __init__(self, host: _Host, plane: Plane, line: Line) -> None:
        self._host, self._found, self._plane, self._id = host, host.found, plane, line.id
        self._prepares = line.name.startswith(_INPUT_THREADS)
        self._stages: list[tuple[Span, str]] = []
        self._top = 0  # where the last call of a tf.function ends
        self.take: dict[str, Callable[[Any, Span, Any], None]] = {
            "stage": self._stage,
            "async": self._async,
            "operation": self._operation,
            "eager": self._eager,
            "next": lambda _, span, __: host.input.append(span),
            "runtime": lambda _, span, __: host.runtime.append(span),
            "one by one": self._one_by_one,
            "mark": self._mark,
            "call": self._call,
        }

    def finish(self) -> None:
        """Note what the thread did for the input pipeline."""
        if self._stages:
            self._found.feeds.append(Cover([span for span, _ in self._stages]))
            _own_times(self._found.stages, self._stages)

    def _stage(self, name: str, span: Span, _: Any) -> None:
        if self._prepares:
            self._stages.append((span, name))

    def _async(self, begins: bool, span: Span, event: Any) -> None:
        stats = self._plane.stats_of(event)
        key = (str(stats.get("kernel_type")), str(stats.get("name")), stats.get("step_id"), stats.get("iter_num"))
        if _COMMUNICATION.match(key[0]) and begins:
            self._host.begun[key] = span[0]
        elif _COMMUNICATION.match(key[0]):
            self._host.done[key] = span[1]

    def _operation(self, operation: Operation, span: Span, _: Any) -> None:
        if self._prepares:
            self._found.preparing[operation] += span[1] - span[0]
            return
        _add(self._found.operations, operation, span[1] - span[0])
        if _COMMUNICATION.match(operation.type):
            self._host.communication.append(span)
        elif not _INPUT.match(operation.type):
            self._host.compute.append(span)

    def _eager(self, name: str, span: Span, _: Any) -> None:
        if name.startswith("__inference_"):
            self._found.remote[0, re.sub(r"^__inference_|_\d+$", "", name)].append(Mark(*span))
        elif _COMMUNICATION.match(name):
            self._host.communication.append(span)
        elif _INPUT.match(name):
            self._host.input.append(span)
        elif not self._prepares:
            self._host.compute.append(span)

    def _one_by_one(self, _: Any, __: Span, ___: Any) -> None:
        self._found.eager[self._id] += 1

    def _mark(self, name: str, span: Span, event: Any) -> None:
        number = self._plane.stats_of(event).get("step_num") or 0
        self._found.marks[self._id, name].append(Mark(*span, number))

    def _call(self, name: str, span: Span, event: Any) -> None:
        if span[0] < self._top:
            return  # within another call
        self._top = span[1]
        self._found.calls[self._id, name].append(Mark(*span))
        if str(self._plane.stats_of(event).get("tf_function_call")).startswith("traced"):
            self._found.traced[name] += 1


def _meaning(name: str, shown: str, event: Any, plane: Plane) -> tuple[str, Any]:
    """What events of that name are, and what else is to be known of them; ("", None) for those that say nothing."""
    if name.startswith("Iterator::") or name.endswith("Produce"):
        return "stage", name
    if name.startswith("IteratorGetNext") and name.endswith("::DoCompute"):
        return "next", None
    if name in _ASYNC:
        return "async", _ASYNC[name]
    if name in _CALLS_OF_PYTHON:
        return "runtime", None
    if name == "EagerExecute":
        return "one by one", None
    if name.startswith(_EAGER):
        return "eager", name[len(_EAGER) :]
    if shown and name.endswith(f":{shown}"):
        # Of a coordinator's request, EagerService:Enqueue, too: it lasts as long as what it runs.
        plain = not _WRAPPERS.fullmatch(shown) and not name.startswith("EagerService:")
        return ("operation", Operation(shown, name[: -len(shown) - 1])) if plain else ("", None)
    stats = plane.stats_of(event) if event.stats else {}
    if "step_num" in stats and "_r" in stats:
        return "mark", name
    return ("call", name) if "tf_function_call" in stats else ("", None)


def _own_times(stages: dict[str, list[int]], events: list[tuple[Span, str]]) -> None:
    """Add to each stage the time of its events, without that of events within them."""
    inside: list[tuple[int, str]] = []  # end and name of the events that contain the next one
    for (start, end), name in sorted(events, key=lambda e: (e[0][0], -e[0][1])):
        if name.endswith("Produce"):
            continue
        while inside and inside[-1][0] <= start:
            inside.pop()
        if inside:
            stages[inside[-1][1]][1] -= end - start
        _add(stages, name, end - start)
        inside.append((end, name))
    stages.pop(_DEVICE_SIDE, None)


def _add(table: dict[Any, list[int]], key: Any, duration: int) -> None:
    row = table[key]
    row[0] += 1
    row[1] += duration
