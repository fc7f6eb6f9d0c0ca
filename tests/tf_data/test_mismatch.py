"""A record that does not match its features is named with feature, file and number, wherever TensorFlow refused it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

from pipelines import tfrecord_index
from pipelines.dataset import read_dataset
from pipelines.errors import DataError
from pipelines.example_writer import example_of, sequence_example_of
from pipelines.layout import Request
from pipelines.mismatch import explained
from pipelines.reader import Reader, ReadPlan
from pipelines.shards import Sharding, Span
from pipelines.sources import Files, open_source
from pipelines.tfrecord_writer import write_records
from tests.tf.crew import Forge, cluster

pytestmark = pytest.mark.timeout(120)

HERE = "tests.tf_data.test_mismatch"
#: Records of each of three files, and the one in the second file that is bad.
RECORDS, BAD = 400, 237
EXAMPLES: dict[str, Any] = {"x": "float32", "pair": {"dtype": "float32", "shape": [2]}, "words": "ragged string"}
SEQUENCES: dict[str, Any] = {"context": {"x": "float32"}, "sequence": {"token": "int64"}}


def example(**changed: Any) -> bytes:
    made = {"x": [1.0], "pair": [1.0, 2.0], "words": [b"a", b"b"], **changed}
    return example_of({name: values for name, values in made.items() if values is not None})


def sequence(context: dict[str, Any] | None = None, token: Any = ((1,), (2,))) -> bytes:
    return sequence_example_of({"x": [1.0]} if context is None else context, {"token": [list(step) for step in token]})


#: What the features are, a good record, a bad one, and what is said of it.
CASES: dict[str, tuple[dict[str, Any], bytes, bytes, str]] = {
    "another type": (EXAMPLES, example(), example(x=[b"1"]), "feature x holds string, not float32"),
    "missing": (EXAMPLES, example(), example(x=None), "feature x is missing"),
    "another length": (EXAMPLES, example(), example(pair=[1.0]), "feature pair has 1 values, not 2"),
    "a ragged one of another type": (EXAMPLES, example(), example(words=[7]), "feature words holds int64, not string"),
    "a value too large": (
        {**EXAMPLES, "n": "ragged uint8"},
        example(n=[1, 255]),
        example(n=[7, 300]),
        "feature n holds 300, which does not fit uint8",
    ),
    "no Example": (EXAMPLES, example(), b"plain text", "a record is no tf.train.Example"),
    "context of another type": (SEQUENCES, sequence(), sequence({"x": [7]}), "feature x holds int64, not float32"),
    "context missing": (SEQUENCES, sequence(), sequence({}), "feature x is missing"),
    "context of another length": (SEQUENCES, sequence(), sequence({"x": [1.0, 2.0]}), "feature x has 2 values, not 1"),
    "a step of another type": (
        SEQUENCES,
        sequence(),
        sequence(token=[[1], [2.5]]),
        "feature token, step 1, holds float32, not int64",
    ),
    "a step of another length": (
        SEQUENCES,
        sequence(),
        sequence(token=[[1], [2], []]),
        "feature token, step 2, is missing",
    ),
    "a step of a value too large": (
        {"context": {"x": "float32"}, "sequence": {"token": "bool"}},
        sequence(token=[[1], [0]]),
        sequence(token=[[1], [2]]),
        "feature token, step 1, holds 2, which does not fit bool",
    ),
    "no SequenceExample": (SEQUENCES, sequence(), b"plain text", "a record is no tf.train.Example"),
}


@pytest.fixture(autouse=True)
def _small_units(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tfrecord_index, "UNIT_RECORDS", 90)


def write(folder: Path, good: bytes, bad: bytes) -> Path:
    for number in range(3):
        records = [good] * RECORDS
        if number == 1:
            records[BAD] = bad
        write_records(str(folder / f"part-{number}.tfrecord"), records)
    return folder


def assert_named(error: DataError | None, folder: Path, said: str) -> None:
    assert error is not None
    assert said in error.happened
    assert error.seen.startswith(f"{folder}/part-1.tfrecord, record {BAD}")


def error_of(iterate: Callable[[], Any]) -> DataError | None:
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        iterate()
    return explained(caught.value)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("shuffle", [False, True])
def test_the_record_is_named(tmp_path: Path, case: str, shuffle: bool) -> None:
    features, good, bad, said = CASES[case]
    write(tmp_path, good, bad)
    dataset = read_dataset(str(tmp_path), batch=32, features=features, shuffle=shuffle)
    assert_named(error_of(lambda: list(dataset)), tmp_path, said)


@pytest.mark.parametrize(
    ("casts", "good", "bad", "said"),
    [
        ({"n": "uint8"}, {"n": 255}, {"n": -1}, "feature n holds -1, which does not fit uint8"),
        ({"n": "float32"}, {"n": 2**40}, {"n": 2**24 + 1}, "feature n holds 16777217, which does not fit float32"),
        ({"x": "int64"}, {"x": 2.0}, {"x": 1.5}, "feature x holds 1.5, which does not fit int64"),
        ({"x": "int32"}, {"x": -(2.0**31)}, {"x": 2.0**31}, "feature x holds 2147483648.0, which does not fit int32"),
        ({"x": "float16"}, {"x": 0.1}, {"x": 70000.0}, "feature x holds 70000.0, which does not fit float16"),
    ],
)
def test_a_cast_refuses_what_does_not_fit(tmp_path: Path, casts: Any, good: Any, bad: Any, said: str) -> None:
    both: dict[str, Any] = {"n": 0, "x": 0.0}
    write(tmp_path, example_of({**both, **good}), example_of({**both, **bad}))
    error = error_of(lambda: list(read_dataset(str(tmp_path), batch=32, casts=casts)))
    assert_named(error, tmp_path, said)
    assert error is not None
    assert "wider dtype" in error.todo
    skipping = Files((str(tmp_path),), on_error="skip_files")
    assert sum(unit.rows for unit in open_source(skipping, Request(casts=casts)).units) == 2 * RECORDS


def test_also_behind_what_reads_ahead_and_in_a_later_epoch_of_a_shard(tmp_path: Path) -> None:
    features, good, bad, said = CASES["another length"]
    write(tmp_path, good, bad)
    line = (Span(3, 500, 900), Span(4, 0, 1200))
    plan: dict[str, Any] = {"batch": 16, "shards": 2, "shard": 0, "line": line, "shuffle": True, "label": "x"}
    datasets = [read_dataset(str(tmp_path), features=features, **{**plan, "shard": shard}) for shard in range(2)]
    found = []
    for dataset in datasets:
        try:
            list(dataset.map(lambda features, label: (features["pair"] * 2, label)).prefetch(40))
        except tf.errors.InvalidArgumentError as caught:
            found.append(explained(caught))
    assert found
    for error in found:
        assert_named(error, tmp_path, said)


@pytest.mark.parametrize("keras", ["2", "3"])
def test_in_fit(tmp_path: Path, keras: str) -> None:
    if keras == "2":
        from tf_keras import Sequential, layers
    else:
        from keras import Sequential, layers
    features, good, bad, said = CASES["missing"]
    write(tmp_path, good, bad)
    dataset = read_dataset(str(tmp_path), batch=32, features=features, columns=("pair",), label="x").map(
        lambda features, label: (features["pair"], label)
    )
    model = Sequential([layers.Dense(1)])
    model.compile("sgd", "mse")
    assert_named(error_of(lambda: model.fit(dataset, epochs=2, verbose=0)), tmp_path, said)


def test_another_error_is_none_of_it(tmp_path: Path) -> None:
    features, good, bad, _ = CASES["missing"]
    write(tmp_path, good, bad)
    dataset = read_dataset(str(tmp_path), batch=32, features=features)
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        list(dataset.take(1).map(lambda features: tf.reshape(features["x"], [7, 7])))
    assert explained(caught.value) is None


@pytest.mark.parametrize(("on_error", "rows"), [("skip_files", 800), ("skip_row_groups", 1110)])
def test_what_is_to_be_left_out_is_left_out(tmp_path: Path, on_error: Any, rows: int) -> None:
    features, good, bad, said = CASES["another type"]
    write(tmp_path, good, bad)
    opened = open_source(Files((str(tmp_path),), features=features, on_error=on_error), Request())
    assert sum(unit.rows for unit in opened.units) == rows
    (error,) = [*opened.skipped.files.values(), *opened.skipped.units.values()]
    assert_named(error, tmp_path, said)
    reader = Reader(ReadPlan(Files((str(tmp_path),), features=features, on_error=on_error), Request(), Sharding(1, 32)))
    assert reader.rows == rows


def plan_of(folder: str) -> ReadPlan:
    return ReadPlan(Files((folder,), features=EXAMPLES), Request(label="x"), Sharding(1, 20), shuffle=True)


def ps_server(post: Callable[[Any], None]) -> None:
    """A worker or ps, until it is killed."""
    from pipelines.remote import serve_reads

    resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver()
    if resolver.task_type == "worker":
        serve_reads(resolver.task_id, b"secret")
    tf.distribute.Server(resolver.cluster_spec(), job_name=resolver.task_type, task_index=resolver.task_id).join()


def ps_chief(post: Callable[[Any], None], folder: str) -> tuple[str, ...]:
    """The error of a record that a worker has read."""
    from cluster.coordinator import Leases, make_coordinator
    from pipelines.remote import find_mismatch

    resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver()
    leases = Leases("127.0.0.1", b"secret", 2)
    coordinator = make_coordinator(tf.distribute.ParameterServerStrategy(resolver), leases)

    def make() -> tf.data.Dataset:
        return leases.dataset("train", lambda desk: Reader(dataclasses.replace(plan_of(folder), desk=desk)), None)

    @tf.function
    def step(iterator: Any) -> Any:
        return next(iterator)[1]

    iterator = iter(coordinator.create_per_worker_dataset(make))
    try:
        for _ in range(200):
            coordinator.schedule(step, args=(iterator,))
        coordinator.join()
    except tf.errors.InvalidArgumentError as error:
        found = explained(error, lambda: find_mismatch(2))
        return () if found is None else found.args
    return ()


@pytest.fixture
def forge(tmp_path: Path) -> Iterator[Forge]:
    """A process that has imported TensorFlow, from which tasks are forked."""
    (tmp_path / "forge").mkdir()
    forge = Forge("3", tmp_path / "forge")
    yield forge
    forge.close()


def test_on_a_parameter_server_worker(forge: Forge, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    _, good, bad, said = CASES["another type"]
    write(tmp_path / "data", good, bad)
    server: tuple[str, dict[str, Any]] = (f"{HERE}:ps_server", {})
    chief: tuple[str, dict[str, Any]] = (f"{HERE}:ps_chief", {"folder": str(tmp_path / "data")})
    with cluster(forge, {"worker-0": server, "worker-1": server, "ps-0": server, "chief-0": chief}) as crew:
        found = crew.result("chief-0")
    assert_named(DataError(*found), tmp_path / "data", said)
