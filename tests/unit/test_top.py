"""`tfcluster top`: the table as text, on a terminal of any height, for a thousand tasks; keys; what ends it."""

from __future__ import annotations

import io
import os
import pty
import signal
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import pytest
from rich.console import Console as RichConsole

from cluster import top
from cluster.errors import RunNotFoundError
from cluster.events import Event
from cluster.runs import started_at
from cluster.storage import RunDirectory
from cluster.tasks import Task
from cluster.watched import Watched

GiB = 1 << 30
FIRST, SECOND, PS = Task("worker", 0), Task("worker", 1), Task("ps", 0)


class Written:
    """A run directory that a test writes, as the launcher does; this process plays the launcher."""

    def __init__(self, folder: Path) -> None:
        self.uri = str(folder / "flights-1")
        self._directory = RunDirectory(self.uri)
        self._directory.create()

    def add(self, *events: Event) -> None:
        for event in events:
            self._directory.append("events.jsonl", event.to_line())

    def start(self, *tasks: Task, pid: int | None = None, host: str = "") -> None:
        pid = pid or os.getpid()
        about = {"pid": pid, "pid_started": started_at(pid), "hostname": host or os.uname().nodename}
        nodes = {str(task): f"10.0.0.{task.index % 250}" for task in tasks}
        self.add(
            Event("run_started", data=about, at=1000.0),
            Event("attempt_started", 1, at=1000.0),
            Event("placed", 1, data={"nodes": nodes}, at=1001.0),
            *(Event("task_ready", 1, task, at=1002.0) for task in tasks),
        )


@pytest.fixture
def written(tmp_path: Path) -> Written:
    return Written(tmp_path)


def looked(written: Written, now: float = 1030.0) -> Watched:
    watched = Watched(written.uri, clock=lambda: now)
    watched.look()
    return watched


def text(written: Written, now: float = 1030.0) -> list[str]:
    return looked(written, now).view().text().splitlines()


def step(number: int, at: float, task: Task = FIRST) -> Event:
    data = {"step": number, "metrics": {"loss": 0.25}, "epoch": 1, "epochs": 2, "steps": 100}
    return Event("step", 1, task, data, at)


def screen(watched: Watched, height: int = 30, first: int = 0, wrong: str = "", width: int = 120) -> list[str]:
    console = RichConsole(file=io.StringIO(), force_terminal=True, width=width, height=height, record=True)
    console.print(top.drawn(watched.view(), console.size, first, wrong))
    return [line.rstrip() for line in console.export_text().splitlines()]


# What is shown


def test_the_whole_table_as_text(written: Written) -> None:
    written.start(FIRST, SECOND, PS, host="elsewhere")
    written.add(
        step(10, 1010.0),
        step(8, 1010.0, SECOND),
        step(60, 1020.0),
        Event("usage", 1, at=1020.0, data={"tasks": {
            "worker-0": {"cpus": 1.54, "memory": 2 * GiB, "gpu": 0.5, "gpu_memory": 8 * GiB},
            "ps-0": {"cpus": 0.25, "memory": GiB, "gpu_memory": GiB},
        }}),
        Event("lost", 1, SECOND, {"reason": "its process was ended by SIGKILL"}, 1021.0),
        Event("checkpoint", 1, FIRST, {"step": 50}, 1022.0),
    )  # fmt: skip
    assert text(written) == [
        written.uri,
        "running · 22.0s · epoch 1/2 · step 60 · 5 steps/s · 28.0s left · loss 0.25 · checkpoint 50",
        "worker 1 lost, 1 running · ps 1 running",
        "",
        "task      state    step  steps/s  cpu   memory          gpu  node",
        "worker-1  lost        8                                      10.0.0.1",
        "worker-0  running    60        5  1.5  2.0 GiB  50% 8.0 GiB  10.0.0.0",
        "ps-0      running                 0.2  1.0 GiB      1.0 GiB  10.0.0.0",
    ]


def test_of_a_script_no_steps_are_told(written: Written) -> None:
    written.start(FIRST)
    assert text(written)[1] == "running · 30.0s"


def test_a_run_that_has_told_nothing(written: Written) -> None:
    written.add()
    Path(written.uri, "events.jsonl").touch()
    assert text(written)[1] == "nothing is known yet: it has told nothing"


def test_a_run_that_is_over_took_as_long_as_its_result_tells(written: Written) -> None:
    written.start(FIRST)
    written.add(Event("run_ended", 1, data={"status": "succeeded"}, at=1011.6))
    assert text(written)[1] == "succeeded · 11.6s"
    Path(written.uri, "result.json").write_text('{"status": "succeeded", "seconds": 20.4}')
    assert text(written)[1] == "succeeded · 20.4s"


