"""Jobs through Ray's Job API on a head of its own, with its token authentication."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.errors import PreflightError, SubmissionError
from cluster.kube_code import pack, place
from cluster.spec import load
from cluster.submission import submit
from cluster.travelling import added_files, command_of
from tests.ray.conftest import JOBS, wait_until

pytestmark = pytest.mark.timeout(300)

RAY = str(Path(sys.executable).with_name("ray"))
TFCLUSTER = str(Path(sys.executable).with_name("tfcluster"))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def accepts_jobs(trial: list[str], env: dict[str, str]) -> bool:
    """Whether the head runs the job `trial`."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        return subprocess.run(trial, env=env, capture_output=True, timeout=60).returncode == 0
    return False


@pytest.fixture(scope="module")
def head(tmp_path_factory) -> Iterator[dict[str, str]]:
    """Environment variables that reach a Ray head started by `ray start`, which wants a token."""
    home = tmp_path_factory.mktemp("home")
    dashboard = free_port()
    env = {
        **os.environ,
        "HOME": str(home),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_API_SERVER_ADDRESS": f"http://127.0.0.1:{dashboard}",
        "GCS": f"127.0.0.1:{free_port()}",  # for RAY_ADDRESS, which `ray job` would take for the dashboard's
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    env.pop("RAY_ADDRESS", None)
    # A path of its own, short enough for Ray's sockets, so that stopping it stops nothing else.
    temp = tmp_path_factory.mktemp("ray")
    command = [
        RAY,
        "start",
        "--head",
        f"--port={env['GCS'].rpartition(':')[2]}",
        f"--dashboard-port={dashboard}",
        # By default the agents of all Rays of a machine want one port, and jobs hang where another Ray has it.
        f"--dashboard-agent-listen-port={free_port()}",
        "--num-cpus=4",
        "--block",
    ]
    command += ["--node-ip-address=127.0.0.1", "--disable-usage-stats", f"--temp-dir={temp}"]
    process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    for line in process.stdout:
        if "Ray runtime started" in line:
            break
    # The head answers before it has the agent that takes jobs.
    trial = [RAY, "job", "submit", "--", "true"]
    wait_until(lambda: accepts_jobs(trial, env), "no agent takes jobs", 180)
    yield env
    process.terminate()
    process.wait(60)
    process.stdout.close()


@pytest.fixture
def job_folder(tmp_path) -> Path:
    folder = Path(tmp_path, "job")
    folder.mkdir()
    shutil.copy(JOBS / "train.py", folder)
    spec = {"name": "sent", "entrypoint": "train.py:report", "storage": str(tmp_path / "runs"), "warm": False}
    (folder / "job.json").write_text(json.dumps(spec))
    return folder


#: In a process of its own: Ray reads a token once, and this process has another Ray's.
SUBMITTER = """
import sys
from cluster import submit

job = submit(sys.argv[1])
print(job.wait(240), job.exit_code())
print(job.id)
print(job.logs())
"""


def test_submit_wait_status_logs(head, job_folder):
    command = [sys.executable, "-c", SUBMITTER, str(job_folder / "job.json")]
    done = subprocess.run(command, env=head, capture_output=True, text=True, timeout=280)
    assert done.stdout.startswith("SUCCEEDED 0\n"), done.stdout + done.stderr
    assert "hello from worker-0" in done.stdout
    job = done.stdout.splitlines()[1]
    for more in ([], ["--follow"]):
        chosen = [TFCLUSTER, "logs", job, "--task", "worker", "--grep", "^hello", "--json", *more]
        lines = subprocess.run(chosen, env=head, capture_output=True, text=True, timeout=120).stdout
        assert json.loads(lines) == {"tasks": ["worker-0"], "at": None, "level": None, "text": "hello from worker-0"}
    run = next((job_folder.parent / "runs").iterdir())
    assert json.loads((run / "result.json").read_text())["value"]["steps"] == 3
    board = [TFCLUSTER, "tensorboard", job, "--address", head["RAY_API_SERVER_ADDRESS"], "--port", "0"]
    with subprocess.Popen(board, env=head, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline().startswith(f"TensorBoard of {run.name}: http://localhost:")
        process.terminate()
    shutil.rmtree(run)  # as where it is on another machine
    done = subprocess.run(board, env=head, capture_output=True, text=True, timeout=120)
    assert f"cannot be seen from here · {job}: {run} · serve it there (ssh -L" in done.stderr


def test_the_command_submits_follows_and_ends_with_the_jobs_exit_code(head, job_folder):
    spec = json.loads((job_folder / "job.json").read_text()) | {"entrypoint": "train.py:raises"}
    (job_folder / "job.json").write_text(json.dumps(spec))
    command = [TFCLUSTER, "submit", str(job_folder / "job.json"), "--wait"]
    done = subprocess.run(command, env=head, capture_output=True, text=True, timeout=240)
    assert "the moon is in the wrong phase" in done.stdout
    assert done.returncode == 10, done.stdout + done.stderr


def test_ray_job_submit_runs_the_same_launcher_and_stop_ends_it(head, job_folder):
    spec = json.loads((job_folder / "job.json").read_text()) | {"entrypoint": "train.py:waits"}
    (job_folder / "job.json").write_text(json.dumps(spec))
    command = [RAY, "job", "submit", "--no-wait", "--submission-id", "by-hand", "--working-dir", str(job_folder)]
    command += ["--", "tfcluster", "run", "job.json"]
    subprocess.run(command, env=head, check=True, capture_output=True, timeout=120)
    follow = subprocess.Popen(
        [TFCLUSTER, "logs", "by-hand", "--follow", "--address", head["RAY_API_SERVER_ADDRESS"]],
        env=head, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert any("step 1" in line for line in follow.stdout)
    asked = [TFCLUSTER, "profile", "by-hand", "--seconds", "0.5", "--address", head["RAY_API_SERVER_ADDRESS"]]
    traced = subprocess.run(asked, env=head, capture_output=True, text=True, timeout=120)
    assert traced.returncode == 0, traced.stdout + traced.stderr
    assert "tensorboard/plugins/profile/" in traced.stdout
    check_it_is_seen_from_here(head, job_folder)
    stop = [TFCLUSTER, "stop", "by-hand", "--address", head["RAY_API_SERVER_ADDRESS"]]
    assert "stopping" in subprocess.run(stop, env=head, capture_output=True, text=True, timeout=60).stdout
    follow.stdout.read()
    follow.stdout.close()
    follow.wait(60)
    run = next((job_folder.parent / "runs").iterdir())
    assert json.loads((run / "result.json").read_text())["status"] == "interrupted"


def check_it_is_seen_from_here(head, job_folder):
    """Its table and its page, from where its run directory is not; and nothing goes on there for them."""
    where = ["by-hand", "--address", head["RAY_API_SERVER_ADDRESS"]]

    def tfcluster(*words: str) -> str:
        done = subprocess.run([TFCLUSTER, *words], env=head, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert "worker-0  running" in tfcluster("top", *where)
    view = json.loads(tfcluster("top", *where, "--json"))
    assert [task["task"] for task in view["tasks"]] == ["worker-0"]
    assert tfcluster("status", *where).splitlines()[-1] == f"next: tfcluster top {' '.join(where)}"
    page = job_folder / "page.html"
    tfcluster("report", *where, "--output", str(page))
    assert "worker-0" in page.read_text()
    assert page.read_text().endswith("</html>\n")
    listed = subprocess.run([RAY, "job", "list"], env=head, capture_output=True, text=True, timeout=60).stdout
    assert listed.count("status=<JobStatus.RUNNING") == 1, listed


def test_a_packed_folder_runs_as_on_kubernetes(job_folder, tmp_path):
    """What the head of a RayJob runs, on a Ray of its own."""
    job = load(job_folder / "job.json")
    code = place(pack(job_folder, [], added_files(job)), command_of(job), f"file://{tmp_path}/shelf", "")
    command = [TFCLUSTER, *shlex.split(code.entrypoint)[1:], "--json"]
    env = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    done = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert (result["status"], result["value"]["steps"]) == ("succeeded", 3)


def test_without_the_token_the_sentence_says_what_to_set(head, job_folder):
    env = {**head, "RAY_AUTH_TOKEN": "0" * 64}
    command = [TFCLUSTER, "submit", str(job_folder / "job.json")]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == SubmissionError.exit_code
    assert "token" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("change", "todo"),
    [
        ({"RAY_AUTH_MODE": ""}, "if the cluster wants a token: set RAY_AUTH_MODE=token and put it into "),
        ({"RAY_AUTH_TOKEN": "0" * 64}, "if the cluster wants a token: look whether that in RAY_AUTH_TOKEN or "),
        ({"RAY_AUTH_TOKEN": ""}, "no authentication token was found"),
    ],
    ids=["none", "another", "forgotten"],
)
def test_a_run_on_a_cluster_that_wants_a_token_says_what_to_set(head, job_folder, change, todo):
    env = {name: value for name, value in {**head, "RAY_ADDRESS": head["GCS"], **change}.items() if value}
    command = [TFCLUSTER, "run", str(job_folder / "job.json")]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == PreflightError.exit_code
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"error: no Ray cluster answered · RAY_ADDRESS={head['GCS']} · ")
    assert todo in last


def test_no_head_at_the_address(job_folder):
    with pytest.raises(SubmissionError, match="no Ray head answered"):
        submit(job_folder / "job.json", address=f"http://127.0.0.1:{free_port()}")


def test_a_mistake_is_seen_before_anything_is_sent(job_folder):
    spec = json.loads((job_folder / "job.json").read_text()) | {"entrypoint": "train.py:missing"}
    (job_folder / "job.json").write_text(json.dumps(spec))
    with pytest.raises(PreflightError, match="missing"):
        submit(job_folder / "job.json", address=f"http://127.0.0.1:{free_port()}")
