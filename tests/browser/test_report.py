"""The page about a run in a real browser: it loads without a network, complains of nothing, and fits its window."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from cluster.comparison import read_runs, render
from cluster.page import keep, write_page
from tests.browser.conftest import Browser
from tests.made_runs import ALL, HOSTILE, failed, running, several, succeeded, thousand

pytestmark = pytest.mark.timeout(120)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("kind", list(ALL))
def test_a_page_stands_alone_and_fits_its_window(
    browser: Browser, tmp_path: Path, kind: str, width: int, dark: bool
) -> None:
    page = write_page(ALL[kind](tmp_path).uri)
    browser.open(page, width=width, dark=dark)
    assert browser.errors() == []
    assert browser.outside() == []
    assert browser.driver.title.endswith(f"· {'failed' if kind == 'thousand' else kind}")
    assert browser.ask("document.documentElement.scrollWidth") <= width  # nothing sticks out at the side
    background = browser.ask("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, background[4:-1].split(","))) < 200) == dark
    picture = browser.picture(tmp_path / "page.png").read_bytes()
    assert picture.startswith(b"\x89PNG")


def test_a_reader_sees_bars_curves_and_shares(browser: Browser, tmp_path: Path) -> None:
    browser.open(write_page(succeeded(tmp_path).uri))
    seen = browser.text()
    for heading in (
        "Timeline",
        "Learning curves",
        "Where a step goes",
        "Tasks",
        "Use of machines",
        "Spec and versions",
    ):
        assert heading in seen
    bars = browser.ask("[...document.querySelectorAll('.picture .bar')].map(bar => bar.getBoundingClientRect().width)")
    assert len(bars) == 3 + 2 * 4
    assert min(bars) >= 2
    running_bar = "document.querySelectorAll('.row .bar.running')[0].getBoundingClientRect()"
    track = "document.querySelector('.row.job .track').getBoundingClientRect()"
    share = browser.ask(f"{running_bar}.width / {track}.width")
    assert share == pytest.approx((215.0 - 10.0) / 216.0, abs=0.01)  # as long as it ran, of the whole run
    right = "{}.getBoundingClientRect().right"
    gaps = (
        f"[...document.querySelectorAll('.stack')].map(s => {right.format('s')} - {right.format('s.lastElementChild')})"
    )
    assert browser.ask(gaps) == pytest.approx([0.0, 0.0], abs=1.0)  # the parts fill the step
    drawn = browser.ask("[...document.querySelectorAll('figure svg')].map(svg => svg.getBoundingClientRect().height)")
    assert len(drawn) == 5
    assert min(drawn) > 100


def test_what_a_user_wrote_is_text(browser: Browser, tmp_path: Path) -> None:
    browser.open(write_page(failed(tmp_path).uri))
    assert HOSTILE in browser.text()
    assert browser.ask("document.querySelectorAll('img').length") == 0
    assert browser.ask("document.scripts.length") == 1


def test_the_end_of_a_log_is_seen_first(browser: Browser, tmp_path: Path) -> None:
    browser.open(write_page(failed(tmp_path).uri))
    last, log = "document.querySelector('pre.log code').lastElementChild", "document.querySelector('pre.log')"
    assert "ValueError" in browser.ask(f"{last}.textContent")
    assert browser.ask(f"{log}.scrollHeight > {log}.clientHeight")
    assert browser.ask(f"{last}.getBoundingClientRect().bottom <= {log}.getBoundingClientRect().bottom")


def test_a_thousand_tasks_are_one_click_away(browser: Browser, tmp_path: Path) -> None:
    browser.open(write_page(thousand(tmp_path).uri))
    assert "worker-999" not in browser.text()
    browser.ask("document.querySelector('#tasks summary').click()")
    assert "worker-999" in browser.text()


def test_on_paper_all_is_unfolded(browser: Browser, tmp_path: Path) -> None:
    browser.open(write_page(running(tmp_path).uri))
    pdf = browser.driver.execute_cdp_cmd("Page.printToPDF", {"printBackground": False})
    assert base64.b64decode(pdf["data"]).startswith(b"%PDF")
    browser.ask("dispatchEvent(new Event('beforeprint'))")
    assert browser.ask("[...document.querySelectorAll('details')].every(part => part.open)")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize(("count", "width"), [(3, 1280), (12, 1280), (12, 390)])
def test_runs_side_by_side_stand_alone_fit_and_can_be_told_apart(
    browser: Browser, tmp_path: Path, count: int, width: int, dark: bool
) -> None:
    runs = [made.uri for made in several(tmp_path, count)]
    browser.open(keep(render(read_runs(runs)), tmp_path / "comparison.html"), width=width, dark=dark)
    assert browser.errors() == []
    assert browser.outside() == []
    assert browser.driver.title == f"{count} runs side by side"
    assert browser.ask("document.documentElement.scrollWidth") <= width  # tables scroll within themselves
    background = browser.ask("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, background[4:-1].split(","))) < 200) == dark
    colours = browser.ask(
        "[...document.querySelectorAll('.runs .swatch')].map(s => getComputedStyle(s).borderTopColor)"
    )
    drawn = browser.ask(
        "[...document.querySelector('figure svg').querySelectorAll('path')].map(p => getComputedStyle(p).stroke)"
    )
    assert len(set(colours)) == count  # one colour a run
    assert drawn == colours  # the same one in the pictures
    heights = browser.ask("[...document.querySelectorAll('figure svg')].map(svg => svg.getBoundingClientRect().height)")
    assert len(heights) == 4
    assert min(heights) > 100
    assert HOSTILE in browser.text()
    assert browser.picture(tmp_path / "page.png").read_bytes().startswith(b"\x89PNG")


def test_names_of_rows_stay_in_sight_where_a_table_is_wide(browser: Browser, tmp_path: Path) -> None:
    runs = [made.uri for made in several(tmp_path, 12)]
    browser.open(keep(render(read_runs(runs)), tmp_path / "comparison.html"), width=390)
    browser.ask("document.querySelector('#figures .wide').scrollTo(10000, 0)")
    table, name, last = (
        f"document.querySelector('#figures {part}').getBoundingClientRect()"
        for part in (".wide", "tbody th", "thead th:last-child")
    )
    assert browser.ask(f"{name}.left - {table}.left") == pytest.approx(0.0, abs=1.0)
    assert browser.ask(f"{last}.right - {table}.right") == pytest.approx(0.0, abs=2.0)
