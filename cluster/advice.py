"""What a verdict says: the sentence, what else was seen, and what to try. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from cluster.bottleneck import NEVER_RESTS, Bottleneck, Limit, Straggler
from cluster.trace_shares import Cost, Shares
from cluster.units import format_duration

#: Operations a step that a loop may run one by one: Keras runs a few.
_FEW_EAGER = 6
#: Steps below which a mean says little.
_FEW_STEPS = 10
#: Share of a trace that its whole steps should fill.
_FILLED = 0.5
#: Share of a parameter server's time from which on it is busy.
_BUSY = 0.5
#: Share of a step from which on something in the input pipeline is worth a word.
_MUCH = 0.3
#: In the names of the operations with which the datasets of a spec read, see `pipelines.dataset` and `.remote`.
_READER = "tfcluster_"
#: What a longer trace is good for.
_RELIABLE = "for figures to rely on"
#: In the input pipeline, operations that call Python.
_PYTHON_OPS = ("PyFunc", "EagerPyFunc", "PyFuncStateless")
#: What each limit is called.
_CALLED: Mapping[Limit, str] = {
    "input": "input-bound",
    "compute": "compute-bound",
    "communication": "communication-bound",
    "runtime": "bound by TensorFlow's own overhead",
    "python": "bound by Python",
    "coordinator": "bound by the coordinator",
}
#: What a straggler takes its time for.
_FOR: Mapping[Limit, str] = {
    "input": "waiting for its input",
    "compute": "computing",
    "communication": "the exchange with the parameter servers",
    "runtime": "TensorFlow's work between operations",
    "python": "Python outside TensorFlow, or into sleep",
    "coordinator": "waiting for the coordinator",
}
#: Limits of a coordinator's own steps that say nothing of how fast its workers could be.
_OF_A_COORDINATOR: Sequence[Limit] = ("runtime", "python")
ONLY_SERVERS = "only parameter servers were traced, which make no steps"
TRACE_WORKERS = "trace the tasks that train, too: tfcluster profile RUN without --tasks, or with worker among them"
MARK = "with tf.profiler.experimental.Trace('train', step_num=step, _r=1): …"


class About(NamedTuple):
    """What one has to know of a job and its capture, besides the traces, to say only what can be followed.

    Attributes:
        script: the job is an unmodified script, whose spec has no data and none of what else shapes an entrypoint.
        cut: the capture ended before its time, so that to ask for a longer one is no use.
    """

    script: bool = False
    cut: bool = False

    @property
    def batch(self) -> str:
        """Where the size of a batch is set, in brackets; '' for a script, which does it by itself."""
        return "" if self.script else " (data.X.batch)"

    def longer(self, why: str) -> str:
        """What stands at the end of a remark for which the trace is too short."""
        return "" if self.cut else f"; trace longer {why}"


#: Of an entrypoint, traced for as long as was asked.
ORDINARY = About()


def step_time(seconds: float) -> str:
    """A step's time or a part of it: `8.8 ms`, `1.2s`."""
    return f"{seconds * 1000:.3g} ms" if seconds < 0.9995 else format_duration(seconds)


def sentence_of(found: Bottleneck, tasks: Sequence[Shares], operations: Sequence[Cost], about: About) -> str:
    """The verdict in one line."""
    if not tasks:
        return "nothing was traced"
    if found.pace is None:
        served = all(t.task.startswith("ps-") for t in tasks)
        todo = "the capture was cut short" if about.cut else "trace longer, or mark the steps"
        return ONLY_SERVERS if served else f"no steps could be told apart: {todo}"
    if found.stragglers:
        return _of_stragglers(found.stragglers, found.step)
    if found.coordinates and found.limit in _OF_A_COORDINATOR:
        waits = step_time(found.parts["runtime"] + found.parts["other"])
        return (
            f"of {found.pace.task} alone: in {waits} of a step's {step_time(found.step)} it waits, or hands out steps"
        )
    step, parts = step_time(found.step), {name: step_time(seconds) for name, seconds in found.parts.items()}
    match found.limit:
        case "input":
            waits = step_time(max(t.seconds("input") for t in found.compared))
            what = f"{waits} of a step's {step} are spent waiting for the next batch"
        case "compute":
            heavy = next((c.what.type for c in operations if not c.what.moves_data), "")
            what = f"operations compute in {parts['compute']} of a step's {step}"
            what += f", {plain_type(heavy)} the longest" if heavy else ""
        case "communication":
            between = "with the parameter servers" if found.served else "between the tasks"
            what = f"{parts['communication']} of a step's {step} go into exchanging data {between}"
        case "runtime":
            what = f"in {parts['runtime']} of a step's {step} TensorFlow is at work, but no operation computes"
        case "coordinator":
            what = f"in {parts['other']} of a step's {step} a worker has nothing to do"
        case _:
            what = f"in {parts['other']} of a step's {step} the program is outside TensorFlow"
    of = f"of {found.pace.task} alone: " if found.alone else ""
    return f"{of}{_CALLED[found.limit]}: {what}"


