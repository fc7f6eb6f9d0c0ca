"""TensorBoard in a real browser: what a run shows on each of its tabs."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cluster.board_views import RunView, StorageView
from cluster.tensorboard import Server
from tests.browser.conftest import Browser
from tests.files.test_tensorboard import ask, curve, make_run

if TYPE_CHECKING:
    from selenium.webdriver.remote.webdriver import WebDriver

pytestmark = [
    pytest.mark.timeout(180),
    pytest.mark.skipif(find_spec("tensorflow") is None, reason="TensorFlow writes what is shown"),
]
#: Complaints of TensorBoard about itself, and of a Chromium that has no GPU.
OWN = ("Three.js", "WebGL")


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory, chromium: object) -> Iterator[str]:
    """The address of a TensorBoard over a run with everything that it can show but traces."""
    folder = tmp_path_factory.mktemp("runs")
    run = folder / "job-1"
    subprocess.run([sys.executable, "-m", "tests.browser.board_run", run], check=True, capture_output=True, timeout=120)
    view = RunView(str(run), folder / "board")
    view.folder.mkdir()
    view.refresh()
    with Server(view, "localhost", 0, tensorflow=True) as server:
        address, pause = server.address(), threading.Event()
        while not ask(address, "plugin/debugger-v2/alerts", run="__default_debugger_run__")["num_alerts"]:
            pause.wait(0.3)  # it reads dumps while it serves already
        yield address


@pytest.mark.parametrize(
    ("tab", "texts"),
    [
        ("timeseries", ["epoch_loss", "sequential/hidden/bias"]),
        ("scalars", ["epoch_loss"]),
        ("graphs", ["Main Graph", "Conceptual graph"]),
        ("histograms", ["sequential/hidden/kernel/histogram", "sequential/out/bias/histogram"]),
        ("distributions", ["sequential/hidden/kernel/histogram"]),
        ("debugger-v2", ["Python Execution Timeline", "Graph Executions", "NaN/∞"]),
    ],
)
def test_each_tab_shows_the_run(browser: Browser, board: str, tab: str, texts: list[str], tmp_path: Path) -> None:
    browser.open(f"{board}#{tab}")
    for text in texts:
        browser.wait_for(text)
    assert [said for said in browser.errors() if not any(known in said for known in OWN)] == []
    assert all(url.startswith(board) for url in browser.outside())
    assert browser.picture(tmp_path / f"{tab}.png").stat().st_size > 10_000


def click(browser: Browser, selector: str) -> None:
    """Click on the first such element, once it is there and is not just then replaced by one that looks the same."""
    from selenium.common.exceptions import StaleElementReferenceException
    from selenium.webdriver.support.ui import WebDriverWait

    def clicked(driver: WebDriver) -> bool:
        found = driver.find_elements("css selector", selector)
        if found:
            found[0].click()
        return bool(found)

    WebDriverWait(browser.driver, 30, ignored_exceptions=[StaleElementReferenceException]).until(clicked)


def test_the_debugger_leads_from_a_nan_to_the_line_that_made_it(browser: Browser, board: str) -> None:
    browser.open(f"{board}#debugger-v2")
    browser.wait_for("∞: 1")
    click(browser, ".alert-type-name")
    click(browser, ".execution-digest.InfNanAlert")
    browser.wait_for("Op: Log")
    browser.wait_for("board_run.py")


def test_runs_side_by_side(browser: Browser, tmp_path: Path) -> None:
    for name, losses in (("flights-1", [0.5, 0.25]), ("flights-2", [0.5, 0.125])):
        make_run(tmp_path / "runs", name, losses)
    view = StorageView(str(tmp_path / "runs"), tmp_path / "board")
    view.folder.mkdir()
    view.refresh()
    with Server(view, "localhost", 0) as server:
        address = server.address()
        curve(address, "flights-2/train", 2)
        browser.open(f"{address}#timeseries")
        for text in ("flights-1/train", "flights-2/train", "loss"):
            browser.wait_for(text)
        browser.forget()
