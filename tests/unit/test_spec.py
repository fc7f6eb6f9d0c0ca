# ruff: noqa: E501 - in the tables a line is a case
"""Specs, good and bad by the dozen, and their JSON Schema."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from cluster.errors import SpecError
from cluster.spec import JobSpec, json_schema, load, parse

SCHEMA = jsonschema.Draft202012Validator(json_schema())
FUNCTION = "entrypoint: train.py:train\n"
PARAMETER_SERVERS = FUNCTION + "strategy: parameter_server\n"
WORKERS = FUNCTION + "strategy: multi_worker_mirrored\n"

GOOD = {
    "traces of some tasks": PARAMETER_SERVERS
    + "roles: {worker: 2, ps: 1, evaluator: 1}\nprofile: {steps: [5, 9], tasks: [chief, worker-1, ps-0, evaluator]}",
    "shortest": FUNCTION,
    "module": "entrypoint: package.train:main",
    "method": "entrypoint: jobs/train.py:Trainer.run",
    "script as one word": "script: train.py",
    "script with numbers": "script: [train.py, --epochs, 3, --lr, 0.1]",
    "script as a module": "script: [-m, package.train, --verbose]",
    "two workers": WORKERS + "roles: {worker: 2}",
    "no workers but a chief": WORKERS + "roles: {chief: 1, worker: 0}",
    "parameter servers": PARAMETER_SERVERS + "roles: {worker: 2, ps: {replicas: 1, cpus: 0.5}, evaluator: 1}",
    "partition": PARAMETER_SERVERS + "roles: {worker: 1, ps: 2}\npartition: {min_size: 256KiB}",
    "custom with ps": "script: [train.py]\nstrategy: custom\nroles: {chief: 1, worker: 1, ps: 1}",
    "keras as a number": FUNCTION + "keras: 3",
    "keras as text": FUNCTION + "keras: '2'",
    "mirrored on GPUs": FUNCTION + "strategy: mirrored\nroles: {worker: {gpus: 4}}",
    "half a GPU": FUNCTION + "roles: {worker: {gpus: 0.5}}",
    "dumps": FUNCTION + "debug: true",
    "dumps of some tensors": FUNCTION + "debug: {mode: FULL_TENSOR, ops: 'MatMul|Relu', buffer: 0}",
    "no dumps": FUNCTION + "debug: false",
    "TensorBoard": FUNCTION + "tensorboard: true",
    "TensorBoard for all": FUNCTION + "tensorboard: {host: 0.0.0.0, port: 6007}",
    "checkpoint by steps": FUNCTION + "checkpoint: {every: 500, keep: 1}",
    "everything": """
        name: flights-1
        entrypoint: train.py:train
        args: {epochs: 3, lr: 0.1, layers: [64, 32], options: {deep: true}}
        prepare: data.py:prepare
        strategy: multi_worker_mirrored
        roles:
          chief: {replicas: 1, gpus: 1}
          worker: {replicas: 3, cpus: 2, gpus: 1, memory: 4GiB, resources: {disk: 1}, env: {A: "1"}, max_restarts: 0}
          evaluator: 1
        placement: strict_spread
        storage: s3://bucket/runs
        data:
          train: {files: [a.parquet, "b/*.parquet"], batch: 128, label: y, columns: [a, b], shuffle: true, seed: 7, engine: tensorflow_io}
          test: {files: test/}
        keras: auto
        precision: mixed_bfloat16
        tensorflow_io: true
        success: all_workers
        checkpoint: {every: epoch}
        failure: {max_restarts: 0, retry_user_errors: true, backoff: 500ms, max_backoff: 1m}
        timeouts: {placement: 10m, startup: 90, hang: 1h30m, evaluator: 1m, stop: 2s}
        warm: false
        log_level: info
        runtime_env: {working_dir: ., env_vars: {B: "2"}}
        """,
}

#: Wrong in one place, so that the JSON Schema refuses it too.
WRONG_IN_PLACE = [
    ("", "the spec is not a mapping of keys to values · NoneType · see tfcluster schema"),
    ("- a", "the spec is not a mapping of keys to values · list"),
    ("train.py:train", "the spec is not a mapping of keys to values · str"),
    ("entrypoint: 3", "entrypoint: should be text or callable (seen: 3; put it in quotes)"),
    ("script: {train.py: 1}", "script: should be a list (seen: {'train.py': 1})"),
    ("script: [train.py, [a]]", "script.1: should be text (seen: ['a'])"),
    (FUNCTION + "args: [1]", "args: should be a mapping of keys to values (seen: [1])"),
    (FUNCTION + "rolls: {worker: 2}", "unknown key rolls; did you mean roles?"),
    (FUNCTION + "elastic: {min_workers: 1}", "unknown key elastic; known: name, entrypoint, script,"),
    (FUNCTION + "roles: {wroker: 2}", "roles.wroker: should be 'chief', 'worker', 'ps' or 'evaluator' (seen: 'wroker'; did you mean worker?)"),
    (FUNCTION + "roles: {worker: {replica: 2}}", "unknown key roles.worker.replica; did you mean replicas?"),
    (FUNCTION + "roles: {worker: {gpu: 1}}", "unknown key roles.worker.gpu; did you mean gpus?"),
    (FUNCTION + "data: {train: {files: a, btach: 3}}", "unknown key data.train.btach; did you mean batch?"),
    (FUNCTION + "data: {train: {files: a, pack: {m: []}}}", "data.train.pack.m: should be 'float32', 'float64',"),
    (FUNCTION + "data: {train: {files: a, pack: {m: floaty}}}", "(seen: 'floaty'; did you mean float64?)"),
    (FUNCTION + "data: {failure: {files: a, fils: b}}", "unknown key data.failure.fils; did you mean files?"),
    (FUNCTION + "failure: {max_restart: 1}", "unknown key failure.max_restart; did you mean max_restarts?"),
    (FUNCTION + "timeouts: {placment: 1m}", "unknown key timeouts.placment; did you mean placement?"),
    (FUNCTION + "checkpoint: {evry: 1}", "unknown key checkpoint.evry; did you mean every?"),
    (FUNCTION + "name: 3", "name: should be text (seen: 3; put it in quotes)"),
    (FUNCTION + "strategy: multi_worker_mirorred", "(seen: 'multi_worker_mirorred'; did you mean multi_worker_mirrored?)"),
    (FUNCTION + "strategy: tpu", "strategy: should be 'none', 'mirrored', 'multi_worker_mirrored', 'parameter_server' or 'custom' (seen: 'tpu')"),
    (FUNCTION + "strategy:", "strategy: should be 'none', 'mirrored',"),
    (FUNCTION + "placement: packed", "placement: should be 'pack', 'spread', 'strict_pack' or 'strict_spread' (seen: 'packed'; did you mean pack?)"),
    (FUNCTION + "keras: 4", "keras: should be 'auto', '2' or '3' (seen: '4')"),
    (FUNCTION + "keras: true", "keras: should be 'auto', '2' or '3' (seen: True)"),
    (FUNCTION + "precision: float16", "precision: should be 'float32', 'mixed_float16' or 'mixed_bfloat16' (seen: 'float16'"),
    (FUNCTION + "log_level: warn", "(seen: 'warn'; did you mean warning?)"),
    (FUNCTION + "success: all", "success: should be 'chief' or 'all_workers' (seen: 'all')"),
    (FUNCTION + "warm: maybe", "warm: should be true or false (seen: 'maybe')"),
    (FUNCTION + "roles: 3", "roles: should be a mapping of keys to values (seen: 3)"),
    (FUNCTION + "roles: [worker]", "roles: should be a mapping of keys to values (seen: ['worker'])"),
    (FUNCTION + "roles: {worker: two}", "roles.worker: should be a number of replicas or a mapping of keys to values (seen: 'two')"),
    (FUNCTION + "roles: {worker: true}", "roles.worker: should be a number of replicas or a mapping of keys to values (seen: True)"),
    (FUNCTION + "roles: {worker: }", "roles.worker: should be a number of replicas or a mapping of keys to values (seen: None)"),
    (FUNCTION + "roles: {worker: -1}", "roles.worker.replicas: should be greater than or equal to 0 (seen: -1)"),
    (FUNCTION + "roles: {worker: {replicas: 1.5}}", "roles.worker.replicas: should be a whole number (seen: 1.5)"),
    (FUNCTION + "roles: {worker: {cpus: -1}}", "roles.worker.cpus: should be greater than or equal to 0 (seen: -1)"),
    (FUNCTION + "roles: {worker: {cpus: lots}}", "roles.worker.cpus: should be a number (seen: 'lots')"),
    (FUNCTION + "roles: {worker: {memory: 4Gx}}", "roles.worker.memory: '4Gx' is not a size; write it like 512MB or 4GiB"),
    (FUNCTION + "roles: {worker: {memory: -5}}", "roles.worker.memory: -5 is not a size"),
    (FUNCTION + "roles: {worker: {env: {A: 1}}}", "roles.worker.env.A: should be text (seen: 1; put it in quotes)"),
    (FUNCTION + "roles: {worker: {resources: {x: -1}}}", "roles.worker.resources.x: should be greater than or equal to 0 (seen: -1)"),
    (FUNCTION + "data: {train: x}", "data.train: should be a mapping of keys to values (seen: 'x')"),
    (FUNCTION + "data: {train: {batch: 3}}", "data.train.files: is required"),
    (FUNCTION + "data: {train: {files: []}}", "data.train.files: should not be empty (seen: [])"),
    (FUNCTION + "data: {train: {files: [3]}}", "data.train.files.0: should be text (seen: 3; put it in quotes)"),
    (FUNCTION + "data: {train: {files: 3}}", "data.train.files: should be text or a list (seen: 3; put it in quotes)"),
    (FUNCTION + "data: {train: {files: a, batch: 0}}", "data.train.batch: should be greater than or equal to 1 (seen: 0)"),
    (FUNCTION + "data: {train: {files: a, columns: b}}", "data.train.columns: should be a list (seen: 'b')"),
    (FUNCTION + "checkpoint: {every: epochs}", "checkpoint.every: should be 'epoch' or a whole number (seen: 'epochs'; did you mean epoch?)"),
    (FUNCTION + "checkpoint: {every: 0}", "checkpoint.every: should be 'epoch' or greater than or equal to 1 (seen: 0)"),
    (FUNCTION + "checkpoint: {keep: 0}", "checkpoint.keep: should be greater than or equal to 1 (seen: 0)"),
    (FUNCTION + "failure: {max_restarts: -1}", "failure.max_restarts: should be greater than or equal to 0 (seen: -1)"),
    (FUNCTION + "timeouts: {hang: 10 min}", "timeouts.hang: '10 min' is not a duration; write it like 30s, 10m or 1h30m"),
    (FUNCTION + "storage: 3", "storage: should be text (seen: 3; put it in quotes)"),
]  # fmt: skip

#: Wrong together with another key, or in words that the JSON Schema does not read.
WRONG_TOGETHER = [
    ("{}", "give either entrypoint or script (seen: neither)"),
    (FUNCTION + "script: [train.py]", "give either entrypoint or script (seen: both)"),
    ("entrypoint: train", "entrypoint 'train' is not path.py:function or package.module:function"),
    ("entrypoint: train.py", "entrypoint 'train.py' is not path.py:function"),
    ("entrypoint: 'train.py:'", "entrypoint 'train.py:' is not path.py:function"),
    ("entrypoint: my-module:train", "entrypoint 'my-module:train' is not path.py:function"),
    ("script: []", "script is empty; write it like [train.py, --epochs, '3']"),
    ("script: ['-m']", "script is empty; write it like [train.py, --epochs, '3']"),
    ("script: train.py\nargs: {a: 1}", "args are an entrypoint's keyword arguments; put a script's arguments into script"),
    (FUNCTION + "args: {1: 2}", "args.1: should be text (seen: 1; put it in quotes)"),
    (FUNCTION + "prepare: prepare.py", "prepare 'prepare.py' is not path.py:function or package.module:function"),
    (FUNCTION + "name: a/b", "name 'a/b' cannot name a directory; use 1 to 63 letters, digits, '-', '_' and '.'"),
    (FUNCTION + "name: ''", "name '' cannot name a directory"),
    (FUNCTION + "name: -a", "name '-a' cannot name a directory"),
    (FUNCTION + "name: " + "a" * 64, "cannot name a directory"),
    (FUNCTION + "roles: {worker: {cpus: .inf}}", "roles.worker.cpus: should be a finite number (seen: inf)"),
    (FUNCTION + "failure: {backoff: 2m}", "failure.max_backoff (60s) is shorter than failure.backoff (120s)"),
    (FUNCTION + "timeouts: {hang: .inf}", "timeouts.hang: should be a finite number (seen: inf)"),
    (FUNCTION + "roles: {ps: 2}", "roles.ps asks for 2 parameter servers, which strategy none would never use; use strategy: parameter_server"),
    (WORKERS + "roles: {worker: 2, ps: 1}", "roles.ps asks for 1 parameter servers, which strategy multi_worker_mirrored would never use"),
    (PARAMETER_SERVERS + "roles: {worker: 2}", "strategy parameter_server needs at least one ps; add roles.ps"),
    (PARAMETER_SERVERS + "roles: {ps: 2}", "strategy parameter_server needs at least one worker; add roles.worker"),
    (PARAMETER_SERVERS + "roles: {chief: 0, worker: 1, ps: 1}", "strategy parameter_server needs its coordinator"),
    (PARAMETER_SERVERS + "roles: {worker: 1, ps: 1}\nsuccess: all_workers", "success: all_workers never comes with parameter servers"),
    (FUNCTION + "data: {d: {files: a, engine: tensorflow_io, on_error: skip_files}}", "data.d.engine: tensorflow_io cannot do on_error: skip_files, for data that cannot be read end its process; use engine: arrow"),
    (FUNCTION + "data: {d: {files: a, engine: tensorflow_io, format: tfrecord}}", "data.d.engine: tensorflow_io reads Parquet only, not TFRecord"),
    (FUNCTION + "data: {d: {files: [a, 's3://b/c'], engine: tensorflow_io}}", "data.d.engine: tensorflow_io reads files of this machine only, not s3://"),
    (WORKERS + "roles: {chief: 2}", "roles.chief.replicas is 2; a job has at most one chief"),
    (WORKERS + "roles: {evaluator: 2}", "roles.evaluator.replicas is 2; a job has at most one evaluator"),
    (FUNCTION + "roles: {worker: 2}", "strategy none trains in one process, but roles ask for 2 training tasks; use strategy: multi_worker_mirrored"),
    (FUNCTION + "strategy: mirrored\nroles: {chief: 1, worker: 1}", "strategy mirrored trains in one process, but roles ask for 2 training tasks"),
    (WORKERS + "roles: {worker: 0}", "no training task: give roles.worker or roles.chief at least one replica"),
    (WORKERS + "roles: {chief: {gpus: 2}, worker: {replicas: 2, gpus: 1}}", "roles.chief.gpus is 2 and roles.worker.gpus is 1; a collective strategy needs the same number of GPUs on every training task"),
    (WORKERS + "roles: {chief: {gpus: 1}, worker: 2}", "roles.chief.gpus is 1 and roles.worker.gpus is 0"),
    (FUNCTION + "roles: {worker: {gpus: 1.5}}", "roles.worker.gpus is 1.5; above 1 it must be a whole number"),
    (FUNCTION + "roles: {worker: {resources: {GPU: 1}}}", "roles.worker.resources.GPU is not a custom resource; use roles.worker.gpus"),
    (FUNCTION + "roles: {worker: {resources: {memory: 1}}}", "roles.worker.resources.memory is not a custom resource; use roles.worker.memory"),
    (FUNCTION + "debug: {ops: '('}", "debug.ops: '(' is no regular expression"),
    (FUNCTION + "debug: {mode: SOME}", "debug.mode"),
    (PARAMETER_SERVERS + "roles: {worker: 1, ps: 1}\ndebug: true", "debug does not work with parameter servers"),
    (FUNCTION + "tensorboard: {port: 70000}", "tensorboard.port"),
    (FUNCTION + "partition: {shards: 2}", "partition splits variables over parameter servers, but strategy is none"),
    (PARAMETER_SERVERS + "roles: {worker: 1, ps: 1}\npartition: {}", "partition: give one of shards, min_size, max_size (seen: none)"),
    (PARAMETER_SERVERS + "roles: {worker: 1, ps: 1}\npartition: {shards: 2, max_size: 1MB}", "partition: give one of shards, min_size, max_size (seen: shards, max_size)"),
    ("script: train.py\nstrategy: parameter_server\nroles: {worker: 1, ps: 1}\npartition: {shards: 2}", "partition cannot reach a script"),
    ("script: train.py\nprofile: {steps: [5, 9]}", "profile cannot reach a script, whose steps nobody counts; call tfcluster profile RUN while it runs"),
    (WORKERS + "roles: {worker: 2}\nprofile: {steps: [5, 9], tasks: [wroker]}", "profile.tasks: this job has no task or role 'wroker'; did you mean worker?"),
    (WORKERS + "roles: {worker: 2}\nprofile: {steps: [5, 9], tasks: [workr-1]}", "no task or role 'workr-1'; did you mean worker-1?"),
    (WORKERS + "roles: {worker: 2, evaluator: 1}\nprofile: {steps: [5, 9], tasks: [worker-2, ps]}", "no task or role 'worker-2'; it has worker-0 to worker-1, evaluator-0\n  - profile.tasks: this job has no task or role 'ps'; it has worker-0"),
    (FUNCTION + "profile: {steps: [5, 9], tasks: [worker-00]}", "no task or role 'worker-00'; it has worker-0"),
    (FUNCTION + "roles: {worker: {env: {CUDA_VISIBLE_DEVICES: '0'}}}", "roles.worker.env.CUDA_VISIBLE_DEVICES is set for each task from the spec; remove it"),
    (FUNCTION + "roles: {worker: {env: {TF_CONFIG: '{\"cluster\": {\"evaluator\": []}}'}}}", "roles.worker.env.TF_CONFIG is set for each task from the spec; remove it; an evaluator in the cluster spec makes the coordinator wait for ever"),
    (FUNCTION + "runtime_env: {env_vars: {TF_USE_LEGACY_KERAS: '1'}}", "runtime_env.env_vars.TF_USE_LEGACY_KERAS is set for each task from the spec; remove it"),
]  # fmt: skip


@pytest.mark.parametrize("text", GOOD.values(), ids=GOOD)
def test_a_good_spec_round_trips_through_yaml_and_json(text: str, tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text(text)
    spec = load(tmp_path / "job.yaml")
    document = spec.to_document()
    (tmp_path / "job.json").write_text(json.dumps(document))
    (tmp_path / "again.yaml").write_text(yaml.safe_dump(document))
    assert load(tmp_path / "job.json") == spec
    assert load(tmp_path / "again.yaml") == spec
    assert load(tmp_path / "job.json").to_document() == document


@pytest.mark.parametrize("text", GOOD.values(), ids=GOOD)
def test_the_json_schema_takes_good_specs(text: str) -> None:
    document = yaml.safe_load(text)
    SCHEMA.validate(document)
    SCHEMA.validate(parse(document).to_document())


@pytest.mark.parametrize(("text", "sentence"), WRONG_IN_PLACE + WRONG_TOGETHER)
def test_a_bad_spec_is_refused_with_its_reason(text: str, sentence: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse(yaml.safe_load(text))
    assert sentence in str(caught.value)
    assert "pydantic" not in str(caught.value)


@pytest.mark.parametrize("text", [text for text, _ in WRONG_IN_PLACE])
def test_the_json_schema_refuses_what_is_wrong_in_one_place(text: str) -> None:
    with pytest.raises(jsonschema.ValidationError):
        SCHEMA.validate(yaml.safe_load(text))


def test_the_json_schema_is_itself_valid_and_documents_every_key() -> None:
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    assert set(schema["properties"]) == set(JobSpec.model_fields)
    sections = {"checkpoint", "failure", "timeouts"}  # models of their own, documented key by key
    assert all(schema["properties"][name].get("description") for name in set(schema["properties"]) - sections)


def test_every_problem_is_named_at_once() -> None:
    with pytest.raises(SpecError) as caught:
        parse({"strategy": "parameter_server", "roles": {"chief": 2}, "name": "a b"}, source="job.yaml")
    text = str(caught.value)
    assert text.startswith("the spec has 5 problems · job.yaml")
    for part in ("give either entrypoint", "at most one chief", "one ps", "one worker", "cannot name a directory"):
        assert part in text


def test_contradictions_are_named_beside_keys_that_are_wrong_by_themselves() -> None:
    with pytest.raises(SpecError) as caught:
        parse({
            "script": "train.py",
            "args": {"epochs": 3},
            "strategy": "parameter_server",
            "roles": {"worker": {"cpus": "many"}},  # so nothing can be said of how many parameter servers there are
            "success": "all_workers",
            "failure": {"backoff": "soon"},
            "name": "a b",
        })  # fmt: skip
    lines = str(caught.value).splitlines()
    assert lines[0].startswith("the spec has 5 problems")
    parts = (
        "roles.worker.cpus: should be a number",
        "failure.backoff: 'soon' is",
        "args are",
        "all_workers",
        "name 'a b'",
    )
    assert [part for part in parts if sum(part in line for line in lines) != 1] == []


@pytest.mark.parametrize(
    "document",
    [
        {"entrypont": "train.py:train"},  # stands for entrypoint: not a spec without one
        {"entrypoint": 3},
        {"entrypoint": "a.py:f", "strategy": "parameter_server", "rolls": {"worker": 1, "ps": 1}},
        {"entrypoint": "a.py:f", "strategy": "parameter_server", "roles": {"worker": "two", "ps": "one"}},
        {"entrypoint": "a.py:f", "strategy": "paramter_server", "roles": {"worker": 1, "ps": 1}},
    ],
)
def test_a_wrong_key_is_not_taken_for_one_that_is_absent(document: dict[str, Any]) -> None:
    with pytest.raises(SpecError) as caught:
        parse(document)
    for part in ("give either", "at least one", "would never use"):
        assert part not in str(caught.value)


def test_unknown_keys_in_several_places_are_named_at_once() -> None:
    with pytest.raises(SpecError) as caught:
        parse({"entrypoin": "a.py:f", "roles": {"worker": {"cpu": 1}}, "failure": {"retries": 1}})
    text = str(caught.value)
    assert "unknown key entrypoin; did you mean entrypoint?" in text
    assert "unknown key roles.worker.cpu; did you mean cpus?" in text
    assert "unknown key failure.retries; known: max_restarts" in text


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("job.yaml", "entrypoint: [", r"the spec is not valid YAML · .*job\.yaml"),
        ("job.json", "{'entrypoint': 1}", r"the spec is not valid JSON · .*job\.json"),
        ("job.yaml", "\x00", r"the spec is not valid YAML"),
        ("job.yaml", b"\xff\xfe\xfa", r"cannot read the spec · .*job\.yaml"),
    ],
)
def test_an_unreadable_file(tmp_path: Path, name: str, content: str | bytes, sentence: str) -> None:
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(SpecError, match=sentence):
        load(tmp_path / name)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"cannot read the spec · .*nothing\.yaml · .*No such file"):
        load(tmp_path / "nothing.yaml")


def train(ctx: object) -> None:
    """An entrypoint."""


def test_a_spec_is_made_of_a_path_a_mapping_or_a_spec(tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text(FUNCTION)
    spec = JobSpec.of(str(tmp_path / "job.yaml"))
    assert JobSpec.of(tmp_path / "job.yaml") == spec
    assert JobSpec.of({"entrypoint": "train.py:train"}) == spec
    assert JobSpec.of(spec) is spec


def test_python_may_give_the_function_itself() -> None:
    spec = JobSpec.of({"entrypoint": train, "roles": {"worker": 1}})
    assert spec.entrypoint is train
    assert spec.to_document()["entrypoint"] == f"{__name__}:train"


@pytest.mark.parametrize("value", [Path("a"), {1, 2}, partial(train, 1), 3 + 4j])
def test_args_that_json_cannot_hold_are_written_as_text(value: object) -> None:
    spec = JobSpec.of({"entrypoint": train, "args": {"value": value}})
    assert spec.args["value"] == value
    assert json.loads(json.dumps(spec.to_document()))["args"] == {"value": str(value)}


def test_a_spec_is_frozen() -> None:
    spec = parse(yaml.safe_load(FUNCTION))
    with pytest.raises(ValidationError, match="frozen"):
        spec.name = "other"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("text", "counts"),
    [
        (FUNCTION, {"chief": 0, "worker": 1, "ps": 0, "evaluator": 0}),
        (FUNCTION + "roles: {evaluator: 1}", {"chief": 0, "worker": 1, "ps": 0, "evaluator": 1}),
        (FUNCTION + "roles: {chief: 1}", {"chief": 1, "worker": 0, "ps": 0, "evaluator": 0}),
        (WORKERS + "roles: {worker: 3}", {"chief": 0, "worker": 3, "ps": 0, "evaluator": 0}),
        (PARAMETER_SERVERS + "roles: {worker: 2, ps: 1}", {"chief": 1, "worker": 2, "ps": 1, "evaluator": 0}),
    ],
)
def test_implied_tasks(text: str, counts: dict[str, int]) -> None:
    spec = parse(yaml.safe_load(text))
    roles: Any = counts
    assert {role: spec.replicas(role) for role in roles} == counts


@given(
    st.dictionaries(
        st.sampled_from([*JobSpec.model_fields, "rolls", "extra"]),
        st.one_of(
            st.none(),
            st.integers(-2, 3),
            st.text(max_size=3),
            st.lists(st.integers(0, 2), max_size=2),
            st.dictionaries(
                st.sampled_from(["worker", "ps", "every", "files", "hang"]), st.integers(-1, 3), max_size=2
            ),
        ),
        max_size=4,
    )
)
def test_any_document_gives_a_spec_or_one_spec_error(document: dict[str, Any]) -> None:
    try:
        spec = parse(document)
    except SpecError:  # and nothing else
        return
    SCHEMA.validate(document)
    assert parse(spec.to_document()) == spec