def _of_stragglers(stragglers: Sequence[Straggler], step: float) -> str:
    first, more = stragglers[0], len(stragglers) - 1
    alone = f"{first.task} holds the others up: it"
    who = f"{first.task} and {more} more hold the others up: {first.task}" if more else alone
    needs = f"needs {step_time(first.own)} of a step's {step_time(step)} itself, the others {step_time(first.others)}"
    return f"{who} {needs}; its time goes into {_FOR[first.limit]}"


def remarks(found: Bottleneck, tasks: Sequence[Shares], about: About) -> Iterator[str]:
    """What else the traces show."""
    if found.alone and any(t.task.startswith("worker-") for t in tasks):
        yield f"no steps of the workers could be told apart{about.longer('for those')}"
    steps = min((t.steps.count for t in found.compared), default=0)
    if 0 < steps < _FEW_STEPS:
        yield f"only {steps} steps were traced{about.longer(_RELIABLE)}"
    elif any(t.steps.count * t.steps.mean + t.steps.paused < _FILLED * t.traced for t in found.compared):
        yield f"whole steps fill less than half of the trace: they come in bursts{about.longer(_RELIABLE)}"
    for task in tasks:
        yield from _of_task(task)
    tired = [t.task for t in found.compared if t.feed > NEVER_RESTS]
    if tired and found.limit != "input":
        yield f"the input pipeline of {names(tired)} never rests: as soon as the step gets faster, it is what limits"
    if found.served:
        for task in tasks:
            if task.task.startswith("ps-") and task.parts["compute"] > _BUSY:
                yield f"{task.task} updates variables {task.parts['compute']:.0%} of the time"


def _of_task(task: Shares) -> Iterator[str]:
    for function, times in task.traced_anew.items():
        yield f"{task.task}: {function} was traced anew {_times(times)}, as its arguments were new to it"
    steps = task.steps
    if steps.pauses:
        yield (
            f"{task.task}: {steps.pauses} pause{'s' if steps.pauses > 1 else ''} of {step_time(steps.paused)} in all "
            "not counted: between epochs, for a checkpoint, or for tracing a function"
        )
    if steps.count >= _FEW_STEPS and steps.p95 > 2 * steps.median:
        yield f"{task.task}: steps vary, one in twenty takes {step_time(steps.p95)} and more"


def advise(found: Bottleneck, tasks: Sequence[Shares], about: About) -> Iterator[str]:
    """What to try, the most promising first."""
    if found.pace is None:
        yield from _about_steps(tasks, about)
        return
    if found.alone:
        if not any(t.task.startswith("worker-") for t in tasks):
            yield TRACE_WORKERS
        elif not about.cut:
            yield "trace longer: tfcluster profile RUN --seconds 10"
    if any(t.traced_anew for t in found.compared):
        yield "give the function tensors of equal shapes and dtypes instead of Python numbers, or an input_signature"
    if found.stragglers:
        yield from _about_stragglers(found)
    match found.limit:
        case "input":
            yield from _about_input(found, about)
        case "compute" if not found.stragglers:
            yield from _about_compute(found.pace, about)
        case "communication":
            yield from _about_communication(found, about)
        case "runtime" | "python" if found.coordinates:
            pass
        case "runtime":
            yield from _about_runtime(found.pace, about)
        case "python" if not found.stragglers:
            yield from _about_python(found.pace)
        case "coordinator":
            yield "give a worker more to do in a step: a larger batch, or several batches in the function of a step"
            yield "schedule many steps before coordinator.join() or fetch(), which wait for all workers"


def _about_steps(tasks: Sequence[Shares], about: About) -> Iterator[str]:
    if not tasks:
        yield "is the job at work? tfcluster status tells what its tasks are doing"
        return
    if all(t.task.startswith("ps-") for t in tasks):
        yield TRACE_WORKERS
        return
    if not about.cut:
        yield "trace longer, at least 20 steps: tfcluster profile RUN --seconds 10"
    yield f"in a loop of your own, mark the steps: {MARK}"


def _about_stragglers(found: Bottleneck) -> Iterator[str]:
    who = found.stragglers[0].task
    match found.limit:
        case "compute":
            yield f"see what else runs on the node of {who}: tfcluster top shows CPU and memory of each task"
            yield "reserve the cores that a task uses (roles.worker.cpus), so that Ray puts no more tasks on a node"
            yield "on nodes of several kinds, keep the job to one kind with roles.worker.resources"
        case "python":
            yield f"look for what only {who} does between steps: callbacks, checkpoints, summaries, logging"
            yield f"a node without free cores shows so, too: tfcluster top shows the load of {who}"
        case "input":
            yield f"compare how fast {who} reads with the others: its disk, its network, the size of its files"
        case _:
            yield f"compare the node of {who} with the others: tfcluster top shows CPU and memory of each task"


