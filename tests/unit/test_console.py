"""What a person sees of a run: sentences, progress and logs, on a terminal and without one; never a secret."""

from __future__ import annotations

import contextlib
import io
import os
import re
import subprocess
import sys
from typing import Any, get_args

import pytest
from rich.console import Console as RichConsole

from cluster import console
from cluster.console import (
    Bar,
    LiveConsole,
    NotebookConsole,
    PlainConsole,
    SilentConsole,
    fitted,
    line_pause,
    make_console,
    sentence,
    summary,
)
from cluster.events import Event, Kind
from cluster.plan import Facts, Finding, Plan, make_plan
from cluster.spec import parse
from cluster.tasks import Task

FIRST, SECOND, PS, EVALUATOR = Task("worker", 0), Task("worker", 1), Task("ps", 0), Task("evaluator", 0)
SECRET = "hush-hush"


def plan(*code: Finding) -> Plan:
    spec = parse(
        {
            "name": "flights",
            "entrypoint": "train.py:train",
            "strategy": "multi_worker_mirrored",
            "roles": {"worker": {"replicas": 2, "env": {"TOKEN": SECRET}}, "evaluator": {"env": {"TOKEN": SECRET}}},
            "storage": f"s3://key:{SECRET}@bucket/runs",
            "runtime_env": {"env_vars": {"TOKEN": SECRET}},
        }
    )
    return make_plan(spec, [], Facts(code=code))


def moved(step: int, task: Task = FIRST, **more: Any) -> Event:
    data = {"step": step, "metrics": {"loss": 1 / step}, "epoch": 1, "epochs": 2, "steps": 50}
    return Event("step", 1, task, {**data, **more})


RUN: list[Event | tuple[Task, str]] = [
    Event("run_started", data={"run_dir": f"s3://key:{SECRET}@bucket/runs/flights-1", "pid": 7}),
    Event("attempt_started", 1),
    Event("notice", 1, data={"text": "waiting for resources: CPU needed 8, available 2 of 4"}),
    Event("placed", 1, data={"nodes": {"worker-0": "10.0.0.1", "worker-1": "10.0.0.2"}, "supervisors": {}}),
    Event("task_started", 1, FIRST, {"pid": 8, "how": "forked", "reason": ""}),
    Event("task_started", 1, SECOND, {"pid": 9, "how": "spawned", "reason": "a GPU is open in the warm process"}),
    Event("task_ready", 1, FIRST),
    (FIRST, "hello\nworld [1/2] :warning:"),
    moved(10),
    moved(11),
    moved(11, SECOND),
    moved(50, epoch_done=True),
    Event("checkpoint", 1, FIRST, {"step": 50}),
    Event("evaluated", 1, EVALUATOR, {"step": 50, "metrics": {"mae": 12.3456789}}),
    Event("lost", 1, SECOND, {"reason": "its process was ended by SIGKILL"}),
    Event("failed", 1, FIRST, {"type": "UnavailableError", "message": "connection reset", "peer": True}),
    Event("restarting", 2, data={"after": 1.0}),
    Event("attempt_started", 2),
    Event("restarting", 3, data={"after": 0.0}),
    Event("restarting", 2, EVALUATOR, {"reason": "its process was ended by SIGKILL"}),
    Event("hang", 2, data={"tasks": ["worker-0", "worker-1"]}),
    (SECOND, "Traceback …"),
    Event("failed", 2, SECOND, {"type": "ValueError", "message": "too large", "traceback": "Traceback …"}),
    Event("interrupted", 2, data={"reason": "Ctrl-C"}),
    Event("run_ended", 2, data={"status": "failed", "exit_code": 10}),
]
EXPECTED = [
    "flights: strategy multi_worker_mirrored · 2 worker, 1 evaluator",
    plan().keras.reason,
    "run directory: s3://key:***@bucket/runs/flights-1",
    "placing tasks",
    "waiting for resources: CPU needed 8, available 2 of 4",
    "placed worker-0 on 10.0.0.1, worker-1 on 10.0.0.2",
    "worker-1: a plain process instead of a fork: a GPU is open in the warm process",
    "[worker-0] hello",
    "[worker-0] world [1/2] :warning:",
    "epoch 1/2 · step 10 · loss 0.1",
    "epoch 1/2 · step 50 · RATE steps/s · loss 0.02",
    "checkpoint 50 saved",
    "checkpoint 50 evaluated · mae 12.35",
    "worker-1 lost: its process was ended by SIGKILL",
    "worker-0 lost the connection to another task: UnavailableError: connection reset",
    "restarting everything in 1.0s",
    "attempt 2: placing tasks",
    "restarting everything at once",
    "restarting evaluator-0 in its place",
    "no step in time from worker-0, worker-1",
    "[worker-1] Traceback …",
    "worker-1 failed: ValueError: too large",
    "stopping: Ctrl-C",
]