def test_a_loop_of_ones_own_has_a_bar(written: Written) -> None:
    written.start(FIRST)
    for number, at in ((0, 1010.0), (240, 1034.0)):
        written.add(Event("step", 1, FIRST, {"step": number, "metrics": {}, "total": 320}, at))
    watched = looked(written, 1034.0)
    assert watched.view().progress == "running · 34.0s · step 240 of 320 · 10 steps/s · 8.0s left"
    assert watched.view().to_document()["total"] == 320
    bar = screen(watched)[3]
    assert bar.count("━") + bar.count("╸") > 80


def test_columns_that_nobody_fills_are_left_out(written: Written) -> None:
    written.start(FIRST, host="elsewhere")
    lines = text(written)[4:]
    assert lines == ["task      state    step  node", "worker-0  running        10.0.0.0"]


def test_restarts_are_shown(written: Written) -> None:
    written.start(FIRST, PS, host="elsewhere")
    written.add(Event("restarting", 1, FIRST, {"reason": "lost"}), Event("task_ready", 1, FIRST))
    assert "restarts" in text(written)[4]
    assert "worker 1 running · ps 1 running · 1 restart" in text(written)


def test_before_tasks_are_placed_those_of_the_spec_are_shown(written: Written, tmp_path: Path) -> None:
    spec = "entrypoint: train.py:train\nstrategy: parameter_server\nroles: {worker: 2, ps: 1}\n"
    Path(written.uri, "job.yaml").write_text(spec)
    written.add(Event("run_started", data={"hostname": "elsewhere"}), Event("attempt_started", 1))
    assert "chief 1 waiting · worker 2 waiting · ps 1 waiting" in text(written)


def test_a_terminal_shows_the_same_and_the_keys(written: Written) -> None:
    written.start(FIRST, SECOND, host="elsewhere")
    written.add(step(10, 1010.0), step(60, 1020.0))
    lines = screen(looked(written))
    assert lines[1].startswith("running · 20.0s · epoch 1/2 · step 60")
    assert "━" in lines[3]  # the bar
    assert lines[4].split() == ["task", "state", "step", "steps/s", "node"]
    assert lines[5].split() == ["worker-0", "running", "60", "5", "10.0.0.0"]
    assert lines[-1] == "q ends"


@pytest.mark.parametrize(
    ("width", "progress"),
    [
        (60, "running · 20.0s · epoch 1/2 · step 60 · 5 steps/s …"),
        (80, "running · 20.0s · epoch 1/2 · step 60 · 5 steps/s · 28.0s left · loss 0.25 …"),
        (100, "running · 20.0s · epoch 1/2 · step 60 · 5 steps/s · 28.0s left · loss 0.25 · accuracy 0.75 …"),
    ],
)
def test_on_a_narrow_terminal_metrics_go_first(written: Written, width: int, progress: str) -> None:
    written.start(FIRST, host="elsewhere")
    for event in (step(10, 1010.0), step(60, 1020.0)):
        event.data["metrics"].update(accuracy=0.75, top_5=0.875)
        written.add(event)
    lines = screen(looked(written), width=width)
    assert lines[1] == progress
    assert all(len(line) <= width for line in lines)


def test_what_went_wrong_with_the_storage_is_shown(written: Written) -> None:
    written.start(FIRST, host="elsewhere")
    assert screen(looked(written), wrong="the storage does not answer")[-1] == "the storage does not answer"


@pytest.mark.parametrize("height", [1, 8, 24, 60])
def test_a_screen_is_never_taller_than_the_terminal(written: Written, height: int) -> None:
    written.start(*(Task("worker", index) for index in range(100)), host="elsewhere")
    watched = looked(written)
    assert len(screen(watched, height)) <= max(height, 7)
    assert len(screen(watched, height, first=99)) <= max(height, 7)


def test_a_thousand_tasks(written: Written) -> None:
    tasks = [Task("worker", index) for index in range(1000)]
    written.start(*tasks, host="elsewhere")
    written.add(*(step(number, 1000.0 + number, task) for number in range(1, 6) for task in tasks))
    written.add(Event("lost", 1, tasks[777], {"reason": "its node was lost"}))
    begun = time.process_time()
    watched = looked(written)
    lines = screen(watched, height=40)
    spent = time.process_time() - begun
    assert lines[2] == "worker 1 lost, 999 running"
    assert lines[5].startswith("worker-777")
    assert lines[-1] == "tasks 1 to 34 of 1000 · space, b: next, previous · q ends"
    assert len(watched.view().text().splitlines()) == 1005
    assert spent < 5  # 7,000 events; drawing anew reads none of them again
    begun = time.process_time()
    watched.look()
    screen(watched, height=40, first=500)
    assert time.process_time() - begun < 0.5


