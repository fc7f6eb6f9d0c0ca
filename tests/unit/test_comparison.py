"""The page on which runs stand side by side: what it shows, that all of it is text, and the command that writes it."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from cluster.cli import main
from cluster.comparing import MOST_CURVES
from cluster.comparison import read_runs, render
from cluster.locations import join
from cluster.overlay import MOST_POINTS, overlay, thinned
from cluster.storage import upload_folder
from tests.made_runs import (
    ALL,
    BEGAN,
    HOSTILE,
    WORKERS,
    Made,
    capture,
    failed,
    lost,
    own_loop,
    running,
    several,
    succeeded,
)
from tests.unit.test_page import text_of

SVG = "{http://www.w3.org/2000/svg}"


def written(*runs: Made, left_out: int = 0) -> str:
    return render(read_runs([made.uri for made in runs]), BEGAN + 300, left_out=left_out)


def test_runs_stand_side_by_side(tmp_path: Path) -> None:
    page = text_of(written(*several(tmp_path)))
    assert "3 runs side by side" in page
    assert "20260921-141320-0000 20260922-141320-0001 20260923-141320-0002" in page
    assert "status succeeded succeeded failed" in page
    assert "duration 2m05s 2m25s 1m02s" in page
    assert "args.rate 0.1 0.05 0.025" in page
    assert "args.api_key" not in page  # stars, in all of them
    assert "keras 3.14.0 3.15.1 3.15.1" in page
    assert "tensorflow 2.17.1" not in page  # it is the same everywhere
    assert "20260922-141320-0001 51.2 ms" in page
    assert "worker-1 holds the others up" in page
    assert "Older ones that are not here: 5." in text_of(written(*several(tmp_path / "more"), left_out=5))


def test_no_secret_of_a_spec_is_on_the_page(tmp_path: Path) -> None:
    assert "sk-12345678" not in written(*several(tmp_path))


def test_runs_of_every_kind_can_be_compared(tmp_path: Path) -> None:
    page = text_of(written(*(make(tmp_path) for make in ALL.values()), own_loop(tmp_path), Made(tmp_path, "job-1")))
    assert "7 runs side by side" in page
    assert "1 of them goes on: write the page again" in page
    assert "lost: its launcher is gone without a result" in page
    assert "worker-0, worker-1 failed: ValueError: bad phase" in page


def test_runs_that_differ_in_nothing(tmp_path: Path) -> None:
    page = text_of(written(succeeded(tmp_path), lost(tmp_path)))
    assert "In their specs Nothing. In their versions Nothing." in page


@pytest.mark.parametrize(
    "spec",
    [
        "{half",
        "- a list",
        "",
        HOSTILE,
        "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]",
        "a: &a {b: *a}",
        "[" * 900 + "]" * 900,
    ],
    ids=["half", "list", "empty", "hostile", "aliases", "itself", "deep"],
)
def test_a_spec_that_cannot_be_read_is_said(spec: str, tmp_path: Path) -> None:
    first, second = succeeded(tmp_path), lost(tmp_path)
    first.directory.write("job.yaml", spec)
    page = text_of(written(first, second))
    assert "Nothing that can be read." in page
    assert "No job.yaml that can be read: 140000-beef." in page


@pytest.mark.parametrize("kind", list(ALL))
def test_no_text_of_a_run_becomes_markup(kind: str, tmp_path: Path) -> None:
    hostile = json.dumps(HOSTILE)
    made, other = ALL[kind](tmp_path), Made(tmp_path, HOSTILE.replace("/", "-"), spec=f"a: {hostile}\nname: b\n")
    for step in (3, 4):
        made.event(50.0 + step, "step", 1, WORKERS[0], step=step, metrics={HOSTILE: float(step)})
    made.directory.write("job.yaml", f'"{{}}<b>": 1\nname: {hostile}\n')
    page = written(made, other)
    assert "<script>alert" not in page
    assert "<img" not in page
    assert "<b>" not in re.sub(r'<p class="who">.*?</p>', "", page)
    assert page.count("<script>") == 1
    assert HOSTILE in text_of(page)


def test_nothing_but_the_page_itself_may_be_loaded(tmp_path: Path) -> None:
    page = written(*several(tmp_path))
    assert "default-src 'none'" in page
    assert re.findall(r'(?:src|href)="(?!#|data:)[^"]*"', page) == []
    assert "://" not in page


def test_a_capture_without_a_verdict_is_passed_over(tmp_path: Path) -> None:
    first, second = several(tmp_path)[:2]
    capture(second, 130.0, "2026_09_22_15_00_00", "c2")
    second.directory.write("tensorboard/plugins/profile/2026_09_22_15_00_00/verdict.json", "{half")
    assert "20260922-141320-0001 51.2 ms" in text_of(written(first, second))


# Curves


def test_each_run_has_its_colour_in_every_picture(tmp_path: Path) -> None:
    first, *others = several(tmp_path)
    page = written(first, own_loop(tmp_path), *others)
    pictures = [re.findall(r'<path class="run-(\d+)"', svg) for svg in re.findall(r"<svg.*?</svg>", page, re.DOTALL)]
    assert pictures == [["1", "3", "4"], ["1", "3", "4"], ["1", "3"], ["1", "2", "3", "4"]]


def test_a_picture_names_its_metric_and_its_runs() -> None:
    svg = overlay("a<b", {1: ("one", [(0, 1.0), (10, 100.0)]), 3: ("three>", [(0, 50.0), (20, 1.0)])})
    drawn = ElementTree.fromstring(svg)
    assert drawn.get("aria-label") == "a<b by step of one, three>"
    assert [title.text for title in drawn.iter("title")] == ["one: 100 at the end", "three>: 1 at the end"]
    assert "".join(next(text for text in drawn.iter("text") if text.find("tspan") is not None).itertext()) == (
        "a<b · log scale"
    )


def test_curves_share_their_axes() -> None:
    svg = overlay("loss", {1: ("one", [(0, 0.0), (50, 1.0)]), 2: ("two", [(0, 0.0), (100, 2.0)])})
    one, two = (
        re.findall(r"[\d.]+", path.get("d").replace("h0", "")) for path in ElementTree.fromstring(svg).iter("path")
    )
    assert one[:2] == two[:2]
    left, bottom, right, top = map(float, two)
    assert float(one[2]) - left == pytest.approx((right - left) / 2, abs=0.1)
    assert bottom - float(one[3]) == pytest.approx((bottom - top) / 2, abs=0.1)


@pytest.mark.parametrize("count", [0, 1, 2, MOST_POINTS, MOST_POINTS + 1, 1000, 1001])
def test_a_long_curve_is_thinned_and_keeps_its_ends(count: int) -> None:
    points = [(step, float(step)) for step in range(count)]
    kept = thinned(points)
    assert len(kept) <= MOST_POINTS
    assert kept[:1] + kept[-1:] == points[:1] + points[-1:]
    assert len(kept) >= min(count, MOST_POINTS // 2)


def test_a_page_of_many_metrics_stays_a_page(tmp_path: Path) -> None:
    runs = []
    for number in range(2):
        made = Made(tmp_path, f"job-{number}")
        made.start(0.0, WORKERS[:1])
        for step in range(3):
            metrics = {f"metric{number}-{name}": float(step) for name in range(30)}
            made.event(10.0 + step, "step", 1, WORKERS[0], step=step, metrics=metrics)
        runs.append(made)
    page = written(*runs)
    assert page.count("<svg") == MOST_CURVES
    assert "21 more metrics are not drawn" in text_of(page)
    assert "48 more metrics are not in the table" in text_of(page)


# The command


def command(*words: str, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", ["tfcluster", "report", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_the_command_writes_the_page_here(tmp_path: Path, monkeypatch, capsys) -> None:
    first, second, third = several(tmp_path / "runs")
    monkeypatch.chdir(tmp_path)
    assert command(first.uri, second.uri, monkeypatch=monkeypatch) == 0
    assert capsys.readouterr().out == f"wrote comparison.html\nnext: tfcluster tensorboard {tmp_path / 'runs'}\n"
    assert "2 runs side by side" in (tmp_path / "comparison.html").read_text()
    assert command(first.uri, third.uri, "-o", "two.html", monkeypatch=monkeypatch) == 0
    assert capsys.readouterr().out == f"wrote two.html\nnext: tfcluster report {third.uri}\n"
    assert command(first.uri, third.uri, "-o", "-", monkeypatch=monkeypatch) == 0
    out = capsys.readouterr().out
    assert out.startswith("<!doctype html>")
    assert out.endswith("</html>")


def test_a_folder_of_runs_is_compared(tmp_path: Path, monkeypatch, capsys) -> None:
    several(tmp_path / "runs", 13)
    monkeypatch.chdir(tmp_path)
    assert command("runs", monkeypatch=monkeypatch) == 0
    told = capsys.readouterr()
    assert told.err == "the newest 12 runs, without 1 older; name runs to compare others\n"
    assert told.out.startswith("wrote comparison.html\n")
    assert "12 runs side by side" in Path("comparison.html").read_text()


def test_a_run_that_is_named_twice_or_alone_in_its_folder_has_its_own_page(tmp_path: Path, monkeypatch, capsys) -> None:
    made = succeeded(tmp_path / "runs")
    monkeypatch.chdir(tmp_path)
    for words in ([made.uri, f"{made.uri}/"], ["runs"], ["--storage", "runs"]):
        assert command(*words, monkeypatch=monkeypatch) == 0
        page = made.directory.local / "report.html"
        assert Path(capsys.readouterr().out.removeprefix("wrote ").strip()).resolve() == page
        assert "Timeline" in page.read_text()
        page.unlink()
    assert not Path("comparison.html").exists()


@pytest.mark.parametrize(
    ("words", "seen"),
    [
        (["a", "b", "--address", "http://head:8265"], "--address"),
        (["a", "b", "-k"], "--kubernetes"),
        (["a", "raysubmit_X", "raysubmit_Y"], "raysubmit_X, raysubmit_Y"),
    ],
)
def test_jobs_on_a_cluster_are_not_compared(words: list[str], seen: str, monkeypatch, capsys) -> None:
    assert command(*words, monkeypatch=monkeypatch) == 2
    assert (
        f"error: jobs on a cluster are not compared from here · {seen} · name their run dir" in capsys.readouterr().err
    )


def test_one_that_is_no_run_is_named(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    assert command(failed(tmp_path).uri, "nowhere", monkeypatch=monkeypatch) == 7
    assert "no such run · 'nowhere'" in capsys.readouterr().err
    assert not Path("comparison.html").exists()


def test_remote_runs_are_compared_too(tmp_path: Path, s3: str, monkeypatch, capsys) -> None:
    for made in several(tmp_path / "runs")[:2]:
        upload_folder(made.directory.local, join(s3, Path(made.uri).name))
    monkeypatch.chdir(tmp_path)
    assert command(s3, monkeypatch=monkeypatch) == 0
    page = Path("comparison.html").read_text()
    assert "args.rate 0.1 0.05" in text_of(page)
    assert "hush" not in page + capsys.readouterr().out


def test_a_run_that_goes_on_is_compared_as_it_is(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    made = running(tmp_path)
    assert command(made.uri, lost(tmp_path).uri, monkeypatch=monkeypatch) == 0
    assert "goes on: write the page again" in text_of(Path("comparison.html").read_text())