def show(shown: PlainConsole | LiveConsole | SilentConsole) -> None:
    shown.plan(plan())
    for part in RUN:
        if isinstance(part, Event):
            shown.event(part)
        else:
            shown.log(*part)


def tidy(line: str) -> str:
    """A line without its time of day and the speed of this machine."""
    return re.sub(r"[\d.e+]+ steps/s", "RATE steps/s", re.sub(r"^\d\d:\d\d:\d\d ", "", line)).rstrip()


# Without a terminal


def test_a_whole_run_as_plain_lines() -> None:
    stream = io.StringIO()
    show(PlainConsole(stream))
    lines = stream.getvalue().splitlines()
    findings = [line for line in map(tidy, lines) if line.startswith(("note: ", "warning: ", "error: "))]
    assert [tidy(line) for line in lines if tidy(line) not in findings] == EXPECTED


def test_without_the_tasks_output() -> None:
    stream = io.StringIO()
    show(PlainConsole(stream, logs=False))
    assert "[worker-" not in stream.getvalue()
    assert "placed worker-0" in stream.getvalue()


def test_progress_is_told_now_and_then_and_at_each_epochs_end() -> None:
    stream = io.StringIO()
    plain = PlainConsole(stream)
    plain.plan(plan())
    for step in range(1, 200):
        plain.event(moved(step, epoch_done=step % 50 == 0))
    told = re.findall(r"step (\d+)", stream.getvalue())
    assert told == ["1", "50", "100", "150"]


def test_a_line_of_progress_tells_of_tasks_in_trouble_and_of_restarts() -> None:
    stream = io.StringIO()
    plain = PlainConsole(stream)
    plain.plan(plan())
    for event in (moved(10), Event("lost", 1, SECOND, {"reason": "SIGKILL"}), moved(50, epoch_done=True)):
        plain.event(event)
    assert " · worker 1 lost, 1 waiting · evaluator 1 waiting" in stream.getvalue().splitlines()[-1]
    for event in (Event("attempt_started", 2), moved(60, epoch_done=True)):
        plain.event(event)
    assert stream.getvalue().splitlines()[-1].endswith(" · worker 2 waiting · evaluator 1 waiting · 1 restart")


def test_only_the_leader_tells_progress() -> None:
    stream = io.StringIO()
    plain = PlainConsole(stream)
    plain.plan(plan())
    before = stream.getvalue()
    plain.event(moved(5, SECOND))
    assert stream.getvalue() == before


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_a_stream_that_cannot_write_every_letter(encoding: str) -> None:
    buffer = io.BytesIO()
    plain = PlainConsole(io.TextIOWrapper(buffer, encoding=encoding))
    plain.log(FIRST, "日本 ok")
    plain.log(FIRST, "half \ud83d a pair")
    text = buffer.getvalue().decode(encoding)
    assert text.splitlines()[0] == ("[worker-0] 日本 ok" if encoding == "utf-8" else "[worker-0] ?? ok")
    assert text.splitlines()[1] == "[worker-0] half ? a pair"


def test_lines_appear_at_once() -> None:
    buffer = io.BytesIO()
    plain = PlainConsole(io.TextIOWrapper(buffer, encoding="utf-8", line_buffering=False))
    plain.event(Event("notice", data={"text": "hello"}))
    assert buffer.getvalue().endswith(b" hello\n")
    plain.log(FIRST, "world")
    assert buffer.getvalue().endswith(b"[worker-0] world\n")


# On a terminal


def terminal(width: int = 100) -> RichConsole:
    return RichConsole(
        file=io.StringIO(), record=True, force_terminal=True, width=width, height=25, color_system="standard"
    )


def test_a_whole_run_on_a_terminal() -> None:
    screen = terminal()
    show(LiveConsole(screen))
    text = screen.export_text()
    place = 0
    for line in EXPECTED:
        if " · step " not in line:  # the bar tells that
            line = re.sub(r"^\[(worker-\d)\]", r"\1", line)
            place = text.index(line, place) + len(line)


