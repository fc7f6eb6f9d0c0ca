"""Jobs that go well: every strategy, both ways in, and what is left in the run directory."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

import pytest
import yaml

from cluster.run_text import run_document, step_text
from cluster.runs import read_run
from tests.simulated_gpu import build

pytestmark = pytest.mark.timeout(240)


def test_a_function_without_tensorflow_leaves_a_whole_run_directory(start):
    job = start(name="small", entrypoint="train.py:report", args={"steps": 4})
    result = job.join()
    assert result.status == "succeeded"
    assert result.exit_code == 0
    assert result.value == {"steps": 4, "role": "worker", "shard": 0, "workers": 1}
    assert result.metrics == {"loss": 0.25}
    assert result.steps == 4
    folder = Path(result.run_dir)
    assert json.loads((folder / "result.json").read_text())["value"]["steps"] == 4
    assert yaml.safe_load((folder / "job.yaml").read_text())["entrypoint"] == "train.py:report"
    assert (folder / "logs" / "worker-0.log").read_text().count("hello from worker-0\n") == 1
    kinds = [json.loads(line)["kind"] for line in (folder / "events.jsonl").read_text().splitlines()]
    assert kinds[0] == "run_started"
    assert kinds[-1] == "run_ended"
    assert step_text(read_run(result.run_dir), 0.0) == "4 of 4"
    assert kinds.index("placed") < kinds.index("task_started") < kinds.index("task_ready") < kinds.index("finished")


def test_tasks_are_forked_from_the_warm_process_or_new_processes_by_spec(start):
    warm = start(entrypoint="train.py:report")
    warm.join()
    assert warm.wait_for("task_started").data["how"] == "forked"
    plain = start(entrypoint="train.py:report", warm=False)
    plain.join()
    assert plain.wait_for("task_started").data["how"] == "spawned"


def test_a_task_sees_the_environment_of_its_role(start, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", '{"stale": true}')
    job = start(entrypoint="train.py:environment", roles={"worker": {"env": {"COLOUR": "blue"}}})
    seen = job.join().value
    assert seen["COLOUR"] == "blue"
    assert seen["TF_CONFIG"] is None  # one task alone needs none, and the launcher's own does not leak in
    assert seen["CUDA_VISIBLE_DEVICES"] == ""
    assert seen["TF_GRPC_REUSE_PORT"] == "true"
    assert seen["cwd"] == str(Path(__file__).parent / "jobs")
    assert seen["own"]["TFCLUSTER_ROLE"] == "worker"
    assert seen["own"]["TFCLUSTER_RUN_DIR"] == job.result.run_dir


def test_gpus_are_those_that_ray_assigned_and_their_use_is_told(start, tmp_path):
    """The driver is simulated, and says of each GPU another thing."""
    gib = 1 << 30
    build(tmp_path, "nvml")
    (tmp_path / "gpus").write_text(f"GPU-aaaa 40 {gib} ok\nGPU-bbbb 80 {2 * gib} ok\n")
    with waiting(tmp_path / "go", 2) as let_go:
        job = start(
            entrypoint="train.py:environment",
            args={"wait": str(tmp_path / "go")},
            strategy="custom",
            roles={"worker": {"replicas": 2, "gpus": 1}},
            success="all_workers",
            runtime_env={
                "env_vars": {"LD_LIBRARY_PATH": str(tmp_path), "SIMULATED_GPUS": str(tmp_path / "gpus")},
            },
        )
        job.wait_for("usage", lambda event: len(event.data["tasks"]) == 2)
        let_go()
        result = job.join()
    device = {str(e.task): e.data["value"]["CUDA_VISIBLE_DEVICES"] for e in job.events if e.kind == "finished"}
    assert sorted(device.values()) == ["0", "1"]
    expected = {task: {"0": (0.4, gib), "1": (0.8, 2 * gib)}[number] for task, number in device.items()}
    told = run_document(read_run(result.run_dir), 0.0)["places"]
    for seen in (*(e.data["tasks"] for e in job.events if e.kind == "usage"), {t: told[t]["usage"] for t in told}):
        assert {task: (use["gpu"], use["gpu_memory"]) for task, use in seen.items()} == expected
    written = json.loads(Path(result.run_dir, "result.json").read_text())
    assert written["usage"]["worker"]["gpu"] == pytest.approx(0.6)
    assert written["usage"]["worker"]["gpu_memory"] == 2 * gib


@contextlib.contextmanager
def waiting(pipe, count):
    """A pipe from which so many tasks read a line each; a function that writes these, which is done at the end too."""
    os.mkfifo(pipe)
    end = os.open(pipe, os.O_RDWR)
    try:
        yield lambda: os.write(end, b"\n" * count)
    finally:
        os.write(end, b"\n" * count)
        os.close(end)


@pytest.mark.parametrize("keras", ["3", "2"])
def test_keras_fit_on_two_workers_equals_one_process(start, keras):
    alone = start(entrypoint="train.py:fit", keras=keras).join()
    job = start(entrypoint="train.py:fit", strategy="multi_worker_mirrored", roles={"worker": 2}, keras=keras)
    both = job.join()
    assert both.value["loss"] == pytest.approx(alone.value["loss"], rel=1e-4)
    assert both.value["kernel"] == pytest.approx(alone.value["kernel"], abs=1e-4)
    assert both.value["epochs"] == [0, 1, 2]
    folder = Path(both.run_dir)
    assert (folder / "checkpoints" / f"ckpt-{both.checkpoint}.index").is_file()
    assert both.checkpoint == 12
    assert (folder / "export" / "model" / "saved_model.pb").is_file()
    assert list(folder.glob("tensorboard/**/events.out.tfevents.*"))
    assert {"loss", "mae"} <= set(both.metrics)
    configs = {str(t.task): t.tf_config for t in job.plan_seen.tasks}
    assert configs["worker-1"]["task"] == {"type": "worker", "index": 1}


def test_mirrored_trains_in_one_process(start):
    assert start(entrypoint="train.py:fit", strategy="mirrored").join().value["epochs"] == [0, 1, 2]


def test_mixed_precision_reaches_the_model(start):
    job = start(entrypoint="train.py:fit", precision="mixed_bfloat16")
    assert job.join().value["epochs"] == [0, 1, 2]


@pytest.mark.parametrize("keras", ["3", "2"])
def test_a_custom_loop_over_parameter_servers(start, keras):
    job = start(
        entrypoint="train.py:coordinate",
        strategy="parameter_server",
        roles={"worker": 2, "ps": 2},
        keras=keras,
    )
    result = job.join()
    assert result.value == {"start": 0, "done": 20}
    assert result.checkpoint == 20
    assert {e.data["total"] for e in job.events if e.kind == "step" and str(e.task) == "chief-0"} == {20}
    assert {"chief-0", "worker-0", "worker-1", "ps-0", "ps-1"} == {
        str(e.task) for e in job.events if e.kind == "task_ready"
    }


def test_an_unmodified_script_runs_under_multi_worker_mirrored(start, tmp_path):
    out = tmp_path / "out.json"
    job = start(
        script=["script.py", "--epochs", "2", "--out", str(out)],
        strategy="multi_worker_mirrored",
        roles={"worker": 2},
    )
    job.join()
    assert json.loads(out.read_text()) == {
        "replicas": 2,
        "argv": ["script.py", "--epochs", "2", "--out", str(out)],
    }


def test_an_unmodified_parameter_server_script(start, tmp_path):
    out = tmp_path / "out.txt"
    job = start(script=["ps_script.py", str(out)], strategy="parameter_server", roles={"worker": 1, "ps": 1})
    job.join()
    assert out.read_text() == "50 use_caller"


def test_a_module_script_with_relative_imports(start, tmp_path):
    out = tmp_path / "out.txt"
    start(script=["-m", "pkg.train", str(out)]).join()
    assert out.read_text() == "pkg __main__ pkg"


def test_the_evaluator_sees_the_last_checkpoint_and_stands_outside_the_cluster(start):
    job = start(
        entrypoint="train.py:evaluated",
        strategy="multi_worker_mirrored",
        roles={"worker": 1, "evaluator": 1},
    )
    result = job.join()
    assert "val_loss" in result.metrics
    evaluated = [e.data["step"] for e in job.events if e.kind == "evaluated"]
    assert evaluated[-1] == result.checkpoint == 8
    configs = {str(t.task): t.tf_config for t in job.plan_seen.tasks}
    assert "evaluator" not in json.dumps(configs["worker-0"])


def test_a_function_object_from_python(ray_address, tmp_path):
    from cluster import JobSpec, run
    from cluster.console import SilentConsole

    factor = 3

    def train(ctx, base):
        return {"value": base * factor}

    result = run(JobSpec(entrypoint=train, args={"base": 14}, storage=str(tmp_path)), observer=SilentConsole())
    assert result.value == {"value": 42}


def test_two_jobs_at_once_on_one_node(start):
    jobs = [
        start(name=name, entrypoint="train.py:fit", strategy="multi_worker_mirrored", roles={"worker": 2})
        for name in ("one", "two")
    ]
    results = [job.join() for job in jobs]
    assert results[0].value["kernel"] == results[1].value["kernel"]
    assert results[0].run_dir != results[1].run_dir