def _about_input(found: Bottleneck, about: About) -> Iterator[str]:
    task = max(found.compared, key=lambda t: t.feed)
    stage = task.stages[0].what.type if task.stages else ""
    python = [cost for cost in task.preparing if cost.what.type in _PYTHON_OPS]
    ours = sum(cost.seconds for cost in python if _READER in cost.what.name)
    theirs = sum(cost.seconds for cost in python) - ours
    if ours > theirs:
        yield from _about_our_reader()
        return
    if theirs > _MUCH * task.steps.mean:
        yield (
            "Python prepares the data, one call at a time: do it with TensorFlow's operations (tf.image, tf.strings), "
            "not by py_function, numpy_function or from_generator"
        )
    if stage in ("Map", "FlatMap", "Interleave", "MapAndBatch", "Batch", "LegacyParallelInterleave"):
        yield f"the longest stage, {stage}, runs on one thread: give it num_parallel_calls=tf.data.AUTOTUNE"
    elif stage.startswith("Parallel"):
        yield f"the longest stage, {stage}, runs in parallel: more cores a task (roles.worker.cpus), or less work in it"
    elif stage in ("TFRecord", "TextLine", "FixedLengthRecord"):
        yield "the longest stage reads files: read several at once: interleave(…, num_parallel_calls=tf.data.AUTOTUNE)"
    elif stage.startswith("Shuffle"):
        spec = "" if about.script else "; data.X.shuffle mixes without one"
        yield f"the longest stage shuffles: a smaller buffer fills sooner{spec}"
    yield "end the pipeline with prefetch(tf.data.AUTOTUNE), and batch before map, so that a call handles many rows"
    yield "keep what is the same in every epoch: cache() after the costly stage, if it fits into memory"
    if not about.script:
        yield "read through the spec's data: its columns and filters read less; tfcluster data inspect tells the rest"


def _about_our_reader() -> Iterator[str]:
    yield "the spec's dataset is read as fast as this task can: read less of it, with its columns and filters"
    yield "more cores a task (with a larger roles.worker.cpus Ray puts fewer tasks on a node), or more workers"
    yield "tfcluster data inspect tells codecs and row groups; where gzip is slow, tfcluster data convert writes others"
    yield "deterministic: false takes what is ready first"


def _about_compute(task: Shares, about: About) -> Iterator[str]:
    yield "computation is what a step is for: only less of it, or faster hardware, makes it shorter"
    if task.gpus:
        if not about.script:
            yield "precision: mixed_bfloat16, or mixed_float16, in the spec, for GPUs with tensor cores"
        yield "a larger batch, as long as it fits: small operations do not fill a GPU"
    else:
        yield "more cores: with a larger roles.worker.cpus Ray puts fewer tasks on a node; or a GPU (roles.worker.gpus)"
    yield "jit_compile=True, in model.compile or tf.function, joins small operations"
    yield f"more workers, and a batch{about.batch} that grows with them: more rows a step in the same time"


def _about_communication(found: Bottleneck, about: About) -> Iterator[str]:
    yield f"a larger batch{about.batch}: the exchange takes as long, but there are fewer of them for the same rows"
    if found.served:
        yield "more parameter servers (roles.ps.replicas), over which the variables are shared out"
        if not about.script:
            yield "partition: {min_size: 256KiB}, to spread large variables over the parameter servers"
        yield "placement: pack, for tasks on few nodes"
    else:
        yield "placement: pack or strict_pack, for tasks on few nodes; with GPUs, all of a node's in one task"
        yield "a model with fewer variables to exchange: smaller embeddings and dense layers"


def _about_runtime(task: Shares, about: About) -> Iterator[str]:
    if task.eager > _FEW_EAGER:
        yield _one_by_one(task)
    yield f"a larger batch{about.batch}: fewer steps for the same rows"
    yield "several steps in one call: model.compile(steps_per_execution=10), or a loop inside your tf.function"
    yield "model.compile(jit_compile=True), or tf.function(jit_compile=True): one operation instead of many small ones"
    if not about.script:
        yield "data.X.pack makes one feature of many columns, and one operation of many"


def _about_python(task: Shares) -> Iterator[str]:
    if task.eager > _FEW_EAGER:
        yield _one_by_one(task)
    yield "do less between steps: callbacks on every batch, printing, float(loss), which waits for the step"
    yield "several steps in one call: model.compile(steps_per_execution=10), or a loop inside your tf.function"


def _one_by_one(task: Shares) -> str:
    return (
        f"Python runs {task.eager:.0f} operations a step one by one: put the whole step into a tf.function, and the "
        "iterator into it, too: def steps(iterator): for _ in tf.range(n): step(next(iterator))"
    )


def names(tasks: Sequence[str], most: int = 3) -> str:
    """`worker-0, worker-1 and 6 more`."""
    more = len(tasks) - most
    return ", ".join(tasks[:most]) + (f" and {more} more" if more > 0 else "")


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def plain_type(kind: str) -> str:
    """The type of an operation without what the library that runs it puts before it."""
    return kind.removeprefix("_MklNative").removeprefix("_Mkl").removeprefix("_Fused")