def test_the_bar_shows_the_leaders_progress_and_below_it_all_tasks() -> None:
    screen = terminal()
    live = LiveConsole(screen)
    live.plan(plan())
    for event in (moved(10), moved(30), moved(99, SECOND), Event("lost", 1, SECOND, {"reason": "SIGKILL"})):
        live.event(event)
    live.event(Event("run_ended"))
    bar, states = screen.export_text().splitlines()[-2:]
    assert "epoch 1/2 · step 30 · RATE steps/s · loss 0.03333" in tidy(bar)
    assert " 30%" in bar  # of 2 epochs of 50 steps
    assert "step 99" not in bar
    assert states.rstrip() == "worker 1 lost, 1 stopped · evaluator 1 stopped"


@pytest.mark.parametrize(
    ("width", "text"),
    [
        (40, "epoch 1/3 · step 290 …"),
        (60, "epoch 1/3 · step 290 · 100 steps/s · 3.1s left …"),
        (80, "epoch 1/3 · step 290 · 100 steps/s · 3.1s left · loss 261.2 …"),
        (100, "epoch 1/3 · step 290 · 100 steps/s · 3.1s left · loss 261.2 · mae 11.62 · größe 16.16"),
    ],
)
def test_on_a_narrow_terminal_bar_and_percentage_stay_and_metrics_go(width: int, text: str) -> None:
    screen = terminal(width)
    live = LiveConsole(screen)
    live.plan(plan())
    for number in range(250, 300, 10):
        metrics = {"loss": 261.2, "mae": 11.62, "größe": 16.16}
        data = {"step": number, "metrics": metrics, "epoch": 1, "epochs": 3, "steps": 200}
        live.event(Event("step", 1, FIRST, data, 1000.0 + number / 100))
    live.event(Event("run_ended"))
    bar = re.split("waiting|stopped", screen.export_text().splitlines()[-2])[-1].rstrip()  # drawn over the states
    assert re.fullmatch(f"{text} ━[━╸╺]+  48%", bar), bar
    assert len(bar) <= width


@pytest.mark.parametrize(
    ("room", "text"),
    [(20, "one · two · three"), (17, "one · two · three"), (16, "one · two …"), (8, "one …"), (4, "one…"), (3, "on…")],
)
def test_as_many_parts_as_fit(room: int, text: str) -> None:
    assert fitted("one · two · three", room) == text


def test_before_the_first_step_the_bar_says_what_the_job_waits_for() -> None:
    screen = terminal()
    live = LiveConsole(screen)
    live.plan(plan())
    for event in RUN[1:4]:
        assert isinstance(event, Event)
        live.event(event)
    live.event(Event("run_ended"))
    bar, states = screen.export_text().splitlines()[-2:]
    assert "starting ━" in bar
    assert states.rstrip() == "worker 2 stopped"  # with the run


@pytest.mark.parametrize(("term", "kind"), [("dumb", "PlainConsole"), ("xterm", "LiveConsole")])
def test_a_terminal_without_a_cursor_gets_lines(term: str, kind: str) -> None:
    outside, inside = os.openpty()
    code = "from cluster.console import make_console; print(type(make_console()).__name__)"
    subprocess.run([sys.executable, "-c", code], stdout=inside, env={**os.environ, "TERM": term}, check=True)
    assert os.read(outside, 100).decode().strip() == kind
    os.close(inside)
    os.close(outside)


# In a notebook


class Cell:
    """The outputs of a cell: `display` adds one, its handle's `update` puts another in its place."""

    def __init__(self) -> None:
        self.outputs: list[Bar] = []

    def display(self, bar: Bar) -> Cell:
        self.outputs.append(bar)
        return self

    def update(self, bar: Bar) -> None:
        self.outputs[-1] = bar


def test_a_notebook_shows_lines_and_one_bar() -> None:
    stream, cell = io.StringIO(), Cell()
    show(NotebookConsole(stream, cell.display))
    lines = [tidy(line) for line in stream.getvalue().splitlines()]
    assert [line for line in lines if not line.startswith("note: ")] == [x for x in EXPECTED if " · step " not in x]
    (bar,) = cell.outputs
    assert (bar.step, bar.total) == (50, 100)
    assert tidy(repr(bar)) == "epoch 1/2 · step 50 · loss 0.02"
    assert '<progress value="50" max="100">' in bar._repr_html_()
    assert "<br>worker 1 failed, 1 stopped · evaluator 1 stopped · 2 restarts</code>" in bar._repr_html_()