def test_a_launcher_elsewhere_that_is_silent_may_be_gone(written: Written) -> None:
    written.start(FIRST, host="elsewhere")
    written.add(step(10, 1010.0))
    assert not any("may be gone" in line for line in text(written, 1300.0))
    late = looked(written, 1010.0 + 3 * 3600)
    told = "no word for 3h00m, its launcher on elsewhere may be gone"
    assert late.view().text().splitlines()[3] == told
    assert screen(late)[3] == told
    assert not late.view().over  # it may come back, or its storage


# When it is over


def test_a_run_whose_launcher_is_gone_is_lost(written: Written) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as launcher:
        written.start(FIRST, pid=launcher.pid)
        watched = looked(written)
        before = watched.view().over
    watched.look()
    assert (before, watched.view().over) == (False, True)
    assert watched.view().progress.startswith("lost · ")


def test_the_events_of_a_long_run_are_not_kept_in_memory(written: Written) -> None:
    written.start(FIRST, host="elsewhere")
    line = step(10, 1010.0).to_line()
    with open(Path(written.uri, "events.jsonl"), "a") as file:
        file.write(line * (24_000_000 // len(line)))
    tracemalloc.start()
    try:
        looked(written)
        assert tracemalloc.get_traced_memory()[1] < 20 << 20
    finally:
        tracemalloc.stop()


def test_no_run_directory(tmp_path: Path) -> None:
    with pytest.raises(RunNotFoundError, match=r"it has no events\.jsonl"):
        Watched(str(tmp_path))


# The command, on a terminal of its own


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "cluster", "top", *words]


def test_without_a_terminal_it_is_text_once(written: Written) -> None:
    written.start(FIRST)
    done = subprocess.run(command(written.uri), capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL)
    assert "worker-0  running" in done.stdout
    assert "\x1b" not in done.stdout


def test_a_run_that_has_ended_is_text_once_on_a_terminal_too(written: Written) -> None:
    written.start(FIRST)
    written.add(Event("run_ended", 1, data={"status": "succeeded", "exit_code": 0}))
    terminal = Terminal(written.uri)
    assert terminal.end() == 0
    assert "worker-0  stopped" in terminal.seen
    assert "\x1b[?1049h" not in terminal.seen


class Terminal:
    """A terminal in which `tfcluster top` runs."""

    def __init__(self, uri: str) -> None:
        self.outside, inside = pty.openpty()
        env = {**os.environ, "TERM": "xterm", "COLUMNS": "100", "LINES": "20"}
        self.process = subprocess.Popen(command(uri), stdin=inside, stdout=inside, stderr=inside, env=env)
        os.close(inside)
        self.seen = ""

    def wait_for(self, text: str) -> None:
        while text not in self.seen:
            self.seen += os.read(self.outside, 1 << 16).decode(errors="replace")

    def press(self, key: str) -> None:
        os.write(self.outside, key.encode())

    def end(self) -> int:
        try:
            while data := os.read(self.outside, 1 << 16):
                self.seen += data.decode(errors="replace")
        except OSError:  # how Linux says that nobody has the other side open
            pass
        os.close(self.outside)
        return self.process.wait(20)


def test_keys_on_a_terminal(written: Written) -> None:
    written.start(*(Task("worker", index) for index in range(100)))
    terminal = Terminal(written.uri)
    terminal.wait_for("tasks 1 to 14 of 100")
    terminal.press(" ")
    terminal.wait_for("tasks 15 to 28 of 100")
    terminal.press("\x1b[A")
    terminal.wait_for("tasks 14 to 27 of 100")
    written.add(Event("lost", 1, Task("worker", 3), {"reason": "SIGKILL"}))
    terminal.wait_for("worker 1 lost, 99 running")  # by itself
    terminal.press("q")
    assert terminal.end() == 0
    assert terminal.seen.rindex("\x1b[?1049l") > terminal.seen.index("\x1b[?1049h")  # the screen from before is back
    assert terminal.seen.rindex("running · ") > terminal.seen.rindex("\x1b[?1049l")  # how it was at last stays


@pytest.mark.parametrize("end", ["ctrl-c", "run"])
def test_it_ends_with_the_run_or_by_ctrl_c(written: Written, end: str) -> None:
    written.start(FIRST)
    terminal = Terminal(written.uri)
    terminal.wait_for("q ends")
    if end == "ctrl-c":
        terminal.process.send_signal(signal.SIGINT)
    else:
        written.add(Event("run_ended", 1, data={"status": "succeeded", "exit_code": 0}))
    assert terminal.end() == 0
    assert ("succeeded" in terminal.seen) == (end == "run")
