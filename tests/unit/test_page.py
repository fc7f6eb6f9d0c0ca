"""The page about a run: what it shows of runs of every kind, that all of it is text, and where it is written."""

from __future__ import annotations

import html
import re
import subprocess
import sys
from pathlib import Path

import pytest

from cluster.cli import main
from cluster.errors import RunNotFoundError, StorageError
from cluster.events import Event
from cluster.locations import join
from cluster.page import write_page
from cluster.storage import upload_folder
from tests.made_runs import ALL, HOSTILE, WORKERS, Made, failed, lost, own_loop, running, succeeded, thousand


def written(made: Made) -> str:
    return write_page(made.uri).read_text()


def text_of(page: str) -> str:
    """What a reader sees, in one line."""
    body = re.sub(r"<(style|script)>.*?</\1>", "", page, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", body)).split())


def test_a_run_that_went_well(tmp_path: Path) -> None:
    page = text_of(written(succeeded(tmp_path)))
    assert "succeeded in 3m36s" in page
    assert "steps 4,000 of 4,000" in page
    assert "restarts 0" in page
    assert "worker-1 holds the others up" in page
    assert "MatMul 18.1 ms 3" in page
    assert "worker-2: no trace · it ended" in page
    assert "tensorflow 2.17.1" in page
    assert "HF_TOKEN: '***'" in page
    assert "What went wrong" not in page


def test_a_run_that_failed_shows_why_and_the_last_lines(tmp_path: Path) -> None:
    page = text_of(written(failed(tmp_path)))
    assert "worker-1 lost its process was ended by SIGKILL" in page
    assert "worker-0,1 ×2 failed ValueError: bad phase" in page
    assert "Last lines of worker-0 failed" in page
    assert 'File "train.py", line 3, in train' in page
    assert "step 199 bold Traceback" in page
    assert "step 10 bold" not in page  # only the last lines
    assert "Where worker-2 waited File" in page
    assert "in an attempt before" not in page
    assert "1 0s 6.0s 1m01s restarted 2 1m02s 1.0s 59.8s failed" in page


def test_the_last_lines_are_those_before_the_failure(tmp_path: Path) -> None:
    """Also where the log goes on with the next process of the task."""
    made = running(tmp_path)
    made.directory.write("logs/worker-0.log", "")
    made.directory.write("logs/worker-0.times", "")
    made.log(29.0, WORKERS[0], "Segmentation fault")
    made.log(35.0, WORKERS[0], "back again")
    page = text_of(written(made))
    assert "Last lines of worker-0 lost Segmentation fault" in page
    assert "back again" not in page


def test_a_run_that_goes_on_and_one_that_nobody_ended(tmp_path: Path) -> None:
    assert "The run goes on: write the page again" in text_of(written(running(tmp_path)))
    page = text_of(written(lost(tmp_path)))
    assert "its launcher is gone without a result" in page
    assert "worker-0 unknown" in page


def test_a_loop_of_ones_own_says_how_many_steps_there_are(tmp_path: Path) -> None:
    assert "steps 480 of 720" in text_of(written(own_loop(tmp_path)))


def test_a_thousand_tasks_stay_a_page(tmp_path: Path) -> None:
    page = written(thousand(tmp_path))
    assert len(page) < 600_000
    assert "worker-7,10,13,16,19,22,… ×131 failed" in text_of(page)
    assert "All 1000 tasks" in text_of(page)


@pytest.mark.parametrize("kind", list(ALL))
def test_no_text_of_a_run_becomes_markup(kind: str, tmp_path: Path) -> None:
    made = ALL[kind](tmp_path)
    made.event(50.0, "notice", text=HOSTILE)
    for step in (3, 4):
        made.event(50.0 + step, "step", 1, WORKERS[0], step=step, metrics={HOSTILE: float(step)})
    made.directory.write("job.yaml", HOSTILE)
    page = written(made)
    assert "<script>alert" not in page
    assert "<img" not in page
    assert page.count("<script>") == 1
    assert HOSTILE in text_of(page)


def test_nothing_but_the_page_itself_may_be_loaded(tmp_path: Path) -> None:
    page = written(succeeded(tmp_path))
    assert "default-src 'none'" in page
    assert re.findall(r'(?:src|href)="(?!#|data:)[^"]*"', page) == []
    assert "://" not in re.sub(r'xmlns="http[^"]*"|s3://key:', "", page)  # the spec's storage is text


def test_a_run_that_has_hardly_begun(tmp_path: Path) -> None:
    made = Made(tmp_path, "job-1", alive=True)
    page = text_of(written(made))
    assert "No attempt has begun." in page
    assert "No task has been placed." in page
    (made.directory.local / "job.yaml").unlink()
    assert "no job.yaml here" in text_of(written(made))


def test_a_capture_whose_verdict_cannot_be_read_still_has_its_sentence(tmp_path: Path) -> None:
    made = succeeded(tmp_path)
    file = next(made.directory.local.glob("tensorboard/plugins/profile/*/verdict.json"))
    file.write_text("{half")
    page = text_of(written(made))
    assert "worker-1 holds the others up" in page
    assert "MatMul" not in page


def test_operations_have_the_names_that_people_know(tmp_path: Path) -> None:
    made = succeeded(tmp_path)
    file = next(made.directory.local.glob("tensorboard/plugins/profile/*/verdict.json"))
    file.write_text(file.read_text().replace('"MatMul"', '"_MklMatMul"'))  # as an earlier version wrote it
    page = text_of(written(made))
    assert "MatMul" in page
    assert "_Mkl" not in page


def test_metrics_that_are_no_numbers_break_nothing(tmp_path: Path) -> None:
    made = Made(tmp_path, "job-1")
    made.start(0.0, [WORKERS[0]])
    for step in range(5):
        made.event(10.0 + step, "step", 1, WORKERS[0], step=step, metrics={"loss": float("nan"), "mae": float(step)})
    assert "mae" in text_of(written(made))


def test_what_is_no_event_of_ours_is_passed_over(tmp_path: Path) -> None:
    made = succeeded(tmp_path)
    made.directory.append(
        "events.jsonl", '{"half\n[]\n' + Event("notice", 1).to_line().replace("notice", "of_tomorrow")
    )
    assert "succeeded" in written(made)


# Where it is written


def test_the_page_lies_in_the_run_directory_and_is_replaced(tmp_path: Path) -> None:
    made = lost(tmp_path)
    file = write_page(made.uri)
    assert file == made.directory.local / "report.html"
    before = file.read_text()
    made.event(60.0, "notice", text="one thing more")
    write_page(made.uri)
    assert "one thing more" in file.read_text()
    assert "one thing more" not in before
    assert [path.name for path in made.directory.local.glob(".report*")] == []


def test_of_a_remote_run_it_lies_here(tmp_path: Path, s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made = succeeded(tmp_path)
    uri = join(s3, "flights-1")
    upload_folder(made.directory.local, uri)
    monkeypatch.chdir(tmp_path)
    file = write_page(uri)
    assert file == Path("flights-1.html")
    assert "MatMul" in file.read_text()
    assert "hush" not in file.read_text()


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    made = lost(tmp_path)
    with pytest.raises(StorageError, match="the page cannot be written"):
        write_page(made.uri, tmp_path / "nowhere" / "page.html")
    with pytest.raises(RunNotFoundError):
        write_page(str(tmp_path / "no-run"))


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    made = succeeded(tmp_path)
    target = tmp_path / "page.html"
    monkeypatch.setattr(sys, "argv", ["tfcluster", "report", made.uri, "-o", str(target)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    assert capsys.readouterr().out == f"wrote {target}\n"
    assert "succeeded" in target.read_text()


NO_CLUSTER = """
import sys
from cluster.cli import main
for words in (["logs", "--fold"], ["status"], ["report"]):
    sys.argv = ["tfcluster", *words, RUN]
    try:
        main()
    except SystemExit as ended:
        assert not ended.code, words
print([name for name in ("ray", "tensorflow") if name in sys.modules], file=sys.stderr)
"""


def test_a_run_is_looked_at_without_ray_and_tensorflow(tmp_path: Path) -> None:
    code = NO_CLUSTER.replace("RUN]", f"{succeeded(tmp_path).uri!r}]")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "[]\n"
    assert "hello from worker-0" in done.stdout