def test_a_loop_of_ones_own_has_a_bar_too() -> None:
    cell, screen = Cell(), terminal()
    notebook, live = NotebookConsole(io.StringIO(), cell.display), LiveConsole(screen)
    for shown in (notebook, live):
        shown.plan(plan())
        for number in (0, 200, 240):
            shown.event(Event("step", 1, FIRST, {"step": number, "metrics": {}, "total": 320}, 1000.0 + number / 10))
        shown.event(Event("interrupted", 1, data={"reason": "Ctrl-C"}, at=1024.0))
    (bar,) = cell.outputs
    assert '<progress value="240" max="320">' in bar._repr_html_()
    assert repr(bar) == "step 240 of 320 · 10 steps/s · 8.0s left"
    assert re.search("step 240 of 320 · 10 steps/s · 8.0s left ━[━╸╺]+  75%", screen.export_text())


def test_the_last_step_is_drawn_also_when_it_came_soon_after_another() -> None:
    cell = Cell()
    notebook = NotebookConsole(io.StringIO(), cell.display)
    notebook.plan(plan())
    for event in (moved(1), moved(2), Event("run_ended", 1, data={"status": "succeeded", "exit_code": 0})):
        notebook.event(event)
    assert [bar.step for bar in cell.outputs] == [2]


def test_a_bar_holds_no_markup_of_a_metric() -> None:
    assert "<b>" not in Bar("loss <b>", 1, None, "<b>")._repr_html_()


def test_a_notebook_shows_the_wait_for_the_first_step() -> None:
    cell = Cell()
    notebook = NotebookConsole(io.StringIO(), cell.display)
    notebook.plan(plan())
    for event in RUN[:4]:
        assert isinstance(event, Event)
        notebook.event(event)
    assert [repr(bar) for bar in cell.outputs] == ["starting"]


def test_a_bar_of_unknown_length() -> None:
    screen = terminal()
    live = LiveConsole(screen)
    live.plan(plan())
    live.event(Event("step", 1, FIRST, {"step": 5, "metrics": {"loss": 0.5}}))
    live.event(Event("run_ended"))
    assert "step 5 · loss 0.5" in screen.export_text()


@pytest.mark.parametrize("end", [Event("run_ended"), Event("interrupted", data={"reason": "Ctrl-C"})])
def test_the_cursor_comes_back_at_the_end(end: Event) -> None:
    screen = terminal()
    live = LiveConsole(screen)
    live.plan(plan())
    live.event(moved(10))
    assert isinstance(screen.file, io.StringIO)
    assert screen.file.getvalue().rfind("\x1b[?25l") > screen.file.getvalue().rfind("\x1b[?25h")  # hidden
    live.event(end)
    assert screen.file.getvalue().rfind("\x1b[?25h") > screen.file.getvalue().rfind("\x1b[?25l")
    live.event(end)  # again does no harm


def test_text_of_a_task_is_not_markup() -> None:
    screen = terminal()
    live = LiveConsole(screen)
    live.plan(plan())
    odd = "[/nothing] [red]warm[/red] :smile: \\[x]"
    live.log(FIRST, odd)
    live.event(Event("notice", data={"text": odd}))
    live.event(moved(10, metrics={"auc[/x]": 1.0, "top[red]": 0.5}))
    live.event(Event("run_ended"))
    text = screen.export_text()
    assert text.count(odd) == 2
    assert "auc[/x] 1 · top[red] 0.5" in text


def test_long_lines_are_not_cut() -> None:
    screen = terminal(width=40)
    live = LiveConsole(screen)
    live.log(FIRST, "x" * 100)
    live.event(Event("notice", data={"text": "y" * 100}))
    assert "x" * 100 in screen.export_text(clear=False)
    assert "y" * 100 in screen.export_text()


def test_roles_have_colours() -> None:
    screen = terminal()
    live = LiveConsole(screen)
    for task in (Task("chief", 0), FIRST, PS, EVALUATOR):
        live.log(task, "hello")
    styled = screen.export_text(styles=True)
    assert len(set(re.findall(r"\x1b\[(\d+)m\w+-0", styled))) == 4


# Which of them


def test_a_pipe_gets_plain_lines(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    made = make_console()
    assert isinstance(made, PlainConsole)
    made.log(FIRST, "hello")
    assert capsys.readouterr().out == "[worker-0] hello\n"


@pytest.mark.parametrize("variable", ["FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"])
def test_a_pipe_gets_plain_lines_also_with_colours(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, "1")
    assert isinstance(make_console(), PlainConsole)


def test_a_terminal_gets_a_bar() -> None:
    outside, inside = os.openpty()
    env = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR")}
    subprocess.run([sys.executable, "-c", BAR], stdout=inside, env={**env, "TERM": "xterm"}, check=True)
    os.close(inside)
    seen = b""
    with contextlib.suppress(OSError):  # how Linux says that nobody has the other side open
        while data := os.read(outside, 1 << 16):
            seen += data
    os.close(outside)
    assert b"\x1b[?25l" in seen  # the cursor is hidden
    assert "step 5 of 100 · loss 0.5 ━".encode() in re.sub(rb"\x1b\[[\d;]*m", b"", seen)


BAR = """
from cluster.console import make_console
from cluster.events import Event
from cluster.tasks import Task
shown = make_console()
shown.event(Event("step", 1, Task("worker", 0), {"step": 5, "metrics": {"loss": 0.5}, "epochs": 2, "steps": 50}))
shown.event(Event("run_ended"))
"""


def test_silence(capfd: pytest.CaptureFixture[str]) -> None:
    show(SilentConsole())
    assert capfd.readouterr() == ("", "")


# Secrets


def test_no_secret_is_shown() -> None:
    stream, screen = io.StringIO(), terminal()
    for shown in (PlainConsole(stream), LiveConsole(screen)):
        show(shown)
    assert SECRET not in stream.getvalue()
    assert SECRET not in screen.export_text()


# Parts


def test_every_kind_of_event_is_a_sentence_or_nothing() -> None:
    data = {
        "run_dir": "/runs/1", "nodes": {}, "step": 1, "tasks": [], "after": 1.0, "reason": "", "text": "hello",
    }  # fmt: skip
    told = {kind for kind in get_args(Kind) if sentence(Event(kind, 1, data=data))}
    assert told == {
        "run_started", "attempt_started", "placed", "notice", "checkpoint", "evaluated", "lost", "failed", "hang",
        "node_draining", "restarting", "interrupted",
    }  # fmt: skip
    assert sentence(Event("restarting", 2, data={"after": 0.0, "reason": "its node ends"})) == (
        "going on elsewhere: its node ends"
    )


def test_a_capture_is_told_with_its_verdict() -> None:
    tasks = {"worker-0": {"bytes": 7}, "worker-1": {}}  # whose trace was lost
    done = {"id": "1", "status": "done", "tasks": tasks, "verdict": "input-bound: 42.9 ms of a step's 50.8 ms …"}
    assert sentence(Event("profile", 1, data=done)) == "traced worker-0: input-bound: 42.9 ms of a step's 50.8 ms …"
    assert sentence(Event("profile", 1, data={"id": "1", "status": "tracing", "tasks": tasks})) == ""
    many = {"id": "1", "status": "done", "tasks": {f"worker-{index}": {"bytes": 7} for index in range(16)}}
    assert sentence(Event("profile", 1, data=many)).endswith("worker-5 and 10 more: no verdict")


def test_of_many_tasks_the_first_are_named() -> None:
    nodes = {f"worker-{index}": "10.0.0.1" for index in range(1000)}
    text = sentence(Event("placed", 1, data={"nodes": nodes}))
    assert text.endswith("worker-5 on 10.0.0.1, 994 more on …")
    assert len(text) < 200


def test_findings_are_told_with_their_level() -> None:
    lines = summary(plan(Finding("warning", "it smells", "train.py"), Finding("note", "it rains")))
    assert "warning: it smells · train.py" in lines
    assert "note: it rains" in lines


def test_lines_of_progress_get_rarer_as_a_run_goes_on() -> None:
    assert [line_pause(after) for after in (0.0, 60.0, 600.0, 86400.0)] == [5.0, 5.0, 30.0, 60.0]


def test_each_role_has_a_style() -> None:
    assert set(console.ROLE_STYLE) == {"chief", "worker", "ps", "evaluator"}
